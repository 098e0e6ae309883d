//! Drives `negotiation-core` from a plain thread: no async, no port, no runtime.
//!
//! `viewer.rs` is the loop to start from. Around it stand a master on a thread of its own and a
//! peer connection that always succeeds. One session goes live and is closed, one loses the first
//! answer and retries, and one ends because the master never answers.
//!
//! ```sh
//! cargo run -p negotiation-core --example core_in_a_thread_loop
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what an example is for")]

mod master;
mod viewer;

use std::time::Duration;

use master::Habit;
use negotiation_core::{Config, EndReason, Outcome, Settings};
use viewer::{Viewer, Wish};

/// For an answer that does not come.
const SHORT: Duration = Duration::from_millis(300);

/// For an answer that comes, also where threads wait for a busy processor.
const PATIENT: Duration = Duration::from_secs(30);

fn main() {
    goes_live_and_closes_what_it_opened();
    survives_one_lost_answer();
    ends_when_the_master_never_answers();
}

/// The outcome, in one line.
fn print(what: &str, outcome: &Outcome) {
    println!("{what}: {}", outcome.sentence());
}

fn goes_live_and_closes_what_it_opened() {
    let viewer = Viewer::start(config(&[PATIENT]), master::start(Habit::Answers));
    let (outcome, ledger) = viewer.run(Wish::CloseOnceLive);
    assert_eq!(outcome.reason, EndReason::Closed);
    assert!(outcome.was_live);
    assert_eq!(outcome.attempts_total, 1);
    assert_eq!(ledger.candidates_added, 2, "each of the master's candidates once, none early");
    ledger.check_everything_is_closed();
    print("closed once live", &outcome);
}

fn survives_one_lost_answer() {
    let viewer = Viewer::start(config(&[SHORT, PATIENT]), master::start(Habit::LosesAnswers(1)));
    let (outcome, ledger) = viewer.run(Wish::CloseOnceLive);
    assert!(outcome.was_live, "{}", outcome.sentence());
    assert_eq!(outcome.attempts_total, 2);
    assert_eq!(ledger.links_opened, 2, "the retry has a new link");
    assert_eq!(ledger.peers_opened, 2, "and a new peer connection");
    ledger.check_everything_is_closed();
    print("one lost answer", &outcome);
}

fn ends_when_the_master_never_answers() {
    let viewer = Viewer::start(config(&[SHORT]), master::start(Habit::Silent));
    let (outcome, ledger) = viewer.run(Wish::CloseOnceLive);
    assert_eq!(outcome.reason, EndReason::NoAnswer);
    assert_eq!(outcome.attempts_total, 2);
    assert!(!outcome.was_live);
    for attempt in &outcome.attempts {
        assert!(attempt.evidence.offer_sent);
        assert!(!attempt.evidence.master_seen);
    }
    ledger.check_everything_is_closed();
    print("no answer", &outcome);
}

/// Two attempts: these deadlines for the answer, by the retries before it; the last one repeats.
fn config(answer_timeouts: &[Duration]) -> Config {
    let mut settings = Settings::one_retry();
    settings.answer_timeouts = answer_timeouts.to_vec();
    settings.retry_delay = negotiation_core::RetryDelay::Fixed(Duration::from_millis(50));
    settings.check().expect("these durations can work")
}
