//! Our offers: created, set, sent, and answered.

use core::mem;

use super::Exchange;
use super::commands::{set_local, set_remote};
use super::identity::Identity;
use super::state::{Draft, OurOffer, OurStep, Sent, State, TheirOffer};
use crate::context::Context;
use crate::error::Ignored;
use crate::output::{Message, PeerCommand, SignalingCommand};
use crate::purpose::Purpose;
use crate::time::Timestamp;
use crate::types::{Description, LinkId, PeerId, SdpKind};

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
        open: Option<LinkId>,
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
            self.state = State::Ours(OurOffer::new(None, OurStep::Creating));
            cx.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: false });
            return Begun::Offer;
        }
        self.needed.restart = None;
        self.state = State::Ours(OurOffer::new(restart, OurStep::RefreshingServers));
        Begun::Restart { has_own_deadline: mem::take(&mut self.needed.has_own_deadline) }
    }

    /// The ICE servers of a restart are here, or cannot be had.
    pub(crate) fn on_servers_refreshed(&mut self, cx: &mut Context, peer: PeerId) {
        if let State::Ours(OurOffer { step: step @ OurStep::RefreshingServers, .. }) =
            &mut self.state
        {
            *step = OurStep::Creating;
            cx.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: true });
        }
    }

    pub(crate) fn on_offer_created(&mut self, cx: &mut Context, offer: Description) {
        if self.number == 1 {
            cx.evidence.video_offered = offer.facts.video_codecs.clone();
        }
        let State::Ours(ours) = &mut self.state else { return };
        if ours.abandoned {
            self.state = State::Stable;
        } else {
            ours.step = OurStep::Created(offer);
        }
    }

    /// The ICE servers are being given to the peer connection, before the created offer or before
    /// the master's.
    pub(crate) fn setting_servers(&mut self) {
        match mem::take(&mut self.state) {
            State::Ours(OurOffer { step: OurStep::Created(offer), restart, abandoned }) => {
                let step = OurStep::SettingServers(offer);
                self.state = State::Ours(OurOffer { step, restart, abandoned });
            }
            State::Stable
            | State::Ours(_)
            | State::Theirs(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => self.state = State::SettingServers,
        }
    }

    pub(crate) fn on_servers_set(&mut self) {
        match mem::take(&mut self.state) {
            State::Ours(OurOffer { step: OurStep::SettingServers(offer), restart, abandoned }) => {
                let step = OurStep::Created(offer);
                self.state = State::Ours(OurOffer { step, restart, abandoned });
            }
            State::SettingServers => {}
            // Servers that were refreshed at the service's request.
            other @ (State::Stable
            | State::Ours(_)
            | State::Theirs(_)
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown) => self.state = other,
        }
    }

    /// Sets the created offer locally.
    pub(crate) fn set_local_offer(&mut self, cx: &mut Context, peer: PeerId) {
        let State::Ours(ours) = &mut self.state else { return };
        let OurStep::Created(offer) = &ours.step else { return };
        let offer = offer.clone();
        ours.step = OurStep::SettingLocal(offer.clone());
        set_local(cx, peer, SdpKind::Offer, offer);
    }

    /// Does not apply the restart offer before it is answered: this stack would drop the working
    /// candidate pair.
    pub(crate) fn leave_unapplied(&mut self) {
        let State::Ours(ours) = &mut self.state else { return };
        let OurStep::Created(offer) = &ours.step else { return };
        let draft = Draft { offer: offer.clone(), is_unapplied: true };
        ours.step = OurStep::Unsent { draft, failed_on: None };
    }

    /// A local description is set. Returns the answer that is to be set next, and whether the
    /// offer has to be rolled back.
    pub(crate) fn on_local_set(&mut self) -> LocalSet {
        match mem::take(&mut self.state) {
            State::Ours(ours) => self.on_local_offer_set(ours),
            State::Theirs(TheirOffer::SettingAnswer(answer)) => {
                self.state = State::Theirs(TheirOffer::Unsent { answer, failed_on: None });
                LocalSet::Done
            }
            other @ (State::Stable
            | State::Theirs(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown) => {
                self.state = other;
                LocalSet::Done
            }
        }
    }

    fn on_local_offer_set(&mut self, mut ours: OurOffer) -> LocalSet {
        let mut next = LocalSet::Done;
        ours.step = match ours.step {
            OurStep::SettingLocal(offer) => {
                if ours.abandoned {
                    next = LocalSet::RollBack;
                }
                let draft = Draft { offer, is_unapplied: false };
                OurStep::Unsent { draft, failed_on: None }
            }
            OurStep::ApplyingLocal(answer) => {
                next = LocalSet::Answer(answer.clone());
                OurStep::ApplyingLocal(answer)
            }
            other @ (OurStep::RefreshingServers
            | OurStep::Creating
            | OurStep::Created(_)
            | OurStep::SettingServers(_)
            | OurStep::Unsent { .. }
            | OurStep::Sending { .. }
            | OurStep::AwaitingAnswer { .. }
            | OurStep::SettingRemote(_)) => other,
        };
        self.state = State::Ours(ours);
        next
    }

    /// Sends the description that waits for a connection, if one is open that has not failed to.
    pub(crate) fn send(&mut self, cx: &mut Context, open: Option<LinkId>) {
        let Some(on) = open else { return };
        match &mut self.state {
            State::Ours(ours) => {
                if let OurStep::Unsent { draft, failed_on } = &ours.step
                    && *failed_on != open
                {
                    let draft = draft.clone();
                    let message = Message::Offer(draft.offer.clone());
                    ours.step = OurStep::Sending { draft, early_answer: None };
                    self.send_on(cx, on, Purpose::SendOffer, SdpKind::Offer, message);
                }
            }
            State::Theirs(theirs) => {
                if let TheirOffer::Unsent { answer, failed_on } = theirs
                    && *failed_on != open
                {
                    let answer = answer.clone();
                    *theirs = TheirOffer::Sending(answer.clone());
                    let message = Message::Answer(answer);
                    self.send_on(cx, on, Purpose::SendAnswer, SdpKind::Answer, message);
                }
            }
            State::Stable
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => {}
        }
    }

    fn send_on(
        &mut self,
        cx: &mut Context,
        link: LinkId,
        purpose: Purpose,
        kind: SdpKind,
        message: Message,
    ) {
        let ticket = cx.ask_signaling(purpose, SignalingCommand::Send { link, message });
        self.sent = Some(Sent { ticket, carried: Some((link, kind)) });
    }

    /// Whether a description is being sent on this connection.
    pub(crate) fn is_sending_on(&self, cx: &Context, link: LinkId) -> bool {
        let carried = self.sent.as_ref().and_then(|sent| sent.carried);
        carried.is_some_and(|(on, _)| on == link)
            && (cx.is_in_flight(Purpose::SendOffer) || cx.is_in_flight(Purpose::SendAnswer))
    }

    /// Keeps a description that a connection failed to send for another one, which is open already
    /// or being opened. Returns `false` when there is no other.
    pub(crate) fn send_again(&mut self, has_other_than: impl Fn(LinkId) -> bool) -> bool {
        let carried = self.sent.as_mut().and_then(|sent| sent.carried.take());
        let Some((link, _)) = carried else { return false };
        if !has_other_than(link) {
            return false;
        }
        let failed_on = Some(link);
        match &mut self.state {
            State::Ours(OurOffer { abandoned: false, step, .. }) => {
                let OurStep::Sending { draft, .. } = step else { return false };
                *step = OurStep::Unsent { draft: draft.clone(), failed_on };
                true
            }
            State::Theirs(theirs) => {
                let TheirOffer::Sending(answer) = theirs else { return false };
                *theirs = TheirOffer::Unsent { answer: answer.clone(), failed_on };
                true
            }
            State::Ours(_)
            | State::Stable
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => false,
        }
    }

    /// The connection that failed to send the description which waits.
    pub(crate) fn failed_on(&self) -> Option<LinkId> {
        match &self.state {
            State::Ours(OurOffer { step: OurStep::Unsent { failed_on, .. }, .. })
            | State::Theirs(TheirOffer::Unsent { failed_on, .. }) => *failed_on,
            State::Stable
            | State::Ours(_)
            | State::Theirs(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown => None,
        }
    }

    /// The offer was sent. Returns the answer that came before this was known, and whether the
    /// exchange was cancelled meanwhile.
    pub(crate) fn on_offer_sent(&mut self, now: Timestamp) -> (Option<Description>, bool) {
        let State::Ours(ours) = &mut self.state else { return (None, false) };
        let OurStep::Sending { draft, early_answer } = &mut ours.step else { return (None, false) };
        let early = early_answer.take();
        let unapplied = draft.is_unapplied.then(|| draft.offer.clone());
        ours.step = OurStep::AwaitingAnswer { unapplied, sent_at: now, awaited_since: now };
        (early, ours.abandoned)
    }

    /// A later offer was not sent, or the service refused it: a restart waits for the next
    /// connection, since the same one would refuse it again and again (contract, 28).
    pub(crate) fn on_offer_unsent(&mut self, cx: &mut Context, open: Option<LinkId>) {
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
        let State::Ours(ours) = &self.state else { return false };
        let unapplied = match &ours.step {
            OurStep::Unsent { draft, .. } | OurStep::Sending { draft, .. } => draft.is_unapplied,
            OurStep::AwaitingAnswer { unapplied, .. } => unapplied.is_some(),
            OurStep::RefreshingServers
            | OurStep::Creating
            | OurStep::Created(_)
            | OurStep::SettingServers(_)
            | OurStep::SettingLocal(_)
            | OurStep::ApplyingLocal(_)
            | OurStep::SettingRemote(_) => false,
        };
        if unapplied {
            self.state = State::Stable;
        }
        unapplied
    }

    /// Finds what an answer is to the exchange; an early one is kept.
    pub(crate) fn fit(&mut self, answer: &Description) -> AnswerFit {
        let digest = answer.sdp.digest();
        if self.history.has_applied(digest) {
            return AnswerFit::Duplicate;
        }
        if let State::Ours(ours) = &mut self.state {
            match &mut ours.step {
                OurStep::AwaitingAnswer { .. } => return AnswerFit::Awaited,
                OurStep::Sending { early_answer, .. } => {
                    return match early_answer {
                        Some(early) if early.sdp.digest() == digest => AnswerFit::Duplicate,
                        Some(_) => AnswerFit::SecondEarly,
                        None => {
                            *early_answer = Some(answer.clone());
                            AnswerFit::Early
                        }
                    };
                }
                OurStep::RefreshingServers
                | OurStep::Creating
                | OurStep::Created(_)
                | OurStep::SettingServers(_)
                | OurStep::SettingLocal(_)
                | OurStep::Unsent { .. }
                | OurStep::ApplyingLocal(_)
                | OurStep::SettingRemote(_) => {}
            }
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
        let State::Ours(ours) = &mut self.state else { return false };
        if let OurStep::AwaitingAnswer { unapplied, .. } = &mut ours.step
            && let Some(offer) = unapplied.take()
        {
            ours.step = OurStep::ApplyingLocal(answer);
            set_local(cx, peer, SdpKind::Offer, offer);
            return true;
        }
        self.set_answer(cx, peer, answer);
        false
    }

    pub(crate) fn set_answer(&mut self, cx: &mut Context, peer: PeerId, answer: Description) {
        let State::Ours(ours) = &mut self.state else { return };
        ours.step = OurStep::SettingRemote(Identity::of(&answer.facts));
        set_remote(cx, peer, SdpKind::Answer, answer);
    }

    /// The master's description is set. Returns whether it was an answer, which ends the exchange.
    pub(crate) fn on_remote_set(&mut self) -> bool {
        match mem::take(&mut self.state) {
            State::Ours(OurOffer { step: OurStep::SettingRemote(identity), .. }) => {
                self.history.remote = Some(identity);
                true
            }
            State::Theirs(TheirOffer::Setting(identity)) => {
                self.history.remote = Some(identity);
                self.state = State::Theirs(TheirOffer::CreatingAnswer);
                false
            }
            other @ (State::Stable
            | State::Ours(_)
            | State::Theirs(_)
            | State::SettingServers
            | State::RollingBack { .. }
            | State::Replacing
            | State::Unknown) => {
                self.state = other;
                true
            }
        }
    }
}
