//! A session on a harness of its own, for tests: one input at a time, and command for command what
//! it submits. The simulator shows whole sessions; here is the single step that its worlds hardly
//! reach. Commands have short names, [`Harness::commands`] returns them in order.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::Session;
use crate::ticket::Ticket;
use crate::{
    AttemptEnd, Candidate, CandidateRelease, ClientId, Completion, ConnectionId, Connectivity,
    Description, Digest, Done, Event, Evidence, Failure, FailureCode, IceServer, Ignored, Input,
    MediaKind, MediaSection, Message, Mode, Output, PeerCommand, PeerEvent, PeerId, PeerTraits,
    Phase, Sdp, SdpSummary, Secret, Sender, Settings, SignalingCommand, SignalingEvent, Timer,
    Timestamp,
};

/// More steps than any test needs.
const STEPS_MAX: u32 = 500;

pub(crate) struct Harness {
    pub(crate) session: Session,
    pub(crate) now: Timestamp,
    /// What the peer stack states of itself.
    pub(crate) traits: PeerTraits,
    /// What the service names.
    pub(crate) servers: Vec<IceServer>,
    /// Where the master's messages come in.
    pub(crate) link: ConnectionId,
    pub(crate) peer: PeerId,
    pending: Vec<(Ticket, Output)>,
    commands: Vec<Output>,
    events: Vec<(Timestamp, Event)>,
    made: u32,
}

