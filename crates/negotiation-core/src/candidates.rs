//! Two bounded queues: the master's candidates until the answer is *set*, ours until they may go.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::Ignored;
use crate::time::Timestamp;
use crate::types::{Candidate, Digest, LinkId};

/// The master's candidates (contract, N9 and N10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RemoteCandidates {
    held: VecDeque<Candidate>,
    seen: BTreeSet<Digest>,
    ufrag: Option<String>,
    /// Generations before the current one.
    past: VecDeque<String>,
    ready: bool,
    /// A description is on its way that may bring another generation.
    exchange_open: bool,
    /// It will bring another one: an ICE restart. A candidate that names no generation waits for
    /// it, since the one before has been gathered long ago (contract, N18).
    restart_open: bool,
}

/// Generations that are remembered as past.
const PAST_MAX: usize = 8;

impl RemoteCandidates {
    /// Takes a candidate: `Some` may go to the peer now, `None` is held.
    pub(crate) fn take(
        &mut self,
        candidate: Candidate,
        held_max: usize,
        taken_max: usize,
    ) -> Result<Option<Candidate>, Ignored> {
        if self.is_old(&candidate) {
            return Err(Ignored::OldGeneration);
        }
        let digest = candidate.digest();
        if self.seen.contains(&digest) {
            return Err(Ignored::Duplicate);
        }
        let deliver = self.ready && !self.may_be_next(&candidate);
        let full = !deliver && self.held.len() >= held_max;
        if full || self.seen.len() >= taken_max {
            return Err(Ignored::OverLimit);
        }
        self.seen.insert(digest);
        if deliver {
            return Ok(Some(candidate));
        }
        self.held.push_back(candidate);
        Ok(None)
    }

    /// The remote description is set: gives out what was held for it, in order, and how many of
    /// the held were of another generation.
    pub(crate) fn open(&mut self, ufrag: Option<String>) -> (VecDeque<Candidate>, usize) {
        self.ready = true;
        (self.exchange_open, self.restart_open) = (false, false);
        if self.ufrag != ufrag
            && let Some(past) = core::mem::replace(&mut self.ufrag, ufrag)
        {
            self.outlive(past);
        }
        let mut held = core::mem::take(&mut self.held);
        let before = held.len();
        held.retain(|candidate| !self.is_old(candidate));
        let old = before - held.len();
        (held, old)
    }

    /// The offer of a restart goes out and is not set yet: what belongs to the next generation may
    /// come ahead of its answer.
    pub(crate) fn expect_restart(&mut self) {
        (self.exchange_open, self.restart_open) = (true, true);
    }

    /// A new exchange begins: what was seen before may come again, and what belongs to another
    /// generation may be ahead of its description.
    pub(crate) fn next_exchange(&mut self, restart: bool) {
        self.seen = self.held.iter().map(Candidate::digest).collect();
        (self.exchange_open, self.restart_open) = (true, restart);
    }

    /// The exchange failed and the generation stays: gives out the held candidates that name no
    /// generation, and how many of the held were of the one that failed.
    pub(crate) fn reopen(&mut self) -> (VecDeque<Candidate>, usize) {
        (self.exchange_open, self.restart_open) = (false, false);
        if !self.ready {
            return (VecDeque::new(), 0);
        }
        let mut held = core::mem::take(&mut self.held);
        let before = held.len();
        held.retain(|candidate| candidate.ufrag.is_none());
        let dropped = before - held.len();
        (held, dropped)
    }

    /// The other side began anew: what is held is for its new session, and nothing is known of it.
    /// Returns how many of the held candidates were of the session before.
    pub(crate) fn forget_session(&mut self) -> usize {
        self.ready = false;
        (self.exchange_open, self.restart_open) = (false, false);
        self.seen.clear();
        if let Some(past) = self.ufrag.take() {
            self.outlive(past);
        }
        let before = self.held.len();
        self.held.retain(|candidate| {
            candidate.ufrag.as_ref().is_none_or(|ufrag| !self.past.contains(ufrag))
        });
        before - self.held.len()
    }

