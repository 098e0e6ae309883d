//! Frames as applications receive them: ready for a decoder, on one timeline.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use encoded_frames::{AudioCodec, Codec, Frame, ParameterSets, VideoCodec, h264};
use negotiation_core::MediaKind;

/// How the NAL units of an H.264 frame are separated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum H264Format {
    /// A start code `00 00 00 01` before each (ITU-T H.264, Annex B): what `ffmpeg -f h264` and
    /// most decoders read.
    #[default]
    AnnexB,
    /// Four bytes with its length before each (ISO/IEC 14496-15, "AVCC"): what MP4, WebCodecs with
    /// a description, and VideoToolbox read.
    LengthPrefixed,
}

/// The options for the media that the application receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameOptions {
    pub(crate) h264_format: H264Format,
    pub(crate) rtp_packets: bool,
    pub(crate) queue_bytes: usize,
}

/// A whole frame of video, or one packet of audio.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedFrame {
    /// The codec of the frame.
    pub codec: Codec,
    /// The frame. An H.264 keyframe begins with its parameter sets (SPS and PPS).
    pub bytes: Bytes,
    /// Whether decoding can begin here; always true for audio.
    pub is_keyframe: bool,
    /// The presentation time since the first frame of its kind: RTP timestamps without wrap-around,
    /// continued by arrival time if the camera starts a new stream. Frames come in decoding order,
    /// so with B-frames the time steps back.
    pub timestamp: Duration,
    /// The time at which its last packet arrived, by this machine's clock.
    pub wall_clock: SystemTime,
    /// The RTP timestamp of its packets, in ticks of the codec's clock.
    pub rtp_timestamp: u32,
    /// Width and height in pixels; for keyframes.
    pub size: Option<(u16, u16)>,
    /// The parameter sets of an H.264 keyframe, without start codes or lengths.
    pub parameter_sets: Option<ParameterSets>,
}

impl EncodedFrame {
    /// Whether it is video or audio.
    pub fn kind(&self) -> MediaKind {
        match self.codec {
            Codec::Video(_) => MediaKind::Video,
            Codec::Audio(_) => MediaKind::Audio,
        }
    }
}

impl fmt::Display for EncodedFrame {
    /// Formats the frame as `H.264 keyframe 640x480, 15321 bytes at 1.066 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.codec {
            Codec::Video(codec) => {
                let name = if self.is_keyframe { "keyframe" } else { "frame" };
                write!(f, "{codec} {name}")?;
            }
            Codec::Audio(codec) => write!(f, "{codec} packet")?,
        }
        if let Some((width, height)) = self.size {
            write!(f, " {width}x{height}")?;
        }
        write!(f, ", {} bytes at {:.3} s", self.bytes.len(), self.timestamp.as_secs_f64())
    }
}

impl fmt::Debug for EncodedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedFrame({self})")
    }
}

/// Places the frames of one session on one timeline for each kind.
#[derive(Debug)]
pub(crate) struct Timeline {
    format: H264Format,
    tracks: BTreeMap<MediaKind, Track>,
}

/// The position of one source's last frame on the timeline.
#[derive(Clone, Copy, Debug)]
struct Track {
    epoch: u32,
    rtp_timestamp: u32,
    arrival: Duration,
    /// In nanoseconds, signed because a frame may be presented before the first one.
    timestamp: i128,
}

impl Timeline {
    pub(crate) fn new(format: H264Format) -> Self {
        Self { format, tracks: BTreeMap::new() }
    }

    /// Converts a frame for the application; its last packet arrived at `at`.
    pub(crate) fn place(&mut self, kind: MediaKind, frame: Frame, at: Instant) -> EncodedFrame {
        let rate = i128::from(clock_rate(frame.codec));
        let timestamp = match self.tracks.get(&kind) {
            None => 0,
            Some(last) if last.epoch == frame.epoch => {
                // The signed difference handles both wrapped timestamps and the backward steps of
                // B-frames.
                let ticks = frame.rtp_timestamp.wrapping_sub(last.rtp_timestamp).cast_signed();
                last.timestamp + i128::from(ticks) * 1_000_000_000 / rate
            }
            Some(last) => {
                let passed = frame.arrival.saturating_sub(last.arrival);
                last.timestamp + i128::try_from(passed.as_nanos()).unwrap_or_default()
            }
        };
        let (epoch, rtp_timestamp, arrival) = (frame.epoch, frame.rtp_timestamp, frame.arrival);
        self.tracks.insert(kind, Track { epoch, rtp_timestamp, arrival, timestamp });
        let is_h264 = frame.codec == Codec::Video(VideoCodec::H264);
        let bytes = match self.format {
            H264Format::AnnexB if is_h264 => h264::annex_b(&frame.data),
            H264Format::AnnexB | H264Format::LengthPrefixed => frame.data,
        };
        EncodedFrame {
            codec: frame.codec,
            bytes,
            is_keyframe: frame.keyframe,
            timestamp: Duration::from_nanos(u64::try_from(timestamp).unwrap_or_default()),
            wall_clock: SystemTime::now()
                .checked_sub(at.elapsed())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            rtp_timestamp: frame.rtp_timestamp,
            size: frame.size,
            parameter_sets: frame.parameter_sets,
        }
    }
}

fn clock_rate(codec: Codec) -> u32 {
    match codec {
        Codec::Video(_) => VideoCodec::CLOCK_RATE,
        Codec::Audio(codec @ (AudioCodec::Opus | AudioCodec::Pcmu | AudioCodec::Pcma)) => {
            codec.clock_rate()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn frame(epoch: u32, rtp_timestamp: u32, arrival_ms: u64) -> Frame {
        Frame {
            codec: Codec::Video(VideoCodec::H264),
            ssrc: 1,
            rtp_timestamp,
            arrival: Duration::from_millis(arrival_ms),
            completed: Duration::from_millis(arrival_ms),
            epoch,
            keyframe: true,
            recovered: true,
            size: Some((640, 480)),
            parameter_sets: None,
            data: Bytes::from_static(&[0, 0, 0, 2, 0x65, 7]),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "when a frame arrived")]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn timestamps_follow_rtp_over_a_wrap_and_arrival_over_a_restart() {
        let mut timeline = Timeline::new(H264Format::AnnexB);
        let mut place =
            |frame| timeline.place(MediaKind::Video, frame, now()).timestamp.as_millis();
        assert_eq!(place(frame(1, u32::MAX - 3599, 0)), 0);
        assert_eq!(place(frame(1, 5400, 100)), 100, "over the wrap");
        assert_eq!(place(frame(1, 2700, 110)), 70, "a B-frame is presented earlier");
        assert_eq!(place(frame(2, 77, 1110)), 1070, "another source: by arrival");
        assert_eq!(place(frame(2, 77 + 9000, 1200)), 1170);
    }

    #[test]
    fn nal_units_have_configured_format() {
        let bytes =
            |format| Timeline::new(format).place(MediaKind::Video, frame(1, 0, 0), now()).bytes;
        assert_eq!(&bytes(H264Format::AnnexB)[..], [0, 0, 0, 1, 0x65, 7]);
        assert_eq!(&bytes(H264Format::LengthPrefixed)[..], [0, 0, 0, 2, 0x65, 7]);
    }

    #[test]
    fn frame_is_displayed_in_one_line() {
        let frame =
            Timeline::new(H264Format::AnnexB).place(MediaKind::Video, frame(1, 0, 0), now());
        assert_eq!(frame.to_string(), "H.264 keyframe 640x480, 6 bytes at 0.000 s");
    }
}
