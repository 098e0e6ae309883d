//! What is counted of received media, and what the stack says of the path.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use negotiation_core::{MediaKind, PeerId};
use rtc::peer_connection::transport::RTCIceCandidateType;
use webrtc::peer_connection::{RTCStatsReport, RTCStatsReportEntry};

use crate::codec::Codec;
use crate::sequence::Unwrapper;

/// The time over which a bitrate is measured.
const BITRATE_WINDOW: Duration = Duration::from_secs(1);

/// A snapshot of one peer connection.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStats {
    /// Which.
    pub peer: PeerId,
    /// Its received streams, by SSRC: the latest 32.
    pub streams: Vec<StreamStats>,
    /// The pair of addresses in use, once there is one.
    pub path: Option<PathStats>,
    /// Packets of RTP and RTCP that were lost in this process, because it was too slow.
    pub dropped: u64,
}

/// A snapshot of one received stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStats {
    /// The stream.
    pub ssrc: u32,
    /// What it carries.
    pub kind: MediaKind,
    /// How.
    pub codec: Codec,
    /// Packets received.
    pub packets: u64,
    /// Bytes of payload received.
    pub bytes: u64,
    /// Packets that should have come between the first and the newest, and have not.
    pub lost: u64,
    /// Interarrival jitter (RFC 3550, A.8).
    pub jitter: Duration,
    /// Bits of payload a second, over the last second.
    pub bitrate: u64,
}

/// The pair of addresses in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathStats {
    /// Ours.
    pub local: CandidateKind,
    /// The master's.
    pub remote: CandidateKind,
    /// The latest round trip of a connectivity check.
    pub round_trip: Duration,
}

/// How a candidate was found (RFC 8445, 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// As a STUN server sees it.
    ServerReflexive,
    /// As the other side sees it.
    PeerReflexive,
    /// A TURN server's.
    Relay,
}

impl CandidateKind {
    /// Its name in a candidate.
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
    unwrapper: Unwrapper,
    first: i64,
    highest: i64,
    packets: u64,
    bytes: u64,
    /// Arrival and timestamp of the packet before, and the jitter in timestamp units.
    before: Option<(Instant, u32)>,
    jitter: f64,
    window: (Instant, u64),
    bitrate: Option<u64>,
}

/// Counts the streams of one peer connection that are followed.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    streams: BTreeMap<u32, Counter>,
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
        counter.count(packet, at);
    }

    /// This stream is followed no longer.
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
            unwrapper: Unwrapper::default(),
            first: i64::MAX,
            highest: i64::MIN,
            packets: 0,
            bytes: 0,
            before: None,
            jitter: 0.0,
            window: (at, 0),
            bitrate: None,
        }
    }

    fn count(&mut self, packet: &rtc::rtp::Packet, at: Instant) {
        let seq = self.unwrapper.unwrap(packet.header.sequence_number);
        self.first = self.first.min(seq);
        self.highest = self.highest.max(seq);
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
        self.window.1 += bytes;
    }

    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window.0);
        if elapsed >= BITRATE_WINDOW {
            self.bitrate = Some(rate(self.window.1, elapsed));
            self.window = (now, 0);
        }
    }

    fn snapshot(&self, ssrc: u32, now: Instant) -> StreamStats {
        let elapsed = now.saturating_duration_since(self.window.0);
        // The last finished window counts, unless there is none or packets have stopped coming.
        let bitrate = match self.bitrate {
            Some(bitrate) if elapsed < BITRATE_WINDOW => bitrate,
            _ => rate(self.window.1, elapsed),
        };
        let expected = u64::try_from(self.highest.saturating_sub(self.first)).unwrap_or(0) + 1;
        let jitter = self.jitter / f64::from(self.codec.clock_rate());
        StreamStats {
            ssrc,
            kind: self.kind,
            codec: self.codec,
            packets: self.packets,
            bytes: self.bytes,
            lost: expected.saturating_sub(self.packets),
            jitter: Duration::try_from_secs_f64(jitter).unwrap_or_default(),
            bitrate,
        }
    }
}

fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 8000 / millis).unwrap_or(u64::MAX)
}

/// The nominated pair.
///
/// The stack names candidates by other ids in a pair than in the report, and does not list a
/// peer-reflexive one at all.
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
    fn loss_rate_and_jitter_are_counted() {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let mut counters = Counters::default();
        // 100 packets of 100 bytes, 20 ms apart; one missing, one late, over the wrap.
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
        assert_eq!((stats.packets, stats.bytes, stats.lost), (99, 9900, 1));
        assert!((36_000..=41_000).contains(&stats.bitrate), "{}", stats.bitrate);
        let silent = &counters.snapshot(start + Duration::from_secs(60))[0];
        assert!(silent.bitrate < 1000, "{}", silent.bitrate);
    }
}
