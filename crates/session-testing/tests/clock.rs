//! The clock's checks find what is wrong with a clock, and nothing wrong with a good one.

use async_trait::async_trait;
use clock_tokio::TokioClock;
use negotiation_core::Timestamp;
use session_testing::{Finding, check_clock};
use viewer_session::Clock;

#[tokio::test]
async fn real_clock_keeps_its_promises() {
    let report = check_clock(&TokioClock::start()).await;
    report.assert_kept();
    assert_eq!(report.kept(), 5);
}

#[tokio::test(start_paused = true)]
async fn so_does_a_paused_one() {
    check_clock(&TokioClock::start()).await.assert_kept();
}

/// Returns a little before the deadline.
struct Hasty(TokioClock);

#[async_trait]
impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        let early = deadline.since_origin().saturating_sub(std::time::Duration::from_millis(2));
        self.0.sleep_until(Timestamp::new(early)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hasty_clock_is_found() {
    let report = check_clock(&Hasty(TokioClock::start())).await;
    let names: Vec<_> = report.broken().iter().map(|check| check.name).collect();
    assert!(names.contains(&"a_deadline_is_never_kept_early"), "{report}");
    let finding = &report.checks[0].finding;
    assert_eq!(*finding, Finding::Kept);
}
