//! Finds where an H.264 picture begins and ends, and builds its frame.
//!
//! A picture ends where the timestamp changes, where a slice begins another picture (ITU-T H.264,
//! section 7.4.1.2.4), or at its marker, once the stream has proven its markers ([`Trust`]).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rtc_rtp::packet::Packet;

use super::sets::SetStore;
use super::syntax::{Slice, recovery_point};
use super::units::{Depacketizer, FU_A, STAP_A, Unit, without_start_code};
use super::{
    NAL_DELIMITER, NAL_END_OF_SEQUENCE, NAL_END_OF_STREAM, NAL_FILLER, NAL_IDR, NAL_PARTITION_A,
    NAL_PPS, NAL_SEI, NAL_SLICE, NAL_SPS, nal_type,
};
use crate::end_mark::{Marks, Trust};
use crate::frame::{Delivery, Entry, Picture};

/// The bytes that each unit counts in addition to its data.
const UNIT_OVERHEAD: usize = 64;
/// The most parameter sets that wait for the next picture.
const CARRIED_MAX: usize = 64;

/// Assembles the pictures of one source.
#[derive(Debug)]
pub(crate) struct Assembly {
    depacketizer: Depacketizer,
    units: Vec<Unit>,
    sets: SetStore,
    trust: Trust,
    /// The number of pictures that ended with a marker.
    ended: u32,
    /// The timestamp of the last packet.
    timestamp: Option<u32>,
    current: Option<Current>,
    /// The picture that was output at its marker, and its last slice.
    marked: Option<(u32, Slice)>,
    carried: Carried,
    /// Whether nothing was lost since the previous packet.
    continuous: bool,
    /// Whether packets were lost since the last picture.
    gap: bool,
    /// Whether the last keyframe came with its parameter sets, so that the next one has them too.
    carries_sets: bool,
    bytes_max: usize,
}

/// The parameter sets and the recovery point that arrived since the last picture.
#[derive(Debug, Default)]
struct Carried {
    sets: Vec<Bytes>,
    sps: bool,
    pps: bool,
    recovery: Option<u32>,
}

/// An incomplete picture.
#[derive(Debug)]
struct Current {
    rtp_timestamp: u32,
    arrival: Duration,
    completed: Duration,
    units: Vec<Bytes>,
    /// Units that came after a slice: they belong to the next picture, unless this one continues.
    pending: Vec<Unit>,
    bytes: usize,
    slice: Option<Slice>,
    idr: bool,
    reference: bool,
    pps: BTreeSet<u8>,
    marks: Marks,
    broken: bool,
}

impl Current {
    fn new(rtp_timestamp: u32, arrival: Duration) -> Self {
        Self {
            rtp_timestamp,
            arrival,
            completed: arrival,
            units: Vec::new(),
            pending: Vec::new(),
            bytes: 0,
            slice: None,
            idr: false,
            reference: false,
            pps: BTreeSet::new(),
            marks: Marks::default(),
            broken: false,
        }
    }

    fn has_slices(&self) -> bool {
        self.slice.is_some()
    }

    fn break_up(&mut self) {
        self.broken = true;
        self.units = Vec::new();
        self.pending = Vec::new();
        self.bytes = 0;
    }

    fn grow(&mut self, unit: &Unit, limit: usize) -> bool {
        self.completed = self.completed.max(unit.completed);
        self.bytes += unit.data.len() + UNIT_OVERHEAD;
        if self.bytes > limit {
            self.break_up();
        }
        !self.broken
    }
}

