//! What the application, the service, the master and the network do by plan.

use core::time::Duration;

use negotiation_core::{
    Candidate, Connectivity, Description, Facts, Failure, FailureCode, Input, MasterKnowledge,
    MediaFact, MediaKind, PeerEvent, Sdp, Sender, SignalingEvent, Undecodable,
};

use super::{Happening, World};
use crate::coverage::Named;
use crate::faults::{Act, Mail};
use crate::master::candidate;
use crate::peer::Peer;

/// A link that hears nothing is given up after this long (contract, part 4).
const PING_GIVES_UP: Duration = Duration::from_secs(25);

impl World {
    pub(super) fn carry_out_act(&mut self, act: Act) {
        let state = |s| PeerEvent::ConnectivityChanged(s);
        match act {
            Act::Open => self.feed(Input::Open),
            Act::Close => self.feed(Input::Close),
            Act::Renegotiate => self.feed(Input::Renegotiate),
            Act::Suspend(time) => {
                // The master hears nothing from now on.
                let peers: Vec<_> = self.peers.keys().copied().collect();
                peers.into_iter().for_each(|id| self.goes(id, false));
                self.now = self.now + time;
                self.feed(Input::Resumed);
            }
            Act::ClockJump(time) => {
                self.strike_if(self.is_on(), Named::ClockJump);
                self.now = self.now + time;
                self.feed(Input::Timeout);
            }
            Act::Restart => self.feed(Input::Restart),
            Act::NetworkDown => {
                self.strike_if(self.is_on() && self.network_up, Named::NetworkDown);
                self.network_goes();
            }
            Act::NetworkUp => self.network_comes(),
            Act::NetworkChanged => {
                self.move_to_another_network();
                self.feed(Input::NetworkChanged);
            }
            Act::LocalAddressGone => {
                self.move_to_another_network();
                self.feed(Input::LocalAddressGone);
            }
            Act::MasterKnown(answers_restarts) => {
                let known = MasterKnowledge { answers_restarts, ..MasterKnowledge::default() };
                self.feed(Input::MasterKnown(known));
            }
            Act::Offline => {
                self.network_goes();
                self.feed(Input::Online(false));
            }
            Act::Online => {
                self.network_comes();
                self.feed(Input::Online(true));
            }
            Act::Takeover(times) => {
                let open = self.service.is_open((self.number, self.link));
                self.strike_if(open, Named::Takeover);
                self.service.takeovers = times.saturating_sub(1);
                let taken = Failure::new(FailureCode::Closed, "closed by the service");
                self.on_link(SignalingEvent::Disconnected(taken));
            }
            Act::RefuseSecondLink => self.service.refuses_second = true,
            Act::TurnExpires => {
                self.strike_if(self.is_on() && self.plan.service.turn, Named::TurnExpired);
                self.service.expire_turn();
            }
            Act::MasterReboots(away) => {
                self.strike_if(self.is_on() && self.service.master_here(), Named::MasterReboots);
                self.master.reboot();
                self.service.master_leaves();
                self.lose_paths();
                self.schedule(away, Happening::Act(Act::MasterArrives));
            }
            Act::MasterBecomes(repeated_id) => self.master.traits.repeated_id = repeated_id,
            Act::MasterOffers { anew } => {
                if let Some(id) = self.service.id_of((self.number, self.link)) {
                    let words = self.master.offer(self.now, &id, anew);
                    self.strike_if(!words.is_empty(), Named::MasterOffers);
                    self.master_says(&id, words);
                    if anew {
                        self.lose_paths();
                    }
                }
            }
            Act::SenderReport => self.on_peer(PeerEvent::SenderReport),
            Act::TimersLate(late) => self.plan.timer_late = late,
            Act::CutLink(code) => {
                let failure = Failure::new(code, "the socket ended");
                self.on_link(SignalingEvent::Disconnected(failure));
            }
            Act::GoAway => {
                let key = (self.number, self.link);
                self.on_link(SignalingEvent::GoAway);
                let within = Duration::from_secs(55);
                self.schedule(within, Happening::LinkEnds(key, FailureCode::Closed));
            }
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
                    facts: Facts {
                        media: vec![MediaFact {
                            kind: MediaKind::Video,
                            mid: None,
                            accepted: true,
                            sends: true,
                        }],
                        candidates: 1,
                        ..Facts::default()
                    },
                };
                self.answer(sender, answer);
            }
            Act::OldAnswer => {
                if let Some(answer) = self.old_answer() {
                    let open = self.service.is_open((self.number, self.link));
                    self.strike_if(open, Named::Replay);
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
            Act::Undecodable(mail) => self.undecodable(mail),
            Act::IceChecking => self.on_peer(state(Connectivity::Checking)),
            Act::IceConnected => self.on_peer(state(Connectivity::IceConnected)),
            Act::TrackAdded => self.on_peer(PeerEvent::TrackAdded(MediaKind::Video)),
            Act::Keyframe => self.on_peer(PeerEvent::KeyframeReceived),
            Act::GatheringDone => self.on_peer(PeerEvent::GatheringDone),
            Act::MediaProblem(problem) => self.on_peer(PeerEvent::MediaProblem(problem)),
            Act::ServersUnresolved(count) => {
                self.on_peer(PeerEvent::IceServersUnresolved(count));
            }
            Act::LinkEcho => self.echo_link(),
            Act::PeerEcho => self.echo_peer(),
        }
    }

