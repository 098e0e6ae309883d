//! The planned actions of the application, the service, the master and the network.

use core::time::Duration;

use negotiation_core::{
    Candidate, Connectivity, Description, Failure, FailureCode, Input, MasterKnowledge, MediaKind,
    MediaSection, PeerEvent, Sdp, SdpSummary, Sender, SignalingEvent, Undecodable,
};

use super::{ScheduledEvent, World};
use crate::faults::{Action, MessageKind};
use crate::master::candidate;
use crate::peer::Peer;
use crate::tally::FaultName;

/// A connection without a pong is given up after this long (contract, part 4).
const PING_GIVES_UP: Duration = Duration::from_secs(25);

impl World {
    pub(super) fn apply_action(&mut self, action: Action) {
        let state = |s| PeerEvent::ConnectivityChanged(s);
        match action {
            Action::Open => self.feed(Input::Open),
            Action::Close => self.feed(Input::Close),
            Action::Renegotiate => self.feed(Input::Renegotiate),
            Action::Suspend(time) => {
                // The master receives nothing from now on.
                let peers: Vec<_> = self.peers.keys().copied().collect();
                peers.into_iter().for_each(|id| self.peer_gone(id, false));
                self.now = self.now + time;
                self.feed(Input::Resumed);
            }
            Action::ClockJump(time) => {
                self.count_if(self.is_running(), FaultName::ClockJump);
                self.now = self.now + time;
                self.feed(Input::Timeout);
            }
            Action::Restart => self.feed(Input::Restart),
            Action::NetworkDown => {
                self.count_if(self.is_running() && self.network_up, FaultName::NetworkDown);
                self.lose_network();
            }
            Action::NetworkUp => self.restore_network(),
            Action::NetworkChanged => {
                self.move_to_another_network();
                self.feed(Input::NetworkChanged);
            }
            Action::LocalAddressGone => {
                self.move_to_another_network();
                self.feed(Input::LocalAddressGone);
            }
            Action::MasterKnown(answers_restarts) => {
                let known = MasterKnowledge { answers_restarts, ..MasterKnowledge::default() };
                self.feed(Input::MasterKnown(known));
            }
            Action::Offline => {
                self.lose_network();
                self.feed(Input::Online(false));
            }
            Action::Online => {
                self.restore_network();
                self.feed(Input::Online(true));
            }
            Action::Takeover(times) => {
                let open = self.service.is_open((self.number, self.link));
                self.count_if(open, FaultName::Takeover);
                self.service.takeovers = times.saturating_sub(1);
                let taken = Failure::new(FailureCode::Closed, "closed by the service");
                self.on_link(SignalingEvent::Disconnected(taken));
            }
            Action::RefuseSecondLink => self.service.refuses_second = true,
            Action::TurnExpires => {
                self.count_if(self.is_running() && self.plan.service.turn, FaultName::TurnExpired);
                self.service.expire_turn();
            }
            Action::MasterReboots(away) => {
                self.count_if(
                    self.is_running() && self.service.master_here(),
                    FaultName::MasterReboots,
                );
                self.master.reboot();
                self.service.master_leaves();
                self.lose_paths();
                self.schedule(away, ScheduledEvent::Action(Action::MasterArrives));
            }
            Action::MasterBecomes(repeated_id) => self.master.traits.repeated_id = repeated_id,
            Action::MasterOffers { anew } => {
                if let Some(id) = self.service.id_of((self.number, self.link)) {
                    let messages = self.master.offer(self.now, &id, anew);
                    self.count_if(!messages.is_empty(), FaultName::MasterOffers);
                    self.master_sends(&id, messages);
                    if anew {
                        self.lose_paths();
                    }
                }
            }
            Action::SenderReport => self.on_peer(PeerEvent::SenderReport),
            Action::TimersLate(late) => self.plan.timer_late = late,
            Action::CutLink(code) => {
                let failure = Failure::new(code, "the socket ended");
                self.on_link(SignalingEvent::Disconnected(failure));
            }
            Action::GoAway => {
                let key = (self.number, self.link);
                self.on_link(SignalingEvent::GoAway);
                let within = Duration::from_secs(55);
                self.schedule(within, ScheduledEvent::LinkEnds(key, FailureCode::Closed));
            }
            Action::ReconnectIceServer => self.on_link(SignalingEvent::ReconnectIceServer),
            Action::Garbage => self.on_link(SignalingEvent::Garbage),
            Action::OfferStatus(code) => {
                let ticket = self.newest_offer;
                self.on_link(SignalingEvent::Status { ticket, failure: status(code) });
            }
            Action::StrayStatus(code) => {
                self.on_link(SignalingEvent::Status { ticket: None, failure: status(code) });
            }
            Action::RepeatAnswer => {
                if let Some((_, answer)) = self.answers.last().cloned() {
                    self.answer(Sender::Master, answer);
                }
            }
            Action::StrayAnswer(sender) => {
                let answer = Description {
                    sdp: Sdp::new("answer 0 to no offer"),
                    facts: SdpSummary {
                        media: vec![MediaSection {
                            kind: MediaKind::Video,
                            mid: None,
                            accepted: true,
                            sends: true,
                        }],
                        candidates: 1,
                        ..SdpSummary::default()
                    },
                };
                self.answer(sender, answer);
            }
            Action::OldAnswer => {
                if let Some(answer) = self.old_answer() {
                    let open = self.service.is_open((self.number, self.link));
                    self.count_if(open, FaultName::Replay);
                    self.answer(Sender::Master, answer);
                }
            }
            Action::StrayOffer(sender) => {
                let body = Ok(Description {
                    sdp: Sdp::new("offer of a master"),
                    facts: SdpSummary::default(),
                });
                self.on_link(SignalingEvent::Offer { sender, body });
            }
            Action::CandidateFlood(count) => {
                for number in 0..count {
                    let flood = Candidate { ufrag: None, ..candidate(0, number) };
                    self.master_candidate(Sender::Master, flood);
                }
            }
            Action::OldCandidate => {
                let old = Candidate { ufrag: Some("older".into()), ..candidate(0, 0) };
                self.master_candidate(Sender::Master, old);
            }
            Action::ForeignCandidate => self.master_candidate(Sender::Other, candidate(0, 0)),
            Action::EndOfCandidates => {
                for text in ["", "end-of-candidates", "a=end-of-candidates"] {
                    let end = Candidate { text: text.into(), ufrag: None, ..candidate(0, 0) };
                    self.master_candidate(Sender::Master, end);
                }
            }
            Action::LocalBurst(count) => {
                for _ in 0..count {
                    let Some(peer) = self.peers.get_mut(&self.peer) else { return };
                    let burst = peer.local_candidate();
                    self.on_peer(PeerEvent::CandidateGathered(burst));
                }
            }
            Action::IceDisconnected => self.on_peer(state(Connectivity::Disconnected)),
            Action::IceBack => self.on_peer(state(Connectivity::Connected)),
            Action::IceFailed => self.on_peer(state(Connectivity::IceFailed)),
            Action::DtlsFailed => self.on_peer(state(Connectivity::DtlsFailed)),
            Action::MasterCloses => self.on_peer(state(Connectivity::ClosedByPeer)),
            Action::Stall => self.on_peer(PeerEvent::MediaStalled),
            Action::MediaBack => self.on_peer(PeerEvent::MediaFlowing(MediaKind::Video)),
            Action::MasterArrives => self.master_arrives(),
            Action::Undecodable(message) => self.undecodable(message),
            Action::IceChecking => self.on_peer(state(Connectivity::Checking)),
            Action::IceConnected => self.on_peer(state(Connectivity::IceConnected)),
            Action::TrackAdded => self.on_peer(PeerEvent::TrackAdded(MediaKind::Video)),
            Action::Keyframe => self.on_peer(PeerEvent::KeyframeReceived),
            Action::GatheringDone => self.on_peer(PeerEvent::GatheringDone),
            Action::MediaProblem(problem) => self.on_peer(PeerEvent::MediaProblem(problem)),
            Action::ServersUnresolved(count) => {
                self.on_peer(PeerEvent::IceServersUnresolved(count));
            }
            Action::LinkEcho => self.echo_link(),
            Action::PeerEcho => self.echo_peer(),
        }
    }

