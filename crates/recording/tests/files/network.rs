//! Sends a clip as RTP packets, and simulates the effects of a network.

use std::time::Duration;

use recording::rtp::Packet;
use recording::{
    AudioCodec, Clip, ClipKind, Codec, Packetizer, PacketizerConfig, Recorder, RecorderConfig,
    RecorderHandle, SenderReport, Summary, TrackId, VideoCodec,
};

/// A sent packet and its arrival time.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) video: bool,
    pub(crate) packet: Packet,
}

/// How a clip is sent.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) seconds: u64,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) begin: Duration,
}

impl Sender {
    /// Creates a sender with sequence numbers and timestamps that wrap soon after the beginning.
    pub(crate) fn wrapping(seconds: u64) -> Self {
        Self {
            seconds,
            ssrc: 0x1000,
            sequence: 65_500,
            timestamp: u32::MAX - 20_000,
            begin: Duration::from_secs(3),
        }
    }

    pub(crate) fn send(&self, clip: &Clip) -> Vec<Sent> {
        let mut sent = Vec::new();
        let video = clip.video().map(|track| (Codec::Video(track.codec), &track.samples));
        let audio = clip.audio().map(|track| (Codec::Audio(track.codec), &track.samples));
        for (codec, samples) in video.into_iter().chain(audio) {
            let is_video = matches!(codec, Codec::Video(_));
            let ssrc = self.ssrc + u32::from(is_video);
            let config = PacketizerConfig::new(ssrc, 96, self.sequence);
            let mut packetizer = Packetizer::new(codec, config);
            for sample in samples {
                let rate = u64::from(codec.clock_rate());
                let at = Duration::from_micros(sample.pts * 1_000_000 / rate);
                if at >= Duration::from_secs(self.seconds) {
                    break;
                }
                let ticks = u32::try_from(sample.pts).unwrap();
                let timestamp = self.timestamp.wrapping_add(ticks);
                for packet in packetizer.packetize(&sample.data, timestamp).unwrap() {
                    assert!(packet.payload.len() + 12 <= 1200);
                    sent.push(Sent { at: self.begin + at, video: is_video, packet });
                }
            }
        }
        sent.sort_by_key(|sent| sent.at);
        sent
    }

    /// Returns a sender report of the beginning.
    pub(crate) fn report(&self, video: bool) -> SenderReport {
        SenderReport {
            ssrc: self.ssrc + u32::from(video),
            ntp: 3_900_000_000 << 32,
            rtp_timestamp: self.timestamp,
        }
    }
}

/// A small deterministic generator, so that the losses are the same in every run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Delays, duplicates and reorders packets, but loses none.
pub(crate) fn shuffle(sent: &mut Vec<Sent>, chance: &mut Chance) {
    let mut doubles = Vec::new();
    for packet in sent.iter_mut() {
        if chance.below(10) == 0 {
            packet.at += Duration::from_millis(chance.below(250));
        }
        if chance.below(20) == 0 {
            let mut double = packet.clone();
            double.at += Duration::from_millis(chance.below(100));
            doubles.push(double);
        }
    }
    sent.extend(doubles);
    sent.sort_by_key(|sent| sent.at);
}

pub(crate) fn video_codec(kind: ClipKind) -> (VideoCodec, &'static str) {
    match kind {
        ClipKind::H264Opus => (VideoCodec::H264, "mp4"),
        ClipKind::Vp8Opus => (VideoCodec::Vp8, "webm"),
    }
}

/// Creates a recorder for the container of this kind, with a video and an audio track.
pub(crate) fn recorder(path: &std::path::Path, kind: ClipKind) -> (Recorder, TrackId, TrackId) {
    let mut recorder = Recorder::create(path, RecorderConfig::default()).unwrap();
    let video = recorder.add_video(video_codec(kind).0).unwrap();
    let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
    (recorder, video, audio)
}

pub(crate) fn push(recorder: &mut Recorder, tracks: (TrackId, TrackId), sent: &[Sent]) {
    for Sent { at, video, packet } in sent {
        let track = if *video { tracks.0 } else { tracks.1 };
        recorder.push_rtp(track, *at, packet.clone()).unwrap();
    }
}

pub(crate) fn record(path: &std::path::Path, kind: ClipKind, sent: &[Sent]) -> Summary {
    let (mut recorder, video, audio) = recorder(path, kind);
    push(&mut recorder, (video, audio), sent);
    recorder.finish().unwrap()
}

pub(crate) fn spawn(path: &std::path::Path, kind: ClipKind) -> (RecorderHandle, TrackId, TrackId) {
    let handle = RecorderHandle::spawn(path, RecorderConfig::default(), Box::new(|_| {})).unwrap();
    let video = handle.add_video(video_codec(kind).0).unwrap();
    let audio = handle.add_audio(AudioCodec::Opus).unwrap();
    (handle, video, audio)
}
