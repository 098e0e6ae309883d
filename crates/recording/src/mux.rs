//! What a container writer does: bytes from samples, no IO.
//!
//! A file consists of a header, fragments of about a second that are each self-contained, and a
//! tail. It is playable up to the end of any fragment; the tail and a few patches of the header
//! only add durations and an index. The header reserves space for a track that is not known yet;
//! the writer describes the track there when its first frame arrives.

mod annex_b;
mod matroska;
mod mp4;
mod mpegts;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use encoded_frames::{AudioCodec, Codec, ParameterSets, VideoCodec};
use shiguredo_mp4::bitstream::h264::{H264SampleEntryConfig, LengthSize, build_avc1_box};
use shiguredo_mp4::boxes::Avc1Box;

use crate::container::Container;
use crate::error::RecordError;
use crate::picture_order::Colour;

impl Container {
    /// The container that a file's name requests. Does no IO.
    pub fn from_path(path: &Path) -> Result<Self, RecordError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        let known = [
            ("mp4", Self::Mp4),
            ("m4v", Self::Mp4),
            ("webm", Self::WebM),
            ("mkv", Self::Matroska),
            ("ts", Self::MpegTs),
            ("h264", Self::H264),
            ("264", Self::H264),
        ];
        known
            .into_iter()
            .find(|(known, _)| extension.eq_ignore_ascii_case(known))
            .map(|(_, container)| container)
            .ok_or_else(|| RecordError::UnknownExtension(path.to_owned()))
    }

    /// Whether it can be written as media arrives, each frame at once. A fragment of MP4 needs the
    /// durations of its frames, which the frames after them give.
    #[must_use]
    pub fn is_live(self) -> bool {
        self != Self::Mp4
    }

    /// Checks that the container supports the codec; the error lists the extensions that do.
    pub fn check(self, codec: Codec) -> Result<(), RecordError> {
        let fix = match (self, codec) {
            (Self::Mp4, Codec::Video(VideoCodec::Vp8 | VideoCodec::Vp9)) => ".webm or .mkv",
            (Self::WebM, Codec::Video(VideoCodec::H264))
            | (Self::WebM, Codec::Audio(AudioCodec::Pcmu | AudioCodec::Pcma))
            | (Self::MpegTs, Codec::Audio(AudioCodec::Pcmu | AudioCodec::Pcma)) => ".mp4 or .mkv",
            (Self::MpegTs | Self::H264, Codec::Video(VideoCodec::Vp8 | VideoCodec::Vp9)) => {
                ".webm or .mkv"
            }
            (Self::H264, Codec::Audio(_)) => ".mp4, .ts or .mkv",
            (Self::Mp4, Codec::Video(VideoCodec::H264) | Codec::Audio(_))
            | (Self::WebM, Codec::Video(VideoCodec::Vp8 | VideoCodec::Vp9))
            | (Self::WebM, Codec::Audio(AudioCodec::Opus))
            | (Self::MpegTs, Codec::Video(VideoCodec::H264) | Codec::Audio(AudioCodec::Opus))
            | (Self::H264, Codec::Video(VideoCodec::H264))
            | (Self::Matroska, _) => return Ok(()),
        };
        Err(RecordError::CodecNotSupported { codec, container: self, fix })
    }

    pub(crate) fn muxer(self) -> Box<dyn Muxer> {
        match self {
            Self::Mp4 => Box::new(mp4::Mp4Muxer::default()),
            Self::WebM => Box::new(matroska::MatroskaMuxer::new("webm")),
            Self::Matroska => Box::new(matroska::MatroskaMuxer::new("matroska")),
            Self::MpegTs => Box::new(mpegts::MpegTsMuxer::default()),
            Self::H264 => Box::new(annex_b::AnnexBMuxer),
        }
    }
}

/// The head's description of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileInfo {
    pub(crate) title: Option<String>,
    /// The name of the program that writes the file.
    pub(crate) encoder: String,
    /// When the recording began, since the Unix epoch.
    pub(crate) began: Option<Duration>,
}

/// The head's description of a track.
#[derive(Debug, Clone)]
pub(crate) struct TrackSpec {
    pub(crate) codec: Codec,
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) parameter_sets: Option<ParameterSets>,
    pub(crate) colour: Option<Colour>,
    /// The number of ticks from the decoding of the first frame to time zero of the file, needed
    /// because of reordering.
    pub(crate) lead: u32,
}

impl TrackSpec {
    fn is_video(&self) -> bool {
        matches!(self.codec, Codec::Video(_))
    }
}

/// One frame or packet; times are in ticks of the codec's clock since the beginning of the file.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The presentation time.
    pub(crate) shown: u64,
    /// The decoding time; at most the track's lead before zero.
    pub(crate) decoded: i64,
    /// The time until the next sample is decoded.
    pub(crate) duration: u32,
    pub(crate) keyframe: bool,
    pub(crate) data: Bytes,
}

/// Bytes that replace others of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The facts about the complete file that the patches need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) length: u64,
    /// The offset of the index, if the file has one.
    pub(crate) index_at: Option<u64>,
    pub(crate) duration: Duration,
}

/// Writes one container. Tracks are numbered in the order in which they were described: first those
/// in the header, then later ones.
pub(crate) trait Muxer: fmt::Debug + Send {
    /// Returns the header of the file. With `room` it reserves space for one more track.
    fn head(
        &mut self,
        info: &FileInfo,
        tracks: &[TrackSpec],
        room: bool,
    ) -> Result<Vec<u8>, RecordError>;

    /// Describes one more track in the space that the header reserves.
    fn add_track(&mut self, track: &TrackSpec) -> Result<Vec<Patch>, RecordError>;

    /// Returns a fragment that begins at `offset` of the file: the samples of each track in order;
    /// not all empty.
    fn fragment(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError>;

    /// Returns the index, to be appended at `offset`. It references no fragment at or after
    /// `offset`, since the write of the last one may have failed. Empty if there is nothing to
    /// reference.
    fn index(&mut self, offset: u64) -> Result<Vec<u8>, RecordError>;

    /// Returns the bytes that replace the placeholders of the header, once the length of the file
    /// is final.
    fn patches(&self, finished: &Finished) -> Result<Vec<Patch>, RecordError>;
}

/// Builds the error for media that the container cannot represent.
fn unwritable(what: impl fmt::Display, why: impl fmt::Display) -> RecordError {
    RecordError::Container(format!("{what}: {why}"))
}

/// Returns the SPS and PPS of an H.264 track.
fn parameter_sets(track: &TrackSpec) -> Result<&ParameterSets, RecordError> {
    track.parameter_sets.as_ref().ok_or_else(|| {
        RecordError::Container("the H.264 keyframe came without SPS and PPS".to_owned())
    })
}

/// Builds the configuration of an H.264 decoder.
fn avc1(track: &TrackSpec) -> Result<Avc1Box, RecordError> {
    let sets = parameter_sets(track)?;
    let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
    build_avc1_box(&[sets.sps.to_vec()], &[sets.pps.to_vec()], &config)
        .map_err(|error| unwritable("the camera's SPS and PPS cannot be described", error))
}
