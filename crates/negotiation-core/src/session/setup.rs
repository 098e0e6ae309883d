//! Opening an attempt: link, ICE servers and peer connection side by side, then the offer.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Purpose, Session};
use crate::candidates::{LocalCandidates, RemoteCandidates};
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Evidence};
use crate::input::{Connectivity, Done, PeerTraits};
use crate::output::{Event, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::session::links::Links;
use crate::session::state::{Exchange, Identity, Step};
use crate::time::Timestamp;
use crate::types::{ClientId, IceServer, PeerId};

/// One client id, one live link, one peer connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) number: u32,
    pub(super) started: Timestamp,
    pub(super) links: Links,
    pub(super) client_id: Option<ClientId>,
    pub(super) peer: PeerId,
    pub(super) traits: Option<PeerTraits>,
    pub(super) servers: Servers,
    /// The peer connection has the servers.
    pub(super) servers_set: bool,
    pub(super) exchange: Exchange,
    /// New sessions of the master's since media flowed.
    pub(super) replacements: u8,
    /// Who wrote the description that is being set.
    pub(super) remote_next: Option<Identity>,
    pub(super) local: LocalCandidates,
    pub(super) remote: RemoteCandidates,
    pub(super) connectivity: Connectivity,
    pub(super) video: bool,
    pub(super) audio: bool,
    pub(super) keyframe: bool,
    pub(super) audio_flows: bool,
    /// Media is away, but sender reports come.
    pub(super) paused: bool,
    /// The master was seen, and not lost since.
    pub(super) master_here: bool,
    pub(super) evidence: Evidence,
}

