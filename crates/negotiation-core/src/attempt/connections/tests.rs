//! Connections that follow one another, connection by connection.

use alloc::vec;
use core::time::Duration;

use crate::session::harness::*;
use crate::{
    ConnectionId, Connectivity, Event, Failure, FailureCode, Ignored, Input, Output, PeerEvent,
    Phase, RetryDelay, Settings, SignalingCommand, SignalingEvent, Ticket, Timer,
};

/// Reopened at once, and GO_AWAY followed at once: no random number matters.
pub(super) fn prompt() -> Settings {
    Settings {
        go_away_spread: Duration::ZERO,
        link_reopen: RetryDelay::Fixed(Duration::from_millis(10)),
        ..one_retry()
    }
}

fn given_up(harness: &Harness) -> usize {
    harness.events().filter(|event| matches!(event, Event::LinkGivenUp(_))).count()
}

/// The connection of the newest command of this name.
fn link_of(harness: &Harness, name: &str) -> ConnectionId {
    let Output::Signaling(_, command) = harness.newest(name) else { panic!("{name}") };
    command.link()
}

fn status(harness: &mut Harness, ticket: Ticket) {
    let failure = Failure::new(FailureCode::Service, "by plan");
    harness.receive(SignalingEvent::Status { ticket: Some(ticket), failure });
}

/// N21: a connection counts while it is left, and not any more after.
#[test]
fn n21_connection_that_is_left_counts_until_it_is_closed() {
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["disconnect"]);
    assert_eq!(
        (harness.commands(), harness.link),
        (vec!["connect", "disconnect"], ConnectionId(2))
    );
    harness.receive_on(ConnectionId(1), SignalingEvent::Garbage);
    assert!(harness.ignored(Ignored::Unknown), "what it still delivers is taken");
    harness.done("disconnect");
    harness.receive_on(ConnectionId(1), SignalingEvent::Garbage);
    assert!(harness.ignored(Ignored::Stale));
}

/// N21: of two connections that are being left, the end of the first does not end the second.
#[test]
fn n21_newer_of_two_connections_that_are_left_still_counts() {
    let mut harness = Harness::live(prompt());
    for _ in 0..2 {
        harness.receive(SignalingEvent::GoAway);
        harness.settle(&["disconnect"]);
    }
    assert_eq!((link_of(&harness, "disconnect"), harness.link), (ConnectionId(2), ConnectionId(3)));
    harness.forget();
    harness.done("disconnect");
    harness.receive_on(ConnectionId(2), SignalingEvent::Garbage);
    assert!(harness.ignored(Ignored::Unknown));
    harness.receive_on(ConnectionId(1), SignalingEvent::Garbage);
    assert!(harness.ignored(Ignored::Stale));
}

/// N21, N23: a connection whose opening timed out may open yet, so it is closed; one that failed is
/// not.
#[test]
fn n23_opening_that_timed_out_is_closed() {
    for (code, closed) in [(FailureCode::TimedOut, true), (FailureCode::Network, false)] {
        let mut harness = Harness::live(prompt());
        harness.link_ends(1, FailureCode::Network);
        harness.pass(10);
        harness.fails("connect", code);
        let close = if closed { vec!["connect", "disconnect"] } else { vec!["connect"] };
        assert_eq!(harness.commands(), close);
        harness.pass(10);
        assert_eq!(harness.commands(), ["connect"], "and it is tried again");
        assert_eq!(given_up(&harness), 0);
    }
}

/// N21: where a second connection is refused, the first is left before the next request.
#[test]
fn n21_refused_second_connection_costs_the_first() {
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.fails("connect", FailureCode::Service);
    assert_eq!(link_of(&harness, "disconnect"), ConnectionId(1));
    assert_eq!(harness.commands(), ["connect", "disconnect"]);
    harness.pass(10);
    harness.settle(&[]);
    assert_eq!((harness.link, harness.reported(&Event::LinkReopened)), (ConnectionId(3), 1));
}

