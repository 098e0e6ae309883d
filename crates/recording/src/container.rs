//! The containers that can be written.

use std::fmt;

/// The containers that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// Fragmented MP4, for H.264 and Opus or G.711.
    Mp4,
    /// WebM, for VP8 or VP9 and Opus.
    WebM,
    /// Matroska, for all of them.
    Matroska,
    /// MPEG transport stream, for H.264 and Opus.
    MpegTs,
    /// H.264 byte stream (Annex B): the video alone, without times.
    H264,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mp4 => "MP4",
            Self::WebM => "WebM",
            Self::Matroska => "Matroska",
            Self::MpegTs => "MPEG-TS",
            Self::H264 => "H.264 byte stream",
        })
    }
}
