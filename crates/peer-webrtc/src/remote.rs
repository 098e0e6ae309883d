//! Decides which of the other side's addresses are checked.
//!
//! A candidate is an address that the other side sends and to which this machine then sends
//! checks, fifty times a second until a pair works. A master could direct these checks at this
//! machine's own services, at a router's, or at a third party's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Selects the addresses of the other side that are checked.
///
/// Other candidates are accepted and not used, like TCP candidates. A camera at such an address
/// may still reach us by its own checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteAddresses {
    /// Every address, including this machine's: for a service on loopback.
    Any,
    /// Every address of a local network or of the internet, but no loopback, link-local, multicast
    /// or broadcast one, none of this machine's, and none of the clouds' metadata services: a
    /// camera on another machine always has some other address. A camera on this machine is
    /// reached by its own checks.
    #[default]
    Network,
    /// Addresses of the internet only, without private ones. A camera in the same house is then
    /// reached over a relay or the router, where that is possible.
    Public,
}

impl RemoteAddresses {
    /// Returns whether this address may be checked.
    #[must_use]
    pub fn admits(self, address: IpAddr) -> bool {
        // A socket of both families treats `::ffff:127.0.0.1` as `127.0.0.1`.
        let address = address.to_canonical();
        match self {
            Self::Any => true,
            Self::Network => !is_special(address),
            Self::Public => !is_special(address) && !is_private(address),
        }
    }
}

/// Returns whether this cannot be another machine's address on a network (IANA's special-purpose
/// registries).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                // "This network", broadcast and reserved addresses.
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
            // RFC 6598: addresses behind a carrier's NAT.
            v4.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || embedded(v6).any(|v4| is_private(IpAddr::V4(v4))),
    }
}

/// Metadata services that are not link-local: of Alibaba Cloud, Oracle Cloud and Azure.
const METADATA_V4: [[u8; 4]; 3] = [[100, 100, 100, 200], [192, 0, 0, 192], [168, 63, 129, 16]];
/// The metadata service of AWS, `fd00:ec2::254`.
const METADATA_V6: [u16; 8] = [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];

/// Returns the IPv4 addresses to which a packet for this address may be forwarded: by a translator
/// (RFC 6052, RFC 8215), in a 6to4 tunnel (RFC 3056), or as an IPv4-compatible address.
fn embedded(v6: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let (s, o) = (v6.segments(), v6.octets());
    let at =
        move |indices: [usize; 4]| Ipv4Addr::from(indices.map(|i| o.get(i).copied().unwrap_or(0)));
    let last = [12, 13, 14, 15];
    // RFC 6052, 2.2: the shorter a translator's prefix, the further left the address, around the
    // ninth byte. The bytes after it are zero.
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
