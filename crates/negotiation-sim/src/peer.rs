//! A model peer connection that enforces the JSEP state table (RFC 9429, sections 3.2 and 4.1) and
//! records every misuse as a violation.

use core::time::Duration;

use negotiation_core::{
    Candidate, Connectivity, Description, Digest, Done, Failure, FailureCode, PeerCommand,
    PeerEvent, Sdp, SdpKind, SdpSummary, Timestamp,
};

use crate::path::{self, DelayedPeerEvent};
use crate::traits::{PathTraits, PeerStack};

/// The signaling state (RFC 9429, 3.2; provisional answers are not used).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jsep {
    Stable,
    HaveLocalOffer,
    HaveRemoteOffer,
    Closed,
}

/// One peer connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    number: u32,
    stack: PeerStack,
    path: PathTraits,
    jsep: Jsep,
    made: u32,
    /// The newest description that was created; it may be unset.
    newest: Option<Description>,
    /// The local or remote offer that is set and unanswered.
    pending: Option<Description>,
    /// The local ICE generation of the newest description, and the one in use.
    generation: u32,
    used: u32,
    newest_generation: u32,
    /// The offer and answer of the last completed exchange.
    agreed: Option<(Sdp, Sdp)>,
    /// The completion of a set-remote reached the session.
    remote_known: bool,
    fits: bool,
    facts: SdpSummary,
    remote_candidates: u32,
    /// The deadline of the description operation that was submitted last.
    description_operation: Option<Timestamp>,
    /// An operation outlived its deadline, so the session may be wrong about the state.
    disturbed: bool,
    gathered: Option<u32>,
    local_candidates: u32,
    /// The TURN credentials that were set last.
    servers: Option<Digest>,
    /// Counts the changes of the path: events of an earlier path are dropped.
    pub(crate) epoch: u32,
    started: bool,
    pair: bool,
    connected: bool,
    closing: bool,
    /// When all submitted commands are done.
    pub(crate) busy_until: Timestamp,
    violations: Vec<String>,
}

