//! Carries out commands and delivers messages: the ports' and the service's part of the world.

use core::time::Duration;

use negotiation_core::{
    Candidate, ClientId, ConnectionId, Connectivity, Description, Done, Failure, FailureCode,
    Input, Message, PeerCommand, PeerEvent, PeerId, Sender, SignalingCommand, SignalingEvent,
    Ticket, Timestamp, Undecodable,
};

use super::{Owner, Running, ScheduledEvent, Work, World};
use crate::faults::{CommandFault, CommandKind, Delivery, MessageKind};
use crate::master::MasterMessage;
use crate::peer::Peer;
use crate::tally::FaultName;
use crate::traits::PathTraits;

/// How long a held message waits for another one.
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
                let fault = self.command_fault(CommandKind::Connect);
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
                let fault = self.link_fault(link, CommandKind::IceServers);
                let work = Work::Brings(Done::IceServers(self.service.ice_servers()));
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::Send { link, message } => {
                let command = match &message {
                    Message::Offer(_) => {
                        self.newest_offer = Some(ticket);
                        CommandKind::SendOffer
                    }
                    Message::Answer(_) => CommandKind::SendAnswer,
                    Message::Candidate(_) => CommandKind::SendCandidate,
                };
                let fault = self.link_fault(link, command);
                let work = Work::Sends((self.number, link), message);
                self.run(ticket, Owner::Link(link), work, self.now + soon, fault);
            }
            SignalingCommand::Join { link } => {
                let fault = self.link_fault(link, CommandKind::Join);
                let key = (self.number, link);
                let work = Work::Joins(key);
                let at = self.now + self.plan.service.ice_servers_after;
                self.run(ticket, Owner::Link(link), work, at, fault);
            }
            SignalingCommand::Disconnect { link } => {
                self.abandon_link(link);
                let key = (self.number, link);
                self.service.close(self.now, key);
                let fault = self.command_fault(CommandKind::Disconnect);
                self.run(ticket, Owner::Link(link), Work::Brings(Done::Ok), self.now + soon, fault);
            }
        }
    }

    /// The fault of a command on a connection; a command on a closed connection hits none.
    fn link_fault(&mut self, link: ConnectionId, command: CommandKind) -> Option<CommandFault> {
        let there = self.service.is_open_or_opening((self.number, link));
        if there { self.command_fault(command) } else { None }
    }

    fn command_fault(&mut self, command: CommandKind) -> Option<CommandFault> {
        let fault = self.faults.command(command)?;
        self.fault_counts.command(command, fault);
        Some(fault)
    }

    /// Reports to the master that a peer connection is closed. Without a DTLS close the master only
    /// stops receiving packets.
    pub(super) fn peer_gone(&mut self, id: PeerId, closes: bool) {
        let connected = self.peers.get(&id).is_some_and(Peer::is_connected);
        let closed = closes && connected && self.network_up;
        if let Some(known_as) = self.known_as.get(&id) {
            let who = format!("viewer {}", id.0);
            self.master.lose(self.now, known_as, &who, closed);
        }
    }

    fn has_other(&self, key: crate::service::LinkKey) -> bool {
        self.service.open_links().iter().any(|other| *other != key)
    }

    pub(super) fn do_peer(&mut self, ticket: Ticket, command: PeerCommand) {
        let (id, kind) = address(&command);
        let within = self.plan.config.settings().operation_timeout;
        if kind == CommandKind::Create {
            if self.peers.contains_key(&id) {
                self.oracle.report(format!("peer {}: made twice", id.0));
            }
            let path = self.path();
            self.peer = id;
            self.peers.insert(id, Peer::new(id.0, self.plan.stack.clone(), path, self.now));
        }
        let fault = self.command_fault(kind);
        if command.is_close() {
            // A close overtakes queued commands and abandons the running one.
            let closing = |work: &Work| matches!(work, Work::Peer(command) if command.is_close());
            self.cancel(|owner| owner == Owner::Peer(id), |work| !closing(work));
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            self.oracle.report(format!("peer {}: {kind:?} before it was made", id.0));
            return;
        };
        peer.submit(self.now, within, &command);
        if command.is_close() {
            peer.busy_until = self.now;
        }
        let extra = match fault {
            Some(CommandFault::Late(late)) => late,
            Some(CommandFault::Hang) => HANGS,
            Some(CommandFault::Fail(_)) | None => Duration::ZERO,
        };
        let at = peer.busy_until.max(self.now) + self.plan.stack.operation_delay + extra;
        if at >= self.now + within {
            peer.disturb();
        }
        peer.busy_until = at;
        for what in peer.take_violations() {
            self.oracle.report(format!("{}: {what}", self.now));
        }
        let fault = match fault {
            Some(CommandFault::Late(_)) => None,
            Some(CommandFault::Fail(_) | CommandFault::Hang) | None => fault,
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
        fault: Option<CommandFault>,
    ) {
        let (work, at) = match fault {
            None => (work, Some(at)),
            Some(CommandFault::Late(late)) => (work, Some(at + late)),
            Some(CommandFault::Hang) => (work, None),
            Some(CommandFault::Fail(code)) => {
                let failure = Failure::new(code, "as planned").named("PlannedException");
                (Work::Fails(failure), Some(at))
            }
        };
        self.running.insert(ticket, Box::new(Running { owner, work, connects: false }));
        // Commands that are queued behind a hanging one are not done either.
        if let Some(at) = at.filter(|at| *at < self.now + HANGS) {
            self.schedule_at(at, ScheduledEvent::Done(self.number, ticket));
        }
    }

    /// Abandons every command on a connection.
    pub(super) fn abandon_link(&mut self, link: ConnectionId) {
        self.cancel(
            |owner| owner == Owner::Link(link),
            |work| !matches!(work, Work::Brings(Done::Ok)),
        );
    }

    /// Completes commands that a close overtakes as cancelled.
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
            self.schedule(Duration::ZERO, ScheduledEvent::Done(self.number, ticket));
        }
    }

    /// Completes a command: its result is determined now.
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
                    self.schedule(
                        self.plan.service.one_way_delay,
                        ScheduledEvent::ServiceOffers(id),
                    );
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
        // The model of a peer connection must see a failed operation too.
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
        let dropped = peer.events_of_dropped_pair(had_pair);
        let gathered = peer.gather();
        let stale = !gathered.is_empty()
            && peer.servers().is_some_and(|servers| self.service.is_expired(servers));
        self.stale_turn += u32::from(stale);
        peer.on_result(&command, outcome.is_ok());
        if let (PeerCommand::CreateOffer { .. }, Ok(Done::Description(offer))) =
            (&command, &outcome)
        {
            self.offers_made.insert(id.0, offer.clone());
        }
        for (after, event) in gathered {
            self.schedule(after, ScheduledEvent::PeerEvent(self.number, id, None, event));
        }
        self.schedule_peer_events(id, dropped);
        if matches!(command, PeerCommand::Close { .. }) {
            self.peer_gone(id, true);
        }
        self.complete(ticket, outcome);
        self.try_connect(id);
    }

    pub(super) fn try_connect(&mut self, id: PeerId) {
        let is_known = self.known_to_master.contains(&id) && self.plan.master.reaches_viewer;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !self.network_up {
            return;
        }
        let events = peer.connect(is_known);
        self.schedule_peer_events(id, events);
    }

    fn send(&mut self, key: crate::service::LinkKey, message: Message) -> Result<Done, Failure> {
        let is_offer = matches!(message, Message::Offer(_) | Message::Answer(_));
        let Some(id) = self.service.sender(key, is_offer) else {
            return Err(Failure::new(FailureCode::NotOpen, "the connection is not open"));
        };
        if is_offer {
            self.known_as.insert(self.peer, id.clone());
        }
        let (kind, message) = match message {
            Message::Answer(answer) => {
                (MessageKind::ViewerAnswer, ScheduledEvent::AnswerArrives(id, answer))
            }
            Message::Offer(offer) => {
                (MessageKind::ViewerOffer, ScheduledEvent::OfferArrives(id, offer))
            }
            Message::Candidate(candidate) => {
                (MessageKind::ViewerCandidate, ScheduledEvent::CandidateArrives(id, candidate))
            }
        };
        let way = self.plan.service.one_way_delay;
        // A dead socket accepts what is written to it until its pings time out.
        if !self.network_up || self.service.is_stranded(key) {
            return Ok(Done::Ok);
        }
        let handling = self.faults.message(kind);
        if let Some(handling) = handling {
            self.fault_counts.message(handling);
        }
        match handling {
            Some(Delivery::Drop | Delivery::Corrupt) => {}
            Some(Delivery::Delay(late)) => self.schedule(way + late, message),
            Some(Delivery::Duplicate(late)) => {
                self.schedule(way, message.clone());
                self.schedule(way + late, message);
            }
            Some(Delivery::Hold) => self.schedule(way + HELD_MAX, message),
            Some(Delivery::AfterOldAnswer | Delivery::FromSender(_)) | None => {
                self.schedule(way, message)
            }
        }
        Ok(Done::Ok)
    }

    pub(super) fn offer_arrives(&mut self, from: ClientId, offer: Description) {
        if !self.service.master_here() {
            self.fault_counts.hit(FaultName::MasterAbsent);
            return self.service.store_offer(self.now, from, offer);
        }
        let reply = self.master.take_offer(self.now, &from, &offer);
        if let Some(fault) = reply.fault {
            self.fault_counts.hit(fault);
        }
        self.master_sends(&from, reply.messages);
        if reply.starts_over {
            self.master_leaves_session(&from);
        }
    }

    pub(super) fn master_sends(&mut self, to: &ClientId, messages: Vec<(Duration, MasterMessage)>) {
        let way = self.plan.service.one_way_delay;
        for (after, message) in messages {
            self.schedule(after + way, ScheduledEvent::MasterMessageArrives(to.clone(), message));
        }
    }

    /// The master closes its peer connection for this client id.
    pub(super) fn master_leaves_session(&mut self, id: &ClientId) {
        if self.known_as.get(&self.peer) == Some(id)
            && self.peers.get(&self.peer).is_some_and(Peer::has_pair)
        {
            let closed = PeerEvent::ConnectivityChanged(Connectivity::ClosedByPeer);
            self.schedule_peer_events(self.peer, vec![(self.plan.service.one_way_delay, closed)]);
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

    /// A connection is open: another viewer may take over the id, and an older connection of the id
    /// is closed.
    fn link_opened(&mut self, key: crate::service::LinkKey) {
        if let Some(older) = self.service.older_of(key) {
            let way = self.plan.service.one_way_delay;
            self.schedule(way, ScheduledEvent::LinkEnds(older, FailureCode::Closed));
        }
        if self.service.takeovers > 0 {
            self.service.takeovers -= 1;
            let soon = Duration::from_secs(1);
            self.schedule(soon, ScheduledEvent::LinkEnds(key, FailureCode::Closed));
        }
    }

    pub(super) fn candidate_arrives(&mut self, from: ClientId, candidate: Candidate) {
        if !self.service.master_here() {
            return self.service.store_candidate(&from, candidate);
        }
        // The master now knows an address of the newest peer connection.
        if self.known_as.get(&self.peer) == Some(&from) {
            self.known_to_master.insert(self.peer);
            self.try_connect(self.peer);
        }
    }

    pub(super) fn master_arrives(&mut self) {
        for (id, offer, candidates) in self.service.master_arrives(self.now) {
            self.fault_counts.hit(FaultName::MasterLater);
            self.offer_arrives(id.clone(), offer);
            for candidate in candidates {
                self.candidate_arrives(id.clone(), candidate);
            }
        }
    }

    /// Delivers a message of the master to the connection of this client id, if there is one.
    pub(super) fn master_message_arrives(&mut self, to: &ClientId, message: MasterMessage) {
        let (kind, sender) = match &message {
            MasterMessage::Offer(_) => (MessageKind::MasterOffer, Sender::Master),
            MasterMessage::Answer(_) => (MessageKind::MasterAnswer, Sender::Master),
            MasterMessage::Candidate(_) => (MessageKind::MasterCandidate, Sender::Master),
        };
        let handling = self.faults.message(kind);
        let Some((number, link)) = self.service.link_of(to).filter(|_| self.network_up) else {
            return;
        };
        if number != self.number || self.service.is_stranded((number, link)) {
            return;
        }
        if let MasterMessage::Answer(Ok(answer)) = &message {
            self.answers.push((self.session.attempt(), answer.clone()));
        }
        if let Some(handling) = handling {
            self.fault_counts.message(handling);
        }
        let plain = Input::Signaling(link, event(&message, sender));
        let now = Duration::ZERO;
        match handling {
            None => self.pass(now, plain),
            Some(Delivery::Drop) => {}
            Some(Delivery::Delay(late)) => self.pass(late, plain),
            Some(Delivery::Duplicate(late)) => {
                self.pass(now, plain.clone());
                self.pass(late, plain);
            }
            Some(Delivery::Hold) => {
                self.held_messages.push(plain);
                self.schedule(HELD_MAX, ScheduledEvent::ReleaseHeld);
            }
            Some(Delivery::Corrupt) => {
                let broken = match message {
                    MasterMessage::Offer(_) => {
                        SignalingEvent::Offer { sender, body: Err(Undecodable) }
                    }
                    MasterMessage::Answer(_) => {
                        SignalingEvent::Answer { sender, body: Err(Undecodable) }
                    }
                    MasterMessage::Candidate(_) => {
                        SignalingEvent::Candidate { sender, body: Err(Undecodable) }
                    }
                };
                self.pass(now, Input::Signaling(link, broken));
            }
            Some(Delivery::AfterOldAnswer) => {
                if let Some(old) = self.old_answer() {
                    self.fault_counts.hit(FaultName::Replay);
                    let old = MasterMessage::Answer(Ok(old));
                    self.pass(now, Input::Signaling(link, event(&old, sender)));
                }
                self.pass(now, plain);
            }
            Some(Delivery::FromSender(other)) => {
                self.pass(now, Input::Signaling(link, event(&message, other)));
            }
        }
    }

    /// Delivers a message, and then the messages that were held for it.
    fn pass(&mut self, after: Duration, message: Input) {
        self.schedule(after, ScheduledEvent::Input(self.number, message));
        if after == Duration::ZERO {
            if !self.held_messages.is_empty() {
                self.fault_counts.hit(FaultName::Reorder);
            }
            self.release_held();
        }
    }

    pub(super) fn release_held(&mut self) {
        for message in core::mem::take(&mut self.held_messages) {
            self.schedule(Duration::ZERO, ScheduledEvent::Input(self.number, message));
        }
    }

    /// The newest answer to an earlier attempt's offer, or an invented one if there was none.
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

fn event(message: &MasterMessage, sender: Sender) -> SignalingEvent {
    match message.clone() {
        MasterMessage::Offer(offer) => SignalingEvent::Offer { sender, body: Ok(offer) },
        MasterMessage::Answer(body) => SignalingEvent::Answer { sender, body },
        MasterMessage::Candidate(candidate) => {
            SignalingEvent::Candidate { sender, body: Ok(candidate) }
        }
    }
}

/// The peer connection and the kind of a command.
fn address(command: &PeerCommand) -> (PeerId, CommandKind) {
    match command {
        PeerCommand::Create { peer } => (*peer, CommandKind::Create),
        PeerCommand::CreateOffer { peer, .. } => (*peer, CommandKind::CreateOffer),
        PeerCommand::CreateAnswer { peer } => (*peer, CommandKind::CreateAnswer),
        PeerCommand::SetIceServers { peer, .. } => (*peer, CommandKind::SetIceServers),
        PeerCommand::SetLocal { peer, .. } => (*peer, CommandKind::SetLocal),
        PeerCommand::SetRemote { peer, .. } => (*peer, CommandKind::SetRemote),
        PeerCommand::Rollback { peer } => (*peer, CommandKind::Rollback),
        PeerCommand::AddCandidate { peer, .. } => (*peer, CommandKind::AddCandidate),
        PeerCommand::RequestKeyframe { peer } => (*peer, CommandKind::RequestKeyframe),
        PeerCommand::StopTransceivers { peer } => (*peer, CommandKind::StopTransceivers),
        PeerCommand::RemoveTracks { peer } => (*peer, CommandKind::RemoveTracks),
        PeerCommand::Close { peer } => (*peer, CommandKind::Close),
    }
}
