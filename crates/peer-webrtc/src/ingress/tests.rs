//! Tests which datagrams pass, with and without an attack.

use super::*;
use crate::stun::HEADER;

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
    let mut message = vec![0; HEADER];
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
    let others =
        [stun(BINDING_REQUEST, &[]), stun(ALLOCATE_REQUEST, &[]), stun(0x0111, &[]), Vec::new()];
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
        // STUN finds new addresses of the peer.
        assert!(ingress.admits(now, at(STRANGER), &stun(BINDING_REQUEST, &[])));
    }
}

#[test]
fn unknown_datagrams_are_dropped() {
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
fn relayed_datagrams_pass_only_from_used_servers() {
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
    // The limits apply to the relayed packet as they do to a direct one.
    let relayed = (1000..9000).filter(|ssrc| {
        let mut channel = vec![0x40, 0, 0, 52];
        channel.extend(rtp(*ssrc));
        ingress.admits(now, at(SERVER), &channel)
    });
    assert_eq!(relayed.count(), 31);
}

#[test]
fn addresses_are_limited_and_current_one_is_kept() {
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
    let mut taken =
        |now, record: &[u8]| (0..10_000).filter(|_| ingress.admits(now, at(PEER), record)).count();
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
