//! Counts what is received, stream by stream, and sums it over all attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use negotiation_core::{MediaKind, PeerId};
use peer_webrtc::{Codec, EncodedFrame, MediaTotals, PeerMonitor};

use super::report::kind_name;

/// The counts so far, over all attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets of both kinds.
    pub(crate) packets: u64,
    /// Bytes of payload of both kinds.
    pub(crate) bytes: u64,
    /// Packets of both kinds that never arrived.
    pub(crate) lost: u64,
    /// Complete video frames.
    pub(crate) frames: u64,
    /// Keyframes among them.
    pub(crate) keyframes: u64,
    /// Width and height of the newest keyframe.
    pub(crate) size: Option<(u32, u32)>,
    /// Frames lost on their way from the peer connection, because this process was too slow.
    pub(crate) dropped: u64,
    /// The codecs that are received now, by kind.
    pub(crate) codecs: BTreeMap<&'static str, &'static str>,
}

/// The counts of the peer connections: the open one, and the sums of those that ended.
#[derive(Default)]
pub(crate) struct Streams {
    monitor: Option<PeerMonitor>,
    over: Counts,
    /// The codec of the newest stream of each kind.
    codecs: BTreeMap<MediaKind, Codec>,
    /// The size of the newest keyframe of this peer connection.
    size: Option<(u32, u32)>,
}

impl Streams {
    /// Sets the monitor that supplies the counts of open peer connections.
    pub(crate) fn watch(&mut self, monitor: PeerMonitor) {
        self.monitor = Some(monitor);
    }

    /// Records the codec of a stream that begins.
    pub(crate) fn begin(&mut self, kind: MediaKind, codec: Codec) {
        self.codecs.insert(kind, codec);
    }

    /// Records the size of a received frame.
    pub(crate) fn take(&mut self, frame: &EncodedFrame) {
        if let Some((width, height)) = frame.size {
            self.size = Some((width.into(), height.into()));
        }
    }

    /// Sets how many frames were lost in this process, the sum of all counters.
    pub(crate) fn set_dropped(&mut self, dropped: u64) {
        self.over.dropped = dropped;
    }

    /// Adds the totals of a peer connection that ended with all its streams.
    pub(crate) fn end_all(&mut self, totals: &MediaTotals) {
        self.over.add(totals);
        self.codecs.clear();
        self.size = None;
    }

    /// Returns the sums.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.over.clone();
        for (_, totals) in self.monitor.as_ref().map(PeerMonitor::totals).unwrap_or_default() {
            counts.add(&totals);
        }
        let names = self.codecs.iter().map(|(kind, codec)| (kind_name(*kind), codec.name()));
        counts.codecs = names.collect();
        counts.size = self.size;
        counts
    }
}

impl Counts {
    fn add(&mut self, totals: &MediaTotals) {
        self.packets += totals.packets;
        self.bytes += totals.bytes;
        self.lost += totals.lost;
        self.frames += totals.frames;
        self.keyframes += totals.keyframes;
    }
}

/// Counts packets that the peer connections lost because this process was too slow.
#[derive(Default)]
pub(crate) struct Dropped {
    open: BTreeMap<PeerId, u64>,
    /// The packets that peer connections lost that have ended.
    over: u64,
}

impl Dropped {
    /// Returns the sum, given the current counts of the open peer connections.
    pub(crate) fn count(&mut self, open: BTreeMap<PeerId, u64>) -> u64 {
        for (peer, dropped) in std::mem::replace(&mut self.open, open) {
            if !self.open.contains_key(&peer) {
                self.over += dropped;
            }
        }
        self.over + self.open.values().sum::<u64>()
    }
}

/// Bits and video frames a second between two counts.
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

    #[test]
    fn dropped_packets_count_after_the_peer_closed() {
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
    fn closed_peer_connections_keep_their_sums() {
        let mut streams = Streams::default();
        streams.set_dropped(3);
        for codec in [Codec::Vp8, Codec::Vp9] {
            streams.begin(MediaKind::Video, codec);
            let codecs = BTreeMap::from([("video", codec.name())]);
            assert_eq!(streams.counts().codecs, codecs);
            let totals = MediaTotals { packets: 2, bytes: 20, frames: 1, ..MediaTotals::default() };
            streams.end_all(&totals);
        }
        let counts = streams.counts();
        assert_eq!((counts.packets, counts.bytes, counts.frames), (4, 40, 2));
        assert_eq!((counts.dropped, counts.codecs.len()), (3, 0));
    }
}
