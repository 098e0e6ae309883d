//! Reads a whole media file into frames that can be sent repeatedly.
//!
//! This file holds the clip's types, the bundled clips and the checks that decide which files are
//! accepted. The containers are read in `clip/mp4.rs` and `clip/matroska.rs`.

mod matroska;
mod mp4;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use encoded_frames::{AudioCodec, VideoCodec, opus_packet_ticks};

/// The largest file that is read, in bytes; the whole file is kept in memory.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// The maximum number of samples of both tracks: ten hours of 50 frames and 50 packets a second.
const SAMPLES_MAX: usize = 3_600_000;

/// The box types with which an MP4 or MOV file may begin.
const MP4_FIRST_BOXES: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"];

/// The clips that come with the crate; `clips/README.md` describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClipKind {
    /// A minute of H.264 and Opus.
    H264Opus,
    /// The same minute in VP8 and Opus.
    Vp8Opus,
}

/// One video frame, or one audio packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipSample {
    /// The presentation time, in ticks of the track's RTP clock since the beginning of the clip.
    pub pts: u64,
    /// The duration, in the same ticks.
    pub duration: u32,
    /// Whether the sample can be decoded without any other; always true for audio.
    pub keyframe: bool,
    /// The frame: H.264 as Annex B, each keyframe with its parameter sets; other codecs unchanged.
    pub data: Bytes,
}

/// The video of a clip, in decoding order, which is also the presentation order.
#[derive(Debug, Clone)]
pub struct VideoTrack {
    /// The codec.
    pub codec: VideoCodec,
    /// The first picture's width.
    pub width: u16,
    /// The first picture's height.
    pub height: u16,
    /// The frames; the first is a keyframe.
    pub samples: Vec<ClipSample>,
}

/// The audio of a clip.
#[derive(Debug, Clone)]
pub struct AudioTrack {
    /// The codec.
    pub codec: AudioCodec,
    /// The number of channels that the file declares.
    pub channels: u8,
    /// The packets.
    pub samples: Vec<ClipSample>,
}

/// A clip in memory.
#[derive(Debug, Clone)]
pub struct Clip {
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    truncated: bool,
}

/// Why a file is rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The file cannot be read.
    #[error("the clip {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is too large to be kept in memory.
    #[error("the clip is larger than {} MiB; cut it, for example with `ffmpeg -t 600 -c copy`", max_bytes >> 20)]
    TooLarge {
        /// The limit.
        max_bytes: u64,
    },
    /// The file is neither MP4 nor Matroska.
    #[error("the clip is neither MP4 (MOV) nor WebM (Matroska)")]
    UnknownContainer,
    /// The content contradicts what the container declares.
    #[error("the clip is damaged: {0}")]
    Damaged(String),
    /// The content cannot be sent to WebRTC peers as it is.
    #[error(
        "the clip cannot be sent: {}; convert it:\n  {command}",
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Unsuitable {
        /// All problems that prevent sending.
        problems: Vec<ClipProblem>,
        /// A command that makes a clip without these problems.
        command: String,
    },
    /// The file contains no media that can be sent.
    #[error("the clip has neither video nor audio")]
    Empty,
}

/// Why a file that can be read cannot be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipProblem {
    /// The video is of another codec than H.264, VP8 and VP9.
    #[error("its video is {0}, not H.264, VP8 or VP9")]
    VideoCodec(String),
    /// The audio is of another codec than Opus.
    #[error("its sound is {0}, not Opus")]
    AudioCodec(String),
    /// The decoding order of the frames differs from their presentation order.
    #[error("its video has B-frames, which WebRTC peers do not take")]
    BFrames,
    /// The video does not begin with a keyframe.
    #[error("its video does not begin with a keyframe")]
    NoKeyframe,
}

/// The result of a container's reader: the part of the clip that can be sent, and the problems of
/// the rest.
struct Found {
    clip: Clip,
    problems: Vec<ClipProblem>,
}

