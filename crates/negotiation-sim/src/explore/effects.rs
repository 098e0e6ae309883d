//! Applies the session's outputs to its surroundings and checks every rule that an output can
//! break; checks the rules that a state can break.

use negotiation_core::{
    ConnectionId, Connectivity, Description, Event, Input, MediaKind, Message, Output, PeerCommand,
    PeerEvent, PeerId, Phase, SdpKind, Sender, SignalingCommand, SignalingEvent, Ticket, Timer,
    Timestamp,
};

use super::bounds::{Bounds, Trouble};
use super::moves::{answer, candidate};
use super::state::{
    Answer, CLOSED, Link, Offer, Operation, Owner, PEER, Peer, PendingCommand, Port, SIGNALING,
    State,
};

impl State {
    /// Gives the session one input and applies all its outputs.
    pub(super) fn feed(&mut self, now: Timestamp, input: Input) -> Result<(), String> {
        self.now = self.now.max(now);
        self.session.handle_input(self.now, input);
        while let Some(output) = self.session.poll_output() {
            if self.world.ended {
                return Err("N23: an output after the end".into());
            }
            match output {
                Output::Signaling(ticket, command) => self.on_signaling(ticket, command)?,
                Output::Peer(ticket, command) => self.on_peer(ticket, command)?,
                Output::Event(event) => self.on_event(&event)?,
            }
        }
        self.session.check_invariants()?;
        match self.session.poll_timeout() {
            Some((at, timer)) if at <= self.now => Err(format!("N12: {timer} is overdue")),
            Some(_) if self.world.ended => Err("N23: a deadline after the end".into()),
            Some(_) | None => Ok(()),
        }
    }

    fn on_signaling(&mut self, ticket: Ticket, command: SignalingCommand) -> Result<(), String> {
        let link = command.link();
        let closes = matches!(command, SignalingCommand::Disconnect { .. });
        self.in_order(closes.then_some(SIGNALING))?;
        let world = &mut self.world;
        let known = world.links.iter().find(|known| known.id == link).copied();
        let mut port = Port::Signaling;
        let what = match command {
            SignalingCommand::Connect { .. } => {
                require(known.is_none(), "a connection requested twice")?;
                require(world.links.len() < 2, "N15: a third connection")?;
                world.links.push(Link { id: link, up: false });
                Operation::Connect(link)
            }
            SignalingCommand::FetchIceServers { .. } => {
                port = Port::ControlPlane;
                Operation::Fetch(link)
            }
            SignalingCommand::Join { .. } => {
                port = Port::ControlPlane;
                require(known.is_some_and(|known| known.up), "N8: joined without a connection")?;
                Operation::Join(link)
            }
            SignalingCommand::Send { message, .. } => {
                // The connection may have been lost in the same instant, but it must have been
                // open.
                require(known.is_some(), "N2: sent on a connection that is not open")?;
                match message {
                    Message::Offer(offer) => {
                        // The same offer may be sent on another connection after its sending
                        // failed.
                        let offer = viewer_offer(&offer);
                        let other = world.offer_out.is_some_and(|number| number != offer.number);
                        require(!other, "N1: a second unanswered offer")?;
                        (world.offer_out, world.answer_due) = (Some(offer.number), false);
                        world.sent = Some(ticket);
                        Operation::SendOffer(link, offer)
                    }
                    Message::Answer(_) => {
                        world.sent = Some(ticket);
                        Operation::SendAnswer(link)
                    }
                    Message::Candidate(_) => {
                        require(
                            world.offers > 0 || world.master.offers > 0,
                            "N11: a candidate before any description",
                        )?;
                        Operation::SendCandidate(link)
                    }
                }
            }
            SignalingCommand::Disconnect { .. } => {
                world.links.retain(|known| known.id != link);
                for command in world.ports.iter_mut().flatten() {
                    command.cancelled |= command.what.owner() == Owner::Link(link);
                }
                Operation::Disconnect(link)
            }
        };
        self.enqueue(port, ticket, what);
        Ok(())
    }

