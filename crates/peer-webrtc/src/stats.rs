//! Counters of received media, and the stack's statistics of the path.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use encoded_frames::Frame;
use negotiation_core::{MediaKind, PeerId};
use rtc::peer_connection::transport::RTCIceCandidateType;
use webrtc::peer_connection::{RTCStatsReport, RTCStatsReportEntry};

use crate::codec::Codec;

/// The interval over which bits and frames a second are measured.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// A snapshot of one peer connection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// The peer connection.
    pub peer: PeerId,
    /// The statistics of its received streams, by SSRC: the latest 32.
    pub streams: Vec<StreamStats>,
    /// The sums over all its streams, including those no longer followed.
    pub totals: MediaTotals,
    /// The selected pair, once there is one.
    pub path: Option<PathStats>,
    /// RTP and RTCP packets that this process lost because it was too slow.
    pub dropped: u64,
}

/// The received media of all streams of a peer connection. Frames are counted by the frame
/// assembler, after reordering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaTotals {
    /// Packets received.
    pub packets: u64,
    /// Bytes of payload received.
    pub bytes: u64,
    /// Packets that never came, or came too late.
    pub lost: u64,
    /// Complete pictures that can be decoded.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Pictures that were incomplete, or refer to an incomplete one.
    pub frames_dropped: u64,
}

/// A snapshot of one received stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStats {
    /// The SSRC of the stream.
    pub ssrc: u32,
    /// Whether it is video or audio.
    pub kind: MediaKind,
    /// The codec.
    pub codec: Codec,
    /// Packets received.
    pub packets: u64,
    /// Bytes of payload received.
    pub bytes: u64,
    /// Packets that never came, or came too late: a missing one is awaited for a while before it
    /// counts.
    pub lost: u64,
    /// Complete frames.
    pub frames: u64,
    /// Keyframes among them; each audio frame is one.
    pub keyframes: u64,
    /// Frames that were incomplete, or refer to an incomplete one.
    pub frames_dropped: u64,
    /// The newest keyframe's size in pixels.
    pub size: Option<(u16, u16)>,
    /// Frames a second, over the last second.
    pub frame_rate: f64,
    /// Interarrival jitter (RFC 3550, A.8).
    pub jitter: Duration,
    /// Bits of payload a second, over the last second.
    pub bitrate: u64,
}

/// The selected candidate pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathStats {
    /// The kind of the local candidate.
    pub local: CandidateKind,
    /// The kind of the master's candidate.
    pub remote: CandidateKind,
    /// The latest round trip of a connectivity check.
    pub round_trip: Duration,
}

/// How a candidate was found (RFC 8445, 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The machine's address as a STUN server sees it.
    ServerReflexive,
    /// The machine's address as the other side sees it.
    PeerReflexive,
    /// An address of a TURN server.
    Relay,
}

impl CandidateKind {
    /// Returns its name in a candidate.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relay => "relay",
        }
    }
}

/// Counts one stream.
#[derive(Debug)]
struct Counter {
    kind: MediaKind,
    codec: Codec,
    packets: u64,
    bytes: u64,
    lost: u64,
    frames: u64,
    keyframes: u64,
    frames_dropped: u64,
    size: Option<(u16, u16)>,
    /// The arrival and timestamp of the previous packet, and the jitter in timestamp units.
    before: Option<(Instant, u32)>,
    jitter: f64,
    window: Window,
    /// Bits and frames a second in the last complete window.
    rates: Option<(u64, f64)>,
}

/// The packets and frames since a point in time.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    bytes: u64,
    frames: u64,
}

/// Counts the followed streams of one peer connection.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    streams: BTreeMap<u32, Counter>,
    totals: MediaTotals,
}

impl Counters {
    pub(crate) fn count(
        &mut self,
        kind: MediaKind,
        codec: Codec,
        packet: &rtc::rtp::Packet,
        at: Instant,
    ) {
        let new = || Counter::new(kind, codec, at);
        let counter = self.streams.entry(packet.header.ssrc).or_insert_with(new);
        let bytes = counter.count(packet, at);
        self.totals.packets += 1;
        self.totals.bytes += bytes;
    }

