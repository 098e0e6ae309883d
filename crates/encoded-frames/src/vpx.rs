//! VP8 and VP9: the payload descriptors, where a picture begins and ends, and which is a keyframe.
//!
//! The descriptor shows where a picture begins. A picture ends where the timestamp changes, where
//! another begins, or at its end mark: the marker bit of VP8 once the stream has proven it, the
//! descriptor's end bit of VP9.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rtc_rtp::codec::vp9::Vp9Packet;
use rtc_rtp::packet::Packet;
use rtc_rtp::packetizer::Depacketizer;

use crate::end_mark::{Marks, Trust};
use crate::frame::{Delivery, Entry, Malformed, Picture};

/// The two codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vpx {
    Vp8,
    Vp9,
}

/// Assembles the pictures of one source.
#[derive(Debug)]
pub(crate) struct Assembly {
    codec: Vpx,
    trust: Trust,
    /// The number of pictures that ended with a marker.
    ended: u32,
    current: Option<Current>,
    /// The timestamp of the picture that was output at its marker.
    marked: Option<u32>,
    bytes_max: usize,
}

/// An incomplete picture.
#[derive(Debug)]
struct Current {
    rtp_timestamp: u32,
    arrival: Duration,
    completed: Duration,
    data: BytesMut,
    marks: Marks,
    broken: bool,
}

/// A parsed payload.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    data: Bytes,
    /// Whether a picture begins with it.
    begins: bool,
    /// Whether a picture ends with it, if the descriptor shows that.
    ends: Option<bool>,
}

impl Assembly {
    pub(crate) fn new(codec: Vpx, bytes_max: usize) -> Self {
        let mut assembly =
            Self { codec, trust: Trust::Unknown, ended: 0, current: None, marked: None, bytes_max };
        assembly.reset();
        assembly
    }

    /// Returns whether a picture begins with this payload.
    pub(crate) fn can_begin(&self, payload: &Bytes) -> bool {
        self.part(payload).is_ok_and(|part| part.is_some_and(|part| part.begins))
    }

    pub(crate) fn packet(&mut self, packet: &Packet, arrival: Duration, out: &mut Delivery) {
        let timestamp = packet.header.timestamp;
        if self.current.as_ref().is_some_and(|current| current.rtp_timestamp != timestamp) {
            self.finish(out);
        }
        let part = match self.part(&packet.payload) {
            Ok(Some(part)) => part,
            Ok(None) => return,
            Err(Malformed) => {
                out.stats.malformed += 1;
                let begin = || Current::new(timestamp, arrival);
                self.current.get_or_insert_with(begin).break_up();
                return;
            }
        };
        // Two pictures may have the same timestamp.
        if part.begins && self.current.as_ref().is_some_and(Current::has_begun) {
            self.finish(out);
        }
        if self.current.is_none() && !part.begins && self.marked == Some(timestamp) {
            self.trust.refute();
        }
        self.marked = None;
        let current = self.current.get_or_insert_with(|| Current::new(timestamp, arrival));
        if current.marks.is_marked() {
            current.marks.unmark();
            self.trust.refute();
        }
        if !current.has_begun() && !part.begins {
            // Its first packets are missing, or it was output at a marker that did not end it.
            current.break_up();
        }
        current.completed = current.completed.max(arrival);
        if current.data.len() + part.data.len() > self.bytes_max {
            current.break_up();
        }
        if !current.broken {
            current.data.extend_from_slice(&part.data);
        }
        let ends = part.ends.unwrap_or(packet.header.marker);
        current.marks.packet(ends, true, current.completed);
        let (marks, completed) = (current.marks, current.completed);
        if self.trust.is_whole(marks) {
            self.marked = Some(timestamp);
            self.finish(out);
        } else if self.trust.is_likely_whole(marks) && self.is_keyframe() {
            out.note_keyframe(completed);
        }
    }

    /// Records that packets were lost.
    pub(crate) fn gap(&mut self, out: &mut Delivery) {
        let (trust, ended) = (self.trust, self.ended);
        let survives =
            |current: &Current| !current.broken && trust.survives_gap(current.marks, ended);
        if self.current.as_ref().is_some_and(survives) {
            self.finish(out);
        } else if let Some(current) = &mut self.current {
            current.break_up();
        }
        out.need_keyframe();
    }

