//! The rungs of the ladder, and what each knows of the one before.

use crate::session::stage::*;
use crate::{
    AttemptEnd, Connectivity, Deadline, Event, FailureCode, Ignored, Input, PeerEvent, Phase,
    RecoveryCause, Sender, SignalingEvent, Timer,
};

/// Live, and the offer of a restart that was asked for is out.
fn restarting() -> Stage {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.asked();
    stage
}

/// 21: the one that is remembered is a recovery of its own, with a deadline of its own.
#[test]
fn s21_a_remembered_restart_has_its_own_deadline() {
    let mut stage = restarting();
    stage.pass(6_000);
    stage.give(Input::Restart);
    stage.answer(answer(2));
    stage.settle(&["create restart"]);
    // The second is under way; the first was answered.
    stage.ice(Connectivity::Connected);
    stage.settle(&[]);
    stage.pass(4_000);
    assert_eq!(stage.fired(Timer::Restart), 1, "of the first");
    assert_eq!(stage.phase(), Phase::Live);

    let mut stage = restarting();
    stage.pass(6_000);
    stage.give(Input::Restart);
    stage.ice(Connectivity::Checking);
    stage.answer(answer(2));
    stage.settle(&[]);
    stage.give(Input::Close);
    assert_eq!(stage.report().1.restarts, 2);
}

/// N1, N18: a restart that begins once another is done makes the session recover again.
#[test]
fn n18_a_restart_that_begins_later_makes_the_session_recover() {
    let mut stage = Stage::live_keeping(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.give(Input::Restart);
    stage.forget();
    stage.answer(answer(2));
    stage.settle(&["fetch servers"]);
    assert_eq!(stage.asked(), ["set remote", "fetch servers"]);
    assert_eq!(stage.told(&Event::Recovered), 1);
    assert_eq!(stage.phase(), Phase::Recovering);
    let at = stage.now + core::time::Duration::from_secs(10);
    assert_eq!(stage.told(&Event::DeadlineArmed { timer: Timer::Restart, at }), 1);
}

/// 63: a restart that waits for its link is not needed once media is back; its deadline goes too.
#[test]
fn s63_media_that_is_back_makes_a_waiting_restart_needless() {
    let mut stage = Stage::live(one_retry());
    stage.link_ends(1, FailureCode::Network);
    stage.ice(Connectivity::IceFailed);
    stage.forget();
    stage.ice(Connectivity::Connected);
    assert_eq!((stage.phase(), stage.told(&Event::Recovered)), (Phase::Live, 1));
    stage.pass(20_000);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["connect"]);
    assert_eq!(stage.fired(Timer::Restart), 0);
}

/// 63: one whose offer is out goes on to its deadline, beside the media.
#[test]
fn s63_an_open_restart_keeps_its_deadline() {
    let mut stage = restarting();
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
    stage.forget();
    stage.pass(10_000);
    assert_eq!((stage.fired(Timer::Restart), stage.told(&Event::RestartRefused)), (1, 1));
    assert_eq!(stage.phase(), Phase::Live);
}

/// N19: only a master that got an offer and let it pass has shown that restarts are useless.
#[test]
fn n19_a_restart_that_never_went_out_teaches_nothing() {
    // It waited for its link.
    let mut stage = Stage::live(one_retry());
    stage.link_ends(1, FailureCode::Network);
    stage.give(Input::Restart);
    stage.pass(10_000);
    assert_eq!((stage.fired(Timer::Restart), stage.told(&Event::RestartRefused)), (1, 0));
    assert_eq!(stage.phase(), Phase::Live);
    // It was being made.
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.pass(4_000);
    stage.settle(&["set servers"]);
    stage.pass(4_000);
    stage.settle(&["create restart"]);
    stage.pass(2_000);
    assert_eq!((stage.fired(Timer::Restart), stage.told(&Event::RestartRefused)), (1, 0));
    stage.settle(&[]);
    stage.give(Input::Restart);
    assert!(!stage.ignored(Ignored::OutOfPhase), "it may be tried again");
    // It waited for another exchange.
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    stage.give(Input::Restart);
    stage.pass(10_000);
    assert_eq!((stage.fired(Timer::Restart), stage.told(&Event::RestartRefused)), (1, 0));
}

/// N4, N18: a master that started over has closed the old connection, whatever still seems to flow.
#[test]
fn n18_a_master_that_started_over_is_left_at_once() {
    let mut stage = restarting();
    stage.answer(anew(answer(2)));
    assert_eq!(stage.told(&Event::MasterGone(RecoveryCause::ClosedByPeer)), 1);
    assert_eq!(stage.report().0, AttemptEnd::RestartFailed);
}

