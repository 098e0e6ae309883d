//! A model peer connection that enforces the JSEP state table (RFC 9429, section 3.2 and 4.1) and
//! fails loudly when it is misused.

use core::time::Duration;

use negotiation_core::{
    Candidate, Connectivity, Description, Done, Facts, Failure, FailureCode, MediaKind,
    PeerCommand, PeerEvent, Sdp, Timestamp,
};

use crate::plan::{Dtls, Ice, Media, PathTraits, PeerStack};

/// The signaling state of an offerer (RFC 9429, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jsep {
    Stable,
    HaveLocalOffer,
    Closed,
}

/// One peer connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    number: u32,
    stack: PeerStack,
    path: PathTraits,
    jsep: Jsep,
    offers: u32,
    /// The newest offer that was set.
    offer: Option<Description>,
    /// The completion of a set-remote reached the session.
    remote_known: bool,
    fits: bool,
    facts: Facts,
    remote_candidates: u32,
    /// A description operation that was submitted, until when its deadline runs.
    description_operation: Option<Timestamp>,
    /// An operation outlived its deadline: what the session believes may differ from what is.
    disturbed: bool,
    gathered: bool,
    local_candidates: u32,
    started: bool,
    connected: bool,
    closing: bool,
    /// When what was submitted so far is done.
    pub(crate) busy_until: Timestamp,
    violations: Vec<String>,
}

/// What a peer connection will notice, and when.
pub(crate) type Notice = (Duration, PeerEvent);

