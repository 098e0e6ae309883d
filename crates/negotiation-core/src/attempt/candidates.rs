//! [`Candidates`]: the master's until its description is *set*, ours until they may be sent, and
//! those that are being sent (contract, N9 to N11).

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::context::Context;
use crate::error::{Failure, FailureKind, Ignored};
use crate::output::{Message, PeerCommand, SignalingCommand};
use crate::purpose::Purpose;
use crate::time::{Timer, Timestamp};
use crate::types::{Candidate, ConnectionId, Digest, PeerId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Candidates {
    pub(crate) local: LocalCandidates,
    /// Local candidates that are being sent.
    pub(crate) transit: InTransit,
    pub(crate) remote: RemoteCandidates,
}

impl Candidates {
    /// Takes a candidate of the master's: it is added, or held for its description.
    pub(crate) fn on_remote(&mut self, cx: &mut Context, peer: PeerId, candidate: Candidate) {
        let (held_max, taken_max) =
            (cx.config.settings().candidates_max, cx.config.settings().candidates_taken_max);
        let is_end = candidate.is_end();
        match self.remote.take(candidate, held_max, taken_max) {
            Ok(now) => {
                let named = &mut cx.evidence.remote_candidates;
                *named = named.saturating_add(u32::from(!is_end));
                add(cx, peer, now);
            }
            Err(reason) => cx.ignore(reason),
        }
    }

    /// A local candidate was gathered. End-of-candidates is not sent: some masters stumble over it
    /// (docs/kvs-protocol.md 3.4).
    pub(crate) fn on_gathered(&mut self, cx: &mut Context, candidate: Candidate) {
        if candidate.is_end() {
            return;
        }
        if let Err(reason) = self.local.take(candidate, cx.config.settings().candidates_max) {
            cx.ignore(reason);
        }
    }

    /// Sends the local candidates that are due, and arms the wake-up for the rest.
    pub(crate) fn send(&mut self, cx: &mut Context, open: Option<ConnectionId>) {
        let (now, per_second) = (cx.now, cx.config.settings().candidates_per_second);
        let Some(link) = open else { return cx.disarm(Timer::CandidatePacing) };
        self.local.resend_on(link);
        while let Some(candidate) = self.local.pop(now, per_second) {
            let message = Message::Candidate(candidate.clone());
            let slot = self.transit.begin(link, candidate);
            let command = SignalingCommand::Send { link, message };
            cx.ask_signaling(Purpose::SendCandidate(slot), command);
        }
        match self.local.next_at(now, per_second) {
            Some(at) => cx.timers.arm(Timer::CandidatePacing, at),
            None => cx.disarm(Timer::CandidatePacing),
        }
    }

    /// A local candidate was sent, or goes out on the next connection (contract, N11).
    pub(crate) fn on_sent(&mut self, cx: &mut Context, slot: usize, failure: Option<Failure>) {
        let Some((link, candidate)) = self.transit.end(slot) else { return };
        // Without one the peer connection that it belongs to was replaced.
        let (Some(failure), Some(candidate)) = (failure, candidate) else { return };
        let kept = failure.kind() != FailureKind::Permanent
            && self.local.put_back(link, candidate, cx.config.settings().candidates_max).is_ok();
        // A close of the connection is expected, and the next one carries it.
        if !kept || failure.kind() != FailureKind::Cancelled {
            cx.ignore(Ignored::Unsent);
        }
    }

    /// The master's description is set: adds what was held for it.
    pub(crate) fn on_remote_set(&mut self, cx: &mut Context, peer: PeerId, ufrag: Option<String>) {
        let (held, old) = self.remote.open(ufrag);
        add(cx, peer, held);
        cx.ignore_times(Ignored::OldGeneration, old);
    }

    /// A later exchange failed: what was held for its description is dropped, or was for the one
    /// in use.
    pub(crate) fn reopen_remote(&mut self, cx: &mut Context, peer: PeerId) {
        let (held, dropped) = self.remote.reopen();
        add(cx, peer, held);
        cx.ignore_times(Ignored::OldGeneration, dropped);
    }

    /// Another peer connection follows: what comes from now on is for that one.
    pub(crate) fn begin_connection(&mut self, cx: &mut Context) {
        self.local = LocalCandidates::default();
        self.transit.forget_candidates();
        let old = self.remote.forget_session();
        cx.ignore_times(Ignored::OldGeneration, old);
    }
}

fn add(cx: &mut Context, peer: PeerId, candidates: impl IntoIterator<Item = Candidate>) {
    for candidate in candidates {
        cx.ask_peer(Purpose::AddCandidate, PeerCommand::AddCandidate { peer, candidate });
    }
}

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
    /// The offer that they belong to was taken back, and the next description is not sent yet: none
    /// may go, those of a lost connection included.
    withheld: bool,
    /// Of those waiting, the first so many were released in an earlier exchange.
    free: usize,
    /// Not carried by this connection: they wait for another one.
    unsent: VecDeque<(ConnectionId, Candidate)>,
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

    /// The offer that they belong to was rolled back: they wait for the next description.
    pub(crate) fn withhold(&mut self) {
        (self.released, self.withheld) = (false, true);
        self.free = 0;
    }

    /// They may be sent from now on.
    pub(crate) fn release(&mut self) {
        (self.released, self.withheld) = (true, false);
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

    /// A connection did not carry this one: it is kept for the next connection.
    pub(crate) fn put_back(
        &mut self,
        link: ConnectionId,
        candidate: Candidate,
        waiting_max: usize,
    ) -> Result<(), Ignored> {
        if self.waiting() >= waiting_max {
            return Err(Ignored::OverLimit);
        }
        self.unsent.push_back((link, candidate));
        Ok(())
    }

    /// This connection is open: what another one did not carry goes out first, in order, unless its
    /// offer was taken back meanwhile.
    pub(crate) fn resend_on(&mut self, open: ConnectionId) {
        if self.unsent.iter().all(|(link, _)| *link == open) {
            return;
        }
        let unsent = core::mem::take(&mut self.unsent);
        let (kept, again): (VecDeque<_>, VecDeque<_>) =
            unsent.into_iter().partition(|(link, _)| *link == open);
        self.unsent = kept;
        if !self.withheld {
            self.free += again.len();
        }
        for (_, candidate) in again.into_iter().rev() {
            self.waiting.push_front(candidate);
        }
    }

    /// Names of connections, as a normal form has them.
    pub(crate) fn rename_links(&mut self, name: impl Fn(ConnectionId) -> ConnectionId) {
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
pub(crate) struct InTransit(Vec<Option<(ConnectionId, Option<Candidate>)>>);

impl InTransit {
    /// A candidate is being sent; the slot is the first that is free.
    pub(crate) fn begin(&mut self, link: ConnectionId, candidate: Candidate) -> usize {
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

    /// Its sending completed: on which connection, and the candidate unless it is not wanted any
    /// more.
    pub(crate) fn end(&mut self, slot: usize) -> Option<(ConnectionId, Option<Candidate>)> {
        let sent = self.0.get_mut(slot).and_then(Option::take);
        while self.0.pop_if(|last| last.is_none()).is_some() {}
        sent
    }

    /// Whether anything is being sent on this connection.
    pub(crate) fn uses(&self, link: ConnectionId) -> bool {
        self.0.iter().flatten().any(|(other, _)| *other == link)
    }

    /// The peer connection that they belong to was replaced.
    pub(crate) fn forget_candidates(&mut self) {
        self.0.iter_mut().flatten().for_each(|(_, candidate)| *candidate = None);
    }

    /// Names of connections, as a normal form has them.
    pub(crate) fn rename_links(&mut self, name: impl Fn(ConnectionId) -> ConnectionId) {
        self.0.iter_mut().flatten().for_each(|(link, _)| *link = name(*link));
    }
}

#[cfg(test)]
mod tests;