    fn outlive(&mut self, past: String) {
        if self.past.len() == PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether it may belong to the description that is on its way.
    fn may_be_next(&self, candidate: &Candidate) -> bool {
        let known = self.ufrag.is_some() && candidate.ufrag == self.ufrag;
        let unnamed = candidate.ufrag.is_none();
        if unnamed { self.restart_open } else { self.exchange_open && !known }
    }

    fn is_old(&self, candidate: &Candidate) -> bool {
        match (&self.ufrag, &candidate.ufrag) {
            (Some(current), Some(ufrag)) => {
                current != ufrag && (!self.exchange_open || self.past.contains(ufrag))
            }
            (None, Some(ufrag)) => self.past.contains(ufrag),
            (Some(_) | None, None) => false,
        }
    }
}

/// Our own candidates (contract, N11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LocalCandidates {
    waiting: VecDeque<Candidate>,
    seen: BTreeSet<Digest>,
    sent: VecDeque<Timestamp>,
    released: bool,
    /// Of those waiting, the first so many were released in an earlier exchange.
    free: usize,
    /// Not carried by this link: they wait for another one.
    unsent: VecDeque<(LinkId, Candidate)>,
}

/// The quota's period, with some room for a network that bunches what was sent apart.
const PERIOD: Duration = Duration::from_millis(1050);

impl LocalCandidates {
    pub(crate) fn take(&mut self, candidate: Candidate, waiting_max: usize) -> Result<(), Ignored> {
        if self.waiting() >= waiting_max {
            return Err(Ignored::OverLimit);
        }
        if !self.seen.insert(candidate.digest()) {
            return Err(Ignored::Duplicate);
        }
        self.waiting.push_back(candidate);
        Ok(())
    }

    /// The offer that they belong to was taken back: they wait for what is said next.
    pub(crate) fn withhold(&mut self) {
        self.released = false;
        self.free = 0;
    }

    /// They may be sent from now on.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// A new exchange begins: its candidates wait for it, those of the one before do not.
    pub(crate) fn next_exchange(&mut self) {
        if core::mem::replace(&mut self.released, false) {
            self.free = self.waiting.len();
        }
        self.seen.clear();
    }

    /// The generation that a local offer would have begun is given up: its candidates, which
    /// wait for their release, are dropped. Returns how many.
    pub(crate) fn drop_generation(&mut self) -> usize {
        if self.released {
            return 0;
        }
        let dropped = self.waiting.len().saturating_sub(self.free);
        self.waiting.truncate(self.free);
        dropped
    }

    /// A link did not carry this one: it is kept for the next link.
    pub(crate) fn put_back(
        &mut self,
        link: LinkId,
        candidate: Candidate,
        waiting_max: usize,
    ) -> Result<(), Ignored> {
        if self.waiting() >= waiting_max {
            return Err(Ignored::OverLimit);
        }
        self.unsent.push_back((link, candidate));
        Ok(())
    }

    /// This link is open: what another one did not carry goes out first, in order.
    pub(crate) fn resend_on(&mut self, open: LinkId) {
        if self.unsent.iter().all(|(link, _)| *link == open) {
            return;
        }
        let unsent = core::mem::take(&mut self.unsent);
        let (kept, again): (VecDeque<_>, VecDeque<_>) =
            unsent.into_iter().partition(|(link, _)| *link == open);
        self.unsent = kept;
        self.free += again.len();
        for (_, candidate) in again.into_iter().rev() {
            self.waiting.push_front(candidate);
        }
    }

    /// Names of links, as a normal form has them.
    pub(crate) fn rename_links(&mut self, name: impl Fn(LinkId) -> LinkId) {
        self.unsent.iter_mut().for_each(|(link, _)| *link = name(*link));
    }

    /// The next one to send now.
    pub(crate) fn pop(&mut self, now: Timestamp, per_second: usize) -> Option<Candidate> {
        if self.next_at(now, per_second)? > now {
            return None;
        }
        let candidate = self.waiting.pop_front()?;
        self.free = self.free.saturating_sub(1);
        self.sent.push_back(now);
        if self.sent.len() > per_second {
            self.sent.pop_front();
        }
        Some(candidate)
    }

    /// When the next one may go; `None` with none to send.
    pub(crate) fn next_at(&self, now: Timestamp, per_second: usize) -> Option<Timestamp> {
        if self.waiting.is_empty() || !(self.released || self.free > 0) {
            return None;
        }
        if self.sent.len() < per_second {
            return Some(now);
        }
        self.sent.front().map(|oldest| *oldest + PERIOD)
    }

