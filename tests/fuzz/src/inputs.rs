//! Fuzz target for sequences of core inputs: a host that follows no rules drives a session, and a
//! small model checks its outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use negotiation_core::{
    Candidate, CandidateRelease, ClientId, Completion, ConnectionId, Connectivity, Description,
    Done, Event, Failure, FailureCode, Input, MasterKnowledge, MediaKind, MediaProblem,
    MediaSection, Mode, Output, PeerCommand, PeerEvent, PeerId, PeerTraits, Phase, Sdp, SdpSummary,
    Sender, Session, Settings, SignalingCommand, SignalingEvent, Ticket, Timestamp, Undecodable,
};

/// The maximum number of steps; longer sequences reach no new states.
const STEPS_MAX: usize = 400;

/// Reads the bytes as a configuration and a sequence of steps, and feeds them to a session.
pub fn inputs(bytes: &[u8]) {
    let mut tape = Tape(bytes);
    let base = if tape.flag() { Settings::one_retry() } else { Settings::persistent() };
    let mode = if tape.flag() { Mode::Offerer } else { Mode::Answerer };
    let settings = Settings { mode, polite: tape.flag(), ..base };
    let config = settings.check().expect("a preset is valid");
    let mut host = Host {
        session: Session::new(config, u64::from(tape.byte()), Timestamp::ZERO),
        now: Timestamp::from_millis(3_600_000),
        owed: Vec::new(),
        model: Model::default(),
        traced: std::env::var_os("FUZZ_TRACE").is_some(),
    };
    host.feed(Input::Open);
    for _ in 0..STEPS_MAX {
        if tape.0.is_empty() {
            break;
        }
        host.step(&mut tape);
    }
    host.close();
}

/// The fuzzer's bytes, read one at a time; zeros follow after the last one.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Returns a small number, because a session has few connections and peer connections.
    fn number(&mut self) -> u32 {
        u32::from(self.byte() % 5)
    }
}

struct Host {
    session: Session,
    now: Timestamp,
    owed: Vec<(Ticket, Done)>,
    model: Model,
    /// Whether inputs and outputs are printed (the environment variable `FUZZ_TRACE`).
    traced: bool,
}

