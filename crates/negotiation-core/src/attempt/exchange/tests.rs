//! What each step of an exchange does, and what its failures cost.

use alloc::vec;

use crate::session::harness::*;
use crate::{
    AttemptEnd, Candidate, CandidateRelease, Connectivity, Description, Digest, Done, Event,
    Evidence, FailureCode, Ignored, Input, Message, Output, PeerEvent, Phase, Sender, Settings,
    SignalingCommand, SignalingEvent, Timer, Undecodable,
};
use core::time::Duration;

const LOCAL: fn(u32) -> PeerEvent = |n| PeerEvent::CandidateGathered(candidate(n));

fn undecodable() -> SignalingEvent {
    SignalingEvent::Answer { sender: Sender::Master, body: Err(Undecodable) }
}

/// Live, and the offer of a renegotiation is out.
fn renegotiating() -> Harness {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["create offer", "set local", "send offer"]);
    harness
}

/// The same, and the offer of a restart is out.
fn restarting(mut harness: Harness) -> Harness {
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.commands();
    assert_eq!(harness.phase(), Phase::Recovering);
    harness
}

/// What was seen until the application closed.
fn evidence(harness: &mut Harness) -> Evidence {
    harness.give(Input::Close);
    harness.report().1
}

/// N21: ICE servers are set before the offer, once, and only if there are any.
#[test]
fn n21_servers_are_set_before_the_first_offer() {
    for (servers, set) in [(vec![turn()], 1), (vec![], 0)] {
        let mut harness = Harness::opened(one_retry());
        harness.servers = servers;
        harness.settle(&[]);
        let requested = harness.commands();
        let at = |name| requested.iter().position(|other| *other == name);
        assert_eq!(requested.iter().filter(|name| **name == "set servers").count(), set);
        assert!(set == 0 || at("set servers") < at("set local"), "{requested:?}");
    }
}

/// N9: what comes before the first offer is set is not forgotten by it.
#[test]
fn n9_candidate_that_repeats_over_set_local_is_a_duplicate() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["set local"]);
    harness.forget();
    harness.candidate(candidate(1));
    harness.settle(&[]);
    harness.candidate(candidate(1));
    assert!(harness.ignored(Ignored::Duplicate));
}

/// The same before the offer is made.
#[test]
fn n9_candidate_that_repeats_over_create_offer_is_a_duplicate() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["create offer"]);
    harness.candidate(candidate(1));
    harness.settle(&[]);
    harness.candidate(candidate(1));
    assert!(harness.ignored(Ignored::Duplicate));
    harness.answer(answer(1));
    harness.commands();
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["add candidate"]);
}

/// N11: the candidates of a later exchange wait for its offer.
#[test]
fn n11_candidates_of_a_renegotiation_follow_its_offer() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    harness.notices(LOCAL(7));
    assert_eq!(harness.commands(), ["create offer", "set local", "send offer"]);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["send candidate"]);
}

/// N1: a request before the first offer adds no second offer.
#[test]
fn n1_renegotiation_before_the_first_exchange_is_part_of_it() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["create"]);
    harness.offer(offer(1));
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Establishing);
    assert!(!harness.commands().contains(&"create offer"));
}

/// N1, N20: a renegotiation waits for its connection; it is dropped once no connection is opened
/// any more.
#[test]
fn n1_renegotiation_waits_for_its_connection() {
    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::Network);
    harness.give(Input::Renegotiate);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 0);
    harness.pass(1_000);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["connect", "create offer", "set local", "send offer"]);

    let mut harness = Harness::live(one_retry());
    harness.link_ends(1, FailureCode::AccessDenied);
    harness.give(Input::Restart);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 0);
    harness.give(Input::Renegotiate);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 1);
    harness.give(Input::Timeout);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 1);
}

/// N18: fetching credentials takes at most half of a restart's time.
#[test]
fn n18_restart_goes_on_without_fresh_servers_at_half_time() {
    let settings = Settings { restart_timeout: Duration::from_secs(4), ..one_retry() };
    let mut harness = Harness::live(settings);
    harness.give(Input::Restart);
    assert_eq!(harness.commands(), ["fetch servers"]);
    harness.pass(1_999);
    assert_eq!(harness.commands(), [""; 0]);
    harness.pass(1);
    assert_eq!(harness.commands(), ["create restart"]);
}