impl Harness {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Timestamp::from_millis(1_000);
        let config = settings.check().expect("valid");
        Self {
            session: Session::new(config, 1, now),
            now,
            traits: PeerTraits {
                candidates: CandidateRelease::AfterOffer,
                restart_keeps_pair: false,
            },
            servers: vec![turn()],
            link: ConnectionId(1),
            peer: PeerId(1),
            pending: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            made: 0,
        }
    }

    /// Opened, with the first commands pending.
    pub(crate) fn opened(settings: Settings) -> Self {
        let mut harness = Self::new(settings);
        harness.give(Input::Open);
        harness
    }

    /// The first offer is out.
    pub(crate) fn offered(settings: Settings) -> Self {
        let mut harness = Self::opened(settings);
        harness.settle(&[]);
        assert_eq!(harness.session.phase(), Phase::AwaitingAnswer);
        harness
    }

    /// The first answer is applied.
    pub(crate) fn answered(settings: Settings) -> Self {
        let mut harness = Self::offered(settings);
        harness.answer(answer(1));
        harness.settle(&[]);
        assert_eq!(harness.session.phase(), Phase::Establishing);
        harness
    }

    /// Video flows.
    pub(crate) fn live(settings: Settings) -> Self {
        let mut harness = Self::answered(settings);
        harness.goes_live();
        harness
    }

    /// The same over a stack that keeps the pair in use through a restart.
    pub(crate) fn live_keeping(settings: Settings) -> Self {
        let mut harness = Self::opened(settings);
        harness.traits.restart_keeps_pair = true;
        harness.settle(&[]);
        harness.answer(answer(1));
        harness.settle(&[]);
        harness.goes_live();
        harness
    }

    /// Live over such a stack, and 8 s after a restart was requested its offer is being set.
    pub(crate) fn setting_a_late_restart() -> Self {
        let mut harness = Self::live_keeping(one_retry());
        harness.give(Input::Restart);
        harness.pass(4_000);
        harness.settle(&["create restart"]);
        harness.pass(4_000);
        harness.settle(&["set local"]);
        harness
    }

    /// A storage session that waits for the service's offer.
    pub(crate) fn joined() -> Self {
        let mut harness = Self::opened(storage());
        harness.settle(&[]);
        assert_eq!(harness.session.phase(), Phase::AwaitingOffer);
        harness
    }

    /// A storage session over which video flows.
    pub(crate) fn storage_live() -> Self {
        let mut harness = Self::joined();
        harness.offer(offer(1));
        harness.settle(&[]);
        harness.goes_live();
        harness
    }

    pub(crate) fn goes_live(&mut self) {
        self.ice(Connectivity::Connected);
        self.notices(PeerEvent::KeyframeReceived);
        self.settle(&[]);
        assert_eq!(self.session.phase(), Phase::Live);
        self.forget();
    }

    /// Takes one input now.
    pub(crate) fn give(&mut self, input: Input) {
        self.session.handle_input(self.now, input);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Signaling(ticket, _) | Output::Peer(ticket, _) => {
                    self.pending.push((ticket, output.clone()));
                    self.commands.push(output);
                }
                Output::Event(event) => self.events.push((self.now, event)),
            }
        }
        assert_eq!(self.session.check_invariants(), Ok(()));
    }

    /// Lets so many milliseconds pass, with every deadline at its moment.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        for _ in 0..STEPS_MAX {
            match self.session.poll_timeout() {
                Some((at, _)) if at <= until => {
                    self.now = self.now.max(at);
                    self.give(Input::Timeout);
                }
                Some(_) | None => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("it spins");
    }

    /// The oldest pending command of this name ends.
    #[track_caller]
    pub(crate) fn ends(&mut self, name: &str, outcome: Result<Done, Failure>) {
        let ticket = self.ticket(name);
        self.give(Input::Completed(Completion { ticket, outcome }));
    }

    /// It does what it should.
    #[track_caller]
    pub(crate) fn done(&mut self, name: &str) {
        let found = self.pending.iter().find(|(_, output)| name_of(output) == name);
        let output = found.unwrap_or_else(|| panic!("no {name} is pending")).1.clone();
        let brings = self.brings(&output);
        self.ends(name, Ok(brings));
    }

    #[track_caller]
    pub(crate) fn fails(&mut self, name: &str, code: FailureCode) {
        self.ends(name, Err(Failure::new(code, "by plan")));
    }

    /// Takes the ticket of the oldest pending command of this name.
    #[track_caller]
    pub(crate) fn ticket(&mut self, name: &str) -> Ticket {
        let at = self.pending.iter().position(|(_, output)| name_of(output) == name);
        self.pending.remove(at.unwrap_or_else(|| panic!("no {name} is pending"))).0
    }

    pub(crate) fn is_pending(&self, name: &str) -> bool {
        self.pending.iter().any(|(_, output)| name_of(output) == name)
    }

    /// Everything that is pending or comes of it is done, in order, but for what is named.
    pub(crate) fn settle(&mut self, held: &[&str]) {
        for _ in 0..STEPS_MAX {
            let next = self.pending.iter().position(|(_, output)| !held.contains(&name_of(output)));
            let Some(next) = next else { return };
            let (ticket, output) = self.pending.remove(next);
            let outcome = Ok(self.brings(&output));
            self.give(Input::Completed(Completion { ticket, outcome }));
        }
        panic!("it spins");
    }

    /// What a command brings when all is well.
    fn brings(&mut self, output: &Output) -> Done {
        match output {
            Output::Signaling(_, SignalingCommand::Connect { link, client_id, .. }) => {
                self.link = *link;
                let id = ClientId::new("viewer").expect("valid");
                Done::Connected(client_id.clone().unwrap_or(id))
            }
            Output::Signaling(_, SignalingCommand::FetchIceServers { .. }) => {
                Done::IceServers(self.servers.clone())
            }
            Output::Peer(_, PeerCommand::Create { peer }) => {
                self.peer = *peer;
                Done::Created(self.traits)
            }
            Output::Peer(_, PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. }) => {
                self.made += 1;
                let sdp = Sdp::new(&format!("made {}", self.made));
                Done::Description(Description { sdp, facts: SdpSummary::default() })
            }
            Output::Signaling(..) | Output::Peer(..) | Output::Event(_) => Done::Ok,
        }
    }

    /// Something comes in on the newest connection.
    pub(crate) fn receive(&mut self, event: SignalingEvent) {
        self.receive_on(self.link, event);
    }

    pub(crate) fn receive_on(&mut self, link: ConnectionId, event: SignalingEvent) {
        self.give(Input::Signaling(link, event));
    }

    pub(crate) fn answer(&mut self, answer: Description) {
        self.receive(SignalingEvent::Answer { sender: Sender::Master, body: Ok(answer) });
    }

    pub(crate) fn offer(&mut self, offer: Description) {
        self.receive(SignalingEvent::Offer { sender: Sender::Master, body: Ok(offer) });
    }

    /// Whether a local answer that its connection did not carry goes out on the next one.
    pub(crate) fn answers_on_the_next_link(&mut self) -> bool {
        self.offer(offer(1));
        self.settle(&["send answer"]);
        self.receive(SignalingEvent::GoAway);
        self.settle(&["send answer"]);
        self.commands();
        self.fails("send answer", FailureCode::NotOpen);
        self.commands().contains(&"send answer")
    }

    pub(crate) fn candidate(&mut self, candidate: Candidate) {
        self.receive(SignalingEvent::Candidate { sender: Sender::Master, body: Ok(candidate) });
    }

    /// The connection ends by itself.
    pub(crate) fn link_ends(&mut self, link: u32, code: FailureCode) {
        let failure = Failure::new(code, "by plan");
        self.receive_on(ConnectionId(link), SignalingEvent::Disconnected(failure));
    }

    pub(crate) fn notices(&mut self, event: PeerEvent) {
        self.give(Input::Peer(self.peer, event));
    }

    pub(crate) fn ice(&mut self, state: Connectivity) {
        self.notices(PeerEvent::ConnectivityChanged(state));
    }

    /// The names of the commands since last time, in order.
    pub(crate) fn commands(&mut self) -> Vec<&'static str> {
        core::mem::take(&mut self.commands).iter().map(name_of).collect()
    }

    /// The newest command of this name.
    #[track_caller]
    pub(crate) fn newest(&self, name: &str) -> &Output {
        let found = self.commands.iter().rev().find(|output| name_of(output) == name);
        found.unwrap_or_else(|| panic!("no command {name}"))
    }

    /// How often it was reported since last time.
    pub(crate) fn reported(&self, event: &Event) -> usize {
        self.events.iter().filter(|(_, other)| other == event).count()
    }

    pub(crate) fn ignored(&self, reason: Ignored) -> bool {
        self.reported(&Event::Ignored(reason)) == 1
    }

    pub(crate) fn fired(&self, timer: Timer) -> usize {
        self.reported(&Event::DeadlineFired(timer))
    }

    /// Everything that was reported since last time.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    /// Forgets the commands and events until now.
    pub(crate) fn forget(&mut self) {
        self.commands.clear();
        self.events.clear();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.session.phase()
    }

    /// How the attempt ended that is over or being closed.
    #[track_caller]
    pub(crate) fn report(&mut self) -> (AttemptEnd, Evidence) {
        self.settle(&[]);
        let found = self.events().find_map(|event| {
            let Event::AttemptEnded(report) = event else { return None };
            Some((report.end.clone(), report.evidence.clone()))
        });
        found.expect("an attempt is over")
    }
}

