//! The rungs of the ladder, and what each knows of the one before.

use crate::session::harness::*;
use crate::{
    AttemptEnd, Connectivity, Deadline, Event, FailureCode, Ignored, Input, PeerEvent, Phase,
    RecoveryCause, Sender, Settings, SignalingEvent, Timer,
};

/// Live, and the offer of a requested restart is sent.
fn restarting() -> Harness {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.commands();
    harness
}

/// 21: the one that is remembered is a recovery of its own, with a deadline of its own.
#[test]
fn s21_remembered_restart_has_its_own_deadline() {
    let mut harness = restarting();
    harness.pass(6_000);
    harness.give(Input::Restart);
    harness.answer(answer(2));
    harness.settle(&["create restart"]);
    // The second is under way; the first was answered.
    harness.ice(Connectivity::Connected);
    harness.settle(&[]);
    harness.pass(4_000);
    assert_eq!(harness.fired(Timer::Restart), 0, "that of the first is over with it");
    harness.pass(6_000);
    assert_eq!((harness.fired(Timer::Restart), harness.phase()), (1, Phase::Live));

    let mut harness = restarting();
    harness.pass(6_000);
    harness.give(Input::Restart);
    harness.ice(Connectivity::Checking);
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.give(Input::Close);
    assert_eq!(harness.report().1.restarts, 2);
}

/// N1, N18: a restart that begins once another is done makes the session recover again.
// Shows: N1.
#[test]
fn n18_restart_that_begins_later_makes_the_session_recover() {
    let mut harness = Harness::live_keeping(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.give(Input::Restart);
    harness.forget();
    harness.answer(answer(2));
    harness.settle(&["fetch servers"]);
    assert_eq!(harness.commands(), ["set remote", "fetch servers"]);
    assert_eq!(harness.reported(&Event::Recovered), 1);
    assert_eq!(harness.phase(), Phase::Recovering);
    let at = harness.now + core::time::Duration::from_secs(10);
    assert_eq!(harness.reported(&Event::DeadlineArmed { timer: Timer::Restart, at }), 1);
}

/// 63: a restart that waits for its connection is not needed once media is back; its deadline goes
/// too.
#[test]
fn s63_media_that_is_back_makes_a_waiting_restart_needless() {
    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::Network);
    harness.ice(Connectivity::IceFailed);
    harness.forget();
    harness.ice(Connectivity::Connected);
    assert_eq!((harness.phase(), harness.reported(&Event::Recovered)), (Phase::Live, 1));
    harness.pass(20_000);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["connect"]);
    assert_eq!(harness.fired(Timer::Restart), 0);
}

/// 63: one whose offer is out goes on to its deadline, beside the media.
#[test]
fn s63_open_restart_keeps_its_deadline() {
    let mut harness = restarting();
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
    harness.forget();
    harness.pass(10_000);
    assert_eq!((harness.fired(Timer::Restart), harness.reported(&Event::RestartRefused)), (1, 1));
    assert_eq!(harness.phase(), Phase::Live);
}

/// N19: only a master that got an offer and let it pass has shown that restarts are useless.
#[test]
fn n19_restart_that_never_went_out_teaches_nothing() {
    // It waited for its connection.
    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::Network);
    harness.give(Input::Restart);
    harness.pass(10_000);
    assert_eq!((harness.fired(Timer::Restart), harness.reported(&Event::RestartRefused)), (1, 0));
    assert_eq!(harness.phase(), Phase::Live);
    // It was being made.
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.pass(4_000);
    harness.settle(&["set servers"]);
    harness.pass(4_000);
    harness.settle(&["create restart"]);
    harness.pass(2_000);
    assert_eq!((harness.fired(Timer::Restart), harness.reported(&Event::RestartRefused)), (1, 0));
    harness.settle(&[]);
    harness.give(Input::Restart);
    assert!(!harness.ignored(Ignored::OutOfPhase), "it may be tried again");
    // It waited for another exchange.
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.give(Input::Restart);
    harness.pass(10_000);
    assert_eq!((harness.fired(Timer::Restart), harness.reported(&Event::RestartRefused)), (1, 0));
}

