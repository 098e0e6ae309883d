//! The queues of candidates, one at a time.

use super::*;
use alloc::format;

fn candidate(n: u32, ufrag: Option<&str>) -> Candidate {
    Candidate {
        text: format!("candidate:{n}").into(),
        mid: None,
        mline_index: Some(0),
        ufrag: ufrag.map(Into::into),
    }
}

#[test]
fn candidates_are_held_in_order_and_without_duplicates() {
    let mut remote = RemoteCandidates::default();
    for n in [2, 1, 2, 3] {
        let _ = remote.take(candidate(n, None), 128, 256);
    }
    let (held, old) = remote.open(None);
    assert_eq!(old, 0);
    assert!(held.iter().eq([2, 1, 3].map(|n| candidate(n, None)).iter()));
    assert_eq!(remote.take(candidate(3, None), 128, 256), Err(Ignored::Duplicate));
    assert_eq!(remote.take(candidate(4, None), 128, 256), Ok(Some(candidate(4, None))));
}

/// A candidate that was being sent on the first connection when it was lost, and the second is
/// open.
fn resent(local: &mut LocalCandidates, between: impl FnOnce(&mut LocalCandidates)) {
    let (first, second) = (ConnectionId(1), ConnectionId(2));
    local.take(candidate(1, None), 128).expect("room");
    local.release();
    let sent = local.pop(Timestamp::ZERO, 20).expect("released");
    between(local);
    local.put_back(first, sent, 128).expect("room");
    local.resend_on(second);
}

// Shows: N11.
#[test]
fn candidate_of_the_exchange_before_is_sent_again_before_the_next_offer() {
    let mut local = LocalCandidates::default();
    resent(&mut local, LocalCandidates::next_exchange);
    local.take(candidate(2, None), 128).expect("room");
    assert_eq!(local.pop(Timestamp::ZERO, 20), Some(candidate(1, None)));
    assert_eq!(local.pop(Timestamp::ZERO, 20), None, "its offer is not sent yet");
}

// Shows: N11.
#[test]
fn candidate_of_an_offer_that_was_taken_back_is_not_sent_again_before_the_answer() {
    let mut local = LocalCandidates::default();
    resent(&mut local, LocalCandidates::withhold);
    assert_eq!(local.pop(Timestamp::ZERO, 20), None);
    local.release();
    assert_eq!(local.pop(Timestamp::ZERO, 20), Some(candidate(1, None)));
}

// Shows: N9.
#[test]
fn overflow_keeps_the_oldest() {
    let mut remote = RemoteCandidates::default();
    for n in 0..200 {
        assert_eq!(remote.take(candidate(n, None), 128, 256).is_ok(), n < 128);
    }
    assert_eq!(remote.open(None).0.len(), 128);
}

#[test]
fn another_generation_is_left_out() {
    let mut remote = RemoteCandidates::default();
    assert_eq!(remote.take(candidate(1, Some("old")), 128, 256), Ok(None));
    assert_eq!(remote.take(candidate(2, Some("new")), 128, 256), Ok(None));
    assert_eq!(remote.open(Some("new".into())).1, 1);
    assert_eq!(remote.take(candidate(3, Some("old")), 128, 256), Err(Ignored::OldGeneration));
}

#[test]
fn what_is_of_a_session_that_was_replaced_stays_old() {
    let mut remote = RemoteCandidates::default();
    remote.open(Some("first".into()));
    assert_eq!(remote.take(candidate(1, Some("first")), 128, 256).map(|c| c.is_some()), Ok(true));
    assert_eq!(remote.forget_session(), 0);
    assert_eq!(remote.take(candidate(1, Some("first")), 128, 256), Err(Ignored::OldGeneration));
    assert_eq!(remote.take(candidate(2, Some("second")), 128, 256), Ok(None));
}

