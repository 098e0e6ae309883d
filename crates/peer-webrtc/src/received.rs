//! Received packets: sorted into streams, counted, assembled into frames, and handed to the
//! application.

mod assembly;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use negotiation_core::{MediaKind, MediaProblem, PeerId};

use crate::codec::Codec;
use crate::mailbox::Mailbox;
use crate::media::MediaEvent;
use crate::stats::Counters;
use crate::tap::{Control, RtpArrival};
use assembly::Assembly;
pub(crate) use assembly::MediaClock;

/// Streams followed at once; a further one takes the place of that of its kind that was silent for
/// longest.
const STREAMS_MAX: usize = 32;
/// Streams that may begin at once; then one each [`BEGIN_EVERY`]. A camera takes a new SSRC with
/// each restart of its encoder, and no encoder uses so many.
const BEGIN_MAX: u32 = 32;
const BEGIN_EVERY: Duration = Duration::from_secs(1);
/// Sender reports are passed on this often at most.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A keyframe is requested this often at most while no frame can be decoded without one.
const REQUEST_EVERY: Duration = Duration::from_secs(1);

/// So many packets of another payload type, and none that was negotiated, are no accident.
const UNOFFERED_MIN: u32 = 10;
/// So many whole pictures without a keyframe before them, and the sender may never send one.
const WITHOUT_KEYFRAME_MIN: u64 = 5;

/// What is received in one peer connection.
pub(crate) struct Received {
    peer: PeerId,
    payload_types: Vec<(u8, Codec)>,
    media: Arc<Mailbox<MediaEvent>>,
    clock: MediaClock,
    /// The application requested the packets too.
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
    received_at: Instant,
    /// Whether its beginning was reported; before that, the application gets nothing of it.
    announced: bool,
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
    /// After a loss, no picture can be decoded before a keyframe arrives, so one has to be requested.
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
            stream.received_at = at;
        } else if !self.begin(ssrc, codec, at, counters) {
            // Also a codec that changes to and fro is a new beginning each time.
            return news;
        }
        counters.count(kind, codec, &packet, at);
        let Some(stream) = self.streams.get_mut(&ssrc) else { return news };
        // Where the begin cannot be reported, what is received is lost, and counted in its place.
        stream.announced =
            stream.announced || self.media.offer(MediaEvent::Track { peer, ssrc, kind, codec });
        if stream.announced && self.rtp_events {
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
            let announced = self.streams.get(&ssrc).is_some_and(|stream| stream.announced);
            assembly.skipping &= !frame.keyframe;
            if announced && !assembly.skipping {
                let (peer, at) = (self.peer, self.clock.origin + frame.completed);
                let bytes = frame.data.len();
                let event = MediaEvent::Frame { peer, kind, codec, frame, at };
                assembly.skipping = !self.media.offer_sized(event, bytes);
            } else {
                // The begin that could not be reported is counted itself.
                assembly.skipping = true;
                if announced {
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
        // Before the first keyframe the session itself requests one.
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
                |(_, stream): &(&u32, &Stream)| (stream.codec.kind() != kind, stream.received_at);
            if let Some(gone) = self.streams.iter().min_by_key(silent).map(|(gone, _)| *gone) {
                self.streams.remove(&gone);
                counters.forget(gone);
            }
        }
        self.streams.insert(ssrc, Stream { codec, received_at: at, announced: false });
        true
    }

    /// Whether it is a sign of life that the session wants to know of: reports, while no media
    /// comes, and not each of them.
    pub(crate) fn control(&mut self, control: Control) -> bool {
        match control {
            Control::SenderReport { ssrc, ntp, rtp, at } => {
                let Some(stream) = self.streams.get(&ssrc) else { return false };
                if stream.announced {
                    let peer = self.peer;
                    self.media.offer(MediaEvent::SenderReport { peer, ssrc, ntp, rtp, at });
                }
                let due = self
                    .reported
                    .is_none_or(|last| at.saturating_duration_since(last) >= REPORT_EVERY);
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
mod tests;