/// N18: a restart that is not needed any more while its offer is being set is taken back.
#[test]
fn n18_restart_abandoned_while_it_is_set_is_not_sent() {
    let mut harness = Harness::setting_a_late_restart();
    harness.forget();
    harness.pass(2_000);
    assert_eq!((harness.phase(), harness.fired(Timer::Restart)), (Phase::Live, 1));
    harness.done("set local");
    assert_eq!(harness.commands(), ["roll back"]);
    harness.settle(&[]);
    // It is stable again, and a renegotiation is possible.
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["create offer", "set local", "send offer"]);
}

/// N18: one that is being made is not sent either.
#[test]
fn n18_restart_abandoned_while_it_is_made_is_forgotten() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.pass(4_000);
    harness.settle(&["set servers"]);
    harness.pass(4_000);
    harness.settle(&["create restart"]);
    harness.pass(2_000);
    assert_eq!(harness.phase(), Phase::Live);
    harness.forget();
    harness.settle(&[]);
    assert_eq!(harness.commands(), [""; 0]);
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["create offer", "set local", "send offer"]);
}

/// N18: one whose offer is on its way is taken back once it is known to be out.
#[test]
fn n18_restart_abandoned_while_it_is_sent_is_taken_back() {
    for fails in [false, true] {
        let mut harness = Harness::live(one_retry());
        harness.give(Input::Restart);
        harness.pass(4_000);
        harness.settle(&["create restart"]);
        harness.pass(4_000);
        harness.settle(&["send offer"]);
        harness.pass(2_000);
        assert_eq!(harness.phase(), Phase::Live);
        harness.forget();
        if fails {
            harness.fails("send offer", FailureCode::Network);
        } else {
            harness.done("send offer");
        }
        assert_eq!(harness.commands(), [""; 0], "it was never set");
        assert_eq!(harness.reported(&Event::OfferSent { exchange: 2 }), 0);
        // What is answered next is not mistaken for what was abandoned.
        assert!(harness.answers_on_the_next_link());
    }
}

/// N17: the evidence shows that the first offer was sent, and how many addresses it named.
#[test]
fn n17_evidence_of_an_exchange() {
    let mut harness = Harness::offered(one_retry());
    assert!(evidence(&mut harness).offer_sent);
    let mut harness = Harness::answered(one_retry());
    harness.candidate(candidate(1));
    harness.candidate(candidate(2));
    harness.candidate(Candidate { text: "".into(), ..candidate(3) });
    assert_eq!(evidence(&mut harness).remote_candidates, 4, "two inside, two after, and the end");
}

/// N11: what was gathered for an exchange that gives way goes out while media flows.
#[test]
fn n11_later_exchange_that_gives_way_keeps_no_candidate_back() {
    let mut harness = Harness::opened(one_retry());
    harness.traits.candidates = CandidateRelease::AfterAnswer;
    harness.settle(&[]);
    harness.answer(answer(1));
    harness.settle(&[]);
    harness.goes_live();
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.notices(LOCAL(7));
    harness.offer(offer(1));
    harness.commands();
    harness.done("roll back");
    assert_eq!(harness.commands(), ["set remote", "send candidate"]);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 0, "it is run again");
}

/// N18: a restart that cannot be made fails by its deadline, and is no renegotiation.
#[test]
fn n18_restart_that_cannot_be_made_is_no_failed_renegotiation() {
    let mut harness = Harness::live(one_retry());
    harness.ice(Connectivity::IceFailed);
    harness.settle(&["create restart"]);
    harness.fails("create restart", FailureCode::Port);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 0);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.pass(10_000);
    assert_eq!((harness.phase(), harness.fired(Timer::Restart)), (Phase::Closing, 1));
}