#[test]
fn in_a_later_exchange_what_is_of_another_generation_may_be_ahead_of_its_description() {
    let mut remote = RemoteCandidates::default();
    remote.open(Some("first".into()));
    let known = candidate(1, Some("first"));
    assert_eq!(remote.take(known.clone(), 128, 256), Ok(Some(known.clone())));
    remote.next_exchange(false);
    assert_eq!(remote.take(known.clone(), 128, 256), Ok(Some(known)), "it may come again");
    let nameless = candidate(2, None);
    assert_eq!(remote.take(nameless.clone(), 128, 256), Ok(Some(nameless)));
    let ahead = candidate(3, Some("second"));
    assert_eq!(remote.take(ahead.clone(), 128, 256), Ok(None));
    assert_eq!(remote.held(), 1);
    assert!(remote.open(Some("second".into())).0.iter().eq([ahead].iter()));
    assert_eq!(remote.held(), 0);
    assert_eq!(remote.take(candidate(4, Some("third")), 128, 256), Err(Ignored::OldGeneration));
}

#[test]
fn exchange_that_came_to_nothing_leaves_its_generation() {
    let mut remote = RemoteCandidates::default();
    assert_eq!(remote.take(candidate(1, None), 128, 256), Ok(None));
    assert_eq!(remote.reopen(), (VecDeque::new(), 0));
    assert_eq!(remote.held(), 1, "no description was set yet: they are for the next");
    remote.open(Some("first".into()));
    remote.next_exchange(false);
    assert_eq!(remote.take(candidate(2, Some("second")), 128, 256), Ok(None));
    assert_eq!(remote.reopen(), (VecDeque::new(), 1));
    assert_eq!(remote.held(), 0, "they were for the exchange that came to nothing");
    let late = remote.take(candidate(3, Some("second")), 128, 256);
    assert_eq!(late, Err(Ignored::OldGeneration));
    assert!(remote.take(candidate(4, Some("first")), 128, 256).is_ok_and(|c| c.is_some()));
}

/// N18: candidates of the new generation that come before a restart's answer wait for it.
#[test]
fn candidate_without_ufrag_waits_for_the_answer_of_a_restart() {
    let mut remote = RemoteCandidates::default();
    remote.open(Some("first".into()));
    remote.next_exchange(true);
    assert_eq!(remote.take(candidate(1, None), 128, 256), Ok(None));
    let (held, _) = remote.open(Some("second".into()));
    assert!(held.iter().eq([candidate(1, None)].iter()));
    remote.next_exchange(true);
    assert_eq!(remote.take(candidate(2, None), 128, 256), Ok(None));
    let (held, dropped) = remote.reopen();
    assert!(held.iter().eq([candidate(2, None)].iter()), "it may be of the generation in use");
    assert_eq!(dropped, 0);
}

#[test]
fn unsent_candidates_go_out_first_on_another_connection() {
    let (mut local, now) = (LocalCandidates::default(), Timestamp::ZERO);
    local.take(candidate(9, None), 128).expect("room");
    local.release();
    for n in 1..=2 {
        local.put_back(ConnectionId(1), candidate(n, None), 128).expect("room");
    }
    local.resend_on(ConnectionId(1));
    assert_eq!(local.pop(now, 20), Some(candidate(9, None)), "not on the same link");
    local.resend_on(ConnectionId(2));
    let again: Vec<_> = core::iter::from_fn(|| local.pop(now, 20)).collect();
    assert_eq!(again, [1, 2].map(|n| candidate(n, None)));
    assert_eq!(local.put_back(ConnectionId(1), candidate(3, None), 0), Err(Ignored::OverLimit));
}

#[test]
fn slots_of_candidates_in_transit_are_used_again() {
    let mut transit = InTransit::default();
    assert_eq!(transit.begin(ConnectionId(1), candidate(1, None)), 0);
    assert_eq!(transit.begin(ConnectionId(2), candidate(2, None)), 1);
    assert_eq!(transit.end(0), Some((ConnectionId(1), Some(candidate(1, None)))));
    assert!(!transit.uses(ConnectionId(1)) && transit.uses(ConnectionId(2)));
    assert_eq!(transit.begin(ConnectionId(3), candidate(3, None)), 0);
    transit.forget_candidates();
    assert_eq!(transit.end(0), Some((ConnectionId(3), None)));
    assert_eq!((transit.end(0), transit.end(7)), (None, None));
    transit.rename_links(|link| ConnectionId(link.0 + 10));
    assert!(!transit.uses(ConnectionId(2)) && transit.uses(ConnectionId(12)));
    transit.end(1);
    assert_eq!(transit, InTransit::default());
}

