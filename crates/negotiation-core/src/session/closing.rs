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

/// One step of closing. A step that fails or hangs stops none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CloseStep {
    Disconnect,
    StopTransceivers,
    RemoveTracks,
    ClosePeer,
}

impl CloseStep {
    /// Each step has its share of the whole.
    pub(super) const COUNT: u32 = 4;

    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::Disconnect => Some(Self::StopTransceivers),
            Self::StopTransceivers => Some(Self::RemoveTracks),
            Self::RemoveTracks => Some(Self::ClosePeer),
            Self::ClosePeer => None,
        }
    }
}

/// An attempt that is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Closing {
    end: AttemptEnd,
    ended: Timestamp,
    then: Then,
    /// Completions that the step under way still waits for.
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
        if self.closing.is_some() || self.attempt.is_none() {
            return;
        }
        tracing::info!(attempt = self.attempts, cause = %end, at = %self.now, "attempt over");
        let then = self.what_follows(&end);
        self.timers.disarm_all();
        self.restore_offline_deadline();
        // A close overtakes whatever is under way; its completions are expected and mean nothing.
        self.in_flight.forget_all();
        self.closing = Some(Closing { end, ended: self.now, then, waiting: 0 });
        self.set_phase(Phase::Closing);
        self.close_step(CloseStep::Disconnect);
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
        } else if attempt.evidence.was_live || *end == AttemptEnd::NetworkChanged {
            self.budget.lose_live(&self.config, self.now, &mut self.rng)
        } else {
            self.budget.spend(&self.config, self.now, end.is_throttle(), &mut self.rng)
        };
        pause.map_or(Then::End(reason), Then::Retry)
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
            *pause = Duration::ZERO;
        }
    }

    fn close_step(&mut self, step: CloseStep) {
        let Some(attempt) = &self.attempt else { return };
        let peer = attempt.peer;
        let links: Vec<_> = attempt.links.all().collect();
        let purpose = Purpose::Close(step);
        if let Some(closing) = &mut self.closing {
            closing.waiting = if step == CloseStep::Disconnect { links.len() } else { 1 };
        }
        match step {
            // With no link left the next step begins at once.
            CloseStep::Disconnect if links.is_empty() => {
                self.close_step(CloseStep::StopTransceivers);
            }
            CloseStep::Disconnect => {
                for link in links {
                    self.ask_signaling(purpose, SignalingCommand::Disconnect { link });
                }
            }
            CloseStep::StopTransceivers => {
                self.ask_peer(purpose, PeerCommand::StopTransceivers { peer });
            }
            CloseStep::RemoveTracks => self.ask_peer(purpose, PeerCommand::RemoveTracks { peer }),
            CloseStep::ClosePeer => self.ask_peer(purpose, PeerCommand::Close { peer }),
        }
    }

    pub(super) fn on_close_step(&mut self, step: CloseStep, failure: Option<Failure>) {
        if let Some(failure) = failure
            && failure.code != FailureCode::Cancelled
        {
            self.tell(Event::CloseStepFailed(failure));
        }
        if let Some(closing) = &mut self.closing {
            closing.waiting = closing.waiting.saturating_sub(1);
            if closing.waiting > 0 {
                return;
            }
        }
        match step.next() {
            Some(next) => self.close_step(next),
            None => self.closed(),
        }
    }

    /// Everything that the attempt opened is closed.
    fn closed(&mut self) {
        let (Some(closing), Some(attempt)) = (self.closing.take(), self.attempt.take()) else {
            return;
        };
        let mut evidence = attempt.evidence;
        evidence.ignored = core::mem::take(&mut self.ignored);
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
