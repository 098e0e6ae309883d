//! The promises of a clock.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

use negotiation_core::Timestamp;
use viewer_session::Clock;

use crate::report::{Found, Report, require};

const STEP: Duration = Duration::from_millis(5);

/// Checks a clock. Takes some tens of milliseconds of its time.
pub async fn check_clock(clock: &impl Clock) -> Report {
    let mut report = Report::default();
    report.add("now_never_goes_back", never_back(clock).await);
    report.add("a_deadline_is_never_kept_early", never_early(clock).await);
    report.add("a_deadline_that_has_passed_returns_at_once", past(clock).await);
    report.add("waiting_is_cancel_safe", cancel_safe(clock).await);
    report.add("deadlines_pass_in_their_order", in_order(clock).await);
    report
}

async fn never_back(clock: &impl Clock) -> Found {
    let mut last = clock.now();
    for round in 0..10_000 {
        let now = clock.now();
        require(now >= last, || format!("{now} came after {last}"))?;
        last = now;
        if round % 2_500 == 0 {
            clock.sleep_until(last + STEP).await;
        }
    }
    Ok(())
}

async fn never_early(clock: &impl Clock) -> Found {
    for micros in [0, 1, 400, 1_000, 1_500, 7_300] {
        let deadline = clock.now() + Duration::from_micros(micros);
        clock.sleep_until(deadline).await;
        let now = clock.now();
        require(now >= deadline, || format!("{deadline} returned at {now}"))?;
    }
    Ok(())
}

async fn past(clock: &impl Clock) -> Found {
    clock.sleep_until(clock.now() + STEP).await;
    for deadline in [Timestamp::ZERO, clock.now()] {
        let at_once = tokio::select! {
            biased;
            () = clock.sleep_until(deadline) => true,
            () = clock.sleep_until(clock.now() + STEP * 2) => false,
        };
        require(at_once, || format!("{deadline} has passed, and is waited for"))?;
    }
    Ok(())
}

async fn cancel_safe(clock: &impl Clock) -> Found {
    let deadline = clock.now() + STEP * 4;
    // A clock that returns early would go round here for ever.
    for _ in 0..100 {
        if clock.now() >= deadline {
            break;
        }
        let slice = (clock.now() + STEP).min(deadline);
        tokio::select! {
            biased;
            () = clock.sleep_until(deadline) => {}
            () = clock.sleep_until(slice) => {}
        }
    }
    let mut last = pin!(clock.sleep_until(deadline));
    let ready = poll_fn(|context| {
        // Polled for the first time: it may still have to look at the time.
        Poll::Ready(last.as_mut().poll(context).is_ready())
    })
    .await;
    require(ready, || "a deadline that was waited for and dropped is still waited for".into())
}

async fn in_order(clock: &impl Clock) -> Found {
    let now = clock.now();
    let early_first = tokio::select! {
        () = clock.sleep_until(now + STEP * 8) => false,
        () = clock.sleep_until(now + STEP) => true,
    };
    require(early_first, || "the later of two deadlines passed first".into())
}