    /// Moves the times of what was sent, and forgets what the quota has forgotten.
    pub(crate) fn rebase(&mut self, now: Timestamp, moved: impl Fn(Timestamp) -> Timestamp) {
        self.sent.retain(|at| *at + PERIOD > now);
        self.sent.iter_mut().for_each(|at| *at = moved(*at));
    }

    /// Forgets what was sent within the quota's period.
    pub(crate) fn forget_sent(&mut self) {
        self.sent.clear();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.unsent.len()
    }
}

/// Local candidates whose sending has not completed, each in a slot of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct InTransit(Vec<Option<(LinkId, Option<Candidate>)>>);

impl InTransit {
    /// A candidate is being sent; the slot is the first that is free.
    pub(crate) fn begin(&mut self, link: LinkId, candidate: Candidate) -> usize {
        let sent = Some((link, Some(candidate)));
        match self.0.iter().position(Option::is_none) {
            Some(slot) => {
                self.0[slot] = sent;
                slot
            }
            None => {
                self.0.push(sent);
                self.0.len() - 1
            }
        }
    }

    /// Its sending completed: on which link, and the candidate unless it is not wanted any more.
    pub(crate) fn end(&mut self, slot: usize) -> Option<(LinkId, Option<Candidate>)> {
        let sent = self.0.get_mut(slot).and_then(Option::take);
        while self.0.pop_if(|last| last.is_none()).is_some() {}
        sent
    }

    /// Whether anything is being sent on this link.
    pub(crate) fn uses(&self, link: LinkId) -> bool {
        self.0.iter().flatten().any(|(other, _)| *other == link)
    }

    /// The peer connection that they belong to was replaced.
    pub(crate) fn forget_candidates(&mut self) {
        self.0.iter_mut().flatten().for_each(|(_, candidate)| *candidate = None);
    }

    /// Names of links, as a normal form has them.
    pub(crate) fn rename_links(&mut self, name: impl Fn(LinkId) -> LinkId) {
        self.0.iter_mut().flatten().for_each(|(link, _)| *link = name(*link));
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            remote.take(candidate(1, Some("first")), 128, 256).map(|c| c.is_some()),
            Ok(true)
        );
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
    fn an_exchange_that_came_to_nothing_leaves_its_generation() {
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
    fn unsent_candidates_go_out_first_on_another_link() {
        let (mut local, now) = (LocalCandidates::default(), Timestamp::ZERO);
        local.take(candidate(9, None), 128).expect("room");
        local.release();
        for n in 1..=2 {
            local.put_back(LinkId(1), candidate(n, None), 128).expect("room");
        }
        local.resend_on(LinkId(1));
        assert_eq!(local.pop(now, 20), Some(candidate(9, None)), "not on the same link");
        local.resend_on(LinkId(2));
        let again: Vec<_> = core::iter::from_fn(|| local.pop(now, 20)).collect();
        assert_eq!(again, [1, 2].map(|n| candidate(n, None)));
        assert_eq!(local.put_back(LinkId(1), candidate(3, None), 0), Err(Ignored::OverLimit));
    }

    #[test]
    fn slots_of_candidates_in_transit_are_used_again() {
        let mut transit = InTransit::default();
        assert_eq!(transit.begin(LinkId(1), candidate(1, None)), 0);
        assert_eq!(transit.begin(LinkId(2), candidate(2, None)), 1);
        assert_eq!(transit.end(0), Some((LinkId(1), Some(candidate(1, None)))));
        assert!(!transit.uses(LinkId(1)) && transit.uses(LinkId(2)));
        assert_eq!(transit.begin(LinkId(3), candidate(3, None)), 0);
        transit.forget_candidates();
        assert_eq!(transit.end(0), Some((LinkId(3), None)));
        assert_eq!((transit.end(0), transit.end(7)), (None, None));
        transit.rename_links(|link| LinkId(link.0 + 10));
        assert!(!transit.uses(LinkId(2)) && transit.uses(LinkId(12)));
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
    fn the_quota_counts_from_the_moment_that_it_is_moved_to() {
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
    fn what_was_taken_back_is_withheld() {
        let (mut local, now) = (LocalCandidates::default(), Timestamp::ZERO);
        local.take(candidate(1, None), 128).expect("room");
        local.release();
        local.withhold();
        assert_eq!(local.pop(now, 20), None);
    }

    #[test]
    fn a_later_exchange_keeps_back_its_own_candidates_alone() {
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
}
