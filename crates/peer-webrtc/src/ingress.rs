//! Filters the datagrams that reach the stack, so that unauthenticated ones cost neither memory
//! nor time.
//!
//! The stack takes DTLS and SRTP from every source address once ICE has a pair, and rtc-srtp
//! creates a state for each SSRC before it authenticates the packet and never removes one
//! (`docs/upstream/rtc-srtp-state-before-authentication.md`). So each socket of a connection is
//! wrapped ([`crate::socket`]), and three rules decide here which datagrams pass:
//!
//! - DTLS, SRTP and SRTCP must come from an address that passed an authenticated ICE check, or
//!   from a TURN server in use. The stack's own messages prove it: the stack answers a Binding
//!   request only after it verified its MESSAGE-INTEGRITY, nominates only a pair that answered,
//!   and sends DTLS and SRTP to the selected pair alone.
//! - A source address can be spoofed, so the number of SSRCs that reach SRTP is limited as well:
//!   [`SsrcLimit`].
//! - DTLS handshake records are expensive to process, so their rate is limited.
//!
//! STUN passes from every address: ICE finds peer-reflexive candidates by it, and checks its
//! integrity.

mod ssrc_limit;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::dtls_fragments::Fragments;
use crate::stun::{
    ALLOCATE_REQUEST, BINDING_REQUEST, BINDING_SUCCESS, DATA, DATA_INDICATION, USE_CANDIDATE,
    attribute,
};
use ssrc_limit::SsrcLimit;

/// The most addresses of the peer that passed a check. A camera has about ten.
const PEERS_MAX: usize = 64;
/// The most TURN server addresses, at one of each family for each server.
const SERVERS_MAX: usize = 64;
/// The burst and the rate of DTLS handshake records: a handshake in fragments of 100 bytes has
/// about fifty, and is resent within a second.
const HANDSHAKE: Bucket = Bucket::new(256, Duration::from_millis(10));

/// DTLS content type of the handshake (RFC 6347).
const DTLS_HANDSHAKE: u8 = 22;

/// Decides which datagrams of one connection are handed to the stack.
#[derive(Debug)]
pub(crate) struct Ingress {
    peers: Recent,
    servers: Recent,
    rtp: SsrcLimit,
    rtcp: SsrcLimit,
    handshake: Bucket,
    fragments: Fragments,
    dropped: u64,
}

/// A transport address in canonical form, so that equal addresses compare equal.
type Address = (IpAddr, u16);

impl Ingress {
    pub(crate) fn new() -> Self {
        Self {
            peers: Recent::new(PEERS_MAX),
            servers: Recent::new(SERVERS_MAX),
            rtp: SsrcLimit::new(),
            rtcp: SsrcLimit::new(),
            handshake: HANDSHAKE,
            fragments: Fragments::default(),
            dropped: 0,
        }
    }

    /// Declares the SSRCs of a remote description, which then always pass.
    pub(crate) fn described(&mut self, sdp: &str) {
        for ssrc in declared(sdp) {
            self.rtp.declare(ssrc);
            self.rtcp.declare(ssrc);
        }
    }

    /// Learns from a datagram that the stack sends.
    pub(crate) fn sent(&mut self, to: SocketAddr, datagram: &[u8]) {
        let to = address(to);
        match Kind::of(datagram) {
            Kind::Stun(BINDING_SUCCESS) | Kind::Dtls(_) | Kind::Srtp => self.peers.add(to),
            Kind::Stun(BINDING_REQUEST) if attribute(datagram, USE_CANDIDATE).is_some() => {
                self.peers.add(to);
            }
            Kind::Stun(ALLOCATE_REQUEST) => self.servers.add(to),
            Kind::Stun(_) | Kind::ChannelData | Kind::Unknown => {}
        }
    }

