//! Opening an attempt: link, ICE servers and peer connection side by side, then the offer.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Purpose, Session};
use crate::candidates::{LocalCandidates, RemoteCandidates};
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Evidence};
use crate::input::{CandidateRelease, Connectivity, Done, PeerTraits};
use crate::output::{Event, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::session::exchange::{Exchange, Step};
use crate::time::Timestamp;
use crate::types::{ClientId, IceServer, LinkId, PeerId};

/// One client id, one live link, one peer connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) started: Timestamp,
    pub(super) link: LinkId,
    pub(super) link_state: LinkState,
    pub(super) client_id: Option<ClientId>,
    pub(super) peer: PeerId,
    pub(super) traits: Option<PeerTraits>,
    pub(super) servers: Servers,
    pub(super) exchange: Exchange,
    /// The ICE generation of the answer that is being set.
    pub(super) remote_ufrag: Option<String>,
    pub(super) local: LocalCandidates,
    pub(super) remote: RemoteCandidates,
    pub(super) connectivity: Connectivity,
    pub(super) video: bool,
    pub(super) audio: bool,
    pub(super) keyframe: bool,
    pub(super) audio_flows: bool,
    pub(super) evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkState {
    Opening,
    Open,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Servers {
    /// Asked for.
    Awaited,
    /// Here; they may be none.
    Here(Vec<IceServer>),
}

impl Session {
    /// Everything that needs no one else's result begins at once.
    pub(super) fn start_attempt(&mut self) {
        self.attempts += 1;
        self.links += 1;
        self.peers += 1;
        self.ignored.clear();
        let (link, peer) = (LinkId(self.links), PeerId(self.peers));
        self.attempt = Some(Attempt {
            number: self.attempts,
            started: self.now,
            link,
            link_state: LinkState::Opening,
            client_id: None,
            peer,
            traits: None,
            servers: Servers::Awaited,
            exchange: Exchange::default(),
            remote_ufrag: None,
            local: LocalCandidates::default(),
            remote: RemoteCandidates::default(),
            connectivity: Connectivity::Checking,
            video: false,
            audio: false,
            keyframe: false,
            audio_flows: false,
            evidence: Evidence::default(),
        });
        self.timers.disarm_all();
        self.tell(Event::AttemptStarted { attempt: self.attempts });
        self.set_phase(Phase::Connecting);
        let attempt = self.attempts;
        self.ask_signaling(Purpose::Connect, SignalingCommand::Connect { link, attempt });
        self.ask_signaling(Purpose::FetchIceServers, SignalingCommand::FetchIceServers { link });
        self.ask_peer(Purpose::CreatePeer, PeerCommand::Create { peer });
    }

    /// Takes the result of a command: the one table from purpose to consequence.
    pub(super) fn finish(&mut self, purpose: Purpose, outcome: Result<Done, Failure>) {
        match (purpose, outcome) {
            (Purpose::Close(step), outcome) => self.on_close_step(step, outcome.err()),
            (Purpose::Connect, Ok(Done::Connected(id))) => self.on_connected(id),
            (Purpose::FetchIceServers, Ok(Done::IceServers(servers))) => {
                self.on_ice_servers(servers);
            }
            (Purpose::CreatePeer, Ok(Done::Created(traits))) => self.on_created(traits),
            (Purpose::CreateOffer, Ok(Done::Description(offer))) => self.on_offer_created(offer),
            (Purpose::SetIceServers, Ok(Done::Ok)) => self.on_ice_servers_set(),
            (Purpose::SetLocal, Ok(Done::Ok)) => self.on_local_set(),
            (Purpose::SendOffer, Ok(Done::Ok)) => self.on_offer_sent(),
            (Purpose::SetRemote, Ok(Done::Ok)) => self.on_remote_set(),
            (Purpose::Rollback, Ok(Done::Ok)) => self.on_rolled_back(),
            (Purpose::SendCandidate | Purpose::AddCandidate | Purpose::RequestKeyframe, Ok(_)) => {}
            (purpose, Err(failure)) => self.on_failed(purpose, failure),
            (purpose, Ok(_)) => {
                let breach = Failure::new(FailureCode::Port, "the result of another command");
                self.on_failed(purpose, breach);
            }
        }
    }

    fn on_failed(&mut self, purpose: Purpose, failure: Failure) {
        let later_exchange = self.attempt.as_ref().is_some_and(|a| a.exchange.number > 1);
        match purpose {
            Purpose::Connect => self.end_attempt(AttemptEnd::Connect(failure)),
            Purpose::FetchIceServers if self.config.relay_only => {
                self.end_attempt(AttemptEnd::NoRelay(failure));
            }
            // TURN is a help, not a need: the session goes on without (contract, 42).
            Purpose::FetchIceServers => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.service_error = Some(failure);
                }
                self.on_ice_servers(Vec::new());
            }
            Purpose::SetIceServers if self.config.relay_only => {
                self.end_attempt(AttemptEnd::Peer(failure));
            }
            Purpose::SetIceServers => self.on_ice_servers_set(),
            Purpose::SendOffer if self.has_held_answer() => self.on_offer_sent(),
            // What already flows is not given up for a renegotiation.
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            Purpose::SetLocal if later_exchange && failure.code == FailureCode::TimedOut => {
                self.on_rollback_failed();
            }
            Purpose::CreateOffer | Purpose::SetLocal if later_exchange => self.on_rolled_back(),
            Purpose::SendOffer if later_exchange => self.roll_back(),
            Purpose::SendOffer => self.end_attempt(AttemptEnd::Offer(failure)),
            Purpose::CreatePeer | Purpose::CreateOffer | Purpose::SetLocal => {
                self.end_attempt(AttemptEnd::Peer(failure));
            }
            Purpose::SetRemote => self.on_answer_refused(failure),
            Purpose::Rollback => self.on_rollback_failed(),
            Purpose::AddCandidate => self.ignore(Ignored::RefusedCandidate),
            Purpose::SendCandidate | Purpose::RequestKeyframe => self.ignore(Ignored::Unsent),
            Purpose::Close(step) => self.on_close_step(step, Some(failure)),
        }
    }

    fn on_connected(&mut self, client_id: ClientId) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.link_state = LinkState::Open;
        attempt.client_id = Some(client_id.clone());
        attempt.evidence.link_opened = true;
        let deadline = self.now + self.config.ice_servers_timeout;
        self.in_flight.hurry(deadline, |purpose| *purpose == Purpose::FetchIceServers);
        self.tell(Event::LinkOpened { client_id });
        self.set_phase(Phase::Offering);
    }

    fn on_ice_servers(&mut self, servers: Vec<IceServer>) {
        let Some(attempt) = &mut self.attempt else { return };
        let relays = servers.iter().any(|s| s.uris.iter().any(|uri| uri.starts_with("turn")));
        attempt.evidence.turn_servers = relays;
        attempt.servers = Servers::Here(servers);
        if self.config.relay_only && !relays {
            let none = Failure::new(FailureCode::Service, "the service named no TURN server");
            self.end_attempt(AttemptEnd::NoRelay(none));
        }
    }

    fn on_created(&mut self, traits: PeerTraits) {
        if let Some(attempt) = &mut self.attempt {
            attempt.traits = Some(traits);
        }
    }

    /// Takes every step that waits for nothing any more. Called after each input.
    pub(super) fn advance(&mut self) {
        if self.closing.is_some() || !self.phase.has_attempt() {
            return;
        }
        self.advance_exchange();
        self.send_candidates();
    }

    /// The link ended by itself.
    pub(super) fn on_link_lost(&mut self, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.link_state == LinkState::Lost {
            return self.ignore(Ignored::Stale);
        }
        attempt.link_state = LinkState::Lost;
        match self.phase {
            Phase::Connecting | Phase::Offering | Phase::AwaitingAnswer => {
                self.end_attempt(AttemptEnd::LinkLost(failure));
            }
            // Media is independent of signaling: it is left alone.
            Phase::Establishing | Phase::AwaitingMedia | Phase::Live => {
                self.tell(Event::LinkLost(failure));
                self.on_exchange_link_lost();
            }
            Phase::Idle | Phase::Closing | Phase::BackingOff | Phase::Ended => {}
        }
    }

    /// Sends what is due of our own candidates, and arms the wake-up for the rest.
    pub(super) fn send_candidates(&mut self) {
        let (now, per_second) = (self.now, self.config.candidates_per_second);
        let mut due = Vec::new();
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.link_state != LinkState::Open || self.closing.is_some() {
            return;
        }
        while let Some(candidate) = attempt.local.pop(now, per_second) {
            due.push(candidate);
        }
        let link = attempt.link;
        match attempt.local.next_at(now, per_second) {
            Some(at) => self.timers.arm(crate::Timer::CandidatePacing, at),
            None => self.timers.disarm(crate::Timer::CandidatePacing),
        }
        for candidate in due {
            let message = crate::Message::Candidate(candidate);
            self.ask_signaling(Purpose::SendCandidate, SignalingCommand::Send { link, message });
        }
    }

    /// Our candidates may go from a moment on that the peer stack names.
    pub(super) fn release_candidates(&mut self, moment: CandidateRelease) {
        if let Some(attempt) = &mut self.attempt
            && attempt.traits.is_some_and(|traits| traits.candidates == moment)
        {
            attempt.local.release();
        }
    }

    /// The exchange's step, for the rooms that ask.
    pub(super) fn step(&self) -> Option<&Step> {
        self.attempt.as_ref().map(|attempt| &attempt.exchange.step)
    }
}
