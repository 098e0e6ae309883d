//! A small internet: a router, and network namespaces that are connected to it by their own links.
//!
//! Link N has the networks 10.77.N.0/24 and fd77:0:0:N::/64; the router is host 1 on each, and the
//! connected namespace is host 2. Names are unique to the process, and a run removes what an
//! earlier, killed run left behind.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The start of every namespace name in these tests; the id of the process follows.
const PREFIX: &str = "kvsnet";

const ROUTER: &str = "router";

/// The namespace between the two halves of a link that was cut: [`Lab::interpose`].
pub(crate) const BETWEEN: &str = "between";

/// A set of network namespaces; dropping it removes them and everything in them.
#[derive(Debug)]
pub(crate) struct Lab {
    id: String,
    names: Vec<String>,
}

/// The IP versions of a link.
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
    /// Creates a router without links.
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
        // The tests add their rules to this chain.
        lab.nft("add table inet test");
        lab.nft("add chain inet test forward { type filter hook forward priority 0; }");
        lab
    }

    /// Creates a namespace with only a loopback interface.
    pub(crate) fn space(&mut self, name: &str) {
        run(Command::new("ip").args(["netns", "add", &self.full(name)]));
        self.names.push(name.to_owned());
        self.ip(name, "link set lo up");
    }

    /// Connects `name` to the router over link `number`, with the interface `device`.
    pub(crate) fn link(&self, name: &str, device: &str, number: u8, family: Family) {
        let other = format!("r{number}");
        let (near, far) = (self.full(name), self.full(ROUTER));
        let mut add = Command::new("ip");
        add.args(["link", "add", device, "netns", &near, "type", "veth"]);
        run(add.args(["peer", "name", &other, "netns", &far]));
        for (space, device, host) in [(ROUTER, other.as_str(), 1), (name, device, 2)] {
            // Duplicate address detection would delay the use of the address.
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

    /// Takes an interface down and removes its addresses, as a network manager does.
    pub(crate) fn unplug(&self, name: &str, device: &str) {
        self.ip(name, &format!("addr flush dev {device}"));
        self.ip(name, &format!("link set {device} down"));
    }

    /// Brings an interface up again, with its IPv4 address.
    pub(crate) fn plug(&self, name: &str, device: &str, number: u8) {
        self.ip(name, &format!("addr add 10.77.{number}.2/24 dev {device}"));
        self.ip(name, &format!("link set {device} up"));
        self.ip(name, &format!("route add default via 10.77.{number}.1 dev {device}"));
    }

    /// Cuts link `number` in two, and connects both ends to the namespace [`BETWEEN`], as `near`
    /// and `far`: a packet passes only if a process there forwards it.
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
            // A forwarded frame must be complete, checksums included, so offloading is disabled.
            let mut offload = Command::new("ip");
            offload.args(["netns", "exec", &space, "ethtool", "-K", &device, "tx", "off"]);
            run(offload.args(["gso", "off", "tso", "off"]));
        }
        self.ip(name, &format!("route add default via 10.77.{number}.1 dev up0"));
    }

    /// Lets the kernel forward the packets of the cut link, with this queueing discipline in both
    /// directions. Returns false, and forwards nothing, if the kernel does not have the discipline.
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
            // The discipline may have been added to the near end.
            tries("tc", "qdisc del dev near root");
            self.ip(BETWEEN, "link del carry");
            return false;
        }
        for line in ["near master carry", "far master carry", "carry up"] {
            self.ip(BETWEEN, &format!("link set {line}"));
        }
        true
    }

    /// Returns the number of packets that the router's rules dropped.
    pub(crate) fn dropped(&self) -> u64 {
        let listed = self.command(ROUTER, "nft".as_ref()).args(["list", "ruleset"]).output();
        let listed = String::from_utf8(listed.expect("it runs").stdout).expect("text");
        let counts = listed.split("counter packets ").skip(1);
        counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Sets the contents of the hosts file for the programs of a namespace.
    pub(crate) fn hosts(&self, name: &str, lines: &str) {
        self.etc(name, "hosts", lines);
    }

    /// Sets the DNS server for the programs of a namespace.
    pub(crate) fn resolver(&self, name: &str, address: &str) {
        self.etc(name, "resolv.conf", &format!("nameserver {address}\n"));
    }

    fn etc(&self, name: &str, file: &str, text: &str) {
        // `ip netns exec` mounts this file over the file of the same name in /etc.
        let folder = format!("/etc/netns/{}", self.full(name));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(format!("{folder}/{file}"), text).expect("written");
    }

    /// Runs an `ip` command in a namespace.
    pub(crate) fn ip(&self, name: &str, command: &str) {
        run(Command::new("ip").args(["-n", &self.full(name)]).args(command.split_whitespace()));
    }

    /// Runs an `nft` command on the router.
    pub(crate) fn nft(&self, command: &str) {
        run(self.command(ROUTER, "nft".as_ref()).arg(command));
    }

    /// Makes the router drop all forwarded packets that match.
    pub(crate) fn drop_on_router(&self, what: &str) {
        self.nft(&format!("add rule inet test forward {what} counter drop"));
    }

    /// Removes all rules of the router.
    pub(crate) fn heal(&self) {
        self.nft("flush chain inet test forward");
    }

    /// Runs a `tc` command in a namespace.
    pub(crate) fn tc(&self, name: &str, command: &str) {
        run(self.command(name, "tc".as_ref()).args(command.split_whitespace()));
    }

    /// Returns a command that runs a program in a namespace.
    pub(crate) fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name)]).arg(program);
        command
    }

    /// Calls a function in a namespace: the sockets and threads that it creates stay in that
    /// namespace.
    pub(crate) fn inside<T: Send>(&self, name: &str, act: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.full(name))).expect("it is there");
        let enter = || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter it");
            act()
        };
        // A thread enters a namespace for itself alone, so a new thread is used.
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

/// Removes the namespaces of killed runs.
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

/// Removes a namespace, which disappears once its last process has ended.
fn remove(name: &str) {
    // Another run may remove the same namespace, so a failure is ignored.
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = std::fs::remove_dir_all(format!("/etc/netns/{name}"));
}

fn run(command: &mut Command) {
    let ran = command.output().expect("it starts");
    let printed = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {printed}");
}
