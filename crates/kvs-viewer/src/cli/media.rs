//! Received media on its way to the counters and the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use negotiation_core::MediaKind;
use peer_webrtc::{Codec, MediaEvent, MediaReceiver, PeerMonitor};
use recording::{
    AudioCodec, FrameAssembler, MediaStats, RecordError, RecorderConfig, RecorderHandle,
    SenderReport, Summary, TrackId, VideoCodec,
};
use tokio::sync::mpsc;

/// What has come so far, over all attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Packets of both kinds.
    pub(crate) packets: u64,
    /// Bytes of payload of both kinds.
    pub(crate) bytes: u64,
    /// Packets that never came, of both kinds.
    pub(crate) lost: u64,
    /// Whole pictures.
    pub(crate) frames: u64,
    /// Packets lost in this process, because it was too slow.
    pub(crate) dropped: u64,
    /// What is received now.
    pub(crate) codecs: BTreeMap<&'static str, &'static str>,
}

/// Runs beside the session and ends when the peer port is gone.
pub(crate) struct MediaPump {
    receiver: MediaReceiver,
    recorder: Option<RecorderHandle>,
    monitor: PeerMonitor,
    failures: mpsc::UnboundedSender<RecordError>,
    counts: Arc<Mutex<Counts>>,
    /// When a keyframe was last asked for after a loss.
    asked: Option<Instant>,
    /// The first keyframe of this peer connection came; before, the session itself asks for it.
    shown: bool,
    streams: BTreeMap<u32, Stream>,
    tracks: BTreeMap<MediaKind, (TrackId, recording::Codec)>,
    finished: Counts,
    origin: Option<Instant>,
}

struct Stream {
    kind: MediaKind,
    assembler: Option<FrameAssembler>,
    bytes: u64,
    packets: u64,
    track: Option<TrackId>,
}

/// Streams that are counted at a time; a master that makes up more is not counted further.
const STREAMS_MAX: usize = 16;

