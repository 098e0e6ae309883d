//! Cuts frames into RTP packets, over `rtc-rtp`'s payloaders.

use bytes::Bytes;
use rtc_rtp::codec::g7xx::G711Payloader;
use rtc_rtp::codec::h264::H264Payloader;
use rtc_rtp::codec::opus::OpusPayloader;
use rtc_rtp::codec::vp8::Vp8Payloader;
use rtc_rtp::codec::vp9::Vp9Payloader;
use rtc_rtp::header::Header;
use rtc_rtp::packet::Packet;
use rtc_rtp::packetizer::Payloader;

use encoded_frames::{AudioCodec, Codec, VideoCodec};

/// The fixed part of an RTP header (RFC 3550, section 5.1).
const RTP_HEADER_BYTES: usize = 12;

/// The common properties of a stream's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketizerConfig {
    /// The synchronisation source (SSRC) of the packets.
    pub ssrc: u32,
    /// The payload type that was negotiated.
    pub payload_type: u8,
    /// The sequence number of the first packet.
    pub first_sequence_number: u16,
    /// The size of the largest packet in bytes, RTP header included.
    pub mtu: usize,
}

impl PacketizerConfig {
    /// Configures packets of at most 1200 bytes, which pass through a relay and every usual path.
    #[must_use]
    pub const fn new(ssrc: u32, payload_type: u8, first_sequence_number: u16) -> Self {
        Self { ssrc, payload_type, first_sequence_number, mtu: 1200 }
    }
}

/// A frame that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("a frame of {bytes} bytes of {codec} cannot be cut into RTP packets of {mtu} bytes")]
pub struct PacketizeError {
    bytes: usize,
    codec: Codec,
    mtu: usize,
}

/// Builds the packets of one stream: H.264 (Annex B) with SPS and PPS as one STAP-A and long NAL
/// units as FU-A, VP8 and VP9 with a picture id, Opus with one packet a frame, G.711 with as many
/// as needed.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    config: PacketizerConfig,
    sequence_number: u16,
    payloader: Box<dyn Payloader>,
}

impl Packetizer {
    /// Creates a packetizer for one stream.
    #[must_use]
    pub fn new(codec: Codec, config: PacketizerConfig) -> Self {
        let payloader: Box<dyn Payloader> = match codec {
            Codec::Video(VideoCodec::H264) => Box::new(H264Payloader::default()),
            Codec::Video(VideoCodec::Vp8) => {
                let mut payloader = Vp8Payloader::default();
                payloader.enable_picture_id = true;
                Box::new(payloader)
            }
            Codec::Video(VideoCodec::Vp9) => Box::new(Vp9Payloader::default()),
            Codec::Audio(AudioCodec::Opus) => Box::new(OpusPayloader),
            Codec::Audio(AudioCodec::Pcmu | AudioCodec::Pcma) => Box::new(G711Payloader::default()),
        };
        Self { codec, sequence_number: config.first_sequence_number, config, payloader }
    }

    /// Returns the packets of the frame with this RTP timestamp. The last packet of a video frame
    /// has the marker bit; audio has none (RFC 7587 uses it only for the beginning of a talkspurt).
    pub fn packetize(
        &mut self,
        frame: &Bytes,
        rtp_timestamp: u32,
    ) -> Result<Vec<Packet>, PacketizeError> {
        let room = self.config.mtu.saturating_sub(RTP_HEADER_BYTES);
        let payloads = self
            .payloader
            .payload(room, frame)
            .ok()
            .filter(|payloads| !payloads.is_empty() && payloads.iter().all(|p| p.len() <= room))
            .ok_or(PacketizeError {
                bytes: frame.len(),
                codec: self.codec,
                mtu: self.config.mtu,
            })?;
        let last = payloads.len() - 1;
        let is_video = matches!(self.codec, Codec::Video(_));
        Ok(payloads
            .into_iter()
            .enumerate()
            .map(|(index, payload)| {
                let sequence_number = self.sequence_number;
                self.sequence_number = sequence_number.wrapping_add(1);
                Packet {
                    header: Header {
                        version: 2,
                        marker: is_video && index == last,
                        payload_type: self.config.payload_type,
                        sequence_number,
                        timestamp: rtp_timestamp,
                        ssrc: self.config.ssrc,
                        ..Header::default()
                    },
                    payload,
                }
            })
            .collect())
    }

    /// The sequence number of the next packet.
    #[must_use]
    pub fn next_sequence_number(&self) -> u16 {
        self.sequence_number
    }
}
