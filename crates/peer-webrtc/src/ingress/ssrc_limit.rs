//! Limits the number of SSRCs that reach SRTP, which keeps a state for each.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;

/// The most SSRCs that a description may declare: a master has four, two of them for
/// retransmissions.
const DECLARED_MAX: usize = 64;
/// The most SSRCs that may reach SRTP in one connection, at about 350 bytes each.
const KNOWN_MAX: usize = 4096;
/// Below this number of SSRCs undeclared ones pass as [`FREE`] allows. Above it there is an
/// attack, and one passes in each window of [`SLOW_WINDOW`].
const KNOWN_FREE: usize = 512;
/// The burst and the rate of undeclared SSRCs that pass at once. A camera takes a new one with
/// each restart of its encoder.
const FREE: Bucket = Bucket::new(32, Duration::from_secs(2));
/// How long packets of SSRCs that did not pass are counted before the one with the most passes.
const WINDOW: Duration = Duration::from_secs(2);
/// The counting window during a lasting attack.
const SLOW_WINDOW: Duration = Duration::from_secs(10);
/// The number of counters of a window. At 30,000 packets a second with random SSRCs each is hit
/// every other second, so even a stream of ten packets a second stands out.
const COUNTERS: usize = 1 << 16;

/// Limits the SSRCs that reach SRTP.
///
/// SSRCs that a description declares pass, as do those that passed before: their state exists. A
/// limited number of others pass at once. Above that number, packets are counted for some seconds,
/// and the SSRC with the most packets passes: a stream sends many packets with one SSRC, and an
/// attacker would have to send as much for each as the camera does. So an attack neither creates
/// more than [`KNOWN_MAX`] states nor keeps a stream out, declared or not.
#[derive(Debug)]
pub(super) struct SsrcLimit {
    known: BTreeSet<u32>,
    declared: usize,
    free: Bucket,
    contest: Option<Box<Contest>>,
}

/// The packet counts of one window.
#[derive(Debug)]
struct Contest {
    began: Instant,
    /// The keys are random, so that a sender cannot choose SSRCs that share a counter.
    hasher: RandomState,
    counts: Vec<u16>,
    best: (u16, u32),
    /// The SSRC with the most packets in the previous window, until it passed.
    winner: Option<u32>,
}

impl SsrcLimit {
    pub(super) fn new() -> Self {
        Self { known: BTreeSet::new(), declared: 0, free: FREE, contest: None }
    }

    pub(super) fn declare(&mut self, ssrc: u32) {
        if self.declared < DECLARED_MAX && self.known.insert(ssrc) {
            self.declared += 1;
        }
    }

    pub(super) fn admits(&mut self, now: Instant, ssrc: u32) -> bool {
        if self.known.contains(&ssrc) {
            return true;
        }
        let count = self.known.len();
        let passes = count < KNOWN_MAX
            && ((count < KNOWN_FREE && self.free.take(now)) || self.wins(now, ssrc));
        if passes {
            self.known.insert(ssrc);
        }
        passes
    }

    /// Counts a packet for its SSRC. Returns true if the SSRC won the previous window.
    fn wins(&mut self, now: Instant, ssrc: u32) -> bool {
        let window = if self.known.len() < KNOWN_FREE { WINDOW } else { SLOW_WINDOW };
        let contest = self.contest.get_or_insert_with(|| Box::new(Contest::new(now)));
        let elapsed = now.saturating_duration_since(contest.began);
        if elapsed >= window {
            // Counts of a window that ended long ago are outdated.
            let winner = (elapsed < window * 2).then_some(contest.best.1);
            contest.counts.fill(0);
            (contest.began, contest.best, contest.winner) = (now, (0, 0), winner);
        }
        if contest.winner.take_if(|winner| *winner == ssrc).is_some() {
            return true;
        }
        contest.count(ssrc);
        false
    }
}

impl Contest {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            hasher: RandomState::new(),
            counts: vec![0; COUNTERS],
            best: (0, 0),
            winner: None,
        }
    }

    fn count(&mut self, ssrc: u32) {
        let index = usize::try_from(self.hasher.hash_one(ssrc)).unwrap_or(0) % COUNTERS;
        let Some(count) = self.counts.get_mut(index) else { return };
        *count = count.saturating_add(1);
        if *count > self.best.0 {
            self.best = (*count, ssrc);
        }
    }
}

#[cfg(test)]
mod tests;
