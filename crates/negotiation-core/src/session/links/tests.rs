//! Links that follow one another, link by link.

use alloc::vec;
use core::time::Duration;

use crate::session::stage::*;
use crate::{
    Connectivity, Event, Failure, FailureCode, Ignored, Input, LinkId, Output, PeerEvent, Phase,
    RetryDelay, Settings, SignalingCommand, SignalingEvent, Ticket, Timer,
};

/// Reopened at once, and GO_AWAY followed at once: no random number matters.
fn prompt() -> Settings {
    Settings {
        go_away_spread: Duration::ZERO,
        link_reopen: RetryDelay::Fixed(Duration::from_millis(10)),
        ..one_retry()
    }
}

fn given_up(stage: &Stage) -> usize {
    stage.events().filter(|event| matches!(event, Event::LinkGivenUp(_))).count()
}

/// The link of the newest command of this name.
fn link_of(stage: &Stage, name: &str) -> LinkId {
    let Output::Signaling(_, command) = stage.newest(name) else { panic!("{name}") };
    command.link()
}

fn status(stage: &mut Stage, ticket: Ticket) {
    let failure = Failure::new(FailureCode::Service, "by plan");
    stage.mail(SignalingEvent::Status { ticket: Some(ticket), failure });
}

/// N21: a link counts while it is left, and not any more after.
#[test]
fn n21_a_link_that_is_left_counts_until_it_is_closed() {
    let mut stage = Stage::live(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.settle(&["disconnect"]);
    assert_eq!((stage.asked(), stage.link), (vec!["connect", "disconnect"], LinkId(2)));
    stage.mail_on(LinkId(1), SignalingEvent::Garbage);
    assert!(stage.ignored(Ignored::Unknown), "what it still says is heard");
    stage.done("disconnect");
    stage.mail_on(LinkId(1), SignalingEvent::Garbage);
    assert!(stage.ignored(Ignored::Stale));
}

/// N21: of two links that are being left, the end of the first says nothing of the second.
#[test]
fn n21_the_newer_of_two_links_that_are_left_still_counts() {
    let mut stage = Stage::live(prompt());
    for _ in 0..2 {
        stage.mail(SignalingEvent::GoAway);
        stage.settle(&["disconnect"]);
    }
    assert_eq!((link_of(&stage, "disconnect"), stage.link), (LinkId(2), LinkId(3)));
    stage.forget();
    stage.done("disconnect");
    stage.mail_on(LinkId(2), SignalingEvent::Garbage);
    assert!(stage.ignored(Ignored::Unknown));
    stage.mail_on(LinkId(1), SignalingEvent::Garbage);
    assert!(stage.ignored(Ignored::Stale));
}

/// N21, N23: a link whose opening timed out may open yet, so it is closed; one that failed is not.
#[test]
fn n23_an_opening_that_timed_out_is_closed() {
    for (code, closed) in [(FailureCode::TimedOut, true), (FailureCode::Network, false)] {
        let mut stage = Stage::live(prompt());
        stage.link_ends(1, FailureCode::Network);
        stage.pass(10);
        stage.fails("connect", code);
        let close = if closed { vec!["connect", "disconnect"] } else { vec!["connect"] };
        assert_eq!(stage.asked(), close);
        stage.pass(10);
        assert_eq!(stage.asked(), ["connect"], "and it is tried again");
        assert_eq!(given_up(&stage), 0);
    }
}

/// N21: where a second link is refused, the first is left before it is asked again.
#[test]
fn n21_a_refused_second_link_costs_the_first() {
    let mut stage = Stage::live(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.fails("connect", FailureCode::Service);
    assert_eq!(link_of(&stage, "disconnect"), LinkId(1));
    assert_eq!(stage.asked(), ["connect", "disconnect"]);
    stage.pass(10);
    stage.settle(&[]);
    assert_eq!((stage.link, stage.told(&Event::LinkReopened)), (LinkId(3), 1));
}

/// N21: the same before the offer is out: one refusal does not cost the attempt.
#[test]
fn n21_a_refused_second_link_does_not_cost_an_offer_that_is_being_made() {
    let mut stage = Stage::opened(prompt());
    stage.settle(&["set local"]);
    stage.mail(SignalingEvent::GoAway);
    stage.fails("connect", FailureCode::Service);
    assert_eq!(stage.phase(), Phase::Offering);
    stage.pass(10);
    stage.settle(&[]);
    assert_eq!((stage.phase(), stage.link), (Phase::AwaitingAnswer, LinkId(3)));
}

/// N16: a permanent failure stops the opening; the old link serves as long as it lasts.
#[test]
fn n16_a_link_refused_for_good_leaves_the_old_one_open() {
    let mut stage = Stage::live(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.fails("connect", FailureCode::AccessDenied);
    assert_eq!((stage.asked(), given_up(&stage)), (vec!["connect"], 1));
    stage.give(Input::Renegotiate);
    assert_eq!(stage.asked(), ["create offer"], "the old one is open");
    stage.settle(&[]);
    stage.forget();
    stage.mail(SignalingEvent::GoAway);
    assert_eq!((stage.asked(), stage.told(&Event::GoAway)), (vec![], 1), "no other one is opened");
    stage.give(Input::NetworkChanged);
    stage.pass(1_000);
    assert!(!stage.asked().contains(&"connect"));
}

/// N20: one link is opened at a time, however many reasons there are for it.
#[test]
fn n20_one_link_is_opened_at_a_time() {
    let mut stage = Stage::live(prompt());
    stage.link_ends(1, FailureCode::Network);
    stage.pass(10);
    assert_eq!(stage.asked(), ["connect"]);
    stage.give(Input::NetworkChanged);
    stage.pass(1_000);
    assert!(!stage.asked().contains(&"connect"));
    stage.settle(&[]);
    assert_eq!(stage.link, LinkId(2));
}

/// 26: after a change of network the deaf link is left as soon as another one is ready.
#[test]
fn s26_the_deaf_link_is_left_for_the_new_one() {
    let mut stage = Stage::live(prompt());
    stage.give(Input::NetworkChanged);
    assert_eq!(stage.asked(), ["connect"], "a restart waits for it");
    stage.settle(&["disconnect"]);
    assert_eq!(
        (link_of(&stage, "disconnect"), link_of(&stage, "send offer")),
        (LinkId(1), LinkId(2))
    );
    let restart = ["fetch servers", "set servers", "create restart", "send offer"];
    assert_eq!(stage.asked(), [&["disconnect"], &restart[..]].concat());
    stage.answer(answer(2));
    stage.settle(&[]);
    stage.ice(Connectivity::Connected);
    assert_eq!(stage.phase(), Phase::Live);
}

/// N20: nothing is left before what is on its way out on it is out.
#[test]
fn n20_a_replaced_link_is_left_once_everything_on_it_is_out() {
    let mut stage = Stage::live(prompt());
    stage.notices(PeerEvent::CandidateGathered(candidate(1)));
    stage.mail(SignalingEvent::GoAway);
    stage.settle(&["send candidate"]);
    assert_eq!(stage.asked(), ["send candidate", "connect"]);
    stage.done("send candidate");
    assert_eq!(stage.asked(), ["disconnect"]);
}

/// Opened, and ended by the service after so long, three times.
fn ended_thrice(after: u64, code: FailureCode) -> Stage {
    let mut stage = Stage::live(prompt());
    stage.pass(20_000);
    stage.link_ends(1, FailureCode::Network);
    for _ in 0..3 {
        stage.pass(10);
        stage.settle(&[]);
        stage.pass(after);
        stage.link_ends(stage.link.0, code);
    }
    stage
}

/// 18: a takeover is three quick closes by the service, nothing less.
#[test]
fn s18_three_quick_closes_by_the_service_are_a_takeover() {
    assert_eq!(given_up(&ended_thrice(4_999, FailureCode::Closed)), 1);
    assert_eq!(given_up(&ended_thrice(5_000, FailureCode::Closed)), 0, "not quick");
    assert_eq!(given_up(&ended_thrice(1_000, FailureCode::Network)), 0, "not by the service");
    assert_eq!(given_up(&ended_thrice(5_000, FailureCode::Replaced)), 1, "it says so");
}

/// 18, N21: the end of a link that another one follows is no takeover, however quick.
#[test]
fn s18_the_close_of_a_link_that_is_followed_is_no_takeover() {
    let mut stage = Stage::live(prompt());
    for link in 1..=4 {
        stage.mail(SignalingEvent::GoAway);
        stage.link_ends(link, FailureCode::Closed);
        stage.settle(&[]);
    }
    assert_eq!((given_up(&stage), stage.link), (0, LinkId(5)));
    let lost = stage.events().filter(|event| matches!(event, Event::LinkLost(_))).count();
    assert_eq!(lost, 0);
}

/// N21: the same while the answer is awaited: the master answers the id, not the link.
#[test]
fn n21_a_followed_link_may_end_before_the_answer() {
    let mut stage = Stage::offered(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.link_ends(1, FailureCode::Closed);
    assert_eq!(stage.phase(), Phase::AwaitingAnswer);
    stage.settle(&[]);
    stage.answer(answer(1));
    assert_eq!(stage.phase(), Phase::Establishing);

    let mut stage = Stage::offered(prompt());
    stage.link_ends(1, FailureCode::Closed);
    assert_eq!(stage.phase(), Phase::Closing, "with none that follows it ends the attempt");
}

/// N21: one GO_AWAY is followed once, and only that of the open link counts.
#[test]
fn n21_a_go_away_is_followed_once() {
    // While it waits for its moment.
    let mut stage = Stage::live(one_retry());
    stage.mail(SignalingEvent::GoAway);
    let due = stage.session.poll_timeout();
    assert_eq!(due.map(|(_, timer)| timer), Some(Timer::GoAway));
    stage.mail(SignalingEvent::GoAway);
    assert!(stage.ignored(Ignored::Duplicate));
    assert_eq!((stage.session.poll_timeout(), stage.told(&Event::GoAway)), (due, 1));
    // While the next link is being opened.
    let mut stage = Stage::live(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.mail(SignalingEvent::GoAway);
    assert!(stage.ignored(Ignored::Duplicate));
    assert_eq!((stage.asked(), stage.told(&Event::GoAway)), (vec!["connect"], 1));
    // From the link that is left.
    let mut stage = Stage::live(prompt());
    stage.mail(SignalingEvent::GoAway);
    stage.settle(&["disconnect"]);
    stage.mail_on(LinkId(1), SignalingEvent::GoAway);
    assert!(stage.ignored(Ignored::Duplicate));
    assert_eq!(stage.asked(), ["connect", "disconnect"]);
}

/// N21: at once while an exchange is open, spread when nothing is.
#[test]
fn n21_a_go_away_within_an_exchange_is_followed_at_once() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&[]);
    stage.asked();
    stage.mail(SignalingEvent::GoAway);
    assert_eq!(stage.asked(), ["connect"]);
    let mut stage = Stage::live(one_retry());
    stage.mail(SignalingEvent::GoAway);
    assert_eq!(stage.asked(), [""; 0]);
}

/// 32: servers that are asked for again have the deadline of the call, and are asked for once.
#[test]
fn s32_servers_are_asked_for_once_and_for_five_seconds() {
    let mut stage = Stage::live(one_retry());
    stage.mail(SignalingEvent::ReconnectIceServer);
    stage.mail(SignalingEvent::ReconnectIceServer);
    assert!(stage.ignored(Ignored::Duplicate));
    assert_eq!(stage.asked(), ["fetch servers"]);
    stage.pass(4_999);
    assert_eq!(stage.fired(Timer::IceServers), 0);
    stage.pass(1);
    assert_eq!(stage.fired(Timer::IceServers), 1);
}

/// 32: their call hurries nothing else.
#[test]
fn s32_servers_that_are_asked_for_hurry_nothing_else() {
    let settings = Settings { ice_servers_timeout: Duration::from_secs(1), ..one_retry() };
    let mut stage = Stage::live(settings);
    stage.give(Input::Renegotiate);
    stage.mail(SignalingEvent::ReconnectIceServer);
    stage.pass(1_000);
    assert_eq!((stage.fired(Timer::IceServers), stage.fired(Timer::Operation)), (1, 0));
}

/// 36: a status for a later offer costs that exchange while it is open, and nothing after.
#[test]
fn s36_a_status_for_a_later_offer() {
    let mut stage = Stage::live(one_retry());
    stage.give(Input::Renegotiate);
    stage.settle(&["send offer"]);
    let Output::Signaling(ticket, SignalingCommand::Send { .. }) = *stage.newest("send offer")
    else {
        panic!("an offer");
    };
    stage.settle(&[]);
    stage.forget();
    status(&mut stage, ticket);
    assert_eq!((stage.phase(), stage.asked()), (Phase::Live, vec!["roll back"]));
    stage.settle(&[]);
    assert_eq!(stage.told(&Event::RenegotiationFailed), 1);
    assert!(!stage.ignored(Ignored::Status));
    // Once more: it is over.
    stage.forget();
    status(&mut stage, ticket);
    assert_eq!((stage.phase(), stage.asked()), (Phase::Live, vec![]));
    assert!(stage.ignored(Ignored::Status));
}

/// The normal form names links by their order alone.
#[test]
fn sessions_that_differ_in_past_links_have_one_normal_form() {
    let mut fresh = Stage::live(prompt());
    let mut worn = Stage::live(prompt());
    for (stage, links) in [(&mut fresh, 1), (&mut worn, 3)] {
        for _ in 0..links {
            stage.mail(SignalingEvent::GoAway);
            stage.settle(&[]);
        }
        stage.pass(60_000);
        stage.mail(SignalingEvent::GoAway);
        stage.settle(&["disconnect"]);
    }
    let (a, b) = (fresh.session.normalised(), worn.session.normalised());
    assert_eq!(a.session(), b.session());
    // The one that is left, and the one that is open.
    assert_eq!((a.link(LinkId(2)), a.link(LinkId(3))), (Some(LinkId(1)), Some(LinkId(2))));
    assert_eq!((b.link(LinkId(4)), b.link(LinkId(5))), (Some(LinkId(1)), Some(LinkId(2))));
    assert_eq!((a.link(LinkId(1)), b.link(LinkId(3))), (None, None));
    // How long ago it opened matters as long as its end might be a quick one.
    let mut young = Stage::live(prompt());
    young.pass(60_000);
    young.mail(SignalingEvent::GoAway);
    young.settle(&[]);
    young.mail(SignalingEvent::GoAway);
    young.settle(&["disconnect"]);
    young.pass(100);
    young.give(Input::Timeout);
    assert_ne!(young.session.normalised().session(), a.session());
}
