//! Which of the other side's addresses are tried.
//!
//! A candidate is an address that the other side names and that this machine then knocks at,
//! fifty times a second until a pair works. Whoever can speak on the channel could have it knock
//! at this machine's own services, at a router's, or at a stranger's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses of the other side are tried.
///
/// What is not is accepted and not used, like a candidate of TCP. A camera that is only there may
/// still reach us by its own checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteAddresses {
    /// Every address, this machine's own among them: for a service on loopback.
    Any,
    /// Every address of a local network or of the internet, but no loopback, link-local, multicast
    /// or broadcast one: no camera that another machine watches has such an address alone.
    #[default]
    Network,
    /// Addresses of the internet alone: no private ones either. A camera in the same house is then
    /// watched by way of a relay or of the router, where that is possible.
    Public,
}

impl RemoteAddresses {
    /// Whether this address may be tried.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        // `::ffff:127.0.0.1` is `127.0.0.1` to a socket of both families.
        let address = address.to_canonical();
        match self {
            Self::Any => true,
            Self::Network => !is_special(address),
            Self::Public => !is_special(address) && !is_private(address),
        }
    }
}

/// No address of another machine on a network (IANA's special-purpose registries).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                // "This network", broadcast and what is reserved.
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || embedded(v6).is_some_and(|v4| is_special(IpAddr::V4(v4)))
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // RFC 6598: what carriers put behind their own translation.
            v4.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_unique_local() || embedded(v6).is_some_and(|v4| is_private(IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address that a translator reaches by this one (RFC 6052), or that it was before 1999.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let compatible = segments[..6] == [0; 6] && !v6.is_loopback() && !v6.is_unspecified();
    let octets = v6.octets();
    (translated || compatible)
        .then(|| Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RemoteAddresses::{Any, Network, Public};

    #[test]
    fn each_policy_admits_what_it_says() {
        let admitted = |text: &str| {
            let address: IpAddr = text.parse().expect("an address");
            [Any, Network, Public].map(|policy| policy.admits(address))
        };
        for own in [
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::fb",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
        ] {
            assert_eq!(admitted(own), [true, false, false], "{own}");
        }
        for private in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.178.20",
            "100.64.0.1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
        ] {
            assert_eq!(admitted(private), [true, true, false], "{private}");
        }
        for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "64:ff9b::8.8.8.8"] {
            assert_eq!(admitted(public), [true, true, true], "{public}");
        }
    }
}