/// N21: the same before the offer is out: one refusal does not cost the attempt.
#[test]
fn n21_refused_second_connection_does_not_cost_an_offer_that_is_being_made() {
    let mut harness = Harness::opened(prompt());
    harness.settle(&["set local"]);
    harness.receive(SignalingEvent::GoAway);
    harness.fails("connect", FailureCode::Service);
    assert_eq!(harness.phase(), Phase::Offering);
    harness.pass(10);
    harness.settle(&[]);
    assert_eq!((harness.phase(), harness.link), (Phase::AwaitingAnswer, ConnectionId(3)));
}

/// N16: a permanent failure stops the opening; the old connection serves as long as it lasts.
#[test]
fn n16_connection_refused_for_good_leaves_the_old_one_open() {
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.fails("connect", FailureCode::AccessDenied);
    assert_eq!((harness.commands(), given_up(&harness)), (vec!["connect"], 1));
    harness.give(Input::Renegotiate);
    assert_eq!(harness.commands(), ["create offer"], "the old one is open");
    harness.settle(&[]);
    harness.forget();
    harness.receive(SignalingEvent::GoAway);
    assert_eq!(
        (harness.commands(), harness.reported(&Event::GoAway)),
        (vec![], 1),
        "no other one is opened"
    );
    harness.give(Input::NetworkChanged);
    harness.pass(1_000);
    assert!(!harness.commands().contains(&"connect"));
}

/// N21: the loss of a connection cancels the pause that follows a GO_AWAY.
#[test]
fn n21_go_away_pause_ends_with_its_connection() {
    let mut harness =
        Harness::live(Settings { go_away_spread: Duration::from_secs(20), ..prompt() });
    harness.receive(SignalingEvent::GoAway);
    assert_eq!(harness.commands(), [""; 0], "the next connection waits");
    harness.link_ends(1, FailureCode::Network);
    harness.pass(10);
    harness.settle(&[]);
    harness.forget();
    harness.pass(20_000);
    assert_eq!((harness.commands(), harness.fired(Timer::GoAway)), (vec![], 0));
    harness.receive(SignalingEvent::GoAway);
    assert_eq!(harness.reported(&Event::GoAway), 1, "the next one counts");
}

/// N20: one connection is opened at a time, however many reasons there are for it.
#[test]
fn n20_one_connection_is_opened_at_a_time() {
    let mut harness = Harness::live(prompt());
    harness.link_ends(1, FailureCode::Network);
    harness.pass(10);
    assert_eq!(harness.commands(), ["connect"]);
    harness.give(Input::NetworkChanged);
    harness.pass(1_000);
    assert!(!harness.commands().contains(&"connect"));
    harness.settle(&[]);
    assert_eq!(harness.link, ConnectionId(2));
}

/// 26: after a change of network the deaf connection is left as soon as another one is ready.
#[test]
fn s26_dead_connection_is_closed_for_the_new_one() {
    let mut harness = Harness::live(prompt());
    harness.give(Input::NetworkChanged);
    assert_eq!(harness.commands(), ["connect"], "a restart waits for it");
    harness.settle(&["disconnect"]);
    assert_eq!(
        (link_of(&harness, "disconnect"), link_of(&harness, "send offer")),
        (ConnectionId(1), ConnectionId(2))
    );
    let restart = ["fetch servers", "set servers", "create restart", "send offer"];
    assert_eq!(harness.commands(), [&["disconnect"], &restart[..]].concat());
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.ice(Connectivity::Connected);
    assert_eq!(harness.phase(), Phase::Live);
}

/// N20: nothing is left before what is on its way out on it is out.
#[test]
fn n20_replaced_connection_is_left_once_everything_on_it_is_out() {
    let mut harness = Harness::live(prompt());
    harness.notices(PeerEvent::CandidateGathered(candidate(1)));
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["send candidate"]);
    assert_eq!(harness.commands(), ["send candidate", "connect"]);
    harness.done("send candidate");
    assert_eq!(harness.commands(), ["disconnect"]);
}

/// Opened, and ended by the service after so long, three times.
fn ended_thrice(after: u64, code: FailureCode) -> Harness {
    let mut harness = Harness::live(prompt());
    harness.pass(20_000);
    harness.link_ends(1, FailureCode::Network);
    for _ in 0..3 {
        harness.pass(10);
        harness.settle(&[]);
        harness.pass(after);
        harness.link_ends(harness.link.0, code);
    }
    harness
}

