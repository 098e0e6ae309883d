//! From RTP payloads, in order, to the bytes of one frame, over `rtc-rtp`'s depacketisers.
//!
//! Those trust the payload's shape in places (an aggregate with one byte left over, a VP9 descriptor cut
//! short) and do not notice a missing first fragment, so each payload is checked here before.

use bytes::{Bytes, BytesMut};
use rtc_rtp::codec::h264::{H264Packet, NALU_TYPE_BITMASK};
use rtc_rtp::codec::opus::OpusPacket;
use rtc_rtp::codec::vp9::Vp9Packet;
use rtc_rtp::packetizer::Depacketizer;

use crate::codec::{AudioCodec, Codec, VideoCodec};
use crate::h264::{NAL_DELIMITER, NAL_FILLER, NAL_IDR, NAL_SPS};

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// A payload that is not of its codec's RTP format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Collects the payloads of one frame.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    codec: Codec,
    data: BytesMut,
    h264: H264Packet,
    /// How much of a unit in fragments `h264` holds, from its beginning to its end.
    fragment: Option<usize>,
}

impl FrameBuilder {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, data: BytesMut::new(), h264: h264_packet(), fragment: None }
    }

    /// Whether this payload can be the first of a frame. H.264 says so only where a parameter set, a
    /// delimiter or the picture's first slice is in sight.
    pub(crate) fn begins_frame(&self, payload: &Bytes) -> bool {
        match self.codec {
            Codec::Video(VideoCodec::H264) => h264_begins_frame(payload),
            // RFC 7741, section 4.2: the S bit, and partition 0.
            Codec::Video(VideoCodec::Vp8) => {
                payload.first().is_some_and(|byte| byte & 0x10 != 0 && byte & 0x07 == 0)
            }
            // RFC 9628, section 4.2: the B bit.
            Codec::Video(VideoCodec::Vp9) => payload.first().is_some_and(|byte| byte & 0x08 != 0),
            Codec::Audio(_) => true,
        }
    }

    /// Adds the next payload of the frame.
    pub(crate) fn append(&mut self, payload: &Bytes) -> Result<(), Malformed> {
        let part = match self.codec {
            Codec::Video(VideoCodec::H264) => self.h264_part(payload)?,
            Codec::Video(VideoCodec::Vp8) => vp8_part(payload)?,
            Codec::Video(VideoCodec::Vp9) => vp9_part(payload)?,
            Codec::Audio(AudioCodec::Opus) => {
                OpusPacket.depacketize(payload).map_err(|_| Malformed)?
            }
            Codec::Audio(AudioCodec::Pcmu | AudioCodec::Pcma) => payload.clone(),
        };
        self.data.extend_from_slice(&part);
        Ok(())
    }

    /// How much is kept so far, a begun fragment included.
    pub(crate) fn len(&self) -> usize {
        self.data.len() + self.fragment.unwrap_or(0)
    }

    /// The frame; `Err` if a fragment of it has no end.
    pub(crate) fn finish(self) -> Result<Bytes, Malformed> {
        if self.fragment.is_some() { Err(Malformed) } else { Ok(self.data.freeze()) }
    }

    fn h264_part(&mut self, payload: &Bytes) -> Result<Bytes, Malformed> {
        let kind = payload.first().ok_or(Malformed)? & NALU_TYPE_BITMASK;
        match kind {
            // A delimiter, the end of a sequence or stream, filler: a file needs none of them.
            NAL_DELIMITER..=NAL_FILLER => return Ok(Bytes::new()),
            STAP_A => check_aggregate(payload)?,
            FU_A => {
                let flags = *payload.get(1).ok_or(Malformed)?;
                if (flags & FU_START != 0) == self.fragment.is_some() {
                    self.h264 = h264_packet();
                    self.fragment = None;
                    return Err(Malformed);
                }
                let kept = self.fragment.unwrap_or(0) + payload.len();
                self.fragment = (flags & FU_END == 0).then_some(kept);
            }
            _ => {}
        }
        if kind != FU_A && self.fragment.is_some() {
            return Err(Malformed);
        }
        self.h264.depacketize(payload).map_err(|_| Malformed)
    }
}

fn h264_packet() -> H264Packet {
    let mut packet = H264Packet::default();
    packet.is_avc = true;
    packet
}

/// RFC 6184, section 5.7.1: after one byte, units each with a length of two bytes, to the end.
fn check_aggregate(payload: &[u8]) -> Result<(), Malformed> {
    let mut rest = payload.get(1..).ok_or(Malformed)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        rest = after.get(length..).ok_or(Malformed)?;
    }
    Ok(())
}

fn h264_begins_frame(payload: &[u8]) -> bool {
    // The first bit of a slice header is 1 exactly if its first macroblock is number 0.
    let first_slice = |kind: u8, header: Option<&u8>| {
        kind == NAL_IDR && header.is_some_and(|byte| byte & 0x80 != 0)
    };
    let Some(&first) = payload.first() else { return false };
    match first & NALU_TYPE_BITMASK {
        STAP_A => payload.get(3).is_some_and(|byte| {
            let kind = byte & NALU_TYPE_BITMASK;
            matches!(kind, NAL_SPS | NAL_DELIMITER) || first_slice(kind, payload.get(4))
        }),
        FU_A => payload.get(1).is_some_and(|flags| {
            flags & FU_START != 0 && first_slice(flags & NALU_TYPE_BITMASK, payload.get(2))
        }),
        kind => matches!(kind, NAL_SPS | NAL_DELIMITER) || first_slice(kind, payload.get(1)),
    }
}