    /// Every socket is dead, and there is another network.
    fn move_to_another_network(&mut self) {
        self.network_goes();
        self.network_up = true;
        // The sockets of links stay open until a ping finds out.
        for link in self.service.open_links() {
            let ends = Happening::LinkEnds(link, FailureCode::TimedOut);
            self.schedule(PING_GIVES_UP, ends);
        }
        self.service.strand();
    }

    /// Nothing gets through: pairs die, and links once their pings are not answered.
    fn network_goes(&mut self) {
        self.network_up = false;
        self.lose_paths();
        for link in self.service.open_links() {
            self.schedule(PING_GIVES_UP, Happening::PingFails(link));
        }
    }

    fn network_comes(&mut self) {
        self.network_up = true;
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            let notices = self.peers.get_mut(&id).map(Peer::revive).unwrap_or_default();
            self.notice(id, notices);
            self.try_connect(id);
        }
    }

    fn lose_paths(&mut self) {
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for id in peers {
            let notices = self.peers.get_mut(&id).map(Peer::lose_path).unwrap_or_default();
            self.notice(id, notices);
        }
    }

    fn answer(&mut self, sender: Sender, answer: Description) {
        self.on_link(SignalingEvent::Answer { sender, body: Ok(answer) });
    }

    fn master_candidate(&mut self, sender: Sender, candidate: Candidate) {
        self.on_link(SignalingEvent::Candidate { sender, body: Ok(candidate) });
    }

    fn undecodable(&mut self, mail: Mail) {
        let sender = Sender::Master;
        match mail {
            Mail::Offer | Mail::MasterOffer => {
                self.on_link(SignalingEvent::Offer { sender, body: Err(Undecodable) });
            }
            Mail::Answer | Mail::ViewerAnswer => {
                self.on_link(SignalingEvent::Answer { sender, body: Err(Undecodable) });
            }
            Mail::ViewerCandidate | Mail::MasterCandidate => {
                self.on_link(SignalingEvent::Candidate { sender, body: Err(Undecodable) });
            }
        }
    }

    fn on_link(&mut self, event: SignalingEvent) {
        self.deliver(Input::Signaling(self.link, event));
    }

    fn on_peer(&mut self, event: PeerEvent) {
        self.noticed(self.peer, None, event);
    }
}

fn status(code: FailureCode) -> Failure {
    Failure::new(code, "STATUS_RESPONSE").named("PlannedException")
}