impl Host {
    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.byte() % 8 {
            // Three of eight steps complete a command successfully, so that most sequences make
            // progress.
            0..=2 => self.oblige(tape.byte()),
            3 => self.wait(),
            4 => {
                self.now = self.now + Duration::from_millis(u64::from(tape.byte()) * 37);
                self.feed(Input::Timeout);
            }
            5 => self.refuse(tape),
            6 => {
                let input = self.nonsense(tape);
                self.feed(input);
            }
            _ => {
                let input = self.sensible(tape);
                self.feed(input);
            }
        }
    }

    fn feed(&mut self, input: Input) {
        if self.traced {
            eprintln!("{} {:?} < {input:?}", self.now, self.session.phase());
        }
        self.model.on_input(&input);
        let copy = self.session.clone();
        self.session.handle_input(self.now, input.clone());
        let mut outputs = Vec::new();
        while let Some(output) = self.session.poll_output() {
            if self.traced {
                eprintln!("    {output:?}");
            }
            self.model.on_output(&output);
            self.owed.extend(good(&output));
            outputs.push(output);
        }
        self.session.check_invariants().expect("the invariants hold");
        let deadline = self.session.poll_timeout();
        assert!(
            deadline.is_none_or(|(at, _)| at > self.now),
            "a deadline in the past {deadline:?}"
        );
        let over = self.session.phase() == Phase::Ended;
        assert_eq!(over, self.model.ends == 1, "the end was not told");
        assert!(!over || deadline.is_none(), "a deadline after the end");
        // A live session may have no deadline, because the peer connection reports every loss.
        let rests = over || self.session.phase() == Phase::Live;
        assert!(rests || deadline.is_some(), "it waits for ever in {:?}", self.session.phase());
        // The same input on a copy of the session must give the same outputs.
        let mut copy = copy;
        copy.handle_input(self.now, input);
        let again: Vec<_> = std::iter::from_fn(|| copy.poll_output()).collect();
        assert_eq!(outputs, again);
    }

    fn oblige(&mut self, which: u8) {
        if self.owed.is_empty() {
            return self.wait();
        }
        let (ticket, done) = self.owed.remove(usize::from(which) % self.owed.len());
        self.feed(Input::Completed(Completion { ticket, outcome: Ok(done) }));
    }

    fn refuse(&mut self, tape: &mut Tape<'_>) {
        if self.owed.is_empty() {
            return;
        }
        let (ticket, _) = self.owed.remove(usize::from(tape.byte()) % self.owed.len());
        let outcome = Err(Failure::new(code(tape.byte()), "refused"));
        self.feed(Input::Completed(Completion { ticket, outcome }));
    }

    fn wait(&mut self) {
        if let Some((at, _)) = self.session.poll_timeout() {
            self.now = self.now.max(at);
            self.feed(Input::Timeout);
        }
    }

    /// Closes the session and checks that it ends, even if ports complete nothing.
    fn close(&mut self) {
        self.feed(Input::Close);
        for _ in 0..50 {
            self.wait();
        }
        assert_eq!(self.session.phase(), Phase::Ended, "a close that does not end");
        for input in [Input::Open, Input::Close, Input::Timeout, Input::Restart] {
            self.feed(input);
        }
    }

    /// Returns an input for the newest signaling connection and the newest peer connection.
    fn sensible(&self, tape: &mut Tape<'_>) -> Input {
        let (link, peer) = (ConnectionId(self.model.link), PeerId(self.model.peer));
        let sender = Sender::Master;
        match tape.byte() % 14 {
            0 => signaled(link, SignalingEvent::Answer { sender, body: Ok(description(tape)) }),
            1 => signaled(link, SignalingEvent::Offer { sender, body: Ok(description(tape)) }),
            2 => signaled(link, SignalingEvent::Candidate { sender, body: Ok(candidate(tape)) }),
            3 => noticed(peer, PeerEvent::ConnectivityChanged(Connectivity::Connected)),
            4 => noticed(peer, PeerEvent::KeyframeReceived),
            5 => noticed(peer, PeerEvent::CandidateGathered(candidate(tape))),
            6 => noticed(peer, PeerEvent::MediaStalled),
            7 => noticed(peer, PeerEvent::ConnectivityChanged(connectivity(tape.byte()))),
            8 => noticed(peer, PeerEvent::MediaFlowing(MediaKind::Video)),
            9 => {
                signaled(link, SignalingEvent::Disconnected(Failure::new(code(tape.byte()), "end")))
            }
            10 => signaled(link, SignalingEvent::GoAway),
            11 => noticed(peer, PeerEvent::MediaProblem(MediaProblem::NoKeyframe)),
            12 => noticed(peer, PeerEvent::IceServersUnresolved(tape.number())),
            _ => noticed(peer, PeerEvent::SenderReport),
        }
    }

    /// Returns an arbitrary input.
    fn nonsense(&self, tape: &mut Tape<'_>) -> Input {
        let (link, peer) = (ConnectionId(tape.number()), PeerId(tape.number()));
        let sender = if tape.flag() { Sender::Master } else { Sender::Other };
        let ticket = Ticket { attempt: tape.number(), seq: u32::from(tape.byte()) };
        match tape.byte() % 22 {
            0 => Input::Open,
            1 => Input::Close,
            2 => Input::Resumed,
            3 => Input::NetworkChanged,
            4 => Input::Online(tape.flag()),
            5 => Input::Restart,
            6 => Input::Renegotiate,
            7 => signaled(link, SignalingEvent::Answer { sender, body: Ok(description(tape)) }),
            8 => signaled(link, SignalingEvent::Answer { sender, body: Err(Undecodable) }),
            9 => signaled(link, SignalingEvent::Offer { sender, body: Ok(description(tape)) }),
            10 => signaled(link, SignalingEvent::Offer { sender, body: Err(Undecodable) }),
            11 => signaled(link, SignalingEvent::Candidate { sender, body: Ok(candidate(tape)) }),
            12 => {
                let ticket = tape.flag().then_some(ticket);
                let failure = Failure::new(code(tape.byte()), "status");
                signaled(link, SignalingEvent::Status { ticket, failure })
            }
            13 => signaled(link, SignalingEvent::ReconnectIceServer),
            14 => signaled(link, SignalingEvent::Garbage),
            15 => noticed(peer, PeerEvent::ConnectivityChanged(connectivity(tape.byte()))),
            16 => noticed(peer, PeerEvent::TrackAdded(MediaKind::Audio)),
            17 => noticed(peer, PeerEvent::GatheringDone),
            20 => Input::LocalAddressGone,
            21 => Input::MasterKnown(MasterKnowledge {
                answers_restarts: Some(tape.flag()),
                answers_repeated_id: None,
            }),
            18 => {
                let outcome = Err(Failure::new(code(tape.byte()), "unasked"));
                Input::Completed(Completion { ticket, outcome })
            }
            _ => Input::Completed(Completion { ticket, outcome: Ok(Done::Ok) }),
        }
    }
}

