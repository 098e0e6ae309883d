//! A host that follows no rules, and the results that a working port would give.

use negotiation_core::*;
use negotiation_sim::strategy::HostStep;

use crate::harness::reached;

/// The successful result of a command.
pub(crate) fn good(output: &Output) -> Option<(Ticket, Done)> {
    match output {
        Output::Signaling(ticket, command) => Some((
            *ticket,
            match command {
                SignalingCommand::Connect { .. } => Done::Connected(ClientId::new("v").ok()?),
                SignalingCommand::FetchIceServers { .. } => Done::IceServers(Vec::new()),
                SignalingCommand::Send { .. }
                | SignalingCommand::Join { .. }
                | SignalingCommand::Disconnect { .. } => Done::Ok,
            },
        )),
        Output::Peer(ticket, command) => Some((
            *ticket,
            match command {
                PeerCommand::Create { .. } => Done::Created(PeerTraits {
                    candidates: CandidateRelease::AfterOffer,
                    restart_keeps_pair: true,
                }),
                PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. } => {
                    Done::Description(Description {
                        sdp: Sdp::new("offer"),
                        facts: SdpSummary::default(),
                    })
                }
                PeerCommand::SetIceServers { .. }
                | PeerCommand::SetLocal { .. }
                | PeerCommand::SetRemote { .. }
                | PeerCommand::Rollback { .. }
                | PeerCommand::AddCandidate { .. }
                | PeerCommand::RequestKeyframe { .. }
                | PeerCommand::StopTransceivers { .. }
                | PeerCommand::RemoveTracks { .. }
                | PeerCommand::Close { .. } => Done::Ok,
            },
        )),
        Output::Event(_) => None,
    }
}

/// A session that a host without rules drives.
pub(crate) struct Host {
    session: Session,
    now: i64,
    latest: i64,
    pending: Vec<(Ticket, Done)>,
    ended: u32,
    after_end: bool,
}

impl Host {
    pub(crate) fn new(settings: Settings) -> Self {
        let session = Session::new(settings.check().expect("valid"), 5, Timestamp::ZERO);
        Self { session, now: 0, latest: 0, pending: Vec::new(), ended: 0, after_end: false }
    }

    pub(crate) fn feed(&mut self, after_ms: i64, input: Input) -> Result<(), String> {
        self.now = (self.now + after_ms).max(0);
        self.latest = self.latest.max(self.now);
        let over = self.ended > 0;
        let now = |ms: i64| Timestamp::from_millis(ms.unsigned_abs());
        self.session.handle_input(now(self.now), input);
        while let Some(output) = self.session.poll_output() {
            self.after_end |= over || self.ended > 0;
            if let Output::Event(Event::Ended(outcome)) = &output {
                self.ended += 1;
                reached(outcome.reason);
            }
            self.pending.extend(good(&output));
        }
        self.session.check_invariants()?;
        let deadline = self.session.poll_timeout();
        crate::require(deadline.is_none_or(|(at, _)| at > now(self.latest)), || {
            format!("a deadline in the past: {deadline:?} at {}", self.latest)
        })?;
        crate::require(!self.after_end, || "an output after the end".into())?;
        crate::require(self.ended <= 1, || "ended twice".into())?;
        let over = self.session.phase() == Phase::Ended;
        crate::require(over == (self.ended == 1), || "the end was not reported".into())
    }

    pub(crate) fn take(&mut self, step: HostStep) -> Result<(), String> {
        match step {
            HostStep::Input { after_ms, input } => self.feed(after_ms, input),
            HostStep::CompletePending { index } => {
                if self.pending.is_empty() {
                    return Ok(());
                }
                let (ticket, done) = self.pending.remove(index % self.pending.len());
                self.feed(1, Input::Completed(Completion { ticket, outcome: Ok(done) }))
            }
            HostStep::Wait => {
                let Some((at, _)) = self.session.poll_timeout() else { return Ok(()) };
                let at = i64::try_from(at.since_origin().as_millis()).unwrap_or(i64::MAX);
                self.feed((at + 1 - self.now).max(0), Input::Timeout)
            }
        }
    }
}
