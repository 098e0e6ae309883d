//! Offers of the master: storage sessions, in which the service offers, and glare, in which both
//! sides do (contract, N7 and N8). Answers to this side's offers arrive in `negotiation.rs`.

use super::exchange::ExchangeState;
use super::exchange::answering::Yielded;
use super::exchange::identity::Identity;
use super::media::wants_media;
use super::negotiation::end_refused;
use super::servers::Refresh;
use super::{Attempt, Peer, Stage};
use crate::config::Mode;
use crate::context::{Context, Flow, ON, over};
use crate::error::{Failure, FailureCode, FailureKind, Ignored};
use crate::evidence::AttemptEnd;
use crate::input::{CandidateRelease, Sender, Undecodable};
use crate::output::{Event, SignalingCommand};
use crate::purpose::{CloseStep, Purpose};
use crate::time::Timer;
use crate::types::Description;

/// A master that begins a new session each time before media flows is not waited for (N12). With
/// the default settings it is more than the offers that the joins of one wait can bring.
const REPLACEMENTS_MAX: u8 = 8;

impl Attempt {
    /// Joined: the service offers within its deadline, or after another join.
    pub(super) fn await_offer(&mut self, cx: &mut Context) {
        self.enter(cx, Stage::AwaitingOffer);
        cx.arm(Timer::Offer, cx.config.settings().offer_timeout);
        self.join(cx);
    }

    /// One offer a call: the call is repeated until the offer is here. Without a connection it is
    /// repeated as soon as the next one is open.
    pub(super) fn join(&mut self, cx: &mut Context) {
        let Some(link) = self.connections.open else { return };
        if self.stage != Stage::AwaitingOffer {
            return;
        }
        if !cx.is_in_flight(Purpose::Join) {
            cx.ask_signaling(Purpose::Join, SignalingCommand::Join { link });
        }
        self.join_scheduled = true;
        cx.wake_after(Timer::Join, cx.config.settings().join_interval);
    }

    pub(super) fn on_join_failed(&self, cx: &mut Context, failure: Failure) -> Flow {
        cx.evidence.service_error = Some(failure.clone());
        // A full session stays full for longer than an offer is waited for; a throttle passes.
        let hopeless =
            failure.kind() == FailureKind::Permanent || failure.code == FailureCode::ViewerLimit;
        // Once an offer is here, what the service reports about the join is history.
        if hopeless && self.stage == Stage::AwaitingOffer {
            return over(AttemptEnd::Connect(failure));
        }
        ON
    }

    pub(super) fn on_offer(
        &mut self,
        cx: &mut Context,
        sender: Sender,
        body: Result<Description, Undecodable>,
    ) {
        if sender == Sender::Other {
            return cx.ignore(Ignored::Foreign);
        }
        self.see_master(cx);
        let polite = cx.config.settings().polite || cx.config.settings().mode == Mode::Answerer;
        let Ok(offer) = body else { return cx.ignore(Ignored::Undecodable) };
        if self.exchange.at() == ExchangeState::Unknown {
            return cx.ignore(Ignored::OutOfPhase);
        }
        if self.exchange.knows_offer(&offer) {
            return cx.ignore(Ignored::Duplicate);
        }
        if self.exchange.has_our_offer() && !polite {
            return cx.ignore(Ignored::Glare);
        }
        cx.evidence.offered = true;
        self.servers.on_offer();
        // Of two that wait the newer one counts: the master has moved on.
        if self.exchange.pending_remote_offer.replace(offer).is_some() {
            cx.ignore(Ignored::Superseded);
        }
    }

    pub(super) fn advance_pending_offer(&mut self, cx: &mut Context) -> Flow {
        match self.exchange.yield_to_pending_offer() {
            Yielded::Wait => ON,
            Yielded::Ready => self.begin_answering(cx),
            Yielded::ReadyAfterRestart => {
                self.candidates.reopen_remote(cx, self.peer.id);
                self.begin_answering(cx)
            }
            Yielded::RollBack => {
                if self.exchange.history.remote.is_none() {
                    self.candidates.local.withhold();
                }
                self.exchange.roll_back(cx, self.peer.id);
                ON
            }
        }
    }