    /// Counts a complete frame.
    pub(crate) fn frame(&mut self, kind: MediaKind, frame: &Frame, at: Instant) {
        if kind == MediaKind::Video {
            self.totals.frames += 1;
            self.totals.keyframes += u64::from(frame.keyframe);
        }
        let Some(counter) = self.streams.get_mut(&frame.ssrc) else { return };
        counter.roll(at);
        counter.window.frames += 1;
        counter.frames += 1;
        counter.keyframes += u64::from(frame.keyframe);
        counter.size = frame.size.or(counter.size);
    }

    /// Counts lost packets and dropped frames.
    pub(crate) fn lose(&mut self, kind: MediaKind, ssrc: u32, packets: u64, frames: u64) {
        self.totals.lost += packets;
        if kind == MediaKind::Video {
            self.totals.frames_dropped += frames;
        }
        let Some(counter) = self.streams.get_mut(&ssrc) else { return };
        counter.lost += packets;
        counter.frames_dropped += frames;
    }

    pub(crate) fn totals(&self) -> MediaTotals {
        self.totals
    }

    /// Stops following a stream.
    pub(crate) fn forget(&mut self, ssrc: u32) {
        self.streams.remove(&ssrc);
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Vec<StreamStats> {
        self.streams.iter().map(|(ssrc, counter)| counter.snapshot(*ssrc, now)).collect()
    }
}

impl Counter {
    fn new(kind: MediaKind, codec: Codec, at: Instant) -> Self {
        Self {
            kind,
            codec,
            packets: 0,
            bytes: 0,
            lost: 0,
            frames: 0,
            keyframes: 0,
            frames_dropped: 0,
            size: None,
            before: None,
            jitter: 0.0,
            window: Window { since: at, bytes: 0, frames: 0 },
            rates: None,
        }
    }

    fn count(&mut self, packet: &rtc::rtp::Packet, at: Instant) -> u64 {
        let bytes = u64::try_from(packet.payload.len()).unwrap_or(0);
        self.packets += 1;
        self.bytes += bytes;
        if let Some((before, timestamp)) = self.before {
            let elapsed = at.saturating_duration_since(before).as_secs_f64();
            let ticks = elapsed * f64::from(self.codec.clock_rate());
            let stamped = packet.header.timestamp.wrapping_sub(timestamp).cast_signed();
            self.jitter += ((ticks - f64::from(stamped)).abs() - self.jitter) / 16.0;
        }
        self.before = Some((at, packet.header.timestamp));
        self.roll(at);
        self.window.bytes += bytes;
        bytes
    }

    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window.since);
        if elapsed >= RATE_WINDOW {
            self.rates = Some(self.window.rates(elapsed));
            self.window = Window { since: now, bytes: 0, frames: 0 };
        }
    }

    fn snapshot(&self, ssrc: u32, now: Instant) -> StreamStats {
        let elapsed = now.saturating_duration_since(self.window.since);
        // The last complete window counts, unless there is none or packets have stopped coming.
        let (bitrate, frame_rate) = match self.rates {
            Some(rates) if elapsed < RATE_WINDOW => rates,
            _ => self.window.rates(elapsed),
        };
        let jitter = self.jitter / f64::from(self.codec.clock_rate());
        StreamStats {
            ssrc,
            kind: self.kind,
            codec: self.codec,
            packets: self.packets,
            bytes: self.bytes,
            lost: self.lost,
            frames: self.frames,
            keyframes: self.keyframes,
            frames_dropped: self.frames_dropped,
            size: self.size,
            frame_rate,
            jitter: Duration::try_from_secs_f64(jitter).unwrap_or_default(),
            bitrate,
        }
    }
}

impl Window {
    /// Returns bits and frames a second.
    fn rates(self, elapsed: Duration) -> (u64, f64) {
        let millis = elapsed.as_millis().max(1);
        let bits = u64::try_from(u128::from(self.bytes) * 8000 / millis).unwrap_or(u64::MAX);
        let frames = f64::from(u32::try_from(self.frames).unwrap_or(u32::MAX));
        (bits, frames / elapsed.as_secs_f64().max(0.001))
    }
}