/// N4, N18: a master that started over has closed the old connection, whatever still seems to flow.
#[test]
fn n18_master_that_started_over_is_given_up_at_once() {
    let mut harness = restarting();
    harness.answer(anew(answer(2)));
    assert_eq!(harness.reported(&Event::MasterGone(RecoveryCause::ClosedByPeer)), 1);
    assert_eq!(harness.report().0, AttemptEnd::StartedOver);
}

/// N4, N18: a refusal with the old credentials costs the attempt where nothing flows.
#[test]
fn n18_refused_restart_ends_what_does_not_flow() {
    let again = || crate::Description { sdp: answer(2).sdp, ..answer(1) };
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::IceFailed);
    harness.settle(&[]);
    harness.answer(again());
    assert_eq!(harness.report().0, AttemptEnd::RestartFailed);

    let mut harness = restarting();
    harness.answer(again());
    assert_eq!(harness.phase(), Phase::Live);
    harness.pass(20_000);
    assert_eq!(harness.fired(Timer::Restart), 0, "it is over");
    harness.give(Input::Renegotiate);
    assert_eq!(harness.commands(), ["create offer"], "and nothing of it is open");
}

/// N18: where a deadline finds that nothing flows, the attempt ends.
#[test]
fn n18_unanswered_restart_ends_what_does_not_flow() {
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::IceFailed);
    harness.settle(&[]);
    harness.pass(10_000);
    assert_eq!(harness.reported(&Event::MasterGone(RecoveryCause::Disconnected)), 1);
    assert_eq!(harness.reported(&Event::RestartRefused), 1);
    assert_eq!(harness.report().0, AttemptEnd::Deadline(Deadline::Restart));
}

/// 27: a network that is back is made use of where media does not flow, and only there.
#[test]
fn s27_back_online_recovers_what_does_not_flow() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Online(false));
    harness.pass(1_000);
    harness.give(Input::Online(true));
    assert_eq!((harness.phase(), harness.commands()), (Phase::Live, alloc::vec![]));

    let mut harness = Harness::live(one_retry());
    harness.give(Input::Online(false));
    harness.ice(Connectivity::Disconnected);
    harness.pass(1_000);
    harness.give(Input::Online(true));
    assert_eq!(harness.reported(&Event::Recovering(RecoveryCause::NetworkChanged)), 1);
    assert_eq!(harness.commands(), ["connect"]);

    let mut harness = Harness::live(one_retry());
    harness.notices(PeerEvent::MediaStalled);
    harness.give(Input::Online(false));
    harness.give(Input::Online(true));
    assert_eq!(harness.phase(), Phase::Recovering, "connected, but media stalls");
}

/// N27: a camera that is paused has nothing that could flow.
#[test]
fn n27_paused_camera_is_not_touched_when_the_network_is_back() {
    let mut harness = Harness::live(one_retry());
    harness.notices(PeerEvent::MediaStalled);
    harness.notices(PeerEvent::SenderReport);
    harness.give(Input::Online(false));
    harness.give(Input::Online(true));
    assert_eq!(harness.phase(), Phase::Live);
}

/// N13: while no network is there, no deadline fires; the time does not count.
#[test]
fn s27_deadlines_stand_still_without_a_network() {
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::IceFailed);
    harness.settle(&[]);
    harness.pass(4_000);
    harness.give(Input::Online(false));
    harness.pass(50_000);
    assert_eq!(harness.fired(Timer::Restart), 0);
    harness.give(Input::Online(true));
    harness.pass(5_999);
    assert_eq!(harness.fired(Timer::Restart), 0);
    harness.pass(1);
    assert_eq!(harness.fired(Timer::Restart), 1);
}

/// N4: an answer from another sender refuses nothing.
#[test]
fn n10_foreign_answer_to_a_restart_is_ignored() {
    let mut harness = restarting();
    let body = Ok(anew(answer(2)));
    harness.receive(SignalingEvent::Answer { sender: Sender::Other, body });
    assert!(harness.ignored(Ignored::Foreign));
    assert_eq!(harness.phase(), Phase::Recovering);
}

