//! Limits the rate of outgoing connectivity checks.
//!
//! The agent checks every candidate pair at each of its ticks, fifty times a second (rtc-ice,
//! `ping_all_candidates`): a master that lists forty addresses, combined with several of this
//! machine's, would make it send thousands of datagrams a second to addresses that the master
//! chose. So checks are limited where they leave this machine: all pairs together send
//! [`CHECKS_A_SECOND`], shared evenly, and a check before its pair's turn is dropped. The agent
//! repeats it at its next tick. A peer that answers is not limited.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::stun::{
    BINDING_REQUEST, BINDING_SUCCESS, COOKIE, DATA, HEADER, SEND_INDICATION, USE_CANDIDATE,
    USERNAME, XOR_PEER_ADDRESS, attribute,
};

/// Checks a second of all unanswered pairs together. RFC 8445 (14.2) allows twenty; a camera with
/// few addresses is found sooner with more.
const CHECKS_A_SECOND: u32 = 150;
/// A pair that was not checked for this long takes no share.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);
/// The most pairs with a turn; checks of further pairs are dropped.
const PAIRS_MAX: usize = 256;
/// The most answering peers to track, which are not limited.
const ANSWERING_MAX: usize = 8;

type Address = (IpAddr, u16);

/// Decides which checks of one connection may leave.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// The last check of each pair of socket and destination.
    pairs: BTreeMap<(SocketAddr, Target), Instant>,
    answering: Vec<Target>,
    swept: Option<Instant>,
    held: u64,
}

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Direct(Address),
    /// Through this TURN server, in a Send indication to this peer.
    Relayed(Address, Address),
    /// Through this TURN server, in ChannelData of this channel.
    Channel(Address, u16),
}

impl Pacer {
    /// Returns whether a datagram may leave.
    pub(crate) fn admits(
        &mut self,
        now: Instant,
        local: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> bool {
        let (target, message) = unwrapped(address(to), datagram);
        if is_proof(message) {
            self.answered(target);
        }
        if !is_check(message) || self.answering.contains(&target) {
            return true;
        }
        self.sweep(now);
        let pair = (local, target);
        let share = Duration::from_secs(1) / CHECKS_A_SECOND;
        let others = u32::try_from(self.pairs.len()).unwrap_or(u32::MAX);
        let turn = match self.pairs.get(&pair) {
            // Half a tick early counts as in time: the agent's ticks are not exact.
            Some(last) => {
                now.saturating_duration_since(*last) + Duration::from_millis(10)
                    >= share.saturating_mul(others)
            }
            None => self.pairs.len() < PAIRS_MAX,
        };
        if turn {
            self.pairs.insert(pair, now);
        } else {
            self.held += 1;
            if self.held == 1 {
                tracing::debug!("connectivity checks are held back: there are many pairs");
            }
        }
        turn
    }

    /// Marks that the agent has authenticated this peer.
    fn answered(&mut self, peer: Target) {
        if self.answering.last() == Some(&peer) {
            return;
        }
        self.answering.retain(|known| *known != peer);
        if self.answering.len() >= ANSWERING_MAX {
            self.answering.remove(0);
        }
        self.answering.push(peer);
        self.pairs.retain(|(_, target), _| *target != peer);
    }

    fn sweep(&mut self, now: Instant) {
        let since = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(since) >= Duration::from_millis(500) {
            self.swept = Some(now);
            self.pairs.retain(|_, last| now.saturating_duration_since(*last) < FORGOTTEN_AFTER);
        }
    }
}

/// Returns whether the stack sends this message only to an authenticated peer.
fn is_proof(message: &[u8]) -> bool {
    match kind(message) {
        Some(BINDING_SUCCESS) => true,
        Some(BINDING_REQUEST) => attribute(message, USE_CANDIDATE).is_some(),
        // DTLS and SRTP (RFC 7983).
        Some(kind) => matches!(kind >> 8, 20..=63 | 128..=191),
        None => false,
    }
}

/// Returns the final destination of a datagram and its content there, without TURN's
/// encapsulation.
fn unwrapped(to: Address, datagram: &[u8]) -> (Target, &[u8]) {
    let relayed = || match kind(datagram)? {
        SEND_INDICATION => {
            let peer = xor_address(datagram, attribute(datagram, XOR_PEER_ADDRESS)?)?;
            Some((Target::Relayed(to, peer), attribute(datagram, DATA)?))
        }
        // RFC 8656, 12.4: channel number, length, data.
        channel @ 0x4000..=0x4fff => Some((Target::Channel(to, channel), datagram.get(4..)?)),
        _ => None,
    };
    relayed().unwrap_or((Target::Direct(to), datagram))
}

/// Decodes an address attribute that is obfuscated with the cookie and the transaction id (RFC
/// 8489, 14.2).
fn xor_address(message: &[u8], value: &[u8]) -> Option<Address> {
    let mask = message.get(4..HEADER)?;
    let plain = |bytes: &[u8]| -> Vec<u8> { bytes.iter().zip(mask).map(|(a, b)| a ^ b).collect() };
    let (head, ip) = value.split_at_checked(4)?;
    let port = u16::from_be_bytes(plain(head.get(2..)?).try_into().ok()?);
    let ip = match head.get(1)? {
        1 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(plain(ip)).ok()?)),
        2 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(plain(ip)).ok()?)),
        _ => return None,
    };
    Some((ip, port))
}

