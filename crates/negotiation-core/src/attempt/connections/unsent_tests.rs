//! Messages that a signaling connection did not carry, and the connection that follows it.

use super::tests::prompt;
use crate::session::harness::*;
use crate::{
    ConnectionId, Connectivity, Event, FailureCode, Input, PeerEvent, Phase, SignalingEvent,
};

/// N11, 29: candidates that a connection did not carry go out on the next one, in order.
// Shows: N11.
#[test]
fn s29_unsent_candidates_go_out_on_the_next_connection() {
    let mut harness = Harness::answered(prompt());
    for n in 1..=5 {
        harness.notices(PeerEvent::CandidateGathered(candidate(n)));
    }
    for _ in 1..=5 {
        harness.fails("send candidate", FailureCode::NotOpen);
    }
    harness.give(Input::Timeout);
    harness.forget();
    harness.link_ends(1, FailureCode::Network);
    harness.pass(10);
    harness.settle(&[]);
    assert_eq!(harness.commands(), [&["connect"][..], &["send candidate"; 5]].concat());
}

/// N21, 29: an offer that its connection did not carry waits for the connection that is being
/// opened.
#[test]
fn n21_offer_waits_for_the_connection_that_is_being_opened() {
    let offering = || {
        let mut harness = Harness::opened(prompt());
        harness.settle(&["send offer"]);
        harness.receive(SignalingEvent::GoAway);
        harness
    };
    for lost_first in [true, false] {
        let mut harness = offering();
        if lost_first {
            harness.link_ends(1, FailureCode::Network);
        }
        harness.fails("send offer", FailureCode::NotOpen);
        assert_eq!(harness.phase(), Phase::Offering);
        if !lost_first {
            harness.link_ends(1, FailureCode::Network);
        }
        harness.settle(&[]);
        assert_eq!((harness.phase(), harness.link), (Phase::AwaitingAnswer, ConnectionId(2)));
    }
    // With no other connection to come, it is not sent on the same one again.
    let mut harness = offering();
    harness.commands();
    harness.fails("send offer", FailureCode::NotOpen);
    harness.fails("connect", FailureCode::Network);
    assert_eq!(harness.phase(), Phase::Closing);
    assert!(!harness.commands().contains(&"send offer"));
}

fn sendings_on_stalled_connection(harness: &mut Harness, name: &str) -> usize {
    harness.receive(SignalingEvent::GoAway);
    for _ in 0..60 {
        harness.pass(1_000);
        while harness.is_pending("connect") {
            harness.fails("connect", FailureCode::Network);
        }
        harness.settle(&["connect", name]);
    }
    harness.commands().iter().filter(|requested| **requested == name).count()
}

/// N2, N12, N21: a connection that stalls gets a description once, however often reopening fails.
#[test]
fn n21_description_is_sent_once_on_a_stalled_connection() {
    let mut harness = Harness::live_keeping(prompt());
    harness.offer(offer(1));
    harness.settle(&["send answer"]);
    assert_eq!(sendings_on_stalled_connection(&mut harness, "send answer"), 1);
    assert_eq!((harness.phase(), harness.reported(&Event::RenegotiationFailed)), (Phase::Live, 1));

    let mut harness = Harness::live(prompt());
    harness.give(Input::Renegotiate);
    harness.settle(&["send offer"]);
    assert_eq!(sendings_on_stalled_connection(&mut harness, "send offer"), 1);
    assert_eq!((harness.phase(), harness.reported(&Event::RenegotiationFailed)), (Phase::Live, 1));
}

/// N20, N21: a restart that a connection failed to send waits for another within its deadline.
#[test]
fn n20_restart_unsent_on_a_stalled_connection_goes_out_on_the_next() {
    let mut harness = Harness::live_keeping(prompt());
    harness.give(Input::Restart);
    harness.settle(&["send offer"]);
    harness.receive(SignalingEvent::GoAway);
    harness.fails("send offer", FailureCode::NotOpen);
    harness.fails("connect", FailureCode::Network);
    harness.settle(&[]);
    assert_eq!(
        harness.commands().iter().filter(|requested| **requested == "send offer").count(),
        1
    );
    harness.pass(10);
    harness.settle(&[]);
    assert!(harness.commands().contains(&"send offer"), "on the connection that opened at last");
    harness.answer(answer(2));
    harness.settle(&[]);
    harness.ice(Connectivity::Connected);
    assert_eq!((harness.phase(), harness.reported(&Event::Recovered)), (Phase::Live, 1));
}

/// N5, N21: an offer that is answered was sent, whatever becomes of its connection.
#[test]
fn n21_answered_offer_survives_the_loss_of_its_connection() {
    for following in [false, true] {
        let mut harness = Harness::opened(prompt());
        harness.settle(&["send offer"]);
        if following {
            harness.receive(SignalingEvent::GoAway);
        }
        harness.answer(answer(1));
        harness.link_ends(1, FailureCode::Network);
        if following {
            harness.fails("connect", FailureCode::Network);
        }
        assert_eq!(harness.phase(), Phase::Offering, "{following}");
        harness.fails("send offer", FailureCode::NotOpen);
        assert_eq!(harness.phase(), Phase::Establishing, "{following}");
    }
}