    /// Moves the device to another network: every socket is dead.
    fn move_to_another_network(&mut self) {
        self.lose_network();
        self.network_up = true;
        // Signaling connections look open until a ping times out.
        for link in self.service.open_links() {
            let ends = ScheduledEvent::LinkEnds(link, FailureCode::TimedOut);
            self.schedule(PING_GIVES_UP, ends);
        }
        self.service.strand();
    }

    /// Loses all packets: pairs fail, and connections end once their pings time out.
    fn lose_network(&mut self) {
        self.network_up = false;
        self.lose_paths();
        for link in self.service.open_links() {
            self.schedule(PING_GIVES_UP, ScheduledEvent::PingFails(link));
        }
    }

    fn restore_network(&mut self) {
        self.network_up = true;
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            let events = self.peers.get_mut(&id).map(Peer::revive).unwrap_or_default();
            self.schedule_peer_events(id, events);
            self.try_connect(id);
        }
    }

    fn lose_paths(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            let events = self.peers.get_mut(&id).map(Peer::lose_path).unwrap_or_default();
            self.schedule_peer_events(id, events);
        }
    }

    fn answer(&mut self, sender: Sender, answer: Description) {
        self.on_link(SignalingEvent::Answer { sender, body: Ok(answer) });
    }

    fn master_candidate(&mut self, sender: Sender, candidate: Candidate) {
        self.on_link(SignalingEvent::Candidate { sender, body: Ok(candidate) });
    }

    fn undecodable(&mut self, message: MessageKind) {
        let sender = Sender::Master;
        match message {
            MessageKind::ViewerOffer | MessageKind::MasterOffer => {
                self.on_link(SignalingEvent::Offer { sender, body: Err(Undecodable) });
            }
            MessageKind::MasterAnswer | MessageKind::ViewerAnswer => {
                self.on_link(SignalingEvent::Answer { sender, body: Err(Undecodable) });
            }
            MessageKind::ViewerCandidate | MessageKind::MasterCandidate => {
                self.on_link(SignalingEvent::Candidate { sender, body: Err(Undecodable) });
            }
        }
    }

    fn on_link(&mut self, event: SignalingEvent) {
        self.deliver(Input::Signaling(self.link, event));
    }

    fn on_peer(&mut self, event: PeerEvent) {
        self.on_peer_event(self.peer, None, event);
    }
}

fn status(code: FailureCode) -> Failure {
    Failure::new(code, "STATUS_RESPONSE").named("PlannedException")
}
