//! The codecs that this crate supports, and the duration of an Opus packet.

use std::fmt;

/// A video codec that WebRTC peers of KVS use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264, packetization mode 1 (RFC 6184).
    H264,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
}

impl VideoCodec {
    /// The clock rate of the codec's RTP timestamps, in Hz.
    pub const CLOCK_RATE: u32 = 90_000;

    /// Returns the codec of an RTP media type such as `video/H264`; case is ignored.
    #[must_use]
    pub fn from_mime_type(mime_type: &str) -> Option<Self> {
        [Self::H264, Self::Vp8, Self::Vp9]
            .into_iter()
            .find(|codec| codec.mime_type().eq_ignore_ascii_case(mime_type))
    }

    /// Returns the codec's RTP media type.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::H264 => "video/H264",
            Self::Vp8 => "video/VP8",
            Self::Vp9 => "video/VP9",
        }
    }
}

impl fmt::Display for VideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
        })
    }
}

/// An audio codec that WebRTC peers of KVS use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    /// Opus (RFC 7587).
    Opus,
    /// G.711 µ-law (RFC 3551).
    Pcmu,
    /// G.711 A-law (RFC 3551).
    Pcma,
}

impl AudioCodec {
    /// Returns the clock rate of the codec's RTP timestamps, in Hz. That of Opus is the same at
    /// every sampling rate.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// Returns the duration of a packet in ticks of the codec's clock; `None` if it is not a
    /// packet of the codec.
    #[must_use]
    pub fn packet_ticks(self, packet: &[u8]) -> Option<u32> {
        match self {
            Self::Opus => opus_packet_ticks(packet),
            // One byte is one sample.
            Self::Pcmu | Self::Pcma => u32::try_from(packet.len()).ok().filter(|&ticks| ticks > 0),
        }
    }

    /// Returns the codec of an RTP media type such as `audio/opus`; case is ignored.
    #[must_use]
    pub fn from_mime_type(mime_type: &str) -> Option<Self> {
        [Self::Opus, Self::Pcmu, Self::Pcma]
            .into_iter()
            .find(|codec| codec.mime_type().eq_ignore_ascii_case(mime_type))
    }

    /// Returns the codec's RTP media type.
    #[must_use]
    pub const fn mime_type(self) -> &'static str {
        match self {
            Self::Opus => "audio/opus",
            Self::Pcmu => "audio/PCMU",
            Self::Pcma => "audio/PCMA",
        }
    }
}

impl fmt::Display for AudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opus => "Opus",
            Self::Pcmu => "G.711 µ-law",
            Self::Pcma => "G.711 A-law",
        })
    }
}

/// Any codec of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// A video codec.
    Video(VideoCodec),
    /// An audio codec.
    Audio(AudioCodec),
}

impl Codec {
    /// Returns the clock rate of the codec's RTP timestamps, in Hz.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Video(_) => VideoCodec::CLOCK_RATE,
            Self::Audio(codec) => codec.clock_rate(),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(codec) => codec.fmt(f),
            Self::Audio(codec) => codec.fmt(f),
        }
    }
}

/// Returns the duration of an Opus packet in ticks of 1/48000 s; `None` if it is not an Opus
/// packet.
///
/// The first byte holds the frames' duration and their number (RFC 6716, section 3.1); a packet
/// holds at most 120 ms.
#[must_use]
pub fn opus_packet_ticks(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        16.. => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    let ticks = frame * frames;
    (1..=5760).contains(&ticks).then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opus_durations_follow_the_toc_byte() {
        // CELT fullband 20 ms, one frame: configuration 31.
        assert_eq!(opus_packet_ticks(&[31 << 3]), Some(960));
        // SILK narrowband 60 ms, two frames.
        assert_eq!(opus_packet_ticks(&[3 << 3 | 1, 0]), Some(5760));
        // Code 3 with 48 frames of 2.5 ms is the longest packet; one more is no packet.
        assert_eq!(opus_packet_ticks(&[16 << 3 | 3, 48]), Some(5760));
        assert_eq!(opus_packet_ticks(&[16 << 3 | 3, 49]), None);
        assert_eq!(opus_packet_ticks(&[]), None);
        assert_eq!(opus_packet_ticks(&[3]), None);
    }

    #[test]
    fn media_type_is_matched_without_case() {
        assert_eq!(VideoCodec::from_mime_type("VIDEO/vp8"), Some(VideoCodec::Vp8));
        assert_eq!(AudioCodec::from_mime_type("audio/OPUS"), Some(AudioCodec::Opus));
        assert_eq!(VideoCodec::from_mime_type("video/rtx"), None);
        assert_eq!(AudioCodec::from_mime_type("audio/pcmu"), Some(AudioCodec::Pcmu));
    }
}
