//! Carrying out commands, and carrying letters: the ports' and the service's part of the world.

use core::time::Duration;

use negotiation_core::{
    Candidate, ClientId, Connectivity, Description, Done, Failure, FailureCode, Input, LinkId,
    Message, PeerCommand, PeerEvent, PeerId, Sender, SignalingCommand, SignalingEvent, Ticket,
    Timestamp, Undecodable,
};

use super::{Happening, Owner, Running, Work, World};
use crate::coverage::Named;
use crate::faults::{Handling, Mail, Op, OpFault};
use crate::master::Word;
use crate::peer::Peer;
use crate::plan::PathTraits;

/// How long a held letter waits for another one.
const HELD_MAX: Duration = Duration::from_secs(1);

/// Longer than any run.
const HANGS: Duration = Duration::from_secs(1_000_000);

impl World {
    pub(super) fn do_signaling(&mut self, ticket: Ticket, command: SignalingCommand) {
        let soon = Duration::from_millis(5);
        match command {
            SignalingCommand::Connect { link, client_id, .. } => {
                self.link = link;
                let key = (self.number, link);
                let fault = self.op_fault(Op::Connect);
                let follows = client_id.is_some();
                let (at, work) = match self.service.connect(self.now, key, client_id) {
                    Some(at) if follows && self.service.refuses_second && self.has_other(key) => {
                        let refused = Failure::new(FailureCode::Service, "the id is in use");
                        (at, Work::Fails(refused))
                    }
                    Some(at) => (at, Work::Opens(key)),
                    None => {
                        let full = Failure::new(FailureCode::ViewerLimit, "no client id is free");
                        (self.now, Work::Fails(full))
                    }
                };
                self.run(ticket, Owner::Link(link), work, at, fault);
                if let Some(running) = self.running.get_mut(&ticket) {
                    running.connects = true;
                }
            }
            SignalingCommand::FetchIceServers { link } => {
                let at = self.now + self.plan.service.ice_servers_after;
                let fault = self.link_fault(link, Op::IceServers);
                let work = Work::Brings(Done::IceServers(self.service.ice_servers()));
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::Send { link, message } => {
                let op = match &message {
                    Message::Offer(_) => {
                        self.newest_offer = Some(ticket);
                        Op::SendOffer
                    }
                    Message::Answer(_) => Op::SendAnswer,
                    Message::Candidate(_) => Op::SendCandidate,
                };
                let fault = self.link_fault(link, op);
                let work = Work::Sends((self.number, link), message);
                self.run(ticket, Owner::Link(link), work, self.now + soon, fault);
            }
            SignalingCommand::Join { link } => {
                let fault = self.link_fault(link, Op::Join);
                let key = (self.number, link);
                let work = Work::Joins(key);
                let at = self.now + self.plan.service.ice_servers_after;
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::Disconnect { link } => {
                self.abandon_link(link);
                let key = (self.number, link);
                self.service.close(self.now, key);
                let fault = self.op_fault(Op::Disconnect);
                self.run(ticket, Owner::Link(link), Work::Brings(Done::Ok), self.now + soon, fault);
            }
        }
    }

    /// What goes wrong with a command on a link; nothing is begun on one that is gone.
    fn link_fault(&mut self, link: LinkId, op: Op) -> Option<OpFault> {
        let there = self.service.knows((self.number, link));
        if there { self.op_fault(op) } else { None }
    }

    fn op_fault(&mut self, op: Op) -> Option<OpFault> {
        let fault = self.book.op(op)?;
        self.struck.op(op, fault);
        Some(fault)
    }

    /// Until DTLS says goodbye the master only sees a viewer that is silent.
    pub(super) fn goes(&mut self, id: PeerId, speaks: bool) {
        let connected = self.peers.get(&id).is_some_and(Peer::is_connected);
        let goodbye = speaks && connected && self.network_up;
        if let Some(known_as) = self.known_as.get(&id) {
            let who = format!("viewer {}", id.0);
            self.master.lose(self.now, known_as, &who, goodbye);
        }
    }

    fn has_other(&self, key: crate::service::LinkKey) -> bool {
        self.service.open_links().iter().any(|other| *other != key)
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
        let fault = self.op_fault(op);
        if command.is_close() {
            // A close overtakes what is queued and abandons what runs.
            let closing = |work: &Work| matches!(work, Work::Peer(command) if command.is_close());
            self.cancel(|owner| owner == Owner::Peer(id), |work| !closing(work));
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            self.oracle.report(format!("peer {}: {op:?} before it was made", id.0));
            return;
        };
        peer.submit(self.now, within, &command);
        if command.is_close() {
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

    pub(super) fn path(&self) -> PathTraits {
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
        self.running.insert(ticket, Box::new(Running { owner, work, connects: false }));
        // What is queued behind something that hangs will not be done either.
        if let Some(at) = at.filter(|at| *at < self.now + HANGS) {
            self.schedule_at(at, Happening::Done(self.number, ticket));
        }
    }

    /// Whatever was under way on a link.
    pub(super) fn abandon_link(&mut self, link: LinkId) {
        self.cancel(
            |owner| owner == Owner::Link(link),
            |work| !matches!(work, Work::Brings(Done::Ok)),
        );
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
        let Some(running) = self.running.remove(&ticket) else { return };
        let Running { owner, work, connects } = *running;
        let outcome = match work {
            Work::Fails(failure) => Err(failure),
            Work::Brings(done) => Ok(done),
            Work::Opens(_) if !self.network_up => {
                Err(Failure::new(FailureCode::Network, "unreachable"))
            }
            Work::Joins(key) => match self.service.id_of(key).filter(|_| self.network_up) {
                Some(id) => {
                    self.schedule(self.plan.service.mail_after, Happening::Offers(id));
                    Ok(Done::Ok)
                }
                None => Err(Failure::new(FailureCode::Network, "unreachable")),
            },
            Work::Opens(key) => match self.service.open(key) {
                Some(id) => {
                    self.link_opened(key);
                    Ok(Done::Connected(id))
                }
                None => Err(Failure::new(FailureCode::NotOpen, "closed meanwhile")),
            },
            Work::Sends(key, message) => self.send(key, message),
            Work::Peer(command) => return self.peer_done(ticket, command),
        };
        if let (Owner::Link(link), Err(_), true) = (owner, &outcome, connects) {
            self.service.close(self.now, (self.number, link));
        }
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
        let had_pair = peer.has_pair();
        let outcome = peer.carry_out(&command);
        for what in peer.take_violations() {
            self.oracle.report(format!("{}: {what}", self.now));
        }
        let dropped = peer.take_dropped(had_pair);
        let gathered = peer.gather();
        let stale = !gathered.is_empty()
            && peer.servers().is_some_and(|servers| self.service.is_expired(servers));
        self.stale_turn += u32::from(stale);
        peer.told(&command, outcome.is_ok());
        if let (PeerCommand::CreateOffer { .. }, Ok(Done::Description(offer))) =
            (&command, &outcome)
        {
            self.offers_made.insert(id.0, offer.clone());
        }
        for (after, event) in gathered {
            self.schedule(after, Happening::Notice(self.number, id, None, event));
        }
        self.notice(id, dropped);
        if matches!(command, PeerCommand::Close { .. }) {
            self.goes(id, true);
        }
        self.complete(ticket, outcome);
        self.try_connect(id);
    }

    pub(super) fn try_connect(&mut self, id: PeerId) {
        let heard = self.heard.contains(&id) && self.plan.master.reaches_viewer;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !self.network_up {
            return;
        }
        let notices = peer.connect(heard);
        self.notice(id, notices);
    }

    fn send(&mut self, key: crate::service::LinkKey, message: Message) -> Result<Done, Failure> {
        let is_offer = matches!(message, Message::Offer(_) | Message::Answer(_));
        let Some(id) = self.service.sender(key, is_offer) else {
            return Err(Failure::new(FailureCode::NotOpen, "the link is not open"));
        };
        if is_offer {
            self.known_as.insert(self.peer, id.clone());
        }
        let (kind, letter) = match message {
            Message::Answer(answer) => (Mail::ViewerAnswer, Happening::AnswerArrives(id, answer)),
            Message::Offer(offer) => (Mail::Offer, Happening::OfferArrives(id, offer)),
            Message::Candidate(candidate) => {
                (Mail::ViewerCandidate, Happening::CandidateArrives(id, candidate))
            }
        };
        let way = self.plan.service.mail_after;
        // A socket that nobody knows to be dead swallows what is written to it.
        if !self.network_up || self.service.is_stranded(key) {
            return Ok(Done::Ok);
        }
        let handling = self.book.mail(kind);
        if let Some(handling) = handling {
            self.struck.mail(handling);
        }
        match handling {
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
            self.struck.hit(Named::MasterAbsent);
            return self.service.keep_offer(self.now, from, offer);
        }
        let reply = self.master.take_offer(self.now, &from, &offer);
        if let Some(fault) = reply.fault {
            self.struck.hit(fault);
        }
        self.master_says(&from, reply.words);
        if reply.starts_over {
            self.master_leaves_session(&from);
        }
    }

    pub(super) fn master_says(&mut self, to: &ClientId, words: Vec<(Duration, Word)>) {
        let way = self.plan.service.mail_after;
        for (after, word) in words {
            self.schedule(after + way, Happening::WordArrives(to.clone(), word));
        }
    }

    /// The master closed the connection that it had under this id.
    pub(super) fn master_leaves_session(&mut self, id: &ClientId) {
        if self.known_as.get(&self.peer) == Some(id)
            && self.peers.get(&self.peer).is_some_and(Peer::has_pair)
        {
            let closed = PeerEvent::ConnectivityChanged(Connectivity::ClosedByPeer);
            self.notice(self.peer, vec![(self.plan.service.mail_after, closed)]);
        }
    }

    pub(super) fn answer_arrives(&mut self, from: &ClientId, answer: &Description) {
        if !self.service.master_here() || !self.master.take_answer(from, answer) {
            return;
        }
        let id = self.peer;
        if self.known_as.get(&id) == Some(from)
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.master_agrees(&answer.sdp);
            self.try_connect(id);
        }
    }

    /// A link is open: another viewer may take it, and an older one of the same id is closed.
    fn link_opened(&mut self, key: crate::service::LinkKey) {
        if let Some(older) = self.service.older_of(key) {
            let way = self.plan.service.mail_after;
            self.schedule(way, Happening::LinkEnds(older, FailureCode::Closed));
        }
        if self.service.takeovers > 0 {
            self.service.takeovers -= 1;
            let soon = Duration::from_secs(1);
            self.schedule(soon, Happening::LinkEnds(key, FailureCode::Closed));
        }
    }

    pub(super) fn candidate_arrives(&mut self, from: ClientId, candidate: Candidate) {
        if !self.service.master_here() {
            return self.service.keep_candidate(&from, candidate);
        }
        // The master now knows an address of the peer's that is on this link.
        if self.known_as.get(&self.peer) == Some(&from) {
            self.heard.insert(self.peer);
            self.try_connect(self.peer);
        }
    }

    pub(super) fn master_arrives(&mut self) {
        for (id, offer, candidates) in self.service.master_arrives(self.now) {
            self.struck.hit(Named::MasterLater);
            self.offer_arrives(id.clone(), offer);
            for candidate in candidates {
                self.candidate_arrives(id.clone(), candidate);
            }
        }
    }

    /// The master's word goes to the link of that id, if it has one.
    pub(super) fn word_arrives(&mut self, to: &ClientId, word: Word) {
        let (kind, sender) = match &word {
            Word::Offer(_) => (Mail::MasterOffer, Sender::Master),
            Word::Answer(_) => (Mail::Answer, Sender::Master),
            Word::Candidate(_) => (Mail::MasterCandidate, Sender::Master),
        };
        let handling = self.book.mail(kind);
        let Some((number, link)) = self.service.link_of(to).filter(|_| self.network_up) else {
            return;
        };
        if number != self.number || self.service.is_stranded((number, link)) {
            return;
        }
        if let Word::Answer(Ok(answer)) = &word {
            self.answers.push((self.session.attempt(), answer.clone()));
        }
        if let Some(handling) = handling {
            self.struck.mail(handling);
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
                    Word::Offer(_) => SignalingEvent::Offer { sender, body: Err(Undecodable) },
                    Word::Answer(_) => SignalingEvent::Answer { sender, body: Err(Undecodable) },
                    Word::Candidate(_) => {
                        SignalingEvent::Candidate { sender, body: Err(Undecodable) }
                    }
                };
                self.pass(now, Input::Signaling(link, broken));
            }
            Some(Handling::AfterOld) => {
                if let Some(old) = self.old_answer() {
                    self.struck.hit(Named::Replay);
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
            if !self.held_mail.is_empty() {
                self.struck.hit(Named::Reorder);
            }
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
        Word::Offer(offer) => SignalingEvent::Offer { sender, body: Ok(offer) },
        Word::Answer(body) => SignalingEvent::Answer { sender, body },
        Word::Candidate(candidate) => SignalingEvent::Candidate { sender, body: Ok(candidate) },
    }
}

/// Whom a command is for, and its kind.
fn address(command: &PeerCommand) -> (PeerId, Op) {
    match command {
        PeerCommand::Create { peer } => (*peer, Op::Create),
        PeerCommand::CreateOffer { peer, .. } => (*peer, Op::CreateOffer),
        PeerCommand::CreateAnswer { peer } => (*peer, Op::CreateAnswer),
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
