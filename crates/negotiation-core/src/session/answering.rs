//! The master's offers: storage sessions, in which the service offers, and glare, in which both
//! do (contract, N7 and N8).

use super::closing::CloseStep;
use super::setup::{Refresh, Servers};
use super::state::{Identity, Step};
use super::{Purpose, Session};
use crate::candidates::LocalCandidates;
use crate::config::Mode;
use crate::error::{Failure, FailureCode, FailureKind, Ignored};
use crate::evidence::AttemptEnd;
use crate::input::{CandidateRelease, Connectivity, Sender, Undecodable};
use crate::output::{Event, Message, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::time::Timer;
use crate::types::{Description, PeerId, SdpKind};

/// A master that begins a new session each time before media flows is not waited for (N12). With
/// the default settings it is more than the offers that the joins of one wait can bring.
const REPLACEMENTS_MAX: u8 = 8;

impl Session {
    /// Joined: the service offers within its deadline, or after another join.
    pub(super) fn await_offer(&mut self) {
        self.set_phase(Phase::AwaitingOffer);
        let at = self.now + self.config.offer_timeout;
        self.arm(Timer::Offer, at);
        self.join();
    }

    /// One offer a call: the call is repeated until the offer is here.
    pub(super) fn join(&mut self) {
        // Without a link it is repeated as soon as the next one is open.
        let Some(link) = self.attempt.as_ref().and_then(|attempt| attempt.links.open) else {
            return;
        };
        if self.phase != Phase::AwaitingOffer {
            return;
        }
        if !self.is_in_flight(Purpose::Join) {
            self.ask_signaling(Purpose::Join, SignalingCommand::Join { link });
        }
        let again = self.now + self.config.join_interval;
        self.timers.arm(Timer::Join, again);
    }

    pub(super) fn on_join_failed(&mut self, failure: Failure) {
        if let Some(attempt) = &mut self.attempt {
            attempt.evidence.service_error = Some(failure.clone());
        }
        // A full session stays full for longer than an offer is waited for; a throttle passes.
        let hopeless =
            failure.kind() == FailureKind::Permanent || failure.code == FailureCode::ViewerLimit;
        // Once an offer is here, what the service says of the call that asked for it is history.
        if hopeless && self.phase == Phase::AwaitingOffer {
            self.end_attempt(AttemptEnd::Connect(failure));
        }
    }

    pub(super) fn on_offer(&mut self, sender: Sender, body: Result<Description, Undecodable>) {
        if sender == Sender::Other {
            return self.ignore(Ignored::Foreign);
        }
        self.see_master();
        let polite = self.config.polite || self.config.mode == Mode::Answerer;
        let Some(attempt) = &mut self.attempt else { return };
        let Ok(offer) = body else { return self.ignore(Ignored::Undecodable) };
        let exchange = &mut attempt.exchange;
        if exchange.is_stuck() {
            return self.ignore(Ignored::OutOfPhase);
        }
        let digest = offer.sdp.digest();
        let waits = exchange.held_offer.as_ref().is_some_and(|held| held.sdp.digest() == digest);
        if exchange.answered == Some(digest) || waits {
            return self.ignore(Ignored::Duplicate);
        }
        let ours_is_open = matches!(
            exchange.step,
            Step::SettingLocal(_) | Step::LocalSet(_) | Step::Sending | Step::AwaitingAnswer
        );
        if ours_is_open && !polite {
            return self.ignore(Ignored::Glare);
        }
        attempt.evidence.offered = true;
        if attempt.refresh == Refresh::Done {
            attempt.refresh = Refresh::Needed;
        }
        // Of two that wait the newer one counts: the master has moved on.
        if exchange.held_offer.replace(offer).is_some() {
            self.ignore(Ignored::Superseded);
        }
    }

    /// Moves the answering of a held offer on; false when nothing of that kind is to do.
    pub(super) fn advance_answering(&mut self) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let open = attempt.links.open.is_some();
        if let Step::AnswerSet(answer) = &attempt.exchange.step {
            if open && attempt.exchange.failed_on != attempt.links.open {
                let message = Message::Answer(answer.clone());
                attempt.exchange.step = Step::SendingAnswer;
                attempt.exchange.failed_on = None;
                self.send_description(Purpose::SendAnswer, message);
            }
            return true;
        }
        if attempt.exchange.held_offer.is_none() {
            return false;
        }
        let deferred = attempt.exchange.is_deferred();
        match &attempt.exchange.step {
            Step::Stable => self.begin_answering(),
            Step::Created(_) => {
                attempt.exchange.drop_unset();
                self.begin_answering();
            }
            Step::LocalSet(_) | Step::AwaitingAnswer if deferred => {
                attempt.exchange.drop_unset();
                self.reopen_remote();
                self.begin_answering();
            }
            // Ours is set: it is taken back first.
            Step::LocalSet(_) | Step::AwaitingAnswer => {
                attempt.exchange.give_way();
                if attempt.exchange.remote.is_none() {
                    attempt.local.withhold();
                }
                self.roll_back();
            }
            Step::RefreshingServers
            | Step::CreatingOffer
            | Step::SettingServers(_)
            | Step::SettingLocal(_)
            | Step::Sending
            | Step::ApplyingLocal(_)
            | Step::SettingRemote
            | Step::RollingBack
            | Step::SettingOffer
            | Step::CreatingAnswer
            | Step::SettingAnswer(_)
            | Step::AnswerSet(_)
            | Step::SendingAnswer
            | Step::Replacing => {}
        }
        true
    }

    fn begin_answering(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let Some(offer) = &attempt.exchange.held_offer else { return };
        if attempt.traits.is_none() {
            return;
        }
        let theirs = Identity::of(&offer.facts);
        let known = attempt.exchange.remote.as_ref();
        if known.is_some_and(|known| known.is_other_session(&theirs)) {
            return self.replace_peer();
        }
        let is_new = known.is_none();
        let restarts = known.is_some_and(|known| known.is_other_generation(&theirs));
        if restarts && attempt.refresh == Refresh::Needed {
            self.refresh_for_offer();
        }
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.refresh == Refresh::Asked {
            return;
        }
        match &attempt.servers {
            Servers::Awaited => return,
            Servers::Here(servers) if !attempt.servers_set && !servers.is_empty() => {
                let servers = servers.clone();
                attempt.servers_set = true;
                attempt.exchange.step = Step::SettingServers(None);
                let command = PeerCommand::SetIceServers { peer, servers };
                return self.ask_peer(Purpose::SetIceServers, command);
            }
            Servers::Here(_) => {}
        }
        let Some(offer) = attempt.exchange.held_offer.take() else { return };
        attempt.exchange.answered = Some(offer.sdp.digest());
        attempt.exchange.step = Step::SettingOffer;
        attempt.remote_next = Some(theirs);
        let named = &mut attempt.evidence.remote_candidates;
        *named = named.saturating_add(u32::from(offer.facts.candidates));
        if is_new {
            self.enter_answering();
            self.take_media_of(&offer.facts);
        } else if let Some(attempt) = &mut self.attempt {
            attempt.local.next_exchange();
            attempt.remote.next_exchange(restarts);
        }
        let kind = SdpKind::Offer;
        let command = PeerCommand::SetRemote { peer, kind, description: offer };
        self.ask_peer(Purpose::SetRemote, command);
    }

    /// Everything up to a connection has one deadline from here on.
    fn enter_answering(&mut self) {
        for timer in [
            Timer::Offer,
            Timer::Join,
            Timer::Answer,
            Timer::Grace,
            Timer::Restart,
            Timer::FirstMedia,
            Timer::KeyframeRequest,
            Timer::MediaGiveUp,
            Timer::BudgetRefill,
        ] {
            self.timers.disarm(timer);
        }
        self.set_phase(Phase::Answering);
        let at = self.now + self.config.establish_timeout;
        self.arm(Timer::Establish, at);
    }

    pub(super) fn create_answer(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::CreatingAnswer;
        self.ask_peer(Purpose::CreateAnswer, PeerCommand::CreateAnswer { peer });
    }

    pub(super) fn on_answer_created(&mut self, answer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::SettingAnswer(answer.clone());
        let kind = SdpKind::Answer;
        let command = PeerCommand::SetLocal { peer, kind, description: answer };
        self.ask_peer(Purpose::SetLocal, command);
    }

    pub(super) fn on_answer_sent(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::Stable;
        attempt.exchange.number += 1;
        attempt.evidence.answered = true;
        let connected = attempt.connectivity == Connectivity::Connected;
        // Our first offer yielded, or the master's came before it: it is needed only if the
        // master's brings no media.
        let yielded = core::mem::take(&mut attempt.exchange.gave_way);
        let brings_none = !attempt.video && !attempt.audio;
        let asks = self.config.mode == Mode::Offerer && self.phase == Phase::Answering;
        if brings_none
            && (yielded || (asks && self.wants_media()))
            && let Some(attempt) = &mut self.attempt
        {
            attempt.exchange.want();
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        self.release_candidates(CandidateRelease::AfterAnswer);
        if self.phase == Phase::Answering {
            self.set_phase(Phase::Establishing);
            let at = self.now + self.config.establish_timeout;
            self.arm(Timer::Establish, at);
            if connected {
                self.on_connected_peer();
            }
        }
    }

    /// Answering failed: before anything flows that ends the attempt, later it changes nothing.
    pub(super) fn on_answering_failed(&mut self, purpose: Purpose, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        let (setting, sending) = (purpose == Purpose::SetRemote, purpose == Purpose::SendAnswer);
        if self.phase == Phase::Answering {
            return if setting {
                self.end_refused(failure);
            } else if sending {
                self.end_attempt(AttemptEnd::Offer(failure));
            } else {
                self.end_attempt(AttemptEnd::Peer(failure));
            };
        }
        attempt.remote_next = None;
        if setting && failure.code == FailureCode::TimedOut {
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            self.on_rollback_failed(failure);
        } else if setting || sending {
            // The stack is stable: it refused the offer, or has answered it already.
            attempt.exchange.step = Step::Stable;
            attempt.local.release();
            self.reopen_remote();
            self.tell(Event::RenegotiationFailed);
        } else {
            self.roll_back();
        }
    }

    /// Another certificate is another remote session: it gets a peer connection of its own, and
    /// the one before is closed first (contract, N8).
    fn replace_peer(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.replacements += 1;
            if attempt.replacements > REPLACEMENTS_MAX {
                return self.end_attempt(AttemptEnd::MasterGone);
            }
        }
        self.enter_answering();
        // The new one is made with TURN credentials that are fresh (contract, N21).
        self.refresh_for_offer();
        if let Some(attempt) = &mut self.attempt {
            // What comes from now on is for the new one.
            attempt.local = LocalCandidates::default();
            attempt.transit.forget_candidates();
            let old = attempt.remote.forget_session();
            self.ignore_times(Ignored::OldGeneration, old);
        }
        self.replace_step(CloseStep::StopTransceivers);
    }

    fn replace_step(&mut self, step: CloseStep) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::Replacing;
        self.ask_peer(Purpose::Replace(step), step.command(peer));
    }

    pub(super) fn on_replace_step(&mut self, step: CloseStep, failure: Option<Failure>) {
        if let Some(failure) = failure.filter(|failure| failure.code != FailureCode::Cancelled) {
            self.tell(Event::CloseStepFailed(failure));
        }
        match step.next() {
            Some(next) => self.replace_step(next),
            None => self.adopt_new_peer(),
        }
    }

    fn adopt_new_peer(&mut self) {
        self.peers += 1;
        let peer = PeerId(self.peers);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.peer = peer;
        attempt.traits = None;
        attempt.servers_set = false;
        attempt.connectivity = Connectivity::Checking;
        attempt.keyframe = false;
        attempt.audio_flows = false;
        attempt.paused = false;
        attempt.exchange.remote = None;
        // Bounded as they are: those of one session.
        attempt.exchange.outdated =
            attempt.exchange.applied.drain(..).map(|(digest, _)| digest).collect();
        attempt.exchange.forget_restart();
        attempt.exchange.step = Step::Stable;
        self.ask_peer(Purpose::CreatePeer, PeerCommand::Create { peer });
    }
}

#[cfg(test)]
mod tests;
