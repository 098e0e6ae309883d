//! Candidates on their way, in both directions (contract, N9 to N11).

use alloc::vec::Vec;

use super::{Purpose, Session};
use crate::error::{Failure, FailureKind, Ignored};
use crate::input::{CandidateRelease, Sender, Undecodable};
use crate::output::{Message, PeerCommand, SignalingCommand};
use crate::time::Timer;
use crate::types::Candidate;

impl Session {
    pub(super) fn on_candidate(&mut self, sender: Sender, body: Result<Candidate, Undecodable>) {
        if sender == Sender::Other {
            return self.ignore(Ignored::Foreign);
        }
        self.see_master();
        let Ok(candidate) = body else { return self.ignore(Ignored::Undecodable) };
        let (held_max, taken_max) = (self.config.candidates_max, self.config.candidates_taken_max);
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let is_end = candidate.is_end();
        match attempt.remote.take(candidate, held_max, taken_max) {
            Ok(now) => {
                let named = &mut attempt.evidence.remote_candidates;
                *named = named.saturating_add(u32::from(!is_end));
                if let Some(candidate) = now {
                    let command = PeerCommand::AddCandidate { peer, candidate };
                    self.ask_peer(Purpose::AddCandidate, command);
                }
            }
            Err(reason) => self.ignore(reason),
        }
    }

    /// Sends what is due of our own candidates, and arms the wake-up for the rest.
    pub(super) fn send_candidates(&mut self) {
        let (now, per_second) = (self.now, self.config.candidates_per_second);
        let mut due = Vec::new();
        let Some(attempt) = &mut self.attempt else { return };
        let Some(link) = attempt.links.open.filter(|_| self.closing.is_none()) else {
            return self.timers.disarm(Timer::CandidatePacing);
        };
        attempt.local.resend_on(link);
        while let Some(candidate) = attempt.local.pop(now, per_second) {
            due.push(candidate);
        }
        match attempt.local.next_at(now, per_second) {
            Some(at) => self.timers.arm(Timer::CandidatePacing, at),
            None => self.timers.disarm(Timer::CandidatePacing),
        }
        for candidate in due {
            let message = Message::Candidate(candidate.clone());
            let Some(attempt) = &mut self.attempt else { return };
            let slot = attempt.transit.begin(link, candidate);
            let command = SignalingCommand::Send { link, message };
            self.ask_signaling(Purpose::SendCandidate(slot), command);
        }
    }

    /// A local candidate was sent, or goes out on the next link (contract, N11).
    pub(super) fn on_candidate_sent(&mut self, slot: usize, failure: Option<Failure>) {
        let waiting_max = self.config.candidates_max;
        let Some(attempt) = &mut self.attempt else { return };
        let Some((link, candidate)) = attempt.transit.end(slot) else { return };
        // Without one the peer connection that it belongs to was replaced.
        let (Some(failure), Some(candidate)) = (failure, candidate) else { return };
        let kept = failure.kind() != FailureKind::Permanent
            && attempt.local.put_back(link, candidate, waiting_max).is_ok();
        // A close of the link is expected, and the next one carries it.
        if !kept || failure.kind() != FailureKind::Cancelled {
            self.ignore(Ignored::Unsent);
        }
    }

    /// A later exchange failed: what was held for its description is dropped, or was for the one
    /// in use.
    pub(super) fn reopen_remote(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let (held, dropped) = attempt.remote.reopen();
        for candidate in held {
            self.ask_peer(Purpose::AddCandidate, PeerCommand::AddCandidate { peer, candidate });
        }
        self.ignore_times(Ignored::OldGeneration, dropped);
    }

    /// Our candidates may go from a moment on that the peer stack names.
    pub(super) fn release_candidates(&mut self, moment: CandidateRelease) {
        if let Some(attempt) = &mut self.attempt
            && attempt.traits.is_some_and(|traits| traits.candidates == moment)
        {
            attempt.local.release();
        }
    }
}
