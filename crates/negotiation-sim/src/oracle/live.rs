//! Checks the recovery of a live session, its signaling connections, and the events about the
//! master's presence.

use core::time::Duration;
use std::collections::BTreeSet;

use negotiation_core::{
    AttemptEnd, ClientId, Completion, ConnectionId, Connectivity, Deadline, Description, Done,
    Event, Input, Output, PeerCommand, PeerEvent, Phase, SdpKind, Sender, SignalingCommand,
    SignalingEvent, Ticket, Timer, Timestamp,
};

/// Follows inputs and outputs, and keeps broken rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    offline_limit: Duration,
    keeps_pair: bool,
    connected: bool,
    stalled: bool,
    paused: bool,
    phase: Option<Phase>,
    /// The phase in which the attempt ended, and whether media got through.
    at_end: Option<(Phase, bool)>,
    /// A restart offer was created and not set.
    restart_made: bool,
    restart_sent: bool,
    answered: bool,
    /// The certificates of the connected remote session, and whether another one answered.
    remote: Option<Vec<String>>,
    started_over: bool,
    client_id: Option<ClientId>,
    connects: BTreeSet<(Ticket, ConnectionId)>,
    open: BTreeSet<ConnectionId>,
    closed: BTreeSet<ConnectionId>,
    refused: bool,
    master_here: bool,
    offline_since: Option<Timestamp>,
    broken: Vec<&'static str>,
}

impl Live {
    pub(super) fn new(offline_limit: Duration) -> Self {
        Self { offline_limit, ..Self::default() }
    }

