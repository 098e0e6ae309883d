//! Offers of the master: set and answered, and this side's that yield to them (contract, N7 and
//! N8). Answers to this side's offers are in `offering.rs`.

use core::mem;

use super::Exchange;
use super::commands::{set_local, set_remote};
use super::identity::Identity;
use super::state::{OurStep, State, TheirOffer};
use crate::context::Context;
use crate::output::PeerCommand;
use crate::purpose::Purpose;
use crate::types::{Description, PeerId, SdpKind};

/// What the master's offer that waits does to our open exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yielded {
    /// The running operation has to complete first.
    Wait,
    /// Nothing is in the way any more.
    Ready,
    /// The same, and candidates were held for a restart that was not applied.
    ReadyAfterRestart,
    /// Ours is set: it is rolled back first.
    RollBack,
}

impl Exchange {
    /// Whether a local offer is set or about to be, which an impolite peer insists on.
    pub(crate) fn has_our_offer(&self) -> bool {
        self.step().is_some_and(|step| match step {
            OurStep::SettingLocal(_)
            | OurStep::Unsent { .. }
            | OurStep::Sending { .. }
            | OurStep::AwaitingAnswer { .. } => true,
            OurStep::RefreshingServers
            | OurStep::Creating
            | OurStep::Created(_)
            | OurStep::SettingServers(_)
            | OurStep::ApplyingLocal(_)
            | OurStep::SettingRemote(_) => false,
        })
    }

    /// Whether this offer of the master's was answered, or waits already.
    pub(crate) fn knows_offer(&self, offer: &Description) -> bool {
        let digest = offer.sdp.digest();
        let pending = self.pending_remote_offer.as_ref().map(|pending| pending.sdp.digest());
        self.history.answered == Some(digest) || pending == Some(digest)
    }

    /// The master's offer waits: ours yields to it, where no operation is running.
    pub(crate) fn yield_to_pending_offer(&mut self) -> Yielded {
        let ours = match &self.state {
            State::Stable => return Yielded::Ready,
            State::Ours(ours) => ours,
            State::Theirs(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => return Yielded::Wait,
        };
        let restart = ours.restart;
        let next = match &ours.step {
            OurStep::Created(_) => Yielded::Ready,
            OurStep::Unsent { draft, .. } if draft.is_unapplied => Yielded::ReadyAfterRestart,
            OurStep::AwaitingAnswer { unapplied: Some(_), .. } => Yielded::ReadyAfterRestart,
            OurStep::Unsent { .. } | OurStep::AwaitingAnswer { .. } => Yielded::RollBack,
            OurStep::RefreshingServers
            | OurStep::Creating
            | OurStep::SettingServers(_)
            | OurStep::SettingLocal(_)
            | OurStep::Sending { .. }
            | OurStep::ApplyingLocal(_)
            | OurStep::SettingRemote(_) => return Yielded::Wait,
        };
        // What our offer was for is needed again afterwards.
        if let Some(reason) = restart {
            self.needed.restart_again(reason);
        } else if !self.history.has_answers() && self.history.remote.is_none() {
            self.needed.yielded = true;
        } else {
            self.needed.negotiation = true;
        }
        if next != Yielded::RollBack {
            self.move_to(State::Stable);
        } else if let State::Ours(ours) = &mut self.state {
            ours.restart = None;
        }
        next
    }

    /// Sets the master's offer that waits.
    pub(crate) fn set_offer(&self, cx: &mut Context, peer: PeerId, offer: Description) {
        set_remote(cx, peer, SdpKind::Offer, offer);
    }

    /// Takes the master's offer that waits, to be set next.
    pub(crate) fn take_pending_offer(&mut self) -> Option<Description> {
        let offer = self.pending_remote_offer.take()?;
        self.history.answered = Some(offer.sdp.digest());
        self.move_to(State::Theirs(TheirOffer::Setting(Identity::of(&offer.facts))));
        Some(offer)
    }

    pub(crate) fn create_answer(&self, cx: &mut Context, peer: PeerId) {
        cx.ask_peer(Purpose::CreateAnswer, PeerCommand::CreateAnswer { peer });
    }

    pub(crate) fn on_answer_created(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        answer: Description,
    ) {
        self.move_to(State::Theirs(TheirOffer::SettingAnswer(answer.clone())));
        set_local(cx, peer, SdpKind::Answer, answer);
    }

    /// Our answer was sent. Returns whether our first offer yielded to the master's.
    pub(crate) fn on_answer_sent(&mut self) -> bool {
        self.move_to(State::Stable);
        self.number += 1;
        mem::take(&mut self.needed.yielded)
    }

    /// The master's offer was refused, or our answer could not be sent: the stack is stable.
    pub(crate) fn drop_remote_offer(&mut self) {
        self.move_to(State::Stable);
    }
}
