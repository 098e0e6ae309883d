//! Reads the presentation order and the colours of an H.264 stream, over `h264-reader`.

use bytes::Bytes;
use encoded_frames::Frame;
use encoded_frames::h264::{NAL_IDR, NAL_PPS, NAL_SPS, length_prefixed_nals, nal_type};
use h264_reader::Context;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::{PicOrderCountLsb, SliceHeader};
use h264_reader::nal::sps::{PicOrderCntType, SeqParameterSet};
use h264_reader::nal::{Nal, RefNal};

/// The maximum number of pictures that a decoder keeps (ITU-T H.264, A.3.1).
const DEPTH_MAX: usize = 16;

/// The number of bytes at the beginning of a slice that contain its header.
const SLICE_HEAD_BYTES: usize = 512;

/// The position of a picture in the presentation order: the number of the IDR picture that it
/// follows, and the picture order count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) sequence: u64,
    pub(crate) count: i64,
}

/// How many pictures may precede, in decoding order, one that is presented before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The sequence parameter set specifies the depth.
    Known(usize),
    /// The sequence parameter set does not specify the depth.
    Unknown,
}

/// Colours as ITU-T H.273 numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour {
    pub(crate) primaries: u8,
    pub(crate) transfer: u8,
    pub(crate) matrix: u8,
    pub(crate) full_range: bool,
}

/// Reads the headers of one stream's pictures, in decoding order.
#[derive(Debug)]
pub(crate) struct PictureOrder {
    context: Context,
    /// The parameter sets that were read last.
    sps: Bytes,
    pps: Bytes,
    depth: Depth,
    colour: Option<Colour>,
    sequence: u64,
    /// The most and the least significant part of the picture order count of the last reference
    /// picture.
    most_significant: i64,
    least_significant: i64,
}

impl PictureOrder {
    pub(crate) fn new() -> Self {
        Self {
            context: Context::new(),
            sps: Bytes::new(),
            pps: Bytes::new(),
            depth: Depth::Known(0),
            colour: None,
            sequence: 0,
            most_significant: 0,
            least_significant: 0,
        }
    }

    /// The reordering depth according to the sequence parameter set that was read last.
    pub(crate) fn depth(&self) -> Depth {
        self.depth
    }

    /// The colours that the last sequence parameter set describes.
    pub(crate) fn colour(&self) -> Option<Colour> {
        self.colour
    }

    /// Returns the position of a picture; `None` if its stream is presented in decoding order, or
    /// its headers cannot be read.
    pub(crate) fn picture(&mut self, frame: &Frame) -> Option<Order> {
        if let Some(sets) = &frame.parameter_sets {
            self.read_sps(&sets.sps);
            self.read_pps(&sets.pps);
        }
        for nal in length_prefixed_nals(&frame.data) {
            match nal_type(nal) {
                NAL_SPS => self.read_sps(&frame.data.slice_ref(nal)),
                NAL_PPS => self.read_pps(&frame.data.slice_ref(nal)),
                1 | 2 | NAL_IDR => return self.slice(nal),
                _ => {}
            }
        }
        None
    }

    fn read_sps(&mut self, nal: &Bytes) {
        if self.sps == nal || nal.is_empty() {
            return;
        }
        self.colour = None;
        self.depth = Depth::Known(0);
        if let Ok(sps) = SeqParameterSet::from_bits(RefNal::new(nal, &[], true).rbsp_bits()) {
            self.depth = depth(&sps);
            self.colour = colour(&sps);
            self.context.put_seq_param_set(sps);
        }
        self.sps = nal.clone();
        // The new SPS may change how the PPS is parsed.
        self.pps = Bytes::new();
    }

    fn read_pps(&mut self, nal: &Bytes) {
        if self.pps == nal || nal.is_empty() {
            return;
        }
        let bits = RefNal::new(nal, &[], true).rbsp_bits();
        if let Ok(pps) = PicParameterSet::from_bits(&self.context, bits) {
            self.context.put_pic_param_set(pps);
        }
        self.pps = nal.clone();
    }

