//! Which datagrams reach the stack: what is not authenticated must cost neither memory nor time.
//!
//! The stack takes DTLS and SRTP from every source address once ICE has a pair, and rtc-srtp makes
//! a state for each SSRC before it authenticates the packet and never removes one
//! (`docs/upstream/rtc-srtp-state-before-authentication.md`). So each socket of a connection is
//! wrapped ([`crate::socket`]), and three rules decide here what is handed on:
//!
//! - DTLS, SRTP and SRTCP come from an address that passed an authenticated ICE check, or from a
//!   TURN server in use. The stack's own messages tell: it answers a Binding request only after
//!   its MESSAGE-INTEGRITY was verified, nominates only a pair that answered, and sends DTLS and
//!   SRTP to the selected pair alone.
//! - A source address can be spoofed, so the number of SSRCs that reach SRTP is bounded as well:
//!   [`SsrcLimit`].
//! - DTLS handshake records are costly to take, so there are so many a second and no more.
//!
//! STUN passes from everywhere: ICE finds peer-reflexive candidates by it, and checks its
//! integrity.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::dtls_fragments::Fragments;

/// Addresses of the peer that passed a check. A camera has about ten.
const PEERS_MAX: usize = 64;
/// TURN servers, each by an address of each family.
const SERVERS_MAX: usize = 64;
/// DTLS handshake records that may come at once, and how fast more of them may come: a handshake
/// in fragments of 100 bytes has about fifty, and is resent within a second.
const HANDSHAKE: Bucket = Bucket::new(256, Duration::from_millis(10));

/// STUN message types (RFC 8489, 8656).
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const ALLOCATE_REQUEST: u16 = 0x0003;
const DATA_INDICATION: u16 = 0x0017;
/// STUN attributes.
const USE_CANDIDATE: u16 = 0x0025;
const DATA: u16 = 0x0013;
/// Type, length, magic cookie and transaction id.
const STUN_HEADER: usize = 20;

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

