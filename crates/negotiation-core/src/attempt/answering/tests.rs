//! The master's offers, step by step.

use alloc::format;
use alloc::vec;
use core::time::Duration;

use crate::session::harness::*;
use crate::{
    AttemptEnd, Connectivity, Event, Failure, FailureCode, Ignored, Input, MediaKind, MediaSection,
    Output, PeerCommand, PeerEvent, Phase, Settings, SignalingEvent,
};

/// Fresh TURN credentials for an offer of the master.
const FRESH: [&str; 2] = ["fetch servers", "set servers"];

/// N8: ICE servers are set before the offer, once, and only if there are any.
#[test]
fn n8_servers_are_set_before_the_first_offer_of_the_service() {
    let answers = ["set remote", "create answer", "set local", "send answer"];
    for servers in [vec![turn()], vec![]] {
        let mut harness = Harness::opened(storage());
        harness.servers = servers.clone();
        harness.settle(&[]);
        harness.commands();
        harness.offer(offer(1));
        harness.settle(&[]);
        let before = if servers.is_empty() { vec![] } else { vec!["set servers"] };
        assert_eq!(harness.commands(), [&before[..], &answers[..]].concat());
        // A new ICE generation gets credentials that are fresh.
        harness.offer(offer(2));
        harness.settle(&[]);
        let before = if servers.is_empty() { vec!["fetch servers"] } else { FRESH.to_vec() };
        assert_eq!(harness.commands(), [&before[..], &answers[..]].concat());
    }
}

/// N4, N8: an offer that waits or was answered is not answered again; a newer one counts.
#[test]
fn n8_of_two_offers_that_wait_the_newer_counts() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    harness.forget();
    harness.offer(offer(1));
    assert!(!harness.ignored(Ignored::Duplicate));
    harness.offer(offer(2));
    assert!(!harness.ignored(Ignored::Duplicate));
    harness.offer(offer(2));
    assert!(harness.ignored(Ignored::Duplicate));
    harness.settle(&["set remote"]);
    let Output::Peer(_, PeerCommand::SetRemote { description, .. }) = harness.newest("set remote")
    else {
        panic!("an offer");
    };
    assert_eq!(*description, offer(2));
    harness.settle(&["create offer"]);
    harness.commands();
    harness.offer(offer(2));
    assert_eq!(harness.commands(), [""; 0], "it was answered");
}

/// N17: candidates in an offer count as received.
#[test]
fn n17_evidence_counts_the_addresses_in_an_offer() {
    let mut harness = Harness::joined();
    harness.offer(offer(1));
    harness.settle(&[]);
    harness.give(Input::Close);
    let (_, evidence) = harness.report();
    assert_eq!(evidence.remote_candidates, 2);
    assert!(evidence.answered && evidence.offered);
}

/// Connected is reported when it is, whether before or after the answer is out.
#[test]
fn n8_connection_that_overtakes_the_sending_of_the_answer_counts() {
    for early in [true, false] {
        let mut harness = Harness::joined();
        harness.offer(offer(1));
        harness.settle(&["send answer"]);
        assert_eq!(harness.phase(), Phase::Answering);
        if early {
            harness.ice(Connectivity::Connected);
        }
        harness.done("send answer");
        let expected = if early { Phase::AwaitingMedia } else { Phase::Establishing };
        assert_eq!(
            (harness.phase(), harness.reported(&Event::Connected)),
            (expected, usize::from(early))
        );
    }
}

