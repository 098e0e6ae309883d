//! The test environment of `peer-webrtc`: a second `WebRtcPeer` is the remote peer, over loopback.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use clock_tokio::TokioClock;
use peer_webrtc::{PeerConfig, WebRtcPeer};
use session_testing::PeerStage;
use viewer_session::core::{
    Candidate, Completion, Description, Done, PeerCommand, PeerEvent, PeerId, SdpKind, Ticket,
};
use viewer_session::{Clock, PeerInput, PeerPort};

const REMOTE: PeerId = PeerId(1);

pub(crate) struct Stage {
    clock: TokioClock,
    remote: Option<Remote>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self { clock: TokioClock::start(), remote: None }
    }

    async fn remote(&mut self) -> &mut Remote {
        if self.remote.is_none() {
            self.remote = Some(Remote::start().await);
        }
        self.remote.as_mut().expect("it was just made")
    }
}

fn port() -> WebRtcPeer {
    let bind = vec!["127.0.0.1:0".to_owned()];
    let config = PeerConfig { bind, data_channel: true, ..PeerConfig::new(true) };
    WebRtcPeer::new(config).expect("a good configuration")
}

#[async_trait]
impl PeerStage for Stage {
    type Port = WebRtcPeer;

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    async fn port(&mut self) -> WebRtcPeer {
        self.remote = None;
        port()
    }

    async fn answer(&mut self, offer: &Description) -> Description {
        let remote = self.remote().await;
        remote.set_remote(SdpKind::Offer, offer).await;
        remote.describe(SdpKind::Answer).await
    }

    async fn offer(&mut self) -> Description {
        self.remote().await.describe(SdpKind::Offer).await
    }

    async fn take_answer(&mut self, answer: &Description) {
        self.remote().await.set_remote(SdpKind::Answer, answer).await;
    }

    async fn candidates(&mut self) -> Vec<Candidate> {
        let remote = self.remote().await;
        while !remote.gathered {
            remote.hear().await;
        }
        remote.candidates.clone()
    }

    async fn take_candidate(&mut self, candidate: &Candidate) {
        let candidate = candidate.clone();
        self.remote().await.run(PeerCommand::AddCandidate { peer: REMOTE, candidate }).await;
    }

    /// Counts the UDP sockets of this process. While there is no remote peer, only the port under
    /// test opens any.
    fn open_resources(&self) -> usize {
        udp_sockets()
    }
}

/// Counts the UDP sockets that this process holds open.
fn udp_sockets() -> usize {
    let lines = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let table = lines("/proc/self/net/udp") + &lines("/proc/self/net/udp6");
    let inodes: Vec<&str> = table.lines().filter_map(|l| l.split_whitespace().nth(9)).collect();
    let descriptors = fs::read_dir("/proc/self/fd").expect("Linux lists descriptors");
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_string_lossy().into_owned();
            target.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .filter(|inode| inodes.contains(&inode.as_str()))
        .count()
}

/// The remote peer, which is driven by hand.
struct Remote {
    port: WebRtcPeer,
    seq: u32,
    candidates: Vec<Candidate>,
    gathered: bool,
    completed: Vec<Completion>,
}

impl Remote {
    async fn start() -> Self {
        let (candidates, completed) = (Vec::new(), Vec::new());
        let mut remote = Self { port: port(), seq: 0, candidates, gathered: false, completed };
        remote.run(PeerCommand::Create { peer: REMOTE }).await;
        remote
    }

    async fn hear(&mut self) {
        match self.port.next().await {
            PeerInput::Event(_, PeerEvent::CandidateGathered(candidate)) => {
                self.candidates.push(candidate);
            }
            PeerInput::Event(_, PeerEvent::GatheringDone) => self.gathered = true,
            PeerInput::Event(..) => {}
            PeerInput::Completed(completion) => self.completed.push(completion),
        }
    }

    async fn run(&mut self, command: PeerCommand) -> Done {
        self.seq += 1;
        let ticket = Ticket { attempt: 1, seq: self.seq };
        self.port.submit(ticket, command);
        loop {
            let found = self.completed.iter().position(|completion| completion.ticket == ticket);
            if let Some(index) = found {
                return self.completed.remove(index).outcome.expect("the remote peer works");
            }
            self.hear().await;
        }
    }

    async fn describe(&mut self, kind: SdpKind) -> Description {
        let make = match kind {
            SdpKind::Offer => PeerCommand::CreateOffer { peer: REMOTE, restart: false },
            SdpKind::Answer => PeerCommand::CreateAnswer { peer: REMOTE },
        };
        let Done::Description(description) = self.run(make).await else {
            panic!("a description");
        };
        let set = description.clone();
        self.run(PeerCommand::SetLocal { peer: REMOTE, kind, description: set }).await;
        description
    }

    async fn set_remote(&mut self, kind: SdpKind, description: &Description) {
        let description = description.clone();
        self.run(PeerCommand::SetRemote { peer: REMOTE, kind, description }).await;
    }
}
