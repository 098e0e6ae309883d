//! Received packets: sorted into streams, counted, assembled into frames, and handed to the
//! application.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use encoded_frames::{Frame, FrameAssembler};
use negotiation_core::{MediaKind, MediaProblem, PeerId};

use crate::codec::Codec;
use crate::mailbox::Mailbox;
use crate::media::MediaEvent;
use crate::stats::Counters;
use crate::tap::{Control, RtpArrival};

/// Streams followed at once; a further one takes the place of that of its kind that was silent for
/// longest.
const STREAMS_MAX: usize = 32;
/// Streams that may begin at once; then one each [`BEGIN_EVERY`]. A camera takes a new SSRC with
/// each restart of its encoder, and nobody makes up so many for good.
const BEGIN_MAX: u32 = 32;
const BEGIN_EVERY: Duration = Duration::from_secs(1);
/// Sender reports are told this often at most.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A keyframe is requested this often at most while no frame can be decoded without one.
const REQUEST_EVERY: Duration = Duration::from_secs(1);

/// So many packets of another payload type, and none that was negotiated, are no accident.
const UNOFFERED_MIN: u32 = 10;
/// So many whole pictures without a keyframe before them, and the sender may never send one.
const WITHOUT_KEYFRAME_MIN: u64 = 5;

/// What all peer connections of a port have in common, so that the application sees one time line.
#[derive(Clone, Debug)]
pub(crate) struct MediaClock {
    /// Arrival times count from here.
    origin: Instant,
    /// The next epoch of a frame: no two sources share one.
    epochs: Arc<AtomicU32>,
}

impl MediaClock {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, epochs: Arc::default() }
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }
}

/// What is received in one peer connection.
pub(crate) struct Received {
    peer: PeerId,
    payload_types: Vec<(u8, Codec)>,
    media: Arc<Mailbox<MediaEvent>>,
    clock: MediaClock,
    /// The application asked for the packets too.
    rtp_events: bool,
    streams: BTreeMap<u32, Stream>,
    /// One assembler of each kind, which follows the kind's current source.
    assemblies: BTreeMap<MediaKind, Assembly>,
    beginnings: Allowance,
    flowing: BTreeSet<MediaKind>,
    has_key: bool,
    /// H.264 parameter sets that the other side's description announces.
    parameter_sets: Vec<Bytes>,
    /// Packets of a payload type that was not negotiated.
    unoffered: u32,
    problem: Option<MediaProblem>,
    requested: Option<Instant>,
    last: Option<Instant>,
    /// Packets came, and stopped coming.
    stalled: bool,
    reported: Option<Instant>,
}

struct Stream {
    codec: Codec,
    heard: Instant,
    /// The application was told that it began; before that, it gets nothing of it.
    told: bool,
}

/// The frames of one kind of media.
struct Assembly {
    codec: Codec,
    assembler: FrameAssembler,
    /// The assembler's epoch, and the port's that stands for it.
    epoch: Option<(u32, u32)>,
    /// The application missed a frame, so that what refers to it is of no use.
    skipping: bool,
    /// What the counters have of the assembler's losses.
    lost: u64,
    dropped: u64,
}

impl Assembly {
    fn new(codec: Codec, encoded: encoded_frames::Codec, parameter_sets: &[Bytes]) -> Self {
        let mut assembler = FrameAssembler::new(encoded);
        assembler.add_parameter_sets(parameter_sets);
        Self { codec, assembler, epoch: None, skipping: false, lost: 0, dropped: 0 }
    }

    /// The next frame, with the port's epoch.
    fn pop(&mut self, clock: &MediaClock) -> Option<Frame> {
        let mut frame = self.assembler.pop()?;
        let epoch = match self.epoch {
            Some((local, epoch)) if local == frame.epoch => epoch,
            Some(_) | None => {
                let epoch = clock.epochs.fetch_add(1, Ordering::Relaxed);
                self.epoch = Some((frame.epoch, epoch));
                epoch
            }
        };
        frame.epoch = epoch;
        Some(frame)
    }
}

/// How many streams began of late.
#[derive(Default)]
struct Allowance {
    used: u32,
    /// Since when less is used again.
    since: Option<Instant>,
}