    /// Outputs a picture with a marker that has waited long enough for proof.
    pub(crate) fn advance(&mut self, now: Duration, out: &mut Delivery) {
        let is_overdue =
            |current: &Current| !current.broken && self.trust.is_overdue(current.marks, now);
        if self.current.as_ref().is_some_and(is_overdue) {
            self.marked = self.current.as_ref().map(|current| current.rtp_timestamp);
            self.finish(out);
        }
    }

    /// Resets all state, because the following packets are unrelated to the earlier ones.
    pub(crate) fn reset(&mut self) {
        self.current = None;
        self.marked = None;
        self.ended = 0;
        // The end bit of VP9 has no other use, so it needs no proof.
        self.trust = match self.codec {
            Vpx::Vp8 => Trust::Unknown,
            Vpx::Vp9 => Trust::Proven,
        };
    }

    /// Returns the number of bytes held for the incomplete picture.
    pub(crate) fn bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |current| current.data.len())
    }

    /// Ends the stream: a picture without a marker may be incomplete, and is not output.
    pub(crate) fn flush(&mut self, out: &mut Delivery) {
        if self
            .current
            .as_ref()
            .is_some_and(|current| self.trust.is_overdue(current.marks, Duration::MAX))
        {
            self.finish(out);
        }
        self.current = None;
    }

    /// Ends the current picture, and outputs or drops it.
    fn finish(&mut self, out: &mut Delivery) {
        let Some(current) = self.current.take() else { return };
        self.trust.ended(current.marks);
        self.ended = self.ended.saturating_add(u32::from(current.marks.is_marked()));
        if current.broken {
            return out.drop_picture();
        }
        let data = current.data.freeze();
        if data.is_empty() {
            return;
        }
        let header = self.size(&data);
        let picture = Picture {
            rtp_timestamp: current.rtp_timestamp,
            arrival: current.arrival,
            completed: current.completed,
            data,
        };
        match header {
            Ok(Some(size)) => {
                out.stats.keyframe_seen = true;
                out.key(picture, Entry { size, parameter_sets: None, recovery: 0 });
            }
            Ok(None) => out.inter(picture, true),
            Err(Malformed) => out.drop_picture(),
        }
    }

    /// Returns whether the current picture's data begins a keyframe.
    fn is_keyframe(&self) -> bool {
        let current = self.current.as_ref().filter(|current| !current.broken);
        current.is_some_and(|current| matches!(self.size(&current.data), Ok(Some(_))))
    }

    /// Returns a keyframe's size; `None` for another picture.
    fn size(&self, data: &[u8]) -> Result<Option<(u16, u16)>, Malformed> {
        match self.codec {
            Vpx::Vp8 => vp8_size(data),
            Vpx::Vp9 => vp9_size(data),
        }
    }

    /// Parses a payload; `None` for a higher layer, which is not played.
    fn part(&self, payload: &Bytes) -> Result<Option<Part>, Malformed> {
        match self.codec {
            Vpx::Vp8 => vp8_part(payload).map(Some),
            Vpx::Vp9 => vp9_part(payload),
        }
    }
}

impl Current {
    fn new(rtp_timestamp: u32, arrival: Duration) -> Self {
        Self {
            rtp_timestamp,
            arrival,
            completed: arrival,
            data: BytesMut::new(),
            marks: Marks::default(),
            broken: false,
        }
    }

    /// Returns whether the picture has a packet, or had one that was discarded.
    fn has_begun(&self) -> bool {
        self.broken || !self.data.is_empty()
    }

    fn break_up(&mut self) {
        self.broken = true;
        self.data = BytesMut::new();
    }
}