impl Attempt {
    /// Whether a restart leaves the pair in use alone until the new one works.
    pub(super) fn keeps_pair(&self) -> bool {
        self.traits.is_some_and(|traits| traits.restart_keeps_pair)
    }
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
        self.peers += 1;
        self.ignored.clear();
        self.frozen_for = Duration::ZERO;
        let (link, peer) = (self.next_link(), PeerId(self.peers));
        self.attempt = Some(Attempt {
            number: self.attempts,
            started: self.now,
            links: Links::opening(link),
            client_id: None,
            peer,
            traits: None,
            servers: Servers::Awaited,
            servers_set: false,
            exchange: Exchange::default(),
            replacements: 0,
            remote_next: None,
            local: LocalCandidates::default(),
            remote: RemoteCandidates::default(),
            connectivity: Connectivity::Checking,
            video: false,
            audio: false,
            keyframe: false,
            audio_flows: false,
            paused: false,
            master_here: false,
            evidence: Evidence::default(),
        });
        self.timers.disarm_all();
        self.tell(Event::AttemptStarted { attempt: self.attempts });
        self.set_phase(Phase::Connecting);
        self.connect(link, None);
        self.ask_signaling(Purpose::FetchIceServers, SignalingCommand::FetchIceServers { link });
        self.ask_peer(Purpose::CreatePeer, PeerCommand::Create { peer });
    }

    /// Takes the result of a command: the one table from purpose to consequence.
    pub(super) fn finish(&mut self, purpose: Purpose, outcome: Result<Done, Failure>) {
        match (purpose, outcome) {
            (Purpose::Close, outcome) => self.on_close_step(outcome.err()),
            (Purpose::Replace(step), outcome) => self.on_replace_step(step, outcome.err()),
            (Purpose::Leave(link), _) => self.on_left(link),
            (Purpose::Connect(link), Ok(Done::Connected(id))) => self.on_connected(link, id),
            (Purpose::FetchIceServers, Ok(Done::IceServers(servers))) => {
                self.on_ice_servers(servers);
            }
            (Purpose::Join, Ok(Done::Ok)) => {}
            (Purpose::CreatePeer, Ok(Done::Created(traits))) => self.on_created(traits),
            (Purpose::CreateOffer, Ok(Done::Description(offer))) => self.on_offer_created(offer),
            (Purpose::CreateAnswer, Ok(Done::Description(answer))) => {
                self.on_answer_created(answer);
            }
            (Purpose::SetIceServers, Ok(Done::Ok)) => self.on_ice_servers_set(),
            (Purpose::RefreshIceServers, Ok(Done::Ok)) => self.on_servers_refreshed(),
            (Purpose::SetLocal, Ok(Done::Ok)) => self.on_local_set(),
            (Purpose::SendOffer, Ok(Done::Ok)) => self.on_offer_sent(),
            (Purpose::SendAnswer, Ok(Done::Ok)) => self.on_answer_sent(),
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
        let Some(attempt) = &self.attempt else { return };
        let later_exchange = attempt.exchange.number > 1;
        let answering = matches!(
            attempt.exchange.step,
            Step::SettingOffer
                | Step::CreatingAnswer
                | Step::SettingAnswer(_)
                | Step::SendingAnswer
        );
        match purpose {
            Purpose::Connect(link) => self.on_connect_failed(link, failure),
            Purpose::Leave(link) => self.on_left(link),
            Purpose::Join => self.on_join_failed(failure),
            Purpose::FetchIceServers if !matches!(attempt.servers, Servers::Awaited) => {
                self.on_servers_refreshed();
            }
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
            Purpose::RefreshIceServers => self.on_servers_refreshed(),
            Purpose::SendOffer if self.has_held_answer() => self.on_offer_sent(),
            Purpose::SendOffer | Purpose::SendAnswer if self.send_again() => {}
            Purpose::CreateAnswer | Purpose::SendAnswer => {
                self.on_answering_failed(purpose, failure);
            }
            Purpose::SetLocal | Purpose::SetRemote if answering => {
                self.on_answering_failed(purpose, failure);
            }
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            Purpose::SetLocal if later_exchange && failure.code == FailureCode::TimedOut => {
                self.on_rollback_failed(failure);
            }
            // What already flows is not given up for a renegotiation.
            Purpose::CreateOffer | Purpose::SetLocal if later_exchange => self.on_rolled_back(),
            Purpose::SendOffer if later_exchange => self.on_offer_unsent(),
            Purpose::SendOffer => self.end_attempt(AttemptEnd::Offer(failure)),
            Purpose::CreatePeer | Purpose::CreateOffer | Purpose::SetLocal => {
                self.end_attempt(AttemptEnd::Peer(failure));
            }
            Purpose::SetRemote => self.on_answer_refused(failure),
            Purpose::Rollback => self.on_rollback_failed(failure),
            // The echo of a peer connection that was replaced.
            Purpose::AddCandidate | Purpose::RequestKeyframe
                if failure.code == FailureCode::Cancelled => {}
            Purpose::AddCandidate => {
                if failure.code == FailureCode::AddressPolicy
                    && let Some(attempt) = &mut self.attempt
                {
                    let refused = attempt.evidence.candidates_refused;
                    attempt.evidence.candidates_refused = refused.saturating_add(1);
                }
                self.ignore(Ignored::RefusedCandidate);
            }
            Purpose::SendCandidate | Purpose::RequestKeyframe => self.ignore(Ignored::Unsent),
            Purpose::Close => self.on_close_step(Some(failure)),
            Purpose::Replace(step) => self.on_replace_step(step, Some(failure)),
        }
    }

    fn on_ice_servers(&mut self, servers: Vec<IceServer>) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        let refreshed = !matches!(attempt.servers, Servers::Awaited);
        let relays = servers.iter().any(|s| s.uris.iter().any(|uri| uri.starts_with("turn")));
        attempt.evidence.turn_servers = relays;
        attempt.servers = Servers::Here(servers.clone());
        if refreshed {
            // They count from the next gathering on: a restart waits for them to be set.
            self.tell(Event::IceServersRefreshed);
            if self.is_replacing() {
                // The next peer connection gets them.
                return;
            }
            let command = PeerCommand::SetIceServers { peer, servers };
            return self.ask_peer(Purpose::RefreshIceServers, command);
        }
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
        if !self.phase.has_attempt() {
            return;
        }
        self.leave_replaced();
        self.advance_exchange();
        self.send_candidates();
    }

    /// The peer connection is being closed, for another one.
    pub(super) fn is_replacing(&self) -> bool {
        matches!(self.step(), Some(Step::Replacing))
    }

    /// The exchange's step, for the rooms that ask.
    pub(super) fn step(&self) -> Option<&Step> {
        self.attempt.as_ref().map(|attempt| &attempt.exchange.step)
    }
}

#[cfg(test)]
mod tests;
