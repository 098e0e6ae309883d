//! What each step of an exchange does, and what its failures cost.

use alloc::vec;

use crate::session::stage::*;
use crate::{
    AttemptEnd, Candidate, CandidateRelease, Connectivity, Description, Digest, Event, Evidence,
    FailureCode, Ignored, Input, Message, Output, PeerEvent, Phase, Sender, Settings,
    SignalingCommand, SignalingEvent, Timer, Undecodable,
};
use core::time::Duration;

const LOCAL: fn(u32) -> PeerEvent = |n| PeerEvent::CandidateGathered(candidate(n));

fn undecodable() -> SignalingEvent {
    SignalingEvent::Answer { sender: Sender::Master, body: Err(Undecodable) }
}

/// Live, and the offer of a renegotiation is out.
fn renegotiating() -> Stage {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["create offer", "set local", "send offer"]);
    stage
}

/// The same, and the offer of a restart is out.
fn restarting(mut stage: Stage) -> Stage {
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.asked();
    assert_eq!(stage.phase(), Phase::Recovering);
    stage
}

/// What was seen until the application closed.
fn evidence(stage: &mut Stage) -> Evidence {
    stage.give(Input::Close);
    stage.report().1
}

/// N21: ICE servers are set before the offer, once, and only if there are any.
#[test]
fn n21_servers_are_set_before_the_first_offer() {
    for (servers, set) in [(vec![turn()], 1), (vec![], 0)] {
        let mut stage = Stage::opened(one_retry());
        stage.servers = servers;
        stage.settle(&[]);
        let asked = stage.asked();
        let at = |name| asked.iter().position(|other| *other == name);
        assert_eq!(asked.iter().filter(|name| **name == "set servers").count(), set);
        assert!(set == 0 || at("set servers") < at("set local"), "{asked:?}");
    }
}

/// N9: what comes before the first offer is set is not forgotten by it.
#[test]
fn n9_a_candidate_that_repeats_over_set_local_is_a_duplicate() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["set local"]);
    stage.forget();
    stage.candidate(candidate(1));
    stage.settle(&[]);
    stage.candidate(candidate(1));
    assert!(stage.ignored(Ignored::Duplicate));
}

/// The same before the offer is made.
#[test]
fn n9_a_candidate_that_repeats_over_create_offer_is_a_duplicate() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["create offer"]);
    stage.candidate(candidate(1));
    stage.settle(&[]);
    stage.candidate(candidate(1));
    assert!(stage.ignored(Ignored::Duplicate));
    stage.answer(answer(1));
    stage.asked();
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["add candidate"]);
}

/// N11: the candidates of a later exchange wait for its offer.
#[test]
fn n11_candidates_of_a_renegotiation_follow_its_offer() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    stage.notices(LOCAL(7));
    assert_eq!(stage.asked(), ["create offer", "set local", "send offer"]);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["send candidate"]);
}

/// N1: a wish that comes before anything was offered adds nothing to what will be said.
#[test]
fn n1_a_renegotiation_before_the_first_exchange_is_part_of_it() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["create"]);
    stage.offer(offer(1));
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::Establishing);
    assert!(!stage.asked().contains(&"create offer"));
}

/// N1, N20: a renegotiation waits for its link; it is dropped once no link is opened any more.
#[test]
fn n1_a_renegotiation_waits_for_its_link() {
    let mut stage = Stage::live(one_retry());
    stage.link_ends(1, FailureCode::Network);
    stage.give(Input::Renegotiate);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 0);
    stage.pass(1_000);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["connect", "create offer", "set local", "send offer"]);

    let mut stage = Stage::live(one_retry());
    stage.link_ends(1, FailureCode::AccessDenied);
    stage.give(Input::Restart);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 0);
    stage.give(Input::Renegotiate);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 1);
    stage.give(Input::Timeout);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 1);
}

/// N18: fetching credentials takes at most half of a restart's time.
#[test]
fn n18_a_restart_goes_on_without_fresh_servers_at_half_time() {
    let settings = Settings { restart_timeout: Duration::from_secs(4), ..one_retry() };
    let mut stage = Stage::live(settings);
    stage.give(Input::Restart);
    assert_eq!(stage.asked(), ["fetch servers"]);
    stage.pass(1_999);
    assert_eq!(stage.asked(), [""; 0]);
    stage.pass(1);
    assert_eq!(stage.asked(), ["create restart"]);
}

