//! Closing, step by step, and what follows it.

use core::time::Duration;

use crate::session::Session;
use crate::session::harness::*;
use crate::{
    AttemptEnd, Connectivity, Event, FailureCode, Input, Phase, RetryDelay, Settings,
    SignalingEvent, Timer,
};

fn failed_steps(harness: &Harness) -> usize {
    harness.events().filter(|event| matches!(event, Event::CloseStepFailed(_))).count()
}

/// N22: a connection that was being left when the attempt ended has its share of the time like any
/// step.
#[test]
fn n22_what_was_being_closed_hangs_for_one_step_at_most() {
    let mut harness = Harness::live(Settings { go_away_spread: Duration::ZERO, ..one_retry() });
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["disconnect"]);
    assert_eq!(harness.commands(), ["connect", "disconnect"]);
    harness.give(Input::Close);
    // The newer connection closes; the one that was left hangs.
    harness.ticket("disconnect");
    harness.settle(&[]);
    harness.forget();
    harness.pass(499);
    assert_eq!(harness.commands(), [""; 0]);
    harness.pass(1);
    assert_eq!(harness.commands(), ["stop transceivers"]);
    assert_eq!((failed_steps(&harness), harness.fired(Timer::CloseStep)), (1, 1));
}

/// N22, N25: a step that fails is reported; one that an earlier close overtook is not.
#[test]
fn n22_step_that_fails_is_reported() {
    for (code, expected) in [(FailureCode::Port, 1), (FailureCode::Cancelled, 0)] {
        let mut harness = Harness::live(one_retry());
        harness.give(Input::Close);
        harness.settle(&["remove tracks"]);
        harness.fails("remove tracks", code);
        assert_eq!(failed_steps(&harness), expected);
        harness.settle(&[]);
        assert_eq!(harness.phase(), Phase::Ended);
    }
}

/// N14: the application learns which attempt comes, and when.
#[test]
fn n14_next_attempt_is_announced() {
    let mut harness = Harness::offered(one_retry());
    harness.link_ends(1, FailureCode::Network);
    harness.settle(&[]);
    let at = harness.now + Duration::from_secs(6);
    assert_eq!(harness.reported(&Event::RetryScheduled { attempt: 2, at }), 1);
    harness.pass(6_000);
    assert_eq!(harness.reported(&Event::AttemptStarted { attempt: 2 }), 1);
}

/// With pauses of a fixed length, so that no random number makes two sessions differ.
fn plain() -> Settings {
    let fixed = RetryDelay::Fixed(Duration::from_secs(1));
    Settings {
        retries: 5,
        retry_delay: fixed,
        link_reopen: fixed,
        go_away_spread: Duration::ZERO,
        ..one_retry()
    }
}

/// Closing, so many failures after the start.
fn closing_after(failures: u32, age: u64) -> Harness {
    let mut harness = Harness::new(plain());
    harness.pass(age);
    harness.give(Input::Open);
    for _ in 0..failures {
        harness.settle(&[]);
        harness.link_ends(harness.link.0, FailureCode::Network);
        harness.settle(&[]);
        harness.pass(1_000);
    }
    harness.settle(&[]);
    harness
}

fn normal(harness: &Harness) -> Session {
    harness.session.normalised().into_session()
}

/// The normal form of a session that closes for good has neither reason nor time nor attempts.
#[test]
fn closing_session_has_one_normal_form() {
    let closed = |failures, age| {
        let mut harness = closing_after(failures, age);
        harness.give(Input::Close);
        normal(&harness)
    };
    assert_eq!(closed(0, 0), closed(0, 5_000));
    assert_eq!(closed(0, 0), closed(2, 0));
    let mut ended = closing_after(0, 0);
    ended.give(Input::NetworkChanged);
    ended.give(Input::Close);
    assert_eq!(normal(&ended), closed(0, 0));
}

/// The normal form of a session that closes before another attempt has the number of attempts left.
#[test]
fn what_closes_before_another_attempt_keeps_its_budget_in_the_normal_form() {
    let lost = |failures| {
        let mut harness = closing_after(failures, 0);
        harness.link_ends(harness.link.0, FailureCode::Network);
        assert_eq!(harness.phase(), Phase::Closing);
        normal(&harness)
    };
    assert_ne!(lost(0), lost(1));
}

/// N22: an attempt ends once: what happens while it closes changes nothing.
#[test]
fn n22_attempt_that_is_being_closed_does_not_end_again() {
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::ClosedByPeer);
    harness.forget();
    harness.ice(Connectivity::DtlsFailed);
    harness.give(Input::NetworkChanged);
    harness.give(Input::Resumed);
    harness.link_ends(1, FailureCode::Network);
    assert_eq!(harness.commands(), [""; 0]);
    assert_eq!(harness.report().0, AttemptEnd::MasterGone);
}

/// N22: a close wins in the same instant as anything else, a deadline included.
#[test]
fn n22_close_in_the_instant_of_a_deadline_wins() {
    // The last answer deadline.
    let mut harness = Harness::offered(Settings { retries: 0, ..one_retry() });
    harness.now = harness.now + Duration::from_secs(30);
    harness.give(Input::Close);
    let end = harness.report().0;
    assert_eq!((end, harness.fired(Timer::Answer)), (AttemptEnd::Closed, 0));
    // The pause before the next attempt: none begins.
    let mut harness = Harness::offered(one_retry());
    harness.pass(30_000);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::BackingOff);
    harness.commands();
    harness.now = harness.now + Duration::from_secs(6);
    harness.give(Input::Close);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Ended, alloc::vec![]));
    // A step of closing that is overdue is still given up.
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Close);
    harness.now = harness.now + Duration::from_secs(1);
    harness.give(Input::Close);
    assert_eq!(harness.fired(Timer::CloseStep), 1);
}

/// N16, 46: a device that wakes up, and a network that comes back, wait for the pause that the
/// service required.
// Shows: N16.
#[test]
fn s46_full_channel_is_not_retried_sooner_when_back_online() {
    for inputs in [&[Input::Resumed][..], &[Input::Online(false), Input::Online(true)]] {
        let mut harness = Harness::opened(Settings::persistent());
        harness.settle(&["connect", "fetch servers"]);
        harness.fails("connect", FailureCode::ViewerLimit);
        harness.settle(&[]);
        assert_eq!(harness.phase(), Phase::BackingOff);
        harness.pass(100);
        for input in inputs {
            harness.give(input.clone());
        }
        assert_eq!(harness.phase(), Phase::BackingOff, "{inputs:?}");
        harness.pass(4_800);
        assert_eq!(harness.phase(), Phase::BackingOff);
        harness.pass(200);
        assert_eq!(harness.phase(), Phase::Connecting, "and no later than that");
    }
    // The same while the attempt is still being closed.
    let mut harness = Harness::opened(Settings::persistent());
    harness.settle(&["connect", "fetch servers"]);
    harness.fails("connect", FailureCode::ViewerLimit);
    harness.give(Input::Resumed);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::BackingOff);
}

/// N25: what is ignored between two attempts is counted with the second one.
#[test]
fn n25_inputs_ignored_between_attempts_are_counted() {
    let mut harness = Harness::offered(one_retry());
    harness.pass(30_000);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::BackingOff);
    harness.forget();
    for _ in 0..3 {
        harness.give(Input::Restart);
    }
    harness.pass(6_000);
    harness.give(Input::Close);
    let (_, evidence) = harness.report();
    assert_eq!(evidence.ignored.get(&crate::Ignored::OutOfPhase), Some(&3));
}