/// N6: before an offer is out, an answer that cannot be decoded answers nothing.
#[test]
fn n6_undecodable_answer_with_nothing_open_is_ignored() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["set local"]);
    assert_eq!(harness.phase(), Phase::Offering);
    harness.receive(undecodable());
    assert_eq!(harness.phase(), Phase::Offering);
    assert!(harness.ignored(Ignored::Undecodable));
    harness.settle(&["send offer"]);
    harness.receive(undecodable());
    assert_eq!(harness.phase(), Phase::Closing, "it overtook the completion of the sending");
}

/// N6, N18: while media flows, one costs the exchange that it was for.
#[test]
fn n6_undecodable_answer_to_a_later_offer_costs_that_exchange() {
    let mut harness = renegotiating();
    harness.receive(undecodable());
    assert_eq!(harness.commands(), ["roll back"]);
    assert!(!harness.ignored(Ignored::RefusedRestart));
    harness.settle(&[]);
    assert_eq!((harness.phase(), harness.reported(&Event::RenegotiationFailed)), (Phase::Live, 1));

    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    harness.receive(undecodable());
    assert!(harness.ignored(Ignored::Undecodable));

    let mut harness = restarting(Harness::live(one_retry()));
    harness.receive(undecodable());
    assert!(harness.ignored(Ignored::RefusedRestart));
    assert_eq!(harness.phase(), Phase::Live);
}

/// N4: a suspect answer brings the deadline forward, and never back.
#[test]
fn n4_second_answer_late_in_the_establishing_moves_no_deadline() {
    let mut harness = Harness::answered(one_retry());
    let establish = |harness: &Harness| {
        let armed = |e: &&Event| matches!(e, Event::DeadlineArmed { timer: Timer::Establish, .. });
        harness.events().filter(armed).count()
    };
    assert_eq!(establish(&harness), 1);
    harness.pass(17_000);
    harness.answer(answer(2));
    assert!(harness.ignored(Ignored::SecondAnswer));
    assert_eq!(establish(&harness), 1, "three seconds are left anyway");
    let at = harness.now + Duration::from_secs(3);
    assert_eq!(harness.session.poll_timeout(), Some((at, Timer::Establish)));
}

/// N4: every answer that was applied is remembered.
#[test]
fn n4_answer_of_an_earlier_exchange_is_a_duplicate() {
    let mut harness = renegotiating();
    harness.answer(again(2));
    harness.settle(&[]);
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.forget();
    harness.answer(answer(1));
    assert!(harness.ignored(Ignored::Duplicate));
    assert_eq!(harness.commands(), [""; 0]);
}

/// A stack that is connected before it can be counts as connected once it can.
#[test]
fn early_connection_counts_when_the_answer_is_applied() {
    let mut harness = Harness::offered(one_retry());
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::AwaitingAnswer);
    harness.answer(answer(1));
    assert_eq!(harness.phase(), Phase::Establishing);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::AwaitingMedia);
}

/// N18: when a restart counts as done.
#[test]
fn n18_restart_is_done_when_the_new_pair_works() {
    // The old pair goes on: nothing was lost.
    let mut harness = restarting(Harness::live_keeping(one_retry()));
    harness.answer(answer(2));
    harness.settle(&[]);
    assert_eq!((harness.phase(), harness.reported(&Event::Recovered)), (Phase::Live, 1));
    // It was lost before.
    let mut harness = Harness::live_keeping(one_retry());
    harness.ice(Connectivity::IceFailed);
    harness.settle(&[]);
    harness.answer(answer(2));
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
    // It ends with set-local, whatever the stack reported last.
    let mut harness = restarting(Harness::live(one_retry()));
    harness.answer(answer(2));
    harness.settle(&[]);
    assert_eq!(harness.commands(), ["set local", "set remote"]);
    assert_eq!(harness.phase(), Phase::Recovering);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
}