/// 63: many masters answer a restart with a new connection. One that is for a loss which is over,
/// and can still be kept from the master, is.
#[test]
fn s63_media_that_is_back_makes_an_unsent_restart_needless() {
    for live in [Harness::live, Harness::live_keeping] {
        for step in ["fetch servers", "set servers", "create restart", "set local"] {
            let mut harness = live(one_retry());
            harness.ice(Connectivity::IceFailed);
            harness.settle(&[step]);
            if !harness.commands().contains(&step) {
                continue;
            }
            harness.ice(Connectivity::Connected);
            assert_eq!(
                (harness.phase(), harness.reported(&Event::Recovered)),
                (Phase::Live, 1),
                "{step}"
            );
            harness.settle(&[]);
            assert!(!harness.commands().contains(&"send offer"), "{step}");
            assert_eq!(
                harness.reported(&Event::RenegotiationFailed),
                0,
                "{step}: none was requested"
            );
            harness.pass(20_000);
            assert_eq!(harness.fired(Timer::Restart), 0, "{step}");
            // The next loss has a restart of its own.
            harness.forget();
            harness.ice(Connectivity::IceFailed);
            harness.settle(&[]);
            assert!(harness.commands().contains(&"send offer"), "{step}");
        }
    }
}

/// N1: a restart that was requested, or that another network needs, is still sent.
#[test]
fn n1_requested_restart_runs_although_media_flows() {
    for also in [Input::Restart, Input::NetworkChanged] {
        let mut harness = Harness::live(one_retry());
        harness.ice(Connectivity::IceFailed);
        harness.forget();
        harness.give(also);
        harness.ice(Connectivity::Connected);
        harness.settle(&[]);
        assert!(harness.commands().contains(&"send offer"));
    }
}

/// 63: a second loss that is over needs no restart either, when the open one is answered.
#[test]
fn s63_loss_that_is_over_begins_no_restart_after_the_open_one() {
    let mut harness = restarting();
    harness.ice(Connectivity::Connected);
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.ice(Connectivity::Connected);
    harness.answer(answer(2));
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Live);
    assert!(!harness.commands().contains(&"create restart"));
}

/// N18: a restart whose answer fails after its deadline is no renegotiation.
#[test]
fn n18_abandoned_restart_is_not_reported_as_a_renegotiation() {
    for held in ["set remote", "roll back"] {
        let mut harness = Harness::live_keeping(one_retry());
        harness.give(Input::Restart);
        harness.settle(&[]);
        harness.pass(9_000);
        harness.answer(answer(2));
        if held == "roll back" {
            harness.fails("set remote", FailureCode::BadDescription);
        }
        harness.pass(1_000);
        assert_eq!((harness.fired(Timer::Restart), harness.phase()), (1, Phase::Live), "{held}");
        if held == "set remote" {
            harness.fails("set remote", FailureCode::BadDescription);
        }
        harness.settle(&[]);
        assert!(harness.commands().contains(&"roll back"), "{held}");
        assert_eq!(harness.reported(&Event::RenegotiationFailed), 0, "{held}");
        // One that is requested afterwards is.
        harness.give(Input::Renegotiate);
        harness.settle(&[]);
        harness.answer(again(3));
        harness.fails("set remote", FailureCode::BadDescription);
        harness.settle(&[]);
        assert_eq!(harness.reported(&Event::RenegotiationFailed), 1, "{held}");
    }
    // Nor is a local answer mistaken for the abandoned offer that was still answered.
    let mut harness = Harness::live_keeping(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.pass(9_000);
    harness.answer(answer(2));
    harness.pass(1_000);
    harness.settle(&[]);
    assert!(harness.answers_on_the_next_link());
}

/// N18, 28: a connection that refused a restart's offer is tried again at the next loss, not
/// before.
#[test]
fn s28_connection_that_refused_an_offer_may_take_the_next() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&["send offer"]);
    harness.fails("send offer", FailureCode::Service);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.reported(&Event::Recovered), 1);
    harness.forget();
    harness.receive(SignalingEvent::GoAway);
    harness.pass(30_000);
    harness.settle(&[]);
    assert!(!harness.commands().contains(&"send offer"), "it was for a loss that is over");
    harness.ice(Connectivity::IceFailed);
    harness.settle(&["send offer"]);
    harness.fails("send offer", FailureCode::Service);
    harness.pass(10_000);
    assert_eq!(harness.report().0, AttemptEnd::Deadline(Deadline::Restart));

    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&["send offer"]);
    harness.fails("send offer", FailureCode::Service);
    harness.ice(Connectivity::Connected);
    harness.forget();
    harness.ice(Connectivity::IceFailed);
    harness.settle(&[]);
    assert!(harness.commands().contains(&"send offer"), "on the same link");
}