impl Allowance {
    fn is_left(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since).as_secs() / BEGIN_EVERY.as_secs();
        let back = u32::try_from(elapsed).unwrap_or(u32::MAX);
        self.used = self.used.saturating_sub(back);
        self.since = Some(if self.used == 0 { now } else { since + BEGIN_EVERY * back });
        self.used < BEGIN_MAX
    }
}

/// What a packet changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The first packet of this kind.
    pub(crate) flowing: Option<MediaKind>,
    /// The first keyframe.
    pub(crate) keyframe: bool,
    /// After a loss, no picture can be decoded before a keyframe comes: the sender is to be asked.
    pub(crate) request: bool,
    /// Why no picture can be assembled.
    pub(crate) problem: Option<MediaProblem>,
}

impl Received {
    /// `codecs` are those offered: packets come with the payload types that our offer gave out.
    pub(crate) fn new(
        peer: PeerId,
        codecs: &[Codec],
        media: Arc<Mailbox<MediaEvent>>,
        clock: MediaClock,
        rtp_events: bool,
    ) -> Self {
        Self {
            peer,
            payload_types: codecs.iter().map(|codec| (codec.payload_type(), *codec)).collect(),
            media,
            clock,
            rtp_events,
            streams: BTreeMap::new(),
            assemblies: BTreeMap::new(),
            beginnings: Allowance::default(),
            flowing: BTreeSet::new(),
            has_key: false,
            parameter_sets: Vec::new(),
            unoffered: 0,
            problem: None,
            requested: None,
            last: None,
            stalled: false,
            reported: None,
        }
    }

    /// The other side offered: its payload types count.
    pub(crate) fn use_payload_types(&mut self, offered: Vec<(u8, Codec)>) {
        let known: BTreeSet<Codec> = self.payload_types.iter().map(|(_, codec)| *codec).collect();
        self.payload_types =
            offered.into_iter().filter(|(_, codec)| known.contains(codec)).collect();
    }

    /// The other side answered: its payload types count, and those of our offer that have no other
    /// meaning in the answer.
    pub(crate) fn add_payload_types(&mut self, mut answered: Vec<(u8, Codec)>) {
        for (number, codec) in std::mem::take(&mut self.payload_types) {
            if answered.iter().all(|(known, _)| *known != number) {
                answered.push((number, codec));
            }
        }
        self.payload_types = answered;
    }

    /// The other side's description announces parameter sets (`sprop-parameter-sets`), which may never come
    /// with the stream.
    pub(crate) fn use_parameter_sets(&mut self, sets: Vec<Bytes>) {
        if let Some(video) = self.assemblies.get_mut(&MediaKind::Video) {
            video.assembler.add_parameter_sets(&sets);
        }
        self.parameter_sets = sets;
    }

    pub(crate) fn take(&mut self, arrival: RtpArrival, counters: &mut Counters) -> News {
        let RtpArrival { packet, at } = arrival;
        let mut news = News::default();
        let of_packet = |(number, _): &&(u8, Codec)| *number == packet.header.payload_type;
        let Some((_, codec)) = self.payload_types.iter().find(of_packet).copied() else {
            self.unoffered = self.unoffered.saturating_add(1);
            news.problem = self.changed_problem();
            return news;
        };
        let (ssrc, kind, peer) = (packet.header.ssrc, codec.kind(), self.peer);
        // Media comes, whatever becomes of this packet.
        self.last = Some(at);
        self.stalled = false;
        if self.flowing.insert(kind) {
            news.flowing = Some(kind);
        }
        if let Some(stream) = self.streams.get_mut(&ssrc).filter(|stream| stream.codec == codec) {
            stream.heard = at;
        } else if !self.begin(ssrc, codec, at, counters) {
            // Also a codec that changes to and fro is a new beginning each time.
            return news;
        }
        counters.count(kind, codec, &packet, at);
        let Some(stream) = self.streams.get_mut(&ssrc) else { return news };
        // Where it cannot be told, what is received is lost, and counted in its place.
        stream.told =
            stream.told || self.media.offer(MediaEvent::Track { peer, ssrc, kind, codec });
        if stream.told && self.rtp_events {
            let packet = packet.clone();
            self.media.offer(MediaEvent::Rtp { peer, kind, packet, at });
        }
        let encoded = codec.encoded();
        let new = || Assembly::new(codec, encoded, &self.parameter_sets);
        let assembly = self.assemblies.entry(kind).or_insert_with(new);
        if assembly.codec != codec {
            *assembly = new();
        }
        assembly.assembler.push(self.clock.since(at), packet);
        self.hand_over(kind, at, counters, &mut news);
        news
    }

