//! Token buckets: calls a second, with a burst of one second.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Most buckets at a time; full ones are removed first, since a new one is full too.
const BUCKETS_MAX: usize = 4096;

/// One quota's state.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: u32,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: f64::from(per_second), at: now }
    }

    /// Takes a token, if one is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }

    fn refill(&mut self, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.at);
        let rate = f64::from(self.per_second);
        self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(rate);
        self.at = now;
    }
}

/// The buckets of calls, by call and by call and channel.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    by_key: BTreeMap<(&'static str, String), Bucket>,
}

impl Buckets {
    pub(crate) fn take(&mut self, call: &'static str, of: &str, rate: u32, now: Instant) -> bool {
        if self.by_key.len() >= BUCKETS_MAX {
            self.by_key.retain(|_, bucket| {
                bucket.refill(now);
                bucket.tokens < f64::from(bucket.per_second)
            });
        }
        if self.by_key.len() >= BUCKETS_MAX {
            return false;
        }
        self.by_key.entry((call, of.to_owned())).or_insert_with(|| Bucket::new(rate, now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn token_bucket_grants_a_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, start);
        assert_eq!((0..10).filter(|_| bucket.take(start)).count(), 5);
        assert!(!bucket.take(start + Duration::from_millis(100)));
        assert!(bucket.take(start + Duration::from_millis(300)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn token_buckets_are_bounded_and_independent() {
        let now = Instant::now();
        let mut buckets = Buckets::default();
        assert!(buckets.take("a", "x", 1, now) && !buckets.take("a", "x", 1, now));
        assert!(buckets.take("a", "y", 1, now) && buckets.take("b", "x", 1, now));
        for n in 0..2 * BUCKETS_MAX {
            buckets.take("n", &n.to_string(), 1, now);
        }
        assert!(buckets.by_key.len() <= BUCKETS_MAX);
        assert!(buckets.take("n", "again", 1, now + Duration::from_secs(2)));
    }
}
