//! The master's offers, step by step.

use alloc::format;
use alloc::vec;
use core::time::Duration;

use crate::session::stage::*;
use crate::{
    AttemptEnd, Connectivity, Event, Failure, FailureCode, Ignored, Input, MediaFact, MediaKind,
    Output, PeerCommand, PeerEvent, Phase, Settings, SignalingEvent,
};

/// Fresh TURN credentials for an offer of the master.
const FRESH: [&str; 2] = ["fetch servers", "set servers"];

/// N8: ICE servers are set before the offer, once, and only if there are any.
#[test]
fn n8_servers_are_set_before_the_first_offer_of_the_service() {
    let answers = ["set remote", "create answer", "set local", "send answer"];
    for servers in [vec![turn()], vec![]] {
        let mut stage = Stage::opened(storage());
        stage.servers = servers.clone();
        stage.settle(&[]);
        stage.asked();
        stage.offer(offer(1));
        stage.settle(&[]);
        let before = if servers.is_empty() { vec![] } else { vec!["set servers"] };
        assert_eq!(stage.asked(), [&before[..], &answers[..]].concat());
        // A new ICE generation gets credentials that are fresh.
        stage.offer(offer(2));
        stage.settle(&[]);
        let before = if servers.is_empty() { vec!["fetch servers"] } else { FRESH.to_vec() };
        assert_eq!(stage.asked(), [&before[..], &answers[..]].concat());
    }
}

/// N4, N8: an offer that waits or was answered is not answered again; a newer one counts.
#[test]
fn n8_of_two_offers_that_wait_the_newer_counts() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    stage.forget();
    stage.offer(offer(1));
    assert!(!stage.ignored(Ignored::Duplicate));
    stage.offer(offer(2));
    assert!(!stage.ignored(Ignored::Duplicate));
    stage.offer(offer(2));
    assert!(stage.ignored(Ignored::Duplicate));
    stage.settle(&["set remote"]);
    let Output::Peer(_, PeerCommand::SetRemote { description, .. }) = stage.newest("set remote")
    else {
        panic!("an offer");
    };
    assert_eq!(*description, offer(2));
    stage.settle(&["create offer"]);
    stage.asked();
    stage.offer(offer(2));
    assert_eq!(stage.asked(), [""; 0], "it was answered");
}

/// N17: candidates in an offer count as received.
#[test]
fn n17_the_evidence_counts_the_addresses_in_an_offer() {
    let mut stage = Stage::joined();
    stage.offer(offer(1));
    stage.settle(&[]);
    stage.give(Input::Close);
    let (_, evidence) = stage.report();
    assert_eq!(evidence.remote_candidates, 2);
    assert!(evidence.answered && evidence.offered);
}

/// Connected is reported when it is, whether before or after the answer is out.
#[test]
fn n8_a_connection_that_overtakes_the_sending_of_the_answer_counts() {
    for early in [true, false] {
        let mut stage = Stage::joined();
        stage.offer(offer(1));
        stage.settle(&["send answer"]);
        assert_eq!(stage.phase(), Phase::Answering);
        if early {
            stage.ice(Connectivity::Connected);
        }
        stage.done("send answer");
        let expected = if early { Phase::AwaitingMedia } else { Phase::Establishing };
        assert_eq!((stage.phase(), stage.told(&Event::Connected)), (expected, usize::from(early)));
    }
}

/// 64: what fails before anything flows ends the attempt at once, with its cause.
#[test]
fn s64_a_first_answer_that_fails_ends_the_attempt_at_once() {
    for step in ["set remote", "create answer", "set local", "send answer"] {
        let mut stage = Stage::joined();
        stage.offer(offer(1));
        stage.settle(&[step]);
        stage.forget();
        stage.fails(step, FailureCode::BadDescription);
        assert_eq!(stage.phase(), Phase::Closing, "{step}");
        let end = stage.report().0;
        let fits = match step {
            "set remote" => matches!(end, AttemptEnd::AnswerRefused(_)),
            "send answer" => matches!(end, AttemptEnd::Offer(_)),
            _ => matches!(end, AttemptEnd::Peer(_)),
        };
        assert!(fits, "{step}: {end:?}");
    }
}

