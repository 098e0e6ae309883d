//! Asks for lost packets, and takes what comes by retransmission streams (RFC 4588) back into the
//! media streams.
//!
//! A master may resend on the media stream itself or on a stream of its own (RTX), with its own
//! SSRC, payload type and sequence numbers; GStreamer's resends in no other way. The stack has a
//! NACK generator that sits before its own RTX handling, so it would go on asking for what RTX has
//! brought, and it knows RTX only where the description pairs the SSRCs. This interceptor does
//! both in its place: an RTX packet becomes the media packet that it repeats before anything else
//! sorts or counts it, so the gap it fills is closed for everybody.
//!
//! Requests are bounded: one packet is asked for [`REQUESTS_MAX`] times, no more often than the
//! round trip allows, and a gap of more than [`GAP_MAX`] packets is a jump of the sender's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use negotiation_core::MediaKind;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use crate::codec::Codec;
use crate::ingress::Bucket;
use crate::sequence::Unwrapper;

/// Media streams followed at once; a further one takes the place of the one silent for longest.
const STREAMS_MAX: usize = 16;
/// Retransmission streams whose media stream is known; see [`STREAMS_MAX`].
const PAIRS_MAX: usize = 32;
/// Packets that may be missing in a row; with more, the sender has begun elsewhere.
const GAP_MAX: i64 = 512;
/// How far back packets are remembered as missing.
const WINDOW: i64 = 1024;
/// Packets that may be missing at once, and how fast more may be: a stream of 100 Mbit/s at 10 %
/// loss. Where more are, resending them would not help.
const MISSING: Bucket = Bucket::new(1024, Duration::from_millis(1));
/// How often one packet is asked for.
const REQUESTS_MAX: u8 = 8;
/// A packet that is only late is not asked for.
const REORDERED_MAX: Duration = Duration::from_millis(10);
/// What is older than this is played no more.
const AGE_MAX: Duration = Duration::from_millis(1500);
/// The round trip until one is measured, and the shortest and longest time between two requests.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const AGAIN_MIN: Duration = Duration::from_millis(30);
const AGAIN_MAX: Duration = Duration::from_millis(400);

/// What the descriptions say about retransmission streams. Shared by the stack, which sets
/// descriptions, and the interceptor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats(Arc<Mutex<Negotiated>>);

#[derive(Debug, Default)]
struct Negotiated {
    /// Payload types of video.
    video: Vec<u8>,
    /// Payload type of a retransmission stream, and of the media that it repeats (`apt`).
    rtx: Vec<(u8, u8)>,
    /// SSRC of a retransmission stream, and of its media stream (`a=ssrc-group:FID`).
    pairs: BTreeMap<u32, u32>,
}

impl Formats {
    /// Those of an offer with these codecs.
    pub(crate) fn offered(codecs: &[Codec]) -> Self {
        let video = || codecs.iter().filter(|codec| codec.kind() == MediaKind::Video);
        let negotiated = Negotiated {
            video: video().map(|codec| codec.payload_type()).collect(),
            rtx: video()
                .filter_map(|codec| Some((codec.rtx_payload_type()?, codec.payload_type())))
                .collect(),
            pairs: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(negotiated)))
    }

    /// The other side offered: its payload types count.
    pub(crate) fn use_offer(&self, sdp: &str) {
        let mut negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        negotiated.video = video_formats(sdp);
        negotiated.rtx = rtx_formats(sdp);
    }

    /// A description of the other side's was set: it says which stream repeats which.
    pub(crate) fn described(&self, sdp: &str) {
        let mut negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        negotiated.pairs = pairs(sdp).take(PAIRS_MAX).collect();
    }

    fn meaning(&self, header: &rtc::rtp::Header) -> Meaning {
        let negotiated = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let payload_type = header.payload_type;
        if let Some((_, of)) = negotiated.rtx.iter().find(|(rtx, _)| *rtx == payload_type) {
            return Meaning::Rtx {
                payload_type: *of,
                ssrc: negotiated.pairs.get(&header.ssrc).copied(),
            };
        }
        if negotiated.video.contains(&payload_type) { Meaning::Video } else { Meaning::Other }
    }
}

/// What a packet is, by its payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// It repeats a packet with this payload type, of this stream where that was declared.
    Rtx {
        payload_type: u8,
        ssrc: Option<u32>,
    },
    Video,
    Other,
}