fn kind(datagram: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*datagram.first()?, *datagram.get(1)?]))
}

/// Returns whether a message is a connectivity check: a Binding request with a user name. A
/// request without one goes to a STUN server.
fn is_check(message: &[u8]) -> bool {
    kind(message) == Some(BINDING_REQUEST)
        && message.get(4..8) == Some(&COOKIE[..])
        && attribute(message, USERNAME).is_some()
}

fn address(address: SocketAddr) -> Address {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        Instant::now()
    }

    fn stun(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in attributes {
            body.extend(name.to_be_bytes());
            body.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = kind.to_be_bytes().to_vec();
        message.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        message.extend(COOKIE);
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    fn request() -> Vec<u8> {
        stun(BINDING_REQUEST, &[(USERNAME, b"a:bc")])
    }

    /// Builds a Send indication to a peer (IPv6 if its number is odd) with a transaction id of
    /// this byte.
    fn send_indication(peer: u8, transaction: u8, inner: &[u8]) -> Vec<u8> {
        let mut value = match peer % 2 {
            0 => vec![0, 1, 1, peer, 10, 0, 0, peer],
            _ => [&[0, 2, 1, peer][..], &[peer; 16]].concat(),
        };
        let mask: Vec<u8> = COOKIE.into_iter().chain([transaction; 12]).collect();
        value[2..4].iter_mut().zip(&mask).for_each(|(byte, mask)| *byte ^= mask);
        value[4..].iter_mut().zip(&mask).for_each(|(byte, mask)| *byte ^= mask);
        let mut message = stun(SEND_INDICATION, &[(XOR_PEER_ADDRESS, &value), (DATA, inner)]);
        message[8..HEADER].fill(transaction);
        message
    }

    fn locals() -> [SocketAddr; 2] {
        ["10.0.0.1:5000", "[fd00::1]:5000"].map(|text| text.parse().expect("an address"))
    }

    fn remote(n: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 5], 4000 + n))
    }

    /// Sends what the agent sends in `ticks` ticks: a check of every pair at each. Returns how
    /// many left in each second, and for each pair in total.
    fn run(pacer: &mut Pacer, pairs: u16, ticks: u32) -> (Vec<usize>, BTreeMap<u16, usize>) {
        let (begin, message) = (start(), request());
        let mut seconds = Vec::new();
        let mut each = BTreeMap::new();
        for tick in 0..ticks {
            if tick % 50 == 0 {
                seconds.push(0);
            }
            for n in 0..pairs {
                let [local, other] = locals();
                let local = if n % 2 == 0 { local } else { other };
                if pacer.admits(begin + TICK * tick, local, remote(n / 2), &message) {
                    *seconds.last_mut().expect("a second") += 1;
                    *each.entry(n).or_insert(0) += 1;
                }
            }
        }
        (seconds, each)
    }

    #[test]
    fn many_pairs_share_the_budget_evenly() {
        for pairs in [10, 20, 40, 80, 160] {
            let (seconds, each) = run(&mut Pacer::default(), pairs, 500);
            assert!(
                seconds.iter().all(|sent| *sent <= 200 + usize::from(pairs) / 2),
                "{seconds:?}"
            );
            assert!(seconds[1..].iter().all(|sent| *sent <= 200), "{pairs}: {seconds:?}");
            let (least, most) = (each.values().min(), each.values().max());
            assert_eq!(each.len(), usize::from(pairs), "each has its turn");
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{each:?}");
        }
    }

    #[test]
    fn few_pairs_are_checked_at_each_tick() {
        for pairs in 1..=4 {
            let (seconds, _) = run(&mut Pacer::default(), pairs, 50);
            assert_eq!(seconds, [usize::from(pairs) * 50], "{pairs}");
        }
    }

    #[test]
    fn checks_to_answering_peer_are_not_limited() {
        let mut pacer = Pacer::default();
        let [local, _] = locals();
        pacer.admits(start(), local, remote(7), &stun(BINDING_SUCCESS, &[]));
        let (_, each) = run(&mut pacer, 80, 250);
        assert_eq!((each[&14], each[&15]), (250, 250));
        assert!(each[&16] < 30, "{each:?}");
        (0..1000).for_each(|n| pacer.answered(Target::Direct(address(remote(n)))));
        assert_eq!(pacer.answering.len(), ANSWERING_MAX);
    }

    #[test]
    fn relayed_peer_is_one_pair_for_any_transaction_id() {
        let mut pacer = Pacer::default();
        let [local, _] = locals();
        for transaction in 0..100 {
            for peer in [2, 3] {
                let message = send_indication(peer, transaction, &request());
                pacer.admits(start(), local, remote(0), &message);
            }
        }
        assert_eq!(pacer.pairs.len(), 2);
    }

    #[test]
    fn checks_to_answering_relayed_peer_are_not_limited() {
        let (now, [local, _], inner) = (start(), locals(), request());
        let channel = |inner: &[u8]| [&[0x40, 1, 0, 40][..], inner].concat();
        let (media, answer) = ([128; 40], stun(BINDING_SUCCESS, &[]));
        let ways: [(Vec<u8>, Vec<u8>); 2] = [
            (send_indication(3, 1, &answer), send_indication(3, 2, &inner)),
            (channel(&media), channel(&inner)),
        ];
        for (proof, check) in ways {
            let mut pacer = Pacer::default();
            (0..20).for_each(|n| assert!(pacer.admits(now, local, remote(n), &inner)));
            assert!(pacer.admits(now, local, remote(0), &check));
            assert!(!pacer.admits(now, local, remote(0), &check), "not proven");
            assert!(pacer.admits(now, local, remote(0), &proof));
            assert!((0..100).all(|_| pacer.admits(now, local, remote(0), &check)));
            let other = send_indication(4, 1, &inner);
            assert!(pacer.admits(now, local, remote(0), &other));
            assert!(!pacer.admits(now, local, remote(0), &other), "another peer");
        }
    }

    #[test]
    fn pairs_are_limited_and_expire() {
        let mut pacer = Pacer::default();
        let (now, message, [local, _]) = (start(), request(), locals());
        let sent = (0..10_000).filter(|n| pacer.admits(now, local, remote(*n), &message)).count();
        assert_eq!((sent, pacer.pairs.len()), (PAIRS_MAX, PAIRS_MAX));
        let later = now + FORGOTTEN_AFTER;
        assert!(pacer.admits(later, local, remote(9999), &message));
        assert_eq!(pacer.pairs.len(), 1);
    }

    #[test]
    fn relayed_checks_are_limited_and_other_messages_pass() {
        let mut pacer = Pacer::default();
        let (now, [local, _]) = (start(), locals());
        let inner = request();
        let relayed = |peer: u8| send_indication(peer, 7, &inner);
        let channel = [&[0x40, 1, 0, 40][..], &inner].concat();
        // There are more pairs than turns at each tick.
        (0..20).for_each(|n| assert!(pacer.admits(now, local, remote(n), &inner)));
        for message in [relayed(1), relayed(2), channel] {
            assert!(pacer.admits(now, local, remote(0), &message));
            assert!(!pacer.admits(now, local, remote(0), &message));
        }
        let server = stun(BINDING_REQUEST, &[(0x8022, b"stun")]);
        for other in [&server[..], &[], &[0], &inner[..10], &[22, 254, 253], &[128; 40]] {
            for _ in 0..100 {
                assert!(pacer.admits(now, local, remote(0), other), "{other:?}");
            }
        }
    }
}