/// N4, N18: a refusal with the old credentials costs the attempt where nothing flows.
#[test]
fn n18_a_refused_restart_ends_what_does_not_flow() {
    let again = || crate::Description { sdp: answer(2).sdp, ..answer(1) };
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::IceFailed);
    stage.settle(&[]);
    stage.answer(again());
    assert_eq!(stage.report().0, AttemptEnd::RestartFailed);

    let mut stage = restarting();
    stage.answer(again());
    assert_eq!(stage.phase(), Phase::Live);
    stage.pass(20_000);
    assert_eq!(stage.fired(Timer::Restart), 0, "it is over");
    stage.give(Input::Renegotiate);
    assert_eq!(stage.asked(), ["create offer"], "and nothing of it is open");
}

/// N18: where a deadline finds that nothing flows, the attempt ends.
#[test]
fn n18_an_unanswered_restart_ends_what_does_not_flow() {
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::IceFailed);
    stage.settle(&[]);
    stage.pass(10_000);
    assert_eq!(stage.told(&Event::MasterGone(RecoveryCause::Disconnected)), 1);
    assert_eq!(stage.told(&Event::RestartRefused), 1);
    assert_eq!(stage.report().0, AttemptEnd::Deadline(Deadline::Restart));
}

/// 27: a network that is back is made use of where media does not flow, and only there.
#[test]
fn s27_back_online_recovers_what_does_not_flow() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Online(false));
    stage.pass(1_000);
    stage.give(Input::Online(true));
    assert_eq!((stage.phase(), stage.asked()), (Phase::Live, alloc::vec![]));

    let mut stage = Stage::live(one_retry());
    stage.give(Input::Online(false));
    stage.ice(Connectivity::Disconnected);
    stage.pass(1_000);
    stage.give(Input::Online(true));
    assert_eq!(stage.told(&Event::Recovering(RecoveryCause::NetworkChanged)), 1);
    assert_eq!(stage.asked(), ["connect"]);

    let mut stage = Stage::live(one_retry());
    stage.notices(PeerEvent::MediaStalled);
    stage.give(Input::Online(false));
    stage.give(Input::Online(true));
    assert_eq!(stage.phase(), Phase::Recovering, "connected, but media stalls");
}

/// N27: a camera that is paused has nothing that could flow.
#[test]
fn n27_a_paused_camera_is_left_alone_when_the_network_is_back() {
    let mut stage = Stage::live(one_retry());
    stage.notices(PeerEvent::MediaStalled);
    stage.notices(PeerEvent::SenderReport);
    stage.give(Input::Online(false));
    stage.give(Input::Online(true));
    assert_eq!(stage.phase(), Phase::Live);
}

/// N13: while no network is there, no deadline fires; the time does not count.
#[test]
fn s27_deadlines_stand_still_without_a_network() {
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::IceFailed);
    stage.settle(&[]);
    stage.pass(4_000);
    stage.give(Input::Online(false));
    stage.pass(50_000);
    assert_eq!(stage.fired(Timer::Restart), 0);
    stage.give(Input::Online(true));
    stage.pass(5_999);
    assert_eq!(stage.fired(Timer::Restart), 0);
    stage.pass(1);
    assert_eq!(stage.fired(Timer::Restart), 1);
}

/// N4: an answer from somebody else refuses nothing.
#[test]
fn n10_a_foreign_answer_to_a_restart_is_ignored() {
    let mut stage = restarting();
    let body = Ok(anew(answer(2)));
    stage.mail(SignalingEvent::Answer { sender: Sender::Other, body });
    assert!(stage.ignored(Ignored::Foreign));
    assert_eq!(stage.phase(), Phase::Recovering);
}

/// 63: many masters answer a restart with a new connection. One that is for a loss which is over,
/// and can still be kept from the master, is.
#[test]
fn s63_media_that_is_back_makes_an_unsent_restart_needless() {
    for live in [Stage::live, Stage::live_keeping] {
        for step in ["fetch servers", "set servers", "create restart", "set local"] {
            let mut stage = live(one_retry());
            stage.ice(Connectivity::IceFailed);
            stage.settle(&[step]);
            if !stage.asked().contains(&step) {
                continue;
            }
            stage.ice(Connectivity::Connected);
            assert_eq!((stage.phase(), stage.told(&Event::Recovered)), (Phase::Live, 1), "{step}");
            stage.settle(&[]);
            assert!(!stage.asked().contains(&"send offer"), "{step}");
            assert_eq!(stage.told(&Event::RenegotiationFailed), 0, "{step}: nobody asked for one");
            stage.pass(20_000);
            assert_eq!(stage.fired(Timer::Restart), 0, "{step}");
            // The next loss has a restart of its own.
            stage.forget();
            stage.ice(Connectivity::IceFailed);
            stage.settle(&[]);
            assert!(stage.asked().contains(&"send offer"), "{step}");
        }
    }
}