/// `a=rtpmap:97 rtx/90000` with `a=fmtp:97 apt=96;rtx-time=3000`
fn rtx_formats(sdp: &str) -> Vec<(u8, u8)> {
    let rtx: Vec<u8> = formats(sdp, "rtx").collect();
    let associated = |line: &str| {
        let (number, parameters) = line.trim_end().strip_prefix("a=fmtp:")?.split_once(' ')?;
        let number = number.parse().ok().filter(|number| rtx.contains(number))?;
        let apt = parameters.split(';').find_map(|p| p.trim().strip_prefix("apt="))?;
        Some((number, apt.parse().ok()?))
    };
    sdp.lines().filter_map(associated).collect()
}

/// The payload types of the video codecs that are known here.
fn video_formats(sdp: &str) -> Vec<u8> {
    let video = Codec::ALL.into_iter().filter(|codec| codec.kind() == MediaKind::Video);
    let mut found: Vec<u8> = video.flat_map(|codec| formats(sdp, codec.name())).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The payload types that are mapped to this encoding.
fn formats<'a>(sdp: &'a str, encoding: &'a str) -> impl Iterator<Item = u8> + 'a {
    sdp.lines().filter_map(move |line| {
        let (number, rest) = line.trim_end().strip_prefix("a=rtpmap:")?.split_once(' ')?;
        let name = rest.split('/').next()?;
        // A payload type has seven bits.
        let number = number.parse().ok().filter(|number: &u8| *number < 128)?;
        name.eq_ignore_ascii_case(encoding).then_some(number)
    })
}

/// `a=ssrc-group:FID 1 2` (RFC 5576): stream 2 repeats packets of stream 1.
fn pairs(sdp: &str) -> impl Iterator<Item = (u32, u32)> {
    sdp.lines().filter_map(|line| {
        let mut ssrcs = line.trim_end().strip_prefix("a=ssrc-group:FID ")?.split_whitespace();
        let media = ssrcs.next()?.parse().ok()?;
        Some((ssrcs.next()?.parse().ok()?, media))
    })
}

/// The interceptor.
pub(crate) struct Retransmissions {
    formats: Formats,
    streams: BTreeMap<u32, Stream>,
    /// Undeclared retransmission streams with their media streams, as derived from their packets.
    learned: VecDeque<(u32, u32)>,
    round_trip: Duration,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

/// A media stream.
#[derive(Debug)]
struct Stream {
    payload_type: u8,
    unwrapper: Unwrapper,
    first: i64,
    highest: i64,
    missing: BTreeMap<i64, Missing>,
    allowance: Bucket,
    last_packet: Instant,
}

/// A packet that has not come.
#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    requests: u8,
    asked: Option<Instant>,
    /// When to ask next; never, once that is of no use.
    next: Option<Instant>,
}

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// It came in its turn, or late.
    New,
    /// It was asked for, so long ago; `None` where it is unclear which request it answers.
    Requested(Option<Duration>),
    /// It has come before.
    Known,
}

impl Stream {
    fn new(payload_type: u8, seq: u16, at: Instant) -> Self {
        let mut unwrapper = Unwrapper::default();
        let first = unwrapper.unwrap(seq);
        Self {
            payload_type,
            unwrapper,
            first,
            highest: first,
            missing: BTreeMap::new(),
            allowance: MISSING,
            last_packet: at,
        }
    }

    fn take(&mut self, seq: u16, at: Instant) -> Arrival {
        let seq = self.unwrapper.unwrap(seq);
        if seq > self.highest {
            self.miss(self.highest + 1, seq, at);
            self.highest = seq;
            return Arrival::New;
        }
        match self.missing.remove(&seq) {
            Some(Missing { requests: 0, .. }) => Arrival::New,
            Some(Missing { requests: 1, asked: Some(asked), .. }) => {
                Arrival::Requested(Some(at.saturating_duration_since(asked)))
            }
            Some(_) => Arrival::Requested(None),
            // What came before the first, and what is long past, is not remembered.
            None if seq < self.first || seq <= self.highest - WINDOW => Arrival::New,
            None => Arrival::Known,
        }
    }