impl Peer {
    pub(crate) fn new(number: u32, stack: PeerStack, path: PathTraits, now: Timestamp) -> Self {
        Self {
            number,
            stack,
            path,
            jsep: Jsep::Stable,
            offers: 0,
            offer: None,
            remote_known: false,
            fits: false,
            facts: Facts::default(),
            remote_candidates: 0,
            description_operation: None,
            disturbed: false,
            gathered: false,
            local_candidates: 0,
            started: false,
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

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        core::mem::take(&mut self.violations)
    }

    fn violation(&mut self, what: &str) {
        self.violations.push(format!("peer {}: {what}", self.number));
    }

    /// The session gave a command: may it?
    pub(crate) fn submit(&mut self, now: Timestamp, within: Duration, command: &PeerCommand) {
        let closes = is_close(command);
        if self.jsep == Jsep::Closed && !closes {
            self.violation("used after it was closed");
        } else if self.closing && !closes {
            self.violation("used while it is being closed");
        }
        self.closing |= closes;
        if is_description_operation(command) {
            if self.description_operation.is_some_and(|deadline| now < deadline) {
                self.violation("N2: two description operations at once");
            }
            self.description_operation = Some(now + within);
        }
        if matches!(command, PeerCommand::AddCandidate { .. }) && !self.remote_known {
            self.violation("N9: a candidate before set-remote completed");
        }
    }

    /// The result of a command reached the session.
    pub(crate) fn told(&mut self, command: &PeerCommand, good: bool) {
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
            PeerCommand::CreateOffer { .. } => {
                if self.jsep != Jsep::Stable {
                    self.violation("N2: an offer created in a state that is not stable");
                    return Err(Failure::new(FailureCode::Port, "not stable"));
                }
                self.offers += 1;
                Ok(Done::Description(self.offer_text()))
            }
            PeerCommand::SetLocal { description, .. } => {
                if self.jsep != Jsep::Stable {
                    return self.illegal("an offer set over an offer");
                }
                if *description != self.offer_text() {
                    return self.illegal("an offer set that is not the newest one made");
                }
                self.jsep = Jsep::HaveLocalOffer;
                self.offer = Some(description.clone());
                Ok(Done::Ok)
            }
            PeerCommand::SetRemote { description, .. } => self.set_remote(description),
            PeerCommand::Rollback { .. } => {
                if self.jsep != Jsep::HaveLocalOffer {
                    return self.illegal("rollback without an offer");
                }
                self.jsep = Jsep::Stable;
                Ok(Done::Ok)
            }
            PeerCommand::AddCandidate { candidate, .. } => {
                self.remote_candidates += u32::from(!candidate.is_end());
                Ok(Done::Ok)
            }
            PeerCommand::SetIceServers { .. } => {
                if self.gathered {
                    return self.illegal("ICE servers set after gathering began");
                }
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

    fn offer_text(&self) -> Description {
        let text = format!("offer {} of peer {}", self.offers, self.number);
        Description { sdp: Sdp::new(&text), facts: Facts::default() }
    }

    fn set_remote(&mut self, answer: &Description) -> Result<Done, Failure> {
        if self.jsep != Jsep::HaveLocalOffer {
            return self.illegal("N4: an answer set without an offer");
        }
        let text = answer.sdp.as_str();
        if text.starts_with("refused") {
            return Err(Failure::new(FailureCode::BadDescription, "a=line 7: no such profile"));
        }
        self.jsep = Jsep::Stable;
        let ours = self.offer.as_ref().map(|offer| format!(" to {}", offer.sdp.as_str()));
        self.fits = text.starts_with("answer") && ours.is_some_and(|ours| text.ends_with(&ours));
        self.facts = answer.facts.clone();
        self.remote_candidates += u32::from(answer.facts.candidates);
        Ok(Done::Ok)
    }

    /// Gathering begins with the first offer set.
    pub(crate) fn gather(&mut self) -> Vec<Notice> {
        if self.gathered || self.jsep != Jsep::HaveLocalOffer {
            return Vec::new();
        }
        self.gathered = true;
        let count = self.stack.candidates;
        let every = self.stack.candidate_every;
        let mut notices: Vec<Notice> = (0..count)
            .map(|n| (every * n, PeerEvent::CandidateGathered(self.local_candidate())))
            .collect();
        notices.push((every * count, PeerEvent::GatheringDone));
        notices
    }

    pub(crate) fn local_candidate(&mut self) -> Candidate {
        self.local_candidates += 1;
        Candidate {
            text: format!("candidate:v{} {} udp typ host", self.number, self.local_candidates)
                .into(),
            mid: Some("0".into()),
            mline_index: Some(0),
            ufrag: None,
        }
    }

    /// Connects, once both ends know enough: what will be noticed, and when.
    pub(crate) fn connect(&mut self, master_reaches_us: bool) -> Vec<Notice> {
        let reachable = self.remote_candidates > 0 || master_reaches_us;
        if self.started || !self.fits || !reachable || self.jsep == Jsep::Closed {
            return Vec::new();
        }
        self.started = true;
        let ms = Duration::from_millis;
        let state = |s| PeerEvent::ConnectivityChanged(s);
        let mut notices = vec![(ms(1), state(Connectivity::Checking))];
        match self.path.ice {
            Ice::Works => notices.push((ms(60), state(Connectivity::IceConnected))),
            Ice::Fails => {
                notices.push((ms(15_000), state(Connectivity::IceFailed)));
                return notices;
            }
            Ice::Silent => return notices,
        }
        match self.path.dtls {
            Dtls::Works => {
                notices.push((ms(110), state(Connectivity::Connected)));
                self.connected = true;
            }
            Dtls::Fails => {
                notices.push((ms(90), state(Connectivity::DtlsFailed)));
                return notices;
            }
            Dtls::Silent => return notices,
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            if self.facts.sends(kind) {
                notices.push((ms(112), PeerEvent::TrackAdded(kind)));
                if self.path.media != Media::Nothing {
                    notices.push((ms(130), PeerEvent::MediaFlowing(kind)));
                }
            }
        }
        if self.path.media == Media::Flows && self.facts.sends(MediaKind::Video) {
            notices.push((ms(180), PeerEvent::KeyframeReceived));
        }
        notices
    }
}

/// Whether a command closes, and so overtakes what is queued.
pub(crate) fn is_close(command: &PeerCommand) -> bool {
    match command {
        PeerCommand::StopTransceivers { .. }
        | PeerCommand::RemoveTracks { .. }
        | PeerCommand::Close { .. } => true,
        PeerCommand::Create { .. }
        | PeerCommand::CreateOffer { .. }
        | PeerCommand::SetIceServers { .. }
        | PeerCommand::SetLocal { .. }
        | PeerCommand::SetRemote { .. }
        | PeerCommand::Rollback { .. }
        | PeerCommand::AddCandidate { .. }
        | PeerCommand::RequestKeyframe { .. } => false,
    }
}

fn is_description_operation(command: &PeerCommand) -> bool {
    match command {
        PeerCommand::CreateOffer { .. }
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
