//! What each failure of a command costs.

use alloc::vec;

use crate::session::stage::*;
use crate::{
    AttemptEnd, Connectivity, Done, Event, FailureCode, Ignored, Input, PeerEvent, Phase, Settings,
    SignalingEvent, Timer,
};

fn relay_only() -> Settings {
    Settings { relay_only: true, ..one_retry() }
}

/// 42: the servers' deadline counts from the open link; then it goes on without TURN.
#[test]
fn s42_servers_that_hang_are_waited_for_five_seconds_after_the_link() {
    let mut stage = Stage::opened(one_retry());
    stage.pass(2_000);
    stage.settle(&["fetch servers", "create"]);
    stage.forget();
    stage.pass(1_000);
    stage.settle(&["fetch servers"]);
    stage.pass(3_999);
    assert_eq!(stage.asked(), ["create offer"]);
    stage.pass(1);
    assert_eq!((stage.asked(), stage.fired(Timer::IceServers)), (vec!["set local"], 1));
}

/// The other commands keep their own deadlines.
#[test]
fn n12_an_open_link_hurries_nothing_but_the_servers() {
    let settings =
        Settings { ice_servers_timeout: core::time::Duration::from_secs(1), ..one_retry() };
    let mut stage = Stage::opened(settings);
    stage.settle(&["create", "fetch servers"]);
    stage.pass(1_000);
    assert_eq!((stage.fired(Timer::IceServers), stage.fired(Timer::Operation)), (1, 0));
}

/// 41, 42: where only a relay may be used, its failure ends the attempt at once.
#[test]
fn s42_relay_only_ends_without_a_relay() {
    let mut stage = Stage::opened(relay_only());
    stage.fails("fetch servers", FailureCode::Service);
    assert!(matches!(stage.report().0, AttemptEnd::NoRelay(_)));

    // For the service's own reason, which may be one that no retry can mend.
    let mut stage = Stage::opened(relay_only());
    stage.fails("fetch servers", FailureCode::AccessDenied);
    let (end, _) = stage.report();
    assert!(
        matches!(end, AttemptEnd::NoRelay(failure) if failure.code == FailureCode::AccessDenied)
    );
    assert_eq!(stage.phase(), Phase::Ended);

    let mut stage = Stage::opened(relay_only());
    stage.servers = vec![];
    stage.done("fetch servers");
    assert!(matches!(stage.report().0, AttemptEnd::NoRelay(_)));

    let mut stage = Stage::opened(relay_only());
    stage.settle(&["set servers"]);
    stage.fails("set servers", FailureCode::Port);
    assert!(matches!(stage.report().0, AttemptEnd::Peer(_)));
    // With a relay all is well.
    assert_eq!(Stage::offered(relay_only()).phase(), Phase::AwaitingAnswer);
}

/// 42: otherwise it goes on.
#[test]
fn s42_without_a_relay_it_goes_on() {
    let mut stage = Stage::opened(one_retry());
    stage.settle(&["fetch servers"]);
    stage.fails("fetch servers", FailureCode::Service);
    stage.settle(&[]);
    assert_eq!(stage.phase(), Phase::AwaitingAnswer);
    assert!(!stage.asked().contains(&"set servers"));
    stage.give(Input::Close);
    let evidence = stage.report().1;
    assert!(!evidence.turn_servers && evidence.ice_servers_error.is_some());
    assert_eq!(evidence.service_error, None);

    let mut stage = Stage::opened(one_retry());
    stage.settle(&["set servers"]);
    stage.asked();
    stage.fails("set servers", FailureCode::Port);
    assert_eq!(stage.asked(), ["set local"]);
}

/// 40: servers that cannot be had again leave the old ones in place.
#[test]
fn s40_a_refresh_that_fails_changes_nothing() {
    for settings in [one_retry(), relay_only()] {
        let mut stage = Stage::live(settings);
        stage.mail(SignalingEvent::ReconnectIceServer);
        stage.fails("fetch servers", FailureCode::Service);
        assert_eq!((stage.phase(), stage.asked()), (Phase::Live, vec!["fetch servers"]));
        assert_eq!(stage.told(&Event::IceServersRefreshed), 0);
        stage.give(Input::Restart);
        stage.fails("fetch servers", FailureCode::Service);
        assert_eq!(stage.asked(), ["fetch servers", "create restart"]);
    }
}

/// 40: a refresh that brings no relay ends nothing either.
#[test]
fn s40_a_refresh_without_a_relay_ends_nothing() {
    let mut stage = Stage::live(relay_only());
    stage.mail(SignalingEvent::ReconnectIceServer);
    stage.ends("fetch servers", Ok(Done::IceServers(vec![])));
    assert_eq!((stage.phase(), stage.told(&Event::IceServersRefreshed)), (Phase::Live, 1));
}

/// N25: what a peer stack refuses is reported, and the echo of one that was replaced is not.
#[test]
fn n25_commands_that_media_does_not_need_are_told_when_they_fail() {
    for (code, told) in [(FailureCode::Port, true), (FailureCode::Cancelled, false)] {
        let mut stage = Stage::answered(one_retry());
        stage.candidate(candidate(1));
        stage.fails("add candidate", code);
        assert_eq!(stage.ignored(Ignored::RefusedCandidate), told);
        stage.ice(Connectivity::Connected);
        stage.fails("ask for a keyframe", code);
        assert_eq!(stage.ignored(Ignored::Unsent), told);
        assert_eq!(stage.phase(), Phase::AwaitingMedia);
    }
    let mut stage = Stage::answered(one_retry());
    stage.notices(PeerEvent::CandidateGathered(candidate(1)));
    stage.fails("send candidate", FailureCode::Cancelled);
    assert!(!stage.ignored(Ignored::Unsent), "it waits for the next link");
    stage.notices(PeerEvent::CandidateGathered(candidate(2)));
    stage.fails("send candidate", FailureCode::TooBig);
    assert!(stage.ignored(Ignored::Unsent), "no link carries it");
}

/// The result of another command is a breach of the port's, and counts as a failure.
#[test]
fn n12_the_result_of_another_command_is_a_failure() {
    let mut stage = Stage::opened(one_retry());
    stage.ends("create", Ok(Done::Ok));
    assert!(matches!(stage.report().0, AttemptEnd::Peer(_)));
}