impl Clip {
    /// Reads an MP4, MOV, WebM or Matroska file with H.264, VP8 or VP9 and Opus. Blocks.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ClipError> {
        Self::open_file(path.as_ref(), true)
    }

    /// As [`Clip::open`], but ignores the audio, which may be of any codec.
    pub fn open_video(path: impl AsRef<Path>) -> Result<Self, ClipError> {
        Self::open_file(path.as_ref(), false)
    }

    fn open_file(path: &Path, with_audio: bool) -> Result<Self, ClipError> {
        let io = |source| ClipError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let mut data = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut data).map_err(io)?;
        if u64::try_from(data.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(ClipError::TooLarge { max_bytes: FILE_BYTES_MAX });
        }
        Self::parse(&Bytes::from(data), with_audio, path)
    }

    /// Loads one of the clips that come with the crate.
    pub fn bundled(kind: ClipKind) -> Result<Self, ClipError> {
        Self::from_bytes(Bytes::from_static(match kind {
            ClipKind::H264Opus => include_bytes!("../clips/counter.mp4"),
            ClipKind::Vp8Opus => include_bytes!("../clips/counter.webm"),
        }))
    }

    /// Reads a file that is already in memory.
    pub fn from_bytes(data: Bytes) -> Result<Self, ClipError> {
        Self::parse(&data, true, Path::new("CLIP"))
    }

    /// Parses a file; `path` is the name of the file in the conversion command.
    fn parse(data: &Bytes, with_audio: bool, path: &Path) -> Result<Self, ClipError> {
        // A Matroska file begins with the EBML element identifier; an MP4 file has a box type after
        // four bytes of size.
        let read: fn(&Bytes, bool) -> Result<Found, ClipError> =
            if data.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) {
                matroska::read
            } else if data.get(4..8).is_some_and(|kind| MP4_FIRST_BOXES.contains(&kind)) {
                mp4::read
            } else {
                return Err(ClipError::UnknownContainer);
            };
        // The demuxers panic on some damage (matroska-demuxer 0.8.1, built with overflow checks, on
        // a block's relative time of -32768). They share no state with the caller, so a panic is
        // reported as damage like any other error.
        let found = std::panic::catch_unwind(|| read(data, with_audio)).unwrap_or_else(|_| {
            Err(ClipError::Damaged("its structure contradicts itself".into()))
        })?;
        let Found { clip, mut problems } = found;
        problems.extend(clip.order_problems());
        if problems.is_empty() {
            return clip.checked();
        }
        let command = conversion(&problems, path);
        Err(ClipError::Unsuitable { problems, command })
    }

    /// Removes the audio.
    #[must_use]
    pub fn without_audio(mut self) -> Self {
        self.audio = None;
        self
    }

    /// The video track.
    #[must_use]
    pub fn video(&self) -> Option<&VideoTrack> {
        self.video.as_ref()
    }

    /// The audio track.
    #[must_use]
    pub fn audio(&self) -> Option<&AudioTrack> {
        self.audio.as_ref()
    }

    /// Whether the file ends in the middle of a sample or an element; the complete samples were
    /// read.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The duration of one round of the clip: until the end of the last video frame, or of the last
    /// audio packet if the clip has no video. No sample begins after it.
    #[must_use]
    pub fn duration(&self) -> Duration {
        match (&self.video, &self.audio) {
            (Some(video), _) => ticks_to_time(end(&video.samples), VideoCodec::CLOCK_RATE),
            (None, Some(audio)) => {
                ticks_to_time(end(&audio.samples), AudioCodec::Opus.clock_rate())
            }
            (None, None) => Duration::ZERO,
        }
    }

    fn order_problems(&self) -> impl Iterator<Item = ClipProblem> {
        let samples = self.video.as_ref().map_or(&[][..], |video| &video.samples);
        let begins_late = samples.first().is_some_and(|sample| !sample.keyframe);
        let reordered = samples.windows(2).any(|pair| pair[0].pts >= pair[1].pts);
        let late = begins_late.then_some(ClipProblem::NoKeyframe);
        late.into_iter().chain(reordered.then_some(ClipProblem::BFrames))
    }

    fn checked(mut self) -> Result<Self, ClipError> {
        self.video = self.video.filter(|track| !track.samples.is_empty());
        self.audio = self.audio.filter(|track| !track.samples.is_empty());
        if self.video.is_none() && self.audio.is_none() {
            return Err(ClipError::Empty);
        }
        self.begin_at_zero();
        let round = self.duration();
        if let Some(audio) = &mut self.audio {
            // Audio after the last video frame would overlap the next round.
            audio
                .samples
                .retain(|sample| ticks_to_time(sample.pts, AudioCodec::Opus.clock_rate()) < round);
        }
        Ok(self)
    }

    /// Takes the beginning of the earlier track as zero. Tracks that begin within 20 ms (an audio
    /// packet) of each other are aligned: the difference is the encoder's lead-in, and would be a
    /// gap in each round.
    fn begin_at_zero(&mut self) {
        const TOGETHER: Duration = Duration::from_millis(20);
        let mut tracks: Vec<(&mut Vec<ClipSample>, u32)> = Vec::new();
        if let Some(track) = &mut self.video {
            tracks.push((&mut track.samples, VideoCodec::CLOCK_RATE));
        }
        if let Some(track) = &mut self.audio {
            tracks.push((&mut track.samples, AudioCodec::Opus.clock_rate()));
        }
        let first = |samples: &[ClipSample], rate: u32| {
            samples.first().map_or(Duration::ZERO, |sample| ticks_to_time(sample.pts, rate))
        };
        let beginning = tracks.iter().map(|(samples, rate)| first(samples, *rate)).min();
        let beginning = beginning.unwrap_or_default();
        for (samples, rate) in tracks {
            let own = first(samples, rate);
            let ticks = if own - beginning < TOGETHER {
                samples.first().map_or(0, |sample| sample.pts)
            } else {
                time_to_ticks(beginning, rate)
            };
            for sample in samples {
                sample.pts = sample.pts.saturating_sub(ticks);
            }
        }
    }
}

