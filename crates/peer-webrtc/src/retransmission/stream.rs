//! Tracks the missing packets of one media stream, and when to request them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::sequence::Unwrapper;

/// The longest gap; a longer one means that the sender jumped.
const GAP_MAX: i64 = 512;
/// How far back missing packets are remembered.
pub(super) const WINDOW: i64 = 1024;
/// The burst and the rate of missing packets that are requested: a stream of 100 Mbit/s at 10 %
/// loss. With more loss, resending would not help.
const MISSING: Bucket = Bucket::new(1024, Duration::from_millis(1));
/// How often one packet is requested.
pub(super) const REQUESTS_MAX: u8 = 8;
/// How long a packet may be late before it is requested.
const REORDERED_MAX: Duration = Duration::from_millis(10);
/// The age after which a packet is too old to be played.
const AGE_MAX: Duration = Duration::from_millis(1500);

/// A media stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) payload_type: u8,
    unwrapper: Unwrapper,
    first: i64,
    highest: i64,
    pub(super) missing: BTreeMap<i64, Missing>,
    allowance: Bucket,
    pub(super) last_packet: Instant,
}

/// A missing packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    since: Instant,
    requests: u8,
    requested: Option<Instant>,
    /// The time of the next request; `None` if no further request is useful.
    next: Option<Instant>,
}

/// The state of an arriving packet in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It arrived in order, or late without a request.
    New,
    /// It was requested this long ago; `None` if it is unclear which request it answers.
    Requested(Option<Duration>),
    /// It has arrived before.
    Known,
}

impl Stream {
    pub(super) fn new(payload_type: u8, seq: u16, at: Instant) -> Self {
        let mut unwrapper = Unwrapper::default();
        let first = unwrapper.unwrap(seq);
        Self {
            payload_type,
            unwrapper,
            first,
            highest: first,
            missing: BTreeMap::new(),
            allowance: MISSING,
            last_packet: at,
        }
    }

    pub(super) fn take(&mut self, seq: u16, at: Instant) -> Arrival {
        let seq = self.unwrapper.unwrap(seq);
        if seq > self.highest {
            self.miss(self.highest + 1, seq, at);
            self.highest = seq;
            return Arrival::New;
        }
        match self.missing.remove(&seq) {
            Some(Missing { requests: 0, .. }) => Arrival::New,
            Some(Missing { requests: 1, requested: Some(requested), .. }) => {
                Arrival::Requested(Some(at.saturating_duration_since(requested)))
            }
            Some(_) => Arrival::Requested(None),
            // Packets before the first one or beyond the window are not remembered.
            None if seq < self.first || seq <= self.highest - WINDOW => Arrival::New,
            None => Arrival::Known,
        }
    }

    /// Marks the packets `from` to before `to` as missing.
    fn miss(&mut self, from: i64, to: i64, at: Instant) {
        if from == to {
            return;
        }
        let count = u32::try_from(to - from).unwrap_or(u32::MAX);
        if to - from > GAP_MAX || !self.allowance.take_many(at, count) {
            self.missing.clear();
            self.first = to;
            return;
        }
        self.missing = self.missing.split_off(&(to - WINDOW));
        let next = Some(at + REORDERED_MAX);
        for seq in from..to {
            self.missing.insert(seq, Missing { since: at, requests: 0, requested: None, next });
        }
    }

    /// Returns whether a packet with this number is missing.
    pub(super) fn lacks(&self, seq: u16) -> bool {
        let mut unwrapper = self.unwrapper;
        self.missing.contains_key(&unwrapper.unwrap(seq))
    }

    /// Returns the packets to request now.
    pub(super) fn due(&mut self, now: Instant, again: Duration) -> Vec<u16> {
        let mut due = Vec::new();
        for (seq, missing) in &mut self.missing {
            if missing.next.is_none_or(|next| next > now) {
                continue;
            }
            missing.next = None;
            if now.saturating_duration_since(missing.since) > AGE_MAX {
                continue;
            }
            missing.requests += 1;
            missing.requested = Some(now);
            if missing.requests < REQUESTS_MAX {
                missing.next = Some(now + again);
            }
            // The low 16 bits are the sequence number in the packet.
            due.extend(u16::try_from(seq.rem_euclid(1 << 16)));
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.missing.values().filter_map(|missing| missing.next).min()
    }
}
