//! [`Exchange`]: the offer/answer state machine of one attempt. One description operation is under
//! way at a time; what each state needs is in its variant.
//!
//! It issues the commands of an exchange. What an exchange means for the rest of the attempt (its
//! candidates, its deadlines, its phase) is the attempt's.

pub(crate) mod answering;
mod commands;
pub(crate) mod identity;
pub(crate) mod offering;
pub(crate) mod state;

use core::mem;

use self::identity::History;
use self::state::{Needed, OurOffer, OurStep, RestartReason, Sent, State, TheirOffer};
use crate::context::Context;
use crate::error::Ignored;
use crate::output::PeerCommand;
use crate::purpose::{CloseStep, Purpose};
use crate::time::{Timer, Timestamp};
use crate::types::{Description, LinkId, PeerId};

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
    pub(crate) fn is_stable(&self) -> bool {
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

    pub(crate) fn is_sending_offer(&self) -> bool {
        matches!(self.step(), Some(OurStep::Sending { .. }))
    }

    pub(crate) fn is_awaiting_answer(&self) -> bool {
        matches!(self.step(), Some(OurStep::AwaitingAnswer { .. }))
    }

    pub(crate) fn has_early_answer(&self) -> bool {
        matches!(self.step(), Some(OurStep::Sending { early_answer: Some(_), .. }))
    }

    /// The offer waits for the ICE servers.
    pub(crate) fn has_created_offer(&self) -> bool {
        matches!(self.step(), Some(OurStep::Created(_)))
    }

    /// The master's offer is being set or answered.
    pub(crate) fn is_answering(&self) -> bool {
        match &self.state {
            State::Theirs(TheirOffer::Unsent { .. }) => false,
            State::Theirs(_) => true,
            State::Stable
            | State::Ours(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => false,
        }
    }

    pub(crate) fn is_answer_unsent(&self) -> bool {
        matches!(self.state, State::Theirs(TheirOffer::Unsent { .. }))
    }

    /// Why the open ICE restart is run; it was begun and is not settled.
    pub(crate) fn open_restart(&self) -> Option<RestartReason> {
        match &self.state {
            State::Ours(ours) => ours.restart,
            State::RollingBack { restart, .. } => *restart,
            State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::Replacing
            | State::Unknown => None,
        }
    }

    pub(crate) fn is_restarting(&self) -> bool {
        self.open_restart().is_some()
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
    pub(crate) fn can_restart_on(&self, open: Option<LinkId>) -> bool {
        open.is_some() && self.needed.unsent_on != open
    }

    /// Since when the master could answer the open restart, which this connection carried.
    pub(crate) fn restart_awaited_since(&self, open: Option<LinkId>) -> Option<Timestamp> {
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
        match &mut self.state {
            State::Ours(OurOffer { restart, .. }) | State::RollingBack { restart, .. } => {
                *restart = None;
            }
            State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::Replacing
            | State::Unknown => {}
        }
    }

    /// Connectivity is back, and no restart is open: one that is needed runs only if it was
    /// requested and can begin (contract, N1).
    pub(crate) fn forget_needless_restart(&mut self, open: Option<LinkId>) {
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
        match mem::take(&mut self.state) {
            State::Ours(mut ours) => match ours.step {
                OurStep::AwaitingAnswer { .. } | OurStep::Unsent { .. } => {
                    ours.abandoned = true;
                    self.state = State::Ours(ours);
                    true
                }
                OurStep::RefreshingServers | OurStep::Created(_) => false,
                OurStep::SettingServers(_) => {
                    self.state = State::SettingServers;
                    false
                }
                OurStep::Creating | OurStep::SettingLocal(_) | OurStep::Sending { .. } => {
                    ours.abandoned = true;
                    self.state = State::Ours(ours);
                    false
                }
                // It is answered: if it fails, no further restart was requested.
                OurStep::ApplyingLocal(_) | OurStep::SettingRemote(_) => {
                    ours.abandoned = was_open;
                    self.state = State::Ours(ours);
                    false
                }
            },
            State::RollingBack { restart, .. } => {
                self.state = State::RollingBack { restart, abandoned: was_open };
                false
            }
            other @ (State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::Replacing
            | State::Unknown) => {
                self.state = other;
                false
            }
        }
    }

    pub(crate) fn roll_back(&mut self, cx: &mut Context, peer: PeerId) {
        let (restart, abandoned) = self.take_open();
        self.state = State::RollingBack { restart, abandoned };
        cx.disarm(Timer::Answer);
        cx.ask_peer(Purpose::Rollback, PeerCommand::Rollback { peer });
    }

    /// The stack is stable again. Returns whether the exchange was a restart or cancelled by this
    /// side, so that its failure is no news.
    pub(crate) fn on_rolled_back(&mut self) -> bool {
        let (restart, abandoned) = self.take_open();
        restart.is_some() || abandoned
    }

    /// Whether the description could be taken back is unknown.
    pub(crate) fn on_state_unknown(&mut self, cx: &mut Context) {
        self.state = State::Unknown;
        self.needed.negotiation = false;
        if self.pending_remote_offer.take().is_some() {
            cx.ignore(Ignored::Superseded);
        }
    }

    /// Ends the open exchange; a state that is unknown stays so.
    fn take_open(&mut self) -> (Option<RestartReason>, bool) {
        match mem::take(&mut self.state) {
            State::Ours(ours) => (ours.restart, ours.abandoned),
            State::RollingBack { restart, abandoned } => (restart, abandoned),
            State::Unknown => {
                self.state = State::Unknown;
                (None, false)
            }
            State::Stable | State::Theirs(_) | State::SettingServers | State::Replacing => {
                (None, false)
            }
        }
    }

    // Another peer connection.

    pub(crate) fn is_replacing(&self) -> bool {
        self.state == State::Replacing
    }

    pub(crate) fn replace_step(&mut self, cx: &mut Context, peer: PeerId, step: CloseStep) {
        self.state = State::Replacing;
        cx.ask_peer(Purpose::Replace(step), step.command(peer));
    }

    pub(crate) fn begin_connection(&mut self) {
        self.history.begin_connection();
        self.forget_restart();
        self.state = State::Stable;
    }
}

#[cfg(test)]
mod tests;
