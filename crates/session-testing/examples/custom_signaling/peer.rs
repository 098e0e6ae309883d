//! A peer port without a peer connection: everything works, and the keyframe comes at once.

use std::collections::VecDeque;

use async_trait::async_trait;
use viewer_session::core::{
    CandidateRelease, Completion, Connectivity, Done, Failure, FailureCode, MediaKind, PeerCommand,
    PeerEvent, PeerTraits, Ticket,
};
use viewer_session::facts::read_description;
use viewer_session::{PeerInput, PeerPort};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-options:trickle\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 127.0.0.1\r\na=mid:0\r\na=recvonly\r\n\
    a=ice-ufrag:there\r\na=ice-pwd:not-a-secret-of-anybody\r\na=fingerprint:sha-256 22:33\r\n";

/// Says yes to everything, in order.
#[derive(Default)]
pub(crate) struct AlwaysWorks {
    waiting: VecDeque<PeerInput>,
}

#[async_trait]
impl PeerPort for AlwaysWorks {
    fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
        let mut events = Vec::new();
        let outcome = match command {
            PeerCommand::Create { .. } => {
                let candidates = CandidateRelease::AfterOffer;
                Ok(Done::Created(PeerTraits { candidates, restart_keeps_pair: false }))
            }
            PeerCommand::CreateOffer { .. } | PeerCommand::CreateAnswer { .. } => {
                read_description(OFFER)
                    .map(Done::Description)
                    .map_err(|_| Failure::new(FailureCode::BadDescription, "the offer is no SDP"))
            }
            PeerCommand::SetRemote { peer, .. } => {
                for event in [
                    PeerEvent::ConnectivityChanged(Connectivity::Connected),
                    PeerEvent::TrackAdded(MediaKind::Video),
                    PeerEvent::KeyframeReceived,
                ] {
                    events.push(PeerInput::Event(peer, event));
                }
                Ok(Done::Ok)
            }
            PeerCommand::Close { peer } => {
                self.waiting
                    .retain(|input| !matches!(input, PeerInput::Event(of, _) if *of == peer));
                Ok(Done::Ok)
            }
            PeerCommand::SetIceServers { .. }
            | PeerCommand::SetLocal { .. }
            | PeerCommand::Rollback { .. }
            | PeerCommand::AddCandidate { .. }
            | PeerCommand::RequestKeyframe { .. }
            | PeerCommand::StopTransceivers { .. }
            | PeerCommand::RemoveTracks { .. } => Ok(Done::Ok),
        };
        self.waiting.push_back(PeerInput::Completed(Completion { ticket, outcome }));
        self.waiting.extend(events);
    }

    async fn next(&mut self) -> PeerInput {
        match self.waiting.pop_front() {
            Some(input) => input,
            None => std::future::pending().await,
        }
    }
}
