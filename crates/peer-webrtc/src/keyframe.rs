//! Asks for a keyframe, and finds the first whole one of a video stream.
//!
//! Packets are noted, not kept. A keyframe is whole when every packet from the frame's beginning
//! to the one with the marker bit is there, whatever order they came in.

use std::collections::BTreeMap;

use rtc::rtcp::Packet;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::codec::Codec;
use crate::sequence::Unwrapper;

/// Packets noted at most: a keyframe of 4 MB in packets of 1200 bytes has 3500.
const NOTED_MAX: usize = 4096;

/// What asks a source for a keyframe, by both names that it may know. The number tells one FIR from
/// its repetition (RFC 5104, 4.3.1.1).
pub(crate) fn request(ssrc: u32, sequence_number: u8) -> Vec<Box<dyn Packet>> {
    let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
    let fir = FullIntraRequest {
        sender_ssrc: 0,
        media_ssrc: 0,
        fir: vec![FirEntry { ssrc, sequence_number }],
    };
    vec![Box::new(pli), Box::new(fir)]
}

/// What a packet says about its frame.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    timestamp: u32,
    /// How sure it is that the frame begins here.
    begins: Begin,
    /// It belongs to a keyframe, as far as it shows.
    key: bool,
    /// It ends its frame.
    ends: bool,
}

/// Whether a frame begins with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Begin {
    #[default]
    No,
    /// If no parameter sets come before it.
    Maybe,
    Yes,
}

/// Looks for one whole keyframe.
pub(crate) struct KeyframeDetector {
    codec: Codec,
    unwrapper: Unwrapper,
    notes: BTreeMap<i64, Note>,
}

impl KeyframeDetector {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, unwrapper: Unwrapper::default(), notes: BTreeMap::new() }
    }

    /// Takes a packet; true when it completes a keyframe.
    pub(crate) fn push(&mut self, header: &rtc::rtp::Header, payload: &[u8]) -> bool {
        let (begins, key) = match self.codec {
            Codec::H264 | Codec::H264Baseline | Codec::H264High => h264(payload),
            Codec::Vp8 => vp8(payload),
            Codec::Vp9 => vp9(payload),
            Codec::Opus | Codec::Pcmu | Codec::Pcma => return false,
        };
        let seq = self.unwrapper.unwrap(header.sequence_number);
        let note = Note { timestamp: header.timestamp, begins, key, ends: header.marker };
        self.notes.insert(seq, note);
        while self.notes.len() > NOTED_MAX {
            self.notes.pop_first();
        }
        self.is_whole_key(seq)
    }

    /// Whether the frame that holds packet `seq` is a keyframe and complete.
    fn is_whole_key(&self, seq: i64) -> bool {
        let Some(timestamp) = self.notes.get(&seq).map(|note| note.timestamp) else {
            return false;
        };
        let same = |seq: &i64| self.notes.get(seq).filter(|note| note.timestamp == timestamp);
        let mut key = false;
        let mut last = seq;
        loop {
            let Some(note) = same(&last) else { return false };
            key |= note.key;
            if note.ends {
                break;
            }
            last += 1;
        }
        let mut first = seq;
        while let Some(note) = same(&(first - 1)) {
            key |= note.key;
            first -= 1;
        }
        // A packet of another frame right before it.
        let bounded = self.notes.contains_key(&(first - 1));
        let earliest = self.notes.first_key_value().is_some_and(|(seq, _)| *seq == first);
        let begins = match same(&first).map(|note| note.begins) {
            Some(Begin::Yes) => true,
            Some(Begin::Maybe) => earliest,
            Some(Begin::No) | None => false,
        };
        key && (bounded || begins)
    }
}

/// RFC 6184: NAL types 5 (IDR), 7 (SPS), 9 (delimiter), 24 (STAP-A), 28 (FU-A).
fn h264(payload: &[u8]) -> (Begin, bool) {
    // A first_mb_in_slice of zero is the single bit 1.
    let slice = |byte: Option<&u8>| match byte {
        Some(byte) if byte & 0x80 != 0 => Begin::Maybe,
        _ => Begin::No,
    };
    let nal = |nal: &[u8]| match nal.first().map(|b| b & 0x1f) {
        Some(5) => (slice(nal.get(1)), true),
        Some(7 | 9) => (Begin::Yes, false),
        _ => (Begin::No, false),
    };
    match payload.first().map(|b| b & 0x1f) {
        Some(24) => {
            let mut rest = payload.get(1..).unwrap_or_default();
            let mut begins = None;
            let mut key = false;
            while let [high, low, tail @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(unit) = tail.get(..size) else { break };
                let (unit_begins, unit_key) = nal(unit);
                begins.get_or_insert(unit_begins);
                key |= unit_key;
                rest = tail.get(size..).unwrap_or_default();
            }
            (begins.unwrap_or_default(), key)
        }
        Some(28) => match payload.get(1) {
            Some(header) if header & 0x9f == 0x85 => (slice(payload.get(2)), true),
            Some(header) if header & 0x1f == 5 => (Begin::No, true),
            _ => (Begin::No, false),
        },
        _ => nal(payload),
    }
}

