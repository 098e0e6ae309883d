//! Parses the few fields of parameter sets, slice headers and SEI messages that distinguish
//! pictures (ITU-T H.264, sections 7.3.2, 7.3.3 and D.1). Other fields are not checked: cameras
//! send levels, VUI and trailing bytes that a strict parser refuses, and decoders play them.

use super::{NAL_IDR, nal_type};

/// The bits of a NAL unit after its header, without emulation prevention bytes.
#[derive(Debug)]
struct Bits<'a> {
    bytes: &'a [u8],
    zeros: u8,
    current: u8,
    left: u8,
}

impl<'a> Bits<'a> {
    fn new(nal: &'a [u8]) -> Self {
        Self { bytes: nal.get(1..).unwrap_or_default(), zeros: 0, current: 0, left: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            return self.byte();
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }

    fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Reads an Exp-Golomb code (section 9.1).
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        ((1u32 << zeros) - 1).checked_add(rest)
    }

    fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let half = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code & 1 == 1 { half } else { -half })
    }
}

/// How a slice header encodes the picture order (section 8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderCount {
    Lsb { bits: u32 },
    Delta { always_zero: bool },
    Implied,
}

/// A sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) id: u8,
    separate_colour_planes: bool,
    frame_num_bits: u32,
    order_count: OrderCount,
    frames_only: bool,
}

