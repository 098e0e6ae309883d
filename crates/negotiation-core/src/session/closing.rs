//! Ending an attempt in the contract's order (N22), and then retrying or ending the session.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Purpose, Session};
use crate::error::{EndReason, Failure, FailureCode};
use crate::evidence::{AttemptEnd, AttemptReport, Outcome};
use crate::output::{Event, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::time::{Timer, Timestamp};
use crate::types::PeerId;

/// One step of closing a peer connection. One that fails or hangs stops none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CloseStep {
    StopTransceivers,
    RemoveTracks,
    ClosePeer,
}

impl CloseStep {
    /// Each of these has its share of the whole, and so has signaling, which goes first.
    pub(super) const COUNT: u32 = 4;

    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::StopTransceivers => Some(Self::RemoveTracks),
            Self::RemoveTracks => Some(Self::ClosePeer),
            Self::ClosePeer => None,
        }
    }

    pub(super) fn command(self, peer: PeerId) -> PeerCommand {
        match self {
            Self::StopTransceivers => PeerCommand::StopTransceivers { peer },
            Self::RemoveTracks => PeerCommand::RemoveTracks { peer },
            Self::ClosePeer => PeerCommand::Close { peer },
        }
    }
}

/// An attempt that is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Closing {
    end: AttemptEnd,
    ended: Timestamp,
    then: Then,
    /// The peer connection's step under way; signaling goes before the first.
    step: Option<CloseStep>,
    /// Completions that come before the next step.
    waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    /// Another attempt, after this pause.
    Retry(Duration),
    End(EndReason),
}

impl Closing {
    /// The session ends with it.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.then, Then::End(_))
    }

    /// Leaves out what only the report says.
    pub(super) fn forget_told(&mut self) {
        self.end = AttemptEnd::Closed;
        self.ended = Timestamp::ZERO;
    }
}

impl Session {
    /// Ends the attempt: decides what follows, and begins to close what it opened.
    pub(super) fn end_attempt(&mut self, end: AttemptEnd) {
        if !self.phase.has_attempt() {
            return;
        }
        tracing::info!(attempt = self.attempts, cause = %end, at = %self.now, "attempt over");
        let then = self.what_follows(&end);
        self.timers.disarm_all();
        self.restore_offline_deadline();
        // A close overtakes whatever is under way; its completions are expected and mean nothing.
        // But what is being closed already goes on from where it is: a link that was left, and the
        // step that a peer connection is at which is replaced. Nothing is closed twice (N23), and
        // nothing stays open behind the attempt (N15).
        let begun = self.in_flight.purposes().find_map(|purpose| purpose.replaces());
        let deadline = self.now + self.config.close_timeout / CloseStep::COUNT;
        self.in_flight.keep(deadline, |purpose| purpose.is_closing().then_some(Purpose::Close));
        let links: Vec<_> = self.attempt.iter().flat_map(|a| a.links.all()).collect();
        let waiting = links.len() + self.in_flight.len();
        self.closing = Some(Closing { end, ended: self.now, then, step: begun, waiting });
        self.set_phase(Phase::Closing);
        for link in links {
            self.ask_signaling(Purpose::Close, SignalingCommand::Disconnect { link });
        }
        self.go_on_closing();
    }

    fn what_follows(&mut self, end: &AttemptEnd) -> Then {
        let Some(attempt) = &self.attempt else { return Then::End(EndReason::Closed) };
        let reason = end.reason(&attempt.evidence);
        if *end == AttemptEnd::Closed || end.is_permanent() {
            return Then::End(reason);
        }
        if matches!(end, AttemptEnd::AnswerRefused(_)) && self.answers_refused > 1 {
            return Then::End(reason);
        }
        let pause = if *end == AttemptEnd::Resumed {
            Some(Duration::ZERO)
        } else if attempt.evidence.was_live && *end == AttemptEnd::NetworkChanged {
            // This device moved; the camera did not go away.
            Some(Duration::ZERO)
        } else if attempt.evidence.was_live {
            self.budget.lose_live(&self.config, self.now, &mut self.rng)
        } else if *end == AttemptEnd::NetworkChanged {
            self.budget.move_set_up(&self.config, self.now, &mut self.rng)
        } else {
            if end.is_throttle() {
                self.throttled_until = self.now + self.config.throttle_delay;
            }
            self.budget.spend(&self.config, self.now, end.is_throttle(), &mut self.rng)
        };
        pause.map_or(Then::End(reason), Then::Retry)
    }

