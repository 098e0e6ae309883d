//! Our offers: one unanswered at a time, one answer applied to each. First set-up, then
//! renegotiation and ICE restart. The master's offers are `answering`'s.

use core::mem;

use super::setup::Servers;
use super::state::{Identity, Step};
use super::{Purpose, Session};
use crate::config::Mode;
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Deadline};
use crate::input::{CandidateRelease, Connectivity, Sender, Undecodable};
use crate::output::{Event, Message, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::recovery::MasterKnowledge;
use crate::time::Timer;
use crate::types::{Description, SdpKind};

/// Digests of applied answers that are remembered, to tell a late duplicate from a new answer.
const APPLIED_MAX: usize = 16;

impl Session {
    pub(super) fn on_renegotiate(&mut self) {
        // In a storage session the service offers.
        let ours = self.config.mode == Mode::Offerer && self.closing.is_none();
        match &mut self.attempt {
            // Before the first offer is asked for there is nothing to add: it carries what changed.
            Some(attempt) if ours && !attempt.exchange.stuck => {
                attempt.exchange.wanted |= attempt.exchange.number > 0;
            }
            Some(_) | None => self.ignore(Ignored::OutOfPhase),
        }
    }

    /// The next command of the exchange, if what it waits for is there.
    pub(super) fn advance_exchange(&mut self) {
        if self.advance_answering() {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        let (peer, open) = (attempt.peer, attempt.links.open);
        let exchange = &mut attempt.exchange;
        match mem::take(&mut exchange.step) {
            Step::Stable => self.begin_exchange(),
            Step::Created(offer) => match &attempt.servers {
                Servers::Awaited => exchange.step = Step::Created(offer),
                Servers::Here(servers) if !attempt.servers_set && !servers.is_empty() => {
                    let servers = servers.clone();
                    attempt.servers_set = true;
                    exchange.step = Step::SettingServers(Some(offer));
                    let command = PeerCommand::SetIceServers { peer, servers };
                    self.ask_peer(Purpose::SetIceServers, command);
                }
                // The pair that may still work is left alone until the master agreed.
                Servers::Here(_) if exchange.restart.is_some() && !attempt.keeps_pair() => {
                    attempt.exchange.deferred = Some(offer.clone());
                    attempt.exchange.step = Step::LocalSet(offer);
                    attempt.exchange.failed_on = None;
                    // The master's new candidates may come before its answer.
                    attempt.remote.expect_restart();
                    self.advance_exchange();
                }
                Servers::Here(_) => self.set_local(offer),
            },
            Step::LocalSet(offer) if open.is_some() && exchange.failed_on != open => {
                exchange.step = Step::Sending;
                exchange.failed_on = None;
                self.send_description(Purpose::SendOffer, Message::Offer(offer));
            }
            waiting @ (Step::RefreshingServers
            | Step::CreatingOffer
            | Step::SettingServers(_)
            | Step::SettingLocal(_)
            | Step::LocalSet(_)
            | Step::Sending
            | Step::AwaitingAnswer
            | Step::ApplyingLocal(_)
            | Step::SettingRemote
            | Step::RollingBack
            | Step::SettingOffer
            | Step::CreatingAnswer
            | Step::SettingAnswer(_)
            | Step::AnswerSet(_)
            | Step::SendingAnswer
            | Step::Replacing) => exchange.step = waiting,
        }
    }

    /// From stable: the first offer, a restart, or a renegotiation that was asked for.
    fn begin_exchange(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let (peer, open) = (attempt.peer, attempt.links.open);
        let given_up = attempt.links.given_up;
        let exchange = &mut attempt.exchange;
        if self.config.mode == Mode::Answerer || attempt.traits.is_none() || exchange.stuck {
            return;
        }
        let first = exchange.number == 0;
        // One that was asked for in the set-up waits until there is a connection to restart.
        let up = matches!(self.phase, Phase::Live | Phase::Recovering);
        let restart = exchange.restart_wanted.filter(|_| up);
        if !first && !exchange.wanted && restart.is_none() {
            return;
        }
        // What comes later needs the link first; a restart's deadline runs meanwhile.
        let unsent = restart.is_some() && !exchange.wanted && exchange.unsent_on == open;
        match open {
            Some(_) if unsent => return,
            Some(_) => {}
            None if first => {}
            None => {
                if given_up && mem::take(&mut exchange.wanted) {
                    self.tell(Event::RenegotiationFailed);
                }
                return;
            }
        }
        exchange.number += 1;
        exchange.wanted = false;
        (exchange.offer_sent_at, exchange.awaited_since) = (None, None);
        exchange.restart = restart;
        exchange.abandoned = false;
        if exchange.restart.is_some() {
            exchange.restart_wanted = None;
            let remembered = mem::take(&mut exchange.restart_remembered);
            exchange.step = Step::RefreshingServers;
            self.on_restart_begins(remembered);
            self.fetch_ice_servers();
            // Half of the restart's time at most: old credentials may still do.
            let share = self.config.ice_servers_timeout.min(self.restart_timeout() / 2);
            let deadline = self.now + share;
            self.in_flight.hurry(deadline, |purpose| *purpose == Purpose::FetchIceServers);
        } else {
            exchange.step = Step::CreatingOffer;
            self.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: false });
        }
    }

    /// The servers of a restart are here, or will not come.
    pub(super) fn on_servers_refreshed(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        if attempt.exchange.step == Step::RefreshingServers {
            attempt.exchange.step = Step::CreatingOffer;
            self.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer, restart: true });
        }
    }

    pub(super) fn on_offer_created(&mut self, offer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let abandoned = mem::take(&mut attempt.exchange.abandoned);
        if attempt.exchange.number == 1 {
            attempt.evidence.video_offered = offer.facts.video_codecs.clone();
        }
        attempt.exchange.step = if abandoned { Step::Stable } else { Step::Created(offer) };
    }

    pub(super) fn on_ice_servers_set(&mut self) {
        match self.step().cloned() {
            Some(Step::SettingServers(Some(offer))) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.exchange.step = Step::Created(offer);
                }
            }
            Some(Step::SettingServers(None)) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.exchange.step = Step::Stable;
                }
            }
            // Servers that were refreshed by the service's wish.
            Some(_) | None => {}
        }
    }

    fn set_local(&mut self, offer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        if attempt.exchange.number > 1 {
            attempt.local.next_exchange();
            attempt.remote.next_exchange(attempt.exchange.restart.is_some());
        }
        attempt.exchange.step = Step::SettingLocal(offer.clone());
        let kind = SdpKind::Offer;
        self.ask_peer(Purpose::SetLocal, PeerCommand::SetLocal { peer, kind, description: offer });
    }

    pub(super) fn on_local_set(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        // A new description has failed on no connection.
        attempt.exchange.failed_on = None;
        match mem::take(&mut attempt.exchange.step) {
            Step::SettingLocal(_) if attempt.exchange.abandoned => self.roll_back(),
            Step::SettingLocal(offer) => attempt.exchange.step = Step::LocalSet(offer),
            Step::ApplyingLocal(answer) => self.set_remote(answer),
            Step::SettingAnswer(answer) => attempt.exchange.step = Step::AnswerSet(answer),
            other @ (Step::Stable
            | Step::RefreshingServers
            | Step::CreatingOffer
            | Step::Created(_)
            | Step::SettingServers(_)
            | Step::LocalSet(_)
            | Step::Sending
            | Step::AwaitingAnswer
            | Step::SettingRemote
            | Step::RollingBack
            | Step::SettingOffer
            | Step::CreatingAnswer
            | Step::AnswerSet(_)
            | Step::SendingAnswer
            | Step::Replacing) => attempt.exchange.step = other,
        }
    }

    pub(super) fn send_description(&mut self, purpose: Purpose, message: Message) {
        let Some(link) = self.attempt.as_ref().and_then(|attempt| attempt.links.open) else {
            return;
        };
        let command = SignalingCommand::Send { link, message: message.clone() };
        let ticket = self.ask_signaling(purpose, command);
        if let Some(attempt) = &mut self.attempt {
            attempt.exchange.outgoing = Some((link, message));
            attempt.exchange.sent = Some(ticket);
        }
    }

    /// Keeps a description that a connection failed to send for another connection, one that is
    /// open already or being opened. Returns `false` when there is no other.
    pub(super) fn send_again(&mut self) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let Some((link, message)) = attempt.exchange.outgoing.take() else { return false };
        let (open, opening) = (attempt.links.open, attempt.links.opening.is_some());
        let another = open.is_some_and(|open| open != link) || opening;
        if !another || attempt.exchange.abandoned {
            return false;
        }
        attempt.exchange.failed_on = Some(link);
        attempt.exchange.step = match message {
            Message::Offer(offer) => Step::LocalSet(offer),
            Message::Answer(answer) => Step::AnswerSet(answer),
            Message::Candidate(_) => return false,
        };
        true
    }

    /// The answer timer starts when the sending completes (contract, N5).
    pub(super) fn on_offer_sent(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::AwaitingAnswer;
        attempt.exchange.offer_sent_at = Some(self.now);
        attempt.exchange.awaited_since = Some(self.now);
        let exchange = attempt.exchange.number;
        let restart = attempt.exchange.restart.is_some();
        let held = attempt.exchange.held_answer.take();
        if attempt.exchange.abandoned {
            if held.is_some() {
                self.ignore(Ignored::Superseded);
            }
            return self.take_back();
        }
        if exchange == 1 {
            attempt.evidence.offer_sent = true;
            attempt.repeats_id = self.offered_as.is_some() && self.offered_as == attempt.client_id;
            self.offered_as = attempt.client_id.clone();
        }
        self.tell(Event::OfferSent { exchange });
        if self.phase == Phase::Offering {
            self.set_phase(Phase::AwaitingAnswer);
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        if let Some(answer) = held {
            self.on_awaited_answer(answer);
        }
        // A restart has one deadline for all of it.
        let waits = self.closing.is_none() && self.step() == Some(&Step::AwaitingAnswer);
        if waits && !restart {
            let at = self.now + self.config.answer_timeout(self.budget.spent());
            self.arm(Timer::Answer, at);
        }
    }

    pub(super) fn on_answer_deadline(&mut self) {
        self.tell(Event::DeadlineFired(Timer::Answer));
        if self.phase == Phase::AwaitingAnswer {
            if self.attempt.as_ref().is_some_and(|attempt| attempt.repeats_id) {
                let known = self.master;
                self.learn(MasterKnowledge { answers_repeated_id: Some(false), ..known });
            }
            self.end_attempt(AttemptEnd::Deadline(Deadline::Answer));
        } else {
            self.roll_back();
        }
    }

    /// The stack is stable again: what flows goes on.
    pub(super) fn on_rolled_back(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::Stable;
        attempt.exchange.deferred = None;
        // Recovery reports a restart that fails.
        let abandoned = mem::take(&mut attempt.exchange.abandoned);
        let restart = attempt.exchange.restart.take().is_some() || abandoned;
        let gives_way = attempt.exchange.held_offer.is_some();
        // What was gathered for a generation that is given up is of no use to the master.
        let dropped = if restart { attempt.local.drop_generation() } else { 0 };
        // What gives way before anything flows is sent after the answer (contract, N11).
        if attempt.exchange.remote.is_none() && gives_way {
            attempt.local.withhold();
        } else {
            attempt.local.release();
        }
        self.ignore_times(Ignored::OldGeneration, dropped);
        self.reopen_remote();
        if !restart && !gives_way {
            self.tell(Event::RenegotiationFailed);
        }
    }

    pub(super) fn on_rollback_failed(&mut self, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        // Glare before anything flows, or a restart that took the pair with it: begin again.
        let exchange = &mut attempt.exchange;
        // One that yielded to the master's offer is wanted again by now.
        let yielded = exchange.held_offer.is_some() && exchange.restart_wanted.is_some();
        let restart = exchange.restart.is_some() || yielded;
        if restart || !matches!(self.phase, Phase::Live | Phase::Recovering) {
            return self.end_attempt(AttemptEnd::Peer(failure));
        }
        exchange.stuck = true;
        exchange.wanted = false;
        if exchange.held_offer.take().is_some() {
            self.ignore(Ignored::Superseded);
        }
        self.on_rolled_back();
    }

    pub(super) fn on_answer(&mut self, sender: Sender, body: Result<Description, Undecodable>) {
        if sender == Sender::Other {
            return self.ignore(Ignored::Foreign);
        }
        self.see_master();
        let Some(attempt) = &mut self.attempt else { return };
        let exchange = &mut attempt.exchange;
        let sending = exchange.step == Step::Sending;
        let awaiting = exchange.step == Step::AwaitingAnswer;
        let Ok(answer) = body else {
            return if (sending || awaiting) && self.phase.is_first_exchange() {
                self.end_attempt(AttemptEnd::UndecodableAnswer);
            } else if awaiting && exchange.restart.is_some() {
                self.on_restart_refused(false);
            } else if awaiting {
                self.roll_back();
            } else {
                self.ignore(Ignored::Undecodable);
            };
        };
        let digest = answer.sdp.digest();
        let held = exchange.held_answer.as_ref().map(|held| held.sdp.digest());
        if exchange.has_applied(digest) || held == Some(digest) {
            self.ignore(Ignored::Duplicate);
        } else if awaiting {
            self.on_awaited_answer(answer);
        } else if sending && held.is_none() {
            exchange.held_answer = Some(answer);
        } else if sending {
            attempt.evidence.answer_suspect = true;
            self.ignore(Ignored::SecondAnswer);
        } else if exchange.applied.is_empty() {
            self.ignore(Ignored::Unsolicited);
        } else {
            self.on_second_answer();
        }
    }

    /// Another answer to an offer that has one. Nothing in an answer says which offer it is for
    /// (kvs-protocol.md 2.5), so before the connection is up the first may be the wrong one (N4).
    fn on_second_answer(&mut self) {
        self.ignore(Ignored::SecondAnswer);
        if let Some(attempt) = &mut self.attempt
            && self.phase == Phase::Establishing
        {
            attempt.evidence.answer_suspect = true;
            self.shrink_establish_deadline();
        }
    }

    fn shrink_establish_deadline(&mut self) {
        let suspect = self.now + self.config.suspect_timeout;
        if self.timers.at(Timer::Establish).is_some_and(|at| at > suspect) {
            self.arm(Timer::Establish, suspect);
        }
    }

    /// A later answer must come from the session we are connected with; a restart's must bring
    /// new credentials (contract, N4).
    fn on_awaited_answer(&mut self, answer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let theirs = Identity::of(&answer.facts);
        if let Some(known) = &attempt.exchange.remote {
            if known.is_other_session(&theirs) {
                // Before the connection is up the first answer may be the wrong one (N4).
                return if self.phase == Phase::Establishing {
                    self.on_second_answer()
                } else {
                    self.on_restart_refused(true)
                };
            }
            let restart = attempt.exchange.restart.is_some();
            if restart && attempt.exchange.has_credentials_of(&theirs) {
                return self.on_restart_refused(false);
            }
            // New credentials answer a restart alone: one that was given up meanwhile.
            if !restart && known.is_other_generation(&theirs) {
                return self.ignore(Ignored::Unsolicited);
            }
        }
        self.accept(answer);
    }

    fn accept(&mut self, answer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let exchange = &mut attempt.exchange;
        let after = self.now.saturating_since(exchange.offer_sent_at.unwrap_or(self.now));
        let first = self.phase == Phase::AwaitingAnswer;
        if exchange.applied.len() == APPLIED_MAX {
            exchange.applied.pop_front();
        }
        exchange.applied.push_back((answer.sdp.digest(), Identity::of(&answer.facts)));
        attempt.evidence.answered = true;
        let restart = attempt.exchange.restart.is_some();
        let repeats_id = first && attempt.repeats_id;
        self.timers.disarm(Timer::Answer);
        self.tell(Event::AnswerReceived { after });
        let mut known = self.master;
        if restart {
            known.answers_restarts = Some(true);
        }
        if repeats_id {
            known.answers_repeated_id = Some(true);
        }
        self.learn(known);
        // Until media flows, the newest answer says what will be sent.
        if first || matches!(self.phase, Phase::Establishing | Phase::AwaitingMedia) {
            self.take_media_of(&answer.facts);
            if answer.facts.refuses_everything() || self.sends_nothing_wanted() {
                let refuses = answer.facts.refuses_everything();
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.sends_nothing = !refuses;
                }
                return self.end_attempt(AttemptEnd::NothingAccepted);
            }
        }
        if first {
            self.set_phase(Phase::Establishing);
            let at = self.now + self.config.establish_timeout;
            self.arm(Timer::Establish, at);
            if self.attempt.as_ref().is_some_and(|a| a.evidence.answer_suspect) {
                self.shrink_establish_deadline();
            }
        }
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        match attempt.exchange.deferred.take() {
            None => self.set_remote(answer),
            Some(description) => {
                attempt.local.next_exchange();
                attempt.remote.next_exchange(true);
                attempt.exchange.step = Step::ApplyingLocal(answer);
                let kind = SdpKind::Offer;
                let command = PeerCommand::SetLocal { peer, kind, description };
                self.ask_peer(Purpose::SetLocal, command);
            }
        }
    }

    fn set_remote(&mut self, answer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::SettingRemote;
        attempt.remote_next = Some(Identity::of(&answer.facts));
        let named = &mut attempt.evidence.remote_candidates;
        *named = named.saturating_add(u32::from(answer.facts.candidates));
        let kind = SdpKind::Answer;
        let command = PeerCommand::SetRemote { peer, kind, description: answer };
        self.ask_peer(Purpose::SetRemote, command);
    }

    /// The other side's description is set: its candidates may go in.
    pub(super) fn on_remote_set(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let settled = attempt.exchange.step == Step::SettingRemote;
        if let Some(identity) = attempt.remote_next.take() {
            attempt.exchange.remote = Some(identity);
        }
        let ufrag = attempt.exchange.remote.as_ref().and_then(|remote| remote.ufrag.clone());
        let (held, old) = attempt.remote.open(ufrag);
        for candidate in held {
            self.ask_peer(Purpose::AddCandidate, PeerCommand::AddCandidate { peer, candidate });
        }
        self.ignore_times(Ignored::OldGeneration, old);
        if !settled {
            return self.create_answer();
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        self.release_candidates(CandidateRelease::AfterAnswer);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::Stable;
        attempt.exchange.restart = None;
        attempt.exchange.abandoned = false;
        let connected = attempt.connectivity == Connectivity::Connected;
        let kept = attempt.keeps_pair();
        match self.phase {
            Phase::Establishing if connected => self.on_connected_peer(),
            Phase::Recovering if connected && kept => self.on_recovered(),
            Phase::Live if connected && kept => self.settle_restart(),
            Phase::AwaitingMedia if connected => {
                self.live_if_media_flows();
            }
            Phase::Idle
            | Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering
            | Phase::Closing
            | Phase::BackingOff
            | Phase::Ended => {}
        }
    }

    pub(super) fn on_answer_refused(&mut self, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.exchange.number > 1 {
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            if failure.code == FailureCode::TimedOut {
                return self.on_rollback_failed(failure);
            }
            // A restart that was set took the pair with it on some stacks: its deadline decides.
            return self.roll_back();
        }
        self.end_refused(failure);
    }

    /// A first description of the master's was not set: by what it says, or by a stack that fails.
    pub(super) fn end_refused(&mut self, failure: Failure) {
        use FailureCode::{Cancelled, Closed, NotOpen, Port, TimedOut};
        if matches!(failure.code, TimedOut | Port | NotOpen | Closed | Cancelled) {
            return self.end_attempt(AttemptEnd::Peer(failure));
        }
        self.answers_refused += 1;
        self.end_attempt(AttemptEnd::AnswerRefused(failure));
    }

    pub(super) fn has_held_answer(&self) -> bool {
        self.attempt.as_ref().is_some_and(|a| a.exchange.held_answer.is_some())
    }

    /// A later offer did not go out: a restart waits for the next link, the rest is dropped.
    pub(super) fn on_offer_unsent(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        if let Some(need) = attempt.exchange.restart {
            attempt.exchange.want_same_restart(need);
            // The same link would refuse it again, and again (contract, 28).
            attempt.exchange.unsent_on = attempt.links.open;
        }
        if attempt.exchange.held_answer.take().is_some() {
            self.ignore(Ignored::Superseded);
        }
        self.take_back();
    }

    /// An offer that was never set is forgotten; one that was set is rolled back.
    pub(super) fn take_back(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.exchange.deferred.take().is_some() {
            attempt.exchange.restart = None;
            attempt.exchange.abandoned = false;
            attempt.exchange.step = Step::Stable;
            self.reopen_remote();
        } else {
            self.roll_back();
        }
    }
}

#[cfg(test)]
mod tests;