    fn begin_answering(&mut self, cx: &mut Context) -> Flow {
        let Some(offer) = &self.exchange.pending_remote_offer else { return ON };
        if self.peer.traits.is_none() {
            return ON;
        }
        let theirs = Identity::of(&offer.facts);
        let known = self.exchange.history.remote.as_ref();
        if known.is_some_and(|known| known.is_other_session(&theirs)) {
            return self.replace_peer(cx);
        }
        let is_new = known.is_none();
        let restarts = known.is_some_and(|known| known.is_other_generation(&theirs));
        if restarts && self.servers.refresh == Refresh::Needed {
            self.refresh_for_offer(cx);
        }
        if self.servers.refresh == Refresh::Requested || self.servers.known.is_none() {
            return ON;
        }
        if self.servers.set_on(cx, self.peer.id) {
            self.exchange.setting_servers();
            return ON;
        }
        let Some(offer) = self.exchange.take_pending_offer() else { return ON };
        if is_new {
            self.enter_answering(cx);
            self.media.expect(&cx.config, &offer.facts);
        } else {
            self.candidates.local.next_exchange();
            self.candidates.remote.next_exchange(restarts);
        }
        self.exchange.set_offer(cx, self.peer.id, offer);
        ON
    }

    /// Everything up to a connection has one deadline from here on.
    fn enter_answering(&mut self, cx: &mut Context) {
        for timer in [Timer::Offer, Timer::Join] {
            cx.disarm(timer);
        }
        self.join_scheduled = false;
        self.recovery.stop_waiting(cx);
        self.media.stop_waiting(cx);
        self.enter(cx, Stage::Answering);
        cx.arm(Timer::Establish, cx.config.settings().establish_timeout);
    }

    /// The master's offer needs TURN credentials that are fresh.
    fn refresh_for_offer(&mut self, cx: &mut Context) {
        if self.servers.refresh_for_offer(self.connections.open.is_some()) {
            self.connections.fetch_ice_servers(cx);
        }
    }

    pub(super) fn on_answer_sent(&mut self, cx: &mut Context) {
        let yielded = self.exchange.on_answer_sent();
        cx.evidence.answered = true;
        // Our first offer yielded, or the master's came before it: it is needed only if the
        // master's brings no media.
        let offers = cx.config.settings().mode == Mode::Offerer;
        if self.media.expects_nothing() && (yielded || (offers && wants_media(&cx.config))) {
            self.exchange.needed.negotiation = true;
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        self.release_candidates(CandidateRelease::AfterAnswer);
        if self.stage == Stage::Answering {
            self.enter(cx, Stage::Establishing);
            cx.arm(Timer::Establish, cx.config.settings().establish_timeout);
            if self.peer.is_connected() {
                self.on_connection_up(cx);
            }
        }
    }

    /// Answering failed: before anything flows that ends the attempt, later it changes nothing.
    pub(super) fn on_answering_failed(
        &mut self,
        cx: &mut Context,
        purpose: Purpose,
        failure: Failure,
    ) -> Flow {
        let (setting, sending) = (purpose == Purpose::SetRemote, purpose == Purpose::SendAnswer);
        if self.stage == Stage::Answering {
            return if setting {
                end_refused(cx, failure)
            } else if sending {
                over(AttemptEnd::Offer(failure))
            } else {
                over(AttemptEnd::Peer(failure))
            };
        }
        if setting && failure.code == FailureCode::TimedOut {
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            return self.on_rollback_failed(cx, failure);
        }
        if setting || sending {
            // The stack is stable: it refused the offer, or has answered it already.
            self.exchange.drop_remote_offer();
            self.candidates.local.release();
            self.candidates.reopen_remote(cx, self.peer.id);
            cx.tell(Event::RenegotiationFailed);
        } else {
            self.exchange.roll_back(cx, self.peer.id);
        }
        ON
    }

    /// Another certificate is another remote session: it gets a peer connection of its own, and
    /// the one before is closed first (contract, N8).
    fn replace_peer(&mut self, cx: &mut Context) -> Flow {
        self.replacements += 1;
        if self.replacements > REPLACEMENTS_MAX {
            return over(AttemptEnd::MasterGone);
        }
        self.enter_answering(cx);
        // The new one is made with TURN credentials that are fresh (contract, N21).
        self.refresh_for_offer(cx);
        self.candidates.begin_connection(cx);
        self.exchange.replace_step(cx, self.peer.id, CloseStep::StopTransceivers);
        ON
    }

    pub(super) fn on_replace_step(
        &mut self,
        cx: &mut Context,
        step: CloseStep,
        failure: Option<Failure>,
    ) {
        if let Some(failure) = failure.filter(|failure| failure.code != FailureCode::Cancelled) {
            cx.tell(Event::CloseStepFailed(failure));
        }
        match step.next() {
            Some(next) => self.exchange.replace_step(cx, self.peer.id, next),
            None => self.adopt_new_peer(cx),
        }
    }

    fn adopt_new_peer(&mut self, cx: &mut Context) {
        self.peer = Peer::create(cx);
        self.servers.set = false;
        self.media.begin_connection();
        self.exchange.begin_connection();
        self.peer.request(cx);
    }
}

#[cfg(test)]
mod tests;
