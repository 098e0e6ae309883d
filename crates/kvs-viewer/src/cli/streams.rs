//! What is received, stream by stream, and what it comes to over all attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use negotiation_core::{MediaKind, PeerId};
use peer_webrtc::Codec;
use peer_webrtc::rtp::Packet;
use recording::{AudioCodec, FrameAssembler, VideoCodec};

use super::report::kind_name;

/// What has come so far, over all attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets of both kinds.
    pub(crate) packets: u64,
    /// Bytes of payload of both kinds.
    pub(crate) bytes: u64,
    /// Packets that never came, of both kinds.
    pub(crate) lost: u64,
    /// Whole pictures.
    pub(crate) frames: u64,
    /// Packets lost on their way from the peer connection, because this process was too slow.
    pub(crate) dropped: u64,
    /// What is received now.
    pub(crate) codecs: BTreeMap<&'static str, &'static str>,
}

/// The streams of one peer connection, and the sums of those that are over.
#[derive(Default)]
pub(crate) struct Streams {
    streams: BTreeMap<u32, Stream>,
    over: Counts,
    /// What the newest stream of a kind carries.
    codecs: BTreeMap<MediaKind, Codec>,
    /// The first keyframe of this peer connection came; before, the session itself asks for it.
    shown: bool,
    /// Counts up with each sign of a stream.
    signs: u64,
}

struct Stream {
    kind: MediaKind,
    codec: Codec,
    assembler: Option<FrameAssembler>,
    bytes: u64,
    packets: u64,
    last_sign: u64,
}

/// Streams of a kind at a time: a reordering queue and a picture are kept for each.
const STREAMS_MAX: usize = 8;

impl Streams {
    /// A stream begins, in place of the one of its kind that was heard longest ago if there are too many.
    pub(crate) fn begin(&mut self, ssrc: u32, kind: MediaKind, codec: Codec) {
        self.end(ssrc);
        let of_kind = || self.streams.iter().filter(|(_, stream)| stream.kind == kind);
        if of_kind().count() >= STREAMS_MAX
            && let Some((&oldest, _)) = of_kind().min_by_key(|(_, stream)| stream.last_sign)
        {
            self.end(oldest);
        }
        self.codecs.insert(kind, codec);
        self.signs += 1;
        let assembler = recorded_as(codec).map(FrameAssembler::new);
        let stream = Stream { kind, codec, assembler, bytes: 0, packets: 0, last_sign: self.signs };
        self.streams.insert(ssrc, stream);
    }

    /// What a stream carries. One that was put out and is heard again begins anew.
    pub(crate) fn resume(&mut self, ssrc: u32, kind: MediaKind) -> Option<Codec> {
        if !self.streams.contains_key(&ssrc) {
            let codec = *self.codecs.get(&kind)?;
            self.begin(ssrc, kind, codec);
        }
        self.codec(ssrc).map(|(_, codec)| codec)
    }

    /// What a stream carries, if it is known.
    pub(crate) fn codec(&self, ssrc: u32) -> Option<(MediaKind, Codec)> {
        self.streams.get(&ssrc).map(|stream| (stream.kind, stream.codec))
    }

    /// Counts a packet. Whether the pictures, once shown, cannot go on before a keyframe comes.
    pub(crate) fn take(&mut self, arrival: Duration, packet: Packet) -> bool {
        let Some(stream) = self.streams.get_mut(&packet.header.ssrc) else { return false };
        self.signs += 1;
        stream.last_sign = self.signs;
        stream.packets += 1;
        stream.bytes += packet.payload.len() as u64;
        let Some(assembler) = &mut stream.assembler else { return false };
        assembler.push(arrival, packet);
        while assembler.pop().is_some() {}
        self.shown |= stream.kind == MediaKind::Video && assembler.stats().keyframes > 0;
        // After a loss the picture is whole again from the next keyframe on: not before. So it is with
        // another source that takes over.
        self.shown && assembler.needs_keyframe()
    }

    /// How many packets were lost in this process, by all who count them.
    pub(crate) fn set_dropped(&mut self, dropped: u64) {
        self.over.dropped = dropped;
    }

    /// The peer connection is over, and all its streams.
    pub(crate) fn end_all(&mut self) {
        for stream in std::mem::take(&mut self.streams).into_values() {
            stream.add_to(&mut self.over);
        }
        self.codecs.clear();
        self.shown = false;
    }

    /// The sums.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.over.clone();
        for stream in self.streams.values() {
            stream.add_to(&mut counts);
        }
        let names = self.codecs.iter().map(|(kind, codec)| (kind_name(*kind), codec.name()));
        counts.codecs = names.collect();
        counts
    }

    fn end(&mut self, ssrc: u32) {
        if let Some(stream) = self.streams.remove(&ssrc) {
            stream.add_to(&mut self.over);
        }
    }
}

