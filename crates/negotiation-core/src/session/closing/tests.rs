//! Closing, step by step, and what follows it.

use core::time::Duration;

use crate::session::Session;
use crate::session::stage::*;
use crate::{
    AttemptEnd, Connectivity, Event, FailureCode, Input, Phase, RetryDelay, Settings,
    SignalingEvent, Timer,
};

fn failed_steps(stage: &Stage) -> usize {
    stage.events().filter(|event| matches!(event, Event::CloseStepFailed(_))).count()
}

/// N22: a link that was being left when the attempt ended has its share of the time like any step.
#[test]
fn n22_what_was_being_closed_hangs_for_one_step_at_most() {
    let mut stage = Stage::live(Settings { go_away_spread: Duration::ZERO, ..one_retry() });
    stage.mail(SignalingEvent::GoAway);
    stage.settle(&["disconnect"]);
    assert_eq!(stage.asked(), ["connect", "disconnect"]);
    stage.give(Input::Close);
    // The newer link closes; the one that was left hangs.
    stage.ticket("disconnect");
    stage.settle(&[]);
    stage.forget();
    stage.pass(499);
    assert_eq!(stage.asked(), [""; 0]);
    stage.pass(1);
    assert_eq!(stage.asked(), ["stop transceivers"]);
    assert_eq!((failed_steps(&stage), stage.fired(Timer::CloseStep)), (1, 1));
}

/// N22, N25: a step that fails is reported; one that an earlier close overtook is not.
#[test]
fn n22_a_step_that_fails_is_told() {
    for (code, told) in [(FailureCode::Port, 1), (FailureCode::Cancelled, 0)] {
        let mut stage = Stage::live(one_retry());
        stage.give(Input::Close);
        stage.settle(&["remove tracks"]);
        stage.fails("remove tracks", code);
        assert_eq!(failed_steps(&stage), told);
        stage.settle(&[]);
        assert_eq!(stage.phase(), Phase::Ended);
    }
}

/// N14: the application learns which attempt comes, and when.
#[test]
fn n14_the_next_attempt_is_announced() {
    let mut stage = Stage::offered(one_retry());
    stage.link_ends(1, FailureCode::Network);
    stage.settle(&[]);
    let at = stage.now + Duration::from_secs(6);
    assert_eq!(stage.told(&Event::RetryScheduled { attempt: 2, at }), 1);
    stage.pass(6_000);
    assert_eq!(stage.told(&Event::AttemptStarted { attempt: 2 }), 1);
}

/// With pauses of a fixed length, so that no random number tells two sessions apart.
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
fn closing_after(failures: u32, age: u64) -> Stage {
    let mut stage = Stage::new(plain());
    stage.pass(age);
    stage.give(Input::Open);
    for _ in 0..failures {
        stage.settle(&[]);
        stage.link_ends(stage.link.0, FailureCode::Network);
        stage.settle(&[]);
        stage.pass(1_000);
    }
    stage.settle(&[]);
    stage
}

fn normal(stage: &Stage) -> Session {
    stage.session.normalised().into_session()
}

/// The normal form of what closes for good tells neither why nor when, nor what was tried.
#[test]
fn what_closes_for_good_has_one_normal_form() {
    let closed = |failures, age| {
        let mut stage = closing_after(failures, age);
        stage.give(Input::Close);
        normal(&stage)
    };
    assert_eq!(closed(0, 0), closed(0, 5_000));
    assert_eq!(closed(0, 0), closed(2, 0));
    let mut ended = closing_after(0, 0);
    ended.give(Input::NetworkChanged);
    ended.give(Input::Close);
    assert_eq!(normal(&ended), closed(0, 0));
}

/// That of what closes before another attempt tells how many are left.
#[test]
fn what_closes_before_another_attempt_keeps_its_budget_in_the_normal_form() {
    let lost = |failures| {
        let mut stage = closing_after(failures, 0);
        stage.link_ends(stage.link.0, FailureCode::Network);
        assert_eq!(stage.phase(), Phase::Closing);
        normal(&stage)
    };
    assert_ne!(lost(0), lost(1));
}

/// N22: an attempt ends once: what happens while it closes changes nothing.
#[test]
fn n22_an_attempt_that_is_being_closed_does_not_end_again() {
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::ClosedByPeer);
    stage.forget();
    stage.ice(Connectivity::DtlsFailed);
    stage.give(Input::NetworkChanged);
    stage.give(Input::Resumed);
    stage.link_ends(1, FailureCode::Network);
    assert_eq!(stage.asked(), [""; 0]);
    assert_eq!(stage.report().0, AttemptEnd::MasterGone);
}

/// N22: a close wins in the same instant as anything else, a deadline included.
#[test]
fn n22_close_in_the_instant_of_a_deadline_wins() {
    // The last answer deadline.
    let mut stage = Stage::offered(Settings { retries: 0, ..one_retry() });
    stage.now = stage.now + Duration::from_secs(30);
    stage.give(Input::Close);
    let end = stage.report().0;
    assert_eq!((end, stage.fired(Timer::Answer)), (AttemptEnd::Closed, 0));
    // The pause before the next attempt: none begins.
    let mut stage = Stage::offered(one_retry());
    stage.pass(30_000);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::BackingOff);
    stage.asked();
    stage.now = stage.now + Duration::from_secs(6);
    stage.give(Input::Close);
    assert_eq!((stage.phase(), stage.asked()), (Phase::Ended, alloc::vec![]));
    // A step of closing that is overdue is given up all the same.
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Close);
    stage.now = stage.now + Duration::from_secs(1);
    stage.give(Input::Close);
    assert_eq!(stage.fired(Timer::CloseStep), 1);
}

/// N16, 46: a device that wakes up, and a network that comes back, wait for what the service asked.
// Shows: N16.
#[test]
fn s46_full_channel_is_not_asked_sooner_for_a_network_that_comes_back() {
    for inputs in [&[Input::Resumed][..], &[Input::Online(false), Input::Online(true)]] {
        let mut stage = Stage::opened(Settings::persistent());
        stage.settle(&["connect", "fetch servers"]);
        stage.fails("connect", FailureCode::ViewerLimit);
        stage.settle(&[]);
        assert_eq!(stage.phase(), Phase::BackingOff);
        stage.pass(100);
        for input in inputs {
            stage.give(input.clone());
        }
        assert_eq!(stage.phase(), Phase::BackingOff, "{inputs:?}");
        stage.pass(4_800);
        assert_eq!(stage.phase(), Phase::BackingOff);
        stage.pass(200);
        assert_eq!(stage.phase(), Phase::Connecting, "and no later than that");
    }
    // The same while the attempt is still being closed.
    let mut stage = Stage::opened(Settings::persistent());
    stage.settle(&["connect", "fetch servers"]);
    stage.fails("connect", FailureCode::ViewerLimit);
    stage.give(Input::Resumed);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::BackingOff);
}

/// N25: what is ignored between two attempts is counted with the second one.
#[test]
fn n25_inputs_ignored_between_attempts_are_counted() {
    let mut stage = Stage::offered(one_retry());
    stage.pass(30_000);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::BackingOff);
    stage.forget();
    for _ in 0..3 {
        stage.give(Input::Restart);
    }
    stage.pass(6_000);
    stage.give(Input::Close);
    let (_, evidence) = stage.report();
    assert_eq!(evidence.ignored.get(&crate::Ignored::OutOfPhase), Some(&3));
}