#[test]
fn generations_of_the_past_are_remembered_up_to_a_number() {
    let mut remote = RemoteCandidates::default();
    for number in 0..=PAST_MAX {
        remote.open(Some(format!("g{number}")));
    }
    remote.next_exchange(false);
    for number in 0..PAST_MAX {
        let ufrag = format!("g{number}");
        let late = remote.take(candidate(1, Some(&ufrag)), 128, 256);
        assert_eq!(late, Err(Ignored::OldGeneration), "{ufrag}");
    }
    for number in 0..3 {
        remote.open(Some(format!("h{number}")));
    }
    assert_eq!(remote.past.len(), PAST_MAX);
}

#[test]
fn of_a_session_that_was_replaced_only_what_is_old_is_dropped() {
    let mut remote = RemoteCandidates::default();
    remote.open(Some("first".into()));
    remote.next_exchange(false);
    assert_eq!(remote.take(candidate(1, Some("second")), 128, 256), Ok(None));
    remote.open(Some("third".into()));
    remote.next_exchange(false);
    assert_eq!(remote.take(candidate(2, Some("fourth")), 128, 256), Ok(None));
    assert_eq!(remote.forget_session(), 0);
    assert_eq!(remote.held(), 1, "it is not of the past");
}

#[test]
fn quota_counts_from_the_moment_that_it_is_moved_to() {
    let at = Timestamp::from_millis;
    let full = |now: u64| {
        let mut local = LocalCandidates::default();
        for n in 0..21 {
            local.take(candidate(n, None), 128).expect("room");
        }
        local.release();
        let popped = (0..21).filter(|_| local.pop(at(1000), 20).is_some()).count();
        assert_eq!(popped, 20);
        assert_eq!(local.waiting(), 1);
        local.rebase(at(now), |sent| at(sent.since_origin().as_millis() as u64 + 7000));
        local
    };
    assert_eq!(full(2049).next_at(at(9049), 20), Some(at(9050)), "still in the period");
    assert_eq!(full(2050).next_at(at(9050), 20), Some(at(9050)), "the period is over");
    assert_eq!(full(2050), {
        let mut forgotten = full(2051);
        forgotten.rebase(at(9051), |sent| sent);
        forgotten
    });
    assert_eq!(LocalCandidates::default().waiting(), 0);
}

#[test]
fn candidate_of_a_rolled_back_offer_is_withheld() {
    let (mut local, now) = (LocalCandidates::default(), Timestamp::ZERO);
    local.take(candidate(1, None), 128).expect("room");
    local.release();
    local.withhold();
    assert_eq!(local.pop(now, 20), None);
}

#[test]
fn later_exchange_keeps_back_its_own_candidates_alone() {
    let (mut local, now) = (LocalCandidates::default(), Timestamp::ZERO);
    local.take(candidate(1, None), 128).expect("room");
    local.release();
    local.next_exchange();
    local.take(candidate(2, None), 128).expect("room");
    assert_eq!(local.pop(now, 20), Some(candidate(1, None)));
    assert_eq!(local.pop(now, 20), None);
    local.release();
    assert_eq!(local.pop(now, 20), Some(candidate(2, None)));
}

// Shows: N11.
#[test]
fn twenty_go_in_a_second_and_none_is_lost() {
    let mut local = LocalCandidates::default();
    for n in 0..45 {
        local.take(candidate(n, None), 128).expect("room");
    }
    assert_eq!(local.pop(Timestamp::ZERO, 20), None, "not released yet");
    local.release();
    let mut sent = Vec::new();
    let mut now = Timestamp::ZERO;
    for _ in 0..90 {
        if let Some(candidate) = local.pop(now, 20) {
            sent.push((now, candidate));
        } else if let Some(at) = local.next_at(now, 20) {
            now = at;
        }
    }
    assert!(
        sent.iter()
            .map(|(_, c)| c)
            .eq((0..45).map(|n| candidate(n, None)).collect::<Vec<_>>().iter())
    );
    for window in sent.windows(21) {
        let spread = window[20].0.saturating_since(window[0].0);
        assert!(spread > Duration::from_secs(1), "21 within {spread:?}");
    }
}