/// 18: a takeover is three quick closes by the service, nothing less.
#[test]
fn s18_three_quick_closes_by_the_service_are_a_takeover() {
    assert_eq!(given_up(&ended_thrice(4_999, FailureCode::Closed)), 1);
    assert_eq!(given_up(&ended_thrice(5_000, FailureCode::Closed)), 0, "not quick");
    assert_eq!(given_up(&ended_thrice(1_000, FailureCode::Network)), 0, "not by the service");
    assert_eq!(given_up(&ended_thrice(5_000, FailureCode::Replaced)), 1, "it says so");
}

/// 18, N21: the end of a connection that another one follows is no takeover, however quick.
#[test]
fn s18_close_of_a_connection_that_is_followed_is_no_takeover() {
    let mut harness = Harness::live(prompt());
    for link in 1..=4 {
        harness.receive(SignalingEvent::GoAway);
        harness.link_ends(link, FailureCode::Closed);
        harness.settle(&[]);
    }
    assert_eq!((given_up(&harness), harness.link), (0, ConnectionId(5)));
    let lost = harness.events().filter(|event| matches!(event, Event::LinkLost(_))).count();
    assert_eq!(lost, 0);
}

/// N21: the same while the answer is awaited: the master answers the id, not the connection.
#[test]
fn n21_followed_connection_may_end_before_the_answer() {
    let mut harness = Harness::offered(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.link_ends(1, FailureCode::Closed);
    assert_eq!(harness.phase(), Phase::AwaitingAnswer);
    harness.settle(&[]);
    harness.answer(answer(1));
    assert_eq!(harness.phase(), Phase::Establishing);

    let mut harness = Harness::offered(prompt());
    harness.link_ends(1, FailureCode::Closed);
    assert_eq!(harness.phase(), Phase::Closing, "with none that follows it ends the attempt");
}

/// N21: one GO_AWAY is followed once, and only that of the open connection counts.
#[test]
fn n21_go_away_is_followed_once() {
    // While it waits for its moment.
    let mut harness = Harness::live(one_retry());
    harness.receive(SignalingEvent::GoAway);
    let due = harness.session.poll_timeout();
    assert_eq!(due.map(|(_, timer)| timer), Some(Timer::GoAway));
    harness.receive(SignalingEvent::GoAway);
    assert!(harness.ignored(Ignored::Duplicate));
    assert_eq!((harness.session.poll_timeout(), harness.reported(&Event::GoAway)), (due, 1));
    // While the next connection is being opened.
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.receive(SignalingEvent::GoAway);
    assert!(harness.ignored(Ignored::Duplicate));
    assert_eq!((harness.commands(), harness.reported(&Event::GoAway)), (vec!["connect"], 1));
    // From the connection that is left.
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["disconnect"]);
    harness.receive_on(ConnectionId(1), SignalingEvent::GoAway);
    assert!(harness.ignored(Ignored::Duplicate));
    assert_eq!(harness.commands(), ["connect", "disconnect"]);
}

/// N21: at once while an exchange is open, spread when nothing is.
#[test]
fn n21_go_away_within_an_exchange_is_followed_at_once() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&[]);
    harness.commands();
    harness.receive(SignalingEvent::GoAway);
    assert_eq!(harness.commands(), ["connect"]);
    let mut harness = Harness::live(one_retry());
    harness.receive(SignalingEvent::GoAway);
    assert_eq!(harness.commands(), [""; 0]);
}

/// 32: a repeated request for servers has the deadline of the call, and is made once.
#[test]
fn s32_servers_are_requested_once_and_for_five_seconds() {
    let mut harness = Harness::live(one_retry());
    harness.receive(SignalingEvent::ReconnectIceServer);
    harness.receive(SignalingEvent::ReconnectIceServer);
    assert!(harness.ignored(Ignored::Duplicate));
    assert_eq!(harness.commands(), ["fetch servers"]);
    harness.pass(4_999);
    assert_eq!(harness.fired(Timer::IceServers), 0);
    harness.pass(1);
    assert_eq!(harness.fired(Timer::IceServers), 1);
}