/// N19: a master that did answer a restart has not ignored it, whatever the stack makes of it.
#[test]
fn n19_stack_that_hangs_on_a_restarts_answer_teaches_nothing() {
    let mut harness = restarting();
    harness.answer(answer(2));
    harness.pass(10_000);
    assert_eq!(harness.reported(&Event::RestartRefused), 0);
}

/// N13: a deadline that is armed while deadlines stand still has exactly its whole time when they
/// go on.
#[test]
fn s27_deadline_that_is_armed_without_a_network_has_its_own_time() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Online(false));
    harness.pass(30_000);
    harness.notices(PeerEvent::MediaStalled);
    harness.pass(20_000);
    harness.give(Input::Online(true));
    harness.forget();
    // The network that is back requested a restart, which has the shorter deadline.
    harness.answer(answer(2));
    harness.pass(9_999);
    assert_eq!(harness.fired(Timer::Restart), 0);
    harness.pass(1);
    assert_eq!(harness.fired(Timer::Restart), 1);
}

/// N14, 27: time without a network does not count for the window of the retries.
// Shows: N14.
#[test]
fn s27_retry_window_stands_still_without_a_network() {
    let mut harness = Harness::opened(Settings::persistent());
    harness.settle(&["connect", "fetch servers"]);
    harness.fails("connect", FailureCode::Dns);
    harness.settle(&[]);
    harness.give(Input::Online(false));
    harness.pass(300_000);
    harness.give(Input::Online(true));
    harness.settle(&["connect", "fetch servers"]);
    harness.fails("connect", FailureCode::Dns);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::BackingOff, "8 retries and two minutes are left");
}

/// N9, 11: the master's new candidates may come before its answer to a restart that is not set yet.
// Shows: N9.
#[test]
fn s11_candidates_ahead_of_the_answer_of_a_restart_wait_for_it() {
    for live in [Harness::live, Harness::live_keeping] {
        for ufrag in [Some("u2".into()), None] {
            let mut harness = live(one_retry());
            harness.give(Input::Restart);
            harness.settle(&[]);
            harness.commands();
            harness.candidate(crate::Candidate { ufrag, ..candidate(5) });
            harness.settle(&[]);
            assert_eq!(harness.commands(), [""; 0]);
            harness.answer(answer(2));
            harness.settle(&[]);
            let added = harness.commands().iter().filter(|name| **name == "add candidate").count();
            assert_eq!((added, harness.ignored(Ignored::OldGeneration)), (1, false));
        }
    }
}

/// N18: without an answer a candidate that names no generation is for the one in use.
#[test]
fn n18_unnamed_candidate_is_used_when_a_restart_is_given_up() {
    let mut harness = restarting();
    harness.candidate(candidate(5));
    harness.candidate(crate::Candidate { ufrag: Some("u2".into()), ..candidate(6) });
    harness.commands();
    harness.pass(10_000);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Live, alloc::vec!["add candidate"]));
    assert!(harness.ignored(Ignored::OldGeneration), "the other one is reported");
}

/// N18, N19: two changes of the network in a row: the second restart has its whole deadline, and
/// the master is not judged by what is left of the first one's.
#[test]
fn n19_remembered_restart_is_not_judged_by_the_deadline_of_the_first() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::NetworkChanged);
    harness.settle(&[]);
    harness.pass(500);
    harness.give(Input::NetworkChanged);
    harness.settle(&[]);
    harness.ice(Connectivity::Disconnected);
    harness.pass(9_000);
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.ice(Connectivity::Checking);
    harness.pass(200);
    harness.ice(Connectivity::Connected);
    harness.settle(&[]);
    harness.pass(9_000);
    assert_eq!((harness.fired(Timer::Restart), harness.reported(&Event::RestartRefused)), (0, 0));
    harness.answer(answer(3));
    harness.settle(&[]);
    harness.ice(Connectivity::Connected);
    harness.pass(20_000);
    assert_eq!((harness.phase(), harness.fired(Timer::Restart)), (Phase::Live, 0));
}

