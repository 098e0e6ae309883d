//! Runs a session over a signaling port of one's own: an in-process channel to a master.
//!
//! `signaling.rs` is the adapter to start from, and docs/ports.md explains it. The peer port is a
//! stand-in that always connects. Time is tokio's, paused: the real deadlines of the default preset
//! pass without waiting.
//!
//! ```sh
//! cargo run -p session-testing --example custom_signaling
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]

mod master;
mod peer;
mod signaling;

use std::time::Duration;

use clock_tokio::TokioClock;
use viewer_session::core::{EndReason, Event, Outcome, Settings};
use viewer_session::{SessionUpdate, session};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let outcome = watch(master::Habit::LosesAnswers(1)).await;
    assert!(outcome.was_live, "{}", outcome.sentence());
    assert_eq!(outcome.reason, EndReason::Closed);
    assert_eq!(outcome.attempts_total, 2);
    // 30 s for the answer, 6 s before the retry; nothing else here takes time.
    assert_eq!(outcome.lasted, Duration::from_secs(36));
    println!("one lost answer: {}", outcome.sentence());

    let outcome = watch(master::Habit::Silent).await;
    assert!(!outcome.was_live);
    assert_eq!(outcome.reason, EndReason::NoAnswer);
    assert_eq!(outcome.lasted, Duration::from_secs(30 + 6 + 30));
    println!("no answer: {}", outcome.sentence());
}

/// Watches until live, then closes; or until the session ends by itself.
async fn watch(habit: master::Habit) -> Outcome {
    let signaling = signaling::InProcess::new(master::start(habit));
    let links = signaling.links();
    let config = Settings::one_retry().check().expect("a preset is valid");
    let clock = TokioClock::start();
    let (driver, mut handle) = session(config, 7, signaling, peer::AlwaysWorks::default(), clock);
    let driver = tokio::spawn(driver.run());
    while let Some(reported) = handle.next_event().await {
        if matches!(reported, SessionUpdate::Event { event: Event::Live, .. }) {
            assert_eq!(links.open(), 1, "one live link");
            handle.close();
        }
    }
    assert_eq!(links.open(), 0, "every link that was opened is closed");
    driver.await.expect("the driver does not panic")
}