    fn on_peer(&mut self, ticket: Ticket, command: PeerCommand) -> Result<(), String> {
        let id = command.peer();
        let step = match &command {
            PeerCommand::StopTransceivers { .. } => Some(1),
            PeerCommand::RemoveTracks { .. } => Some(2),
            PeerCommand::Close { .. } => Some(CLOSED),
            PeerCommand::Create { .. }
            | PeerCommand::CreateOffer { .. }
            | PeerCommand::CreateAnswer { .. }
            | PeerCommand::SetIceServers { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::SetRemote { .. }
            | PeerCommand::Rollback { .. }
            | PeerCommand::AddCandidate { .. }
            | PeerCommand::RequestKeyframe { .. } => None,
        };
        self.in_order(step.map(|_| PEER))?;
        let world = &mut self.world;
        if matches!(command, PeerCommand::Create { .. }) {
            let open = world.peer.is_some_and(|peer| peer.closing != CLOSED);
            require(!open, "N15: a second peer connection before the first was closed")?;
            world.peer = Some(Peer::new(id));
            self.enqueue(Port::Peer, ticket, Operation::Create(id));
            return Ok(());
        }
        let Some(peer) = world.peer.as_mut().filter(|peer| peer.id == id) else {
            return Err("a command for a peer connection that is not there".into());
        };
        if let Some(step) = step {
            require(peer.closing + 1 == step, "N22: a step of closing out of order")?;
            peer.closing = step;
        } else {
            require(peer.closing == 0, "N22: a command after closing began")?;
        }
        let what = match command {
            PeerCommand::Create { .. } => Operation::Create(id),
            PeerCommand::CreateOffer { restart, .. } => Operation::CreateOffer(id, restart),
            PeerCommand::CreateAnswer { .. } => Operation::CreateAnswer(id),
            PeerCommand::SetIceServers { .. } => Operation::SetIceServers(id),
            PeerCommand::SetLocal { kind: SdpKind::Offer, description, .. } => {
                Operation::SetLocalOffer(id, viewer_offer(&description))
            }
            PeerCommand::SetLocal { kind: SdpKind::Answer, .. } => Operation::SetLocalAnswer(id),
            PeerCommand::SetRemote { kind: SdpKind::Answer, description, .. } => {
                require(world.answer_due, "N4: an answer applied with no offer open")?;
                world.answer_due = false;
                Operation::SetRemoteAnswer(id, master_answer(&description))
            }
            PeerCommand::SetRemote { kind: SdpKind::Offer, description, .. } => {
                // The viewer's own offer, if any, yielded to this one (N7).
                world.offer_out = None;
                Operation::SetRemoteOffer(id, master_answer(&description).session)
            }
            PeerCommand::Rollback { .. } => {
                (world.offer_out, world.answer_due) = (None, false);
                Operation::Rollback(id)
            }
            PeerCommand::AddCandidate { .. } => {
                // The command before it in the queue must be done, not only submitted.
                require(peer.has_remote, "N9: a candidate before set-remote completed")?;
                Operation::AddCandidate(id)
            }
            PeerCommand::RequestKeyframe { .. } => Operation::RequestKeyframe(id),
            PeerCommand::StopTransceivers { .. } => Operation::StopTransceivers(id),
            PeerCommand::RemoveTracks { .. } => Operation::RemoveTracks(id),
            PeerCommand::Close { .. } => Operation::Close(id),
        };
        if step.is_some() {
            for command in world.port(Port::Peer) {
                command.cancelled |= !command.what.closes();
            }
        }
        self.enqueue(Port::Peer, ticket, what);
        Ok(())
    }

    fn enqueue(&mut self, port: Port, ticket: Ticket, what: Operation) {
        let command =
            PendingCommand { ticket: Some(ticket), what, cancelled: false, executed: false };
        self.world.port(port).push_back(command);
    }

    /// Requires that only closing commands follow while an attempt is closed, signaling before the
    /// peer connection (N22).
    fn in_order(&mut self, part: Option<u8>) -> Result<(), String> {
        if self.world.closing == 0 {
            return Ok(());
        }
        let part = part.ok_or("N22: a command while closing")?;
        require(part >= self.world.closing, "N22: a step of closing out of order")?;
        self.world.closing = part;
        Ok(())
    }

    fn on_event(&mut self, event: &Event) -> Result<(), String> {
        let world = &mut self.world;
        match event {
            Event::PhaseChanged { from, to } => {
                require(from.may_become(*to), "an illegal edge")?;
                if *to == Phase::Closing {
                    world.closing = SIGNALING;
                    for command in world.ports.iter_mut().flatten() {
                        command.cancelled |= !command.what.closes();
                    }
                }
            }
            Event::AttemptStarted { .. } => {
                require(world.links.is_empty(), "N15: an attempt before the last was closed")?;
                world.begin_attempt();
            }
            Event::AttemptEnded(_) => {
                let open = world.peer.is_none_or(|peer| peer.closing != CLOSED);
                require(!open, "N22: an attempt over before it was closed")?;
                world.closing = 0;
            }
            Event::Live => {
                world.attempts_since_live = 0;
                let has_working_path = world.peer.is_some_and(|peer| peer.up && peer.keyframe);
                require(has_working_path, "live without a connection and a keyframe")?;
            }
            Event::AnswerReceived { .. } => {
                require(world.offer_out.is_some(), "N4: an answer taken with no offer open")?;
                (world.offer_out, world.answer_due) = (None, true);
            }
            // The exchange ended without an answer.
            Event::DeadlineFired(Timer::Answer | Timer::Restart)
            | Event::RestartRefused
            | Event::RenegotiationFailed => world.offer_out = None,
            Event::Ended(_) => {
                world.ended = true;
                require(world.links.is_empty(), "N23: ended with a connection open")?;
                let open = world.peer.is_some_and(|peer| peer.closing != CLOSED);
                require(!open, "N23: ended with a peer connection open")?;
            }
            Event::DeadlineFired(_)
            | Event::LinkOpened { .. }
            | Event::OfferSent { .. }
            | Event::MasterSeen
            | Event::Connected
            | Event::TrackAdded(_)
            | Event::KeyframeReceived
            | Event::Disconnected
            | Event::Reconnected
            | Event::Recovering(_)
            | Event::Recovered
            | Event::MasterGone(_)
            | Event::Offline
            | Event::Online
            | Event::MediaPaused
            | Event::MediaStalled
            | Event::MediaResumed
            | Event::LinkLost(_)
            | Event::LinkReopened
            | Event::LinkNotReopened(_)
            | Event::MasterLearned(_)
            | Event::LinkGivenUp(_)
            | Event::IceServersRefreshed
            | Event::GoAway
            | Event::DeadlineArmed { .. }
            | Event::RetryScheduled { .. }
            | Event::Ignored(_)
            | Event::CloseStepFailed(_) => {}
        }
        Ok(())
    }

    /// Checks the rules that a state can break: inputs that must change nothing change nothing.
    pub(super) fn check(&self, bounds: &Bounds) -> Result<(), String> {
        self.session.check_invariants()?;
        let free = bounds.each[Trouble::Sleep as usize] + bounds.each[Trouble::Network as usize];
        let attempts_since_live = bounds.retries + 2 + u32::from(free);
        require(
            u32::from(self.world.attempts_since_live) <= attempts_since_live,
            "N14: more attempts than the budget allows",
        )?;
        let stale = Answer { session: 9, generation: 9, to: 9 };
        let nowhere = ConnectionId(u32::MAX);
        let mut probes = vec![
            ("N13: a timeout before its time", Input::Timeout),
            ("N4: an answer on another connection", answer(nowhere, Sender::Master, stale)),
            (
                "N13: a stale completion",
                Input::Completed(negotiation_core::Completion {
                    ticket: Ticket { attempt: 0, seq: u32::MAX },
                    outcome: Ok(negotiation_core::Done::Ok),
                }),
            ),
            (
                "N23: an event of another peer connection",
                Input::Peer(PeerId(u32::MAX), PeerEvent::KeyframeReceived),
            ),
        ];
        if let Some(peer) = self.world.peer.filter(|_| self.world.closing > 0) {
            let late = [
                PeerEvent::ConnectivityChanged(Connectivity::Connected),
                PeerEvent::ConnectivityChanged(Connectivity::Disconnected),
                PeerEvent::ConnectivityChanged(Connectivity::IceFailed),
                PeerEvent::ConnectivityChanged(Connectivity::ClosedByPeer),
                PeerEvent::KeyframeReceived,
                PeerEvent::MediaStalled,
                PeerEvent::MediaFlowing(MediaKind::Video),
                PeerEvent::SenderReport,
                PeerEvent::CandidateGathered(candidate("own", None)),
            ];
            let late = late.map(|event| Input::Peer(peer.id, event));
            probes.extend(late.map(|input| ("N22: an event while closing", input)));
        }
        for link in &self.world.links {
            probes.push(("N4: another sender's answer", answer(link.id, Sender::Other, stale)));
            let garbage = Input::Signaling(link.id, SignalingEvent::Garbage);
            probes.push(("N25: garbage", garbage));
        }
        if self.world.ended {
            let late = [Input::Open, Input::Close, Input::Resumed, Input::Renegotiate];
            probes.extend(late.map(|input| ("N23: an input after the end", input)));
        }
        let mut session = self.session.clone();
        for (what, input) in probes {
            session.handle_input(self.now, input);
            while let Some(output) = session.poll_output() {
                let reported = matches!(output, Output::Event(Event::Ignored(_)));
                if !reported || self.world.ended {
                    return Err(format!("{what}: {output:?}"));
                }
            }
        }
        let same = session.into_normalised().session() == self.session.normalised().session();
        require(same, "N13: a stale, foreign or undecodable input changed the state")
    }
}

fn require(has_working_path: bool, what: &str) -> Result<(), String> {
    if has_working_path { Ok(()) } else { Err(what.into()) }
}

/// Reads the numbers from the text of a viewer's offer: `offer 2 restart`.
fn viewer_offer(description: &Description) -> Offer {
    let mut fields = description.sdp.as_str().split(' ').skip(1);
    let number = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
    Offer { number, restart: fields.next().is_some() }
}

/// Reads the numbers from the text of a master's description: `answer 1 1 2`.
fn master_answer(description: &Description) -> Answer {
    let fields = description.sdp.as_str().split(' ').skip(1);
    let mut numbers = fields.map(|field| field.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    Answer { session: next(), generation: next(), to: next() }
}