/// RFC 7741, section 4.2. `rtc-rtp`'s depacketiser refuses payloads of fewer than four bytes, and the last
/// packet of a frame may be as short as two.
fn vp8_part(payload: &Bytes) -> Result<Bytes, Malformed> {
    let byte = |index: usize| payload.get(index).copied().ok_or(Malformed);
    let mut length = 1;
    if byte(0)? & 0x80 != 0 {
        let extensions = byte(1)?;
        length += 1;
        if extensions & 0x80 != 0 {
            length += if byte(length)? & 0x80 != 0 { 2 } else { 1 };
        }
        length += usize::from(extensions & 0x40 != 0);
        length += usize::from(extensions & 0x30 != 0);
    }
    if length < payload.len() { Ok(payload.slice(length..)) } else { Err(Malformed) }
}

fn vp9_part(payload: &Bytes) -> Result<Bytes, Malformed> {
    let flags = *payload.first().ok_or(Malformed)?;
    let (picture_id, layers, flexible) = (flags & 0x80 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    if layers && !flexible {
        // The layer indices are followed by TL0PICIDX, which the depacketiser reads unasked.
        let id_bytes = match (picture_id, payload.get(1)) {
            (true, Some(byte)) => 1 + usize::from(byte >> 7),
            (true, None) => return Err(Malformed),
            (false, _) => 0,
        };
        if payload.len() < 1 + id_bytes + 2 {
            return Err(Malformed);
        }
    }
    let mut packet = Vp9Packet::default();
    let part = packet.depacketize(payload).map_err(|_| Malformed)?;
    // Higher spatial layers would need a superframe index to be one sample; the base layer plays alone.
    Ok(if packet.sid > 0 { Bytes::new() } else { part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_aggregate_with_a_byte_left_over_is_refused() {
        let mut builder = FrameBuilder::new(Codec::Video(VideoCodec::H264));
        let payload = Bytes::from_static(&[0x78, 0, 2, 0x67, 1, 9]);
        assert_eq!(builder.append(&payload), Err(Malformed));
    }

    #[test]
    fn a_fragment_without_its_beginning_or_end_is_no_frame() {
        let mut builder = FrameBuilder::new(Codec::Video(VideoCodec::H264));
        assert_eq!(builder.append(&Bytes::from_static(&[0x7c, 0x05, 1, 2])), Err(Malformed));
        assert_eq!(builder.append(&Bytes::from_static(&[0x7c, 0x85, 0x80, 2])), Ok(()));
        assert_eq!(builder.finish(), Err(Malformed));
    }

    #[test]
    fn a_fragmented_unit_is_put_together_with_its_length() {
        let mut builder = FrameBuilder::new(Codec::Video(VideoCodec::H264));
        assert!(builder.begins_frame(&Bytes::from_static(&[0x7c, 0x85, 0x80, 2])));
        builder.append(&Bytes::from_static(&[0x7c, 0x85, 0x80, 2])).unwrap();
        builder.append(&Bytes::from_static(&[0x7c, 0x45, 3, 4])).unwrap();
        assert_eq!(&builder.finish().unwrap()[..], [0, 0, 0, 5, 0x65, 0x80, 2, 3, 4]);
    }

    #[test]
    fn a_vp8_payload_of_one_byte_is_taken() {
        let mut builder = FrameBuilder::new(Codec::Video(VideoCodec::Vp8));
        builder.append(&Bytes::from_static(&[0x90, 0x80, 0x81, 0x02, 7])).unwrap();
        builder.append(&Bytes::from_static(&[0x00, 8])).unwrap();
        assert_eq!(builder.append(&Bytes::from_static(&[0x80, 0xf0, 0x80, 1, 2])), Err(Malformed));
        assert_eq!(&builder.finish().unwrap()[..], [7, 8]);
    }

    #[test]
    fn a_vp9_descriptor_cut_short_is_refused() {
        let mut builder = FrameBuilder::new(Codec::Video(VideoCodec::Vp9));
        assert_eq!(builder.append(&Bytes::from_static(&[0xa0, 0x81, 2, 3])), Err(Malformed));
        assert_eq!(builder.append(&Bytes::from_static(&[0x20, 3])), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_payload_panics(
            codec in prop_oneof![
                Just(Codec::Video(VideoCodec::H264)),
                Just(Codec::Video(VideoCodec::Vp8)),
                Just(Codec::Video(VideoCodec::Vp9)),
                Just(Codec::Audio(AudioCodec::Opus)),
                Just(Codec::Audio(AudioCodec::Pcma)),
            ],
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..24), 1..8),
            first in prop_oneof![Just(None), (24u8..30).prop_map(Some)],
        ) {
            let mut builder = FrameBuilder::new(codec);
            for mut payload in payloads {
                if let (Some(kind), Some(byte)) = (first, payload.first_mut()) {
                    *byte = (*byte & 0xe0) | kind;
                }
                let payload = Bytes::from(payload);
                builder.begins_frame(&payload);
                let _ = builder.append(&payload);
            }
            let _ = builder.finish();
        }
    }
}
