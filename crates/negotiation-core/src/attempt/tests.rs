//! What each failure of a command costs.

use alloc::vec;

use crate::session::harness::*;
use crate::{
    AttemptEnd, Connectivity, Done, Event, Failure, FailureCode, Ignored, Input, Output, PeerEvent,
    Phase, Settings, SignalingEvent, Timer,
};

fn relay_only() -> Settings {
    Settings { relay_only: true, ..one_retry() }
}

/// 42: the servers' deadline counts from the open connection; then it goes on without TURN.
#[test]
fn s42_servers_that_hang_are_waited_for_five_seconds_after_the_connection() {
    let mut harness = Harness::opened(one_retry());
    harness.pass(2_000);
    harness.settle(&["fetch servers", "create"]);
    harness.forget();
    harness.pass(1_000);
    harness.settle(&["fetch servers"]);
    harness.pass(3_999);
    assert_eq!(harness.commands(), ["create offer"]);
    harness.pass(1);
    assert_eq!((harness.commands(), harness.fired(Timer::IceServers)), (vec!["set local"], 1));
}

/// The other commands keep their own deadlines.
#[test]
fn n12_open_connection_hurries_nothing_but_the_servers() {
    let settings =
        Settings { ice_servers_timeout: core::time::Duration::from_secs(1), ..one_retry() };
    let mut harness = Harness::opened(settings);
    harness.settle(&["create", "fetch servers"]);
    harness.pass(1_000);
    assert_eq!((harness.fired(Timer::IceServers), harness.fired(Timer::Operation)), (1, 0));
}

/// 41, 42: where only a relay may be used, its failure ends the attempt at once.
#[test]
fn s42_relay_only_ends_without_a_relay() {
    let mut harness = Harness::opened(relay_only());
    harness.fails("fetch servers", FailureCode::Service);
    assert!(matches!(harness.report().0, AttemptEnd::NoRelay(_)));

    // For the service's own reason, which may be one that no retry can mend.
    let mut harness = Harness::opened(relay_only());
    harness.fails("fetch servers", FailureCode::AccessDenied);
    let (end, _) = harness.report();
    assert!(
        matches!(end, AttemptEnd::NoRelay(failure) if failure.code == FailureCode::AccessDenied)
    );
    assert_eq!(harness.phase(), Phase::Ended);

    let mut harness = Harness::opened(relay_only());
    harness.servers = vec![];
    harness.done("fetch servers");
    assert!(matches!(harness.report().0, AttemptEnd::NoRelay(_)));

    let mut harness = Harness::opened(relay_only());
    harness.settle(&["set servers"]);
    harness.fails("set servers", FailureCode::Port);
    assert!(matches!(harness.report().0, AttemptEnd::Peer(_)));
    // With a relay all is well.
    assert_eq!(Harness::offered(relay_only()).phase(), Phase::AwaitingAnswer);
}

/// 42: otherwise it goes on.
#[test]
fn s42_without_a_relay_it_goes_on() {
    let mut harness = Harness::opened(one_retry());
    harness.settle(&["fetch servers"]);
    harness.fails("fetch servers", FailureCode::Service);
    harness.settle(&[]);
    assert_eq!(harness.phase(), Phase::AwaitingAnswer);
    assert!(!harness.commands().contains(&"set servers"));
    harness.give(Input::Close);
    let evidence = harness.report().1;
    assert!(!evidence.turn_servers && evidence.ice_servers_error.is_some());
    assert_eq!(evidence.service_error, None);

    let mut harness = Harness::opened(one_retry());
    harness.settle(&["set servers"]);
    harness.commands();
    harness.fails("set servers", FailureCode::Port);
    assert_eq!(harness.commands(), ["set local"]);
}

/// 40: servers that cannot be had again leave the old ones in place.
#[test]
fn s40_refresh_that_fails_changes_nothing() {
    for settings in [one_retry(), relay_only()] {
        let mut harness = Harness::live(settings);
        harness.receive(SignalingEvent::ReconnectIceServer);
        harness.fails("fetch servers", FailureCode::Service);
        assert_eq!((harness.phase(), harness.commands()), (Phase::Live, vec!["fetch servers"]));
        assert_eq!(harness.reported(&Event::IceServersRefreshed), 0);
        harness.give(Input::Restart);
        harness.fails("fetch servers", FailureCode::Service);
        assert_eq!(harness.commands(), ["fetch servers", "create restart"]);
    }
}

/// 40: a refresh that brings no relay ends nothing either.
#[test]
fn s40_refresh_without_a_relay_ends_nothing() {
    let mut harness = Harness::live(relay_only());
    harness.receive(SignalingEvent::ReconnectIceServer);
    harness.ends("fetch servers", Ok(Done::IceServers(vec![])));
    assert_eq!((harness.phase(), harness.reported(&Event::IceServersRefreshed)), (Phase::Live, 1));
}

/// N25: what a peer stack refuses is reported, and the echo of one that was replaced is not.
#[test]
fn n25_failed_commands_that_media_does_not_need_are_reported() {
    for (code, expected) in [(FailureCode::Port, true), (FailureCode::Cancelled, false)] {
        let mut harness = Harness::answered(one_retry());
        harness.candidate(candidate(1));
        harness.fails("add candidate", code);
        assert_eq!(harness.ignored(Ignored::RefusedCandidate), expected);
        harness.ice(Connectivity::Connected);
        harness.fails("ask for a keyframe", code);
        assert_eq!(harness.ignored(Ignored::Unsent), expected);
        assert_eq!(harness.phase(), Phase::AwaitingMedia);
    }
    let mut harness = Harness::answered(one_retry());
    harness.notices(PeerEvent::CandidateGathered(candidate(1)));
    harness.fails("send candidate", FailureCode::Cancelled);
    assert!(!harness.ignored(Ignored::Unsent), "it waits for the next link");
    harness.notices(PeerEvent::CandidateGathered(candidate(2)));
    harness.fails("send candidate", FailureCode::TooBig);
    assert!(harness.ignored(Ignored::Unsent), "no link carries it");
}

/// The result of another command is a breach of the port's, and counts as a failure.
#[test]
fn n12_result_of_another_command_is_a_failure() {
    let mut harness = Harness::opened(one_retry());
    harness.ends("create", Ok(Done::Ok));
    assert!(matches!(harness.report().0, AttemptEnd::Peer(_)));
}

/// 36: what the service reports about an offer that is answered is history.
#[test]
fn s36_status_for_an_answered_offer_is_ignored() {
    let mut harness = Harness::offered(one_retry());
    let Output::Signaling(ticket, _) = *harness.newest("send offer") else { panic!("an offer") };
    harness.answer(answer(1));
    harness.settle(&[]);
    let failure = Failure::new(FailureCode::Service, "by plan");
    harness.receive(SignalingEvent::Status { ticket: Some(ticket), failure });
    assert_eq!(harness.phase(), Phase::Establishing);
    assert!(harness.ignored(Ignored::Status));
}
