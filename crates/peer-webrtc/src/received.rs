//! Received packets: sorted into streams, counted, looked through for the first keyframe, and
//! handed to the application.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use negotiation_core::{MediaKind, PeerId};

use crate::codec::Codec;
use crate::keyframe::KeyframeDetector;
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

/// What is received in one peer connection.
pub(crate) struct Received {
    peer: PeerId,
    payload_types: Vec<(u8, Codec)>,
    media: Arc<Mailbox<MediaEvent>>,
    streams: BTreeMap<u32, Stream>,
    beginnings: Allowance,
    flowing: BTreeSet<MediaKind>,
    /// Of the newest packet with pictures.
    source: Option<u32>,
    has_key: bool,
    last: Option<Instant>,
    /// Packets came, and stopped coming.
    stalled: bool,
    reported: Option<Instant>,
}

struct Stream {
    codec: Codec,
    detector: KeyframeDetector,
    heard: Instant,
    /// The application was told that it began; before that, it gets nothing of it.
    told: bool,
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

/// What a packet was the first of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) flowing: Option<MediaKind>,
    pub(crate) keyframe: bool,
}

impl Received {
    /// `codecs` are those offered: packets come with the payload types that our offer gave out.
    pub(crate) fn new(peer: PeerId, codecs: &[Codec], media: Arc<Mailbox<MediaEvent>>) -> Self {
        Self {
            peer,
            payload_types: codecs.iter().map(|codec| (codec.payload_type(), *codec)).collect(),
            media,
            streams: BTreeMap::new(),
            beginnings: Allowance::default(),
            flowing: BTreeSet::new(),
            source: None,
            has_key: false,
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

    pub(crate) fn take(&mut self, arrival: RtpArrival, counters: &mut Counters) -> News {
        let RtpArrival { packet, at } = arrival;
        let mut news = News::default();
        let of_packet = |(number, _): &&(u8, Codec)| *number == packet.header.payload_type;
        let Some((_, codec)) = self.payload_types.iter().find(of_packet).copied() else {
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
        if kind == MediaKind::Video {
            self.source = Some(ssrc);
            if !self.has_key && stream.detector.push(&packet.header, &packet.payload) {
                self.has_key = true;
                news.keyframe = true;
            }
        }
        // Where it cannot be told, the packet is lost, and counted in its place.
        stream.told =
            stream.told || self.media.offer(MediaEvent::Track { peer, ssrc, kind, codec });
        if stream.told {
            self.media.offer(MediaEvent::Rtp { peer, kind, packet, at });
        }
        news
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
        let detector = KeyframeDetector::new(codec);
        self.streams.insert(ssrc, Stream { codec, detector, heard: at, told: false });
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
        self.source
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

    /// The end, of which the application is told.
    pub(crate) fn end(&self) {
        self.media.push(MediaEvent::Ended { peer: self.peer });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(ssrc: u32, payload_type: u8, seq: u16, at: Instant) -> RtpArrival {
        let header = rtc::rtp::Header {
            ssrc,
            payload_type,
            sequence_number: seq,
            marker: true,
            ..Default::default()
        };
        // A VP8 key frame in one packet.
        RtpArrival { packet: rtc::rtp::Packet { header, payload: vec![0x10, 0].into() }, at }
    }

    #[tokio::test]
    async fn firsts_are_news_once_and_streams_are_bounded() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(1000));
        let mut received = Received::new(PeerId(1), &[Codec::Vp8], Arc::clone(&media));
        let mut counters = Counters::default();
        let first = received.take(arrival(1, 96, 1, start), &mut counters);
        assert_eq!(first, News { flowing: Some(MediaKind::Video), keyframe: true });
        assert_eq!(received.take(arrival(1, 96, 2, start), &mut counters), News::default());
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
        let again = received.take(arrival(1, 96, 3, start), &mut counters);
        assert!(!received.control(report(9000)), "media flows: nobody asks");
        assert_eq!(again, News { flowing: Some(MediaKind::Video), keyframe: false });
        assert!(matches!(media.next().await, Some(MediaEvent::Track { ssrc: 1, .. })));
        assert!(matches!(media.next().await, Some(MediaEvent::Rtp { .. })));
    }

    /// A camera may run for hours and take a new SSRC with each restart of its encoder.
    #[tokio::test]
    async fn each_new_source_takes_the_place_of_the_one_that_was_silent_for_longest() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let media = Arc::new(Mailbox::new(10_000));
        let codecs = [Codec::Vp8, Codec::Opus];
        let mut received = Received::new(PeerId(1), &codecs, Arc::clone(&media));
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
        media.push(MediaEvent::Ended { peer: PeerId(1) });
        let mut received = Received::new(PeerId(2), &[Codec::Vp8], Arc::clone(&media));
        let mut counters = Counters::default();
        let first = received.take(arrival(1, 96, 1, start), &mut counters);
        assert_eq!(first, News { flowing: Some(MediaKind::Video), keyframe: true });
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
        assert!(matches!(packet, Some(MediaEvent::Rtp { .. })), "told once: {packet:?}");
        assert_eq!(media.lost(), 3, "there was room for the track alone");
    }
}