/// RFC 7741, 4.2 and 4.3: a frame begins where S is set and the partition is 0; its first byte
/// has the inverse key frame flag as lowest bit.
fn vp8(payload: &[u8]) -> (Begin, bool) {
    let Some(descriptor) = payload.first() else { return (Begin::No, false) };
    let mut at = 1;
    if descriptor & 0x80 != 0 {
        let extension = payload.get(at).copied().unwrap_or_default();
        at += 1;
        if extension & 0x80 != 0 {
            at += if payload.get(at).is_some_and(|b| b & 0x80 != 0) { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0);
        at += usize::from(extension & 0x30 != 0);
    }
    let begins = descriptor & 0x10 != 0 && descriptor & 0x07 == 0;
    let key = begins && payload.get(at).is_some_and(|b| b & 0x01 == 0);
    (begin(begins), key)
}

/// RFC 9628, 4.2: B begins a frame, P says that it is predicted from others. Of several spatial
/// layers the lowest decides.
fn vp9(payload: &[u8]) -> (Begin, bool) {
    let Some(descriptor) = payload.first() else { return (Begin::No, false) };
    let (has_id, predicted, has_layers) =
        (descriptor & 0x80 != 0, descriptor & 0x40 != 0, descriptor & 0x20 != 0);
    let mut at = 1;
    if has_id {
        at += if payload.get(at).is_some_and(|b| b & 0x80 != 0) { 2 } else { 1 };
    }
    let layer = match payload.get(at) {
        Some(layers) if has_layers => (layers >> 1) & 0x07,
        _ => 0,
    };
    let begins = descriptor & 0x08 != 0 && layer == 0;
    (begin(begins), begins && !predicted)
}

fn begin(yes: bool) -> Begin {
    if yes { Begin::Yes } else { Begin::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u16, timestamp: u32, marker: bool) -> rtc::rtp::Header {
        rtc::rtp::Header { sequence_number: seq, timestamp, marker, ..Default::default() }
    }

    /// SPS, PPS and an IDR slice in three fragments.
    const FRAME: [(&[u8], bool); 5] = [
        (&[0x67, 0x42], false),
        (&[0x68, 0xce], false),
        (&[0x7c, 0x85, 0x88], false),
        (&[0x7c, 0x05, 0x00], false),
        (&[0x7c, 0x45, 0x00], true),
    ];

    fn feed(order: &[usize], first_seq: u16) -> Vec<bool> {
        let mut detector = KeyframeDetector::new(Codec::H264);
        order
            .iter()
            .map(|i| {
                let seq = first_seq.wrapping_add(u16::try_from(*i).expect("small"));
                detector.push(&header(seq, 90, FRAME[*i].1), FRAME[*i].0)
            })
            .collect()
    }

    #[test]
    fn a_keyframe_is_told_with_its_last_packet() {
        assert_eq!(feed(&[0, 1, 2, 3, 4], 65_533), [false, false, false, false, true]);
        assert_eq!(feed(&[4, 2, 0, 1, 3], 65_533), [false, false, false, false, true]);
    }

    #[test]
    fn a_keyframe_with_a_hole_is_not_whole() {
        for hole in 0..FRAME.len() {
            let order: Vec<usize> = (0..FRAME.len()).filter(|i| *i != hole).collect();
            assert!(!feed(&order, 7).contains(&true), "without packet {hole}");
        }
    }

    #[test]
    fn other_frames_are_no_keyframes() {
        let mut detector = KeyframeDetector::new(Codec::H264);
        assert!(!detector.push(&header(1, 1, true), &[0x41, 0x9a]));
        assert!(!detector.push(&header(2, 2, true), &[]));
        assert!(!detector.push(&header(3, 3, true), &[0x78, 0, 9, 0x67]));
        let mut detector = KeyframeDetector::new(Codec::Vp8);
        assert!(!detector.push(&header(1, 1, true), &[0x10, 0x01]));
        assert!(detector.push(&header(2, 2, true), &[0x10, 0x00]));
        let mut detector = KeyframeDetector::new(Codec::Vp9);
        assert!(!detector.push(&header(1, 1, true), &[0xcc, 0x01]));
        assert!(detector.push(&header(2, 2, true), &[0x8c, 0x01]));
        assert!(detector.push(&header(3, 3, true), &[0x90 | 0x08, 0x80, 0x02, 0x00]));
    }

    #[test]
    fn an_extended_vp8_descriptor_is_skipped() {
        // X, then I L T, a picture id of two bytes, TL0PICIDX, TID; then the frame.
        let mut payload = vec![0x90, 0xe0, 0x80, 0x01, 0x00, 0x20, 0x00];
        assert_eq!(vp8(&payload), (Begin::Yes, true));
        payload[6] = 0x01;
        assert_eq!(vp8(&payload), (Begin::Yes, false));
    }
}