    /// Something changed for the better while the session waits before its next attempt: that
    /// begins now, or as soon as the service's wish for fewer requests allows (contract, N16).
    pub(super) fn retry_now(&mut self) {
        if self.now >= self.throttled_until {
            return self.start_attempt();
        }
        if self.timers.at(Timer::RetryDelay).is_some_and(|at| at > self.throttled_until) {
            self.arm(Timer::RetryDelay, self.throttled_until);
        }
    }

    pub(super) fn close_while_closing(&mut self) {
        if let Some(closing) = &mut self.closing
            && matches!(closing.then, Then::Retry(_))
        {
            closing.then = Then::End(EndReason::Closed);
        }
    }

    /// A device that slept while it closed goes straight on, if it goes on at all.
    pub(super) fn resume_while_closing(&mut self) {
        if let Some(closing) = &mut self.closing
            && let Then::Retry(pause) = &mut closing.then
        {
            *pause = self.throttled_until.saturating_since(self.now);
        }
    }

    pub(super) fn on_close_step(&mut self, failure: Option<Failure>) {
        if let Some(failure) = failure
            && failure.code != FailureCode::Cancelled
        {
            self.tell(Event::CloseStepFailed(failure));
        }
        if let Some(closing) = &mut self.closing {
            closing.waiting = closing.waiting.saturating_sub(1);
        }
        self.go_on_closing();
    }

    /// Takes the next step, once what is under way is done.
    fn go_on_closing(&mut self) {
        let (Some(closing), Some(attempt)) = (&mut self.closing, &self.attempt) else { return };
        if closing.waiting > 0 {
            return;
        }
        let next = match closing.step {
            None => Some(CloseStep::StopTransceivers),
            Some(step) => step.next(),
        };
        let Some(step) = next else { return self.closed() };
        closing.step = Some(step);
        closing.waiting = 1;
        let command = step.command(attempt.peer);
        self.ask_peer(Purpose::Close, command);
    }

    /// Everything that the attempt opened is closed.
    fn closed(&mut self) {
        let (Some(closing), Some(attempt)) = (self.closing.take(), self.attempt.take()) else {
            return;
        };
        let mut evidence = attempt.evidence;
        evidence.count_ignored(core::mem::take(&mut self.ignored));
        let report = AttemptReport {
            attempt: attempt.number,
            client_id: attempt.client_id,
            started: attempt.started,
            ended: closing.ended,
            end: closing.end,
            evidence,
        };
        self.tell(Event::AttemptEnded(Box::new(report.clone())));
        self.remember(report);
        match closing.then {
            Then::End(reason) => self.end(reason),
            Then::Retry(Duration::ZERO) if !self.frozen => self.start_attempt(),
            Then::Retry(pause) => {
                let (attempt, at) = (self.attempts + 1, self.now + pause);
                self.set_phase(Phase::BackingOff);
                self.tell(Event::RetryScheduled { attempt, at });
                self.arm(Timer::RetryDelay, at);
            }
        }
    }

    /// The end of the session; nothing follows.
    pub(super) fn end(&mut self, reason: EndReason) {
        self.timers.disarm_all();
        self.in_flight.forget_all();
        self.offline_since = None;
        self.frozen = false;
        self.set_phase(Phase::Ended);
        // What was ignored after the last attempt.
        if let Some(last) = self.reports.back_mut() {
            last.evidence.count_ignored(core::mem::take(&mut self.ignored));
        }
        let outcome = Outcome {
            reason,
            was_live: self.was_live,
            attempts_total: self.attempts,
            attempts: self.reports.iter().cloned().collect(),
            lasted: self.now.saturating_since(self.opened),
        };
        self.tell(Event::Ended(Box::new(outcome)));
    }
}

#[cfg(test)]
mod tests;