    /// Computes the picture order count of type 0 (ITU-T H.264, 8.2.1.1).
    fn slice(&mut self, nal: &[u8]) -> Option<Order> {
        let head = nal.get(..SLICE_HEAD_BYTES).unwrap_or(nal);
        let head = RefNal::new(head, &[], true);
        let header = head.header().ok()?;
        let (slice, sps, _) =
            SliceHeader::from_bits(&self.context, &mut head.rbsp_bits(), header, None).ok()?;
        let PicOrderCntType::TypeZero { log2_max_pic_order_cnt_lsb_minus4 } = sps.pic_order_cnt
        else {
            return None;
        };
        let (least, delta) = match slice.pic_order_cnt_lsb? {
            PicOrderCountLsb::Frame(least) => (least, 0),
            PicOrderCountLsb::FieldsAbsolute { pic_order_cnt_lsb, delta_pic_order_cnt_bottom } => {
                (pic_order_cnt_lsb, delta_pic_order_cnt_bottom.min(0))
            }
            PicOrderCountLsb::FieldsDelta(_) => return None,
        };
        let least = i64::from(least);
        let wrap = 1i64 << (log2_max_pic_order_cnt_lsb_minus4 + 4);
        if nal_type(nal) == NAL_IDR {
            self.sequence += 1;
            (self.most_significant, self.least_significant) = (0, 0);
        }
        let ahead = least - self.least_significant;
        let most = self.most_significant
            + if ahead <= -wrap / 2 {
                wrap
            } else if ahead > wrap / 2 {
                -wrap
            } else {
                0
            };
        if header.nal_ref_idc() != 0 {
            (self.most_significant, self.least_significant) = (most, least);
        }
        Some(Order { sequence: self.sequence, count: most + least + i64::from(delta) })
    }
}

fn depth(sps: &SeqParameterSet) -> Depth {
    const BASELINE: u8 = 66;
    let restrictions =
        sps.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
    if sps.profile_idc == BASELINE.into() || sps.pic_order_cnt == PicOrderCntType::TypeTwo {
        return Depth::Known(0);
    }
    match restrictions {
        Some(restrictions) => {
            let frames = usize::try_from(restrictions.max_num_reorder_frames);
            Depth::Known(frames.unwrap_or(DEPTH_MAX).min(DEPTH_MAX))
        }
        None if sps.max_num_ref_frames == 0 => Depth::Known(0),
        None => Depth::Unknown,
    }
}

fn colour(sps: &SeqParameterSet) -> Option<Colour> {
    let signal = sps.vui_parameters.as_ref()?.video_signal_type.as_ref()?;
    // 2 is "unspecified" (ITU-T H.273, 8).
    let described = signal.colour_description.as_ref().map_or((2, 2, 2), |colours| {
        (colours.colour_primaries, colours.transfer_characteristics, colours.matrix_coefficients)
    });
    let (primaries, transfer, matrix) = described;
    Some(Colour { primaries, transfer, matrix, full_range: signal.video_full_range_flag })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use encoded_frames::{Codec, VideoCodec};
    use proptest::prelude::*;

    /// Wraps a picture in a frame without parameter sets.
    fn frame(data: Vec<u8>) -> Frame {
        Frame {
            codec: Codec::Video(VideoCodec::H264),
            ssrc: 0,
            rtp_timestamp: 0,
            arrival: Duration::ZERO,
            completed: Duration::ZERO,
            epoch: 0,
            keyframe: false,
            recovered: true,
            size: None,
            parameter_sets: None,
            data: Bytes::from(data),
        }
    }

    /// Replaces the start codes of the bundled clip's picture with lengths.
    fn length_prefixed(annex_b: &[u8]) -> Vec<u8> {
        use shiguredo_mp4::bitstream::h264::{LengthSize, annexb_to_length_prefixed};
        annexb_to_length_prefixed(annex_b, LengthSize::FourBytes).unwrap()
    }

    proptest! {
        /// Damaged real headers must not cause a panic.
        #[test]
        fn damaged_headers_are_read_without_a_panic(
            damage in proptest::collection::vec((0usize..6, 4usize..80, any::<u8>()), 1..12),
        ) {
            let clip = crate::Clip::bundled(crate::ClipKind::H264Opus).unwrap();
            let samples = clip.video().unwrap().samples.iter().take(6);
            let mut pictures: Vec<Vec<u8>> =
                samples.map(|sample| length_prefixed(&sample.data)).collect();
            for (picture, at, with) in damage {
                if let Some(byte) = pictures[picture].get_mut(at) {
                    *byte ^= with;
                }
            }
            let mut order = PictureOrder::new();
            for picture in pictures {
                order.picture(&frame(picture));
            }
        }

        /// Arbitrary parameter sets and slices must not cause a panic or an endless loop.
        #[test]
        fn arbitrary_headers_are_read_without_a_panic(
            nals in proptest::collection::vec(
                (prop_oneof![Just(7u8), Just(8), Just(1), Just(5), any::<u8>()],
                 proptest::collection::vec(any::<u8>(), 0..40)),
                1..8,
            ),
        ) {
            let mut order = PictureOrder::new();
            for (kind, body) in nals {
                let mut picture = u32::try_from(body.len() + 1).unwrap().to_be_bytes().to_vec();
                picture.push(0x60 | kind);
                picture.extend_from_slice(&body);
                order.picture(&frame(picture));
            }
        }
    }
}
