//! Echoes: late events of a closed connection or peer connection.
//!
//! A port promises that nothing comes after a close is done. Until then events may still be on
//! their way, and the core has to ignore them. The oracle does not see an echo, since it has no
//! effect.

use negotiation_core::{
    ConnectionId, Connectivity, Failure, FailureCode, Input, MediaKind, PeerEvent, PeerId, Sender,
    SignalingEvent,
};

use super::{Work, World};
use crate::kinds::InputKind;
use crate::master::candidate;
use crate::peer::Peer;

impl World {
    pub(super) fn echo_link(&mut self) {
        let Some(link) = self.closed_link() else { return };
        let sender = Sender::Master;
        let answer = self.answers.last().map(|(_, answer)| answer.clone());
        let answer = answer.map(|answer| SignalingEvent::Answer { sender, body: Ok(answer) });
        let candidate = SignalingEvent::Candidate { sender, body: Ok(candidate(0, 0)) };
        let ended = Failure::new(FailureCode::Closed, "the socket ended");
        let ended = SignalingEvent::Disconnected(ended);
        for event in answer.into_iter().chain([candidate, SignalingEvent::GoAway, ended]) {
            self.feed_as(InputKind::LateLink, Input::Signaling(link, event));
        }
    }

    pub(super) fn echo_peer(&mut self) {
        let Some(peer) = self.closed_peer() else { return };
        let burst = self.peers.get_mut(&peer).map(Peer::local_candidate);
        let events = [
            PeerEvent::ConnectivityChanged(Connectivity::Connected),
            PeerEvent::MediaFlowing(MediaKind::Video),
            PeerEvent::KeyframeReceived,
            PeerEvent::ConnectivityChanged(Connectivity::IceFailed),
        ];
        for event in burst.map(PeerEvent::CandidateGathered).into_iter().chain(events) {
            self.feed_as(InputKind::LatePeer, Input::Peer(peer, event));
        }
    }

    /// The newest connection that is neither open nor opening.
    fn closed_link(&self) -> Option<ConnectionId> {
        let opens = |link| {
            let key = (self.number, link);
            self.running.values().any(|running| matches!(running.work, Work::Opens(k) if k == key))
        };
        let mut links = (1..=self.link.0).rev().map(ConnectionId);
        links.find(|link| !self.service.is_open((self.number, *link)) && !opens(*link))
    }

    fn closed_peer(&self) -> Option<PeerId> {
        self.peers.iter().rev().find(|(_, peer)| peer.is_closed()).map(|(id, _)| *id)
    }
}
