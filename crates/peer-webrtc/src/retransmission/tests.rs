//! Tests which packets are requested, passed on, and remembered.

use super::stream::{REQUESTS_MAX, WINDOW};
use super::*;
use crate::codec::Codec;

const MEDIA: u32 = 100;
const RTX: u32 = 200;
const MEDIA_TYPE: u8 = 96;
const RTX_TYPE: u8 = 97;

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    Instant::now()
}

fn packet(ssrc: u32, payload_type: u8, seq: u16, payload: &[u8]) -> rtc::rtp::Packet {
    let header = rtc::rtp::Header {
        version: 2,
        ssrc,
        payload_type,
        sequence_number: seq,
        timestamp: 9000,
        marker: true,
        ..Default::default()
    };
    rtc::rtp::Packet { header, payload: payload.to_vec().into() }
}

/// Builds a retransmission of the packet `seq`.
fn repeated(rtx_seq: u16, seq: u16) -> rtc::rtp::Packet {
    let mut payload = seq.to_be_bytes().to_vec();
    payload.extend(*b"media");
    packet(RTX, RTX_TYPE, rtx_seq, &payload)
}

/// An interceptor with the packets it passed on and requested.
struct Receiver {
    inner: Retransmissions,
    now: Instant,
    /// Every requested sequence number, with the time.
    requested: Vec<(Duration, u16)>,
    began: Instant,
}

impl Receiver {
    fn new() -> Self {
        let now = start();
        let inner = Retransmissions::new(Formats::offered(&[Codec::Vp8, Codec::Opus]));
        Self { inner, now, requested: Vec::new(), began: now }
    }

    fn take(&mut self, packet: rtc::rtp::Packet) -> Vec<rtc::rtp::Packet> {
        let message = AttributedPacket::new(Packet::Rtp(packet));
        let transport = TransportContext::default();
        self.inner.handle_read(TaggedPacket { now: self.now, transport, message }).expect("ok");
        let mut passed = Vec::new();
        while let Some(msg) = self.inner.poll_read() {
            let Packet::Rtp(packet) = msg.message.packet else { panic!("RTP went in") };
            passed.push(packet);
        }
        passed
    }

    fn media(&mut self, seq: u16) -> usize {
        self.take(packet(MEDIA, MEDIA_TYPE, seq, b"media")).len()
    }

    /// Advances time in the steps of the stack's timers.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.inner.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.inner.handle_timeout(self.now).expect("ok");
            while let Some(msg) = self.inner.poll_write() {
                let Packet::Rtcp(packets) = msg.message.packet else { panic!("RTCP") };
                for packet in packets {
                    let nack = packet.as_any().downcast_ref::<TransportLayerNack>();
                    let nack = nack.expect("a NACK");
                    assert_eq!(nack.media_ssrc, MEDIA);
                    let seqs = nack.nacks.iter().flat_map(|pair| pair.packet_list());
                    let at = self.now.duration_since(self.began);
                    self.requested.extend(seqs.map(|seq| (at, seq)));
                }
            }
        }
        self.now = end;
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn rtx_packet_is_restored_to_media_packet() {
    let mut receiver = Receiver::new();
    for seq in [65_534, 65_535, 1] {
        assert_eq!(receiver.media(seq), 1);
    }
    receiver.wait(MS * 20);
    assert_eq!(receiver.requested, [(MS * 10, 0)]);
    let passed = receiver.take(repeated(7, 0));
    assert_eq!(passed, [packet(MEDIA, MEDIA_TYPE, 0, b"media")]);
    // The packet has arrived, so it is neither requested nor passed on again.
    receiver.wait(MS * 5000);
    assert_eq!(receiver.requested.len(), 1);
    assert_eq!(receiver.take(repeated(8, 0)), []);
    assert_eq!(receiver.take(repeated(9, 1)), [], "a repetition of what was not lost");
    assert_eq!(receiver.media(2), 1);
}

#[test]
fn missing_packet_is_requested_limited_times() {
    let mut receiver = Receiver::new();
    for seq in (0..2000).filter(|seq| seq % 100 != 50) {
        receiver.media(seq);
        receiver.wait(MS);
    }
    receiver.wait(MS * 10_000);
    assert_eq!(receiver.requested.len(), 20 * usize::from(REQUESTS_MAX));
    let first: Vec<_> = receiver.requested.iter().filter(|(_, seq)| *seq == 50).collect();
    let gaps = first.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(gaps.min().expect("some") >= ROUND_TRIP, "{first:?}");
    assert_eq!(receiver.inner.poll_timeout(), None, "nothing is waited for");
}

