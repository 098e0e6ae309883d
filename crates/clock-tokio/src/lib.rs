//! The clock port over tokio's timer: the one place that reads a monotonic clock for a session.
//!
//! Keep anything else out of here: this crate is the wall that keeps `tokio::time` out of the driver.
#![forbid(unsafe_code)]

use async_trait::async_trait;
use tokio::time::Instant;
use viewer_session::Clock;
use viewer_session::core::Timestamp;

/// Time since the clock was made, by tokio's timer (so a paused runtime pauses it too).
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

#[async_trait]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.origin.elapsed())
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        tokio::time::sleep_until(self.origin + deadline.since_origin()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_kept_and_a_past_one_returns_at_once() {
        let clock = TokioClock::start();
        clock.sleep_until(Timestamp::from_millis(1500)).await;
        assert!(clock.now() >= Timestamp::from_millis(1500));
        let before = clock.now();
        clock.sleep_until(Timestamp::ZERO).await;
        assert_eq!(clock.now(), before);
    }
}