fn signaled(link: ConnectionId, event: SignalingEvent) -> Input {
    Input::Signaling(link, event)
}

fn noticed(peer: PeerId, event: PeerEvent) -> Input {
    Input::Peer(peer, event)
}

fn code(byte: u8) -> FailureCode {
    const CODES: [FailureCode; 12] = [
        FailureCode::Network,
        FailureCode::Service,
        FailureCode::Throttled,
        FailureCode::NoChannel,
        FailureCode::AccessDenied,
        FailureCode::ExpiredCredentials,
        FailureCode::ViewerLimit,
        FailureCode::Replaced,
        FailureCode::BadDescription,
        FailureCode::Codec,
        FailureCode::Port,
        FailureCode::Cancelled,
    ];
    CODES[usize::from(byte) % CODES.len()]
}

fn connectivity(byte: u8) -> Connectivity {
    match byte % 7 {
        0 => Connectivity::Checking,
        1 => Connectivity::IceConnected,
        2 => Connectivity::Connected,
        3 => Connectivity::Disconnected,
        4 => Connectivity::IceFailed,
        5 => Connectivity::DtlsFailed,
        _ => Connectivity::ClosedByPeer,
    }
}

/// Returns one of a few descriptions: a repeated one, or one with other credentials, another
/// fingerprint or other media.
fn description(tape: &mut Tape<'_>) -> Description {
    let (text, ufrag, print) = (tape.number(), tape.number(), tape.number());
    let media = MediaSection {
        kind: MediaKind::Video,
        mid: Some("0".to_owned()),
        accepted: tape.byte() != 255,
        sends: true,
    };
    let facts = SdpSummary {
        ice_ufrag: Some(format!("u{ufrag}")),
        fingerprints: vec![format!("sha-256 {print}")],
        media: vec![media],
        ..SdpSummary::default()
    };
    Description { sdp: Sdp::new(&format!("description {text}")), facts }
}

fn candidate(tape: &mut Tape<'_>) -> Candidate {
    let (number, ufrag) = (tape.byte(), tape.number());
    let ufrag = (ufrag > 0).then(|| format!("u{ufrag}"));
    Candidate { text: format!("candidate:{number}").into(), mid: None, mline_index: None, ufrag }
}

