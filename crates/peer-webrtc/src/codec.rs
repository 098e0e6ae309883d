//! The codecs that can be offered or answered, and their form in a session description.

use negotiation_core::MediaKind;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_RTX, MIME_TYPE_VP8,
    MIME_TYPE_VP9, MediaEngine,
};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind,
};
use webrtc::error::Result;

/// A codec with its offered format parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// H.264 constrained baseline, level 3.1, `packetization-mode=1`: the one profile that every
    /// KVS master sends (the C SDK answers with the payload type of exactly this entry).
    H264,
    /// H.264 baseline, for masters that compare `profile-level-id` literally.
    H264Baseline,
    /// H.264 high, level 3.1.
    H264High,
    /// VP8.
    Vp8,
    /// VP9, profile 0.
    Vp9,
    /// Opus, 48 kHz, stereo.
    Opus,
    /// G.711 µ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl Codec {
    /// Every codec, in the default order of preference.
    pub const ALL: [Self; 8] = [
        Self::H264,
        Self::H264Baseline,
        Self::H264High,
        Self::Vp8,
        Self::Vp9,
        Self::Opus,
        Self::Pcmu,
        Self::Pcma,
    ];

    /// Returns whether the codec is for video or audio.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::H264 | Self::H264Baseline | Self::H264High | Self::Vp8 | Self::Vp9 => {
                MediaKind::Video
            }
            Self::Opus | Self::Pcmu | Self::Pcma => MediaKind::Audio,
        }
    }

    /// Returns the encoding name in an `a=rtpmap` line.
    pub fn name(self) -> &'static str {
        let mime = self.mime();
        mime.split_once('/').map_or(mime, |(_, name)| name)
    }

    /// Returns the RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::H264 | Self::H264Baseline | Self::H264High | Self::Vp8 | Self::Vp9 => 90_000,
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// Returns the payload type in offers.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::H264 => 102,
            Self::H264Baseline => 104,
            Self::H264High => 106,
            Self::Vp8 => 96,
            Self::Vp9 => 98,
            Self::Opus => 111,
            // RFC 3551 fixes these two payload types.
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// Returns the codec under which `encoded_frames` assembles its frames.
    pub fn encoded(self) -> encoded_frames::Codec {
        use encoded_frames::{AudioCodec, VideoCodec};
        match self {
            Self::H264 | Self::H264Baseline | Self::H264High => {
                encoded_frames::Codec::Video(VideoCodec::H264)
            }
            Self::Vp8 => encoded_frames::Codec::Video(VideoCodec::Vp8),
            Self::Vp9 => encoded_frames::Codec::Video(VideoCodec::Vp9),
            Self::Opus => encoded_frames::Codec::Audio(AudioCodec::Opus),
            Self::Pcmu => encoded_frames::Codec::Audio(AudioCodec::Pcmu),
            Self::Pcma => encoded_frames::Codec::Audio(AudioCodec::Pcma),
        }
    }

    /// Returns the payload type of the codec's retransmission stream (RFC 4588) in offers. Only
    /// video codecs have one.
    pub fn rtx_payload_type(self) -> Option<u8> {
        (self.kind() == MediaKind::Video).then(|| self.payload_type() + 1)
    }

    pub(crate) fn mime(self) -> &'static str {
        match self {
            Self::H264 | Self::H264Baseline | Self::H264High => MIME_TYPE_H264,
            Self::Vp8 => MIME_TYPE_VP8,
            Self::Vp9 => MIME_TYPE_VP9,
            Self::Opus => MIME_TYPE_OPUS,
            Self::Pcmu => MIME_TYPE_PCMU,
            Self::Pcma => MIME_TYPE_PCMA,
        }
    }

    fn fmtp(self) -> &'static str {
        match self {
            Self::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            Self::H264Baseline => {
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"
            }
            Self::H264High => {
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"
            }
            Self::Vp9 => "profile-id=0",
            Self::Opus => "minptime=10;useinbandfec=1",
            Self::Vp8 | Self::Pcmu | Self::Pcma => "",
        }
    }

    pub(crate) fn rtp_codec(self) -> RTCRtpCodec {
        let feedback = match self.kind() {
            // The NACK interceptor adds "nack" and "nack pli" itself.
            MediaKind::Video => {
                vec![RTCPFeedback { typ: "ccm".to_owned(), parameter: "fir".to_owned() }]
            }
            MediaKind::Audio | MediaKind::Data => Vec::new(),
        };
        RTCRtpCodec {
            mime_type: self.mime().to_owned(),
            clock_rate: self.clock_rate(),
            channels: if self == Self::Opus { 2 } else { 0 },
            sdp_fmtp_line: self.fmtp().to_owned(),
            rtcp_feedback: feedback,
        }
    }
}

