//! The host of a session: the loop of the core's own page, on a thread and a channel.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use negotiation_core::{
    CandidateRelease, ClientId, Completion, Config, ConnectionId, Connectivity, Description, Done,
    Event, Failure, FailureCode, Input, MediaKind, Message, Outcome, Output, PeerCommand,
    PeerEvent, PeerId, PeerTraits, Sdp, SdpSummary, Session, SignalingCommand, Timestamp,
};

use crate::master::Offer;

/// What the application of this world wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To be live once, and then to stop.
    CloseOnceLive,
}

/// What was opened and what is still open.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Connections that were opened.
    pub(crate) links_opened: u32,
    /// Peer connections that were made.
    pub(crate) peers_opened: u32,
    /// Candidates that were handed to a peer connection.
    pub(crate) candidates_added: u32,
    links: BTreeSet<ConnectionId>,
    peers: BTreeSet<PeerId>,
    remote_is_set: BTreeSet<PeerId>,
}

impl Ledger {
    /// Panics if anything was left open.
    pub(crate) fn check_everything_is_closed(&self) {
        assert!(self.links.is_empty(), "links left open: {:?}", self.links);
        assert!(self.peers.is_empty(), "peer connections left open: {:?}", self.peers);
    }
}

/// A session and the world around it.
pub(crate) struct Viewer {
    session: Session,
    origin: Instant,
    offers: Sender<Offer>,
    inbox: Receiver<Input>,
    own: Sender<Input>,
    ledger: Ledger,
}

impl Viewer {
    /// A session that can reach this master.
    #[expect(clippy::disallowed_methods, reason = "this host has no clock port: it is the clock")]
    pub(crate) fn start(config: Config, offers: Sender<Offer>) -> Self {
        let (own, inbox) = channel();
        let session = Session::new(config, 7, Timestamp::ZERO);
        let origin = Instant::now();
        Self { session, origin, offers, inbox, own, ledger: Ledger::default() }
    }

    /// Runs the session to its end.
    pub(crate) fn run(mut self, request: Wish) -> (Outcome, Ledger) {
        let mut input = Input::Open;
        loop {
            self.session.handle_input(self.now(), input);
            self.session.check_invariants().expect("the session makes sense after every input");
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Signaling(ticket, command) => {
                        let outcome = self.signal(command);
                        self.later(Input::Completed(Completion { ticket, outcome }));
                    }
                    Output::Peer(ticket, command) => {
                        let (outcome, events) = self.peer(&command);
                        self.later(Input::Completed(Completion { ticket, outcome }));
                        for (peer, event) in events {
                            self.later(Input::Peer(peer, event));
                        }
                    }
                    Output::Event(Event::Live) if request == Wish::CloseOnceLive => {
                        self.later(Input::Close);
                    }
                    Output::Event(Event::Ended(outcome)) => return (*outcome, self.ledger),
                    Output::Event(_) => {}
                }
            }
            input = self.next_input();
        }
    }

    /// Waits for the next input or the session's next deadline, whichever is first.
    fn next_input(&self) -> Input {
        let (deadline, _) = self.session.poll_timeout().expect("a session that waits has one");
        match self.inbox.recv_timeout(deadline.saturating_since(self.now())) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::Timeout,
            Err(RecvTimeoutError::Disconnected) => unreachable!("we hold a sender ourselves"),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.origin.elapsed())
    }

    fn later(&self, input: Input) {
        self.own.send(input).expect("we hold the receiver");
    }

    fn signal(&mut self, command: SignalingCommand) -> Result<Done, Failure> {
        match command {
            SignalingCommand::Connect { link, attempt, client_id } => {
                self.ledger.links_opened += 1;
                self.ledger.links.insert(link);
                let own = || ClientId::new(&format!("viewer-{attempt}")).expect("a valid id");
                let id = client_id.unwrap_or_else(own);
                Ok(Done::Connected(id))
            }
            SignalingCommand::Join { .. } => Ok(Done::Ok),
            SignalingCommand::FetchIceServers { .. } => Ok(Done::IceServers(Vec::new())),
            SignalingCommand::Send { link, message } => match message {
                Message::Offer(_) => {
                    let offer = Offer { link, reply: self.own.clone() };
                    let gone = |_| Failure::new(FailureCode::Network, "the master's thread ended");
                    self.offers.send(offer).map(|()| Done::Ok).map_err(gone)
                }
                Message::Answer(_) | Message::Candidate(_) => Ok(Done::Ok),
            },
            SignalingCommand::Disconnect { link } => {
                self.ledger.links.remove(&link);
                Ok(Done::Ok)
            }
        }
    }

    /// A peer connection that can do everything, and connects once it has the answer.
    fn peer(&mut self, command: &PeerCommand) -> (Result<Done, Failure>, Vec<(PeerId, PeerEvent)>) {
        let mut events = Vec::new();
        let done = match command {
            PeerCommand::Create { peer } => {
                self.ledger.peers_opened += 1;
                self.ledger.peers.insert(*peer);
                let candidates = CandidateRelease::AfterOffer;
                Done::Created(PeerTraits { candidates, restart_keeps_pair: false })
            }
            PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. } => {
                let sdp = Sdp::new("a description");
                Done::Description(Description { sdp, facts: SdpSummary::default() })
            }
            PeerCommand::SetRemote { peer, .. } => {
                self.ledger.remote_is_set.insert(*peer);
                events.extend([
                    (*peer, PeerEvent::ConnectivityChanged(Connectivity::Connected)),
                    (*peer, PeerEvent::TrackAdded(MediaKind::Video)),
                    (*peer, PeerEvent::MediaFlowing(MediaKind::Video)),
                    (*peer, PeerEvent::KeyframeReceived),
                ]);
                Done::Ok
            }
            PeerCommand::AddCandidate { peer, .. } => {
                assert!(self.ledger.remote_is_set.contains(peer), "a candidate came too early");
                self.ledger.candidates_added += 1;
                Done::Ok
            }
            PeerCommand::Close { peer } => {
                self.ledger.peers.remove(peer);
                Done::Ok
            }
            PeerCommand::SetIceServers { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::Rollback { .. }
            | PeerCommand::RequestKeyframe { .. }
            | PeerCommand::StopTransceivers { .. }
            | PeerCommand::RemoveTracks { .. } => Done::Ok,
        };
        (Ok(done), events)
    }
}