/// A lost picture asks for a keyframe at most this often.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl MediaPump {
    pub(crate) fn new(
        receiver: MediaReceiver,
        recorder: Option<RecorderHandle>,
        monitor: PeerMonitor,
        failures: mpsc::UnboundedSender<RecordError>,
    ) -> (Self, Arc<Mutex<Counts>>) {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let pump = Self {
            receiver,
            recorder,
            monitor,
            failures,
            asked: None,
            shown: false,
            counts: Arc::clone(&counts),
            streams: BTreeMap::new(),
            tracks: BTreeMap::new(),
            finished: Counts::default(),
            origin: None,
        };
        (pump, counts)
    }

    /// Takes media until there is no more, then ends the file.
    pub(crate) async fn run(mut self) -> Option<Result<Summary, RecordError>> {
        while let Some(event) = self.receiver.next().await {
            match event {
                MediaEvent::Track { ssrc, kind, codec, .. } => self.on_track(ssrc, kind, codec),
                MediaEvent::Rtp { packet, at, .. } => self.on_rtp(packet, at),
                MediaEvent::SenderReport { ssrc, ntp, rtp, .. } => {
                    let track = self.streams.get(&ssrc).and_then(|stream| stream.track);
                    if let (Some(recorder), Some(track)) = (&self.recorder, track) {
                        let report = SenderReport { ssrc, ntp, rtp_timestamp: rtp };
                        recorder.push_sender_report(track, report);
                    }
                }
                MediaEvent::Ended { .. } => self.on_ended(),
            }
        }
        let recorder = self.recorder.take()?;
        // Ending waits for the disk.
        tokio::task::spawn_blocking(move || recorder.finish()).await.ok()
    }

    fn on_track(&mut self, ssrc: u32, kind: MediaKind, codec: Codec) {
        if self.streams.len() >= STREAMS_MAX {
            return;
        }
        let recorded = recorded_as(codec);
        let track = recorded.and_then(|recorded| self.track(kind, recorded));
        let assembler = recorded.map(FrameAssembler::new);
        self.streams.insert(ssrc, Stream { kind, assembler, bytes: 0, packets: 0, track });
        self.finished.codecs.insert(super::report::kind_name(kind), codec.name());
        self.publish();
    }

    /// The file's track for this kind; a later stream of the same codec goes on in it.
    fn track(&mut self, kind: MediaKind, codec: recording::Codec) -> Option<TrackId> {
        let recorder = self.recorder.as_ref()?;
        if let Some((track, before)) = self.tracks.get(&kind) {
            return (*before == codec).then_some(*track);
        }
        let added = match codec {
            recording::Codec::Video(codec) => recorder.add_video(codec),
            recording::Codec::Audio(codec) => recorder.add_audio(codec),
        };
        match added {
            Ok(track) => {
                self.tracks.insert(kind, (track, codec));
                Some(track)
            }
            Err(error) => {
                // The receiver is gone only when the command is ending anyway.
                let _ = self.failures.send(error);
                None
            }
        }
    }

    fn on_rtp(&mut self, packet: peer_webrtc::rtp::Packet, at: Instant) {
        let arrival = at.saturating_duration_since(*self.origin.get_or_insert(at));
        let Some(stream) = self.streams.get_mut(&packet.header.ssrc) else { return };
        stream.packets += 1;
        stream.bytes += packet.payload.len() as u64;
        if let (Some(recorder), Some(track)) = (&self.recorder, stream.track) {
            recorder.push_rtp(track, arrival, packet.clone());
        }
        if let Some(assembler) = &mut stream.assembler {
            assembler.push(arrival, packet);
            while assembler.pop().is_some() {}
            self.shown |= stream.kind == MediaKind::Video && assembler.stats().keyframes > 0;
            // After a loss the picture is whole again from the next keyframe on: not before. So it
            // is with another source that takes over.
            let broken = self.shown && assembler.needs_keyframe();
            let due = self.asked.is_none_or(|asked| at.duration_since(asked) >= ASK_EVERY);
            if broken && due {
                self.asked = Some(at);
                self.monitor.request_keyframe();
            }
        }
        self.publish();
    }

    fn on_ended(&mut self) {
        self.finished = self.total();
        self.finished.codecs.clear();
        self.streams.clear();
        self.shown = false;
        self.publish();
    }

    fn total(&self) -> Counts {
        let mut total = self.finished.clone();
        for stream in self.streams.values() {
            total.packets += stream.packets;
            total.bytes += stream.bytes;
            let stats = stream.assembler.as_ref().map(FrameAssembler::stats);
            total.lost += stats.map_or(0, |stats: &MediaStats| stats.lost);
            if stream.kind == MediaKind::Video {
                total.frames += stats.map_or(0, |stats| stats.frames);
            }
        }
        total.dropped =
            self.receiver.lost() + self.recorder.as_ref().map_or(0, RecorderHandle::overflow);
        total
    }

    fn publish(&self) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.total();
    }
}

/// What the file calls the codec; `None` for what no container of ours holds.
fn recorded_as(codec: Codec) -> Option<recording::Codec> {
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

/// The codecs to offer, so that the camera's choice fits the file.
pub(crate) fn codecs_for(record: Option<&Path>) -> Vec<Codec> {
    let extension = record.and_then(Path::extension).and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => vec![Codec::H264, Codec::Opus],
        "webm" => vec![Codec::Vp8, Codec::Vp9, Codec::Opus],
        _ => vec![Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Opus],
    }
}

/// Opens the file and its thread.
pub(crate) fn start_recorder(
    path: &Path,
    video: bool,
    audio: bool,
    failures: mpsc::UnboundedSender<RecordError>,
) -> Result<RecorderHandle, RecordError> {
    let config = RecorderConfig { video, audio, ..RecorderConfig::default() };
    let hook = Box::new(move |error: &RecordError| {
        let _ = failures.send(error.clone());
    });
    RecorderHandle::spawn(path, config, hook)
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

    #[test]
    fn the_offer_fits_the_file() {
        assert_eq!(codecs_for(Some(Path::new("a.MP4"))), [Codec::H264, Codec::Opus]);
        assert!(!codecs_for(Some(Path::new("a.webm"))).contains(&Codec::H264));
        assert!(codecs_for(None).contains(&Codec::Vp9));
    }
}
