//! A small internet: a router, and namespaces that hang on it by links of their own.
//!
//! Link N is the networks 10.77.N.0/24 and fd77:0:0:N::/64; the router is host 1 on each, what
//! hangs on it host 2. Names are unique to the process, and what a killed run left is removed by
//! the next.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Every namespace of these tests begins so, and goes on with the id of its process.
const PREFIX: &str = "kvsnet";

const ROUTER: &str = "router";

/// Who carries what goes over a link that was cut in two: [`Lab::interpose`].
pub(crate) const BETWEEN: &str = "between";

/// Namespaces; dropping it removes them, with all that is in them.
#[derive(Debug)]
pub(crate) struct Lab {
    id: String,
    names: Vec<String>,
}

/// Which IP versions a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Both,
}

impl Family {
    fn has_v4(self) -> bool {
        self != Self::V6
    }

    fn has_v6(self) -> bool {
        self != Self::V4
    }
}

impl Lab {
    /// A router with nothing on it.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let root = rustix::process::geteuid().is_root();
        assert!(root, "network namespaces need root: run these tests as root, as .ci/run does");
        let programs =
            [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("ethtool", "ethtool")];
        for (program, package) in programs {
            let there = Command::new(program).arg("--version").output().is_ok();
            assert!(
                there,
                "`{program}` is not there. Install it (Debian: apt-get install {package})."
            );
        }
        sweep();
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self { id: format!("{PREFIX}-{}-{made}", std::process::id()), names: vec![] };
        lab.space(ROUTER);
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            lab.sh(ROUTER, &format!("echo 1 > /proc/sys/net/{family}"));
        }
        // What the tests add rules to.
        lab.nft("add table inet test");
        lab.nft("add chain inet test forward { type filter hook forward priority 0; }");
        lab
    }

    /// A namespace with nothing but loopback.
    pub(crate) fn space(&mut self, name: &str) {
        run(Command::new("ip").args(["netns", "add", &self.full(name)]));
        self.names.push(name.to_owned());
        self.ip(name, "link set lo up");
    }

    /// Hangs `name` on the router by link `number`, as its interface `device`.
    pub(crate) fn link(&self, name: &str, device: &str, number: u8, family: Family) {
        let other = format!("r{number}");
        let (near, far) = (self.full(name), self.full(ROUTER));
        let mut add = Command::new("ip");
        add.args(["link", "add", device, "netns", &near, "type", "veth"]);
        run(add.args(["peer", "name", &other, "netns", &far]));
        for (space, device, host) in [(ROUTER, other.as_str(), 1), (name, device, 2)] {
            // An address that is looked for first would not be there at once.
            let accept = "accept_dad";
            self.sh(space, &format!("echo 0 > /proc/sys/net/ipv6/conf/{device}/{accept}"));
            if family.has_v4() {
                self.ip(space, &format!("addr add 10.77.{number}.{host}/24 dev {device}"));
            }
            if family.has_v6() {
                self.ip(
                    space,
                    &format!("addr add fd77:0:0:{number}::{host}/64 dev {device} nodad"),
                );
            }
            self.ip(space, &format!("link set {device} up"));
        }
        if family.has_v4() {
            self.ip(name, &format!("route add default via 10.77.{number}.1 dev {device}"));
        }
        if family.has_v6() {
            self.ip(name, &format!("-6 route add default via fd77:0:0:{number}::1 dev {device}"));
        }
    }

    /// Takes an interface down as a network manager does: its addresses go with it.
    pub(crate) fn unplug(&self, name: &str, device: &str) {
        self.ip(name, &format!("addr flush dev {device}"));
        self.ip(name, &format!("link set {device} down"));
    }

    /// Brings it back, with its IPv4 address.
    pub(crate) fn plug(&self, name: &str, device: &str, number: u8) {
        self.ip(name, &format!("addr add 10.77.{number}.2/24 dev {device}"));
        self.ip(name, &format!("link set {device} up"));
        self.ip(name, &format!("route add default via 10.77.{number}.1 dev {device}"));
    }

    /// Cuts link `number` in two and leads both ends into the namespace [`BETWEEN`], as `near` and
    /// `far`: only what a process there carries goes through.
    pub(crate) fn interpose(&mut self, name: &str, number: u8) {
        self.ip(name, "link del up0");
        self.space(BETWEEN);
        let (router, between) = (self.full(ROUTER), self.full(BETWEEN));
        for (space, device, host, inner) in [
            (self.full(name), "up0".to_owned(), 2, "near"),
            (router, format!("r{number}"), 1, "far"),
        ] {
            let mut add = Command::new("ip");
            add.args(["link", "add", &device, "netns", &space, "type", "veth"]);
            run(add.args(["peer", "name", inner, "netns", &between]));
            let ip =
                |line: String| run(Command::new("ip").args(["-n", &space]).args(line.split(' ')));
            ip(format!("addr add 10.77.{number}.{host}/24 dev {device}"));
            ip(format!("link set {device} up"));
            self.ip(BETWEEN, &format!("link set {inner} up"));
            // A frame that is carried by hand must be whole, its checksums included.
            let mut offload = Command::new("ip");
            offload.args(["netns", "exec", &space, "ethtool", "-K", &device, "tx", "off"]);
            run(offload.args(["gso", "off", "tso", "off"]));
        }
        self.ip(name, &format!("route add default via 10.77.{number}.1 dev up0"));
    }

    /// Lets the kernel carry what goes over the link that was cut, by this queueing discipline
    /// either way; false, and nothing is carried, where the kernel does not have it.
    pub(crate) fn bridge_with(&self, qdisc: &str) -> bool {
        let tries = |program: &str, line: &str| {
            let mut command = self.command(BETWEEN, program.as_ref());
            command.args(line.split(' ')).output().is_ok_and(|ran| ran.status.success())
        };
        if !tries("ip", "link add carry type bridge") {
            return false;
        }
        let add = |device| tries("tc", &format!("qdisc add dev {device} root {qdisc}"));
        if !["near", "far"].into_iter().all(add) {
            // The near end may have got one.
            tries("tc", "qdisc del dev near root");
            self.ip(BETWEEN, "link del carry");
            return false;
        }
        for line in ["near master carry", "far master carry", "carry up"] {
            self.ip(BETWEEN, &format!("link set {line}"));
        }
        true
    }

    /// How many packets the router has dropped by its rules.
    pub(crate) fn dropped(&self) -> u64 {
        let listed = self.command(ROUTER, "nft".as_ref()).args(["list", "ruleset"]).output();
        let listed = String::from_utf8(listed.expect("it runs").stdout).expect("text");
        let counts = listed.split("counter packets ").skip(1);
        counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Names for this address, for the programs of a namespace.
    pub(crate) fn hosts(&self, name: &str, lines: &str) {
        self.etc(name, "hosts", lines);
    }

    /// Who resolves names that `hosts` does not know, for the programs of a namespace.
    pub(crate) fn resolver(&self, name: &str, address: &str) {
        self.etc(name, "resolv.conf", &format!("nameserver {address}\n"));
    }

    fn etc(&self, name: &str, file: &str, text: &str) {
        // `ip netns exec` lays this over the file of the same name in /etc.
        let folder = format!("/etc/netns/{}", self.full(name));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(format!("{folder}/{file}"), text).expect("written");
    }

    /// A command of `ip`, in a namespace.
    pub(crate) fn ip(&self, name: &str, command: &str) {
        run(Command::new("ip").args(["-n", &self.full(name)]).args(command.split_whitespace()));
    }

    /// A command of `nft`, on the router.
    pub(crate) fn nft(&self, command: &str) {
        run(self.command(ROUTER, "nft".as_ref()).arg(command));
    }

    /// Lets nothing through the router that fits.
    pub(crate) fn drop_on_router(&self, what: &str) {
        self.nft(&format!("add rule inet test forward {what} counter drop"));
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self) {
        self.nft("flush chain inet test forward");
    }

    /// A command of `tc`, in a namespace.
    pub(crate) fn tc(&self, name: &str, command: &str) {
        run(self.command(name, "tc".as_ref()).args(command.split_whitespace()));
    }

    /// A program, about to run in a namespace.
    pub(crate) fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name)]).arg(program);
        command
    }

    /// Does this in a namespace: sockets and threads that it makes are there for good.
    pub(crate) fn inside<T: Send>(&self, name: &str, act: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.full(name))).expect("it is there");
        let enter = || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            act()
        };
        // A namespace is a thread's own.
        thread::scope(|scope| scope.spawn(enter).join().expect("it does not panic"))
    }

    fn sh(&self, name: &str, script: &str) {
        run(self.command(name, "sh".as_ref()).args(["-c", script]));
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            remove(&self.full(name));
        }
    }
}

/// Removes what a run left that was killed.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output().expect("ip runs");
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let process = parts.next().and_then(|id| id.parse::<u32>().ok());
        let gone = process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists());
        if ours && gone {
            remove(name);
        }
    }
}

/// A namespace goes for good when its last process has ended.
fn remove(name: &str) {
    // Another run may sweep at the same time.
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = std::fs::remove_dir_all(format!("/etc/netns/{name}"));
}

fn run(command: &mut Command) {
    let ran = command.output().expect("it starts");
    let printed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {printed}");
}