/// 64: what fails before anything flows ends the attempt at once, with its cause.
#[test]
fn s64_first_answer_that_fails_ends_the_attempt_at_once() {
    for step in ["set remote", "create answer", "set local", "send answer"] {
        let mut harness = Harness::joined();
        harness.offer(offer(1));
        harness.settle(&[step]);
        harness.forget();
        harness.fails(step, FailureCode::BadDescription);
        assert_eq!(harness.phase(), Phase::Closing, "{step}");
        let end = harness.report().0;
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
fn s64_later_answer_that_fails_leaves_media_alone() {
    for live in [Harness::storage_live, || Harness::live(one_retry())] {
        for step in ["set remote", "create answer", "set local", "send answer"] {
            let mut harness = live();
            harness.offer(offer(2));
            harness.settle(&[step]);
            harness.forget();
            harness.fails(step, FailureCode::Port);
            // After the first and the last of these the stack is stable by itself.
            let open = matches!(step, "create answer" | "set local");
            assert_eq!(harness.commands(), if open { vec!["roll back"] } else { vec![] }, "{step}");
            harness.settle(&[]);
            assert_eq!(harness.phase(), Phase::Live, "{step}");
            assert_eq!(harness.reported(&Event::RenegotiationFailed), 1, "{step}");
            harness.forget();
            harness.offer(offer(3));
            harness.settle(&[]);
            let answers = ["set remote", "create answer", "set local", "send answer"];
            assert_eq!(harness.commands(), [&FRESH[..], &answers[..]].concat(), "{step}");
        }
    }
}

/// N8, N25: a step of closing the peer connection that is replaced is reported when it fails.
#[test]
fn n8_step_of_replacing_that_fails_is_reported() {
    for (code, expected) in [(FailureCode::Port, 1), (FailureCode::Cancelled, 0)] {
        let mut harness = Harness::storage_live();
        harness.offer(anew(offer(2)));
        harness.fails("stop transceivers", code);
        let failed = |event: &&Event| matches!(event, Event::CloseStepFailed(_));
        assert_eq!(harness.events().filter(failed).count(), expected);
        harness.settle(&[]);
        let requested = harness.commands();
        let closes = ["fetch servers", "stop transceivers", "remove tracks", "close", "create"];
        assert_eq!(requested[..5], closes);
        harness.goes_live();
    }
}

/// 36: a status for an answer to an earlier session does not concern this one.
#[test]
fn s36_late_status_for_an_answer_of_the_session_before_is_ignored() {
    let mut harness = Harness::joined();
    harness.offer(offer(1));
    harness.settle(&["send answer"]);
    let Output::Signaling(ticket, _) = *harness.newest("send answer") else { panic!("an answer") };
    harness.settle(&[]);
    harness.goes_live();
    harness.offer(anew(offer(2)));
    assert_eq!(harness.phase(), Phase::Answering);
    let failure = Failure::new(FailureCode::Service, "by plan");
    harness.receive(SignalingEvent::Status { ticket: Some(ticket), failure });
    assert_eq!(harness.phase(), Phase::Answering);
    assert!(harness.ignored(Ignored::Status));
}

/// N7: our offer that gave way is run again where it is still needed.
#[test]
fn n7_first_offer_that_gave_way_is_needed_for_media_alone() {
    for (video, audio, again) in
        [(true, true, 0), (true, false, 0), (false, true, 0), (false, false, 1)]
    {
        let mut harness = Harness::offered(one_retry());
        let mut theirs = offer(1);
        let media = &theirs.facts.media[0];
        let sound = MediaSection { kind: MediaKind::Audio, sends: audio, ..media.clone() };
        theirs.facts.media.push(sound);
        theirs.facts.media[0].sends = video;
        harness.forget();
        harness.offer(theirs);
        harness.settle(&[]);
        let answered = ["roll back", "set remote", "create answer", "set local", "send answer"];
        let requested = harness.commands();
        assert_eq!(requested[..5], answered);
        let offers = requested.iter().filter(|name| **name == "send offer").count();
        assert_eq!(offers, again, "video {video}, audio {audio}");
        assert_eq!(harness.reported(&Event::OfferSent { exchange: 3 }), again);
    }
}

/// N7: and only one that gave way.
#[test]
fn n7_own_offer_follows_a_first_offer_of_the_master_without_media() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["create"]);
    let mut theirs = offer(1);
    theirs.facts.media.clear();
    harness.offer(theirs);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Establishing);
    assert!(harness.commands().contains(&"create offer"));
    // Connected without media is not live; with the answer to our own offer it can be.
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::AwaitingMedia);
    harness.answer(again(2));
    harness.settle(&[]);
    harness.notices(PeerEvent::KeyframeReceived);
    assert_eq!(harness.phase(), Phase::Live);
}