    /// Time passed without a packet: gives up what was waited for too long.
    pub(crate) fn advance(&mut self, now: Instant, counters: &mut Counters) -> News {
        let mut news = News::default();
        for kind in [MediaKind::Video, MediaKind::Audio] {
            if let Some(assembly) = self.assemblies.get_mut(&kind) {
                assembly.assembler.advance(self.clock.since(now));
                self.hand_over(kind, now, counters, &mut news);
            }
        }
        news
    }

    /// Gives whole frames to the application.
    fn hand_over(
        &mut self,
        kind: MediaKind,
        now: Instant,
        counters: &mut Counters,
        news: &mut News,
    ) {
        let Some(assembly) = self.assemblies.get_mut(&kind) else { return };
        let codec = assembly.codec;
        while let Some(frame) = assembly.pop(&self.clock) {
            let ssrc = frame.ssrc;
            counters.frame(kind, &frame, self.clock.origin + frame.completed);
            let told = self.streams.get(&ssrc).is_some_and(|stream| stream.told);
            assembly.skipping &= !frame.keyframe;
            if told && !assembly.skipping {
                let (peer, at) = (self.peer, self.clock.origin + frame.completed);
                let bytes = frame.data.len();
                let event = MediaEvent::Frame { peer, kind, codec, frame, at };
                assembly.skipping = !self.media.offer_sized(event, bytes);
            } else {
                // The beginning that could not be told is counted itself.
                assembly.skipping = true;
                if told {
                    self.media.count_lost();
                }
            }
        }
        let stats = assembly.assembler.stats();
        let (lost, dropped) = (stats.lost, stats.frames_dropped);
        if kind == MediaKind::Video && !self.has_key && stats.first_keyframe_at.is_some() {
            self.has_key = true;
            news.keyframe = true;
        }
        if let Some(ssrc) = assembly.assembler.ssrc() {
            counters.lose(kind, ssrc, lost - assembly.lost, dropped - assembly.dropped);
        }
        (assembly.lost, assembly.dropped) = (lost, dropped);
        // Sound refers to nothing: the next packet of it is decodable.
        let broken = kind == MediaKind::Video
            && (assembly.skipping || (self.has_key && assembly.assembler.needs_keyframe()));
        let due =
            self.requested.is_none_or(|at| now.saturating_duration_since(at) >= REQUEST_EVERY);
        // Before the first keyframe the session itself asks.
        if broken && self.has_key && due {
            self.requested = Some(now);
            news.request = true;
        }
        if kind == MediaKind::Video {
            news.problem = self.changed_problem();
        }
    }

    /// Why no picture can be assembled, if that is established and was not reported.
    fn changed_problem(&mut self) -> Option<MediaProblem> {
        let problem = self.current_problem().filter(|problem| self.problem != Some(*problem))?;
        self.problem = Some(problem);
        Some(problem)
    }

    fn current_problem(&self) -> Option<MediaProblem> {
        if self.has_key {
            return None;
        }
        let Some(video) = self.assemblies.get(&MediaKind::Video) else {
            return (self.unoffered >= UNOFFERED_MIN).then_some(MediaProblem::UnofferedPayloadType);
        };
        let stats = video.assembler.stats();
        if stats.without_parameter_sets > 0 {
            Some(MediaProblem::NoParameterSets)
        } else if stats.without_keyframe >= WITHOUT_KEYFRAME_MIN && !stats.keyframe_seen {
            Some(MediaProblem::NoKeyframe)
        } else if stats.lost > 0 && stats.frames_dropped > 0 {
            Some(MediaProblem::PacketLoss)
        } else {
            None
        }
    }