/// A transport address without what tells two spellings of it apart.
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

    /// A description of the other side's was set: the sources it declares always pass.
    pub(crate) fn described(&mut self, sdp: &str) {
        for ssrc in declared(sdp) {
            self.rtp.declare(ssrc);
            self.rtcp.declare(ssrc);
        }
    }

    /// The stack sends a datagram.
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

    /// Whether a datagram that was received is for the stack.
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

    /// What the stack gets in place of a datagram that is admitted, where fragments of DTLS messages
    /// overlap; never longer.
    pub(crate) fn join_fragments(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        match Kind::of(datagram) {
            Kind::Dtls(DTLS_HANDSHAKE) => self.fragments.rewrite(datagram),
            Kind::Dtls(_) | Kind::Stun(_) | Kind::ChannelData | Kind::Srtp | Kind::Unknown => None,
        }
    }

    /// Whether a datagram from an address that may send costs no more than it may.
    fn is_bounded(&mut self, now: Instant, datagram: &[u8]) -> bool {
        match Kind::of(datagram) {
            Kind::Stun(_) => true,
            Kind::Dtls(content_type) => content_type != DTLS_HANDSHAKE || self.handshake.take(now),
            Kind::Srtp => match datagram {
                // RFC 5761, 4: of payload types, 64 to 95 with the marker bit are RTCP.
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

/// What a datagram is (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its message type.
    Stun(u16),
    /// Its content type.
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

/// The value of a STUN message's first attribute of this type.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(STUN_HEADER..)?;
    while let [type_high, type_low, length_high, length_low, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        if u16::from_be_bytes([*type_high, *type_low]) == wanted {
            return value.get(..length);
        }
        // Values are padded to four bytes.
        rest = value.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn address(address: SocketAddr) -> Address {
    (address.ip().to_canonical(), address.port())
}

/// The sources that a description declares: `a=ssrc:3735928559 cname:x`.
fn declared(sdp: &str) -> impl Iterator<Item = u32> {
    sdp.lines().filter_map(|line| {
        let value = line.strip_prefix("a=ssrc:")?;
        value.split([' ', '\r']).next()?.parse().ok()
    })
}

/// The addresses used last.
#[derive(Debug)]
struct Recent {
    most: usize,
    /// The one used last is the last.
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

/// So many at once, and one more each `every`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    most: u32,
    every: Duration,
    left: u32,
    since: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(most: u32, every: Duration) -> Self {
        Self { most, every, left: most, since: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes as many, if as many are left.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_nanos() / self.every.as_nanos().max(1);
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back >= self.most - self.left {
            (self.left, self.since) = (self.most, Some(now));
        } else if back > 0 {
            (self.left, self.since) = (self.left + back, Some(since + self.every * back));
        }
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// Sources that a description may declare: a master has four, two of them for retransmissions.
const DECLARED_MAX: usize = 64;
/// SSRCs that may reach SRTP in one connection, at about 350 bytes each.
const KNOWN_MAX: usize = 4096;
/// Up to here undeclared ones pass as [`FREE`] allows; beyond, there is an attack, and one passes
/// in each window of [`SLOW_WINDOW`].
const KNOWN_FREE: usize = 512;
/// Undeclared SSRCs that pass as they come. A camera takes a new one with each restart of its
/// encoder.
const FREE: Bucket = Bucket::new(32, Duration::from_secs(2));
/// How long packets of SSRCs that did not pass are counted before the one with the most passes.
const WINDOW: Duration = Duration::from_secs(2);
/// The same once there is an attack that lasts.
const SLOW_WINDOW: Duration = Duration::from_secs(10);
/// Counters of a window. At 30,000 packets a second of made up SSRCs each is hit every other
/// second, so even a stream of ten packets a second stands out.
const COUNTERS: usize = 1 << 16;

/// Bounds the SSRCs that reach SRTP.
///
/// SSRCs that a description declares pass, as do those that passed before: their state exists.
/// Some others pass as they come. Where more come than that, packets are counted for some seconds,
/// and the SSRC with the most passes: a stream sends many packets with one SSRC, and an attacker
/// would have to send as much for each as the camera does. So an attack neither makes more than
/// [`KNOWN_MAX`] states nor keeps a stream out, also one that was not declared.
#[derive(Debug)]
struct SsrcLimit {
    known: BTreeSet<u32>,
    declared: usize,
    free: Bucket,
    contest: Option<Box<Contest>>,
}

/// The counts of one window.
#[derive(Debug)]
struct Contest {
    began: Instant,
    /// Its keys are random, so that a sender cannot choose SSRCs that share a counter.
    hasher: RandomState,
    counts: Vec<u16>,
    best: (u16, u32),
    /// The best of the window before, until it passed.
    winner: Option<u32>,
}

impl SsrcLimit {
    fn new() -> Self {
        Self { known: BTreeSet::new(), declared: 0, free: FREE, contest: None }
    }

    fn declare(&mut self, ssrc: u32) {
        if self.declared < DECLARED_MAX && self.known.insert(ssrc) {
            self.declared += 1;
        }
    }

    fn admits(&mut self, now: Instant, ssrc: u32) -> bool {
        if self.known.contains(&ssrc) {
            return true;
        }
        let count = self.known.len();
        let passes = count < KNOWN_MAX
            && ((count < KNOWN_FREE && self.free.take(now)) || self.wins(now, ssrc));
        if passes {
            self.known.insert(ssrc);
        }
        passes
    }

    /// Counts a packet for its SSRC; true where that has won.
    fn wins(&mut self, now: Instant, ssrc: u32) -> bool {
        let window = if self.known.len() < KNOWN_FREE { WINDOW } else { SLOW_WINDOW };
        let contest = self.contest.get_or_insert_with(|| Box::new(Contest::new(now)));
        let elapsed = now.saturating_duration_since(contest.began);
        if elapsed >= window {
            // Counts of long ago say nothing about now.
            let winner = (elapsed < window * 2).then_some(contest.best.1);
            contest.counts.fill(0);
            (contest.began, contest.best, contest.winner) = (now, (0, 0), winner);
        }
        if contest.winner.take_if(|winner| *winner == ssrc).is_some() {
            return true;
        }
        contest.count(ssrc);
        false
    }
}

impl Contest {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            hasher: RandomState::new(),
            counts: vec![0; COUNTERS],
            best: (0, 0),
            winner: None,
        }
    }

    fn count(&mut self, ssrc: u32) {
        let index = usize::try_from(self.hasher.hash_one(ssrc)).unwrap_or(0) % COUNTERS;
        let Some(count) = self.counts.get_mut(index) else { return };
        *count = count.saturating_add(1);
        if *count > self.best.0 {
            self.best = (*count, ssrc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "192.0.2.1:5000";
    const STRANGER: &str = "192.0.2.9:5000";
    const SERVER: &str = "192.0.2.3:3478";

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        Instant::now()
    }

    fn stun(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; STUN_HEADER];
        message[..2].copy_from_slice(&kind.to_be_bytes());
        for (kind, value) in attributes {
            message.extend(kind.to_be_bytes());
            message.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    fn rtp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96, 0, 1, 0, 0, 0, 0];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0; 40]);
        packet
    }

    fn rtcp(ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 200, 0, 6];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0; 40]);
        packet
    }

    const HANDSHAKE_RECORD: [u8; 16] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 1, 0, 0];

    #[test]
    fn only_addresses_that_passed_a_check_send_dtls_and_srtp() {
        let now = start();
        let others = [
            stun(BINDING_REQUEST, &[]),
            stun(ALLOCATE_REQUEST, &[]),
            stun(0x0111, &[]),
            Vec::new(),
        ];
        for proof in [
            stun(BINDING_SUCCESS, &[]),
            stun(BINDING_REQUEST, &[(0x0006, b"a:b"), (USE_CANDIDATE, b"")]),
            HANDSHAKE_RECORD.to_vec(),
            rtp(1),
        ] {
            let mut ingress = Ingress::new();
            for other in &others {
                ingress.sent(at(PEER), other);
            }
            for media in [rtp(1), rtcp(1), HANDSHAKE_RECORD.to_vec()] {
                assert!(!ingress.admits(now, at(PEER), &media), "no check has passed");
            }
            ingress.sent(at(PEER), &proof);
            for media in [rtp(1), rtcp(1), HANDSHAKE_RECORD.to_vec()] {
                assert!(ingress.admits(now, at(PEER), &media));
                assert!(ingress.admits(now, at("[::ffff:192.0.2.1]:5000"), &media));
                assert!(!ingress.admits(now, at("192.0.2.1:5001"), &media), "another port");
                assert!(!ingress.admits(now, at(STRANGER), &media));
            }
            // New addresses of the peer are found by STUN.
            assert!(ingress.admits(now, at(STRANGER), &stun(BINDING_REQUEST, &[])));
        }
    }

    #[test]
    fn junk_is_dropped() {
        let mut ingress = Ingress::new();
        ingress.sent(at(PEER), &rtp(1));
        ingress.sent(at(SERVER), &stun(ALLOCATE_REQUEST, &[]));
        for junk in [&[][..], &[0], &[5; 40], &[16; 40], &[100; 40], &[192; 40], &[255; 40]] {
            assert!(!ingress.admits(start(), at(PEER), junk), "{junk:?}");
        }
        for short in [&[0x80][..], &[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0x80, 200, 0, 0]] {
            assert!(!ingress.admits(start(), at(PEER), short), "{short:?}");
        }
        for short in [&[0x40][..], &[0x40, 0, 0, 1], &stun(DATA_INDICATION, &[])] {
            assert!(!ingress.admits(start(), at(SERVER), short), "{short:?}");
        }
        let mut cut = stun(DATA_INDICATION, &[(DATA, &rtp(1))]);
        cut.truncate(30);
        assert!(!ingress.admits(start(), at(SERVER), &cut));
    }

    #[test]
    fn relayed_datagrams_come_from_a_server_in_use() {
        let now = start();
        let mut ingress = Ingress::new();
        let mut channel = vec![0x40, 0, 0, 52];
        channel.extend(rtp(7));
        let indication = stun(DATA_INDICATION, &[(0x0012, &[0; 8]), (DATA, &rtp(7))]);
        for relayed in [&channel, &indication] {
            assert!(!ingress.admits(now, at(SERVER), relayed));
        }
        ingress.sent(at(SERVER), &stun(ALLOCATE_REQUEST, &[]));
        for relayed in [&channel, &indication] {
            assert!(ingress.admits(now, at(SERVER), relayed));
            assert!(!ingress.admits(now, at(PEER), relayed));
        }
        // What is inside is bounded as if it had come directly.
        let relayed = (1000..9000).filter(|ssrc| {
            let mut channel = vec![0x40, 0, 0, 52];
            channel.extend(rtp(*ssrc));
            ingress.admits(now, at(SERVER), &channel)
        });
        assert_eq!(relayed.count(), 31);
    }

    #[test]
    fn addresses_are_bounded_and_the_one_in_use_stays() {
        let mut ingress = Ingress::new();
        for port in 1..1000 {
            ingress.sent(at(PEER), &rtp(1));
            ingress.sent(at(&format!("192.0.2.7:{port}")), &stun(BINDING_SUCCESS, &[]));
        }
        assert_eq!(ingress.peers.addresses.len(), PEERS_MAX);
        assert!(ingress.admits(start(), at(PEER), &rtp(1)));
    }

    #[test]
    fn handshake_records_are_limited_and_other_records_are_not() {
        let now = start();
        let mut ingress = Ingress::new();
        ingress.sent(at(PEER), &HANDSHAKE_RECORD);
        let mut taken = |now, record: &[u8]| {
            (0..10_000).filter(|_| ingress.admits(now, at(PEER), record)).count()
        };
        assert_eq!(taken(now, &HANDSHAKE_RECORD), 256);
        assert_eq!(taken(now, &[23; 40]), 10_000);
        assert_eq!(taken(now + Duration::from_secs(1), &HANDSHAKE_RECORD), 100);
        assert_eq!(taken(now + Duration::from_secs(60), &HANDSHAKE_RECORD), 256);
    }

    #[test]
    fn sources_are_read_from_a_description() {
        let sdp = "a=ssrc:1 cname:x\r\na=ssrc:1 msid:y\na=ssrc-group:FID 7 8\r\na=ssrc:4294967295\r\n\
            a=ssrc:4294967296 x\r\na=ssrc:\r\n";
        assert_eq!(declared(sdp).collect::<Vec<_>>(), [1, 1, u32::MAX]);
    }

    /// Makes up SSRCs, each for so many packets.
    struct Attacker {
        ssrc: u32,
        repeated: u32,
        sent: u32,
    }

    impl Attacker {
        fn new(repeated: u32) -> Self {
            Self { ssrc: 1, repeated, sent: 0 }
        }

        fn send(&mut self, limit: &mut SsrcLimit, at: Instant, count: u32) {
            for _ in 0..count {
                if self.sent.is_multiple_of(self.repeated) {
                    // A sequence that visits each number once.
                    self.ssrc = self.ssrc.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                }
                self.sent += 1;
                limit.admits(at, self.ssrc);
            }
        }
    }

    const STEP: Duration = Duration::from_millis(10);

    #[test]
    fn made_up_ssrcs_are_bounded_and_declared_ones_pass() {
        let now = start();
        let mut limit = SsrcLimit::new();
        limit.declare(7);
        assert!(limit.admits(now, 8), "undeclared, before the attack");
        let mut attacker = Attacker::new(1);
        (0..6000).for_each(|step| attacker.send(&mut limit, now + STEP * step, 100));
        // Thirty-two at once, one in two seconds as it comes, and one in two that won.
        assert!((60..=100).contains(&limit.known.len()), "{}", limit.known.len());
        let end = now + Duration::from_secs(60);
        assert!(limit.admits(end, 7) && limit.admits(end, 8));
    }

    #[test]
    fn a_declaration_is_bounded() {
        let mut limit = SsrcLimit::new();
        (0..10_000).for_each(|ssrc| limit.declare(ssrc));
        assert_eq!(limit.known.len(), DECLARED_MAX);
    }

    #[test]
    fn an_attack_that_lasts_is_slowed_and_has_an_end() {
        let now = start();
        let mut limit = SsrcLimit::new();
        limit.known.extend(1..=u32::try_from(KNOWN_FREE).expect("small"));
        // Each SSRC for twelve seconds, so that it wins a window and is there in the next.
        for second in 0..1200_u32 {
            let at = now + Duration::from_secs(1) * second;
            limit.admits(at, 1_000_000 + second / 12);
        }
        let passed = limit.known.len() - KNOWN_FREE;
        assert!((50..=120).contains(&passed), "one in ten seconds at most: {passed}");
        limit.known.extend(1..=u32::try_from(KNOWN_MAX).expect("small"));
        let mut attacker = Attacker::new(2);
        let before = limit.known.len();
        (0..6000).for_each(|step| attacker.send(&mut limit, now + STEP * step, 10));
        assert_eq!(limit.known.len(), before);
        assert!(limit.admits(now, 1), "what is known passes");
    }

    #[test]
    fn an_undeclared_stream_that_begins_under_attack_passes() {
        for repeated in [1, 10] {
            let now = start();
            let mut limit = SsrcLimit::new();
            let mut attacker = Attacker::new(repeated);
            let mut passed = None;
            for step in 0..1000 {
                // A stream of 100 packets a second amid 30,000.
                attacker.send(&mut limit, now + STEP * step, 300);
                if step >= 200 && limit.admits(now + STEP * step, 0xdead_beef) {
                    passed = Some(STEP * (step - 200));
                    break;
                }
            }
            let passed = passed.expect("it passes");
            assert!(passed <= WINDOW * 2, "{passed:?}");
        }
    }
}