/// Returns the successful result of a command.
fn good(output: &Output) -> Option<(Ticket, Done)> {
    let traits = PeerTraits { candidates: CandidateRelease::AfterOffer, restart_keeps_pair: true };
    let ours = || Description { sdp: Sdp::new("ours"), facts: SdpSummary::default() };
    match output {
        Output::Signaling(ticket, command) => Some((
            *ticket,
            match command {
                SignalingCommand::Connect { client_id, .. } => {
                    Done::Connected(client_id.clone().or_else(|| ClientId::new("viewer").ok())?)
                }
                SignalingCommand::FetchIceServers { .. } => Done::IceServers(Vec::new()),
                SignalingCommand::Join { .. }
                | SignalingCommand::Send { .. }
                | SignalingCommand::Disconnect { .. } => Done::Ok,
            },
        )),
        Output::Peer(ticket, command) => Some((
            *ticket,
            match command {
                PeerCommand::Create { .. } => Done::Created(traits),
                PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. } => {
                    Done::Description(ours())
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

/// A model of the session in counters and sets, which decides whether a command is allowed.
#[derive(Default)]
struct Model {
    link: u32,
    peer: u32,
    ends: u32,
    tickets: BTreeSet<Ticket>,
    /// Description operations that are running, with their peer connections.
    describing: BTreeMap<Ticket, PeerId>,
    /// Running `SetRemote` commands, with their peer connections.
    setting: BTreeMap<Ticket, PeerId>,
    remote_set: BTreeSet<PeerId>,
    created: BTreeSet<PeerId>,
    closed: BTreeSet<PeerId>,
}

impl Model {
    fn on_input(&mut self, input: &Input) {
        let Input::Completed(Completion { ticket, outcome }) = input else { return };
        self.describing.remove(ticket);
        if let Some(peer) = self.setting.remove(ticket)
            && outcome.is_ok()
        {
            self.remote_set.insert(peer);
        }
    }

    fn on_output(&mut self, output: &Output) {
        assert_eq!(self.ends, 0, "after the end came {output:?}");
        match output {
            Output::Event(Event::Ended(_)) => self.ends += 1,
            // The session treats an overdue command as failed and does not wait for it.
            Output::Event(Event::DeadlineFired(_)) => self.describing.clear(),
            Output::Event(_) => {}
            Output::Signaling(ticket, command) => {
                assert!(self.tickets.insert(*ticket), "{ticket} twice");
                if let SignalingCommand::Connect { link, .. } = command {
                    assert!(link.0 > self.link, "N1: link {link:?} is not new");
                    self.link = link.0;
                }
            }
            Output::Peer(ticket, command) => {
                assert!(self.tickets.insert(*ticket), "{ticket} twice");
                self.on_peer_command(*ticket, command);
            }
        }
    }

    fn on_peer_command(&mut self, ticket: Ticket, command: &PeerCommand) {
        let peer = command.peer();
        match command {
            PeerCommand::Create { .. } => {
                assert!(self.created.insert(peer), "{peer:?} is made twice");
                self.peer = peer.0;
            }
            PeerCommand::CreateOffer { .. }
            | PeerCommand::CreateAnswer { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::Rollback { .. }
            | PeerCommand::SetRemote { .. } => {
                let busy = self.describing.values().any(|other| *other == peer);
                assert!(!busy, "N2: {command:?} beside another description operation");
                self.describing.insert(ticket, peer);
                if matches!(command, PeerCommand::SetRemote { .. }) {
                    self.setting.insert(ticket, peer);
                }
            }
            PeerCommand::AddCandidate { .. } => {
                assert!(self.remote_set.contains(&peer), "N9: a candidate before its description");
            }
            PeerCommand::Close { .. } => {
                assert!(self.closed.insert(peer), "N23: {peer:?} is closed twice");
            }
            PeerCommand::SetIceServers { .. }
            | PeerCommand::RequestKeyframe { .. }
            | PeerCommand::StopTransceivers { .. }
            | PeerCommand::RemoveTracks { .. } => {}
        }
        assert!(self.created.contains(&peer), "{command:?} for a peer that was never made");
    }
}