/// N1: one that was asked for, or that another network needs, is sent all the same.
#[test]
fn n1_a_restart_that_was_asked_for_is_needed_whatever_flows() {
    for also in [Input::Restart, Input::NetworkChanged] {
        let mut stage = Stage::live(one_retry());
        stage.ice(Connectivity::IceFailed);
        stage.forget();
        stage.give(also);
        stage.ice(Connectivity::Connected);
        stage.settle(&[]);
        assert!(stage.asked().contains(&"send offer"));
    }
}

/// 63: a second loss that is over needs no restart either, when the open one is answered.
#[test]
fn s63_a_loss_that_is_over_begins_no_restart_after_the_open_one() {
    let mut stage = restarting();
    stage.ice(Connectivity::Connected);
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.ice(Connectivity::Connected);
    stage.answer(answer(2));
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::Live);
    assert!(!stage.asked().contains(&"create restart"));
}

/// N18: a restart whose answer comes to nothing after its deadline is no renegotiation.
#[test]
fn n18_an_abandoned_restart_is_not_told_as_a_renegotiation() {
    for held in ["set remote", "roll back"] {
        let mut stage = Stage::live_keeping(one_retry());
        stage.give(Input::Restart);
        stage.settle(&[]);
        stage.pass(9_000);
        stage.answer(answer(2));
        if held == "roll back" {
            stage.fails("set remote", FailureCode::BadDescription);
        }
        stage.pass(1_000);
        assert_eq!((stage.fired(Timer::Restart), stage.phase()), (1, Phase::Live), "{held}");
        if held == "set remote" {
            stage.fails("set remote", FailureCode::BadDescription);
        }
        stage.settle(&[]);
        assert!(stage.asked().contains(&"roll back"), "{held}");
        assert_eq!(stage.told(&Event::RenegotiationFailed), 0, "{held}");
        // One that is asked for afterwards is.
        stage.give(Input::Renegotiate);
        stage.settle(&[]);
        stage.answer(answer(3));
        stage.fails("set remote", FailureCode::BadDescription);
        stage.settle(&[]);
        assert_eq!(stage.told(&Event::RenegotiationFailed), 1, "{held}");
    }
    // Nor is an answer of ours mistaken for what was abandoned and then settled all the same.
    let mut stage = Stage::live_keeping(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.pass(9_000);
    stage.answer(answer(2));
    stage.pass(1_000);
    stage.settle(&[]);
    assert!(stage.answers_on_the_next_link());
}

/// N18, 28: a link that refused a restart's offer is tried again at the next loss, not before.
#[test]
fn s28_a_link_that_refused_an_offer_may_take_the_next() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&["send offer"]);
    stage.fails("send offer", FailureCode::Service);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.told(&Event::Recovered), 1);
    stage.forget();
    stage.mail(SignalingEvent::GoAway);
    stage.pass(30_000);
    stage.settle(&[]);
    assert!(!stage.asked().contains(&"send offer"), "it was for a loss that is over");
    stage.ice(Connectivity::IceFailed);
    stage.settle(&["send offer"]);
    stage.fails("send offer", FailureCode::Service);
    stage.pass(10_000);
    assert_eq!(stage.report().0, AttemptEnd::Deadline(Deadline::Restart));

    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&["send offer"]);
    stage.fails("send offer", FailureCode::Service);
    stage.ice(Connectivity::Connected);
    stage.forget();
    stage.ice(Connectivity::IceFailed);
    stage.settle(&[]);
    assert!(stage.asked().contains(&"send offer"), "on the same link");
}

/// N19: a master that did answer a restart has not ignored it, whatever the stack makes of it.
#[test]
fn n19_a_stack_that_hangs_on_a_restarts_answer_teaches_nothing() {
    let mut stage = restarting();
    stage.answer(answer(2));
    stage.pass(10_000);
    assert_eq!(stage.told(&Event::RestartRefused), 0);
}

/// N13: what is armed while deadlines stand still has its whole time when they go on, and no more.
#[test]
fn s27_a_deadline_that_is_armed_without_a_network_has_its_own_time() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Online(false));
    stage.pass(30_000);
    stage.notices(PeerEvent::MediaStalled);
    stage.pass(20_000);
    stage.give(Input::Online(true));
    stage.forget();
    // A restart was asked for by the network that is back, and has the shorter deadline.
    stage.answer(answer(2));
    stage.pass(9_999);
    assert_eq!(stage.fired(Timer::Restart), 0);
    stage.pass(1);
    assert_eq!(stage.fired(Timer::Restart), 1);
}