/// N7: a later offer of the master that removes all media is no reason to offer, nor is any offer of
/// a service that makes all of them, nor one to a session that wants no media.
#[test]
fn n7_own_offer_does_not_follow_a_later_offer_without_media() {
    let mut no_media =
        Harness::opened(Settings { receive_video: false, receive_audio: false, ..one_retry() });
    no_media.settle(&["create"]);
    for (mut harness, n) in [
        (Harness::live(one_retry()), 2),
        (Harness::storage_live(), 2),
        (Harness::joined(), 1),
        (no_media, 1),
    ] {
        let mut theirs = offer(n);
        theirs.facts.media.clear();
        harness.forget();
        harness.offer(theirs);
        harness.settle(&[]);
        let commands = harness.commands();
        assert!(commands.contains(&"send answer"), "{commands:?}");
        assert!(!commands.contains(&"create offer"), "{commands:?}");
    }
}

/// N7: a renegotiation that gives way is run again, whichever side made the first offer.
#[test]
fn n7_renegotiation_that_gave_way_is_run_again() {
    let mut harness = Harness::offered(one_retry());
    harness.offer(offer(1));
    harness.settle(&[]);
    harness.goes_live();
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!(harness.reported(&Event::OfferSent { exchange: 3 }), 1);
    harness.commands();
    harness.offer(offer(2));
    harness.settle(&[]);
    let answered = ["set remote", "create answer", "set local", "send answer"];
    let answered = [&["roll back"], &FRESH[..], &answered].concat();
    let ours = ["create offer", "set local", "send offer"];
    assert_eq!(harness.commands(), [&answered[..], &ours[..]].concat());
    assert_eq!(harness.reported(&Event::OfferSent { exchange: 5 }), 1);
}

/// N7, N18: a restart that was not set is dropped for the master's offer, and begun again after.
#[test]
fn n7_restart_that_was_not_set_gives_way_without_a_rollback() {
    for held in ["set servers", "create restart", "send offer", ""] {
        let mut harness = Harness::live(one_retry());
        harness.give(Input::Restart);
        harness.settle(&[held]);
        harness.forget();
        harness.offer(offer(1));
        harness.settle(&[]);
        let requested = harness.commands();
        assert!(!requested.contains(&"roll back"), "{held}: {requested:?}");
        let answered = requested.iter().position(|name| *name == "send answer");
        let ours = requested.iter().rposition(|name| *name == "send offer");
        assert!(answered < ours, "{held}: {requested:?}");
        harness.answer(answer(2));
        harness.settle(&[]);
        harness.ice(Connectivity::Connected);
        assert_eq!(harness.phase(), Phase::Live);
    }
}

/// N25: in a storage session the service offers; a request to renegotiate is not lost.
#[test]
fn n25_renegotiation_that_cannot_begin_is_reported() {
    let mut harness = Harness::storage_live();
    harness.forget();
    harness.give(Input::Renegotiate);
    assert_eq!(harness.commands(), [""; 0]);
    assert!(harness.ignored(Ignored::OutOfPhase));
    let mut harness = Harness::opened(one_retry());
    harness.forget();
    harness.give(Input::Renegotiate);
    assert!(!harness.ignored(Ignored::OutOfPhase), "the first offer carries it");
}

/// N12: a master that offers a new session each time before media flows is not waited for.
#[test]
fn n12_master_that_always_starts_over_is_given_up() {
    let another = |n: u64| {
        let mut offer = offer(n);
        offer.facts.fingerprints = vec![alloc::format!("master {n}")];
        offer
    };
    let mut harness = Harness::joined();
    for n in 1..=9 {
        harness.offer(another(n));
        harness.settle(&[]);
        assert_eq!(harness.phase(), Phase::Establishing, "{n}");
    }
    harness.offer(another(10));
    assert_eq!(harness.report().0, AttemptEnd::MasterGone);
    // One that brings media in between may go on so.
    let mut harness = Harness::joined();
    for n in 1..=20 {
        harness.offer(another(n));
        harness.settle(&[]);
        harness.goes_live();
    }
}

/// N27: what was paused is not the session that takes its place.
#[test]
fn n27_new_session_is_not_paused() {
    let mut harness = Harness::storage_live();
    harness.notices(PeerEvent::MediaStalled);
    harness.notices(PeerEvent::SenderReport);
    harness.offer(anew(offer(2)));
    harness.settle(&[]);
    harness.goes_live();
    harness.notices(PeerEvent::MediaStalled);
    harness.notices(PeerEvent::SenderReport);
    assert_eq!(harness.reported(&Event::MediaPaused), 1);
}

