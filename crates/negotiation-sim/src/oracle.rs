//! Checks what must hold after every step, whatever goes wrong. It sees the session's inputs and
//! outputs only.

mod keyframes;
mod live;
mod stream;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use negotiation_core::{
    AttemptEnd, Candidate, Completion, Config, ConnectionId, Description, Digest, Event,
    FailureKind, Ignored, Input, Message, Output, PeerCommand, PeerEvent, PeerId, Phase, SdpKind,
    Sender, Session, SignalingCommand, SignalingEvent, Ticket, Timer, Timestamp,
};

use crate::reference::Reference;
use keyframes::Keyframes;
use live::Live;
use stream::CandidateOrder;

/// Follows a session's inputs and outputs, and records broken rules.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    config: Config,
    reference: Reference,
    live: Live,
    keyframes: Keyframes,
    violations: Vec<String>,
    phase: Phase,
    attempt: u32,
    ended: u32,
    open: BTreeSet<Resource>,
    closing: u32,
    last_ticket: u32,
    pending: BTreeMap<Ticket, PendingCommand>,
    reported: BTreeSet<Ignored>,
    links: VecDeque<Timestamp>,
    /// Connections of this attempt that were requested and neither ended nor failed; and those that
    /// were requested to close.
    opened: BTreeSet<ConnectionId>,
    closing_links: BTreeSet<ConnectionId>,
    offers: u32,
    answers_sent: u32,
    /// The deadline of the offer that is being sent: after it the offer counts as unsent.
    sending: Option<Timestamp>,
    /// An offer or answer of the viewer was sent in this attempt.
    has_sent_description: bool,
    offer_out: bool,
    /// The newest offer is a restart's, which may be sent without being set.
    restart_unset: bool,
    replacing: bool,
    renegotiated: bool,
    answers_set: u32,
    /// What the master's descriptions of this attempt contained, as far as rules depend on it.
    remote_descriptions: RemoteDescriptions,
    /// The master's candidates by generation: those of the next generation wait for its
    /// description.
    remote: BTreeMap<Option<String>, CandidateOrder>,
    local: CandidateOrder,
    sent_at: VecDeque<Timestamp>,
}

/// Something that an attempt opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Link(ConnectionId),
    Peer(PeerId),
}

/// A command with a completion that rules depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PendingCommand {
    SendOffer,
    /// On this connection; it counts as unsent from this time on.
    SendCandidate(ConnectionId, Digest, Timestamp),
    Connect(ConnectionId),
    Close(Resource, Timestamp),
}

/// What the master's descriptions contained.
#[derive(Clone, Debug, Default)]
struct RemoteDescriptions {
    /// One of them accepted no media, or sends none.
    refused: bool,
    /// The generations of the last two remote descriptions: candidates of the newer one may arrive
    /// while it is being set.
    generations: [Option<String>; 2],
}

impl RemoteDescriptions {
    fn add(&mut self, description: &Description) {
        let media = &description.facts.media;
        self.refused |= !media.iter().any(|section| section.accepted && section.sends);
    }

    fn set(&mut self, description: &Description) {
        let [_, newer] = &mut self.generations;
        let older = core::mem::replace(newer, description.facts.ice_ufrag.clone());
        self.generations[0] = older;
    }

    /// Whether a candidate may belong to a generation that was set.
    fn is_of_session(&self, candidate: &Candidate) -> bool {
        let known =
            self.generations.iter().flatten().any(|ufrag| Some(ufrag) == candidate.ufrag.as_ref());
        candidate.ufrag.is_none() || known || self.generations[1].is_none()
    }
}