/// N18: a restart that is not needed any more while its offer is being set is taken back.
#[test]
fn n18_a_restart_abandoned_while_it_is_set_is_not_sent() {
    let mut stage = Stage::live_keeping(one_retry());
    stage.give(Input::Restart);
    stage.pass(4_000);
    stage.settle(&["create restart"]);
    stage.pass(4_000);
    stage.settle(&["set local"]);
    stage.forget();
    stage.pass(2_000);
    assert_eq!((stage.phase(), stage.fired(Timer::Restart)), (Phase::Live, 1));
    stage.done("set local");
    assert_eq!(stage.asked(), ["roll back"]);
    stage.settle(&[]);
    // It is stable again, and a renegotiation is possible.
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["create offer", "set local", "send offer"]);
}

/// N18: one that is being made is not sent either.
#[test]
fn n18_a_restart_abandoned_while_it_is_made_is_forgotten() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.pass(4_000);
    stage.settle(&["set servers"]);
    stage.pass(4_000);
    stage.settle(&["create restart"]);
    stage.pass(2_000);
    assert_eq!(stage.phase(), Phase::Live);
    stage.forget();
    stage.settle(&[]);
    assert_eq!(stage.asked(), [""; 0]);
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["create offer", "set local", "send offer"]);
}

/// N18: one whose offer is on its way is taken back once it is known to be out.
#[test]
fn n18_a_restart_abandoned_while_it_is_sent_is_taken_back() {
    for fails in [false, true] {
        let mut stage = Stage::live(one_retry());
        stage.give(Input::Restart);
        stage.pass(4_000);
        stage.settle(&["create restart"]);
        stage.pass(4_000);
        stage.settle(&["send offer"]);
        stage.pass(2_000);
        assert_eq!(stage.phase(), Phase::Live);
        stage.forget();
        if fails {
            stage.fails("send offer", FailureCode::Network);
        } else {
            stage.done("send offer");
        }
        assert_eq!(stage.asked(), [""; 0], "it was never set");
        assert_eq!(stage.told(&Event::OfferSent { exchange: 2 }), 0);
        // What is answered next is not mistaken for what was abandoned.
        assert!(stage.answers_on_the_next_link());
    }
}

/// N17: the evidence says that the first offer went out, and how many addresses were named.
#[test]
fn n17_the_evidence_of_an_exchange() {
    let mut stage = Stage::offered(one_retry());
    assert!(evidence(&mut stage).offer_sent);
    let mut stage = Stage::answered(one_retry());
    stage.candidate(candidate(1));
    stage.candidate(candidate(2));
    stage.candidate(Candidate { text: "".into(), ..candidate(3) });
    assert_eq!(evidence(&mut stage).remote_candidates, 4, "two inside, two after, and the end");
}

/// N11: what was gathered for an exchange that gives way goes out while media flows.
#[test]
fn n11_a_later_exchange_that_gives_way_keeps_no_candidate_back() {
    let mut stage = Stage::opened(one_retry());
    stage.traits.candidates = CandidateRelease::AfterAnswer;
    stage.settle(&[]);
    stage.answer(answer(1));
    stage.settle(&[]);
    stage.goes_live();
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    stage.notices(LOCAL(7));
    stage.offer(offer(1));
    stage.asked();
    stage.done("roll back");
    assert_eq!(stage.asked(), ["set remote", "send candidate"]);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 0, "it is run again");
}

/// N18: a restart that cannot be made fails by its deadline, and is no renegotiation.
#[test]
fn n18_a_restart_that_cannot_be_made_is_no_failed_renegotiation() {
    let mut stage = Stage::live(one_retry());
    stage.ice(Connectivity::IceFailed);
    stage.settle(&["create restart"]);
    stage.fails("create restart", FailureCode::Port);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 0);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.pass(10_000);
    assert_eq!((stage.phase(), stage.fired(Timer::Restart)), (Phase::Closing, 1));
}

