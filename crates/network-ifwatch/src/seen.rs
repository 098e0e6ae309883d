//! What this machine has of a network, at one moment: read from the system, and printed nowhere.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Hosts of the documentation's networks (RFC 5737, RFC 3849): a route to them is the default
/// route. Nothing is ever sent there.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A place on a network: an IPv4 address, or the subnet of an IPv6 address, whose lower half
/// changes by itself every day (RFC 8981).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(IpAddr);

/// What there is of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Every place of an interface that is up.
    pub(crate) places: BTreeSet<Place>,
    /// Those from which the system would send to the world: at most one a family.
    pub(crate) ways_out: BTreeSet<Place>,
}

impl Seen {
    /// Looks.
    pub(crate) fn now() -> io::Result<Self> {
        let places = if_addrs::get_if_addrs()?
            .iter()
            .filter(|interface| interface.is_oper_up() && counts(interface.ip()))
            .filter(|interface| is_ready(interface.ip()))
            .map(|interface| Place::of(interface.ip()))
            .collect();
        let far = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)];
        let ways_out = far.into_iter().filter_map(way_out).collect();
        Ok(Self { places, ways_out })
    }

    /// There is no network at all.
    pub(crate) fn is_offline(&self) -> bool {
        self.places.is_empty()
    }

    /// What a connection would be made from: the way out, or, on a network that leads nowhere,
    /// whatever there is.
    pub(crate) fn from(&self) -> &BTreeSet<Place> {
        if self.ways_out.is_empty() { &self.places } else { &self.ways_out }
    }
}

impl Place {
    /// Within this machine.
    pub(crate) fn is_loopback(self) -> bool {
        self.0.is_loopback() || self == Self::of(IpAddr::V6(Ipv6Addr::LOCALHOST))
    }

    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_ipv4() { "IPv4" } else { "IPv6" })
    }
}

/// Loopback reaches no other machine, and link-local addresses come and go with every cable.
fn counts(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local()),
    }
}

/// An IPv6 address that is still looked for on the link cannot be used yet (RFC 4862, 5.4).
fn is_ready(ip: IpAddr) -> bool {
    ip.is_ipv4() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Where the system would send from; connecting a datagram socket sends nothing.
fn way_out(to: IpAddr) -> Option<Place> {
    let any = match to {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    let from = socket.local_addr().ok()?.ip();
    counts(from).then(|| Place::of(from))
}

#[cfg(test)]
impl Seen {
    /// As if this were seen.
    pub(crate) fn fake(places: &[&str], ways_out: &[&str]) -> Self {
        let parse = |ips: &[&str]| {
            let ips = ips.iter().map(|ip| ip.parse().expect("an address"));
            ips.filter(|ip| counts(*ip)).map(Place::of).collect()
        };
        Self { places: parse(places), ways_out: parse(ways_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_printed() {
        let seen = Seen::fake(&["10.1.2.3", "2001:db8:1:2::77"], &["10.1.2.3"]);
        let text = format!("{seen:?}");
        assert!(!text.contains("10.1") && !text.contains("db8"), "{text}");
    }

    #[test]
    fn loopback_and_link_local_are_no_network() {
        assert!(Seen::fake(&["127.0.0.1", "::1", "169.254.3.4", "fe80::1"], &[]).is_offline());
        assert!(!Seen::fake(&["192.168.7.2"], &[]).is_offline());
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let seen = Seen::now().expect("listed");
        assert!(seen.places.len() <= 1000);
    }
}
