//! A viewer that drives the port as a session does.

use std::collections::BTreeMap;

use negotiation_core::{
    Candidate, Completion, Description, Done, Failure, PeerCommand, PeerEvent, PeerId, SdpKind,
    Ticket,
};
use peer_webrtc::{MediaReceiver, PeerConfig, PeerMonitor, WebRtcPeer};
use viewer_session::facts::read_description;
use viewer_session::{PeerInput, PeerPort};

use crate::common::{LIMIT, Master, within};

pub(crate) const PEER: PeerId = PeerId(1);

pub(crate) struct Viewer {
    pub(crate) port: WebRtcPeer,
    pub(crate) media: MediaReceiver,
    pub(crate) monitor: PeerMonitor,
    pub(crate) events: Vec<PeerEvent>,
    outcomes: BTreeMap<u32, Result<Done, Failure>>,
    seq: u32,
}

pub(crate) fn peer_config() -> PeerConfig {
    let bind = vec!["127.0.0.1:0".to_owned()];
    PeerConfig { bind, rtp_events: true, ..PeerConfig::new(true) }
}

impl Viewer {
    pub(crate) fn new(config: PeerConfig) -> Self {
        let mut port = WebRtcPeer::new(config).expect("a good configuration");
        let media = port.media().expect("not taken");
        let monitor = port.monitor();
        Self { port, media, monitor, events: Vec::new(), outcomes: BTreeMap::new(), seq: 0 }
    }

    pub(crate) fn submit(&mut self, command: PeerCommand) -> u32 {
        self.seq += 1;
        self.port.submit(Ticket { attempt: 1, seq: self.seq }, command);
        self.seq
    }

    async fn take_one(&mut self) {
        match self.port.next().await {
            PeerInput::Event(_, event) => self.events.push(event),
            PeerInput::Completed(Completion { ticket, outcome }) => {
                let twice = self.outcomes.insert(ticket.seq, outcome);
                assert!(twice.is_none(), "{ticket} completed twice");
            }
        }
    }

    pub(crate) async fn outcome(&mut self, seq: u32) -> Result<Done, Failure> {
        within("a completion", async {
            while !self.outcomes.contains_key(&seq) {
                self.take_one().await;
            }
        })
        .await;
        self.outcomes[&seq].clone()
    }

    pub(crate) async fn run(&mut self, command: PeerCommand) -> Result<Done, Failure> {
        let seq = self.submit(command);
        self.outcome(seq).await
    }

    /// Waits until an event of this kind has come.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&PeerEvent) -> bool) {
        let limit = tokio::time::Instant::now() + LIMIT;
        while !self.events.iter().any(&wanted) {
            let one = tokio::time::timeout_at(limit, self.take_one()).await;
            assert!(one.is_ok(), "waited too long; there were {:?}", self.events);
        }
    }

    pub(crate) async fn offer(&mut self) -> Description {
        let done = self
            .run(PeerCommand::CreateOffer { peer: PEER, restart: false })
            .await
            .expect("offers");
        match done {
            Done::Description(description) => description,
            other => panic!("not a description: {other:?}"),
        }
    }

    /// Creates the peer, makes an offer and sets it.
    pub(crate) async fn offered(&mut self) -> Description {
        self.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
        let offer = self.offer().await;
        let set =
            PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description: offer.clone() };
        self.run(set).await.expect("sets the offer");
        offer
    }

    /// Completes an exchange with a master: applies the answer and the candidates.
    pub(crate) async fn exchanged(&mut self, master: &mut Master) -> Description {
        let offer = self.offered().await;
        let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
        self.apply(&answer).await.expect("applies");
        for text in master.candidates().await {
            self.add(&text).await.expect("adds");
        }
        offer
    }

    pub(crate) async fn apply(&mut self, answer: &str) -> Result<Done, Failure> {
        let description = read_description(answer).expect("an answer");
        self.run(PeerCommand::SetRemote { peer: PEER, kind: SdpKind::Answer, description }).await
    }

    pub(crate) async fn add(&mut self, text: &str) -> Result<Done, Failure> {
        let candidate =
            Candidate { text: text.into(), mid: None, mline_index: Some(0), ufrag: None };
        self.run(PeerCommand::AddCandidate { peer: PEER, candidate }).await
    }

    /// Runs the session's three closing steps.
    pub(crate) async fn close(&mut self) {
        for step in [
            PeerCommand::StopTransceivers { peer: PEER },
            PeerCommand::RemoveTracks { peer: PEER },
            PeerCommand::Close { peer: PEER },
        ] {
            self.run(step).await.expect("closes");
        }
    }
}