#[test]
fn nack_interval_follows_round_trip() {
    let mut receiver = Receiver::new();
    for seq in 0..200_u16 {
        receiver.media(seq * 2);
        receiver.wait(MS * 10);
        receiver.wait(MS * 40);
        // The answer comes after 40 ms, 50 ms after the packet was found missing.
        if seq > 0 {
            receiver.take(repeated(seq, seq * 2 - 1));
        }
    }
    let round_trip = receiver.inner.round_trip;
    assert!(round_trip > MS * 30 && round_trip < MS * 50, "{round_trip:?}");
    assert_eq!(receiver.requested.len(), 199, "each once");
}

#[test]
fn late_packets_are_not_requested() {
    let mut receiver = Receiver::new();
    for pair in 0..1000_u16 {
        receiver.media(pair * 2 + 1);
        receiver.wait(MS * 5);
        assert_eq!(receiver.media(pair * 2), 1);
        receiver.wait(MS * 5);
    }
    assert_eq!(receiver.requested, []);
}

#[test]
fn missing_packets_are_limited() {
    let mut receiver = Receiver::new();
    // The sender jumps.
    receiver.media(0);
    receiver.media(20_000);
    receiver.wait(MS * 10_000);
    assert_eq!(receiver.requested, []);
    // Each gap has the largest width.
    let mut seq = 20_000_u16;
    for _ in 0..100 {
        seq = seq.wrapping_add(512);
        receiver.media(seq);
        let stream = &receiver.inner.streams[&MEDIA];
        assert!(i64::try_from(stream.missing.len()).expect("few") <= WINDOW);
    }
    // The sender keeps leaving gaps.
    for _ in 0..10_000 {
        seq = seq.wrapping_add(100);
        receiver.media(seq);
        receiver.wait(MS);
    }
    let a_second = 1000 * usize::from(REQUESTS_MAX);
    assert!(receiver.requested.len() < 12 * a_second, "{}", receiver.requested.len());
    for ssrc in 0..1000 {
        receiver.take(packet(ssrc, MEDIA_TYPE, 1, b""));
        receiver.take(packet(10_000 + ssrc, RTX_TYPE, 1, &[0, 5, 1]));
    }
    assert!(receiver.inner.streams.len() <= STREAMS_MAX);
    assert!(receiver.inner.learned.len() <= PAIRS_MAX);
}

#[test]
fn undeclared_rtx_is_matched_to_stream_lacking_packet() {
    let mut receiver = Receiver::new();
    let other = 300;
    for seq in [1, 2, 3, 4] {
        receiver.take(packet(other, MEDIA_TYPE, seq, b"media"));
        if seq != 2 {
            receiver.media(seq);
        }
    }
    // Both streams have this packet, so the media stream cannot be derived.
    assert_eq!(receiver.take(repeated(1, 3)), []);
    assert_eq!(receiver.take(repeated(2, 2))[0].header.ssrc, MEDIA);
    // Now the media stream can be derived.
    receiver.media(6);
    assert_eq!(receiver.take(repeated(3, 5))[0].header.ssrc, MEDIA);
    // A description takes precedence.
    receiver.inner.formats.described("a=ssrc-group:FID 300 200\r\n");
    receiver.take(packet(other, MEDIA_TYPE, 6, b"media"));
    assert_eq!(receiver.take(repeated(4, 5))[0].header.ssrc, other);
}

#[test]
fn padding_and_other_media_are_not_touched() {
    let mut receiver = Receiver::new();
    receiver.media(1);
    for probe in [&[][..], &[1]] {
        assert_eq!(receiver.take(packet(RTX, RTX_TYPE, 1, probe)), []);
    }
    let sound = Codec::Opus.payload_type();
    assert_eq!(receiver.take(packet(9, sound, 1, b"x")).len(), 1);
    assert_eq!(receiver.take(packet(9, sound, 5, b"x")).len(), 1);
    receiver.wait(MS * 1000);
    assert_eq!(receiver.requested, [], "sound is not asked for again");
    // The original has an empty payload.
    receiver.media(3);
    assert_eq!(receiver.take(packet(RTX, RTX_TYPE, 1, &[0, 2])).len(), 1);
}
