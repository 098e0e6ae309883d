//! The table of sessions, and the decisions about offers and candidates. Pure.
//!
//! The behaviours are those of real masters (docs/kvs-protocol.md 3.1 and 3.4), and one that
//! renegotiates.

use std::collections::BTreeMap;
use std::time::Duration;

use negotiation_core::Candidate;

use crate::config::Behaviour;
use crate::event::{IgnoredOffer, LeaveReason};

/// The most candidates of one client that are held until its offer comes (the C SDK's queue is
/// unbounded).
const HELD_PER_CLIENT: usize = 64;
/// The most clients with held candidates.
const HELD_CLIENTS: usize = 32;
/// How long candidates are held (20 s in the C SDK's sample).
const HELD_FOR: Duration = Duration::from_secs(20);
/// The most client ids that are remembered after their viewer vanished.
const RESTING_MAX: usize = 1024;

/// The number of a session, from 1, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNumber(pub(crate) u64);

/// The decision about an offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Answer it.
    Serve {
        session: SessionNumber,
        /// The session that must end first.
        replaces: Option<SessionNumber>,
        /// The candidates that came before the offer.
        candidates: Vec<Candidate>,
    },
    /// Do not reply: KVS has no message that refuses an offer.
    Ignore(IgnoredOffer),
}

/// The table of sessions. Times may be of any monotonic clock.
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

    /// Decides about an offer; `ufrag` is its ICE user name fragment.
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

    /// Returns the client's session if the offer renegotiates it; `ufrag` then becomes that
    /// session's ICE user name fragment.
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

    /// Returns the session of a candidate; `None` if the candidate is held for a later offer.
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

    /// Removes a session that ended.
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

/// Returns whether a candidate belongs to another offer than that of `ufrag`.
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
        // The old session ends later, which does not affect the new one.
        roster.ended(at(2), "v", first, LeaveReason::Replaced);
        assert!(roster.candidate(at(3), "v", candidate(None)).is_some_and(|(s, _)| s == second));
    }

    #[test]
    fn renegotiation_reuses_session_and_new_peer_replaces_it() {
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
    fn id_of_vanished_viewer_lingers_and_closed_one_is_free() {
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
    fn offer_is_ignored_at_session_limit_until_one_ends() {
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
        // A candidate of a later offer waits for that offer.
        assert!(roster.candidate(at(2), "v", candidate(Some("newer"))).is_none());
        let (_, _, held) = served(roster.offer(at(3), "v", Some("newer")));
        assert_eq!(held, 1);
        assert!(roster.candidate(at(3), "late", candidate(None)).is_none());
        let (_, _, held) = served(roster.offer(at(23), "late", None));
        assert_eq!(held, 0, "they are held for 20 s");
    }

    #[test]
    fn held_candidates_of_unknown_clients_are_limited() {
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