    /// Packets `from` to before `to` were skipped.
    fn miss(&mut self, from: i64, to: i64, at: Instant) {
        if from == to {
            return;
        }
        let count = u32::try_from(to - from).unwrap_or(u32::MAX);
        if to - from > GAP_MAX || !self.allowance.take_many(at, count) {
            self.missing.clear();
            self.first = to;
            return;
        }
        self.missing = self.missing.split_off(&(to - WINDOW));
        let next = Some(at + REORDERED_MAX);
        for seq in from..to {
            self.missing.insert(seq, Missing { since: at, requests: 0, asked: None, next });
        }
    }

    /// Whether a packet with this number has not come.
    fn lacks(&self, seq: u16) -> bool {
        let mut unwrapper = self.unwrapper;
        self.missing.contains_key(&unwrapper.unwrap(seq))
    }

    /// What to ask for now.
    fn due(&mut self, now: Instant, again: Duration) -> Vec<u16> {
        let mut due = Vec::new();
        for (seq, missing) in &mut self.missing {
            if missing.next.is_none_or(|next| next > now) {
                continue;
            }
            missing.next = None;
            if now.saturating_duration_since(missing.since) > AGE_MAX {
                continue;
            }
            missing.requests += 1;
            missing.asked = Some(now);
            if missing.requests < REQUESTS_MAX {
                missing.next = Some(now + again);
            }
            // The low 16 bits are the number on the wire.
            due.extend(u16::try_from(seq.rem_euclid(1 << 16)));
        }
        due
    }

    fn next(&self) -> Option<Instant> {
        self.missing.values().filter_map(|missing| missing.next).min()
    }
}