    /// Returns whether a received datagram passes to the stack.
    pub(crate) fn admits(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        let from = address(from);
        let admitted = match Kind::of(datagram) {
            Kind::Stun(DATA_INDICATION) => {
                self.servers.has(from)
                    && attribute(datagram, DATA).is_some_and(|inner| self.is_bounded(now, inner))
            }
            Kind::Stun(_) => true,
            Kind::ChannelData => {
                self.servers.has(from)
                    && datagram.get(4..).is_some_and(|inner| self.is_bounded(now, inner))
            }
            Kind::Dtls(_) | Kind::Srtp => self.peers.has(from) && self.is_bounded(now, datagram),
            Kind::Unknown => false,
        };
        if !admitted {
            if self.dropped == 0 {
                tracing::debug!("datagrams of an unknown source are dropped");
            }
            self.dropped += 1;
        }
        admitted
    }

    /// Returns the replacement for an admitted datagram if its DTLS fragments overlap earlier
    /// ones; the replacement is never longer.
    pub(crate) fn join_fragments(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        match Kind::of(datagram) {
            Kind::Dtls(DTLS_HANDSHAKE) => self.fragments.rewrite(datagram),
            Kind::Dtls(_) | Kind::Stun(_) | Kind::ChannelData | Kind::Srtp | Kind::Unknown => None,
        }
    }

    /// Returns whether a datagram from a permitted address is within the SSRC and handshake
    /// limits.
    fn is_bounded(&mut self, now: Instant, datagram: &[u8]) -> bool {
        match Kind::of(datagram) {
            Kind::Stun(_) => true,
            Kind::Dtls(content_type) => content_type != DTLS_HANDSHAKE || self.handshake.take(now),
            Kind::Srtp => match datagram {
                // RFC 5761, 4: payload types 64 to 95 with the marker bit are RTCP.
                [_, 192..=223, _, _, a, b, c, d, ..] => {
                    self.rtcp.admits(now, u32::from_be_bytes([*a, *b, *c, *d]))
                }
                [_, _, _, _, _, _, _, _, a, b, c, d, ..] => {
                    self.rtp.admits(now, u32::from_be_bytes([*a, *b, *c, *d]))
                }
                _ => false,
            },
            Kind::ChannelData | Kind::Unknown => false,
        }
    }
}

/// The kind of a datagram (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// STUN with its message type.
    Stun(u16),
    /// DTLS with its content type.
    Dtls(u8),
    ChannelData,
    /// SRTP or SRTCP.
    Srtp,
    Unknown,
}

impl Kind {
    fn of(datagram: &[u8]) -> Self {
        match datagram {
            [first @ 0..=3, second, ..] => Self::Stun(u16::from_be_bytes([*first, *second])),
            [first @ 20..=63, ..] => Self::Dtls(*first),
            [64..=79, ..] => Self::ChannelData,
            [128..=191, ..] => Self::Srtp,
            _ => Self::Unknown,
        }
    }
}

fn address(address: SocketAddr) -> Address {
    (address.ip().to_canonical(), address.port())
}

/// Returns the SSRCs that a description declares: `a=ssrc:3735928559 cname:x`.
fn declared(sdp: &str) -> impl Iterator<Item = u32> {
    sdp.lines().filter_map(|line| {
        let value = line.strip_prefix("a=ssrc:")?;
        value.split([' ', '\r']).next()?.parse().ok()
    })
}

/// The most recently used addresses.
#[derive(Debug)]
struct Recent {
    most: usize,
    /// Ordered by use, the most recent last.
    addresses: Vec<Address>,
}

impl Recent {
    const fn new(most: usize) -> Self {
        Self { most, addresses: Vec::new() }
    }

    fn add(&mut self, address: Address) {
        if self.addresses.last() == Some(&address) {
            return;
        }
        self.addresses.retain(|known| *known != address);
        if self.addresses.len() >= self.most {
            self.addresses.remove(0);
        }
        self.addresses.push(address);
    }

    fn has(&self, address: Address) -> bool {
        self.addresses.iter().rev().any(|known| *known == address)
    }
}

#[cfg(test)]
mod tests;
