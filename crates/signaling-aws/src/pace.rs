//! Limits of connects and messages in any second, for the service's quotas
//! (docs/kvs-protocol.md 1.6).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

const WINDOW: Duration = Duration::from_secs(1);

/// The times of the operations within the last second.
#[derive(Debug, Default)]
pub(crate) struct RateWindow(VecDeque<Instant>);

impl RateWindow {
    /// Admits one more operation now, if fewer than `most` were admitted within the last second.
    ///
    /// # Errors
    /// The time at which to try again.
    pub(crate) fn admit(&mut self, most: usize) -> Result<(), Instant> {
        if self.is_idle() || self.0.len() < most {
            self.0.push_back(Instant::now());
            return Ok(());
        }
        Err(self.0.front().map_or_else(Instant::now, |first| *first + WINDOW))
    }

    /// Whether none was admitted within the last second.
    pub(crate) fn is_idle(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.0.is_empty()
    }
}

/// A queue that admits callers at a limited rate, in the order in which they came.
#[derive(Debug)]
pub(crate) struct PacedQueue {
    most: usize,
    pace: Mutex<RateWindow>,
}

impl PacedQueue {
    /// Creates a queue that admits at most `most` in any second.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, pace: Mutex::default() }
    }

    /// Waits for the caller's turn. Cancel-safe.
    pub(crate) async fn pass(&self) {
        // The first caller keeps the lock while it waits, and the lock queues the others.
        let mut pace = self.pace.lock().await;
        while let Err(at) = pace.admit(self.most) {
            sleep_until(at).await;
        }
    }
}

/// How long RECONNECT_ICE_SERVER messages are collected into one event: the service sends one to
/// each viewer, and a burst of them has one meaning.
const COLLECTED_FOR: Duration = Duration::from_secs(1);

/// Minimum time between two such events: each causes a GetIceServerConfig.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Many messages of one kind that are reported as one.
#[derive(Debug, Default)]
pub(crate) struct Coalesced {
    due: Option<Instant>,
    reported: Option<Instant>,
}

impl Coalesced {
    /// Records one more message.
    pub(crate) fn note(&mut self) {
        let soon = Instant::now() + COLLECTED_FOR;
        let next = self.reported.map_or(soon, |reported| soon.max(reported + TOLD_EVERY));
        self.due.get_or_insert(next);
    }

    /// Waits until the recorded messages are due to be reported. Cancel-safe.
    pub(crate) async fn due(&mut self) {
        match self.due {
            None => std::future::pending().await,
            Some(at) => sleep_until(at).await,
        }
        self.due = None;
        self.reported = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    #[tokio::test(start_paused = true)]
    async fn paced_queue_keeps_order_and_rate_limit() {
        let (turnstile, start) = (PacedQueue::new(5), Instant::now());
        let gone = Mutex::new(Vec::new());
        join_all((0..23).map(async |n| {
            // The callers come neither all at once nor at whole seconds.
            sleep_until(start + Duration::from_millis(40) * n).await;
            turnstile.pass().await;
            gone.lock().await.push((n, start.elapsed()));
        }))
        .await;
        let gone = gone.into_inner();
        assert!(gone.iter().map(|(n, _)| *n).eq(0..23), "{gone:?}");
        assert!(gone.windows(6).all(|six| six[5].1 - six[0].1 >= WINDOW), "{gone:?}");
        assert_eq!(gone[4].1, Duration::from_millis(160), "no message waits without need");
        assert_eq!(gone[22].1.as_secs(), 4, "and none longer than it takes");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_waiter_does_not_block_the_queue() {
        let turnstile = PacedQueue::new(1);
        turnstile.pass().await;
        let impatient = tokio::time::timeout(Duration::from_millis(1), turnstile.pass());
        assert!(impatient.await.is_err());
        let start = Instant::now();
        turnstile.pass().await;
        assert!(start.elapsed() < WINDOW, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn burst_is_reported_once_and_a_flood_every_few_seconds() {
        let mut messages = Coalesced::default();
        let start = Instant::now();
        for _ in 0..1000 {
            messages.note();
        }
        messages.due().await;
        assert_eq!(start.elapsed(), COLLECTED_FOR);
        let nothing = tokio::time::timeout(Duration::from_secs(3600), messages.due());
        assert!(nothing.await.is_err(), "it was reported");
        let start = Instant::now();
        let mut reported = 0;
        while start.elapsed() < Duration::from_secs(60) {
            messages.note();
            if tokio::time::timeout(Duration::from_millis(1), messages.due()).await.is_ok() {
                reported += 1;
            }
        }
        assert_eq!(reported, 12);
    }
}