/// Returns the nominated pair.
///
/// The stack uses other candidate ids in a pair than in the report, and does not list
/// peer-reflexive candidates.
pub(crate) fn path(report: &RTCStatsReport) -> Option<PathStats> {
    let pair = report.candidate_pairs().find(|pair| pair.nominated)?;
    let kind = |prefix: &str, id: &str| match report.get(&format!("{prefix}_{id}")) {
        Some(RTCStatsReportEntry::LocalCandidate(c) | RTCStatsReportEntry::RemoteCandidate(c)) => {
            candidate_kind(c.candidate_type)
        }
        _ => CandidateKind::PeerReflexive,
    };
    Some(PathStats {
        local: kind("RTCLocalIceCandidate", &pair.local_candidate_id),
        remote: kind("RTCRemoteIceCandidate", &pair.remote_candidate_id),
        round_trip: Duration::try_from_secs_f64(pair.current_round_trip_time).unwrap_or_default(),
    })
}

/// Returns this machine's address in the nominated pair, if the local candidate is a host
/// candidate. The address of a relay or of a NAT is not this machine's.
pub(crate) fn local_address(report: &RTCStatsReport) -> Option<IpAddr> {
    let pair = report.candidate_pairs().find(|pair| pair.nominated)?;
    match report.get(&format!("RTCLocalIceCandidate_{}", pair.local_candidate_id)) {
        Some(RTCStatsReportEntry::LocalCandidate(candidate))
            if candidate_kind(candidate.candidate_type) == CandidateKind::Host =>
        {
            candidate.address.as_deref()?.parse().ok()
        }
        Some(_) | None => None,
    }
}

fn candidate_kind(kind: RTCIceCandidateType) -> CandidateKind {
    match kind {
        RTCIceCandidateType::Srflx => CandidateKind::ServerReflexive,
        RTCIceCandidateType::Prflx => CandidateKind::PeerReflexive,
        RTCIceCandidateType::Relay => CandidateKind::Relay,
        RTCIceCandidateType::Host | RTCIceCandidateType::Unspecified | _ => CandidateKind::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_rate_and_jitter_are_counted() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let mut counters = Counters::default();
        // 100 packets of 100 bytes, 20 ms apart, across the wrap; one is missing and one late.
        for i in (0..100_u16).filter(|i| *i != 50).chain([50]).filter(|i| *i != 60) {
            let packet = rtc::rtp::Packet {
                header: rtc::rtp::Header {
                    ssrc: 1,
                    sequence_number: 65_500_u16.wrapping_add(i),
                    timestamp: u32::from(i) * 1800,
                    ..Default::default()
                },
                payload: vec![0; 100].into(),
            };
            let at = start + Duration::from_millis(20) * u32::from(i);
            counters.count(MediaKind::Video, Codec::H264, &packet, at);
        }
        let stats = &counters.snapshot(start + Duration::from_millis(1990))[0];
        assert_eq!((stats.packets, stats.bytes), (99, 9900));
        assert!((36_000..=41_000).contains(&stats.bitrate), "{}", stats.bitrate);
        let silent = &counters.snapshot(start + Duration::from_secs(60))[0];
        assert!(silent.bitrate < 1000, "{}", silent.bitrate);
    }

    #[test]
    fn totals_include_removed_streams() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let mut counters = Counters::default();
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = 1;
        packet.payload = vec![0; 100].into();
        counters.count(MediaKind::Video, Codec::H264, &packet, start);
        let frame = Frame {
            codec: encoded_frames::Codec::Video(encoded_frames::VideoCodec::H264),
            ssrc: 1,
            rtp_timestamp: 0,
            arrival: Duration::ZERO,
            completed: Duration::ZERO,
            epoch: 0,
            keyframe: true,
            recovered: true,
            size: Some((320, 240)),
            parameter_sets: None,
            data: packet.payload.clone(),
        };
        for index in 0..15 {
            let at = start + Duration::from_millis(100) * index;
            counters.frame(MediaKind::Video, &frame, at);
        }
        counters.lose(MediaKind::Video, 1, 3, 2);
        let stats = &counters.snapshot(start + Duration::from_millis(1500))[0];
        assert_eq!((stats.frames, stats.keyframes, stats.size), (15, 15, Some((320, 240))));
        assert_eq!((stats.lost, stats.frames_dropped), (3, 2));
        assert!((9.0..=11.0).contains(&stats.frame_rate), "{}", stats.frame_rate);
        counters.forget(1);
        assert!(counters.snapshot(start).is_empty());
        let totals = MediaTotals {
            packets: 1,
            bytes: 100,
            lost: 3,
            frames: 15,
            keyframes: 15,
            frames_dropped: 2,
        };
        assert_eq!(counters.totals(), totals);
    }
}
