//! Offer and answer: one unanswered offer at a time, one answer applied per offer.

use alloc::collections::VecDeque;
use core::mem;

use super::setup::{LinkState, Servers};
use super::{Purpose, Session};
use crate::error::{Failure, Ignored};
use crate::evidence::{AttemptEnd, Deadline};
use crate::input::{CandidateRelease, Connectivity, Sender, Undecodable};
use crate::output::{Event, Message, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};
use crate::types::{Candidate, Description, Digest, MediaKind};

/// Digests of applied answers that are remembered, to tell a late duplicate from a new answer.
const APPLIED_MAX: usize = 16;

/// One offer and its answer. The first sets the session up, later ones renegotiate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    pub(super) number: u32,
    pub(super) step: Step,
    offer: Option<Ticket>,
    offer_sent_at: Option<Timestamp>,
    /// An answer that overtook the completion of our own send.
    held_answer: Option<Description>,
    applied: VecDeque<Digest>,
    /// Asked for while an exchange was open: any number of requests are one.
    wanted: bool,
    /// A local offer could not be taken back: no further exchange is possible.
    stuck: bool,
}

/// How far an exchange is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Nothing is open.
    #[default]
    Stable,
    CreatingOffer,
    /// The offer waits for the ICE servers, which count from set-local on.
    Created(Description),
    SettingServers(Description),
    SettingLocal(Description),
    /// The offer waits for the link.
    LocalSet(Description),
    Sending,
    AwaitingAnswer,
    SettingRemote,
    RollingBack,
}

impl Session {
    pub(super) fn on_renegotiate(&mut self) {
        match &mut self.attempt {
            // Before the first offer is asked for there is nothing to add: it carries what changed.
            Some(attempt) if self.closing.is_none() && !attempt.exchange.stuck => {
                attempt.exchange.wanted = attempt.exchange.number > 0;
            }
            Some(_) | None => self.ignore(Ignored::OutOfPhase),
        }
    }

    /// The next command of the exchange, if what it waits for is there.
    pub(super) fn advance_exchange(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let (peer, link) = (attempt.peer, attempt.link);
        let exchange = &mut attempt.exchange;
        match mem::take(&mut exchange.step) {
            Step::Stable
                if attempt.traits.is_some() && (exchange.number == 0 || exchange.wanted) =>
            {
                if exchange.number > 0 && attempt.link_state != LinkState::Open {
                    exchange.wanted = false;
                    return self.tell(Event::RenegotiationFailed);
                }
                exchange.number += 1;
                exchange.wanted = false;
                exchange.step = Step::CreatingOffer;
                self.ask_peer(Purpose::CreateOffer, PeerCommand::CreateOffer { peer });
            }
            Step::Created(offer) => match &attempt.servers {
                Servers::Awaited => exchange.step = Step::Created(offer),
                Servers::Here(servers) if exchange.number == 1 && !servers.is_empty() => {
                    let servers = servers.clone();
                    exchange.step = Step::SettingServers(offer);
                    let command = PeerCommand::SetIceServers { peer, servers };
                    self.ask_peer(Purpose::SetIceServers, command);
                }
                Servers::Here(_) => self.set_local(offer),
            },
            Step::LocalSet(offer) if attempt.link_state == LinkState::Open => {
                exchange.step = Step::Sending;
                let message = Message::Offer(offer);
                let command = SignalingCommand::Send { link, message };
                let ticket = self.ask_signaling(Purpose::SendOffer, command);
                if let Some(attempt) = &mut self.attempt {
                    attempt.exchange.offer = Some(ticket);
                }
            }
            waiting @ (Step::Stable
            | Step::CreatingOffer
            | Step::SettingServers(_)
            | Step::SettingLocal(_)
            | Step::LocalSet(_)
            | Step::Sending
            | Step::AwaitingAnswer
            | Step::SettingRemote
            | Step::RollingBack) => exchange.step = waiting,
        }
    }

