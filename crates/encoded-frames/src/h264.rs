//! H.264: the types of NAL units, the iteration over a frame's units, and the assembly of frames.

mod access_unit;
mod sets;
mod syntax;
mod units;

use bytes::Bytes;

pub(crate) use access_unit::Assembly;

/// Iterates over the NAL units of length-prefixed H.264 (a four-byte length each); stops at a
/// length that does not fit.
pub fn length_prefixed_nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let nal = after.get(..length)?;
        rest = &after[length..];
        Some(nal)
    })
}

/// Converts a frame of length-prefixed H.264 to Annex B (ITU-T H.264): a four-byte start code
/// replaces each length, so the size stays the same.
#[must_use]
pub fn annex_b(data: &[u8]) -> Bytes {
    let mut stream = Vec::with_capacity(data.len());
    for nal in length_prefixed_nals(data) {
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(nal);
    }
    stream.into()
}

/// Returns the type of a NAL unit (ITU-T H.264, table 7-1); 0 for an empty one.
#[must_use]
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 0x1f)
}

/// A slice of a picture that may refer to other pictures.
pub const NAL_SLICE: u8 = 1;
/// The first partition of a slice.
pub(crate) const NAL_PARTITION_A: u8 = 2;
/// A slice of a picture that refers to no other picture.
pub const NAL_IDR: u8 = 5;
/// Supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// A sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// A picture parameter set.
pub const NAL_PPS: u8 = 8;
/// An access unit delimiter.
pub const NAL_DELIMITER: u8 = 9;
/// The end of a sequence: an IDR picture follows.
pub(crate) const NAL_END_OF_SEQUENCE: u8 = 10;
/// The end of the stream.
pub(crate) const NAL_END_OF_STREAM: u8 = 11;
/// Filler data.
pub const NAL_FILLER: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annex_b_replaces_lengths_with_start_codes() {
        let frame = [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 3, 0x65, 2, 3];
        assert_eq!(&annex_b(&frame)[..], [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 2, 3]);
        assert_eq!(annex_b(&[0, 0, 0, 9, 1]).len(), 0, "a length that does not fit");
    }

    #[test]
    fn nal_iteration_stops_at_oversized_length() {
        let data = [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 9, 0x68];
        let nals: Vec<&[u8]> = length_prefixed_nals(&data).collect();
        assert_eq!(nals, [&[0x67, 1][..]]);
    }
}