impl Retransmissions {
    pub(crate) fn new(formats: Formats) -> Self {
        Self {
            formats,
            streams: BTreeMap::new(),
            learned: VecDeque::new(),
            round_trip: ROUND_TRIP,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    /// The packet to pass on, if any.
    fn rtp(&mut self, mut packet: rtc::rtp::Packet, at: Instant) -> Option<rtc::rtp::Packet> {
        let (payload_type, ssrc) = match self.formats.meaning(&packet.header) {
            Meaning::Other => return Some(packet),
            Meaning::Video => {
                self.arrived(&packet.header, at);
                return Some(packet);
            }
            Meaning::Rtx { payload_type, ssrc } => (payload_type, ssrc),
        };
        // Without the original's number it is padding, sent to probe the path.
        let [high, low, ..] = packet.payload[..] else { return None };
        let seq = u16::from_be_bytes([high, low]);
        let ssrc = ssrc.or_else(|| self.repeated(packet.header.ssrc, payload_type, seq))?;
        packet.header.ssrc = ssrc;
        packet.header.payload_type = payload_type;
        packet.header.sequence_number = seq;
        packet.header.padding = false;
        packet.payload = packet.payload.slice(2..);
        (self.arrived(&packet.header, at) != Arrival::Known).then_some(packet)
    }

    fn arrived(&mut self, header: &rtc::rtp::Header, at: Instant) -> Arrival {
        let (ssrc, payload_type) = (header.ssrc, header.payload_type);
        let Some(stream) = self.streams.get_mut(&ssrc) else {
            if self.streams.len() >= STREAMS_MAX {
                let silent = self.streams.iter().min_by_key(|(_, stream)| stream.last_packet);
                if let Some(gone) = silent.map(|(ssrc, _)| *ssrc) {
                    self.streams.remove(&gone);
                }
            }
            self.streams.insert(ssrc, Stream::new(payload_type, header.sequence_number, at));
            return Arrival::New;
        };
        stream.payload_type = payload_type;
        stream.last_packet = at;
        let arrival = stream.take(header.sequence_number, at);
        if let Arrival::Requested(Some(took)) = arrival {
            self.round_trip = (self.round_trip * 7 + took) / 8;
        }
        arrival
    }

    /// The media stream that an undeclared retransmission stream repeats: the one that lacks this
    /// packet, or the only one with this payload type (RFC 4588, 5.3).
    fn repeated(&mut self, rtx: u32, payload_type: u8, seq: u16) -> Option<u32> {
        if let Some((_, media)) = self.learned.iter().find(|(known, _)| *known == rtx) {
            return Some(*media);
        }
        let of_type = || self.streams.iter().filter(|(_, s)| s.payload_type == payload_type);
        let mut lacking = of_type().filter(|(_, stream)| stream.lacks(seq));
        let media = match (lacking.next(), lacking.next()) {
            (Some((media, _)), None) => *media,
            (Some(_), Some(_)) => return None,
            (None, _) => match (of_type().next(), of_type().nth(1)) {
                (Some((media, _)), None) => *media,
                _ => return None,
            },
        };
        if self.learned.len() >= PAIRS_MAX {
            self.learned.pop_front();
        }
        self.learned.push_back((rtx, media));
        Some(media)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Retransmissions {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut msg: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(packet) = &mut msg.message.packet {
            let Some(passed) = self.rtp(std::mem::take(packet), msg.now) else { return Ok(()) };
            *packet = passed;
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Self::Error> {
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::Error> {
        let again = (self.round_trip * 3 / 2).clamp(AGAIN_MIN, AGAIN_MAX);
        for (media_ssrc, stream) in &mut self.streams {
            let due = stream.due(now, again);
            if due.is_empty() {
                continue;
            }
            let nack = TransportLayerNack {
                sender_ssrc: 0,
                media_ssrc: *media_ssrc,
                nacks: nack_pairs_from_sequence_numbers(&due),
            };
            self.write.push_back(TaggedPacket {
                now,
                transport: TransportContext::default(),
                message: AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)])),
            });
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.streams.values().filter_map(Stream::next).min()
    }
}

impl Interceptor for Retransmissions {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The packet `seq`, repeated.
    fn repeated(rtx_seq: u16, seq: u16) -> rtc::rtp::Packet {
        let mut payload = seq.to_be_bytes().to_vec();
        payload.extend(*b"media");
        packet(RTX, RTX_TYPE, rtx_seq, &payload)
    }

    /// An interceptor, and what it passes on and asks for.
    struct Receiver {
        inner: Retransmissions,
        now: Instant,
        /// Every sequence number asked for, with the time.
        asked: Vec<(Duration, u16)>,
        began: Instant,
    }

    impl Receiver {
        fn new() -> Self {
            let now = start();
            let inner = Retransmissions::new(Formats::offered(&[Codec::Vp8, Codec::Opus]));
            Self { inner, now, asked: Vec::new(), began: now }
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

        /// Lets time pass, as the stack's timers do.
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
                        self.asked.extend(seqs.map(|seq| (at, seq)));
                    }
                }
            }
            self.now = end;
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_repeated_packet_becomes_the_media_packet_that_was_lost() {
        let mut receiver = Receiver::new();
        for seq in [65_534, 65_535, 1] {
            assert_eq!(receiver.media(seq), 1);
        }
        receiver.wait(MS * 20);
        assert_eq!(receiver.asked, [(MS * 10, 0)]);
        let passed = receiver.take(repeated(7, 0));
        assert_eq!(passed, [packet(MEDIA, MEDIA_TYPE, 0, b"media")]);
        // It is there: neither asked for nor passed on again.
        receiver.wait(MS * 5000);
        assert_eq!(receiver.asked.len(), 1);
        assert_eq!(receiver.take(repeated(8, 0)), []);
        assert_eq!(receiver.take(repeated(9, 1)), [], "a repetition of what was not lost");
        assert_eq!(receiver.media(2), 1);
    }

    #[test]
    fn a_packet_that_never_comes_is_asked_for_a_few_times() {
        let mut receiver = Receiver::new();
        for seq in (0..2000).filter(|seq| seq % 100 != 50) {
            receiver.media(seq);
            receiver.wait(MS);
        }
        receiver.wait(MS * 10_000);
        assert_eq!(receiver.asked.len(), 20 * usize::from(REQUESTS_MAX));
        let first: Vec<_> = receiver.asked.iter().filter(|(_, seq)| *seq == 50).collect();
        let gaps = first.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.min().expect("some") >= ROUND_TRIP, "{first:?}");
        assert_eq!(receiver.inner.poll_timeout(), None, "nothing is waited for");
    }

    #[test]
    fn requests_follow_the_round_trip() {
        let mut receiver = Receiver::new();
        for seq in 0..200_u16 {
            receiver.media(seq * 2);
            receiver.wait(MS * 10);
            receiver.wait(MS * 40);
            // Answered after 40 ms, which is 50 ms after it was missed.
            if seq > 0 {
                receiver.take(repeated(seq, seq * 2 - 1));
            }
        }
        let round_trip = receiver.inner.round_trip;
        assert!(round_trip > MS * 30 && round_trip < MS * 50, "{round_trip:?}");
        assert_eq!(receiver.asked.len(), 199, "each once");
    }

    #[test]
    fn late_packets_are_not_asked_for() {
        let mut receiver = Receiver::new();
        for pair in 0..1000_u16 {
            receiver.media(pair * 2 + 1);
            receiver.wait(MS * 5);
            assert_eq!(receiver.media(pair * 2), 1);
            receiver.wait(MS * 5);
        }
        assert_eq!(receiver.asked, []);
    }

    #[test]
    fn what_is_missing_is_bounded() {
        let mut receiver = Receiver::new();
        // A jump of the sender's.
        receiver.media(0);
        receiver.media(20_000);
        receiver.wait(MS * 10_000);
        assert_eq!(receiver.asked, []);
        // Each gap as wide as it may be.
        let mut seq = 20_000_u16;
        for _ in 0..100 {
            seq = seq.wrapping_add(512);
            receiver.media(seq);
            let stream = &receiver.inner.streams[&MEDIA];
            assert!(i64::try_from(stream.missing.len()).expect("few") <= WINDOW);
        }
        // A sender that leaves gaps all the time.
        for _ in 0..10_000 {
            seq = seq.wrapping_add(100);
            receiver.media(seq);
            receiver.wait(MS);
        }
        let a_second = 1000 * usize::from(REQUESTS_MAX);
        assert!(receiver.asked.len() < 12 * a_second, "{}", receiver.asked.len());
        for ssrc in 0..1000 {
            receiver.take(packet(ssrc, MEDIA_TYPE, 1, b""));
            receiver.take(packet(10_000 + ssrc, RTX_TYPE, 1, &[0, 5, 1]));
        }
        assert!(receiver.inner.streams.len() <= STREAMS_MAX);
        assert!(receiver.inner.learned.len() <= PAIRS_MAX);
    }

    #[test]
    fn the_stream_that_lacks_the_packet_is_the_one_repeated() {
        let mut receiver = Receiver::new();
        let other = 300;
        for seq in [1, 2, 3, 4] {
            receiver.take(packet(other, MEDIA_TYPE, seq, b"media"));
            if seq != 2 {
                receiver.media(seq);
            }
        }
        // Both have this one, so nothing says whose it is.
        assert_eq!(receiver.take(repeated(1, 3)), []);
        assert_eq!(receiver.take(repeated(2, 2))[0].header.ssrc, MEDIA);
        // Now it is known.
        receiver.media(6);
        assert_eq!(receiver.take(repeated(3, 5))[0].header.ssrc, MEDIA);
        // A description decides before all that.
        receiver.inner.formats.described("a=ssrc-group:FID 300 200\r\n");
        receiver.take(packet(other, MEDIA_TYPE, 6, b"media"));
        assert_eq!(receiver.take(repeated(4, 5))[0].header.ssrc, other);
    }

    #[test]
    fn padding_and_other_media_are_left_alone() {
        let mut receiver = Receiver::new();
        receiver.media(1);
        for probe in [&[][..], &[1]] {
            assert_eq!(receiver.take(packet(RTX, RTX_TYPE, 1, probe)), []);
        }
        let sound = Codec::Opus.payload_type();
        assert_eq!(receiver.take(packet(9, sound, 1, b"x")).len(), 1);
        assert_eq!(receiver.take(packet(9, sound, 5, b"x")).len(), 1);
        receiver.wait(MS * 1000);
        assert_eq!(receiver.asked, [], "sound is not asked for again");
        // An original with an empty payload.
        receiver.media(3);
        assert_eq!(receiver.take(packet(RTX, RTX_TYPE, 1, &[0, 2])).len(), 1);
    }

    #[test]
    fn formats_are_read_from_an_offer() {
        let offer = "m=video 9 UDP/TLS/RTP/SAVPF 120 121 122\r\na=rtpmap:120 vp8/90000\r\n\
            a=rtpmap:121 RTX/90000\r\na=fmtp:121 rtx-time=3000; apt=120\r\n\
            a=rtpmap:122 red/90000\r\na=fmtp:122 apt=1\r\na=rtpmap:300 rtx/90000\r\n\
            a=fmtp:111 minptime=10\r\na=ssrc-group:FID 7 8\r\na=ssrc-group:FID x 8\r\n\
            a=ssrc-group:SIM 1 2\r\na=ssrc-group:FID 9\r\n";
        assert_eq!((video_formats(offer), rtx_formats(offer)), (vec![120], vec![(121, 120)]));
        assert_eq!(pairs(offer).collect::<Vec<_>>(), [(8, 7)]);
    }
}