/// The evidence has the video codecs of the attempt's first offer, not those of a later one.
#[test]
fn evidence_has_the_codecs_of_the_first_offer() {
    let offer = |codec: &str| {
        let mut offer = offer(1);
        offer.facts.video_codecs = vec![codec.into()];
        Ok(Done::Description(offer))
    };
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["create offer"]);
    harness.ends("create offer", offer("H264"));
    harness.settle(&[]);
    harness.answer(answer(1));
    harness.settle(&[]);
    harness.goes_live();
    harness.give(Input::Renegotiate);
    harness.settle(&["create offer"]);
    harness.ends("create offer", offer("VP8"));
    assert_eq!(evidence(&mut harness).video_offered, ["H264"]);
}

/// N6: what flows is not given up for an answer that the stack refuses.
#[test]
fn n6_refused_answer_to_a_later_offer_is_rolled_back() {
    let mut harness = renegotiating();
    harness.answer(again(2));
    harness.fails("set remote", FailureCode::BadDescription);
    assert_eq!(harness.commands(), ["set remote", "roll back"]);
    harness.settle(&[]);
    assert_eq!((harness.phase(), harness.reported(&Event::RenegotiationFailed)), (Phase::Live, 1));
}

/// N5: an answer proves that its offer was sent, whatever the connection reports.
#[test]
fn n5_answer_that_overtakes_a_failed_sending_counts() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["send offer"]);
    harness.answer(answer(1));
    harness.forget();
    harness.fails("send offer", FailureCode::TimedOut);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Establishing, vec!["set remote"]));
}

/// 28: a restart that a connection does not carry waits for another one.
#[test]
fn s28_unsent_restart_waits_for_the_next_connection() {
    for keeps in [false, true] {
        let harness = if keeps { Harness::live_keeping } else { Harness::live };
        let mut harness = harness(one_retry());
        harness.give(Input::Restart);
        harness.settle(&["send offer"]);
        harness.forget();
        harness.fails("send offer", FailureCode::Network);
        harness.settle(&[]);
        assert_eq!(harness.commands(), if keeps { vec!["roll back"] } else { vec![] });
        harness.give(Input::Timeout);
        assert_eq!(harness.commands(), [""; 0], "not on the same link");
        harness.link_ends(1, FailureCode::Network);
        harness.pass(1_000);
        harness.settle(&["send offer"]);
        assert!(harness.commands().contains(&"create restart"));
        harness.settle(&[]);
        harness.answer(answer(2));
        harness.settle(&[]);
        harness.ice(Connectivity::Connected);
        assert_eq!(harness.phase(), Phase::Live);
    }
}

/// N1: a renegotiation that waits does not wait behind such a restart.
#[test]
fn s28_renegotiation_is_not_held_up_by_an_unsent_restart() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Restart);
    harness.settle(&["send offer"]);
    harness.fails("send offer", FailureCode::Network);
    harness.forget();
    harness.give(Input::Renegotiate);
    assert_eq!(harness.commands(), ["fetch servers"], "with it");
}

/// 28: a renegotiation that could not be sent is reported, and not repeated.
#[test]
fn s28_unsent_renegotiation_is_reported_and_not_repeated() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    harness.forget();
    // An answer to it that came meanwhile would belong to nothing.
    harness.fails("send offer", FailureCode::Network);
    assert_eq!(harness.commands(), ["roll back"]);
    harness.settle(&[]);
    assert_eq!(harness.commands(), [""; 0]);
    assert_eq!((harness.phase(), harness.reported(&Event::RenegotiationFailed)), (Phase::Live, 1));
}

/// N16: what fails of a later offer costs the exchange, and not the session.
#[test]
fn n16_later_offer_that_cannot_be_made_or_set_costs_nothing_else() {
    for step in ["create offer", "set local"] {
        let mut harness = Harness::live(one_retry());
        harness.give(Input::Renegotiate);
        harness.settle(&[step]);
        harness.fails(step, FailureCode::Port);
        assert_eq!(
            (harness.phase(), harness.reported(&Event::RenegotiationFailed)),
            (Phase::Live, 1)
        );
        harness.forget();
        harness.give(Input::Renegotiate);
        assert_eq!(harness.commands(), ["create offer"], "the next may work");
    }
}