/// N6: before an offer is out, an answer that cannot be decoded answers nothing.
#[test]
fn n6_an_undecodable_answer_with_nothing_open_is_ignored() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["set local"]);
    assert_eq!(stage.phase(), Phase::Offering);
    stage.mail(undecodable());
    assert_eq!(stage.phase(), Phase::Offering);
    assert!(stage.ignored(Ignored::Undecodable));
    stage.settle(&["send offer"]);
    stage.mail(undecodable());
    assert_eq!(stage.phase(), Phase::Closing, "it overtook the completion of the sending");
}

/// N6, N18: while media flows, one costs the exchange that it was for.
#[test]
fn n6_an_undecodable_answer_to_a_later_offer_costs_that_exchange() {
    let mut stage = renegotiating();
    stage.mail(undecodable());
    assert_eq!(stage.asked(), ["roll back"]);
    assert!(!stage.ignored(Ignored::RefusedRestart));
    stage.settle(&[]);
    assert_eq!((stage.phase(), stage.told(&Event::RenegotiationFailed)), (Phase::Live, 1));

    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    stage.mail(undecodable());
    assert!(stage.ignored(Ignored::Undecodable));

    let mut stage = restarting(Stage::live(one_retry()));
    stage.mail(undecodable());
    assert!(stage.ignored(Ignored::RefusedRestart));
    assert_eq!(stage.phase(), Phase::Live);
}

/// N4: a suspect answer brings the deadline forward, and never back.
#[test]
fn n4_a_second_answer_late_in_the_establishing_moves_no_deadline() {
    let mut stage = Stage::answered(one_retry());
    let establish = |stage: &Stage| {
        let armed = |e: &&Event| matches!(e, Event::DeadlineArmed { timer: Timer::Establish, .. });
        stage.events().filter(armed).count()
    };
    assert_eq!(establish(&stage), 1);
    stage.pass(17_000);
    stage.answer(answer(2));
    assert!(stage.ignored(Ignored::SecondAnswer));
    assert_eq!(establish(&stage), 1, "three seconds are left anyway");
    let at = stage.now + Duration::from_secs(3);
    assert_eq!(stage.session.poll_timeout(), Some((at, Timer::Establish)));
}

/// N4: every answer that was applied is remembered.
#[test]
fn n4_an_answer_of_an_earlier_exchange_is_a_duplicate() {
    let mut stage = renegotiating();
    stage.answer(again(2));
    stage.settle(&[]);
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    stage.forget();
    stage.answer(answer(1));
    assert!(stage.ignored(Ignored::Duplicate));
    assert_eq!(stage.asked(), [""; 0]);
}

/// A stack that is connected before it can be counts as connected once it can.
#[test]
fn an_early_connection_counts_when_the_answer_is_applied() {
    let mut stage = Stage::offered(one_retry());
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::AwaitingAnswer);
    stage.answer(answer(1));
    assert_eq!(stage.phase(), Phase::Establishing);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::AwaitingMedia);
}

/// N18: when a restart counts as done.
#[test]
fn n18_a_restart_is_done_when_the_new_pair_works() {
    // The old pair goes on: nothing was lost.
    let mut stage = restarting(Stage::live_keeping(one_retry()));
    stage.answer(answer(2));
    stage.settle(&[]);
    assert_eq!((stage.phase(), stage.told(&Event::Recovered)), (Phase::Live, 1));
    // It was lost before.
    let mut stage = Stage::live_keeping(one_retry());
    stage.ice(Connectivity::IceFailed);
    stage.settle(&[]);
    stage.answer(answer(2));
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
    // It is gone with set-local, whatever the stack said last.
    let mut stage = restarting(Stage::live(one_retry()));
    stage.answer(answer(2));
    stage.settle(&[]);
    assert_eq!(stage.asked(), ["set local", "set remote"]);
    assert_eq!(stage.phase(), Phase::Recovering);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
}