/// 32: their call hurries nothing else.
#[test]
fn s32_servers_that_are_requested_hurry_nothing_else() {
    let settings = Settings { ice_servers_timeout: Duration::from_secs(1), ..one_retry() };
    let mut harness = Harness::live(settings);
    harness.give(Input::Renegotiate);
    harness.receive(SignalingEvent::ReconnectIceServer);
    harness.pass(1_000);
    assert_eq!((harness.fired(Timer::IceServers), harness.fired(Timer::Operation)), (1, 0));
}

/// 36: a status for a later offer costs that exchange while it is open, and nothing after.
#[test]
fn s36_status_for_a_later_offer() {
    let mut harness = Harness::live(one_retry());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    let Output::Signaling(ticket, SignalingCommand::Send { .. }) = *harness.newest("send offer")
    else {
        panic!("an offer");
    };
    harness.settle(&[]);
    harness.forget();
    status(&mut harness, ticket);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Live, vec!["roll back"]));
    harness.settle(&[]);
    assert_eq!(harness.reported(&Event::RenegotiationFailed), 1);
    assert!(!harness.ignored(Ignored::Status));
    // Once more: it is over.
    harness.forget();
    status(&mut harness, ticket);
    assert_eq!((harness.phase(), harness.commands()), (Phase::Live, vec![]));
    assert!(harness.ignored(Ignored::Status));
}

/// The normal form names connections by their order alone.
#[test]
fn sessions_that_differ_in_past_connections_have_one_normal_form() {
    let mut fresh = Harness::live(prompt());
    let mut worn = Harness::live(prompt());
    for (harness, links) in [(&mut fresh, 1), (&mut worn, 3)] {
        for _ in 0..links {
            harness.receive(SignalingEvent::GoAway);
            harness.settle(&[]);
        }
        harness.pass(60_000);
        harness.receive(SignalingEvent::GoAway);
        harness.settle(&["disconnect"]);
    }
    let (a, b) = (fresh.session.normalised(), worn.session.normalised());
    assert_eq!(a.session(), b.session());
    // The one that is left, and the one that is open.
    assert_eq!(
        (a.link(ConnectionId(2)), a.link(ConnectionId(3))),
        (Some(ConnectionId(1)), Some(ConnectionId(2)))
    );
    assert_eq!(
        (b.link(ConnectionId(4)), b.link(ConnectionId(5))),
        (Some(ConnectionId(1)), Some(ConnectionId(2)))
    );
    assert_eq!((a.link(ConnectionId(1)), b.link(ConnectionId(3))), (None, None));
    // How long ago it opened matters as long as its end might be a quick one.
    let mut young = Harness::live(prompt());
    young.pass(60_000);
    young.receive(SignalingEvent::GoAway);
    young.settle(&[]);
    young.receive(SignalingEvent::GoAway);
    young.settle(&["disconnect"]);
    young.pass(100);
    young.give(Input::Timeout);
    assert_ne!(young.session.normalised().session(), a.session());
}

/// N20, 28: a connection that is reset as soon as it is open is opened again with a growing pause.
// Shows: N20.
#[test]
fn s28_connection_that_is_reset_at_once_is_reopened_with_backoff() {
    let mut harness = Harness::live(one_retry());
    let until = harness.now + Duration::from_secs(60);
    harness.link_ends(1, FailureCode::Network);
    let mut opened = 0;
    while harness.now < until {
        harness.pass(10);
        if harness.commands().contains(&"connect") {
            opened += 1;
            harness.settle(&[]);
            let link = harness.link.0;
            harness.link_ends(link, FailureCode::Network);
        }
    }
    assert!(opened < 40, "{opened}");
    assert_eq!(given_up(&harness), 0, "it is no takeover");
}