    /// Whether a further stream may begin.
    fn begin(&mut self, ssrc: u32, codec: Codec, at: Instant, counters: &mut Counters) -> bool {
        if !self.beginnings.is_left(at) {
            return false;
        }
        self.beginnings.used += 1;
        let kind = codec.kind();
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&ssrc) {
            let silent =
                |(_, stream): &(&u32, &Stream)| (stream.codec.kind() != kind, stream.heard);
            if let Some(gone) = self.streams.iter().min_by_key(silent).map(|(gone, _)| *gone) {
                self.streams.remove(&gone);
                counters.forget(gone);
            }
        }
        self.streams.insert(ssrc, Stream { codec, heard: at, told: false });
        true
    }

    /// Whether it is a sign of life that the session wants to know of: reports, while no media
    /// comes, and not each of them.
    pub(crate) fn control(&mut self, control: Control) -> bool {
        match control {
            Control::SenderReport { ssrc, ntp, rtp, at } => {
                let Some(stream) = self.streams.get(&ssrc) else { return false };
                if stream.told {
                    let peer = self.peer;
                    self.media.offer(MediaEvent::SenderReport { peer, ssrc, ntp, rtp, at });
                }
                let due = self
                    .reported
                    .is_none_or(|told| at.saturating_duration_since(told) >= REPORT_EVERY);
                if self.stalled && due {
                    self.reported = Some(at);
                }
                self.stalled && due
            }
            // The application's own track begins anew when the application sees fit.
            Control::KeyframeRequest { .. } | Control::Bye { .. } => false,
        }
    }

    pub(crate) fn has_key(&self) -> bool {
        self.has_key
    }

    /// The SSRC that pictures come with now.
    pub(crate) fn source(&self) -> Option<u32> {
        self.assemblies.get(&MediaKind::Video)?.assembler.ssrc()
    }

    /// Whether packets of any kind come.
    pub(crate) fn is_flowing(&self) -> bool {
        self.last.is_some()
    }

    /// When the last packet came, if packets have just stopped coming. The next one of a kind is
    /// news again.
    pub(crate) fn stalled_since(&mut self, now: Instant, limit: Duration) -> Option<Instant> {
        let since = self.last.take_if(|last| now.saturating_duration_since(*last) >= limit);
        if since.is_some() {
            self.stalled = true;
            self.flowing.clear();
        }
        since
    }

    /// Nothing follows: gives the application what is whole, and the sums.
    pub(crate) fn end(&mut self, now: Instant, counters: &mut Counters) {
        self.flush(now, counters);
        self.media.push(MediaEvent::Ended { peer: self.peer, totals: counters.totals() });
    }

    /// No packet comes any more, as far as it shows: what is whole is given to the application.
    pub(crate) fn flush(&mut self, now: Instant, counters: &mut Counters) -> News {
        let mut news = News::default();
        for kind in [MediaKind::Video, MediaKind::Audio] {
            if let Some(assembly) = self.assemblies.get_mut(&kind) {
                assembly.assembler.flush();
                self.hand_over(kind, now, counters, &mut news);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: News =
        News { flowing: Some(MediaKind::Video), keyframe: false, request: false, problem: None };

    fn arrival(ssrc: u32, payload_type: u8, seq: u16, at: Instant) -> RtpArrival {
        let header = rtc::rtp::Header {
            ssrc,
            payload_type,
            sequence_number: seq,
            marker: true,
            ..Default::default()
        };
        // A VP8 keyframe of 320 x 240 in one packet.
        let payload = [0x10, 0x30, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 0x00];
        RtpArrival { packet: rtc::rtp::Packet { header, payload: payload.to_vec().into() }, at }
    }

    fn received(
        peer: u32,
        codecs: &[Codec],
        media: &Arc<Mailbox<MediaEvent>>,
        start: Instant,
    ) -> Received {
        Received::new(PeerId(peer), codecs, Arc::clone(media), MediaClock::new(start), false)
    }

    #[tokio::test]
    async fn each_packet_of_g711_is_a_frame() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        for codec in [Codec::Pcmu, Codec::Pcma] {
            let media = Arc::new(Mailbox::new(1000));
            let mut received = received(1, &[Codec::Opus, Codec::Pcmu, Codec::Pcma], &media, start);
            let mut counters = Counters::default();
            received.take(arrival(1, codec.payload_type(), 1, start), &mut counters);
            let track = media.next().await;
            assert!(matches!(track, Some(MediaEvent::Track { codec: told, .. }) if told == codec));
            let Some(MediaEvent::Frame { kind, frame, .. }) = media.next().await else {
                panic!("no frame of {codec:?}");
            };
            assert_eq!(
                (kind, frame.codec, frame.data.len()),
                (MediaKind::Audio, codec.encoded(), 12)
            );
        }
    }

    #[tokio::test]
    async fn firsts_are_news_once_and_streams_are_bounded() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(1000));
        let mut received = received(1, &[Codec::Vp8], &media, start);
        let mut counters = Counters::default();
        let first = received.take(arrival(1, 96, 1, start), &mut counters);
        assert_eq!(first, VIDEO);
        // One packet with a mark is no proof that the next one is none of its picture.
        let second = received.take(arrival(1, 96, 2, start), &mut counters);
        assert_eq!(second, News { keyframe: true, ..News::default() });
        assert_eq!(received.take(arrival(1, 96, 3, start), &mut counters), News::default());
        // Not offered.
        assert_eq!(received.take(arrival(2, 50, 1, start), &mut counters), News::default());
        for ssrc in 0..200 {
            received.take(arrival(ssrc, 96, 1, start), &mut counters);
        }
        assert_eq!((received.streams.len(), counters.snapshot(start).len()), (32, 32));
        let mut stalled = |after| {
            received.stalled_since(start + Duration::from_secs(after), Duration::from_secs(2))
        };
        assert_eq!([stalled(0), stalled(2), stalled(3)], [None, Some(start), None]);
        let report = |after| {
            let at = start + Duration::from_millis(after);
            Control::SenderReport { ssrc: 1, ntp: 0, rtp: 0, at }
        };
        let told = [0, 999, 1000, 1500, 2100].map(|after| received.control(report(after)));
        assert_eq!(told, [true, false, true, false, true], "at most one a second");
        let again = received.take(arrival(1, 96, 4, start), &mut counters);
        assert!(!received.control(report(9000)), "media flows: nobody asks");
        assert_eq!(again, VIDEO);
        assert!(matches!(media.next().await, Some(MediaEvent::Track { ssrc: 1, .. })));
        assert!(matches!(media.next().await, Some(MediaEvent::Frame { .. })));
    }

    /// A camera may run for hours and take a new SSRC with each restart of its encoder.
    #[tokio::test]
    async fn each_new_source_takes_the_place_of_the_one_that_was_silent_for_longest() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(10_000));
        let codecs = [Codec::Vp8, Codec::Opus];
        let mut received = received(1, &codecs, &media, start);
        let mut counters = Counters::default();
        for n in 0..100 {
            let at = start + Duration::from_secs(60) * n;
            received.take(arrival(7, Codec::Opus.payload_type(), 1, start), &mut counters);
            received.take(arrival(1000 + n, 96, 1, at), &mut counters);
            assert!(received.streams.contains_key(&(1000 + n)), "{n}");
            assert_eq!(received.stalled_since(at, Duration::from_secs(2)), None, "{n}");
        }
        assert!(received.streams.contains_key(&7), "no picture takes the place of sound");
        let counted = counters.snapshot(start).into_iter().map(|stream| stream.ssrc);
        assert!(counted.eq(received.streams.keys().copied()), "those that are followed");
        // Made up ones are not followed, and are no silence either.
        let at = start + Duration::from_secs(60) * 100;
        for ssrc in 5000..6000 {
            received.take(arrival(ssrc, 96, 1, at), &mut counters);
        }
        let begun = |n| received.streams.contains_key(&n);
        assert_eq!((5000..6000).filter(|n| begun(*n)).count(), STREAMS_MAX - 1);
        let after = at + Duration::from_secs(3);
        for ssrc in 6000..6010 {
            received.take(arrival(ssrc, 96, 1, after), &mut counters);
        }
        let begun = |n: &u32| received.streams.contains_key(n);
        assert_eq!((6000..6010).filter(begun).count(), 3, "one a second");
        let limit = Duration::from_secs(2);
        assert_eq!(received.stalled_since(after + limit / 2, limit), None);
    }

    /// An application that takes no media does not keep a session from going live, and what it takes
    /// in the end begins with the beginning.
    #[tokio::test]
    async fn a_full_mailbox_costs_the_application_packets_and_nobody_else_anything() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(1));
        media.push(MediaEvent::Ended { peer: PeerId(1), totals: Default::default() });
        let mut received = received(2, &[Codec::Vp8], &media, start);
        let mut counters = Counters::default();
        let first = received.take(arrival(1, 96, 1, start), &mut counters);
        assert_eq!(first, VIDEO);
        received.take(arrival(2, 96, 1, start), &mut counters);
        let report = Control::SenderReport { ssrc: 2, ntp: 0, rtp: 0, at: start };
        received.control(report);
        assert_eq!(received.source(), Some(2), "whoever asks for a keyframe asks the new source");
        assert_eq!(counters.snapshot(start).len(), 2);
        assert_eq!(media.lost(), 2, "a packet each");
        assert!(matches!(media.next().await, Some(MediaEvent::Ended { .. })));
        received.control(report);
        received.take(arrival(2, 96, 2, start), &mut counters);
        let track = media.next().await;
        assert!(matches!(track, Some(MediaEvent::Track { ssrc: 2, .. })), "{track:?}");
        received.take(arrival(2, 96, 3, start), &mut counters);
        let packet = media.next().await;
        assert!(matches!(packet, Some(MediaEvent::Frame { .. })), "told once: {packet:?}");
        assert_eq!(media.lost(), 3, "there was room for the track alone");
    }

    fn problems(payloads: &[(u8, &[u8])], sets: Vec<Bytes>) -> (Vec<MediaProblem>, bool) {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(1000));
        let mut received = received(1, &[Codec::H264], &media, start);
        received.use_parameter_sets(sets);
        let (mut counters, mut problems, mut live) = (Counters::default(), Vec::new(), false);
        for (index, (payload_type, payload)) in payloads.iter().enumerate() {
            let index = u16::try_from(index).expect("few");
            let at = start + Duration::from_millis(40) * u32::from(index);
            let mut arrival = arrival(1, *payload_type, index, at);
            if payload.is_empty() {
                continue;
            }
            arrival.packet.header.timestamp = u32::from(index) * 3600;
            arrival.packet.payload = payload.to_vec().into();
            let news = received.take(arrival, &mut counters);
            problems.extend(news.problem);
            live |= news.keyframe;
        }
        let news = received.advance(start + Duration::from_secs(60), &mut counters);
        problems.extend(news.problem);
        (problems, live || news.keyframe)
    }

    const P_SLICE: (u8, &[u8]) = (102, &[0x41, 0xe0, 0x20, 0x80]);
    const IDR: (u8, &[u8]) = (102, &[0x65, 0xb8, 0x40, 0x80]);
    /// Constrained baseline, 320 x 240, and a picture parameter set.
    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x0d, 0xda, 0x05, 0x07, 0xe4];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    #[test]
    fn the_reason_why_there_is_no_picture_is_reported() {
        let none = Vec::new();
        let other_type = [(50, P_SLICE.1); 30];
        assert_eq!(
            problems(&other_type, none.clone()),
            (vec![MediaProblem::UnofferedPayloadType], false)
        );
        assert_eq!(problems(&[P_SLICE; 30], none.clone()), (vec![MediaProblem::NoKeyframe], false));
        let without_sets = [[IDR; 1].as_slice(), &[P_SLICE; 30]].concat();
        assert_eq!(
            problems(&without_sets, none.clone()),
            (vec![MediaProblem::NoParameterSets], false)
        );
        // Every keyframe's second half is lost.
        let fragment: (u8, &[u8]) = (102, &[0x7c, 0x85, 0xb8, 0x40]);
        let lost = [(102, SPS), (102, PPS), fragment, (102, &[]), P_SLICE, P_SLICE].repeat(5);
        assert_eq!(problems(&lost, none), (vec![MediaProblem::PacketLoss], false));
        // The answer has the sets.
        let sets = vec![Bytes::from_static(SPS), Bytes::from_static(PPS)];
        assert_eq!(problems(&without_sets, sets), (vec![], true));
    }
}
