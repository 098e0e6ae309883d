//! Candidates on their way, in both directions (contract, N9 to N11).

use alloc::vec::Vec;

use super::{Purpose, Session};
use crate::error::Ignored;
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
                attempt.evidence.remote_candidates += u32::from(!is_end);
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
        while let Some(candidate) = attempt.local.pop(now, per_second) {
            due.push(candidate);
        }
        match attempt.local.next_at(now, per_second) {
            Some(at) => self.timers.arm(Timer::CandidatePacing, at),
            None => self.timers.disarm(Timer::CandidatePacing),
        }
        for candidate in due {
            let message = Message::Candidate(candidate);
            self.ask_signaling(Purpose::SendCandidate, SignalingCommand::Send { link, message });
        }
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
