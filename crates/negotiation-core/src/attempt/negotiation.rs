//! An attempt's own offers and their answers: what they mean for its stage, candidates and
//! deadlines. The master's offers are in [`super::answering`].

use super::exchange::ExchangeState;
use super::exchange::identity::Identity;
use super::exchange::offering::{AnswerFit, Begun, LocalSet};
use super::media::wants_media;
use super::{Attempt, Stage};
use crate::config::Mode;
use crate::context::{Context, Flow, ON, over};
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Deadline};
use crate::input::{CandidateRelease, Sender, Undecodable};
use crate::master::MasterKnowledge;
use crate::output::Event;
use crate::purpose::Purpose;
use crate::ticket::Ticket;
use crate::time::Timer;
use crate::types::{Candidate, Description, SdpKind};

impl Attempt {
    /// The next command of the exchange, if its prerequisites are met.
    pub(super) fn advance_exchange(&mut self, cx: &mut Context) -> Flow {
        let open = self.connections.open;
        if self.exchange.at() == ExchangeState::AnswerUnsent {
            self.exchange.send(cx, open);
        } else if self.exchange.pending_remote_offer.is_some() {
            return self.advance_pending_offer(cx);
        } else if self.exchange.at() == ExchangeState::Stable {
            self.begin_offer(cx);
        } else if self.exchange.at() == ExchangeState::OfferCreated {
            self.advance_created_offer(cx);
        } else {
            self.exchange.send(cx, open);
        }
        ON
    }

    // Our offers.

    /// From stable: the first offer, a restart, or a renegotiation that was requested.
    fn begin_offer(&mut self, cx: &mut Context) {
        if cx.config.settings().mode == Mode::Answerer || self.peer.traits.is_none() {
            return;
        }
        let open = self.connections.open;
        match self.exchange.begin(cx, self.peer.id, open, self.stage.is_up()) {
            Begun::Nothing | Begun::Offer => {}
            Begun::Undeliverable => {
                if self.connections.given_up {
                    self.exchange.needed.negotiation = false;
                    cx.tell(Event::RenegotiationFailed);
                }
            }
            Begun::Restart { has_own_deadline } => {
                self.on_restart_begins(cx, has_own_deadline);
                self.connections.fetch_ice_servers(cx);
                // Half of the restart's time at most: old credentials may still do.
                let half = self.recovery.restart_timeout(&cx.config) / 2;
                self.connections
                    .shorten_fetch(cx, cx.config.settings().ice_servers_timeout.min(half));
            }
        }
    }

    fn advance_created_offer(&mut self, cx: &mut Context) {
        let restart = self.exchange.is_restarting();
        if self.servers.known.is_none() {
            return;
        }
        if self.servers.set_on(cx, self.peer.id) {
            self.exchange.setting_servers();
        } else if restart && !self.peer.keeps_pair() {
            self.exchange.leave_unapplied();
            // The master's new candidates may come before its answer.
            self.candidates.remote.expect_restart();
            self.exchange.send(cx, self.connections.open);
        } else {
            if self.exchange.is_later() {
                self.candidates.local.next_exchange();
                self.candidates.remote.next_exchange(restart);
            }
            self.exchange.set_local_offer(cx, self.peer.id);
        }
    }

    pub(super) fn on_local_set(&mut self, cx: &mut Context) {
        match self.exchange.on_local_set() {
            LocalSet::Done => {}
            LocalSet::RollBack => self.exchange.roll_back(cx, self.peer.id),
            LocalSet::Answer(answer) => self.exchange.set_answer(cx, self.peer.id, answer),
        }
    }