/// 64: the same of a later offer costs nothing but that offer.
#[test]
fn s64_a_later_answer_that_fails_leaves_media_alone() {
    for live in [Stage::storage_live, || Stage::live(one_retry())] {
        for step in ["set remote", "create answer", "set local", "send answer"] {
            let mut stage = live();
            stage.offer(offer(2));
            stage.settle(&[step]);
            stage.forget();
            stage.fails(step, FailureCode::Port);
            // After the first and the last of these the stack is stable by itself.
            let open = matches!(step, "create answer" | "set local");
            assert_eq!(stage.asked(), if open { vec!["roll back"] } else { vec![] }, "{step}");
            stage.settle(&[]);
            assert_eq!(stage.phase(), Phase::Live, "{step}");
            assert_eq!(stage.told(&Event::RenegotiationFailed), 1, "{step}");
            stage.forget();
            stage.offer(offer(3));
            stage.settle(&[]);
            let answers = ["set remote", "create answer", "set local", "send answer"];
            assert_eq!(stage.asked(), [&FRESH[..], &answers[..]].concat(), "{step}");
        }
    }
}

/// N8, N25: a step of closing the peer connection that is replaced is reported when it fails.
#[test]
fn n8_a_step_of_replacing_that_fails_is_told() {
    for (code, told) in [(FailureCode::Port, 1), (FailureCode::Cancelled, 0)] {
        let mut stage = Stage::storage_live();
        stage.offer(anew(offer(2)));
        stage.fails("stop transceivers", code);
        let failed = |event: &&Event| matches!(event, Event::CloseStepFailed(_));
        assert_eq!(stage.events().filter(failed).count(), told);
        stage.settle(&[]);
        let asked = stage.asked();
        let closes = ["fetch servers", "stop transceivers", "remove tracks", "close", "create"];
        assert_eq!(asked[..5], closes);
        stage.goes_live();
    }
}

/// 36: a status for an answer that was given to a session before says nothing of this one.
#[test]
fn s36_a_late_status_for_an_answer_of_the_session_before_is_ignored() {
    let mut stage = Stage::joined();
    stage.offer(offer(1));
    stage.settle(&["send answer"]);
    let Output::Signaling(ticket, _) = *stage.newest("send answer") else { panic!("an answer") };
    stage.settle(&[]);
    stage.goes_live();
    stage.offer(anew(offer(2)));
    assert_eq!(stage.phase(), Phase::Answering);
    let failure = Failure::new(FailureCode::Service, "by plan");
    stage.mail(SignalingEvent::Status { ticket: Some(ticket), failure });
    assert_eq!(stage.phase(), Phase::Answering);
    assert!(stage.ignored(Ignored::Status));
}

/// N7: our offer that gave way is run again where it is still needed.
#[test]
fn n7_a_first_offer_that_gave_way_is_needed_for_media_alone() {
    for (video, audio, again) in
        [(true, true, 0), (true, false, 0), (false, true, 0), (false, false, 1)]
    {
        let mut stage = Stage::offered(one_retry());
        let mut theirs = offer(1);
        let media = &theirs.facts.media[0];
        let sound = MediaFact { kind: MediaKind::Audio, sends: audio, ..media.clone() };
        theirs.facts.media.push(sound);
        theirs.facts.media[0].sends = video;
        stage.forget();
        stage.offer(theirs);
        stage.settle(&[]);
        let answered = ["roll back", "set remote", "create answer", "set local", "send answer"];
        let asked = stage.asked();
        assert_eq!(asked[..5], answered);
        let offers = asked.iter().filter(|name| **name == "send offer").count();
        assert_eq!(offers, again, "video {video}, audio {audio}");
        assert_eq!(stage.told(&Event::OfferSent { exchange: 3 }), again);
    }
}