impl Stream {
    fn add_to(&self, counts: &mut Counts) {
        counts.packets += self.packets;
        counts.bytes += self.bytes;
        let Some(stats) = self.assembler.as_ref().map(FrameAssembler::stats) else { return };
        counts.lost += stats.lost;
        if self.kind == MediaKind::Video {
            counts.frames += stats.frames;
        }
    }
}

/// Packets that the peer connections lost, because this process was too slow.
#[derive(Default)]
pub(crate) struct Dropped {
    open: BTreeMap<PeerId, u64>,
    /// By those that are over.
    over: u64,
}

impl Dropped {
    /// All of them, when those that are open say so.
    pub(crate) fn count(&mut self, open: BTreeMap<PeerId, u64>) -> u64 {
        for (peer, dropped) in std::mem::replace(&mut self.open, open) {
            if !self.open.contains_key(&peer) {
                self.over += dropped;
            }
        }
        self.over + self.open.values().sum::<u64>()
    }
}

/// What the file calls the codec; `None` for what no container of ours holds.
pub(crate) fn recorded_as(codec: Codec) -> Option<recording::Codec> {
    match codec {
        Codec::H264 | Codec::H264Baseline | Codec::H264High => {
            Some(recording::Codec::Video(VideoCodec::H264))
        }
        Codec::Vp8 => Some(recording::Codec::Video(VideoCodec::Vp8)),
        Codec::Vp9 => Some(recording::Codec::Video(VideoCodec::Vp9)),
        Codec::Opus => Some(recording::Codec::Audio(AudioCodec::Opus)),
        Codec::Pcmu | Codec::Pcma => None,
    }
}

/// Bits a second and pictures a second between two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) bits: f64,
    pub(crate) frames: f64,
}

impl Rates {
    pub(crate) fn between(before: &Counts, now: &Counts, elapsed: Duration) -> Self {
        let secs = elapsed.as_secs_f64().max(0.001);
        let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / secs;
        Self {
            bits: per_second(before.bytes, now.bytes) * 8.0,
            frames: per_second(before.frames, now.frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32) -> Packet {
        let mut packet = Packet::default();
        packet.header.ssrc = ssrc;
        packet.payload = vec![0; 10].into();
        packet
    }

    fn hear(streams: &mut Streams, ssrc: u32, kind: MediaKind) -> Option<Codec> {
        let codec = streams.resume(ssrc, kind);
        streams.take(Duration::ZERO, packet(ssrc));
        codec
    }

    #[test]
    fn the_newest_streams_are_counted_however_many_there_were() {
        let mut streams = Streams::default();
        streams.begin(1, MediaKind::Audio, Codec::Opus);
        assert_eq!(hear(&mut streams, 1, MediaKind::Audio), Some(Codec::Opus));
        for ssrc in 100..200 {
            streams.begin(ssrc, MediaKind::Video, Codec::Vp8);
            for ssrc in [ssrc, 100] {
                assert_eq!(hear(&mut streams, ssrc, MediaKind::Video), Some(Codec::Vp8));
            }
        }
        assert_eq!(streams.counts().packets, 201);
        assert_eq!(streams.counts().bytes, 2010);
        assert_eq!(streams.streams.len(), STREAMS_MAX + 1);
        // Pictures put out no sound, and what is heard stays.
        for (ssrc, known) in [(1, true), (100, true), (199, true), (101, false)] {
            assert_eq!(streams.codec(ssrc).is_some(), known, "{ssrc}");
        }
        assert_eq!(hear(&mut streams, 101, MediaKind::Video), Some(Codec::Vp8), "it is back");
        assert_eq!(streams.counts().packets, 202);
    }

    #[test]
    fn what_a_peer_connection_dropped_still_counts_when_it_is_over() {
        let mut dropped = Dropped::default();
        let mut count = |open: &[(u32, u64)]| {
            dropped.count(open.iter().map(|(peer, count)| (PeerId(*peer), *count)).collect())
        };
        assert_eq!(count(&[(1, 2)]), 2);
        assert_eq!(count(&[(1, 5)]), 5);
        assert_eq!(count(&[]), 5);
        assert_eq!(count(&[(2, 0)]), 5);
        assert_eq!(count(&[(2, 1), (3, 1)]), 7);
        assert_eq!(count(&[(3, 1)]), 7);
    }

    #[test]
    fn a_stream_that_begins_anew_keeps_its_sums_and_so_does_the_end() {
        let mut streams = Streams::default();
        streams.set_dropped(3);
        for codec in [Codec::Vp8, Codec::Vp9] {
            streams.begin(1, MediaKind::Video, codec);
            assert_eq!(hear(&mut streams, 1, MediaKind::Video), Some(codec));
        }
        let before = streams.counts();
        assert_eq!((before.packets, before.bytes, before.dropped), (2, 20, 3));
        assert_eq!(before.codecs, BTreeMap::from([("video", Codec::Vp9.name())]));
        streams.end_all();
        assert_eq!(streams.counts(), Counts { codecs: BTreeMap::new(), ..before });
        assert_eq!(hear(&mut streams, 1, MediaKind::Video), None, "nothing has begun");
    }
}