/// N8, N21: a remote session that replaces another, and an ICE restart that the service begins,
/// use TURN credentials that are fresh: those of the start ended after minutes.
#[test]
fn n21_offer_of_a_new_generation_gets_fresh_servers() {
    for theirs in [anew(offer(2)), offer(2)] {
        let mut harness = Harness::storage_live();
        harness.pass(3_600_000);
        harness.forget();
        harness.offer(theirs);
        harness.settle(&[]);
        let requested = harness.commands();
        let at = |name| requested.iter().position(|other| *other == name);
        assert!(at("fetch servers").is_some(), "{requested:?}");
        assert!(at("fetch servers") < at("set servers"), "{requested:?}");
        assert!(at("set servers") < at("set remote"), "{requested:?}");
    }
    // Without a connection, or where the call fails, the old ones have to do.
    let mut harness = Harness::storage_live();
    harness.offer(offer(2));
    harness.fails("fetch servers", FailureCode::Network);
    harness.settle(&[]);
    assert!(harness.commands().contains(&"send answer"));
}

/// N8, 64: the join is repeated on the connection that follows the one it was sent on.
#[test]
fn n8_join_is_repeated_after_a_connection_switch() {
    let mut harness = Harness::joined();
    harness.pass(5_000);
    harness.receive(SignalingEvent::GoAway);
    harness.link_ends(1, FailureCode::Closed);
    harness.pass(2_000);
    harness.settle(&[]);
    harness.forget();
    harness.pass(22_000);
    assert!(harness.commands().iter().filter(|name| **name == "join").count() >= 3);
}

/// N12: a master that begins a new session before each deadline extends none of them for ever.
#[test]
fn n12_new_sessions_of_the_master_do_not_extend_the_set_up() {
    let settings = Settings { retries: 0, ..storage() };
    let longest = settings.clone().check().expect("valid").worst_case_duration();
    let mut harness = Harness::opened(settings);
    let began = harness.now;
    harness.settle(&[]);
    for n in 1..30 {
        if harness.phase() == Phase::Ended {
            break;
        }
        let mut theirs = offer(n);
        theirs.facts.fingerprints = vec![format!("session {n}")];
        harness.offer(theirs);
        harness.settle(&[]);
        harness.pass(19_000);
    }
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::Ended);
    let took = harness.now.saturating_since(began);
    assert!(took <= longest + Duration::from_secs(19), "{took:?} of {longest:?}");
}

/// N2: whether a description was set whose set-remote timed out is unknown.
#[test]
fn n2_no_offer_is_created_after_a_set_remote_that_timed_out() {
    let mut harness = Harness::live(one_retry());
    harness.offer(offer(1));
    harness.settle(&["set remote"]);
    harness.fails("set remote", FailureCode::TimedOut);
    harness.settle(&[]);
    harness.commands();
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    assert_eq!((harness.commands(), harness.phase()), (vec![], Phase::Live));
}

/// N25: the older of two offers that wait is not dropped silently.
#[test]
fn n25_offer_that_a_newer_one_supersedes_is_reported() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    harness.offer(offer(1));
    assert!(!harness.ignored(Ignored::Superseded));
    harness.offer(offer(2));
    assert!(harness.ignored(Ignored::Superseded));
}

/// N7: a restart that was set yields to the master's offer; a rollback that fails ends the attempt.
#[test]
fn n7_set_restart_that_cannot_be_rolled_back_ends_the_attempt() {
    let mut harness = Harness::live_keeping(one_retry());
    harness.give(Input::Restart);
    harness.settle(&[]);
    harness.offer(offer(1));
    harness.fails("roll back", FailureCode::Port);
    assert!(matches!(harness.report().0, AttemptEnd::Peer(_)));
}

/// RFC 8122: the case of a fingerprint means nothing.
#[test]
fn fingerprint_in_another_letter_case_is_the_same_session() {
    let mut harness = Harness::live(one_retry());
    let mut theirs = offer(1);
    theirs.facts.fingerprints = vec!["MASTER".into()];
    harness.offer(theirs);
    harness.settle(&[]);
    assert!(!harness.commands().contains(&"stop transceivers"));
}