/// N21: a new connection that cannot be reached leaves the old one in use.
#[test]
fn n21_unreachable_second_connection_leaves_the_first_in_use() {
    let mut harness = Harness::offered(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.fails("connect", FailureCode::Dns);
    assert!(!harness.commands().contains(&"disconnect"));
    harness.receive_on(
        ConnectionId(1),
        SignalingEvent::Answer { sender: crate::Sender::Master, body: Ok(answer(1)) },
    );
    assert_eq!(harness.phase(), Phase::Establishing);
}

/// N21, 42: leaving a connection does not cancel the call for ICE servers that is under way on it.
#[test]
fn n21_replaced_connection_is_left_after_the_call_for_servers() {
    let mut harness = Harness::opened(prompt());
    harness.settle(&["fetch servers"]);
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["fetch servers"]);
    assert!(!harness.commands().contains(&"disconnect"));
    harness.settle(&[]);
    assert!(harness.commands().contains(&"disconnect"));
    // One that is still cancelled is requested again on the open connection.
    let mut harness = Harness::opened(prompt());
    harness.settle(&["fetch servers"]);
    harness.commands();
    harness.fails("fetch servers", FailureCode::Cancelled);
    assert_eq!(harness.commands(), ["fetch servers"]);
}

/// N23: every connection that was opened is closed, however many follow one another.
#[test]
fn n23_connection_that_is_replaced_twice_is_closed() {
    let mut harness = Harness::offered(prompt());
    for n in 1..=3 {
        harness.notices(PeerEvent::CandidateGathered(candidate(n)));
    }
    harness.answer(answer(1));
    harness.settle(&["send candidate"]);
    harness.receive_on(ConnectionId(1), SignalingEvent::GoAway);
    harness.settle(&["send candidate", "disconnect"]);
    harness.receive_on(ConnectionId(2), SignalingEvent::GoAway);
    harness.settle(&["send candidate", "disconnect"]);
    harness.give(Input::Close);
    harness.settle(&[]);
    let closed = harness.commands().iter().filter(|name| **name == "disconnect").count();
    assert_eq!((closed, harness.phase()), (3, Phase::Ended));
}

/// N25: a reopening that fails, and a connection that cannot be left, are reported.
#[test]
fn n25_failures_of_connections_are_reported() {
    let mut harness = Harness::live(prompt());
    harness.link_ends(1, FailureCode::Network);
    for n in 1..=2 {
        harness.pass(10);
        harness.fails("connect", FailureCode::Dns);
        let expected = |event: &&Event| matches!(event, Event::LinkNotReopened(_));
        assert_eq!(harness.events().filter(expected).count(), n);
    }
    let mut harness = Harness::live(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&["disconnect"]);
    harness.fails("disconnect", FailureCode::TimedOut);
    let expected = |event: &&Event| matches!(event, Event::CloseStepFailed(_));
    assert_eq!(harness.events().filter(expected).count(), 1);
}

/// N21, 32: a request for fresh ICE servers that arrives while no connection is open is not lost.
#[test]
fn s32_refresh_waits_for_the_next_connection() {
    let mut harness = Harness::live(prompt());
    harness.give(Input::NetworkChanged);
    harness.receive_on(ConnectionId(1), SignalingEvent::ReconnectIceServer);
    assert!(!harness.commands().contains(&"fetch servers"));
    harness.done("connect");
    assert!(harness.commands().contains(&"fetch servers"));
}

/// N17: the evidence shows that no connection was open when the answer was awaited.
#[test]
fn n17_evidence_names_the_connection_that_was_down() {
    let mut harness = Harness::offered(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.link_ends(1, FailureCode::Closed);
    harness.fails("connect", FailureCode::Network);
    for _ in 0..20 {
        harness.pass(10);
        if harness.phase() == Phase::AwaitingAnswer && harness.commands().contains(&"connect") {
            harness.fails("connect", FailureCode::Network);
        }
    }
    harness.pass(35_000);
    let (_, evidence) = harness.report();
    assert_eq!(evidence.link_down.map(|failure| failure.code), Some(FailureCode::Network));
    // One that is open again is not down.
    let mut harness = Harness::offered(prompt());
    harness.receive(SignalingEvent::GoAway);
    harness.settle(&[]);
    harness.give(Input::Close);
    assert_eq!(harness.report().1.link_down, None);
}
