//! Two bounded queues: the master's candidates until the answer is *set*, ours until they may go.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use core::time::Duration;

use crate::error::Ignored;
use crate::time::Timestamp;
use crate::types::{Candidate, Digest};

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
        self.exchange_open = false;
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

    /// A new exchange begins: what was seen before may come again, and what belongs to another
    /// generation may be ahead of its description.
    pub(crate) fn next_exchange(&mut self) {
        self.seen.clear();
        self.exchange_open = true;
    }

    /// The exchange came to nothing: the generation stays.
    pub(crate) fn reopen(&mut self) {
        self.exchange_open = false;
        self.held.retain(|_| !self.ready);
    }

    /// The other side began anew: what is held is for its new session, and nothing is known of it.
    pub(crate) fn forget_session(&mut self) {
        self.ready = false;
        self.exchange_open = false;
        self.seen.clear();
        if let Some(past) = self.ufrag.take() {
            self.outlive(past);
        }
        self.held.retain(|candidate| {
            candidate.ufrag.as_ref().is_none_or(|ufrag| !self.past.contains(ufrag))
        });
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
        self.exchange_open && candidate.ufrag.is_some() && !known
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
}

/// The quota's period, with some room for a network that bunches what was sent apart.
const PERIOD: Duration = Duration::from_millis(1050);

impl LocalCandidates {
    pub(crate) fn take(&mut self, candidate: Candidate, waiting_max: usize) -> Result<(), Ignored> {
        if self.waiting.len() >= waiting_max {
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

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
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
        remote.forget_session();
        assert_eq!(remote.take(candidate(1, Some("first")), 128, 256), Err(Ignored::OldGeneration));
        assert_eq!(remote.take(candidate(2, Some("second")), 128, 256), Ok(None));
    }

    #[test]
    fn in_a_later_exchange_what_is_of_another_generation_may_be_ahead_of_its_description() {
        let mut remote = RemoteCandidates::default();
        remote.open(Some("first".into()));
        let known = candidate(1, Some("first"));
        assert_eq!(remote.take(known.clone(), 128, 256), Ok(Some(known.clone())));
        remote.next_exchange();
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
        remote.reopen();
        assert_eq!(remote.held(), 1, "no description was set yet: they are for the next");
        remote.open(Some("first".into()));
        remote.next_exchange();
        assert_eq!(remote.take(candidate(2, Some("second")), 128, 256), Ok(None));
        remote.reopen();
        assert_eq!(remote.held(), 0, "they were for the exchange that came to nothing");
        let late = remote.take(candidate(3, Some("second")), 128, 256);
        assert_eq!(late, Err(Ignored::OldGeneration));
        assert!(remote.take(candidate(4, Some("first")), 128, 256).is_ok_and(|c| c.is_some()));
    }

    #[test]
    fn generations_of_the_past_are_remembered_up_to_a_number() {
        let mut remote = RemoteCandidates::default();
        for number in 0..=PAST_MAX {
            remote.open(Some(format!("g{number}")));
        }
        remote.next_exchange();
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
        remote.next_exchange();
        assert_eq!(remote.take(candidate(1, Some("second")), 128, 256), Ok(None));
        remote.open(Some("third".into()));
        remote.next_exchange();
        assert_eq!(remote.take(candidate(2, Some("fourth")), 128, 256), Ok(None));
        remote.forget_session();
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

    #[test]
    fn twenty_go_in_a_second_and_none_is_lost() {
        let mut local = LocalCandidates::default();
        for n in 0..45 {
            local.take(candidate(n, None), 128).expect("room");
        }
        assert_eq!(local.pop(Timestamp::ZERO, 20), None, "not released yet");
        local.release();
        let mut sent = alloc::vec::Vec::new();
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
                .eq((0..45).map(|n| candidate(n, None)).collect::<alloc::vec::Vec<_>>().iter())
        );
        for window in sent.windows(21) {
            let spread = window[20].0.saturating_since(window[0].0);
            assert!(spread > Duration::from_secs(1), "21 within {spread:?}");
        }
    }
}
