//! Which of the other side's addresses are tried.
//!
//! A candidate is an address that the other side names and that this machine then knocks at,
//! fifty times a second until a pair works. A master could have it knock
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
    /// or broadcast one, none of this machine's own, and none at which clouds have their metadata
    /// services: no camera that another machine watches has such an address alone. A camera on this
    /// machine is reached by its own checks.
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
                || METADATA_V4.contains(&v4.octets())
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                // Site-local addresses, deprecated by RFC 3879.
                || v6.segments()[0] & 0xffc0 == 0xfec0
                || v6.segments() == METADATA_V6
                || embedded(v6).any(|v4| is_special(IpAddr::V4(v4)))
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
        IpAddr::V6(v6) => v6.is_unique_local() || embedded(v6).any(|v4| is_private(IpAddr::V4(v4))),
    }
}

/// Metadata services that are not link-local: of Alibaba Cloud, Oracle Cloud and Azure.
const METADATA_V4: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];
/// And of AWS: `fd00:ec2::254`.
const METADATA_V6: [u16; 8] = [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];

/// The IPv4 addresses that a packet to this address may be sent on to: by a translator (RFC 6052,
/// RFC 8215), in a tunnel (6to4, RFC 3056), or as it was done before 1999.
fn embedded(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let (s, o) = (v6.segments(), v6.octets());
    let at =
        move |indices: [usize; 4]| Ipv4Addr::from(indices.map(|i| o.get(i).copied().unwrap_or(0)));
    let last = [12, 13, 14, 15];
    // RFC 6052, 2.2: the shorter a translator's prefix, the further left the address, around the
    // ninth byte. What follows it is zero.
    let shorter = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
    let readings: Vec<[usize; 4]> = if s[..3] == [0x64, 0xff9b, 1] {
        let is_short = o[13..] == [0; 3];
        if is_short { shorter.to_vec() } else { vec![last] }
    } else if s[0] == 0x2002 {
        vec![[2, 3, 4, 5]]
    } else if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
        || s[..6] == [0, 0, 0, 0, 0xffff, 0]
        || (s[..6] == [0; 6] && !v6.is_loopback() && !v6.is_unspecified())
    {
        vec![last]
    } else {
        Vec::new()
    };
    readings.into_iter().map(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use RemoteAddresses::{Any, Network, Public};

    #[test]
    fn each_address_policy_admits_its_addresses() {
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
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:7f:0:1::",
            "64:ff9b:1::7f:0:100:0",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "::ffff:0:127.0.0.1",
            "::ffff:0:169.254.169.254",
            "fec0::1",
            "feff::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::168.63.129.16",
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
            "64:ff9b:1::10.0.0.1",
            "2002:a00:1::1",
            "::ffff:0:192.168.0.1",
        ] {
            assert_eq!(admitted(private), [true, true, false], "{private}");
        }
        for public in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2001:db8::1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::8.8.8.8",
            "2002:808:808::1",
            "::ffff:0:8.8.8.8",
            "168.63.129.17",
        ] {
            assert_eq!(admitted(public), [true, true, true], "{public}");
        }
    }
}
