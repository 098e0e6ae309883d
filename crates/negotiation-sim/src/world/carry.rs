//! Carrying out commands, and carrying letters: the ports' and the service's part of the world.

use core::time::Duration;

use negotiation_core::{
    Candidate, ClientId, Description, Done, Failure, FailureCode, Input, Message, PeerCommand,
    PeerId, Sender, SignalingCommand, SignalingEvent, Ticket, Timestamp, Undecodable,
};

use super::{Happening, Owner, Running, Work, World};
use crate::faults::{Handling, Mail, Op, OpFault};
use crate::master::Word;
use crate::peer::{Peer, is_close};
use crate::plan::PathTraits;

/// How long a held letter waits for another one.
const HELD_MAX: Duration = Duration::from_secs(1);

/// Longer than any run.
const HANGS: Duration = Duration::from_secs(1_000_000);

impl World {
    pub(super) fn do_signaling(&mut self, ticket: Ticket, command: SignalingCommand) {
        let soon = Duration::from_millis(5);
        match command {
            SignalingCommand::Connect { link, .. } => {
                self.link = link;
                let key = (self.number, link);
                let fault = self.book.op(Op::Connect);
                let (at, work) = match self.service.connect(self.now, key) {
                    Some(at) => (at, Work::Opens(key)),
                    None => {
                        let full = Failure::new(FailureCode::ViewerLimit, "no client id is free");
                        (self.now, Work::Fails(full))
                    }
                };
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::FetchIceServers { link } => {
                let at = self.now + self.plan.service.ice_servers_after;
                let fault = self.book.op(Op::IceServers);
                let work = Work::Brings(Done::IceServers(self.service.ice_servers()));
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::Send { link, message } => {
                let op = match &message {
                    Message::Offer(_) => {
                        self.newest_offer = Some(ticket);
                        Op::SendOffer
                    }
                    Message::Candidate(_) => Op::SendCandidate,
                };
                let fault = self.book.op(op);
                let work = Work::Sends((self.number, link), message);
                self.run(ticket, Owner::Link(link), work, self.now + soon, fault);
            }
            SignalingCommand::Disconnect { link } => {
                self.cancel(|owner| owner == Owner::Link(link), |_| true);
                let key = (self.number, link);
                if let Some(id) = self.service.close(self.now, key) {
                    // Until DTLS says goodbye the master only sees a viewer that is silent.
                    self.master.lose(self.now, &id, self.says_goodbye());
                }
                let fault = self.book.op(Op::Disconnect);
                self.run(ticket, Owner::Link(link), Work::Brings(Done::Ok), self.now + soon, fault);
            }
        }
    }

    fn says_goodbye(&self) -> bool {
        self.peers.get(&self.peer).is_some_and(Peer::is_connected)
    }

    pub(super) fn do_peer(&mut self, ticket: Ticket, command: PeerCommand) {
        let (id, op) = address(&command);
        let within = self.plan.config.operation_timeout;
        if op == Op::Create {
            if self.peers.contains_key(&id) {
                self.oracle.report(format!("peer {}: made twice", id.0));
            }
            let path = self.path();
            self.peer = id;
            self.peers.insert(id, Peer::new(id.0, self.plan.stack.clone(), path, self.now));
        }
        let fault = self.book.op(op);
        if is_close(&command) {
            // A close overtakes what is queued and abandons what runs.
            let closing = |work: &Work| matches!(work, Work::Peer(command) if is_close(command));
            self.cancel(|owner| owner == Owner::Peer(id), |work| !closing(work));
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            self.oracle.report(format!("peer {}: {op:?} before it was made", id.0));
            return;
        };
        peer.submit(self.now, within, &command);
        if is_close(&command) {
            peer.busy_until = self.now;
        }
        let extra = match fault {
            Some(OpFault::Late(late)) => late,
            Some(OpFault::Hang) => HANGS,
            Some(OpFault::Fail(_)) | None => Duration::ZERO,
        };
        let at = peer.busy_until.max(self.now) + self.plan.stack.op_after + extra;
        if at >= self.now + within {
            peer.disturb();
        }
        peer.busy_until = at;
        for what in peer.take_violations() {
            self.oracle.report(format!("{}: {what}", self.now));
        }
        let fault = match fault {
            Some(OpFault::Late(_)) => None,
            Some(OpFault::Fail(_) | OpFault::Hang) | None => fault,
        };
        self.run(ticket, Owner::Peer(id), Work::Peer(command), at, fault);
    }

    fn path(&self) -> PathTraits {
        let attempt = self.session.attempt().saturating_sub(1) as usize;
        self.plan.paths.get(attempt).or(self.plan.paths.last()).copied().unwrap_or_default()
    }

    fn run(
        &mut self,
        ticket: Ticket,
        owner: Owner,
        work: Work,
        at: Timestamp,
        fault: Option<OpFault>,
    ) {
        let (work, at) = match fault {
            None => (work, Some(at)),
            Some(OpFault::Late(late)) => (work, Some(at + late)),
            Some(OpFault::Hang) => (work, None),
            Some(OpFault::Fail(code)) => {
                let failure = Failure::new(code, "as planned").named("PlannedException");
                (Work::Fails(failure), Some(at))
            }
        };
        self.running.insert(ticket, Running { owner, work });
        // What is queued behind something that hangs will not be done either.
        if let Some(at) = at.filter(|at| *at < self.now + HANGS) {
            self.schedule_at(at, Happening::Done(self.number, ticket));
        }
    }

    /// What a close overtakes completes as cancelled.
    fn cancel(&mut self, of: impl Fn(Owner) -> bool, which: impl Fn(&Work) -> bool) {
        let overtaken: Vec<Ticket> = self
            .running
            .iter()
            .filter(|(_, running)| of(running.owner) && which(&running.work))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in overtaken {
            if let Some(running) = self.running.get_mut(&ticket) {
                running.work = Work::Fails(Failure::cancelled());
            }
            self.schedule(Duration::ZERO, Happening::Done(self.number, ticket));
        }
    }

    /// A command is done: what it brings is found out now.
    pub(super) fn done(&mut self, ticket: Ticket) {
        let Some(Running { owner, work }) = self.running.remove(&ticket) else { return };
        let outcome = match work {
            Work::Fails(failure) => Err(failure),
            Work::Brings(done) => Ok(done),
            Work::Opens(key) => match self.service.open(key) {
                Some(id) => Ok(Done::Connected(id)),
                None => Err(Failure::new(FailureCode::NotOpen, "closed meanwhile")),
            },
            Work::Sends(key, message) => self.send(key, message),
            Work::Peer(command) => return self.peer_done(ticket, command),
        };
        // A failed set of a peer must still be seen by its model, so owners are kept apart here.
        if let (Owner::Peer(id), Err(_)) = (owner, &outcome)
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.forget_operation();
        }
        self.complete(ticket, outcome);
    }

    fn peer_done(&mut self, ticket: Ticket, command: PeerCommand) {
        let (id, _) = address(&command);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let outcome = peer.carry_out(&command);
        for what in peer.take_violations() {
            self.oracle.report(format!("{}: {what}", self.now));
        }
        let gathered = peer.gather();
        peer.told(&command, outcome.is_ok());
        if let (PeerCommand::CreateOffer { .. }, Ok(Done::Description(offer))) =
            (&command, &outcome)
        {
            self.offers_made.insert(id.0, offer.clone());
        }
        for (after, event) in gathered {
            self.notice(id, after, event);
        }
        self.complete(ticket, outcome);
        self.try_connect(id);
    }

    fn try_connect(&mut self, id: PeerId) {
        let heard = self.heard.contains(&id) && self.plan.master.reaches_viewer;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for (after, event) in peer.connect(heard) {
            self.notice(id, after, event);
        }
    }

    fn send(&mut self, key: crate::service::LinkKey, message: Message) -> Result<Done, Failure> {
        let is_offer = matches!(message, Message::Offer(_));
        let Some(id) = self.service.sender(key, is_offer) else {
            return Err(Failure::new(FailureCode::NotOpen, "the link is not open"));
        };
        let (kind, letter) = match message {
            Message::Offer(offer) => (Mail::Offer, Happening::OfferArrives(id, offer)),
            Message::Candidate(candidate) => {
                (Mail::ViewerCandidate, Happening::CandidateArrives(id, candidate))
            }
        };
        let way = self.plan.service.mail_after;
        match self.book.mail(kind) {
            Some(Handling::Drop | Handling::Corrupt) => {}
            Some(Handling::Delay(late)) => self.schedule(way + late, letter),
            Some(Handling::Duplicate(late)) => {
                self.schedule(way, letter.clone());
                self.schedule(way + late, letter);
            }
            Some(Handling::Hold) => self.schedule(way + HELD_MAX, letter),
            Some(Handling::AfterOld | Handling::From(_)) | None => self.schedule(way, letter),
        }
        Ok(Done::Ok)
    }

    pub(super) fn offer_arrives(&mut self, from: ClientId, offer: Description) {
        if !self.service.master_here() {
            return self.service.keep_offer(self.now, from, offer);
        }
        for (after, word) in self.master.take_offer(self.now, &from, &offer) {
            let way = self.plan.service.mail_after;
            self.schedule(after + way, Happening::WordArrives(from.clone(), word));
        }
    }

    pub(super) fn candidate_arrives(&mut self, from: ClientId, candidate: Candidate) {
        if !self.service.master_here() {
            return self.service.keep_candidate(&from, candidate);
        }
        // The master now knows an address of the peer's that is on this link.
        if self.service.link_of(&from) == Some((self.number, self.link)) {
            self.heard.insert(self.peer);
            self.try_connect(self.peer);
        }
    }

    pub(super) fn master_arrives(&mut self) {
        for (id, offer, candidates) in self.service.master_arrives(self.now) {
            self.offer_arrives(id.clone(), offer);
            for candidate in candidates {
                self.candidate_arrives(id.clone(), candidate);
            }
        }
    }

    /// The master's word goes to the link of that id, if it has one.
    pub(super) fn word_arrives(&mut self, to: &ClientId, word: Word) {
        let (kind, sender) = match &word {
            Word::Answer(_) => (Mail::Answer, Sender::Master),
            Word::Candidate(_) => (Mail::MasterCandidate, Sender::Master),
        };
        let handling = self.book.mail(kind);
        let Some((number, link)) = self.service.link_of(to) else { return };
        if number != self.number {
            return;
        }
        if let Word::Answer(Ok(answer)) = &word {
            self.answers.push((self.session.attempt(), answer.clone()));
        }
        let plain = Input::Signaling(link, event(&word, sender));
        let now = Duration::ZERO;
        match handling {
            None => self.pass(now, plain),
            Some(Handling::Drop) => {}
            Some(Handling::Delay(late)) => self.pass(late, plain),
            Some(Handling::Duplicate(late)) => {
                self.pass(now, plain.clone());
                self.pass(late, plain);
            }
            Some(Handling::Hold) => {
                self.held_mail.push(plain);
                self.schedule(HELD_MAX, Happening::ReleaseHeld);
            }
            Some(Handling::Corrupt) => {
                let broken = match word {
                    Word::Answer(_) => SignalingEvent::Answer { sender, body: Err(Undecodable) },
                    Word::Candidate(_) => {
                        SignalingEvent::Candidate { sender, body: Err(Undecodable) }
                    }
                };
                self.pass(now, Input::Signaling(link, broken));
            }
            Some(Handling::AfterOld) => {
                if let Some(old) = self.old_answer() {
                    let old = Word::Answer(Ok(old));
                    self.pass(now, Input::Signaling(link, event(&old, sender)));
                }
                self.pass(now, plain);
            }
            Some(Handling::From(other)) => {
                self.pass(now, Input::Signaling(link, event(&word, other)));
            }
        }
    }

    /// A letter passes, and what was held for it follows.
    fn pass(&mut self, after: Duration, letter: Input) {
        self.schedule(after, Happening::Input(self.number, letter));
        if after == Duration::ZERO {
            self.release_held();
        }
    }

    pub(super) fn release_held(&mut self) {
        for letter in core::mem::take(&mut self.held_mail) {
            self.schedule(Duration::ZERO, Happening::Input(self.number, letter));
        }
    }

    /// The newest answer to an earlier attempt's offer; one is made up where none ever came.
    pub(super) fn old_answer(&self) -> Option<Description> {
        let attempt = self.session.attempt();
        let old = self.answers.iter().rev().find(|(number, _)| *number < attempt);
        if let Some((_, answer)) = old {
            return Some(answer.clone());
        }
        let (_, offer) = self.offers_made.range(..self.peer.0).next_back()?;
        let mut answer = offer.clone();
        let text = format!("answer 0 to {}", offer.sdp.as_str());
        answer.sdp = negotiation_core::Sdp::new(&text);
        Some(answer)
    }
}

fn event(word: &Word, sender: Sender) -> SignalingEvent {
    match word.clone() {
        Word::Answer(body) => SignalingEvent::Answer { sender, body },
        Word::Candidate(candidate) => SignalingEvent::Candidate { sender, body: Ok(candidate) },
    }
}

/// Whom a command is for, and its kind.
fn address(command: &PeerCommand) -> (PeerId, Op) {
    match command {
        PeerCommand::Create { peer } => (*peer, Op::Create),
        PeerCommand::CreateOffer { peer } => (*peer, Op::CreateOffer),
        PeerCommand::SetIceServers { peer, .. } => (*peer, Op::SetIceServers),
        PeerCommand::SetLocal { peer, .. } => (*peer, Op::SetLocal),
        PeerCommand::SetRemote { peer, .. } => (*peer, Op::SetRemote),
        PeerCommand::Rollback { peer } => (*peer, Op::Rollback),
        PeerCommand::AddCandidate { peer, .. } => (*peer, Op::AddCandidate),
        PeerCommand::RequestKeyframe { peer } => (*peer, Op::RequestKeyframe),
        PeerCommand::StopTransceivers { peer } => (*peer, Op::StopTransceivers),
        PeerCommand::RemoveTracks { peer } => (*peer, Op::RemoveTracks),
        PeerCommand::Close { peer } => (*peer, Op::Close),
    }
}