impl Sps {
    pub(super) fn parse(nal: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(nal);
        let profile = bits.bits(8)?;
        bits.bits(16)?;
        let id = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
        let mut separate_colour_planes = false;
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            let chroma_format = bits.ue()?;
            if chroma_format == 3 {
                separate_colour_planes = bits.bit()?;
            }
            bits.ue()?;
            bits.ue()?;
            bits.bit()?;
            if bits.bit()? {
                for index in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.bit()? {
                        skip_scaling_list(&mut bits, if index < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let frame_num_bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let order_count = match bits.ue()? {
            0 => {
                let bits = bits.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
                OrderCount::Lsb { bits }
            }
            1 => {
                let always_zero = bits.bit()?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue().filter(|count| *count < 256)? {
                    bits.se()?;
                }
                OrderCount::Delta { always_zero }
            }
            2 => OrderCount::Implied,
            _ => return None,
        };
        bits.ue()?;
        bits.bit()?;
        bits.ue()?;
        bits.ue()?;
        let frames_only = bits.bit()?;
        Some(Self { id, separate_colour_planes, frame_num_bits, order_count, frames_only })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.checked_add(bits.se()?)?.rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// A picture parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pps {
    pub(super) id: u8,
    pub(super) sps: u8,
    bottom_field_order: bool,
    redundant_pictures: bool,
}

impl Pps {
    pub(super) fn parse(nal: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(nal);
        let id = u8::try_from(bits.ue()?).ok()?;
        let sps = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
        bits.bit()?;
        let bottom_field_order = bits.bit()?;
        // With slice groups, which only a rare use of baseline has, the rest is at another
        // position.
        let redundant_pictures = if bits.ue()? == 0 {
            Self::redundant_pictures(&mut bits).unwrap_or(false)
        } else {
            false
        };
        Some(Self { id, sps, bottom_field_order, redundant_pictures })
    }

    fn redundant_pictures(bits: &mut Bits<'_>) -> Option<bool> {
        bits.ue()?;
        bits.ue()?;
        bits.bits(3)?;
        bits.se()?;
        bits.se()?;
        bits.se()?;
        bits.bits(2)?;
        bits.bit()
    }
}

/// The beginning of a slice header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) first_macroblock: u32,
    pub(super) pps: u8,
    pub(super) idr: bool,
    pub(super) reference: bool,
    /// Known only if the parameter sets are known.
    picture: Option<PictureId>,
}

/// The fields that all slices of a picture have in common (section 7.4.1.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PictureId {
    frame_num: u32,
    /// The parity of a field.
    bottom: Option<bool>,
    idr_id: Option<u32>,
    order: (u32, i32),
    redundant: bool,
}

impl Slice {
    pub(super) fn parse(nal: &[u8], sets: impl Fn(u8) -> Option<(Sps, Pps)>) -> Option<Self> {
        let mut bits = Bits::new(nal);
        let first_macroblock = bits.ue()?;
        bits.ue()?;
        let pps = u8::try_from(bits.ue()?).ok()?;
        let idr = nal_type(nal) == NAL_IDR;
        let reference = nal.first().is_some_and(|byte| byte & 0x60 != 0);
        let picture = sets(pps).and_then(|(sps, pps)| PictureId::parse(&mut bits, idr, sps, pps));
        Some(Self { first_macroblock, pps, idr, reference, picture })
    }

    /// Returns whether this slice, which follows another, is the first of a picture.
    ///
    /// The standard treats the two fields of a frame as pictures; here they are one frame.
    pub(super) fn begins_after(&self, before: &Self) -> bool {
        if let (Some(this), Some(before)) = (self.picture, before.picture) {
            let is_second_field = matches!((this.bottom, before.bottom), (Some(a), Some(b)) if a != b)
                && this.frame_num == before.frame_num;
            if this.redundant || is_second_field {
                return false;
            }
            let same = this.frame_num == before.frame_num
                && this.bottom == before.bottom
                && (this.order == before.order || this.bottom.is_some())
                && this.idr_id == before.idr_id;
            if !same {
                return true;
            }
        }
        self.first_macroblock == 0 || self.idr != before.idr
    }
}

impl PictureId {
    fn parse(bits: &mut Bits<'_>, idr: bool, sps: Sps, pps: Pps) -> Option<Self> {
        if sps.separate_colour_planes {
            bits.bits(2)?;
        }
        let frame_num = bits.bits(sps.frame_num_bits)?;
        let bottom = if !sps.frames_only && bits.bit()? { Some(bits.bit()?) } else { None };
        let idr_id = if idr { Some(bits.ue()?) } else { None };
        let both = pps.bottom_field_order && bottom.is_none();
        let order = match sps.order_count {
            OrderCount::Lsb { bits: count } => {
                (bits.bits(count)?, if both { bits.se()? } else { 0 })
            }
            OrderCount::Delta { always_zero: false } => {
                (bits.se()?.cast_unsigned(), if both { bits.se()? } else { 0 })
            }
            OrderCount::Delta { always_zero: true } | OrderCount::Implied => (0, 0),
        };
        let redundant = pps.redundant_pictures && bits.ue()? > 0;
        Some(Self { frame_num, bottom, idr_id, order, redundant })
    }
}

/// Returns after how many reference pictures the picture is complete, if the SEI message has a
/// recovery point (section D.1.8).
pub(super) fn recovery_point(nal: &[u8]) -> Option<u32> {
    const RECOVERY_POINT: usize = 6;
    let mut bits = Bits::new(nal);
    loop {
        let kind = sei_number(&mut bits)?;
        let length = sei_number(&mut bits)?;
        if kind == RECOVERY_POINT {
            return bits.ue();
        }
        for _ in 0..length {
            bits.bits(8)?;
        }
        // Only the trailing bits are left.
        if bits.bytes.len() < 2 {
            return None;
        }
    }
}

fn sei_number(bits: &mut Bits<'_>) -> Option<usize> {
    let mut number = 0usize;
    loop {
        let byte = bits.bits(8)?;
        number = number.checked_add(usize::try_from(byte).ok()?)?;
        if byte != 0xff {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golomb_codes_and_emulation_prevention_are_read() {
        // 1, 010, 011, 00100, 00101 -> 0, 1, 2, 3, 4; the 3 after two zeros is an emulation
        // prevention byte.
        let mut bits = Bits::new(&[0, 0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<u32> = std::iter::from_fn(|| bits.ue()).take(5).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&[0, 0, 0, 3, 1, 0xff]);
        assert_eq!(bits.bits(24), Some(1));
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0, 0, 0xff]).ue(), None, "too long");
    }

    #[test]
    fn recovery_point_after_other_sei_messages_is_found() {
        // User data of 4 bytes, then a recovery point with a count of 29 (000011110).
        let nal = [0x06, 5, 4, 1, 2, 3, 4, 6, 2, 0b0000_1111, 0b0100_0000, 0x80];
        assert_eq!(recovery_point(&nal), Some(29));
        assert_eq!(recovery_point(&nal[..7]), None);
        assert_eq!(recovery_point(&[0x06, 5, 1, 9, 0x80]), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(nal in proptest::collection::vec(any::<u8>(), 0..80)) {
            let sets = Sps::parse(&nal).zip(Pps::parse(&nal));
            let _ = Slice::parse(&nal, |_| sets);
            let _ = recovery_point(&nal);
        }
    }
}