    pub(super) fn on_offer_created(&mut self, offer: Description) {
        if let Some(attempt) = &mut self.attempt {
            attempt.exchange.step = Step::Created(offer);
        }
    }

    pub(super) fn on_ice_servers_set(&mut self) {
        if let Some(Step::SettingServers(offer)) = self.step().cloned() {
            self.set_local(offer);
        }
    }

    fn set_local(&mut self, offer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        if attempt.exchange.number > 1 {
            attempt.local.next_exchange();
            attempt.remote.next_exchange();
        }
        attempt.exchange.step = Step::SettingLocal(offer.clone());
        self.ask_peer(Purpose::SetLocal, PeerCommand::SetLocal { peer, description: offer });
    }

    pub(super) fn on_local_set(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        if let Step::SettingLocal(offer) = mem::take(&mut attempt.exchange.step) {
            attempt.exchange.step = Step::LocalSet(offer);
        }
    }

    /// The answer timer starts when the sending completes (contract, N5).
    pub(super) fn on_offer_sent(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::AwaitingAnswer;
        attempt.exchange.offer_sent_at = Some(self.now);
        attempt.evidence.offer_sent = true;
        let exchange = attempt.exchange.number;
        let held = attempt.exchange.held_answer.take();
        self.tell(Event::OfferSent { exchange });
        if exchange == 1 {
            self.set_phase(Phase::AwaitingAnswer);
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        match held {
            Some(answer) => self.accept(answer),
            None => {
                let at = self.now + self.config.answer_timeout(self.budget.spent());
                self.arm(Timer::Answer, at);
            }
        }
    }

    pub(super) fn on_answer_deadline(&mut self) {
        self.tell(Event::DeadlineFired(Timer::Answer));
        if self.phase == Phase::AwaitingAnswer {
            self.end_attempt(AttemptEnd::Deadline(Deadline::Answer));
        } else {
            self.roll_back();
        }
    }

    /// A later exchange came to nothing: what flows goes on, and the offer is taken back.
    pub(super) fn roll_back(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::RollingBack;
        self.timers.disarm(Timer::Answer);
        self.ask_peer(Purpose::Rollback, PeerCommand::Rollback { peer });
    }

    pub(super) fn on_rolled_back(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.exchange.step = Step::Stable;
        attempt.local.release();
        self.tell(Event::RenegotiationFailed);
    }

    pub(super) fn on_rollback_failed(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.exchange.stuck = true;
            attempt.exchange.wanted = false;
        }
        self.on_rolled_back();
    }

    pub(super) fn on_exchange_link_lost(&mut self) {
        // The other steps go on by themselves, and find the link gone.
        if matches!(self.step(), Some(Step::LocalSet(_) | Step::AwaitingAnswer)) {
            self.roll_back();
        }
    }