pub(crate) fn one_retry() -> Settings {
    Settings::one_retry()
}

/// The service offers.
pub(crate) fn storage() -> Settings {
    Settings { mode: Mode::Answerer, ..Settings::one_retry() }
}

pub(crate) fn turn() -> IceServer {
    IceServer {
        uris: vec!["turn:relay.example:443".into()],
        username: Some(Secret::new("user")),
        password: Some(Secret::new("canary")),
    }
}

fn description_of(sdp: &str, n: u64) -> Description {
    let video = MediaSection { kind: MediaKind::Video, mid: None, accepted: true, sends: true };
    let facts = SdpSummary {
        ice_ufrag: Some(format!("u{n}")),
        ice_pwd: Some(Digest(n)),
        fingerprints: vec!["master".into()],
        media: vec![video],
        candidates: 2,
        video_codecs: vec![],
    };
    Description { sdp: Sdp::new(sdp), facts }
}

/// The master's answer in its `n`-th ICE generation. It names two candidates.
pub(crate) fn answer(n: u64) -> Description {
    description_of(&format!("answer {n}"), n)
}

/// The master's `n`-th answer, still in its first ICE generation: to what is no restart.
pub(crate) fn again(n: u64) -> Description {
    description_of(&format!("answer {n}"), 1)
}

/// The master's offer in its `n`-th ICE generation.
pub(crate) fn offer(n: u64) -> Description {
    description_of(&format!("offer {n}"), n)
}

/// The same of another remote session.
pub(crate) fn anew(mut description: Description) -> Description {
    description.facts.fingerprints = vec!["another".into()];
    description
}

pub(crate) fn candidate(n: u32) -> Candidate {
    Candidate {
        text: format!("candidate:{n}").into(),
        mid: Some("0".into()),
        mline_index: Some(0),
        ufrag: None,
    }
}

/// A short name of a command.
fn name_of(output: &Output) -> &'static str {
    match output {
        Output::Signaling(_, command) => match command {
            SignalingCommand::Connect { .. } => "connect",
            SignalingCommand::Join { .. } => "join",
            SignalingCommand::FetchIceServers { .. } => "fetch servers",
            SignalingCommand::Send { message: Message::Offer(_), .. } => "send offer",
            SignalingCommand::Send { message: Message::Answer(_), .. } => "send answer",
            SignalingCommand::Send { message: Message::Candidate(_), .. } => "send candidate",
            SignalingCommand::Disconnect { .. } => "disconnect",
        },
        Output::Peer(_, command) => match command {
            PeerCommand::Create { .. } => "create",
            PeerCommand::CreateOffer { restart: false, .. } => "create offer",
            PeerCommand::CreateOffer { restart: true, .. } => "create restart",
            PeerCommand::CreateAnswer { .. } => "create answer",
            PeerCommand::SetIceServers { .. } => "set servers",
            PeerCommand::SetLocal { .. } => "set local",
            PeerCommand::SetRemote { .. } => "set remote",
            PeerCommand::Rollback { .. } => "roll back",
            PeerCommand::AddCandidate { .. } => "add candidate",
            PeerCommand::RequestKeyframe { .. } => "ask for a keyframe",
            PeerCommand::StopTransceivers { .. } => "stop transceivers",
            PeerCommand::RemoveTracks { .. } => "remove tracks",
            PeerCommand::Close { .. } => "close",
        },
        Output::Event(_) => "event",
    }
}