/// N2: whether a set-local that outlived its deadline was carried out is unknown, so no further
/// description is possible, ours or the master's; what flows goes on.
#[test]
fn n2_nothing_is_described_after_a_set_local_that_may_be_set() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["set local"]);
    harness.forget();
    harness.pass(5_000);
    assert_eq!((harness.phase(), harness.fired(Timer::Operation)), (Phase::Live, 1));
    harness.offer(offer(1));
    assert!(harness.ignored(Ignored::OutOfPhase));
    assert_eq!(harness.commands(), [""; 0]);
    harness.forget();
    harness.give(Input::Restart);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Live, vec![]));
    // The next loss goes straight to a new attempt.
    harness.ice(Connectivity::IceFailed);
    assert_eq!(harness.phase(), Phase::Closing);
}

/// N4: what makes an answer to a restart a refused one: the very credentials, where they are known.
#[test]
fn n4_restart_is_refused_by_its_old_credentials_alone() {
    let expected = |change: fn(&mut Description)| {
        let mut harness = restarting(Harness::live(one_retry()));
        let mut again = Description { sdp: answer(2).sdp, ..answer(1) };
        change(&mut again);
        harness.answer(again);
        (harness.ignored(Ignored::RefusedRestart), harness.commands().contains(&"set local"))
    };
    assert_eq!(expected(|_| ()), (true, false));
    assert_eq!(expected(|a| a.facts.ice_ufrag = Some("new".into())), (false, true));
    assert_eq!(expected(|a| a.facts.ice_pwd = Some(Digest(9))), (false, true));
}

/// The same where neither side's description names any.
#[test]
fn n4_unknown_credentials_refuse_no_restart() {
    let nameless = |n| {
        let mut answer = answer(n);
        (answer.facts.ice_ufrag, answer.facts.ice_pwd) = (None, None);
        answer
    };
    let mut harness = Harness::offered(one_retry());
    harness.answer(nameless(1));
    harness.settle(&[]);
    harness.goes_live();
    let mut harness = restarting(harness);
    harness.answer(nameless(2));
    assert_eq!(harness.commands(), ["set local"]);
}

/// N11: candidates may go once the offer is out, or once the answer is applied.
#[test]
fn n11_candidates_go_when_the_stack_allows() {
    for release in [CandidateRelease::AfterOffer, CandidateRelease::AfterAnswer] {
        let mut harness = Harness::opened(one_retry());
        harness.traits.candidates = release;
        harness.settle(&["send offer"]);
        harness.notices(LOCAL(1));
        harness.forget();
        harness.settle(&[]);
        let early = release == CandidateRelease::AfterOffer;
        assert_eq!(harness.commands(), if early { vec!["send candidate"] } else { vec![] });
        harness.answer(answer(1));
        harness.settle(&[]);
        let rest = if early { vec!["set remote"] } else { vec!["set remote", "send candidate"] };
        assert_eq!(harness.commands(), rest);
    }
}

/// N5, N20: an offer that a replaced connection did not carry goes out on the one that took its
/// place.
#[test]
fn n20_offer_is_sent_again_on_the_connection_that_took_the_place() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["send offer"]);
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["send offer"]);
    harness.forget();
    harness.fails("send offer", FailureCode::NotOpen);
    let Output::Signaling(_, SignalingCommand::Send { link, message: Message::Offer(_) }) =
        harness.newest("send offer")
    else {
        panic!("an offer");
    };
    assert_eq!(link.0, 2);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::AwaitingAnswer);
}

/// N17: a stack that fails at an answer does not make the answer bad.
#[test]
fn n17_stack_that_hangs_is_not_the_answers_fault() {
    use FailureCode::{BadDescription, Cancelled, Closed, Codec, NotOpen, Port, TimedOut};
    let end = |code| {
        let mut harness = Harness::offered(one_retry());
        harness.answer(answer(1));
        harness.fails("set remote", code);
        harness.report().0
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
fn n4_restart_is_refused_by_the_credentials_of_any_answer_before() {
    let mut harness = Harness::live_keeping(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.forget();
    harness.answer(Description { sdp: answer(3).sdp, ..answer(1) });
    assert_eq!(harness.reported(&Event::RestartRefused), 1);
    assert!(!harness.commands().contains(&"set remote"));
}