    pub(super) fn take_broken(&mut self) -> Vec<&'static str> {
        core::mem::take(&mut self.broken)
    }

    fn require(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.broken.push(what);
        }
    }

    fn flows(&self) -> bool {
        self.connected && (!self.stalled || self.paused)
    }

    pub(super) fn on_input(&mut self, now: Timestamp, input: &Input) {
        match input {
            Input::Peer(_, PeerEvent::ConnectivityChanged(state)) => {
                self.connected = *state == Connectivity::Connected;
            }
            Input::Peer(_, PeerEvent::MediaStalled) => self.stalled = true,
            Input::Peer(_, PeerEvent::SenderReport) => self.paused = self.stalled,
            Input::Peer(_, PeerEvent::MediaFlowing(_)) => {
                (self.stalled, self.paused) = (false, false);
            }
            Input::Online(false) => {
                let on = self.phase.is_some_and(|p| !matches!(p, Phase::Idle | Phase::Ended));
                if on && self.offline_since.is_none() {
                    self.offline_since = Some(now);
                }
            }
            Input::Online(true) => self.offline_since = None,
            Input::Signaling(_, SignalingEvent::Answer { sender: Sender::Master, body }) => {
                self.answered |= self.restart_sent;
                if let (Ok(answer), Some(known)) = (body, &self.remote) {
                    self.started_over |= answer.facts.fingerprints != *known;
                }
            }
            Input::Signaling(link, SignalingEvent::Disconnected(_)) => {
                self.open.remove(link);
            }
            Input::Completed(completion) => self.on_completed(completion),
            Input::Open
            | Input::Close
            | Input::Timeout
            | Input::Resumed
            | Input::NetworkChanged
            | Input::LocalAddressGone
            | Input::MasterKnown(_)
            | Input::Restart
            | Input::Renegotiate
            | Input::Signaling(..)
            | Input::Peer(..) => {}
        }
    }

    fn on_completed(&mut self, Completion { ticket, outcome }: &Completion) {
        if let Ok(Done::Created(traits)) = outcome {
            self.keeps_pair = traits.restart_keeps_pair;
        }
        let link = self.connects.iter().find(|(t, _)| t == ticket).map(|(_, link)| *link);
        if let Some(link) = link {
            self.connects.remove(&(*ticket, link));
            match outcome {
                Ok(_) => drop(self.open.insert(link)),
                Err(_) => self.refused = true,
            }
        }
    }

    pub(super) fn on_output(&mut self, output: &Output) {
        match output {
            Output::Signaling(ticket, command) => self.on_signaling(*ticket, command),
            Output::Peer(_, command) => self.on_peer(command),
            Output::Event(event) => self.on_event(event),
        }
    }

    fn on_signaling(&mut self, ticket: Ticket, command: &SignalingCommand) {
        match command {
            SignalingCommand::Connect { link, client_id, .. } => {
                let same = self.client_id.is_none() || *client_id == self.client_id;
                self.require(same, "N20: a connection under another id");
                self.connects.insert((ticket, *link));
                self.refused = false;
            }
            SignalingCommand::Send { link, message } => {
                let open = self.open.contains(link);
                self.require(
                    open || !self.closed.contains(link),
                    "a message on a connection that was closed",
                );
                self.restart_sent |=
                    self.restart_made && matches!(message, negotiation_core::Message::Offer(_));
            }
            SignalingCommand::Disconnect { link } => {
                let new = self.closed.insert(*link);
                self.require(new, "N23: a connection closed twice");
                let going = self.phase == Some(Phase::Closing);
                let others = self.open.iter().any(|other| other != link);
                let dead = !self.open.remove(link);
                self.require(
                    going || others || self.refused || dead,
                    "N21: the old connection closed before a new one was ready",
                );
            }
            SignalingCommand::Join { .. } => {
                self.require(
                    self.phase == Some(Phase::AwaitingOffer),
                    "N8: joined while an offer is not awaited",
                );
            }
            SignalingCommand::FetchIceServers { .. } => {}
        }
    }

    fn on_peer(&mut self, command: &PeerCommand) {
        match command {
            PeerCommand::CreateOffer { restart, .. } => {
                (self.restart_made, self.restart_sent, self.answered) = (*restart, false, false);
            }
            PeerCommand::SetLocal { kind: SdpKind::Offer, .. } => {
                let early = self.restart_made && !self.keeps_pair && !self.answered;
                self.require(!early, "N18: a restart offer set before it was answered");
            }
            PeerCommand::SetRemote { kind, description, .. } => self.on_set(*kind, description),
            PeerCommand::Create { .. } => {
                (self.connected, self.stalled, self.paused) = (false, false, false);
                self.remote = None;
                self.started_over = false;
            }
            PeerCommand::CreateAnswer { .. } | PeerCommand::Rollback { .. } => {
                self.restart_made = false;
            }
            PeerCommand::SetIceServers { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::AddCandidate { .. }
            | PeerCommand::RequestKeyframe { .. }
            | PeerCommand::StopTransceivers { .. }
            | PeerCommand::RemoveTracks { .. }
            | PeerCommand::Close { .. } => {}
        }
    }

    fn on_set(&mut self, kind: SdpKind, description: &Description) {
        let theirs = &description.facts.fingerprints;
        let same = self.remote.as_ref().is_none_or(|known| known == theirs);
        self.require(same, "N4, N8: another session's description set on a connection");
        self.remote = Some(theirs.clone());
        if kind == SdpKind::Answer {
            self.restart_made = false;
        }
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::AttemptStarted { .. } => {
                self.client_id = None;
                self.master_here = false;
                self.restart_made = false;
                self.open.clear();
                self.connects.clear();
            }
            Event::LinkOpened { client_id } => self.client_id = Some(client_id.clone()),
            Event::PhaseChanged { from, to } => {
                if *to == Phase::Closing {
                    self.at_end = Some((*from, self.flows()));
                }
                self.phase = Some(*to);
            }
            Event::AttemptEnded(report) => self.on_attempt_ended(&report.end),
            Event::DeadlineFired(timer) => self.refused |= *timer == Timer::Connect,
            Event::MasterSeen => {
                self.require(!self.master_here, "N28: the master seen twice");
                self.master_here = true;
            }
            Event::MasterGone(_) => {
                self.require(self.master_here, "N28: a master gone that was not here");
                self.master_here = false;
            }
            Event::OfferSent { .. }
            | Event::AnswerReceived { .. }
            | Event::Connected
            | Event::TrackAdded(_)
            | Event::KeyframeReceived
            | Event::Live
            | Event::Disconnected
            | Event::Reconnected
            | Event::Recovering(_)
            | Event::Recovered
            | Event::RestartRefused
            | Event::MasterLearned(_)
            | Event::LinkNotReopened(_)
            | Event::Offline
            | Event::Online
            | Event::MediaPaused
            | Event::MediaStalled
            | Event::MediaResumed
            | Event::LinkLost(_)
            | Event::LinkReopened
            | Event::LinkGivenUp(_)
            | Event::IceServersRefreshed
            | Event::GoAway
            | Event::RenegotiationFailed
            | Event::DeadlineArmed { .. }
            | Event::RetryScheduled { .. }
            | Event::Ignored(_)
            | Event::CloseStepFailed(_)
            | Event::Ended(_) => {}
        }
    }

    fn on_attempt_ended(&mut self, end: &AttemptEnd) {
        let Some((phase, flows)) = self.at_end.take() else { return };
        let media = matches!(phase, Phase::Establishing | Phase::AwaitingMedia | Phase::Live);
        if media || phase == Phase::Recovering {
            self.require(
                !matches!(end, AttemptEnd::LinkLost(_) | AttemptEnd::Connect(_)),
                "N20: media given up for a connection",
            );
        }
        if phase == Phase::Recovering && flows {
            let torn = *end == AttemptEnd::Deadline(Deadline::Restart)
                || *end == AttemptEnd::RestartFailed
                || (*end == AttemptEnd::StartedOver && !self.started_over);
            self.require(!torn, "N18: media that flows torn down while a restart is open");
        }
    }

    pub(super) fn after_step(&mut self, now: Timestamp, deadline: Option<(Timestamp, Timer)>) {
        let Some(since) = self.offline_since else { return };
        let until = since + self.offline_limit;
        if now < until && deadline.is_some_and(|(_, timer)| timer == Timer::Offline) {
            self.require(
                deadline.is_some_and(|(at, _)| at <= until),
                "deadlines stand still for longer than the limit",
            );
        }
        if now >= until {
            let frozen = deadline.is_some_and(|(_, timer)| timer == Timer::Offline);
            self.require(!frozen, "deadlines stand still after the limit");
        }
    }
}
