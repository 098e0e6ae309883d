//! [`Closing`]: closes what an attempt opened, in the contract's order (N22).

use alloc::vec::Vec;

use crate::attempt::Attempt;
use crate::context::Context;
use crate::error::{EndReason, Failure, FailureCode};
use crate::evidence::AttemptEnd;
use crate::output::{Event, SignalingCommand};
use crate::phase::Phase;
use crate::policy::Then;
use crate::purpose::{CloseStep, Purpose};
use crate::time::Timestamp;
use crate::types::{ClientId, ConnectionId, PeerId};

/// An attempt that is being closed: what its report needs, and how far the closing is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Closing {
    pub(crate) attempt: u32,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) started: Timestamp,
    pub(crate) end: AttemptEnd,
    pub(crate) ended: Timestamp,
    pub(crate) then: Then,
    pub(crate) peer: PeerId,
    /// The peer connection's step under way; signaling goes before the first.
    pub(crate) step: Option<CloseStep>,
    /// Completions that come before the next step.
    pub(crate) waiting: usize,
}

impl Closing {
    /// Begins to close an attempt that ended like this.
    ///
    /// A close overtakes whatever is under way; the completions of that are expected and mean
    /// nothing. But what is being closed already goes on from where it is: a signaling connection
    /// that was replaced, and the step that a peer connection is at which is replaced. Nothing is
    /// closed twice (N23), and nothing stays open behind the attempt (N15).
    pub(crate) fn begin(cx: &mut Context, attempt: Attempt, end: AttemptEnd, then: Then) -> Self {
        cx.disarm_attempt();
        let step = cx.in_flight.purposes().find_map(|purpose| purpose.replaces());
        let deadline = cx.now + cx.close_share();
        cx.in_flight.retain_as(deadline, |purpose| purpose.is_closing().then_some(Purpose::Close));
        let connections: Vec<ConnectionId> = attempt.connections.all().collect();
        let waiting = connections.len() + cx.in_flight.len();
        cx.phase_changed(attempt.stage.phase(), Phase::Closing);
        for link in connections {
            cx.ask_signaling(Purpose::Close, SignalingCommand::Disconnect { link });
        }
        Self {
            attempt: attempt.number,
            client_id: attempt.connections.client_id,
            started: attempt.started,
            end,
            ended: cx.now,
            then,
            peer: attempt.peer.id,
            step,
            waiting,
        }
    }

    /// The session ends with it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.then, Then::End(_))
    }

    /// The application closes the session: no attempt follows.
    pub(crate) fn on_close(&mut self) {
        if !self.is_last() {
            self.then = Then::End(EndReason::Closed);
        }
    }

    /// A device that slept while it closed goes straight on, if it goes on at all.
    pub(crate) fn on_resumed(&mut self, cx: &Context) {
        if let Then::Retry(pause) = &mut self.then {
            *pause = cx.policy.throttled_until.saturating_since(cx.now);
        }
    }

    pub(crate) fn on_step_completed(&mut self, cx: &mut Context, failure: Option<Failure>) {
        if let Some(failure) = failure.filter(|failure| failure.code != FailureCode::Cancelled) {
            cx.tell(Event::CloseStepFailed(failure));
        }
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Takes the next step, once what is under way is done. Returns whether everything is closed.
    pub(crate) fn advance(&mut self, cx: &mut Context) -> bool {
        if self.waiting > 0 {
            return false;
        }
        let next = match self.step {
            None => Some(CloseStep::StopTransceivers),
            Some(step) => step.next(),
        };
        let Some(step) = next else { return true };
        self.step = Some(step);
        self.waiting = 1;
        cx.ask_peer(Purpose::Close, step.command(self.peer));
        false
    }
}

#[cfg(test)]
mod tests;