/// N6: what flows is not given up for an answer that the stack refuses.
#[test]
fn n6_a_refused_answer_to_a_later_offer_is_rolled_back() {
    let mut stage = renegotiating();
    stage.answer(again(2));
    stage.fails("set remote", FailureCode::BadDescription);
    assert_eq!(stage.asked(), ["set remote", "roll back"]);
    stage.settle(&[]);
    assert_eq!((stage.phase(), stage.told(&Event::RenegotiationFailed)), (Phase::Live, 1));
}

/// N5: an answer proves that its offer was sent, whatever the link says.
#[test]
fn n5_an_answer_that_overtakes_a_failed_sending_counts() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["send offer"]);
    stage.answer(answer(1));
    stage.forget();
    stage.fails("send offer", FailureCode::TimedOut);
    assert_eq!((stage.phase(), stage.asked()), (Phase::Establishing, vec!["set remote"]));
}

/// 28: a restart that a link does not carry waits for another one.
#[test]
fn s28_an_unsent_restart_waits_for_the_next_link() {
    for keeps in [false, true] {
        let stage = if keeps { Stage::live_keeping } else { Stage::live };
        let mut stage = stage(one_retry());
        stage.give(Input::Restart);
        stage.settle(&["send offer"]);
        stage.forget();
        stage.fails("send offer", FailureCode::Network);
        stage.settle(&[]);
        assert_eq!(stage.asked(), if keeps { vec!["roll back"] } else { vec![] });
        stage.give(Input::Timeout);
        assert_eq!(stage.asked(), [""; 0], "not on the same link");
        stage.link_ends(1, FailureCode::Network);
        stage.pass(1_000);
        stage.settle(&["send offer"]);
        assert!(stage.asked().contains(&"create restart"));
        stage.settle(&[]);
        stage.answer(answer(2));
        stage.settle(&[]);
        stage.ice(Connectivity::Connected);
        assert_eq!(stage.phase(), Phase::Live);
    }
}

/// N1: a renegotiation that waits does not wait behind such a restart.
#[test]
fn s28_a_renegotiation_is_not_held_up_by_an_unsent_restart() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Restart);
    stage.settle(&["send offer"]);
    stage.fails("send offer", FailureCode::Network);
    stage.forget();
    stage.give(Input::Renegotiate);
    assert_eq!(stage.asked(), ["fetch servers"], "with it");
}

/// 28: a renegotiation that could not be sent is reported, and not repeated.
#[test]
fn s28_an_unsent_renegotiation_comes_to_nothing() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    stage.forget();
    // An answer to it that came meanwhile would belong to nothing.
    stage.fails("send offer", FailureCode::Network);
    assert_eq!(stage.asked(), ["roll back"]);
    stage.settle(&[]);
    assert_eq!(stage.asked(), [""; 0]);
    assert_eq!((stage.phase(), stage.told(&Event::RenegotiationFailed)), (Phase::Live, 1));
}

/// N16: what fails of a later offer costs the exchange, and not the session.
#[test]
fn n16_a_later_offer_that_cannot_be_made_or_set_costs_nothing_else() {
    for step in ["create offer", "set local"] {
        let mut stage = Stage::live(one_retry());
        stage.give(Input::Renegotiate);
        stage.settle(&[step]);
        stage.fails(step, FailureCode::Port);
        assert_eq!((stage.phase(), stage.told(&Event::RenegotiationFailed)), (Phase::Live, 1));
        stage.forget();
        stage.give(Input::Renegotiate);
        assert_eq!(stage.asked(), ["create offer"], "the next may work");
    }
}

/// N2: whether a set-local that outlived its deadline was carried out is unknown, so no further
/// description is possible, ours or the master's; what flows goes on.
#[test]
fn n2_nothing_is_described_after_a_set_local_that_may_be_set() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["set local"]);
    stage.forget();
    stage.pass(5_000);
    assert_eq!((stage.phase(), stage.fired(Timer::Operation)), (Phase::Live, 1));
    stage.offer(offer(1));
    assert!(stage.ignored(Ignored::OutOfPhase));
    assert_eq!(stage.asked(), [""; 0]);
    stage.forget();
    stage.give(Input::Restart);
    assert_eq!((stage.phase(), stage.asked()), (Phase::Live, vec![]));
    // The next loss goes straight to a new attempt.
    stage.ice(Connectivity::IceFailed);
    assert_eq!(stage.phase(), Phase::Closing);
}

