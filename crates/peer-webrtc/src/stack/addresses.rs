//! The addresses of this machine that a connection binds.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rtc::shared::ifaces::ifaces;

/// Returns the addresses to bind: every interface that is up, and loopback if the service is on
/// loopback, so that two peers on a machine without a network can connect.
pub fn bind_addresses(loopback: bool) -> Vec<String> {
    let found: BTreeSet<IpAddr> = ifaces()
        .unwrap_or_default()
        .iter()
        .filter_map(|interface| interface.addr.as_ref().map(SocketAddr::ip))
        .collect();
    let any = |wanted: fn(&IpAddr) -> bool| found.iter().any(wanted);
    let mut bind = Vec::new();
    if loopback {
        bind.push("127.0.0.1:0".to_owned());
        if any(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_loopback())) {
            bind.push("[::1]:0".to_owned());
        }
    }
    // The stack opens one socket on each interface for a wildcard, now and after a network change.
    if any(|ip| matches!(ip, IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_link_local())) {
        bind.push("0.0.0.0:0".to_owned());
    }
    if any(|ip| matches!(ip, IpAddr::V6(ip) if is_routable(ip))) {
        bind.push("[::]:0".to_owned());
    }
    if bind.is_empty() {
        // No interface is up yet: the stack binds the wildcard itself, and relays may still work.
        bind.push("0.0.0.0:0".to_owned());
    }
    bind
}

fn is_routable(ip: &std::net::Ipv6Addr) -> bool {
    !ip.is_loopback() && ip.segments()[0] & 0xffc0 != 0xfe80
}
