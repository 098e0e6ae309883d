//! Which packets of one media stream are missing, and when to request them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::sequence::Unwrapper;

/// Packets that may be missing in a row; with more, the sender has begun elsewhere.
const GAP_MAX: i64 = 512;
/// How far back packets are remembered as missing.
pub(super) const WINDOW: i64 = 1024;
/// Packets that may be missing at once, and how fast more may be: a stream of 100 Mbit/s at 10 %
/// loss. Where more are, resending them would not help.
const MISSING: Bucket = Bucket::new(1024, Duration::from_millis(1));
/// The number of requests for one packet.
pub(super) const REQUESTS_MAX: u8 = 8;
/// A packet that is only late is not requested.
const REORDERED_MAX: Duration = Duration::from_millis(10);
/// Older packets are no longer played.
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

/// A packet that has not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    since: Instant,
    requests: u8,
    requested: Option<Instant>,
    /// The time of the next request; never, once that is of no use.
    next: Option<Instant>,
}

/// What a packet is to its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It came in its turn, or late.
    New,
    /// The time since the request that it answers; `None` where that is unclear.
    Requested(Option<Duration>),
    /// It has come before.
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
            // What came before the first, and what is long past, is not remembered.
            None if seq < self.first || seq <= self.highest - WINDOW => Arrival::New,
            None => Arrival::Known,
        }
    }

    /// Packets `from` to before `to` were skipped.
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

    /// Whether a packet with this number has not come.
    pub(super) fn lacks(&self, seq: u16) -> bool {
        let mut unwrapper = self.unwrapper;
        self.missing.contains_key(&unwrapper.unwrap(seq))
    }

    /// The packets to request now.
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
            // The low 16 bits are the number on the wire.
            due.extend(u16::try_from(seq.rem_euclid(1 << 16)));
        }
        due
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.missing.values().filter_map(|missing| missing.next).min()
    }
}
