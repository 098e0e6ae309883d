//! Offers of this side: created, set, sent, and answered by the master.

use core::mem;

use super::commands::{set_local, set_remote};
use super::identity::Identity;
use super::state::{Draft, OurOffer, OurStep, Sent, State, TheirOffer};
use super::{Exchange, ExchangeState};
use crate::context::Context;
use crate::error::Ignored;
use crate::output::{Message, PeerCommand, SignalingCommand};
use crate::purpose::Purpose;
use crate::time::Timestamp;
use crate::types::{ConnectionId, Description, PeerId, SdpKind};

/// What an exchange that can begin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Nothing,
    Offer,
    Restart {
        has_own_deadline: bool,
    },
    /// A negotiation that is needed cannot be sent any more.
    Undeliverable,
}

/// How an answer fits the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFit {
    Awaited,
    Duplicate,
    /// It came before the completion of our own send, and is kept.
    Early,
    /// Another one came early before it.
    SecondEarly,
    /// The offer has its answer already.
    Second,
    Unsolicited,
}

/// What follows a local description that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalSet {
    /// Nothing by itself.
    Done,
    /// The exchange was cancelled.
    RollBack,
    /// The answer that waited for the offer to be set.
    Answer(Description),
}

impl Exchange {
    /// Begins the first exchange, or one that is needed. `up`: there is a connection to restart.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Context,
        peer: PeerId,
        open: Option<ConnectionId>,
        up: bool,
    ) -> Begun {
        let first = self.number == 0;
        // A restart that was requested in the set-up waits until there is a connection.
        let restart = self.needed.restart.filter(|_| up);
        let negotiation = self.needed.negotiation;
        if !first && !negotiation && restart.is_none() {
            return Begun::Nothing;
        }
        // A later exchange needs the connection first; a restart's deadline runs meanwhile.
        let restart_alone = restart.is_some() && !negotiation;
        if open.is_none() && !first {
            return if negotiation { Begun::Undeliverable } else { Begun::Nothing };
        }
        if restart_alone && open.is_some() && !self.can_restart_on(open) {
            return Begun::Nothing;
        }
        self.number += 1;
        self.needed.negotiation = false;
        if restart.is_none() {
            self.move_to(State::Ours(OurOffer::new(None, OurStep::Creating)));
            cx.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: false });
            return Begun::Offer;
        }
        self.needed.restart = None;
        self.move_to(State::Ours(OurOffer::new(restart, OurStep::RefreshingServers)));
        Begun::Restart { has_own_deadline: mem::take(&mut self.needed.has_own_deadline) }
    }

    /// The ICE servers of a restart are here, or cannot be had.
    pub(crate) fn on_servers_refreshed(&mut self, cx: &mut Context, peer: PeerId) {
        if self.at() == ExchangeState::RefreshingServers {
            self.step_to(OurStep::Creating);
            cx.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: true });
        }
    }

    pub(crate) fn on_offer_created(&mut self, cx: &mut Context, offer: Description) {
        if self.number == 1 {
            cx.evidence.video_offered = offer.facts.video_codecs.clone();
        }
        if self.is_abandoned() {
            self.move_to(State::Stable);
        } else {
            self.step_to(OurStep::Created(offer));
        }
    }

    fn is_abandoned(&self) -> bool {
        self.ours().is_some_and(|ours| ours.abandoned)
    }

    fn created_offer(&self) -> Option<Description> {
        if let Some(OurStep::Created(offer)) = self.step() { Some(offer.clone()) } else { None }
    }

    /// The ICE servers are being given to the peer connection, before the created offer or before
    /// the master's.
    pub(crate) fn setting_servers(&mut self) {
        match self.created_offer() {
            Some(offer) => self.step_to(OurStep::SettingServers(offer)),
            None => self.move_to(State::SettingServers),
        }
    }

    /// The ICE servers are set; or others are, which were refreshed at the service's request.
    pub(crate) fn on_servers_set(&mut self) {
        if self.state == State::SettingServers {
            self.move_to(State::Stable);
        } else if let Some(OurStep::SettingServers(offer)) = self.step() {
            self.step_to(OurStep::Created(offer.clone()));
        }
    }

    /// Sets the created offer locally.
    pub(crate) fn set_local_offer(&mut self, cx: &mut Context, peer: PeerId) {
        if let Some(offer) = self.created_offer() {
            self.step_to(OurStep::SettingLocal(offer.clone()));
            set_local(cx, peer, SdpKind::Offer, offer);
        }
    }

    /// Does not apply the restart offer before it is answered: this stack would drop the working
    /// candidate pair.
    pub(crate) fn leave_unapplied(&mut self) {
        if let Some(offer) = self.created_offer() {
            let draft = Draft { offer, is_unapplied: true };
            self.step_to(OurStep::Unsent { draft, failed_on: None });
        }
    }

    /// A local description is set. Returns what follows.
    pub(crate) fn on_local_set(&mut self) -> LocalSet {
        if let State::Theirs(TheirOffer::SettingAnswer(answer)) = &self.state {
            let unsent = TheirOffer::Unsent { answer: answer.clone(), failed_on: None };
            self.move_to(State::Theirs(unsent));
        } else if let Some(OurStep::ApplyingLocal(answer)) = self.step() {
            return LocalSet::Answer(answer.clone());
        } else if let Some(OurStep::SettingLocal(offer)) = self.step() {
            let draft = Draft { offer: offer.clone(), is_unapplied: false };
            self.step_to(OurStep::Unsent { draft, failed_on: None });
            if self.is_abandoned() {
                return LocalSet::RollBack;
            }
        }
        LocalSet::Done
    }

    /// Sends the description that waits for a connection, if one is open that has not failed to.
    pub(crate) fn send(&mut self, cx: &mut Context, open: Option<ConnectionId>) {
        let Some(link) = open else { return };
        if let Some(OurStep::Unsent { draft, failed_on }) = self.step()
            && *failed_on != open
        {
            let draft = draft.clone();
            let message = Message::Offer(draft.offer.clone());
            self.step_to(OurStep::Sending { draft, early_answer: None });
            self.send_on(cx, link, Purpose::SendOffer, SdpKind::Offer, message);
        } else if let State::Theirs(TheirOffer::Unsent { answer, failed_on }) = &self.state
            && *failed_on != open
        {
            let answer = answer.clone();
            self.move_to(State::Theirs(TheirOffer::Sending(answer.clone())));
            self.send_on(cx, link, Purpose::SendAnswer, SdpKind::Answer, Message::Answer(answer));
        }
    }

    fn send_on(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        purpose: Purpose,
        kind: SdpKind,
        message: Message,
    ) {
        let ticket = cx.ask_signaling(purpose, SignalingCommand::Send { link, message });
        self.sent = Some(Sent { ticket, carried: Some((link, kind)) });
    }

    /// Whether a description is being sent on this connection.
    pub(crate) fn is_sending_on(&self, cx: &Context, link: ConnectionId) -> bool {
        let carried = self.sent.as_ref().and_then(|sent| sent.carried);
        carried.is_some_and(|(on, _)| on == link)
            && (cx.is_in_flight(Purpose::SendOffer) || cx.is_in_flight(Purpose::SendAnswer))
    }

    /// Keeps a description that a connection failed to send for another one, which is open already
    /// or being opened. Returns `false` when there is no other.
    pub(crate) fn send_again(&mut self, has_other_than: impl Fn(ConnectionId) -> bool) -> bool {
        let carried = self.sent.as_mut().and_then(|sent| sent.carried.take());
        let Some((link, _)) = carried else { return false };
        if !has_other_than(link) {
            return false;
        }
        let failed_on = Some(link);
        if let Some(OurStep::Sending { draft, .. }) = self.step() {
            let draft = draft.clone();
            let wanted = !self.is_abandoned();
            if wanted {
                self.step_to(OurStep::Unsent { draft, failed_on });
            }
            wanted
        } else if let State::Theirs(TheirOffer::Sending(answer)) = &self.state {
            let unsent = TheirOffer::Unsent { answer: answer.clone(), failed_on };
            self.move_to(State::Theirs(unsent));
            true
        } else {
            false
        }
    }

    /// The connection that failed to send the description which waits.
    pub(crate) fn failed_on(&self) -> Option<ConnectionId> {
        if let State::Ours(OurOffer { step: OurStep::Unsent { failed_on, .. }, .. })
        | State::Theirs(TheirOffer::Unsent { failed_on, .. }) = &self.state
        {
            *failed_on
        } else {
            None
        }
    }

    /// The offer was sent. Returns the answer that came before this was known, and whether the
    /// exchange was cancelled meanwhile.
    pub(crate) fn on_offer_sent(&mut self, now: Timestamp) -> (Option<Description>, bool) {
        let Some(OurStep::Sending { draft, early_answer }) = self.step() else {
            return (None, false);
        };
        let early = early_answer.clone();
        let unapplied = draft.is_unapplied.then(|| draft.offer.clone());
        self.step_to(OurStep::AwaitingAnswer { unapplied, sent_at: now, awaited_since: now });
        (early, self.is_abandoned())
    }

    /// A later offer was not sent, or the service refused it: a restart waits for the next
    /// connection, since the same one would refuse it again and again (contract, 28).
    pub(crate) fn on_offer_unsent(&mut self, cx: &mut Context, open: Option<ConnectionId>) {
        let State::Ours(ours) = &mut self.state else { return };
        if let Some(reason) = ours.restart {
            self.needed.restart_again(reason);
            self.needed.unsent_on = open;
        }
        if let OurStep::Sending { early_answer, .. } = &mut ours.step
            && early_answer.take().is_some()
        {
            cx.ignore(Ignored::Superseded);
        }
    }

    /// Forgets an offer that was never set. Returns `false` for one that has to be rolled back.
    pub(crate) fn drop_unapplied(&mut self) -> bool {
        let unapplied = match self.step() {
            Some(OurStep::Unsent { draft, .. } | OurStep::Sending { draft, .. }) => {
                draft.is_unapplied
            }
            Some(OurStep::AwaitingAnswer { unapplied, .. }) => unapplied.is_some(),
            Some(_) | None => false,
        };
        if unapplied {
            self.move_to(State::Stable);
        }
        unapplied
    }

    /// Finds what an answer is to the exchange; an early one is kept.
    pub(crate) fn fit(&mut self, answer: &Description) -> AnswerFit {
        let digest = answer.sdp.digest();
        if self.history.has_applied(digest) {
            return AnswerFit::Duplicate;
        }
        if self.at() == ExchangeState::AwaitingAnswer {
            return AnswerFit::Awaited;
        }
        if let State::Ours(OurOffer { step: OurStep::Sending { early_answer, .. }, .. }) =
            &mut self.state
        {
            return match early_answer {
                Some(early) if early.sdp.digest() == digest => AnswerFit::Duplicate,
                Some(_) => AnswerFit::SecondEarly,
                None => {
                    *early_answer = Some(answer.clone());
                    AnswerFit::Early
                }
            };
        }
        if self.history.has_answers() { AnswerFit::Second } else { AnswerFit::Unsolicited }
    }

    /// When the offer was sent that is being answered.
    pub(crate) fn sent_at(&self) -> Option<Timestamp> {
        if let Some(OurStep::AwaitingAnswer { sent_at, .. }) = self.step() {
            Some(*sent_at)
        } else {
            None
        }
    }

    /// Sets the accepted answer; before it the offer, if that is not set yet. Returns whether the
    /// offer is.
    pub(crate) fn apply(&mut self, cx: &mut Context, peer: PeerId, answer: Description) -> bool {
        if let Some(OurStep::AwaitingAnswer { unapplied: Some(offer), .. }) = self.step() {
            let offer = offer.clone();
            self.step_to(OurStep::ApplyingLocal(answer));
            set_local(cx, peer, SdpKind::Offer, offer);
            return true;
        }
        self.set_answer(cx, peer, answer);
        false
    }

    pub(crate) fn set_answer(&mut self, cx: &mut Context, peer: PeerId, answer: Description) {
        self.step_to(OurStep::SettingRemote(Identity::of(&answer.facts)));
        set_remote(cx, peer, SdpKind::Answer, answer);
    }

    /// The master's description is set. Returns whether it was an answer, which ends the exchange.
    pub(crate) fn on_remote_set(&mut self) -> bool {
        if let State::Theirs(TheirOffer::Setting(identity)) = &self.state {
            self.history.remote = Some(identity.clone());
            self.move_to(State::Theirs(TheirOffer::CreatingAnswer));
            return false;
        }
        if let Some(OurStep::SettingRemote(identity)) = self.step() {
            self.history.remote = Some(identity.clone());
            self.move_to(State::Stable);
        }
        true
    }
}