/// Returns the command that solves these problems and copies the streams that have none.
fn conversion(problems: &[ClipProblem], path: &Path) -> String {
    let is_sound = |problem: &ClipProblem| matches!(problem, ClipProblem::AudioCodec(_));
    let video = match problems.iter().all(is_sound) {
        true => "copy",
        false => "libx264 -profile:v baseline -pix_fmt yuv420p -bf 0 -g 60",
    };
    let audio = if problems.iter().any(is_sound) { "libopus" } else { "copy" };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let output = path.with_file_name(format!("{stem}-webrtc.mkv"));
    format!("ffmpeg -i {} -c:v {video} -c:a {audio} {}", quoted(path), quoted(&output))
}

/// Quotes a path for a POSIX shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,=@%".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        return text.into_owned();
    }
    let inner: String = text.chars().filter(|c| !c.is_control()).collect();
    let inner = inner.replace('\'', "'\\''");
    if inner.starts_with('-') { format!("'./{inner}'") } else { format!("'{inner}'") }
}

/// Returns the usual name of the codec with this container identifier.
fn codec_name(identifier: &str) -> String {
    let name = match identifier {
        "mp4a" | "A_AAC" => "AAC",
        "hvc1" | "hev1" | "V_MPEGH/ISO/HEVC" => "H.265",
        "av01" | "V_AV1" => "AV1",
        "ac-3" | "A_AC3" => "AC-3",
        "A_VORBIS" => "Vorbis",
        "A_MPEG/L3" => "MP3",
        other => other,
    };
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn end(samples: &[ClipSample]) -> u64 {
    samples.last().map_or(0, |sample| sample.pts + u64::from(sample.duration))
}

fn ticks_to_time(ticks: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    let nanos = (ticks % rate) * 1_000_000_000 / rate;
    Duration::from_secs(ticks / rate) + Duration::from_nanos(nanos)
}

fn time_to_ticks(time: Duration, rate: u32) -> u64 {
    u64::try_from((time.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000)
        .unwrap_or(u64::MAX)
}

/// Converts ticks of one clock to ticks of another, rounded.
fn rescale(ticks: u64, from: u32, to: u32) -> u64 {
    let (from, to) = (u128::from(from.max(1)), u128::from(to));
    u64::try_from((u128::from(ticks) * to + from / 2) / from).unwrap_or(u64::MAX)
}

/// Sets the duration of each sample to the time until the next; the last lasts as long as the one
/// before it.
fn set_durations(samples: &mut [ClipSample], fallback: u32) {
    let mut last = fallback;
    for index in 0..samples.len() {
        if let Some(next) = samples.get(index + 1).map(|next| next.pts) {
            last = u32::try_from(next.saturating_sub(samples[index].pts)).unwrap_or(u32::MAX);
        }
        samples[index].duration = last;
    }
}

/// Sets the duration of audio packets to the one that each Opus packet declares.
fn set_opus_durations(samples: &mut [ClipSample]) {
    for sample in samples {
        sample.duration = opus_packet_ticks(&sample.data).unwrap_or(960);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_clips_are_a_minute_of_900_frames_and_3000_packets() {
        for (kind, codec) in
            [(ClipKind::H264Opus, VideoCodec::H264), (ClipKind::Vp8Opus, VideoCodec::Vp8)]
        {
            let clip = Clip::bundled(kind).unwrap();
            let video = clip.video().unwrap();
            assert_eq!((video.codec, video.width, video.height), (codec, 320, 240));
            assert_eq!(video.samples.len(), 900);
            for (index, sample) in video.samples.iter().enumerate() {
                assert_eq!(sample.keyframe, index % 30 == 0, "frame {index}");
                let expected = u64::try_from(index).unwrap() * 6000;
                // WebM timestamps are in milliseconds.
                assert!(sample.pts.abs_diff(expected) <= 45, "frame {index}: {}", sample.pts);
            }
            assert_eq!(clip.audio().unwrap().samples.len(), 3000);
            assert!(clip.duration().abs_diff(Duration::from_secs(60)) < Duration::from_millis(2));
            assert!(!clip.is_truncated());
        }
    }

    #[test]
    fn conversion_command_quotes_path_for_shell() {
        let both = [ClipProblem::BFrames, ClipProblem::AudioCodec("AAC".into())];
        assert_eq!(
            conversion(&both, Path::new("/films/door bell's.mov")),
            "ffmpeg -i '/films/door bell'\\''s.mov' -c:v libx264 -profile:v baseline -pix_fmt \
             yuv420p -bf 0 -g 60 -c:a libopus '/films/door bell'\\''s-webrtc.mkv'"
        );
        let sound = [ClipProblem::AudioCodec("AAC".into())];
        assert_eq!(
            conversion(&sound, Path::new("a.mp4")),
            "ffmpeg -i a.mp4 -c:v copy -c:a libopus a-webrtc.mkv"
        );
        assert_eq!(quoted(Path::new("-i.mp4")), "'./-i.mp4'");
    }

    #[test]
    fn unsupported_or_damaged_file_is_refused() {
        let refuse = |data: &'static [u8]| Clip::from_bytes(Bytes::from_static(data)).unwrap_err();
        assert!(matches!(refuse(b"RIFF....AVI LIST"), ClipError::UnknownContainer));
        assert!(matches!(refuse(b""), ClipError::UnknownContainer));
        assert!(matches!(refuse(b"\0\0\0\x10ftypisom\0\0\0\0"), ClipError::Damaged(_)));
        assert!(matches!(refuse(b"\x1a\x45\xdf\xa3\x9f"), ClipError::Damaged(_)));
        assert!(matches!(Clip::open("/nowhere/clip.mp4"), Err(ClipError::Io { .. })));
    }

    #[test]
    fn block_with_minimum_relative_time_does_not_panic() {
        let mut data = include_bytes!("../clips/counter.webm").to_vec();
        let find = |id: &[u8], from: usize| {
            data[from..].windows(id.len()).position(|bytes| bytes == id).unwrap() + from
        };
        let block = find(&[0xa3], find(&[0x1f, 0x43, 0xb6, 0x75], 0));
        let size_bytes = usize::try_from(data[block + 1].leading_zeros()).unwrap() + 1;
        let time = block + 1 + size_bytes + 1;
        data[time..time + 2].copy_from_slice(&i16::MIN.to_be_bytes());
        // The demuxer computes with the value or fails, depending on its build options.
        let result = Clip::from_bytes(Bytes::from(data));
        assert!(matches!(result, Err(ClipError::Damaged(_))) || !cfg!(debug_assertions));
    }

    #[test]
    fn damaged_file_gives_error_or_fewer_samples() {
        for file in
            [&include_bytes!("../clips/counter.mp4")[..], include_bytes!("../clips/counter.webm")]
        {
            for step in 1..60 {
                let mut data = file.to_vec();
                // The headers are at the beginning, so the damage is spread there.
                let at = step * step * 7 % 4000;
                data[at] ^= 0xff;
                let _ = Clip::from_bytes(Bytes::from(data.clone()));
                data.truncate(step * data.len() / 60);
                let _ = Clip::from_bytes(Bytes::from(data));
            }
        }
    }
}