impl Peer {
    pub(crate) fn new(number: u32, stack: PeerStack, path: PathTraits, now: Timestamp) -> Self {
        Self {
            number,
            stack,
            path,
            jsep: Jsep::Stable,
            made: 0,
            newest: None,
            pending: None,
            generation: 1,
            used: 0,
            newest_generation: 1,
            agreed: None,
            remote_known: false,
            fits: false,
            facts: SdpSummary::default(),
            remote_candidates: 0,
            description_operation: None,
            disturbed: false,
            gathered: None,
            local_candidates: 0,
            servers: None,
            epoch: 0,
            started: false,
            pair: false,
            connected: false,
            closing: false,
            busy_until: now,
            violations: Vec::new(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.jsep == Jsep::Closed
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn agreed(&self) -> Option<&(Sdp, Sdp)> {
        self.agreed.as_ref()
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.jsep == Jsep::Stable
    }

    pub(crate) fn servers(&self) -> Option<Digest> {
        self.servers
    }

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        core::mem::take(&mut self.violations)
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(format!("peer {}: {what}", self.number));
    }

    /// Checks whether the session may submit this command.
    pub(crate) fn submit(&mut self, now: Timestamp, within: Duration, command: &PeerCommand) {
        let closes = command.is_close();
        if self.jsep == Jsep::Closed && !closes {
            self.violation("used after it was closed");
        } else if self.closing && !closes {
            self.violation("used while it is being closed");
        }
        self.closing |= closes;
        if is_description_operation(command) {
            match self.description_operation {
                Some(deadline) if now < deadline => {
                    self.violation("N2: two description operations at once");
                }
                // An operation that outlived its deadline counts as failed (N12), whatever its
                // result.
                Some(_) => self.disturb(),
                None => {}
            }
            self.description_operation = Some(now + within);
        }
        if matches!(command, PeerCommand::AddCandidate { .. }) && !self.remote_known {
            self.violation("N9: a candidate before set-remote completed");
        }
    }

    /// The result of a command reached the session.
    pub(crate) fn on_result(&mut self, command: &PeerCommand, good: bool) {
        if is_description_operation(command) {
            self.description_operation = None;
        }
        if matches!(command, PeerCommand::SetRemote { .. }) && good {
            self.remote_known = true;
        }
    }

    /// A command failed before it was carried out.
    pub(crate) fn forget_operation(&mut self) {
        self.description_operation = None;
    }

    /// A command will not be done within its deadline.
    pub(crate) fn disturb(&mut self) {
        self.disturbed = true;
    }

    fn illegal(&mut self, what: &str) -> Result<Done, Failure> {
        if !self.disturbed {
            self.violation(what);
        }
        Err(Failure::new(FailureCode::Port, what))
    }

    /// Carries a command out.
    pub(crate) fn carry_out(&mut self, command: &PeerCommand) -> Result<Done, Failure> {
        match command {
            PeerCommand::Create { .. } => Ok(Done::Created(self.stack.traits)),
            PeerCommand::CreateOffer { restart, .. } => {
                if self.jsep != Jsep::Stable {
                    return self.illegal("N2: an offer created in a state that is not stable");
                }
                let next = if *restart && self.used > 0 { self.newer() } else { self.used.max(1) };
                self.make(next, "offer", String::new())
            }
            PeerCommand::CreateAnswer { .. } => {
                let Some(offer) =
                    self.pending.clone().filter(|_| self.jsep == Jsep::HaveRemoteOffer)
                else {
                    return self.illegal("an answer created without an offer");
                };
                // New credentials of the master require new local ones (RFC 8839, 4.4.1.1).
                let restarts = self.used > 0 && offer.facts.ice_ufrag != self.facts.ice_ufrag;
                let next = if restarts { self.newer() } else { self.used.max(1) };
                self.make(next, "answer", format!(" to {}", offer.sdp.as_str()))
            }
            PeerCommand::SetLocal { kind, description, .. } => self.set_local(*kind, description),
            PeerCommand::SetRemote { kind: SdpKind::Answer, description, .. } => {
                self.set_answer(description)
            }
            PeerCommand::SetRemote { kind: SdpKind::Offer, description, .. } => {
                self.set_offer(description)
            }
            PeerCommand::Rollback { .. } => {
                if !matches!(self.jsep, Jsep::HaveLocalOffer | Jsep::HaveRemoteOffer) {
                    return self.illegal("rollback without an offer");
                }
                self.jsep = Jsep::Stable;
                self.pending = None;
                Ok(Done::Ok)
            }
            PeerCommand::AddCandidate { candidate, .. } => {
                self.remote_candidates += u32::from(!candidate.is_end());
                Ok(Done::Ok)
            }
            PeerCommand::SetIceServers { servers, .. } => {
                self.servers = servers
                    .iter()
                    .find_map(|server| server.username.as_ref())
                    .map(|name| Digest::of(name.expose().as_bytes()));
                Ok(Done::Ok)
            }
            PeerCommand::RequestKeyframe { .. } => Ok(Done::Ok),
            PeerCommand::StopTransceivers { .. } | PeerCommand::RemoveTracks { .. } => Ok(Done::Ok),
            PeerCommand::Close { .. } => {
                self.jsep = Jsep::Closed;
                Ok(Done::Ok)
            }
        }
    }

    fn newer(&mut self) -> u32 {
        self.newest_generation = self.newest_generation.max(self.used) + 1;
        self.newest_generation
    }

    fn make(&mut self, generation: u32, kind: &str, tail: String) -> Result<Done, Failure> {
        self.made += 1;
        self.generation = generation;
        let text = format!("{kind} {} of peer {}{tail}", self.made, self.number);
        let facts = SdpSummary {
            ice_ufrag: Some(format!("v{}.{generation}", self.number)),
            ice_pwd: Some(Digest::of(text.as_bytes())),
            fingerprints: vec![format!("viewer {}", self.number)],
            ..SdpSummary::default()
        };
        let made = Description { sdp: Sdp::new(&text), facts };
        self.newest = Some(made.clone());
        Ok(Done::Description(made))
    }

    fn set_local(&mut self, kind: SdpKind, description: &Description) -> Result<Done, Failure> {
        let from = match kind {
            SdpKind::Offer => Jsep::Stable,
            SdpKind::Answer => Jsep::HaveRemoteOffer,
        };
        if self.jsep != from {
            return self.illegal("a description set in a state that does not allow it");
        }
        if self.newest.as_ref() != Some(description) {
            return self.illegal("a description set that is not the newest one made");
        }
        match kind {
            SdpKind::Offer => {
                self.jsep = Jsep::HaveLocalOffer;
                self.pending = Some(description.clone());
                if self.generation > self.used && self.used > 0 && !self.keeps_pair() {
                    self.drop_pair();
                }
            }
            SdpKind::Answer => {
                self.jsep = Jsep::Stable;
                if let Some(offer) = self.pending.take() {
                    self.agreed = Some((offer.sdp, description.sdp.clone()));
                    self.take_generation();
                    // Whether the answer fits is known once the master has it.
                    self.fits &= self.started;
                    self.facts = offer.facts;
                }
            }
        }
        Ok(Done::Ok)
    }

    fn keeps_pair(&self) -> bool {
        self.stack.traits.restart_keeps_pair
    }

    fn drop_pair(&mut self) {
        self.pair = false;
        self.epoch += 1;
    }

    /// Begins to look for a pair if the exchange brought a new ICE generation.
    fn take_generation(&mut self) {
        if self.used != self.generation {
            self.used = self.generation;
            self.started = false;
        }
    }

    fn set_answer(&mut self, answer: &Description) -> Result<Done, Failure> {
        if self.jsep != Jsep::HaveLocalOffer {
            return self.illegal("N4: an answer set without an offer");
        }
        let text = answer.sdp.as_str();
        if text.starts_with("refused") {
            return Err(Failure::new(FailureCode::BadDescription, "a=line 7: no such profile"));
        }
        let restarts = self.used > 0 && self.generation > self.used;
        if restarts && answer.facts.ice_ufrag == self.facts.ice_ufrag {
            self.violation("N4: a restart settled with the old credentials");
        }
        self.check_session(answer);
        let Some(offer) = self.pending.take() else { return self.illegal("nothing is pending") };
        self.jsep = Jsep::Stable;
        self.fits =
            text.starts_with("answer") && text.ends_with(&format!(" to {}", offer.sdp.as_str()));
        self.agreed = Some((offer.sdp, answer.sdp.clone()));
        self.take_generation();
        self.facts = answer.facts.clone();
        self.remote_candidates += u32::from(answer.facts.candidates);
        Ok(Done::Ok)
    }

    fn set_offer(&mut self, offer: &Description) -> Result<Done, Failure> {
        if self.jsep != Jsep::Stable {
            return self.illegal("N7: the master's offer set over another");
        }
        if offer.sdp.as_str().starts_with("refused") {
            return Err(Failure::new(FailureCode::BadDescription, "a=line 7: no such profile"));
        }
        self.check_session(offer);
        self.jsep = Jsep::HaveRemoteOffer;
        self.pending = Some(offer.clone());
        self.remote_candidates += u32::from(offer.facts.candidates);
        Ok(Done::Ok)
    }

    /// Requires that the certificate does not change within a connection.
    fn check_session(&mut self, theirs: &Description) {
        if self.used > 0 && self.facts.fingerprints != theirs.facts.fingerprints {
            self.violation("N4, N8: another session's description applied to a connection");
        }
    }

    /// The master received the answer to its open offer.
    pub(crate) fn master_agrees(&mut self, answer: &Sdp) {
        self.fits |= self.agreed.as_ref().is_some_and(|(_, ours)| ours == answer);
    }

    /// Gathers candidates once for each generation, when its first description is set.
    pub(crate) fn gather(&mut self) -> Vec<DelayedPeerEvent> {
        let ours = match self.jsep {
            Jsep::HaveLocalOffer => true,
            Jsep::Stable => self.agreed.is_some() && self.used == self.generation,
            Jsep::HaveRemoteOffer | Jsep::Closed => false,
        };
        if self.gathered == Some(self.generation) || !ours {
            return Vec::new();
        }
        self.gathered = Some(self.generation);
        let count = self.stack.candidates;
        let every = self.stack.candidate_every;
        let mut events: Vec<DelayedPeerEvent> = (0..count)
            .map(|n| (every * n, PeerEvent::CandidateGathered(self.local_candidate())))
            .collect();
        events.push((every * count, PeerEvent::GatheringDone));
        events
    }

    pub(crate) fn local_candidate(&mut self) -> Candidate {
        self.local_candidates += 1;
        Candidate {
            text: format!("candidate:v{} {} udp typ host", self.number, self.local_candidates)
                .into(),
            mid: Some("0".into()),
            mline_index: Some(0),
            ufrag: Some(format!("v{}.{}", self.number, self.generation)),
        }
    }

    /// Connects once both ends know enough. Returns the events to come.
    pub(crate) fn connect(&mut self, master_reaches_us: bool) -> Vec<DelayedPeerEvent> {
        let reachable = self.remote_candidates > 0 || master_reaches_us;
        if self.started || !self.fits || !reachable || self.jsep == Jsep::Closed {
            return Vec::new();
        }
        self.started = true;
        self.come_up()
    }

    /// Packets get through again, between the known addresses. Returns the events to come.
    pub(crate) fn revive(&mut self) -> Vec<DelayedPeerEvent> {
        let able = self.started && self.fits && !self.pair && self.jsep != Jsep::Closed;
        if able { self.come_up() } else { Vec::new() }
    }

    fn come_up(&mut self) -> Vec<DelayedPeerEvent> {
        if self.pair {
            // The old pair stays in use, so nothing is reported.
            return Vec::new();
        }
        self.epoch += 1;
        let again = self.connected;
        path::ice_events(self.path, &self.facts, again)
    }

    /// Updates the state by an event that the stack reports.
    pub(crate) fn apply_event(&mut self, event: &PeerEvent) {
        match event {
            PeerEvent::ConnectivityChanged(Connectivity::IceConnected) => self.pair = true,
            PeerEvent::ConnectivityChanged(Connectivity::Connected) => {
                self.pair = true;
                self.connected = true;
            }
            PeerEvent::ConnectivityChanged(Connectivity::Disconnected) => self.pair = false,
            PeerEvent::ConnectivityChanged(
                Connectivity::IceFailed | Connectivity::DtlsFailed | Connectivity::ClosedByPeer,
            ) => {
                self.pair = false;
                self.epoch += 1;
            }
            PeerEvent::ConnectivityChanged(Connectivity::Checking)
            | PeerEvent::CandidateGathered(_)
            | PeerEvent::GatheringDone
            | PeerEvent::TrackAdded(_)
            | PeerEvent::MediaFlowing(_)
            | PeerEvent::KeyframeReceived
            | PeerEvent::MediaStalled
            | PeerEvent::SenderReport
            | PeerEvent::MediaProblem(_)
            | PeerEvent::IceServersUnresolved(_) => {}
        }
    }

    /// All packets are lost. Returns the events to come.
    pub(crate) fn lose_path(&mut self) -> Vec<DelayedPeerEvent> {
        let had = self.pair || self.started;
        self.drop_pair();
        if had { path::loss_events(self.connected) } else { Vec::new() }
    }

    /// Whether packets get through.
    pub(crate) fn has_pair(&self) -> bool {
        self.pair
    }

    /// The events to come when a restart dropped the pair that was there `before`.
    pub(crate) fn events_of_dropped_pair(&self, before: bool) -> Vec<DelayedPeerEvent> {
        if !before || self.pair || self.jsep == Jsep::Closed {
            return Vec::new();
        }
        let state = PeerEvent::ConnectivityChanged;
        let ms = Duration::from_millis;
        vec![
            (ms(1), state(Connectivity::Checking)),
            (ms(2_000), PeerEvent::MediaStalled),
            (ms(25_000), state(Connectivity::IceFailed)),
        ]
    }
}

fn is_description_operation(command: &PeerCommand) -> bool {
    match command {
        PeerCommand::CreateOffer { .. }
        | PeerCommand::CreateAnswer { .. }
        | PeerCommand::SetLocal { .. }
        | PeerCommand::SetRemote { .. }
        | PeerCommand::Rollback { .. } => true,
        PeerCommand::Create { .. }
        | PeerCommand::SetIceServers { .. }
        | PeerCommand::AddCandidate { .. }
        | PeerCommand::RequestKeyframe { .. }
        | PeerCommand::StopTransceivers { .. }
        | PeerCommand::RemoveTracks { .. }
        | PeerCommand::Close { .. } => false,
    }
}