    /// Glare is the next chapter's: a peer-to-peer viewer offers, and the master answers.
    pub(super) fn on_offer(&mut self, sender: Sender, _body: Result<Description, Undecodable>) {
        if sender == Sender::Other {
            return self.ignore(Ignored::Foreign);
        }
        self.see_master();
        self.ignore(Ignored::UnexpectedOffer);
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
            return if (sending || awaiting) && exchange.number == 1 {
                self.end_attempt(AttemptEnd::UndecodableAnswer);
            } else if awaiting {
                self.roll_back();
            } else {
                self.ignore(Ignored::Undecodable);
            };
        };
        let digest = answer.sdp.digest();
        let held = exchange.held_answer.as_ref().map(|held| held.sdp.digest());
        if exchange.applied.contains(&digest) || held == Some(digest) {
            self.ignore(Ignored::Duplicate);
        } else if awaiting {
            self.accept(answer);
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
    /// (kvs.md 2.5), so before the connection is up the first may be the wrong one (N4).
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

    fn accept(&mut self, answer: Description) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let exchange = &mut attempt.exchange;
        let after = self.now.saturating_since(exchange.offer_sent_at.unwrap_or(self.now));
        let first = exchange.number == 1;
        if exchange.applied.len() == APPLIED_MAX {
            exchange.applied.pop_front();
        }
        exchange.applied.push_back(answer.sdp.digest());
        attempt.evidence.answered = true;
        self.timers.disarm(Timer::Answer);
        self.tell(Event::AnswerReceived { after });
        if first && answer.facts.refuses_everything() {
            return self.end_attempt(AttemptEnd::NothingAccepted);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.video = answer.facts.sends(MediaKind::Video);
            attempt.audio = answer.facts.sends(MediaKind::Audio);
            attempt.exchange.step = Step::SettingRemote;
            attempt.evidence.remote_candidates += u32::from(answer.facts.candidates);
            attempt.remote_ufrag = answer.facts.ice_ufrag.clone();
        }
        if first {
            self.set_phase(Phase::Establishing);
            let at = self.now + self.config.establish_timeout;
            self.arm(Timer::Establish, at);
            if self.attempt.as_ref().is_some_and(|a| a.evidence.answer_suspect) {
                self.shrink_establish_deadline();
            }
        }
        self.ask_peer(Purpose::SetRemote, PeerCommand::SetRemote { peer, description: answer });
    }

    pub(super) fn on_remote_set(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::Stable;
        let ufrag = attempt.remote_ufrag.take();
        let (held, old) = attempt.remote.open(ufrag);
        for candidate in held {
            self.ask_peer(Purpose::AddCandidate, PeerCommand::AddCandidate { peer, candidate });
        }
        for _ in 0..old {
            self.ignore(Ignored::OldGeneration);
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        self.release_candidates(CandidateRelease::AfterAnswer);
        if self.phase == Phase::Establishing
            && self.attempt.as_ref().is_some_and(|a| a.connectivity == Connectivity::Connected)
        {
            self.on_connected_peer();
        }
    }

    pub(super) fn on_answer_refused(&mut self, failure: Failure) {
        if self.attempt.as_ref().is_some_and(|a| a.exchange.number > 1) {
            return self.roll_back();
        }
        self.answers_refused += 1;
        self.end_attempt(AttemptEnd::AnswerRefused(failure));
    }

    pub(super) fn has_held_answer(&self) -> bool {
        self.attempt.as_ref().is_some_and(|a| a.exchange.held_answer.is_some())
    }

    pub(super) fn on_candidate(&mut self, sender: Sender, body: Result<Candidate, Undecodable>) {
        if sender == Sender::Other {
            return self.ignore(Ignored::Foreign);
        }
        self.see_master();
        let Ok(candidate) = body else { return self.ignore(Ignored::Undecodable) };
        let (held_max, taken_max) = (self.config.candidates_max, self.config.candidates_taken_max);
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let is_end = candidate.is_end();
        match attempt.remote.take(candidate, held_max, taken_max) {
            Ok(now) => {
                attempt.evidence.remote_candidates += u32::from(!is_end);
                if let Some(candidate) = now {
                    let command = PeerCommand::AddCandidate { peer, candidate };
                    self.ask_peer(Purpose::AddCandidate, command);
                }
            }
            Err(reason) => self.ignore(reason),
        }
    }

    /// The service could not handle a message of ours.
    pub(super) fn on_status(&mut self, ticket: Option<Ticket>, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.evidence.service_error = Some(failure.clone());
        let is_offer = ticket.is_some() && ticket == attempt.exchange.offer;
        let open = matches!(attempt.exchange.step, Step::Sending | Step::AwaitingAnswer);
        match (is_offer && open, attempt.exchange.number) {
            (true, 1) => {
                attempt.evidence.offer_sent = false;
                self.end_attempt(AttemptEnd::Offer(failure));
            }
            (true, _) if attempt.exchange.step == Step::AwaitingAnswer => self.roll_back(),
            (true | false, _) => self.ignore(Ignored::Status),
        }
    }
}