/// N18, 22: a restart that is done and connected leaves no deadline behind.
// Shows: N18.
#[test]
fn s22_settled_restart_does_not_end_a_later_blip() {
    for live in [Harness::live, Harness::live_keeping] {
        let mut harness = live(one_retry());
        harness.ice(Connectivity::Disconnected);
        harness.pass(3_000);
        harness.settle(&[]);
        harness.pass(1_000);
        harness.ice(Connectivity::Connected);
        assert_eq!(harness.phase(), Phase::Live, "the restart is still open");
        harness.answer(answer(2));
        harness.settle(&[]);
        harness.ice(Connectivity::Checking);
        harness.pass(500);
        harness.ice(Connectivity::Connected);
        harness.settle(&[]);
        harness.pass(5_000);
        harness.ice(Connectivity::Disconnected);
        harness.pass(2_900);
        assert_eq!((harness.phase(), harness.fired(Timer::Restart)), (Phase::Live, 0));
    }
}

/// N1: a restart that is requested in the set-up runs once there is a connection.
#[test]
fn n1_restart_in_the_set_up_is_remembered() {
    let mut harness = Harness::offered(one_retry());
    harness.give(Input::Restart);
    assert!(!harness.ignored(Ignored::OutOfPhase));
    harness.answer(answer(1));
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Establishing);
    assert!(!harness.commands().contains(&"create restart"));
    harness.ice(Connectivity::Connected);
    harness.notices(PeerEvent::KeyframeReceived);
    harness.settle(&[]);
    assert!(harness.commands().contains(&"create restart"));
}

/// N16, N18: with no connection left for its offer, a restart is not waited for.
#[test]
fn n16_loss_without_a_connection_for_a_restart_begins_again_at_once() {
    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::AccessDenied);
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.report().0, AttemptEnd::IceFailed);
}

/// N4: before the connection is up, an answer of another session makes the first one suspect.
#[test]
fn n4_stale_answer_to_a_renegotiation_in_the_set_up_shrinks_the_deadline() {
    let mut harness = Harness::answered(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.answer(anew(again(2)));
    assert_eq!(
        (harness.phase(), harness.reported(&Event::RestartRefused)),
        (Phase::Establishing, 0)
    );
    assert!(harness.ignored(Ignored::SecondAnswer));
    harness.pass(3_000);
    assert_eq!(harness.report().0, AttemptEnd::Deadline(Deadline::Establish));
}

/// N4: new credentials answer a restart alone, and that one was given up.
#[test]
fn n4_late_answer_of_a_restart_does_not_settle_a_renegotiation() {
    let mut harness = restarting();
    harness.pass(10_000);
    assert_eq!(harness.phase(), Phase::Live);
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.commands();
    harness.answer(answer(2));
    assert_eq!(harness.commands(), [""; 0]);
    assert!(harness.ignored(Ignored::Unsolicited));
    harness.answer(again(3));
    assert_eq!(harness.commands(), ["set remote"]);
}

/// N11: what was gathered for a restart that is taken back is of no use to the master.
#[test]
fn n11_candidates_of_a_restart_that_was_not_sent_are_not_sent() {
    let mut harness = Harness::setting_a_late_restart();
    harness.notices(PeerEvent::CandidateGathered(candidate(7)));
    harness.pass(2_000);
    harness.forget();
    harness.settle(&[]);
    assert!(!harness.commands().contains(&"send candidate"));
    assert!(harness.ignored(Ignored::OldGeneration));
}

/// N25: an answer that was kept for the end of a sending is reported when it is dropped.
#[test]
fn n25_held_answer_that_is_dropped_is_reported() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.pass(4_000);
    harness.settle(&["create restart"]);
    harness.pass(4_000);
    harness.settle(&["send offer"]);
    harness.answer(answer(2));
    harness.pass(2_000);
    harness.settle(&[]);
    assert!(harness.ignored(Ignored::Superseded));
}
