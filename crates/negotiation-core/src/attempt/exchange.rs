//! [`Exchange`]: the offer/answer state machine of one attempt. One description operation is under
//! way at a time; what each state needs is in its variant.
//!
//! It issues the commands of an exchange. What an exchange means for the rest of the attempt (its
//! candidates, its deadlines, its phase) is the attempt's.

pub(crate) mod answering;
mod commands;
pub(crate) mod identity;
mod map;
pub(crate) mod offering;
pub(crate) mod state;

use self::identity::History;
pub use self::map::ExchangeState;
use self::state::{Needed, OurOffer, OurStep, RestartReason, Sent, State};
use crate::context::Context;
use crate::error::Ignored;
use crate::output::PeerCommand;
use crate::purpose::{CloseStep, Purpose};
use crate::time::{Timer, Timestamp};
use crate::types::{ConnectionId, Description, PeerId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Exchange {
    /// Our exchanges begun and the master's completed.
    pub(crate) number: u32,
    pub(crate) state: State,
    /// The description that was sent last.
    pub(crate) sent: Option<Sent>,
    pub(crate) history: History,
    pub(crate) needed: Needed,
    /// The master's offer that waits for its turn.
    pub(crate) pending_remote_offer: Option<Description>,
}

impl Exchange {
    /// Where the exchange is.
    pub(crate) fn at(&self) -> ExchangeState {
        self.state.name()
    }

    /// Moves on along an edge of the map.
    fn move_to(&mut self, state: State) {
        let (from, to) = (self.at(), state.name());
        debug_assert!(from.may_become(to), "no edge of an exchange from {from} to {to}");
        self.state = state;
    }

    /// Moves our open offer on.
    fn step_to(&mut self, step: OurStep) {
        if let State::Ours(ours) = &self.state {
            let OurOffer { restart, abandoned, .. } = *ours;
            self.move_to(State::Ours(OurOffer { restart, abandoned, step }));
        }
    }

    /// No exchange is open, and none is about to be.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Stable | State::Unknown)
    }

    /// A later exchange fails without harm: media flows, or the first one succeeded.
    pub(crate) fn is_later(&self) -> bool {
        self.number > 1
    }

    fn ours(&self) -> Option<&OurOffer> {
        if let State::Ours(ours) = &self.state { Some(ours) } else { None }
    }

    fn step(&self) -> Option<&OurStep> {
        self.ours().map(|ours| &ours.step)
    }

    pub(crate) fn has_early_answer(&self) -> bool {
        matches!(self.step(), Some(OurStep::Sending { early_answer: Some(_), .. }))
    }

    /// The master's offer is being set or answered.
    pub(crate) fn is_answering(&self) -> bool {
        matches!(self.state, State::Theirs(_)) && self.at() != ExchangeState::AnswerUnsent
    }

    /// An ICE restart was begun and is not settled.
    pub(crate) fn is_restarting(&self) -> bool {
        let (restart, _) = self.reason();
        restart.is_some()
    }

    /// A restart is open or needed.
    pub(crate) fn has_restart(&self) -> bool {
        self.needed.restart.is_some() || self.is_restarting()
    }

    /// The open restart is for a loss alone, and its offer can still be kept from the master.
    pub(crate) fn is_restart_avoidable(&self) -> bool {
        self.ours().is_some_and(OurOffer::is_avoidable_restart)
            && self.needed.restart != Some(RestartReason::Requested)
    }

    /// The needed restart can begin on this connection.
    pub(crate) fn can_restart_on(&self, open: Option<ConnectionId>) -> bool {
        open.is_some() && self.needed.unsent_on != open
    }

    /// Since when the master could answer the open restart, which this connection carried.
    pub(crate) fn restart_awaited_since(&self, open: Option<ConnectionId>) -> Option<Timestamp> {
        let ours = self.ours().filter(|ours| ours.restart.is_some())?;
        let OurStep::AwaitingAnswer { awaited_since, .. } = &ours.step else { return None };
        let (carried, _) = self.sent.as_ref()?.carried?;
        (Some(carried) == open).then_some(*awaited_since)
    }

    /// Time without a network does not count as time to answer.
    pub(crate) fn hold(&mut self, passed: core::time::Duration) {
        if let State::Ours(OurOffer {
            step: OurStep::AwaitingAnswer { awaited_since, .. }, ..
        }) = &mut self.state
        {
            *awaited_since = *awaited_since + passed;
        }
    }

    // Requests.

    /// A new exchange is needed. Before the first offer is created there is nothing to add: that
    /// one carries what changed. Returns whether an exchange is possible.
    pub(crate) fn request_negotiation(&mut self) -> bool {
        let possible = self.state != State::Unknown;
        self.needed.negotiation |= possible && self.number > 0;
        possible
    }

    pub(crate) fn request_restart(&mut self, reason: RestartReason) {
        self.needed.has_own_deadline |= self.is_restarting();
        self.needed.restart_again(reason);
    }

    fn forget_restart(&mut self) {
        self.needed.restart = None;
        self.needed.has_own_deadline = false;
        if let State::Ours(OurOffer { restart, .. }) | State::RollingBack { restart, .. } =
            &mut self.state
        {
            *restart = None;
        }
    }

    /// Connectivity is back, and no restart is open: one that is needed runs only if it was
    /// requested and can begin (contract, N1).
    pub(crate) fn forget_needless_restart(&mut self, open: Option<ConnectionId>) {
        let requested = self.needed.restart == Some(RestartReason::Requested);
        if !requested || !self.can_restart_on(open) {
            self.forget_restart();
        }
    }

    /// Cancels the open restart and forgets the needed one: an offer that was never set is
    /// forgotten, one that is being handled is dropped when that completes. Returns whether an
    /// offer has to be taken back now.
    pub(crate) fn abandon_restart(&mut self) -> bool {
        let was_open = self.is_restarting();
        self.forget_restart();
        match &mut self.state {
            State::Ours(ours) => match &ours.step {
                OurStep::AwaitingAnswer { .. } | OurStep::Unsent { .. } => {
                    ours.abandoned = true;
                    return true;
                }
                OurStep::Creating | OurStep::SettingLocal(_) | OurStep::Sending { .. } => {
                    ours.abandoned = true;
                }
                // It is answered: if it fails, no further restart was requested.
                OurStep::ApplyingLocal(_) | OurStep::SettingRemote(_) => ours.abandoned = was_open,
                OurStep::RefreshingServers | OurStep::Created(_) => self.move_to(State::Stable),
                OurStep::SettingServers(_) => self.move_to(State::SettingServers),
            },
            State::RollingBack { abandoned, .. } => *abandoned = was_open,
            State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::Replacing
            | State::Unknown => {}
        }
        false
    }

    pub(crate) fn roll_back(&mut self, cx: &mut Context, peer: PeerId) {
        let (restart, abandoned) = self.reason();
        self.move_to(State::RollingBack { restart, abandoned });
        cx.disarm(Timer::Answer);
        cx.ask_peer(Purpose::Rollback, PeerCommand::Rollback { peer });
    }

    /// The stack is stable again. Returns whether the exchange was a restart or cancelled by this
    /// side, so that its failure is no news.
    pub(crate) fn on_rolled_back(&mut self) -> bool {
        let (restart, abandoned) = self.reason();
        self.move_to(State::Stable);
        restart.is_some() || abandoned
    }

    /// Whether the description could be taken back is unknown.
    pub(crate) fn on_state_unknown(&mut self, cx: &mut Context) {
        self.move_to(State::Unknown);
        self.needed.negotiation = false;
        if self.pending_remote_offer.take().is_some() {
            cx.ignore(Ignored::Superseded);
        }
    }

    /// What the open exchange is for, and whether it was cancelled.
    fn reason(&self) -> (Option<RestartReason>, bool) {
        match &self.state {
            State::Ours(OurOffer { restart, abandoned, .. })
            | State::RollingBack { restart, abandoned } => (*restart, *abandoned),
            State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::Replacing
            | State::Unknown => (None, false),
        }
    }

    // Another peer connection.

    pub(crate) fn replace_step(&mut self, cx: &mut Context, peer: PeerId, step: CloseStep) {
        if self.state != State::Replacing {
            self.move_to(State::Replacing);
        }
        cx.ask_peer(Purpose::Replace(step), step.command(peer));
    }

    pub(crate) fn begin_connection(&mut self) {
        self.history.begin_connection();
        self.forget_restart();
        self.move_to(State::Stable);
    }
}

#[cfg(test)]
mod tests;
