//! The clock port over tokio's timer: the one place that reads a monotonic clock for a session.
//!
//! Keep anything else out of here: this crate is the wall that keeps `tokio::time` out of the
//! driver.
//!
//! ```
//! use std::time::Duration;
//!
//! use clock_tokio::TokioClock;
//! use viewer_session::Clock as _;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let clock = TokioClock::start();
//! let began = clock.now();
//! clock.sleep_until(began + Duration::from_secs(30)).await;
//! assert_eq!(clock.now().saturating_since(began), Duration::from_secs(30));
//! # }
//! ```
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use viewer_session::Clock;
use viewer_session::core::Timestamp;

/// How often a clock looks whether it stood still.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who stood still for this long has slept: longer than a busy machine lets a task wait, and a
/// third of what the other side waits for a sign of life (RFC 7675, 5.1).
const SLEPT: Duration = Duration::from_secs(10);

/// Time since the clock was made, by tokio's timer (so a paused runtime pauses it too). Clones have
/// the same time, and each reports a sleep: sessions may share a clock.
///
/// It reports a device that slept, where the system counts that (Linux, Android), and of a process
/// that was stopped: phones freeze those in the background. Elsewhere the application reports a
/// sleep: [`viewer_session::Control::resumed`].
#[derive(Debug)]
pub struct TokioClock {
    origin: Instant,
    asleep: fn() -> Duration,
    looked: Mutex<Option<Look>>,
}

/// What was seen at a look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Timestamp,
    asleep: Duration,
}

impl TokioClock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), asleep: time_asleep, looked: Mutex::default() }
    }

    /// Whether this device slept, or this process stood still, since the last look.
    fn has_slept(&self) -> bool {
        let look = Look { at: self.now(), asleep: (self.asleep)() };
        let last = self.looked.lock().unwrap_or_else(PoisonError::into_inner).replace(look);
        last.is_some_and(|last| {
            let asleep = look.asleep.saturating_sub(last.asleep);
            look.at.saturating_since(last.at) + asleep >= SLEPT
        })
    }
}

impl Clone for TokioClock {
    /// With a look of its own: what was reported to one session was not reported to another.
    fn clone(&self) -> Self {
        Self { origin: self.origin, asleep: self.asleep, looked: Mutex::default() }
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

    async fn woke(&self) {
        while !self.has_slept() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How long this device has slept since it was started.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn time_asleep() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    // The one counts what the device sleeps, the other, which is tokio's, does not
    // (clock_gettime(2)).
    let (monotonic, boot) = (read(ClockId::Monotonic), read(ClockId::Boottime));
    boot.saturating_sub(monotonic)
}

/// Not known here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn time_asleep() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::time::{advance, timeout};

    const MOMENT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn deadline_is_kept_and_a_past_one_returns_at_once() {
        let clock = TokioClock::start();
        clock.sleep_until(Timestamp::from_millis(1500)).await;
        assert!(clock.now() >= Timestamp::from_millis(1500));
        let before = clock.now();
        clock.sleep_until(Timestamp::ZERO).await;
        assert_eq!(clock.now(), before);
    }

    /// Contract, N13. A process that is stopped finds that time went on without it.
    #[tokio::test(start_paused = true)]
    async fn n13_process_that_stood_still_is_reported_once() {
        let clock = TokioClock::start();
        // No connection existed before the first check.
        advance(SLEPT * 2).await;
        assert!(timeout(MOMENT, clock.woke()).await.is_err());
        advance(SLEPT - Duration::from_millis(1)).await;
        assert!(timeout(MOMENT, clock.woke()).await.is_err(), "a machine that was busy");
        advance(SLEPT).await;
        assert!(timeout(Duration::ZERO, clock.woke()).await.is_ok());
        assert!(timeout(MOMENT, clock.woke()).await.is_err(), "told already");
    }

    /// Contract, N13. The timer stands still while a device sleeps; another clock does not.
    #[tokio::test(start_paused = true)]
    async fn n13_device_that_slept_is_reported_once() {
        static ASLEEP: AtomicU64 = AtomicU64::new(3_600);
        let asleep = || Duration::from_secs(ASLEEP.load(Ordering::Relaxed));
        let clock = TokioClock { asleep, ..TokioClock::start() };
        assert!(timeout(MOMENT, clock.woke()).await.is_err(), "before it was made");
        ASLEEP.fetch_add(600, Ordering::Relaxed);
        assert!(timeout(MOMENT, clock.woke()).await.is_ok());
        assert!(timeout(MOMENT, clock.woke()).await.is_err(), "told already");
    }

    /// Contract, N13. What is reported to one session is reported to the next one as well.
    #[tokio::test(start_paused = true)]
    async fn n13_sessions_that_share_a_clock_are_all_reported() {
        let clock = TokioClock::start();
        let sessions = [clock.clone(), clock.clone()];
        for session in &sessions {
            assert!(timeout(MOMENT, session.woke()).await.is_err());
        }
        advance(SLEPT * 2).await;
        for session in &sessions {
            assert!(timeout(Duration::ZERO, session.woke()).await.is_ok());
        }
    }

    #[test]
    fn time_asleep_can_be_read() {
        let first = time_asleep();
        assert!(time_asleep().abs_diff(first) < MOMENT, "it does not run while we do");
    }
}
