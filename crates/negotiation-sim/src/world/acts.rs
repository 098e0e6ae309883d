//! What the application, the service, the master and the network do by plan.

use negotiation_core::{
    Candidate, Connectivity, Description, Facts, Failure, FailureCode, Input, MediaKind, PeerEvent,
    Sdp, Sender, SignalingEvent,
};

use super::World;
use crate::faults::Act;
use crate::master::candidate;

impl World {
    pub(super) fn carry_out_act(&mut self, act: Act) {
        let state = |s| PeerEvent::ConnectivityChanged(s);
        match act {
            Act::Open => self.feed(Input::Open),
            Act::Close => self.feed(Input::Close),
            Act::Renegotiate => self.feed(Input::Renegotiate),
            Act::Suspend(time) => {
                self.now = self.now + time;
                self.feed(Input::Resumed);
            }
            Act::ClockJump(time) => {
                self.now = self.now + time;
                self.feed(Input::Timeout);
            }
            Act::CutLink(code) => {
                let failure = Failure::new(code, "the socket ended");
                self.on_link(SignalingEvent::Disconnected(failure));
            }
            Act::GoAway => self.on_link(SignalingEvent::GoAway),
            Act::ReconnectIceServer => self.on_link(SignalingEvent::ReconnectIceServer),
            Act::Garbage => self.on_link(SignalingEvent::Garbage),
            Act::OfferStatus(code) => {
                let ticket = self.newest_offer;
                self.on_link(SignalingEvent::Status { ticket, failure: status(code) });
            }
            Act::StrayStatus(code) => {
                self.on_link(SignalingEvent::Status { ticket: None, failure: status(code) });
            }
            Act::RepeatAnswer => {
                if let Some((_, answer)) = self.answers.last().cloned() {
                    self.answer(Sender::Master, answer);
                }
            }
            Act::StrayAnswer(sender) => {
                let answer = Description {
                    sdp: Sdp::new("answer 0 to nobody"),
                    facts: Facts { candidates: 1, ..Facts::default() },
                };
                self.answer(sender, answer);
            }
            Act::OldAnswer => {
                if let Some(answer) = self.old_answer() {
                    self.answer(Sender::Master, answer);
                }
            }
            Act::StrayOffer(sender) => {
                let body =
                    Ok(Description { sdp: Sdp::new("offer of a master"), facts: Facts::default() });
                self.on_link(SignalingEvent::Offer { sender, body });
            }
            Act::CandidateFlood(count) => {
                for number in 0..count {
                    let flood = Candidate { ufrag: None, ..candidate(0, number) };
                    self.master_candidate(Sender::Master, flood);
                }
            }
            Act::OldCandidate => {
                let old = Candidate { ufrag: Some("older".into()), ..candidate(0, 0) };
                self.master_candidate(Sender::Master, old);
            }
            Act::ForeignCandidate => self.master_candidate(Sender::Other, candidate(0, 0)),
            Act::EndOfCandidates => {
                for text in ["", "end-of-candidates", "a=end-of-candidates"] {
                    let end = Candidate { text: text.into(), ufrag: None, ..candidate(0, 0) };
                    self.master_candidate(Sender::Master, end);
                }
            }
            Act::LocalBurst(count) => {
                for _ in 0..count {
                    let Some(peer) = self.peers.get_mut(&self.peer) else { return };
                    let burst = peer.local_candidate();
                    self.on_peer(PeerEvent::CandidateGathered(burst));
                }
            }
            Act::IceDisconnected => self.on_peer(state(Connectivity::Disconnected)),
            Act::IceBack => self.on_peer(state(Connectivity::Connected)),
            Act::IceFailed => self.on_peer(state(Connectivity::IceFailed)),
            Act::DtlsFailed => self.on_peer(state(Connectivity::DtlsFailed)),
            Act::MasterCloses => self.on_peer(state(Connectivity::ClosedByPeer)),
            Act::Stall => self.on_peer(PeerEvent::MediaStalled),
            Act::MediaBack => self.on_peer(PeerEvent::MediaFlowing(MediaKind::Video)),
            Act::MasterArrives => self.master_arrives(),
        }
    }

    fn answer(&mut self, sender: Sender, answer: Description) {
        self.on_link(SignalingEvent::Answer { sender, body: Ok(answer) });
    }

    fn master_candidate(&mut self, sender: Sender, candidate: Candidate) {
        self.on_link(SignalingEvent::Candidate { sender, body: Ok(candidate) });
    }

    fn on_link(&mut self, event: SignalingEvent) {
        self.deliver(Input::Signaling(self.link, event));
    }

    fn on_peer(&mut self, event: PeerEvent) {
        self.deliver(Input::Peer(self.peer, event));
    }
}

fn status(code: FailureCode) -> Failure {
    Failure::new(code, "STATUS_RESPONSE").named("PlannedException")
}
