//! Formats the status line: what the session waits for and until when, and the statistics once it
//! is live.

use std::time::Duration;

use negotiation_core::{Phase, Timer};
use peer_webrtc::{CandidateKind, PathStats};

use super::spans::{clock, span};
use super::streams::{Counts, Rates};
use super::words::activity;

/// The contents of the status line.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) attempt: u32,
    /// The time since the session began.
    pub(crate) running: Duration,
    /// Whether the platform has no network.
    pub(crate) is_offline: bool,
    /// The deadline of the phase, and the time left.
    pub(crate) deadline: Option<(Timer, Duration)>,
    /// The time since the session was live for the first time.
    pub(crate) live: Option<Duration>,
    /// The problem of a live session, if there is one.
    pub(crate) interruption: Option<&'static str>,
    pub(crate) duration: Option<Duration>,
    pub(crate) counts: Counts,
    /// The rates, after the first measurement.
    pub(crate) rates: Option<Rates>,
    pub(crate) path: Option<PathStats>,
    /// The size of the recording in bytes.
    pub(crate) recorded: Option<u64>,
}

impl View {
    pub(crate) fn line(&self, phase: Phase) -> String {
        if phase == Phase::Live {
            return self.live_line();
        }
        let left = self
            .deadline
            .map(|(_, left)| span(Duration::from_secs(left.as_secs_f64().ceil() as u64)));
        let running = clock(self.running);
        let mut text = match (phase, left) {
            _ if self.is_offline => format!("{running}  waiting for a network connection"),
            (Phase::BackingOff, Some(left)) => format!("{running}  trying again in {left}"),
            (_, Some(left)) => format!("{running}  {}, {left} left", activity(phase)),
            (_, None) => format!("{running}  {}", activity(phase)),
        };
        if self.attempt > 1 {
            text.push_str(&format!("  (attempt {})", self.attempt));
        }
        text
    }

    fn live_line(&self) -> String {
        let since = clock(self.live.unwrap_or_default());
        let state = self.interruption.unwrap_or("live");
        let mut parts = vec![match self.duration {
            Some(duration) => format!("{state} {since}/{}", clock(duration)),
            None => format!("{state} {since}"),
        }];
        let codec = |kind| self.counts.codecs.get(kind).map(|name| codec_name(name));
        match (codec("video"), codec("audio")) {
            (Some(video), _) => {
                let size = self.counts.size.map(|(w, h)| format!(" {w}x{h}")).unwrap_or_default();
                let rate = self.rates.map(|rates| format!(" {:.0} fps", rates.frames));
                parts.push(format!("{video}{size}{}", rate.unwrap_or_default()));
            }
            (None, Some(audio)) => parts.push(audio.to_owned()),
            (None, None) => {}
        }
        parts.extend(self.rates.map(|rates| bit_rate(rates.bits)));
        if let Some(path) = &self.path {
            parts.push(format!("{} {}", path_words(path), round_trip(path.round_trip)));
        }
        if self.counts.lost > 0 {
            parts.push(format!("{} packets lost", self.counts.lost));
        }
        if let Some(bytes) = self.recorded {
            parts.push(format!("REC {}", byte_size(bytes)));
        }
        parts.join("  ")
    }
}

/// Returns a codec's usual spelling.
pub(crate) fn codec_name(name: &str) -> &str {
    if name == "H264" { "H.264" } else { name }
}

fn path_words(path: &PathStats) -> &'static str {
    let is_relay = |kind| kind == CandidateKind::Relay;
    if is_relay(path.local) || is_relay(path.remote) { "relayed" } else { "direct" }
}

fn round_trip(time: Duration) -> String {
    let millis = (time.as_secs_f64() * 1000.0).round();
    if millis < 1.0 { "<1 ms".to_owned() } else { format!("{millis:.0} ms") }
}

fn bit_rate(bits: f64) -> String {
    if bits >= 1e6 {
        format!("{:.1} Mbit/s", bits / 1e6)
    } else {
        format!("{:.0} kbit/s", bits / 1e3)
    }
}

/// Formats a size in the units of `ls -h --si`.
pub(crate) fn byte_size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 {
        format!("{:.2} GB", bytes / 1e9)
    } else if bytes >= 1e6 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.0} kB", bytes / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn status_line_before_live_names_the_wait_and_its_end() {
        let mut view = View {
            attempt: 1,
            running: Duration::from_secs(5),
            deadline: Some((Timer::Answer, Duration::from_millis(24_200))),
            ..View::default()
        };
        let line = view.line(Phase::AwaitingAnswer);
        assert_eq!(line, "00:05  waiting for the camera to answer, 25 s left");
        view.attempt = 2;
        view.deadline = None;
        assert_eq!(view.line(Phase::Connecting), "00:05  connecting to the service  (attempt 2)");
        view.deadline = Some((Timer::RetryDelay, Duration::from_secs(6)));
        assert_eq!(view.line(Phase::BackingOff), "00:05  trying again in 6 s  (attempt 2)");
        view.is_offline = true;
        let offline = view.line(Phase::BackingOff);
        assert_eq!(offline, "00:05  waiting for a network connection  (attempt 2)");
    }

    #[test]
    fn live_status_line_shows_codec_size_rate_path_recording() {
        let path = PathStats {
            local: CandidateKind::Host,
            remote: CandidateKind::Host,
            round_trip: Duration::from_millis(3),
        };
        let mut view = View {
            live: Some(Duration::from_secs(12)),
            counts: Counts {
                codecs: BTreeMap::from([("audio", "opus"), ("video", "H264")]),
                size: Some((1280, 720)),
                ..Counts::default()
            },
            rates: Some(Rates { bits: 35_200.0, frames: 15.1 }),
            path: Some(path),
            recorded: Some(120_300),
            ..View::default()
        };
        assert_eq!(
            view.line(Phase::Live),
            "live 00:12  H.264 1280x720 15 fps  35 kbit/s  direct 3 ms  REC 120 kB"
        );
        view.interruption = Some("no video");
        assert!(view.line(Phase::Live).starts_with("no video 00:12  H.264"));
        view.interruption = None;
        view.path = Some(PathStats { remote: CandidateKind::Relay, ..path });
        view.counts.lost = 7;
        view.recorded = None;
        view.duration = Some(Duration::from_secs(20));
        view.rates = Some(Rates { bits: 2_340_000.0, frames: 15.1 });
        assert_eq!(
            view.line(Phase::Live),
            "live 00:12/00:20  H.264 1280x720 15 fps  2.3 Mbit/s  relayed 3 ms  7 packets lost"
        );
    }
}