impl Assembly {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            depacketizer: Depacketizer::new(bytes_max),
            units: Vec::new(),
            sets: SetStore::default(),
            trust: Trust::Unknown,
            ended: 0,
            timestamp: None,
            current: None,
            marked: None,
            carried: Carried::default(),
            continuous: false,
            gap: false,
            carries_sets: false,
            bytes_max,
        }
    }

    /// Adds parameter sets from outside the stream.
    pub(crate) fn add_parameter_sets(&mut self, sets: &[Bytes]) {
        for set in sets {
            self.sets.insert_absent(&without_start_code(set));
        }
    }

    /// Returns whether a picture can begin with this payload, as far as a stream's first packet
    /// shows.
    pub(crate) fn can_begin(&self, payload: &Bytes) -> bool {
        let payload = without_start_code(payload);
        // The unit's type, and the first byte of the slice header if there is one: its first bit
        // is 1 for the first macroblock.
        let (kind, header) = match nal_type(&payload) {
            STAP_A => (nal_type(payload.get(3..).unwrap_or_default()), payload.get(4)),
            FU_A => match payload.get(1) {
                // The sender fragmented the unit with its start code, so the first zero became the
                // header.
                Some(header) if header & 0x9f == 0x80 => {
                    let rest = payload.get(2..).unwrap_or_default();
                    let code = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
                    let unit = rest.get(code + 1..).unwrap_or_default();
                    (nal_type(unit), unit.get(1))
                }
                Some(header) if header & 0x80 != 0 => (header & 0x1f, payload.get(2)),
                Some(_) | None => return false,
            },
            kind => (kind, payload.get(1)),
        };
        match kind {
            NAL_SPS | NAL_SEI | NAL_DELIMITER => true,
            NAL_IDR => !self.sets.is_empty() && header.is_some_and(|byte| byte & 0x80 != 0),
            _ => false,
        }
    }

    pub(crate) fn packet(&mut self, packet: &Packet, arrival: Duration, out: &mut Delivery) {
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        if self.timestamp != Some(timestamp) {
            self.finish_with_rest(out);
            self.timestamp = Some(timestamp);
        }
        out.stats.keyframe_seen |= is_of_keyframe(&packet.payload);
        let mut units = std::mem::take(&mut self.units);
        let pushed = self.depacketizer.push(&packet.payload, arrival, self.continuous, &mut units);
        self.continuous = true;
        let ends_part = !units.is_empty();
        self.take_units(timestamp, &mut units, out);
        self.units = units;
        if pushed.is_err() {
            out.stats.malformed += 1;
            self.current_at(timestamp, arrival).break_up();
        }
        let (trust, open) = (self.trust, self.depacketizer.is_open());
        let Some(current) = &mut self.current else { return };
        current.completed = current.completed.max(arrival);
        let completed = current.completed;
        current.marks.packet(marker, ends_part, completed);
        let at_rest = current.has_slices() && current.pending.is_empty() && !open;
        if at_rest && trust.is_whole(current.marks) {
            self.finish_at_mark(out);
        } else if at_rest
            && current.idr
            && !current.broken
            && trust.is_likely_whole(current.marks)
            && current.pps.iter().all(|pps| self.sets.referenced(*pps).is_some())
        {
            out.note_keyframe(completed);
        }
    }

    /// Records that packets were lost.
    pub(crate) fn gap(&mut self, out: &mut Delivery) {
        if let Some(current) = &self.current
            && current.has_slices()
            && current.pending.is_empty()
            && !self.depacketizer.is_open()
            && self.trust.survives_gap(current.marks, self.ended)
        {
            self.finish_at_mark(out);
        }
        self.depacketizer.lose();
        self.continuous = false;
        self.gap = true;
        match &mut self.current {
            // The loss is before the first slice, and the slice header will show whether it
            // matters.
            Some(current) if !current.has_slices() => {}
            Some(current) => {
                current.break_up();
                (self.carried.sps, self.carried.pps) = (false, false);
            }
            None => (self.carried.sps, self.carried.pps) = (false, false),
        }
        out.need_keyframe();
    }

    /// Outputs a picture with a marker that has waited long enough for proof.
    pub(crate) fn advance(&mut self, now: Duration, out: &mut Delivery) {
        let Some(current) = &self.current else { return };
        let at_rest =
            current.has_slices() && current.pending.is_empty() && !self.depacketizer.is_open();
        if at_rest && self.trust.is_overdue(current.marks, now) {
            self.finish_at_mark(out);
        }
    }

    /// Ends the stream: a picture without a marker may be incomplete, and is not output.
    pub(crate) fn flush(&mut self, out: &mut Delivery) {
        if self
            .current
            .as_ref()
            .is_some_and(|current| self.trust.is_overdue(current.marks, Duration::MAX))
        {
            self.finish_with_rest(out);
        }
        self.depacketizer.lose();
        self.current = None;
    }

    /// Resets all state but the parameter sets, because the following packets are unrelated to the
    /// earlier ones.
    pub(crate) fn reset(&mut self) {
        self.depacketizer.lose();
        self.timestamp = None;
        self.current = None;
        self.marked = None;
        self.trust = Trust::Unknown;
        self.ended = 0;
        self.carried = Carried::default();
        self.continuous = false;
        self.gap = false;
    }

    /// Returns the number of bytes held for the incomplete picture.
    pub(crate) fn bytes(&self) -> usize {
        self.depacketizer.bytes() + self.current.as_ref().map_or(0, |current| current.bytes)
    }

    fn current_at(&mut self, timestamp: u32, arrival: Duration) -> &mut Current {
        self.current.get_or_insert_with(|| Current::new(timestamp, arrival))
    }

    /// Ends the current picture, and with it a fragmented unit without a last fragment.
    fn finish_with_rest(&mut self, out: &mut Delivery) {
        let mut units = std::mem::take(&mut self.units);
        self.depacketizer.close(&mut units);
        if let Some(timestamp) = self.timestamp {
            self.take_units(timestamp, &mut units, out);
        }
        units.clear();
        self.units = units;
        self.finish(out);
    }

    fn finish_at_mark(&mut self, out: &mut Delivery) {
        self.marked =
            self.current.as_ref().and_then(|current| Some((current.rtp_timestamp, current.slice?)));
        self.finish(out);
    }

    fn take_units(&mut self, timestamp: u32, units: &mut Vec<Unit>, out: &mut Delivery) {
        for unit in units.drain(..) {
            match nal_type(&unit.data) {
                // The slices already show what a delimiter shows, and a file needs none of these.
                NAL_DELIMITER | NAL_END_OF_SEQUENCE | NAL_END_OF_STREAM | NAL_FILLER => {}
                NAL_SLICE | NAL_PARTITION_A | NAL_IDR => self.take_slice(timestamp, unit, out),
                3 | 4 | 19.. => self.go_on(timestamp, unit),
                _ => self.take_prefix(timestamp, unit),
            }
        }
    }

    /// Takes a unit that comes before a picture's slices.
    fn take_prefix(&mut self, timestamp: u32, unit: Unit) {
        let limit = self.bytes_max;
        let current = self.current_at(timestamp, unit.arrival);
        if !current.has_slices() {
            self.adopt(unit);
        } else if current.grow(&unit, limit) {
            current.pending.push(unit);
        }
    }

    /// Adds a unit that is no slice to the current picture.
    fn adopt(&mut self, unit: Unit) {
        match nal_type(&unit.data) {
            NAL_SPS | NAL_PPS => {
                self.sets.insert(&unit.data);
                self.carried.sps |= nal_type(&unit.data) == NAL_SPS;
                self.carried.pps |= nal_type(&unit.data) == NAL_PPS;
                self.carried.sets.push(unit.data);
                if self.carried.sets.len() > CARRIED_MAX {
                    self.carried.sets.remove(0);
                }
            }
            NAL_SEI => {
                self.carried.recovery = recovery_point(&unit.data).or(self.carried.recovery);
                self.go_on_with(unit);
            }
            _ => self.go_on_with(unit),
        }
    }

    fn go_on_with(&mut self, unit: Unit) {
        let limit = self.bytes_max;
        if let Some(current) = &mut self.current
            && current.grow(&unit, limit)
        {
            current.units.push(unit.data);
        }
    }

    /// Takes a part of a picture that does not show where the picture begins.
    fn go_on(&mut self, timestamp: u32, unit: Unit) {
        self.current_at(timestamp, unit.arrival);
        self.go_on_with(unit);
    }

    fn take_slice(&mut self, timestamp: u32, unit: Unit, out: &mut Delivery) {
        let sets = |pps| self.sets.get(pps);
        let Some(slice) = Slice::parse(&unit.data, sets) else {
            out.stats.malformed += 1;
            self.current_at(timestamp, unit.arrival).break_up();
            return;
        };
        let before = self.current.as_ref().and_then(|current| current.slice);
        match (&mut self.current, before) {
            (Some(current), Some(before)) => {
                // New parameter sets came in between, so the rest of the header may be misread.
                let has_sets = current
                    .pending
                    .iter()
                    .any(|unit| matches!(nal_type(&unit.data), NAL_SPS | NAL_PPS));
                let begins = if has_sets {
                    slice.first_macroblock == 0
                } else {
                    slice.begins_after(&before)
                };
                let pending = std::mem::take(&mut current.pending);
                if begins {
                    self.finish(out);
                    let arrival = pending.first().map_or(unit.arrival, |unit| unit.arrival);
                    self.current = Some(Current::new(timestamp, arrival));
                } else if current.marks.is_marked() {
                    current.marks.unmark();
                    self.trust.refute();
                }
                for unit in pending {
                    self.adopt(unit);
                }
            }
            (Some(current), None) => {
                if current.broken && slice.first_macroblock == 0 {
                    // Only the part before this slice was broken.
                    self.finish(out);
                    self.current = Some(Current::new(timestamp, unit.arrival));
                } else if current.marks.is_marked() {
                    // A marker on parameter sets ends no picture.
                    current.marks.unmark();
                    self.trust.refute();
                }
            }
            (None, _) => {
                let goes_on = self
                    .marked
                    .is_some_and(|(at, before)| at == timestamp && !slice.begins_after(&before));
                if goes_on {
                    self.trust.refute();
                }
                self.current = Some(Current::new(timestamp, unit.arrival));
            }
        }
        self.marked = None;
        self.put_slice(unit, out);
    }

    fn put_slice(&mut self, unit: Unit, out: &mut Delivery) {
        let Some(slice) = Slice::parse(&unit.data, |pps| self.sets.get(pps)) else { return };
        let limit = self.bytes_max;
        let Some(current) = &mut self.current else { return };
        // The slices before this one are missing.
        if !current.has_slices() && slice.first_macroblock != 0 {
            current.break_up();
        }
        current.slice = Some(slice);
        current.idr |= slice.idr;
        out.stats.keyframe_seen |= slice.idr;
        current.reference |= slice.reference;
        if current.grow(&unit, limit) {
            current.pps.insert(slice.pps);
            current.units.push(unit.data);
        }
    }

    /// Ends the current picture, and outputs or drops it.
    fn finish(&mut self, out: &mut Delivery) {
        let Some(current) = self.current.take() else { return };
        let pending: Vec<Unit> = current.pending;
        if current.slice.is_none() {
            // The picture has only parameter sets, which are kept for the following one.
            if current.broken {
                out.drop_picture();
            }
            return;
        }
        self.trust.ended(current.marks);
        self.ended = self.ended.saturating_add(u32::from(current.marks.is_marked()));
        let gap = std::mem::take(&mut self.gap);
        let Carried { sets, sps, pps, recovery } = std::mem::take(&mut self.carried);
        let picture = Picture {
            rtp_timestamp: current.rtp_timestamp,
            arrival: current.arrival,
            completed: current.completed,
            data: Bytes::new(),
        };
        let referenced: Option<Vec<_>> =
            current.pps.iter().map(|pps| self.sets.referenced(*pps)).collect();
        let first = referenced.and_then(|sets| sets.into_iter().next());
        let size = first.as_ref().and_then(|sets| {
            let sps = shiguredo_mp4::bitstream::h264::parse_sps(&sets.sps).ok()?;
            Some((sps.width, sps.height))
        });
        let is_entry = current.idr || (out.needs_keyframe() && recovery.is_some());
        if current.broken {
            out.drop_picture();
        } else if !is_entry {
            let data = length_prefixed(sets.iter().chain(&current.units));
            out.inter(Picture { data, ..picture }, current.reference);
        } else if current.idr && gap && self.carries_sets && !(sps && pps) {
            // Every keyframe brings its sets, so the lost packets contained this one's.
            out.drop_picture();
        } else if let (Some(parameter_sets), Some(size)) = (first, size) {
            self.carries_sets = sps && pps;
            let data = length_prefixed(self.sets.units().chain(&current.units));
            let recovery = if current.idr { 0 } else { recovery.unwrap_or(0) };
            let entry = Entry { size, parameter_sets: Some(parameter_sets), recovery };
            out.key(Picture { data, ..picture }, entry);
        } else {
            out.drop_without_parameter_sets();
        }
        // Units after the last slice belong to the next picture.
        if let Some(first) = pending.first() {
            self.current = Some(Current::new(current.rtp_timestamp, first.arrival));
            for unit in pending {
                self.adopt(unit);
            }
            self.current = None;
        }
    }
}

/// Returns whether the payload is a part of an IDR picture. The units of an aggregate are examined
/// later.
fn is_of_keyframe(payload: &Bytes) -> bool {
    let payload = without_start_code(payload);
    match nal_type(&payload) {
        FU_A => payload.get(1).is_some_and(|header| header & 0x1f == NAL_IDR),
        kind => kind == NAL_IDR,
    }
}

/// Joins NAL units with a four-byte length before each.
fn length_prefixed<'a>(units: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let length = units.clone().map(|unit| unit.len() + 4).sum();
    let mut data = BytesMut::with_capacity(length);
    for unit in units {
        data.put_u32(u32::try_from(unit.len()).unwrap_or(0));
        data.extend_from_slice(unit);
    }
    data.freeze()
}
