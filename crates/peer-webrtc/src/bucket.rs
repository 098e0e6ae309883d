//! A token bucket that limits how often something may happen.

use std::time::{Duration, Instant};

/// Holds a number of tokens and regains one after each `every`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    most: u32,
    every: Duration,
    left: u32,
    since: Option<Instant>,
}

impl Bucket {
    pub(crate) const fn new(most: u32, every: Duration) -> Self {
        Self { most, every, left: most, since: None }
    }

    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes `count` tokens if that many are left; otherwise takes none and returns false.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_nanos() / self.every.as_nanos().max(1);
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back >= self.most - self.left {
            (self.left, self.since) = (self.most, Some(now));
        } else if back > 0 {
            (self.left, self.since) = (self.left + back, Some(since + self.every * back));
        }
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}