/// N7: and only one that gave way.
#[test]
fn n7_own_offer_follows_a_first_offer_of_the_master_without_media() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["create"]);
    let mut theirs = offer(1);
    theirs.facts.media.clear();
    stage.offer(theirs);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::Establishing);
    assert!(stage.asked().contains(&"create offer"));
    // Connected without media is not live; with the answer to our own offer it can be.
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::AwaitingMedia);
    stage.answer(again(2));
    stage.settle(&[]);
    stage.notices(PeerEvent::KeyframeReceived);
    assert_eq!(stage.phase(), Phase::Live);
}

/// N7: a renegotiation that gives way is run again, whichever side made the first offer.
#[test]
fn n7_a_renegotiation_that_gave_way_is_run_again() {
    let mut stage = Stage::offered(one_retry());
    stage.offer(offer(1));
    stage.settle(&[]);
    stage.goes_live();
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!(stage.told(&Event::OfferSent { exchange: 3 }), 1);
    stage.asked();
    stage.offer(offer(2));
    stage.settle(&[]);
    let answered = ["set remote", "create answer", "set local", "send answer"];
    let answered = [&["roll back"], &FRESH[..], &answered].concat();
    let ours = ["create offer", "set local", "send offer"];
    assert_eq!(stage.asked(), [&answered[..], &ours[..]].concat());
    assert_eq!(stage.told(&Event::OfferSent { exchange: 5 }), 1);
}

/// N7, N18: a restart that was not set is dropped for the master's offer, and begun again after.
#[test]
fn n7_a_restart_that_was_not_set_gives_way_without_a_rollback() {
    for held in ["set servers", "create restart", "send offer", ""] {
        let mut stage = Stage::live(one_retry());
        stage.give(Input::Restart);
        stage.settle(&[held]);
        stage.forget();
        stage.offer(offer(1));
        stage.settle(&[]);
        let asked = stage.asked();
        assert!(!asked.contains(&"roll back"), "{held}: {asked:?}");
        let answered = asked.iter().position(|name| *name == "send answer");
        let ours = asked.iter().rposition(|name| *name == "send offer");
        assert!(answered < ours, "{held}: {asked:?}");
        stage.answer(answer(2));
        stage.settle(&[]);
        stage.ice(Connectivity::Connected);
        assert_eq!(stage.phase(), Phase::Live);
    }
}

/// N25: in a storage session the service offers; a wish to renegotiate is not swallowed.
#[test]
fn n25_a_renegotiation_that_nobody_can_begin_is_told() {
    let mut stage = Stage::storage_live();
    stage.forget();
    stage.give(Input::Renegotiate);
    assert_eq!(stage.asked(), [""; 0]);
    assert!(stage.ignored(Ignored::OutOfPhase));
    let mut stage = Stage::opened(one_retry());
    stage.forget();
    stage.give(Input::Renegotiate);
    assert!(!stage.ignored(Ignored::OutOfPhase), "the first offer carries it");
}

/// N12: a master that offers a new session each time before media flows is not waited for.
#[test]
fn n12_a_master_that_always_begins_anew_is_left() {
    let another = |n: u64| {
        let mut offer = offer(n);
        offer.facts.fingerprints = vec![alloc::format!("master {n}")];
        offer
    };
    let mut stage = Stage::joined();
    for n in 1..=9 {
        stage.offer(another(n));
        stage.settle(&[]);
        assert_eq!(stage.phase(), Phase::Establishing, "{n}");
    }
    stage.offer(another(10));
    assert_eq!(stage.report().0, AttemptEnd::MasterGone);
    // One that brings media in between may go on so.
    let mut stage = Stage::joined();
    for n in 1..=20 {
        stage.offer(another(n));
        stage.settle(&[]);
        stage.goes_live();
    }
}

/// N27: what was paused is not the session that takes its place.
#[test]
fn n27_a_new_session_is_not_paused() {
    let mut stage = Stage::storage_live();
    stage.notices(PeerEvent::MediaStalled);
    stage.notices(PeerEvent::SenderReport);
    stage.offer(anew(offer(2)));
    stage.settle(&[]);
    stage.goes_live();
    stage.notices(PeerEvent::MediaStalled);
    stage.notices(PeerEvent::SenderReport);
    assert_eq!(stage.told(&Event::MediaPaused), 1);
}

