//! Who is being served, and what an offer or a candidate means: pure.
//!
//! The kinds of behaviour are those of real masters (docs/kvs-protocol.md 3.1 and 3.4), and one
//! that renegotiates.

use std::collections::BTreeMap;
use std::time::Duration;

use negotiation_core::Candidate;

use crate::config::Behaviour;
use crate::event::{IgnoredOffer, LeaveReason};

/// Candidates held for an offer that has not come yet, per client (the C SDK's queue is unbounded).
const HELD_PER_CLIENT: usize = 64;
/// Clients whose candidates are held.
const HELD_CLIENTS: usize = 32;
/// How long (the C SDK's sample holds them for 20 s).
const HELD_FOR: Duration = Duration::from_secs(20);
/// Client ids remembered after their viewer vanished.
const RESTING_MAX: usize = 1024;

/// A session, numbered from 1, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNumber(pub(crate) u64);

/// What to do with an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Answer it.
    Serve {
        session: SessionNumber,
        /// The session that has to go first.
        replaces: Option<SessionNumber>,
        /// What came before the offer.
        candidates: Vec<Candidate>,
    },
    /// Say nothing: there is no message that refuses an offer.
    Ignore(IgnoredOffer),
}

/// The table of sessions. Times are any monotonic clock's.
#[derive(Debug)]
pub(crate) struct Roster {
    behaviour: Behaviour,
    sessions_max: usize,
    last: u64,
    live: BTreeMap<String, Live>,
    resting: BTreeMap<String, Duration>,
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Live {
    session: SessionNumber,
    ufrag: Option<String>,
}

#[derive(Debug)]
struct Held {
    since: Duration,
    candidates: Vec<Candidate>,
}

impl Roster {
    pub(crate) fn new(behaviour: Behaviour, sessions_max: usize) -> Self {
        Self {
            behaviour,
            sessions_max,
            last: 0,
            live: BTreeMap::new(),
            resting: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// An offer came; `ufrag` is its ICE user name.
    pub(crate) fn offer(&mut self, now: Duration, client: &str, ufrag: Option<&str>) -> Decision {
        self.resting.retain(|_, until| *until > now);
        let repeated = self.live.get(client).map(|live| live.session);
        match (repeated, self.behaviour) {
            (Some(_), Behaviour::IgnoreRepeated | Behaviour::Linger(_)) => {
                return Decision::Ignore(IgnoredOffer::Repeated);
            }
            (Some(_), Behaviour::Replace | Behaviour::Renegotiate) => {}
            (None, _) if self.resting.contains_key(client) => {
                return Decision::Ignore(IgnoredOffer::Lingering);
            }
            (None, _) if self.live.len() >= self.sessions_max => {
                return Decision::Ignore(IgnoredOffer::Full);
            }
            (None, _) => {}
        }
        self.last += 1;
        let session = SessionNumber(self.last);
        let ufrag = ufrag.map(str::to_owned);
        let candidates = self.take_held(now, client, ufrag.as_deref());
        self.live.insert(client.to_owned(), Live { session, ufrag });
        Decision::Serve { session, replaces: repeated, candidates }
    }

    /// Whether an offer of this client goes to the session that it has: then `ufrag` is that
    /// session's new ICE user name.
    pub(crate) fn renegotiates(
        &mut self,
        client: &str,
        ufrag: Option<&str>,
        is_same: impl Fn(SessionNumber) -> bool,
    ) -> Option<SessionNumber> {
        let live = self.live.get_mut(client)?;
        if self.behaviour != Behaviour::Renegotiate || !is_same(live.session) {
            return None;
        }
        live.ufrag = ufrag.map(str::to_owned);
        Some(live.session)
    }

    /// A candidate came: the session it is for, or none where it was held for an offer to come.
    pub(crate) fn candidate(
        &mut self,
        now: Duration,
        client: &str,
        candidate: Candidate,
    ) -> Option<(SessionNumber, Candidate)> {
        match self.live.get(client) {
            Some(live) if !of_another(&candidate, live.ufrag.as_deref()) => {
                return Some((live.session, candidate));
            }
            Some(_) | None => {}
        }
        self.held.retain(|_, held| now.saturating_sub(held.since) < HELD_FOR);
        if self.held.len() >= HELD_CLIENTS && !self.held.contains_key(client) {
            tracing::debug!("candidates of too many clients wait for their offers");
            return None;
        }
        let held = self
            .held
            .entry(client.to_owned())
            .or_insert_with(|| Held { since: now, candidates: Vec::new() });
        if held.candidates.len() < HELD_PER_CLIENT {
            held.candidates.push(candidate);
        }
        None
    }

    /// A session is over.
    pub(crate) fn ended(
        &mut self,
        now: Duration,
        client: &str,
        session: SessionNumber,
        reason: LeaveReason,
    ) {
        if self.live.get(client).is_none_or(|live| live.session != session) {
            return;
        }
        self.live.remove(client);
        if let (Behaviour::Linger(rest), LeaveReason::Vanished) = (self.behaviour, reason)
            && self.resting.len() < RESTING_MAX
        {
            self.resting.insert(client.to_owned(), now + rest);
        }
    }

    fn take_held(&mut self, now: Duration, client: &str, ufrag: Option<&str>) -> Vec<Candidate> {
        let Some(held) = self.held.remove(client) else { return Vec::new() };
        if now.saturating_sub(held.since) >= HELD_FOR {
            return Vec::new();
        }
        held.candidates.into_iter().filter(|c| !of_another(c, ufrag)).collect()
    }
}

/// Whether a candidate names another offer than that of `ufrag`.
fn of_another(candidate: &Candidate, ufrag: Option<&str>) -> bool {
    candidate.ufrag.as_deref().zip(ufrag).is_some_and(|(its, ours)| its != ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn candidate(ufrag: Option<&str>) -> Candidate {
        Candidate {
            text: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
            mid: None,
            mline_index: None,
            ufrag: ufrag.map(str::to_owned),
        }
    }

    fn served(decision: Decision) -> (SessionNumber, Option<SessionNumber>, usize) {
        match decision {
            Decision::Serve { session, replaces, candidates } => {
                (session, replaces, candidates.len())
            }
            Decision::Ignore(reason) => panic!("ignored: {reason:?}"),
        }
    }

    #[test]
    fn repeated_id_is_replaced_js_style() {
        let mut roster = Roster::new(Behaviour::Replace, 1);
        let (first, none, _) = served(roster.offer(at(0), "v", None));
        assert_eq!(none, None);
        let (second, replaced, _) = served(roster.offer(at(1), "v", None));
        assert_eq!(replaced, Some(first));
        assert_ne!(first, second);
        // The old session's end, which comes later, does not touch the new one.
        roster.ended(at(2), "v", first, LeaveReason::Replaced);
        assert!(roster.candidate(at(3), "v", candidate(None)).is_some_and(|(s, _)| s == second));
    }

    #[test]
    fn renegotiation_goes_to_its_session_and_a_new_connection_replaces_it() {
        let mut roster = Roster::new(Behaviour::Renegotiate, 2);
        let (first, ..) = served(roster.offer(at(0), "v", Some("a")));
        assert_eq!(roster.renegotiates("w", Some("b"), |_| true), None);
        assert_eq!(roster.renegotiates("v", Some("b"), |_| false), None);
        assert_eq!(roster.renegotiates("v", Some("b"), |_| true), Some(first));
        let found = roster.candidate(at(1), "v", candidate(Some("b")));
        assert!(found.is_some_and(|(session, _)| session == first), "the new generation's");
        assert!(roster.candidate(at(1), "v", candidate(Some("a"))).is_none());
        let (_, replaced, _) = served(roster.offer(at(2), "v", Some("c")));
        assert_eq!(replaced, Some(first));
    }

    #[test]
    fn repeated_id_is_ignored_c_style_until_its_session_ends() {
        let mut roster = Roster::new(Behaviour::IgnoreRepeated, 10);
        let (first, ..) = served(roster.offer(at(0), "v", None));
        assert_eq!(roster.offer(at(1), "v", None), Decision::Ignore(IgnoredOffer::Repeated));
        served(roster.offer(at(1), "w", None));
        roster.ended(at(30), "v", first, LeaveReason::Vanished);
        served(roster.offer(at(30), "v", None));
    }

    #[test]
    fn vanished_id_lingers_and_a_closed_one_does_not() {
        let mut roster = Roster::new(Behaviour::Linger(at(55)), 10);
        let (first, ..) = served(roster.offer(at(0), "v", None));
        roster.ended(at(10), "v", first, LeaveReason::Vanished);
        assert_eq!(roster.offer(at(64), "v", None), Decision::Ignore(IgnoredOffer::Lingering));
        let (second, ..) = served(roster.offer(at(65), "v", None));
        roster.ended(at(70), "v", second, LeaveReason::ClosedByViewer);
        let (third, ..) = served(roster.offer(at(70), "v", None));
        roster.ended(at(84), "v", third, LeaveReason::NeverConnected);
        served(roster.offer(at(84), "v", None));
    }

    #[test]
    fn full_house_is_silent_and_a_free_place_is_given_away() {
        let mut roster = Roster::new(Behaviour::Replace, 2);
        let (a, ..) = served(roster.offer(at(0), "a", None));
        served(roster.offer(at(0), "b", None));
        assert_eq!(roster.offer(at(0), "c", None), Decision::Ignore(IgnoredOffer::Full));
        served(roster.offer(at(0), "b", None));
        roster.ended(at(1), "a", a, LeaveReason::ClosedByViewer);
        served(roster.offer(at(1), "c", None));
    }

    #[test]
    fn candidates_may_come_before_their_offer() {
        let mut roster = Roster::new(Behaviour::Replace, 2);
        assert!(roster.candidate(at(0), "v", candidate(None)).is_none());
        assert!(roster.candidate(at(0), "v", candidate(Some("old"))).is_none());
        assert!(roster.candidate(at(0), "v", candidate(Some("new"))).is_none());
        let (_, _, held) = served(roster.offer(at(1), "v", Some("new")));
        assert_eq!(held, 2, "those of another generation are dropped");
        // One of the offer to come waits for it.
        assert!(roster.candidate(at(2), "v", candidate(Some("newer"))).is_none());
        let (_, _, held) = served(roster.offer(at(3), "v", Some("newer")));
        assert_eq!(held, 1);
        assert!(roster.candidate(at(3), "late", candidate(None)).is_none());
        let (_, _, held) = served(roster.offer(at(23), "late", None));
        assert_eq!(held, 0, "they are held for 20 s");
    }

    #[test]
    fn what_strangers_send_is_bounded() {
        let mut roster = Roster::new(Behaviour::Replace, 2);
        for n in 0..1000 {
            for _ in 0..100 {
                roster.candidate(at(0), &format!("v{n}"), candidate(None));
            }
        }
        assert_eq!(roster.held.len(), HELD_CLIENTS);
        assert!(roster.held.values().all(|held| held.candidates.len() == HELD_PER_CLIENT));
    }
}
