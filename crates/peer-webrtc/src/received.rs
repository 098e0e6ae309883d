//! Received packets: sorted into streams, counted, assembled into frames, and passed to the
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

/// The most streams followed at once. A further one replaces the stream of its kind that has been
/// silent longest.
const STREAMS_MAX: usize = 32;
/// The most streams that may begin at once; after that, one each [`BEGIN_EVERY`]. A camera takes a
/// new SSRC with each restart of its encoder, and no encoder uses so many.
const BEGIN_MAX: u32 = 32;
const BEGIN_EVERY: Duration = Duration::from_secs(1);
/// The shortest interval between two reported sender reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// The shortest interval between two keyframe requests while no frame can be decoded without one.
const REQUEST_EVERY: Duration = Duration::from_secs(1);

/// This many packets of unoffered payload types, and no video of a negotiated one, indicate a
/// wrong payload type.
const UNOFFERED_MIN: u32 = 10;
/// After this many complete pictures without a keyframe before them, the sender may never send
/// one.
const WITHOUT_KEYFRAME_MIN: u64 = 5;

/// The received media of one peer connection.
pub(crate) struct Received {
    peer: PeerId,
    payload_types: Vec<(u8, Codec)>,
    media: Arc<Mailbox<MediaEvent>>,
    clock: MediaClock,
    /// Whether the application also requested the packets.
    rtp_events: bool,
    streams: BTreeMap<u32, Stream>,
    /// One assembler for each kind, which follows the kind's current source.
    assemblies: BTreeMap<MediaKind, Assembly>,
    beginnings: Allowance,
    flowing: BTreeSet<MediaKind>,
    has_key: bool,
    /// H.264 parameter sets in the remote description.
    parameter_sets: Vec<Bytes>,
    /// The number of packets with a payload type that was not negotiated.
    unoffered: u32,
    problem: Option<MediaProblem>,
    requested: Option<Instant>,
    last: Option<Instant>,
    /// Whether packets came and then stopped.
    stalled: bool,
    reported: Option<Instant>,
}

struct Stream {
    codec: Codec,
    received_at: Instant,
    /// Whether the start of the stream was reported; before that, the application gets nothing of
    /// it.
    announced: bool,
}

/// Limits how many streams may begin.
#[derive(Default)]
struct Allowance {
    used: u32,
    /// The time from which `used` decreases.
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

/// Changes caused by a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The kind of media that begins to flow with this packet.
    pub(crate) flowing: Option<MediaKind>,
    /// Whether this was the first keyframe.
    pub(crate) keyframe: bool,
    /// Whether a keyframe must be requested, because after a loss no picture can be decoded
    /// without one.
    pub(crate) request: bool,
    /// Why no picture can be assembled.
    pub(crate) problem: Option<MediaProblem>,
}

impl Received {
    /// Creates an empty receiver. `codecs` are those offered: packets come with the payload types
    /// of our offer.
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

    /// Uses the payload types of the remote offer.
    pub(crate) fn use_payload_types(&mut self, offered: Vec<(u8, Codec)>) {
        let known: BTreeSet<Codec> = self.payload_types.iter().map(|(_, codec)| *codec).collect();
        self.payload_types =
            offered.into_iter().filter(|(_, codec)| known.contains(codec)).collect();
    }

    /// Uses the payload types of the remote answer, and those of our offer to which the answer
    /// gives no other meaning.
    pub(crate) fn add_payload_types(&mut self, mut answered: Vec<(u8, Codec)>) {
        for (number, codec) in std::mem::take(&mut self.payload_types) {
            if answered.iter().all(|(known, _)| *known != number) {
                answered.push((number, codec));
            }
        }
        self.payload_types = answered;
    }

    /// Uses the parameter sets of the remote description (`sprop-parameter-sets`), which may never
    /// come in the stream.
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
        // Media is flowing even if this packet is discarded.
        self.last = Some(at);
        self.stalled = false;
        if self.flowing.insert(kind) {
            news.flowing = Some(kind);
        }
        if let Some(stream) = self.streams.get_mut(&ssrc).filter(|stream| stream.codec == codec) {
            stream.received_at = at;
        } else if !self.begin(ssrc, codec, at, counters) {
            // A codec that alternates counts as a new stream each time, so it is limited too.
            return news;
        }
        counters.count(kind, codec, &packet, at);
        let Some(stream) = self.streams.get_mut(&ssrc) else { return news };
        // If the start cannot be reported, the received frame counts as lost instead.
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

    /// Drops frames that have waited too long for missing packets.
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

    /// Passes complete frames to the application.
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
                // An unreported start has already been counted as lost.
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
        // Audio frames do not depend on each other: the next packet is decodable.
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

    /// Returns why no picture can be assembled, if the reason is established and not yet reported.
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

    /// Returns whether a new stream may begin, and starts following it if so.
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

    /// Handles a control message. Returns whether to report it to the session as a sign of life: a
    /// sender report while no media arrives, at a limited rate.
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
            // The application itself decides when its own track sends a keyframe.
            Control::KeyframeRequest { .. } | Control::Bye { .. } => false,
        }
    }

    pub(crate) fn has_key(&self) -> bool {
        self.has_key
    }

    /// Returns the SSRC of the current video source.
    pub(crate) fn source(&self) -> Option<u32> {
        self.assemblies.get(&MediaKind::Video)?.assembler.ssrc()
    }

    /// Returns whether packets of any kind arrive.
    pub(crate) fn is_flowing(&self) -> bool {
        self.last.is_some()
    }

    /// Returns the arrival of the last packet if packets have just stopped. The next packet of a
    /// kind is then reported as flowing again.
    pub(crate) fn stalled_since(&mut self, now: Instant, limit: Duration) -> Option<Instant> {
        let since = self.last.take_if(|last| now.saturating_duration_since(*last) >= limit);
        if since.is_some() {
            self.stalled = true;
            self.flowing.clear();
        }
        since
    }

    /// Ends the media: passes the complete frames and the totals to the application.
    pub(crate) fn end(&mut self, now: Instant, counters: &mut Counters) {
        self.flush(now, counters);
        self.media.push(MediaEvent::Ended { peer: self.peer, totals: counters.totals() });
    }

    /// Passes the complete frames to the application, because no more packets seem to come.
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