/// N8, N21: a remote session that replaces another, and an ICE restart that the service begins,
/// use TURN credentials that are fresh: those of the start ended after minutes.
#[test]
fn n21_offer_of_a_new_generation_gets_fresh_servers() {
    for theirs in [anew(offer(2)), offer(2)] {
        let mut stage = Stage::storage_live();
        stage.pass(3_600_000);
        stage.forget();
        stage.offer(theirs);
        stage.settle(&[]);
        let asked = stage.asked();
        let at = |name| asked.iter().position(|other| *other == name);
        assert!(at("fetch servers").is_some(), "{asked:?}");
        assert!(at("fetch servers") < at("set servers"), "{asked:?}");
        assert!(at("set servers") < at("set remote"), "{asked:?}");
    }
    // Without a link, or where the call fails, the old ones have to do.
    let mut stage = Stage::storage_live();
    stage.offer(offer(2));
    stage.fails("fetch servers", FailureCode::Network);
    stage.settle(&[]);
    assert!(stage.asked().contains(&"send answer"));
}

/// N8, 64: the join is repeated on the link that follows the one it was sent on.
#[test]
fn n8_join_is_repeated_after_a_link_switch() {
    let mut stage = Stage::joined();
    stage.pass(5_000);
    stage.mail(SignalingEvent::GoAway);
    stage.link_ends(1, FailureCode::Closed);
    stage.pass(2_000);
    stage.settle(&[]);
    stage.forget();
    stage.pass(22_000);
    assert!(stage.asked().iter().filter(|name| **name == "join").count() >= 3);
}

/// N12: a master that begins a new session before each deadline extends none of them for ever.
#[test]
fn n12_new_sessions_of_the_master_do_not_extend_the_set_up() {
    let settings = Settings { retries: 0, ..storage() };
    let longest = settings.clone().check().expect("valid").worst_case_duration();
    let mut stage = Stage::opened(settings);
    let began = stage.now;
    stage.settle(&[]);
    for n in 1..30 {
        if stage.phase() == Phase::Ended {
            break;
        }
        let mut theirs = offer(n);
        theirs.facts.fingerprints = vec![format!("session {n}")];
        stage.offer(theirs);
        stage.settle(&[]);
        stage.pass(19_000);
    }
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::Ended);
    let took = stage.now.saturating_since(began);
    assert!(took <= longest + Duration::from_secs(19), "{took:?} of {longest:?}");
}

/// N2: whether a description was set whose set-remote timed out is unknown.
#[test]
fn n2_no_offer_is_created_after_a_set_remote_that_timed_out() {
    let mut stage = Stage::live(one_retry());
    stage.offer(offer(1));
    stage.settle(&["set remote"]);
    stage.fails("set remote", FailureCode::TimedOut);
    stage.settle(&[]);
    stage.asked();
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    assert_eq!((stage.asked(), stage.phase()), (vec![], Phase::Live));
}

/// N25: the older of two offers that wait is not dropped silently.
#[test]
fn n25_offer_that_a_newer_one_supersedes_is_told() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    stage.offer(offer(1));
    assert!(!stage.ignored(Ignored::Superseded));
    stage.offer(offer(2));
    assert!(stage.ignored(Ignored::Superseded));
}

/// N7: a restart that was set yields to the master's offer; a rollback that fails ends the attempt.
#[test]
fn n7_set_restart_that_cannot_be_rolled_back_ends_the_attempt() {
    let mut stage = Stage::live_keeping(one_retry());
    stage.give(Input::Restart);
    stage.settle(&[]);
    stage.offer(offer(1));
    stage.fails("roll back", FailureCode::Port);
    assert!(matches!(stage.report().0, AttemptEnd::Peer(_)));
}

/// RFC 8122: the case of a fingerprint means nothing.
#[test]
fn fingerprint_in_another_letter_case_is_the_same_session() {
    let mut stage = Stage::live(one_retry());
    let mut theirs = offer(1);
    theirs.facts.fingerprints = vec!["MASTER".into()];
    stage.offer(theirs);
    stage.settle(&[]);
    assert!(!stage.asked().contains(&"stop transceivers"));
}