/// Builds a media engine with `codecs` in this order.
pub(crate) fn media_engine(codecs: &[Codec]) -> Result<MediaEngine> {
    let mut engine = MediaEngine::default();
    for codec in codecs {
        let kind = rtp_kind(codec.kind());
        let parameters = RTCRtpCodecParameters {
            rtp_codec: codec.rtp_codec(),
            payload_type: codec.payload_type(),
        };
        engine.register_codec(parameters, kind)?;
    }
    Ok(engine)
}

/// Adds a retransmission format for each video codec. Runs after the feedback messages are
/// registered, because they do not apply to these formats.
pub(crate) fn add_retransmission(engine: &mut MediaEngine, codecs: &[Codec]) -> Result<()> {
    for codec in codecs {
        let Some(payload_type) = codec.rtx_payload_type() else { continue };
        let rtp_codec = RTCRtpCodec {
            mime_type: MIME_TYPE_RTX.to_owned(),
            clock_rate: codec.clock_rate(),
            channels: 0,
            sdp_fmtp_line: format!("apt={}", codec.payload_type()),
            rtcp_feedback: Vec::new(),
        };
        let parameters = RTCRtpCodecParameters { rtp_codec, payload_type };
        engine.register_codec(parameters, rtp_kind(codec.kind()))?;
    }
    Ok(())
}

pub(crate) fn rtp_kind(kind: MediaKind) -> RtpCodecKind {
    match kind {
        MediaKind::Audio => RtpCodecKind::Audio,
        MediaKind::Video => RtpCodecKind::Video,
        MediaKind::Data => RtpCodecKind::Application,
    }
}

/// Chooses the payload type to send `codec` with, among the negotiated ones.
///
/// An offer may list H.264 several times; packets with fragmentation units need
/// `packetization-mode=1` (RFC 6184, 6.3), and constrained baseline is the safest profile.
pub(crate) fn choose_payload_type(
    codec: Codec,
    negotiated: &[RTCRtpCodecParameters],
) -> Option<u8> {
    let score = |parameters: &RTCRtpCodecParameters| {
        let fmtp = parameters.rtp_codec.sdp_fmtp_line.to_ascii_lowercase();
        if codec.mime() != MIME_TYPE_H264 {
            return u8::from(fmtp == codec.fmtp());
        }
        let mode = u8::from(fmtp.contains("packetization-mode=1"));
        let constrained = u8::from(fmtp.contains("profile-level-id=42e0"));
        let baseline = u8::from(fmtp.contains("profile-level-id=42"));
        mode * 4 + constrained * 2 + baseline
    };
    let same =
        negotiated.iter().filter(|p| p.rtp_codec.mime_type.eq_ignore_ascii_case(codec.mime()));
    // On a tie the first format wins: the list is in the other side's order of preference.
    same.rev().max_by_key(|p| score(p)).map(|p| p.payload_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn payload_types_are_unique() {
        let types = || Codec::ALL.into_iter().map(Codec::payload_type);
        let rtx = || Codec::ALL.into_iter().filter_map(Codec::rtx_payload_type);
        let distinct: BTreeSet<_> = types().chain(rtx()).collect();
        assert_eq!(distinct.len(), types().count() + rtx().count());
    }

    #[test]
    fn h264_is_sent_with_fragmentation_and_the_safest_profile() {
        let entry = |payload_type, fmtp: &str| RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: "video/h264".to_owned(),
                clock_rate: 90_000,
                sdp_fmtp_line: fmtp.to_owned(),
                ..RTCRtpCodec::default()
            },
            payload_type,
        };
        let offered = [
            entry(100, "packetization-mode=0;profile-level-id=42e01f"),
            entry(101, "packetization-mode=1;profile-level-id=640c1f"),
            entry(102, "packetization-mode=1;profile-level-id=42e01f"),
            entry(103, "packetization-mode=1;profile-level-id=42e01f"),
        ];
        assert_eq!(choose_payload_type(Codec::H264, &offered), Some(102));
        assert_eq!(choose_payload_type(Codec::H264, &offered[..2]), Some(101));
        assert_eq!(choose_payload_type(Codec::Vp8, &offered), None);
    }
}
