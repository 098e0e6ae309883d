//! What is learned about a master, and what it is used for.

use crate::session::stage::*;
use crate::{Connectivity, Event, Ignored, Input, MasterKnowledge, Phase, Timer};

/// Live, and the offer of a restart that was asked for is out.
fn restarting() -> Stage {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.asked();
    stage
}

/// N18, N19: with the local address gone a restart has 2.5 s, and a master that ignores it is known
/// to do so.
#[test]
fn n19_restart_is_short_when_the_local_address_is_gone() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::LocalAddressGone);
    stage.ice(Connectivity::Disconnected);
    stage.settle(&[]);
    stage.pass(2_499);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.pass(1);
    let known = MasterKnowledge { answers_restarts: Some(false), ..MasterKnowledge::default() };
    assert_eq!(stage.told(&Event::MasterLearned(known)), 1);
    stage.settle(&[]);
    assert_eq!(stage.session.attempt(), 2, "the next attempt begins at once");
    // The next time nothing is waited for.
    stage.answer(answer(1));
    stage.settle(&[]);
    stage.goes_live();
    stage.give(Input::LocalAddressGone);
    assert_eq!(stage.phase(), Phase::Closing);
    stage.settle(&[]);
    assert_eq!(stage.session.attempt(), 3, "a device that moves again spends no retry");

    // An address that is still there gives the restart its whole time.
    let mut stage = Stage::live(one_retry());
    stage.give(Input::NetworkChanged);
    stage.settle(&[]);
    stage.ice(Connectivity::Disconnected);
    stage.pass(9_999);
    assert_eq!(stage.phase(), Phase::Recovering);
    // While one is open its deadline comes forward, and never goes back.
    let mut stage = restarting();
    stage.pass(1_000);
    stage.give(Input::LocalAddressGone);
    assert_eq!(stage.fired(Timer::Restart), 0);
    stage.pass(2_500);
    assert_eq!(stage.fired(Timer::Restart), 1);
}

/// N19: what an earlier session learned counts from the beginning.
#[test]
fn n19_knowledge_of_an_earlier_session_is_used() {
    let known = MasterKnowledge { answers_restarts: Some(false), ..MasterKnowledge::default() };
    let mut stage = Stage::new(one_retry());
    stage.give(Input::MasterKnown(known));
    stage.give(Input::Open);
    stage.settle(&[]);
    stage.answer(answer(1));
    stage.settle(&[]);
    stage.goes_live();
    stage.give(Input::LocalAddressGone);
    assert_eq!(stage.phase(), Phase::Closing);
    assert_eq!(stage.told(&Event::MasterLearned(known)), 0, "nothing new");
    // Later it is too late.
    let mut stage = Stage::live(one_retry());
    stage.give(Input::MasterKnown(known));
    assert!(stage.ignored(Ignored::OutOfPhase));
    stage.give(Input::NetworkChanged);
    assert_eq!(stage.phase(), Phase::Recovering);
}

/// N19: an answered restart is remembered as well, and so is what the master does with an id.
#[test]
fn n19_answered_restart_and_repeated_id_are_learned() {
    let mut stage = restarting();
    stage.answer(answer(2));
    let known = MasterKnowledge { answers_restarts: Some(true), ..MasterKnowledge::default() };
    assert_eq!(stage.told(&Event::MasterLearned(known)), 1);

    // The stage's service gives each attempt the same id.
    for answers in [true, false] {
        let mut stage = Stage::offered(one_retry());
        stage.pass(30_000);
        stage.settle(&[]);
        stage.pass(6_000);
        stage.settle(&[]);
        stage.forget();
        if answers {
            stage.answer(answer(1));
        } else {
            stage.pass(30_000);
        }
        let answers_repeated_id = Some(answers);
        let known = MasterKnowledge { answers_repeated_id, ..MasterKnowledge::default() };
        assert_eq!(stage.told(&Event::MasterLearned(known)), 1, "{answers}");
    }
}