impl Oracle {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            reference: Reference::new(config.clone()),
            live: Live::new(config.settings().offline_limit),
            keyframes: Keyframes::new(&config),
            config,
            violations: Vec::new(),
            phase: Phase::Idle,
            attempt: 0,
            ended: 0,
            open: BTreeSet::new(),
            closing: 0,
            last_ticket: 0,
            pending: BTreeMap::new(),
            reported: BTreeSet::new(),
            links: VecDeque::new(),
            opened: BTreeSet::new(),
            closing_links: BTreeSet::new(),
            offers: 0,
            answers_sent: 0,
            sending: None,
            has_sent_description: false,
            offer_out: false,
            restart_unset: false,
            replacing: false,
            renegotiated: false,
            answers_set: 0,
            remote_descriptions: RemoteDescriptions::default(),
            remote: BTreeMap::new(),
            local: CandidateOrder::default(),
            sent_at: VecDeque::new(),
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn report(&mut self, what: String) {
        // One broken rule breaks others, so the first few are enough.
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    fn require(&mut self, holds: bool, at: Timestamp, what: &str) {
        if !holds {
            self.report(format!("{at}: {what}"));
        }
    }

    /// Sees an input before the session handles it.
    pub(crate) fn on_input(&mut self, now: Timestamp, input: &Input) {
        self.live.on_input(now, input);
        self.keyframes.on_input(now, input);
        match input {
            // The platform has its network back, so no pause applies.
            Input::Online(true) => self.reference.resumed(),
            Input::Close => self.reference.close_asked(),
            Input::Resumed => self.reference.resumed(),
            Input::Signaling(link, SignalingEvent::Candidate { sender, body: Ok(candidate) })
                if self.is_current(*link) && *sender == Sender::Master =>
            {
                let generation = self.remote.entry(candidate.ufrag.clone()).or_default();
                generation.received.push(candidate.digest());
            }
            Input::Signaling(
                _,
                SignalingEvent::Answer { body: Ok(description), .. }
                | SignalingEvent::Offer { body: Ok(description), .. },
            ) => self.remote_descriptions.add(description),
            Input::Signaling(link, SignalingEvent::Disconnected(_)) => {
                self.opened.remove(link);
                self.open.remove(&Resource::Link(*link));
            }
            // A peer connection that could not be closed may go on gathering; its candidates are
            // not sent.
            Input::Peer(peer, PeerEvent::CandidateGathered(candidate))
                if self.open.contains(&Resource::Peer(*peer)) =>
            {
                self.local.received.push(candidate.digest());
            }
            Input::Completed(Completion { ticket, outcome }) => match self.pending.remove(ticket) {
                Some(PendingCommand::SendOffer) => {
                    self.sending = None;
                    self.offer_out |= outcome.is_ok();
                }
                Some(PendingCommand::Close(resource, _)) => {
                    self.open.remove(&resource);
                }
                Some(PendingCommand::Connect(link))
                    if outcome.is_err() && self.phase != Phase::Connecting =>
                {
                    self.opened.remove(&link);
                    self.open.remove(&Resource::Link(link));
                }
                Some(PendingCommand::SendCandidate(link, digest, until)) => {
                    let failed = outcome
                        .as_ref()
                        .is_err_and(|failure| failure.kind() != FailureKind::Permanent);
                    if failed || until <= now {
                        self.local.unsent.insert(digest, link);
                    }
                }
                Some(PendingCommand::Connect(_)) | None => {}
            },
            Input::Open
            | Input::Timeout
            | Input::NetworkChanged
            | Input::LocalAddressGone
            | Input::MasterKnown(_)
            | Input::Online(_)
            | Input::Restart
            | Input::Renegotiate
            | Input::Signaling(..)
            | Input::Peer(..) => {}
        }
    }

    /// Sees an output.
    pub(crate) fn on_output(&mut self, now: Timestamp, output: &Output) {
        self.require(self.ended == 0, now, "N23: an output after the end");
        self.live.on_output(output);
        self.report_live(now);
        self.keyframes.on_output(now, output);
        match output {
            Output::Signaling(ticket, command) => {
                self.on_ticket(now, *ticket);
                self.on_signaling(now, *ticket, command);
            }
            Output::Peer(ticket, command) => {
                self.on_ticket(now, *ticket);
                self.on_peer(now, *ticket, command);
            }
            Output::Event(event) => self.on_event(now, event),
        }
    }

    fn report_live(&mut self, now: Timestamp) {
        for what in self.live.take_broken() {
            self.report(format!("{now}: {what}"));
        }
    }

    /// Whether a connection belongs to the attempt.
    fn is_current(&self, link: ConnectionId) -> bool {
        self.open.contains(&Resource::Link(link))
    }

    fn on_ticket(&mut self, now: Timestamp, ticket: Ticket) {
        // The numbers grow, so no ticket is used twice.
        self.require(ticket.seq > self.last_ticket, now, "a ticket that is not new");
        self.last_ticket = ticket.seq;
        self.require(ticket.attempt == self.attempt, now, "a command of another attempt");
    }

    fn on_signaling(&mut self, now: Timestamp, ticket: Ticket, command: &SignalingCommand) {
        match command {
            SignalingCommand::Connect { link, .. } => {
                self.links.push_back(now);
                if self.links.len() > 12 {
                    self.links.pop_front();
                    let busy = self
                        .links
                        .front()
                        .is_some_and(|at| now.saturating_since(*at) < Duration::from_millis(300));
                    self.require(!busy, now, "N20: connections opened in a busy loop");
                }
                self.pending.insert(ticket, PendingCommand::Connect(*link));
                self.opened.insert(*link);
                if self.phase == Phase::Connecting {
                    self.begin(now, Resource::Link(*link));
                } else {
                    self.open.insert(Resource::Link(*link));
                }
            }
            SignalingCommand::FetchIceServers { .. } | SignalingCommand::Join { .. } => {}
            SignalingCommand::Send { message: Message::Offer(_), .. } => {
                let sends = self.sending.is_some_and(|until| now < until);
                self.require(!self.offer_out && !sends, now, "N1: a second unanswered offer");
                self.offers += 1;
                self.sending = Some(now + self.config.settings().operation_timeout);
                self.has_sent_description = true;
                self.pending.insert(ticket, PendingCommand::SendOffer);
            }
            SignalingCommand::Send { message: Message::Answer(_), .. } => {
                self.answers_sent += 1;
                self.has_sent_description = true;
            }
            SignalingCommand::Send { link, message: Message::Candidate(candidate) } => {
                self.give_up_overdue(now);
                let until = now + self.config.settings().operation_timeout;
                let command = PendingCommand::SendCandidate(*link, candidate.digest(), until);
                self.pending.insert(ticket, command);
                let described = self.offers + self.answers_sent > 0;
                self.require(described, now, "N11: a candidate before the offer or answer");
                if let Err(what) = self.local.deliver(candidate.digest()) {
                    self.report(format!("{now}: N11: {what}"));
                }
                self.sent_at.push_back(now);
                if self.sent_at.len() > 20
                    && let Some(first) = self.sent_at.pop_front()
                {
                    let spread = now.saturating_since(first);
                    self.require(
                        spread > Duration::from_secs(1),
                        now,
                        "N11: more than 20 candidates in a second",
                    );
                }
            }
            SignalingCommand::Disconnect { link } => {
                self.closing_links.insert(*link);
                self.disconnect(now, ticket, *link);
            }
        }
    }

    fn on_peer(&mut self, now: Timestamp, ticket: Ticket, command: &PeerCommand) {
        if let PeerCommand::SetRemote { description, .. } = command {
            self.remote_descriptions.set(description);
        }
        match command {
            PeerCommand::Create { peer } => {
                self.begin(now, Resource::Peer(*peer));
                if self.phase != Phase::Connecting {
                    // A remote session that replaces another starts with new candidates.
                    (self.local, self.sent_at) = (CandidateOrder::default(), VecDeque::new());
                    self.next_exchange();
                    self.closing = 0;
                }
            }
            PeerCommand::SetRemote { kind: SdpKind::Offer, .. } => {
                self.require(!self.offer_out || self.restart_unset, now, "N7: two offers at once");
                self.offer_out = false;
                self.next_exchange();
            }
            PeerCommand::SetRemote { .. } => {
                self.answers_set += 1;
                self.offer_out = false;
                self.require(
                    self.answers_set <= self.offers,
                    now,
                    "N4: an answer applied with no offer open",
                );
            }
            PeerCommand::SetLocal { kind: SdpKind::Offer, .. } if self.has_sent_description => {
                self.next_exchange();
            }
            PeerCommand::CreateOffer { restart, .. } => {
                self.restart_unset = *restart;
                // An offer that was sent and not set is dropped.
                self.offer_out = false;
                self.offers = self.offers.min(self.answers_set);
            }
            PeerCommand::AddCandidate { candidate, .. } => {
                let of_session = self.remote_descriptions.is_of_session(candidate);
                self.require(of_session, now, "N10: a candidate of another generation");
                let generation = self.remote.entry(candidate.ufrag.clone()).or_default();
                if let Err(what) = generation.deliver(candidate.digest()) {
                    self.report(format!("{now}: N9: {what}"));
                }
            }
            PeerCommand::Rollback { .. } => {
                self.offer_out = false;
                self.offers = self.offers.min(self.answers_set);
            }
            PeerCommand::StopTransceivers { peer } => {
                self.close(now, ticket, 1, Resource::Peer(*peer));
            }
            PeerCommand::RemoveTracks { peer } => self.close(now, ticket, 2, Resource::Peer(*peer)),
            PeerCommand::Close { peer } => self.close(now, ticket, 3, Resource::Peer(*peer)),
            PeerCommand::CreateAnswer { .. }
            | PeerCommand::SetIceServers { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::RequestKeyframe { .. } => {}
        }
    }

    /// Counts sendings that outlived their deadline as failed, whatever their completion is.
    fn give_up_overdue(&mut self, now: Timestamp) {
        let unsent = &mut self.local.unsent;
        self.pending.retain(|_, command| match command {
            PendingCommand::SendCandidate(link, digest, until) if *until <= now => {
                unsent.insert(*digest, *link);
                false
            }
            PendingCommand::SendCandidate(..)
            | PendingCommand::SendOffer
            | PendingCommand::Connect(_)
            | PendingCommand::Close(..) => true,
        });
    }

    fn begin(&mut self, now: Timestamp, resource: Resource) {
        self.replacing = false;
        let same_kind = |other: &Resource| {
            matches!(
                (resource, other),
                (Resource::Link(_), Resource::Link(_)) | (Resource::Peer(_), Resource::Peer(_))
            )
        };
        let overlap =
            self.open.iter().any(|other| same_kind(other) && !self.is_overdue(*other, now));
        self.require(!overlap, now, "N15: attempts overlap");
        self.open.retain(|other| !same_kind(other));
        self.open.insert(resource);
    }

    /// Whether its last closing step hung until its deadline, so that the session may go on.
    fn is_overdue(&self, resource: Resource, now: Timestamp) -> bool {
        self.pending.values().any(
            |command| matches!(command, PendingCommand::Close(p, at) if *p == resource && *at <= now),
        )
    }

    /// A connection is closed, with the attempt or before it.
    fn disconnect(&mut self, now: Timestamp, ticket: Ticket, link: ConnectionId) {
        if self.phase == Phase::Closing {
            // A peer connection that is being replaced has taken some of its steps already.
            let first = self.closing == 0 || self.replacing;
            self.require(first, now, "N22: the steps of closing out of order");
        }
        let deadline = now + self.config.settings().close_timeout / 4;
        self.pending.insert(ticket, PendingCommand::Close(Resource::Link(link), deadline));
    }

    fn next_exchange(&mut self) {
        self.renegotiated = true;
        // A later exchange may repeat candidates.
        self.remote.values_mut().for_each(|generation| generation.delivered.clear());
        self.local.delivered.clear();
    }

    /// Requires the closing steps in the contract's order, each once (N22).
    fn close(&mut self, now: Timestamp, ticket: Ticket, step: u32, resource: Resource) {
        let replacing = self.phase == Phase::Answering;
        if replacing && !self.replacing {
            (self.replacing, self.closing) = (true, 1);
        }
        self.require(
            self.phase == Phase::Closing || replacing,
            now,
            "a closing step while not closing",
        );
        self.require(self.closing.max(1) == step, now, "N22: the steps of closing out of order");
        self.closing = step + 1;
        let deadline = now + self.config.settings().close_timeout / 4;
        if step == 3 {
            self.pending.insert(ticket, PendingCommand::Close(resource, deadline));
        }
    }

    fn on_event(&mut self, now: Timestamp, event: &Event) {
        if let Some(what) = self.reference.observe(now, event) {
            self.report(format!("{now}: reference: {what}"));
        }
        match event {
            Event::PhaseChanged { from, to } => {
                self.require(*from == self.phase && from.may_become(*to), now, "an illegal edge");
                self.phase = *to;
            }
            Event::AttemptStarted { attempt } => {
                self.require(*attempt == self.attempt + 1, now, "attempts are not counted");
                self.attempt = *attempt;
                (self.offers, self.answers_set, self.offer_out) = (0, 0, false);
                (self.remote, self.local) = (BTreeMap::new(), CandidateOrder::default());
                self.renegotiated = false;
                (self.answers_sent, self.sending, self.restart_unset) = (0, None, false);
                self.has_sent_description = false;
                (self.closing, self.replacing) = (0, false);
                self.sent_at.clear();
                self.reported.clear();
                self.remote_descriptions = RemoteDescriptions::default();
            }
            Event::AttemptEnded(report) => {
                let refused =
                    report.end != AttemptEnd::NothingAccepted || self.remote_descriptions.refused;
                self.require(refused, now, "N17: media given up that was not refused");
                self.require(self.closing == 4, now, "N22: an attempt ended before it was closed");
                let forgotten = self.opened.difference(&self.closing_links).next().is_some();
                self.require(!forgotten, now, "N23: a connection that was never closed");
                self.opened.clear();
                self.closing_links.clear();
                self.closing = 0;
                // Events between attempts are counted separately.
                self.reported.clear();
            }
            Event::Ignored(reason) => {
                let new = self.reported.insert(*reason);
                self.require(new, now, "N25: the same kind of ignored input reported twice");
            }
            Event::Ended(_) => {
                self.ended += 1;
                let open = self.open.iter().any(|resource| !self.is_overdue(*resource, now));
                self.require(!open, now, "N23: ended with something open");
            }
            Event::Recovering(_)
            | Event::Recovered
            | Event::RestartRefused
            | Event::MasterLearned(_)
            | Event::LinkNotReopened(_)
            | Event::MasterGone(_)
            | Event::Offline
            | Event::Online
            | Event::MediaPaused
            | Event::LinkReopened
            | Event::LinkGivenUp(_)
            | Event::IceServersRefreshed
            | Event::LinkOpened { .. }
            | Event::OfferSent { .. }
            | Event::AnswerReceived { .. }
            | Event::MasterSeen
            | Event::Connected
            | Event::TrackAdded(_)
            | Event::KeyframeReceived
            | Event::Live
            | Event::Disconnected
            | Event::Reconnected
            | Event::MediaStalled
            | Event::MediaResumed
            | Event::LinkLost(_)
            | Event::GoAway
            | Event::RenegotiationFailed
            | Event::DeadlineArmed { .. }
            | Event::DeadlineFired(_)
            | Event::RetryScheduled { .. }
            | Event::CloseStepFailed(_) => {}
        }
    }

    /// Sees the state after all outputs of a step are drained.
    pub(crate) fn after_step(
        &mut self,
        now: Timestamp,
        session: &Session,
        deadline: Option<(Timestamp, Timer)>,
    ) {
        self.live.after_step(now, deadline);
        self.report_live(now);
        if let Some(what) = self.keyframes.after_step(now) {
            self.report(format!("{now}: {what}"));
        }
        if let Err(what) = session.check_invariants() {
            self.report(format!("{now}: {what}"));
        }
        self.require(session.phase() == self.phase, now, "a phase change was not reported");
        self.require(
            deadline.is_none_or(|(at, _)| at > now),
            now,
            "a deadline that is past after it was due",
        );
        if self.phase == Phase::Ended {
            self.require(deadline.is_none(), now, "N23: a deadline after the end");
            self.require(self.ended == 1, now, "the end was not reported exactly once");
        }
    }

    /// Nothing is scheduled any more: checks what must have happened by now.
    pub(crate) fn at_rest(&mut self, now: Timestamp, link_open: bool) {
        let settled = matches!(self.phase, Phase::Idle | Phase::Live | Phase::Ended);
        self.require(settled, now, "N12: the session waits for ever");
        // A later exchange may repeat candidates, so only those of the first can be counted.
        if self.phase != Phase::Live || self.renegotiated {
            return;
        }
        let held = self.config.settings().candidates_max;
        if self.local.received.len() <= held && link_open {
            let open = |link: &ConnectionId| self.open.contains(&Resource::Link(*link));
            let carried = self.local.unsent.values().all(open);
            self.require(
                carried,
                now,
                "N11: a candidate that its connection did not carry was lost",
            );
            let all = self.local.delivered.len() == self.local.unique();
            self.require(all, now, "N11: a local candidate was lost");
        }
    }
}