/// Parses the VP8 descriptor (RFC 7741, section 4.2). `rtc-rtp`'s depacketiser refuses payloads of
/// fewer than four bytes, but the last packet of a frame may have only two.
fn vp8_part(payload: &Bytes) -> Result<Part, Malformed> {
    let byte = |index: usize| payload.get(index).copied().ok_or(Malformed);
    let first = byte(0)?;
    let mut length = 1;
    if first & 0x80 != 0 {
        let extensions = byte(1)?;
        length += 1;
        if extensions & 0x80 != 0 {
            length += if byte(length)? & 0x80 != 0 { 2 } else { 1 };
        }
        length += usize::from(extensions & 0x40 != 0);
        length += usize::from(extensions & 0x30 != 0);
    }
    if length >= payload.len() {
        return Err(Malformed);
    }
    // The S bit, and partition 0.
    let begins = first & 0x10 != 0 && first & 0x07 == 0;
    Ok(Part { data: payload.slice(length..), begins, ends: None })
}

/// Parses the VP9 descriptor (RFC 9628, section 4.2).
fn vp9_part(payload: &Bytes) -> Result<Option<Part>, Malformed> {
    let flags = *payload.first().ok_or(Malformed)?;
    let (picture_id, layers, flexible) = (flags & 0x80 != 0, flags & 0x20 != 0, flags & 0x10 != 0);
    if layers && !flexible {
        // The layer indices are followed by TL0PICIDX, which the depacketiser reads without a
        // length check.
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
    let data = packet.depacketize(payload).map_err(|_| Malformed)?;
    // Higher spatial layers would need a superframe index to form one sample; the base layer can
    // be played alone.
    Ok((packet.sid == 0).then_some(Part { data, begins: packet.b, ends: Some(packet.e) }))
}

fn vp8_size(data: &[u8]) -> Result<Option<(u16, u16)>, Malformed> {
    let header = shiguredo_mp4::bitstream::vp8::parse_frame_header(data).map_err(|_| Malformed)?;
    Ok(header.keyframe.map(|info| (info.width, info.height)))
}

fn vp9_size(data: &[u8]) -> Result<Option<(u16, u16)>, Malformed> {
    use shiguredo_mp4::bitstream::vp9::{Vp9FrameSize, Vp9FrameType, parse_frame_header};
    let header = parse_frame_header(data).map_err(|_| Malformed)?;
    if header.show_existing_frame.is_some() || header.frame_type != Vp9FrameType::Key {
        return Ok(None);
    }
    match header.frame_size {
        Vp9FrameSize::Resolved { width, height } => {
            let size = u16::try_from(width).ok().zip(u16::try_from(height).ok());
            size.map(Some).ok_or(Malformed)
        }
        Vp9FrameSize::UsesRefFrames { .. } | Vp9FrameSize::NotPresent => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vp8_payload_of_one_byte_is_accepted() {
        let part = |bytes: &'static [u8]| vp8_part(&Bytes::from_static(bytes));
        let first = part(&[0x90, 0x80, 0x81, 0x02, 7]).unwrap();
        assert_eq!((&first.data[..], first.begins), (&[7][..], true));
        let second = part(&[0x00, 8]).unwrap();
        assert_eq!((&second.data[..], second.begins), (&[8][..], false));
        assert_eq!(part(&[0x80, 0xf0, 0x80, 1, 2]), Err(Malformed));
        // A later partition of the same picture.
        assert!(!part(&[0x11, 8]).unwrap().begins);
    }

    #[test]
    fn vp9_descriptor_cut_short_is_refused() {
        let part = |bytes: &'static [u8]| vp9_part(&Bytes::from_static(bytes));
        assert_eq!(part(&[0xa0, 0x81, 2, 3]), Err(Malformed));
        assert_eq!(part(&[0x20, 3]), Err(Malformed));
        let whole = part(&[0x8c, 1, 9]).unwrap().unwrap();
        assert_eq!((whole.begins, whole.ends), (true, Some(true)));
        assert_eq!(part(&[0x28, 0x02, 0, 9]), Ok(None), "the second spatial layer");
    }

    proptest! {
        #[test]
        fn no_payload_panics(
            codec in prop_oneof![Just(Vpx::Vp8), Just(Vpx::Vp9)],
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..24), 1..8),
        ) {
            let assembly = Assembly::new(codec, 100);
            for payload in payloads {
                let payload = Bytes::from(payload);
                assembly.can_begin(&payload);
                let _ = vp8_size(&payload);
                let _ = vp9_size(&payload);
            }
        }
    }
}