/// N4: what makes an answer to a restart a refused one: the very credentials, where they are known.
#[test]
fn n4_a_restart_is_refused_by_its_old_credentials_alone() {
    let told = |change: fn(&mut Description)| {
        let mut stage = restarting(Stage::live(one_retry()));
        let mut again = Description { sdp: answer(2).sdp, ..answer(1) };
        change(&mut again);
        stage.answer(again);
        (stage.ignored(Ignored::RefusedRestart), stage.asked().contains(&"set local"))
    };
    assert_eq!(told(|_| ()), (true, false));
    assert_eq!(told(|a| a.facts.ice_ufrag = Some("new".into())), (false, true));
    assert_eq!(told(|a| a.facts.ice_pwd = Some(Digest(9))), (false, true));
}

/// The same where neither side's description names any.
#[test]
fn n4_unknown_credentials_refuse_no_restart() {
    let nameless = |n| {
        let mut answer = answer(n);
        (answer.facts.ice_ufrag, answer.facts.ice_pwd) = (None, None);
        answer
    };
    let mut stage = Stage::offered(one_retry());
    stage.answer(nameless(1));
    stage.settle(&[]);
    stage.goes_live();
    let mut stage = restarting(stage);
    stage.answer(nameless(2));
    assert_eq!(stage.asked(), ["set local"]);
}

/// N11: candidates may go once the offer is out, or once the answer is applied.
#[test]
fn n11_candidates_go_when_the_stack_allows() {
    for release in [CandidateRelease::AfterOffer, CandidateRelease::AfterAnswer] {
        let mut stage = Stage::opened(one_retry());
        stage.traits.candidates = release;
        stage.settle(&["send offer"]);
        stage.notices(LOCAL(1));
        stage.forget();
        stage.settle(&[]);
        let early = release == CandidateRelease::AfterOffer;
        assert_eq!(stage.asked(), if early { vec!["send candidate"] } else { vec![] });
        stage.answer(answer(1));
        stage.settle(&[]);
        let rest = if early { vec!["set remote"] } else { vec!["set remote", "send candidate"] };
        assert_eq!(stage.asked(), rest);
    }
}

/// N5, N20: an offer that a replaced link did not carry goes out on the one that took its place.
#[test]
fn n20_an_offer_is_sent_again_on_the_link_that_took_the_place() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["send offer"]);
    stage.mail(SignalingEvent::GoAway);
    stage.settle(&["send offer"]);
    stage.forget();
    stage.fails("send offer", FailureCode::NotOpen);
    let Output::Signaling(_, SignalingCommand::Send { link, message: Message::Offer(_) }) =
        stage.newest("send offer")
    else {
        panic!("an offer");
    };
    assert_eq!(link.0, 2);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::AwaitingAnswer);
}

/// N17: a stack that fails at an answer says nothing of the answer.
#[test]
fn n17_a_stack_that_hangs_is_not_the_answers_fault() {
    use FailureCode::{BadDescription, Cancelled, Closed, Codec, NotOpen, Port, TimedOut};
    let end = |code| {
        let mut stage = Stage::offered(one_retry());
        stage.answer(answer(1));
        stage.fails("set remote", code);
        stage.report().0
    };
    for code in [TimedOut, Port, NotOpen, Closed, Cancelled] {
        assert!(matches!(end(code), AttemptEnd::Peer(_)), "{code}");
    }
    for code in [BadDescription, Codec] {
        assert!(matches!(end(code), AttemptEnd::AnswerRefused(_)), "{code}");
    }
}

/// N4: the credentials of any answer that was applied are old, not of the newest alone.
#[test]
fn n4_a_restart_is_refused_by_the_credentials_of_any_answer_before() {
    let mut stage = Stage::live_keeping(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.answer(answer(2));
    stage.settle(&[]);
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.forget();
    stage.answer(Description { sdp: answer(3).sdp, ..answer(1) });
    assert_eq!(stage.told(&Event::RestartRefused), 1);
    assert!(!stage.asked().contains(&"set remote"));
}