    /// The answer timer starts when the sending completes (contract, N5).
    pub(super) fn on_offer_sent(&mut self, cx: &mut Context) -> Flow {
        let (early, abandoned) = self.exchange.on_offer_sent(cx.now);
        if abandoned {
            if early.is_some() {
                cx.ignore(Ignored::Superseded);
            }
            self.take_back(cx);
            return ON;
        }
        let exchange = self.exchange.number;
        if exchange == 1 {
            cx.evidence.offer_sent = true;
            let offered_as = core::mem::take(&mut cx.policy.offered_as);
            cx.policy.offered_as = self.connections.client_id.clone();
            self.repeats_id = offered_as.is_some() && offered_as == cx.policy.offered_as;
        }
        cx.tell(Event::OfferSent { exchange });
        if self.stage == Stage::Offering {
            self.enter(cx, Stage::AwaitingAnswer);
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        if let Some(answer) = early {
            self.on_awaited_answer(cx, answer)?;
        }
        // A restart has one deadline for all of it.
        if self.exchange.at() == ExchangeState::AwaitingAnswer && !self.exchange.is_restarting() {
            cx.arm(Timer::Answer, cx.config.answer_timeout(cx.policy.budget.spent()));
        }
        ON
    }

    pub(super) fn on_answer_deadline(&mut self, cx: &mut Context) -> Flow {
        cx.tell(Event::DeadlineFired(Timer::Answer));
        if self.stage != Stage::AwaitingAnswer {
            self.exchange.roll_back(cx, self.peer.id);
            return ON;
        }
        if self.repeats_id {
            let known = cx.policy.master;
            cx.learn(MasterKnowledge { answers_repeated_id: Some(false), ..known });
        }
        over(AttemptEnd::Deadline(Deadline::Answer))
    }

    /// Keeps a description that a connection failed to send for another one.
    pub(super) fn send_again(&mut self) -> bool {
        let connections = &self.connections;
        self.exchange.send_again(|link| connections.has_other_than(link))
    }

    /// A later offer was not sent: a restart waits for the next connection, the rest is dropped.
    pub(super) fn on_offer_unsent(&mut self, cx: &mut Context) {
        self.exchange.on_offer_unsent(cx, self.connections.open);
        self.take_back(cx);
    }

    /// An offer that was never set is forgotten; one that was set is rolled back.
    pub(super) fn take_back(&mut self, cx: &mut Context) {
        if self.exchange.drop_unapplied() {
            self.candidates.reopen_remote(cx, self.peer.id);
        } else {
            self.exchange.roll_back(cx, self.peer.id);
        }
    }

    /// The stack is stable again: what flows goes on.
    pub(super) fn on_rolled_back(&mut self, cx: &mut Context) {
        let expected = self.exchange.on_rolled_back();
        self.resume_after_rollback(cx, expected);
    }

    /// `expected`: recovery reports the failure, or this side cancelled the exchange.
    fn resume_after_rollback(&mut self, cx: &mut Context, expected: bool) {
        let yielded = self.exchange.pending_remote_offer.is_some();
        // What was gathered for a generation that is given up is of no use to the master.
        let dropped = if expected { self.candidates.local.drop_generation() } else { 0 };
        // What yields before anything flows is sent after the answer (contract, N11).
        if yielded && self.exchange.history.remote.is_none() {
            self.candidates.local.withhold();
        } else {
            self.candidates.local.release();
        }
        cx.ignore_times(Ignored::OldGeneration, dropped);
        self.candidates.reopen_remote(cx, self.peer.id);
        if !expected && !yielded {
            cx.tell(Event::RenegotiationFailed);
        }
    }

    pub(super) fn on_rollback_failed(&mut self, cx: &mut Context, failure: Failure) -> Flow {
        // Glare before anything flows, or a restart that took the pair with it: begin again. A
        // restart that yielded to the master's offer is needed again by now.
        let offered = self.exchange.pending_remote_offer.is_some();
        let yielded = offered && self.exchange.needed.restart.is_some();
        if self.exchange.is_restarting() || yielded || !self.stage.is_up() {
            return over(AttemptEnd::Peer(failure));
        }
        let expected = self.exchange.on_rolled_back();
        self.exchange.on_state_unknown(cx);
        self.resume_after_rollback(cx, expected);
        ON
    }

    /// Fails a description that waited for the connection which could not be opened, when the only
    /// open connection is the one that failed to send it: each connection gets a description once,
    /// or a stalled one would get it again after each failed reopening, without end.
    pub(super) fn on_description_undeliverable(
        &mut self,
        cx: &mut Context,
        failure: Failure,
    ) -> Flow {
        let failed_on = self.exchange.failed_on();
        if failed_on.is_none() || failed_on != self.connections.open {
            return ON;
        }
        if self.exchange.at() == ExchangeState::AnswerUnsent {
            return self.on_answering_failed(cx, Purpose::SendAnswer, failure);
        }
        if !self.exchange.is_later() {
            return over(AttemptEnd::Offer(failure));
        }
        self.on_offer_unsent(cx);
        ON
    }

    /// The service could not handle a message of this viewer.
    pub(super) fn on_status(
        &mut self,
        cx: &mut Context,
        ticket: Option<Ticket>,
        failure: Failure,
    ) -> Flow {
        cx.evidence.service_error = Some(failure.clone());
        let awaiting = self.exchange.at() == ExchangeState::AwaitingAnswer;
        let sending =
            self.exchange.at() == ExchangeState::SendingOffer && !self.exchange.has_early_answer();
        let sent = self.exchange.sent.as_ref().filter(|sent| Some(sent.ticket) == ticket);
        // Once it is answered, what the service reports about an offer is history.
        let counts = sent.is_some_and(|sent| {
            let is_offer = matches!(sent.carried, Some((_, SdpKind::Offer)));
            !is_offer || awaiting || sending
        });
        match self.stage {
            Stage::Offering | Stage::AwaitingAnswer | Stage::Answering | Stage::Establishing
                if counts && !self.reached.connected =>
            {
                cx.evidence.offer_sent = false;
                return over(AttemptEnd::Offer(failure));
            }
            Stage::Live | Stage::Recovering if counts && awaiting => self.on_offer_unsent(cx),
            Stage::Connecting
            | Stage::Offering
            | Stage::AwaitingAnswer
            | Stage::AwaitingOffer
            | Stage::Answering
            | Stage::Establishing
            | Stage::AwaitingMedia
            | Stage::Live
            | Stage::Recovering => cx.ignore(Ignored::Status),
        }
        ON
    }

    // Answers to our offers.

    pub(super) fn on_answer(
        &mut self,
        cx: &mut Context,
        sender: Sender,
        body: Result<Description, Undecodable>,
    ) -> Flow {
        if sender == Sender::Other {
            cx.ignore(Ignored::Foreign);
            return ON;
        }
        self.see_master(cx);
        let Ok(answer) = body else { return self.on_undecodable_answer(cx) };
        match self.exchange.fit(&answer) {
            AnswerFit::Awaited => return self.on_awaited_answer(cx, answer),
            AnswerFit::Early => {}
            AnswerFit::Duplicate => cx.ignore(Ignored::Duplicate),
            AnswerFit::SecondEarly => {
                self.suspect_answer(cx);
                cx.ignore(Ignored::SecondAnswer);
            }
            AnswerFit::Second => self.on_second_answer(cx),
            AnswerFit::Unsolicited => cx.ignore(Ignored::Unsolicited),
        }
        ON
    }

    fn on_undecodable_answer(&mut self, cx: &mut Context) -> Flow {
        let awaiting = self.exchange.at() == ExchangeState::AwaitingAnswer;
        let first = matches!(self.stage, Stage::Offering | Stage::AwaitingAnswer);
        if first && (awaiting || self.exchange.at() == ExchangeState::SendingOffer) {
            return over(AttemptEnd::UndecodableAnswer);
        }
        if awaiting && self.exchange.is_restarting() {
            return self.on_restart_refused(cx, false);
        }
        if awaiting {
            self.exchange.roll_back(cx, self.peer.id);
        } else {
            cx.ignore(Ignored::Undecodable);
        }
        ON
    }

    /// Another answer to an offer that has one. Nothing in an answer names the offer that it is for
    /// (kvs-protocol.md 2.5), so before the connection is up the first may be the wrong one (N4).
    fn on_second_answer(&mut self, cx: &mut Context) {
        cx.ignore(Ignored::SecondAnswer);
        if self.stage == Stage::Establishing {
            self.suspect_answer(cx);
            cx.shorten(Timer::Establish, cx.config.settings().suspect_timeout);
        }
    }

    fn suspect_answer(&mut self, cx: &mut Context) {
        self.exchange.history.answer_suspect = true;
        cx.evidence.answer_suspect = true;
    }

    /// A later answer must come from the session we are connected with; a restart's must bring
    /// new credentials (contract, N4).
    fn on_awaited_answer(&mut self, cx: &mut Context, answer: Description) -> Flow {
        let theirs = Identity::of(&answer.facts);
        if let Some(known) = &self.exchange.history.remote {
            if known.is_other_session(&theirs) {
                // Before the connection is up the first answer may be the wrong one (N4).
                if self.stage == Stage::Establishing {
                    self.on_second_answer(cx);
                    return ON;
                }
                return self.on_restart_refused(cx, true);
            }
            let restart = self.exchange.is_restarting();
            if restart && self.exchange.history.has_credentials_of(&theirs) {
                return self.on_restart_refused(cx, false);
            }
            // New credentials answer a restart alone: one that was given up meanwhile.
            if !restart && known.is_other_generation(&theirs) {
                cx.ignore(Ignored::Unsolicited);
                return ON;
            }
        }
        self.accept(cx, answer)
    }

    fn accept(&mut self, cx: &mut Context, answer: Description) -> Flow {
        let after = cx.now.saturating_since(self.exchange.sent_at().unwrap_or(cx.now));
        let first = self.stage == Stage::AwaitingAnswer;
        self.exchange.history.apply(&answer);
        cx.evidence.answered = true;
        cx.disarm(Timer::Answer);
        cx.tell(Event::AnswerReceived { after });
        let mut known = cx.policy.master;
        if self.exchange.is_restarting() {
            known.answers_restarts = Some(true);
        }
        if first && self.repeats_id {
            known.answers_repeated_id = Some(true);
        }
        cx.learn(known);
        // Until media flows, the newest answer determines what will be sent.
        if first || matches!(self.stage, Stage::Establishing | Stage::AwaitingMedia) {
            self.media.expect(&cx.config, &answer.facts);
            let refuses = answer.facts.refuses_everything();
            if refuses || (wants_media(&cx.config) && self.media.expects_nothing()) {
                cx.evidence.sends_nothing = !refuses;
                return over(AttemptEnd::NothingAccepted);
            }
        }
        if first {
            self.enter(cx, Stage::Establishing);
            cx.arm(Timer::Establish, cx.config.settings().establish_timeout);
            if self.exchange.history.answer_suspect {
                cx.shorten(Timer::Establish, cx.config.settings().suspect_timeout);
            }
        }
        if self.exchange.apply(cx, self.peer.id, answer) {
            self.candidates.local.next_exchange();
            self.candidates.remote.next_exchange(true);
        }
        ON
    }

    /// The other side's description is set: its candidates may go in.
    pub(super) fn on_remote_set(&mut self, cx: &mut Context) {
        let is_answer = self.exchange.on_remote_set();
        let remote = self.exchange.history.remote.as_ref();
        let ufrag = remote.and_then(|remote| remote.ufrag.clone());
        self.candidates.on_remote_set(cx, self.peer.id, ufrag);
        if !is_answer {
            return self.exchange.create_answer(cx, self.peer.id);
        }
        self.release_candidates(CandidateRelease::AfterOffer);
        self.release_candidates(CandidateRelease::AfterAnswer);
        let connected = self.peer.is_connected();
        match self.stage {
            Stage::Establishing if connected => self.on_connection_up(cx),
            Stage::Recovering if connected && self.peer.keeps_pair() => self.on_recovered(cx),
            Stage::Live => self.settle_restart(cx),
            Stage::AwaitingMedia if connected => self.on_media(cx),
            Stage::Connecting
            | Stage::Offering
            | Stage::AwaitingAnswer
            | Stage::AwaitingOffer
            | Stage::Answering
            | Stage::Establishing
            | Stage::AwaitingMedia
            | Stage::Recovering => {}
        }
    }

    pub(super) fn on_answer_refused(&mut self, cx: &mut Context, failure: Failure) -> Flow {
        if !self.exchange.is_later() {
            return end_refused(cx, failure);
        }
        // Whether it was set is unknown, so no offer can be made from a stable state any more.
        if failure.code == FailureCode::TimedOut {
            return self.on_rollback_failed(cx, failure);
        }
        // A restart that was set took the pair with it on some stacks: its deadline decides.
        self.exchange.roll_back(cx, self.peer.id);
        ON
    }

    // Candidates.

    pub(super) fn on_candidate(
        &mut self,
        cx: &mut Context,
        sender: Sender,
        body: Result<Candidate, Undecodable>,
    ) {
        if sender == Sender::Other {
            return cx.ignore(Ignored::Foreign);
        }
        self.see_master(cx);
        match body {
            Ok(candidate) => self.candidates.on_remote(cx, self.peer.id, candidate),
            Err(Undecodable) => cx.ignore(Ignored::Undecodable),
        }
    }

    /// Local candidates may be sent from a moment on that the peer stack names.
    pub(super) fn release_candidates(&mut self, moment: CandidateRelease) {
        if self.peer.traits.is_some_and(|traits| traits.candidates == moment) {
            self.candidates.local.release();
        }
    }
}

/// A first description of the master's was not set: for its content, or by a stack that fails.
pub(super) fn end_refused(cx: &mut Context, failure: Failure) -> Flow {
    use FailureCode::{Cancelled, Closed, NotOpen, Port, TimedOut};
    if matches!(failure.code, TimedOut | Port | NotOpen | Closed | Cancelled) {
        return over(AttemptEnd::Peer(failure));
    }
    cx.policy.answers_refused += 1;
    over(AttemptEnd::AnswerRefused(failure))
}
