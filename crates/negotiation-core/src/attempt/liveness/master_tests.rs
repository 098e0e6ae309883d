//! What is learned about a master, and what it is used for.

use crate::session::harness::*;
use crate::{Connectivity, Event, Ignored, Input, MasterKnowledge, Phase, Timer};

/// Live, and the offer of a requested restart is sent.
fn restarting() -> Harness {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.commands();
    harness
}

/// N18, N19: with the local address gone a restart has 2.5 s, and a master that ignores it is known
/// to do so.
#[test]
fn n19_restart_is_short_when_the_local_address_is_gone() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::LocalAddressGone);
    harness.ice(Connectivity::Disconnected);
    harness.settle(&[]);
    harness.pass(2_499);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.pass(1);
    let known = MasterKnowledge { answers_restarts: Some(false), ..MasterKnowledge::default() };
    assert_eq!(harness.reported(&Event::MasterLearned(known)), 1);
    harness.settle(&[]);
    assert_eq!(harness.session.attempt(), 2, "the next attempt begins at once");
    // The next time nothing is waited for.
    harness.answer(answer(1));
    harness.settle(&[]);
    harness.goes_live();
    harness.give(Input::LocalAddressGone);
    assert_eq!(harness.phase(), Phase::Closing);
    harness.settle(&[]);
    assert_eq!(harness.session.attempt(), 3, "a device that moves again spends no retry");

    // An address that is still there gives the restart its whole time.
    let mut harness = Harness::live(one_retry());
    harness.give(Input::NetworkChanged);
    harness.settle(&[]);
    harness.ice(Connectivity::Disconnected);
    harness.pass(9_999);
    assert_eq!(harness.phase(), Phase::Recovering);
    // While one is open its deadline comes forward, and never goes back.
    let mut harness = restarting();
    harness.pass(1_000);
    harness.give(Input::LocalAddressGone);
    assert_eq!(harness.fired(Timer::Restart), 0);
    harness.pass(2_500);
    assert_eq!(harness.fired(Timer::Restart), 1);
}

/// N19: what an earlier session learned counts from the beginning.
#[test]
fn n19_knowledge_of_an_earlier_session_is_used() {
    let known = MasterKnowledge { answers_restarts: Some(false), ..MasterKnowledge::default() };
    let mut harness = Harness::new(one_retry());
    harness.give(Input::MasterKnown(known));
    harness.give(Input::Open);
    harness.settle(&[]);
    harness.answer(answer(1));
    harness.settle(&[]);
    harness.goes_live();
    harness.give(Input::LocalAddressGone);
    assert_eq!(harness.phase(), Phase::Closing);
    assert_eq!(harness.reported(&Event::MasterLearned(known)), 0, "nothing new");
    // Later it is too late.
    let mut harness = Harness::live(one_retry());
    harness.give(Input::MasterKnown(known));
    assert!(harness.ignored(Ignored::OutOfPhase));
    harness.give(Input::NetworkChanged);
    assert_eq!(harness.phase(), Phase::Recovering);
}

/// N19: an answered restart is remembered as well, and so is what the master does with an id.
#[test]
fn n19_answered_restart_and_repeated_id_are_learned() {
    let mut harness = restarting();
    harness.answer(answer(2));
    let known = MasterKnowledge { answers_restarts: Some(true), ..MasterKnowledge::default() };
    assert_eq!(harness.reported(&Event::MasterLearned(known)), 1);

    // The harness's service gives each attempt the same id.
    for answers in [true, false] {
        let mut harness = Harness::offered(one_retry());
        harness.pass(30_000);
        harness.settle(&[]);
        harness.pass(6_000);
        harness.settle(&[]);
        harness.forget();
        if answers {
            harness.answer(answer(1));
        } else {
            harness.pass(30_000);
        }
        let answers_repeated_id = Some(answers);
        let known = MasterKnowledge { answers_repeated_id, ..MasterKnowledge::default() };
        assert_eq!(harness.reported(&Event::MasterLearned(known)), 1, "{answers}");
    }
}
