//! Opening an attempt: link, ICE servers and peer connection side by side, then the offer.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Purpose, Session};
use crate::candidates::{InTransit, LocalCandidates, RemoteCandidates};
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Evidence};
use crate::input::{Connectivity, Done, PeerTraits};
use crate::output::{Event, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::session::links::Links;
use crate::session::state::{Exchange, Identity, Step};
use crate::time::{Timer, Timestamp};
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
    /// Whether the master's offer that waits needs fresh ICE servers.
    pub(super) refresh: Refresh,
    /// The local address of the pair in use is gone.
    pub(super) address_gone: bool,
    /// An earlier attempt's offer was sent under the same client id.
    pub(super) repeats_id: bool,
    pub(super) local: LocalCandidates,
    /// Local candidates that are being sent.
    pub(super) transit: InTransit,
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

/// Fresh ICE servers for an offer of the master: TURN credentials end within minutes (contract,
/// N21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Refresh {
    /// They are here, or none can be had.
    #[default]
    Done,
    /// An offer came that may need them.
    Needed,
    /// They are being fetched.
    Asked,
}

impl Session {
    /// Everything that needs no one else's result begins at once.
    pub(super) fn start_attempt(&mut self) {
        self.attempts += 1;
        self.peers += 1;
        // What was ignored between two attempts is counted with the second.
        let ignored = core::mem::take(&mut self.ignored);
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
            refresh: Refresh::default(),
            address_gone: false,
            repeats_id: false,
            local: LocalCandidates::default(),
            transit: InTransit::default(),
            remote: RemoteCandidates::default(),
            connectivity: Connectivity::Checking,
            video: false,
            audio: false,
            keyframe: false,
            audio_flows: false,
            paused: false,
            master_here: false,
            evidence: Evidence { ignored, ..Evidence::default() },
        });
        self.timers.disarm_all();
        let limit = self.config.set_up_timeout(self.budget.spent());
        self.timers.arm(Timer::SetUp, self.now + limit);
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
            (Purpose::Leave(link), outcome) => self.on_left(link, outcome.err()),
            (Purpose::SendCandidate(slot), outcome) => {
                self.on_candidate_sent(slot, outcome.err());
            }
            // It was settled meanwhile: by its answer, or by the loss of its link.
            (Purpose::SendOffer, _) if self.step() != Some(&Step::Sending) => {}
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
            (Purpose::AddCandidate | Purpose::RequestKeyframe, Ok(_)) => {}
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
            Purpose::Leave(link) => self.on_left(link, Some(failure)),
            Purpose::Join => self.on_join_failed(failure),
            Purpose::FetchIceServers if !matches!(attempt.servers, Servers::Awaited) => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.ice_servers_error = Some(failure);
                    // The ones from before may still do.
                    attempt.refresh = Refresh::Done;
                }
                self.on_servers_refreshed();
            }
            // Its link was left for another one.
            Purpose::FetchIceServers
                if failure.code == FailureCode::Cancelled && attempt.links.open.is_some() =>
            {
                self.fetch_ice_servers();
            }
            Purpose::FetchIceServers if self.config.relay_only => {
                self.end_attempt(AttemptEnd::NoRelay(failure));
            }
            // TURN is a help, not a need: the session goes on without (contract, 42).
            Purpose::FetchIceServers => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.ice_servers_error = Some(failure);
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
            Purpose::SendCandidate(slot) => self.on_candidate_sent(slot, Some(failure)),
            Purpose::RequestKeyframe => self.ignore(Ignored::Unsent),
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
            let asked = attempt.refresh == Refresh::Asked;
            attempt.refresh = Refresh::Done;
            // They count from the next gathering on: a restart waits for them to be set.
            self.tell(Event::IceServersRefreshed);
            if asked && let Some(attempt) = &mut self.attempt {
                // The offer that waits for them sets them first.
                attempt.servers_set = false;
                return;
            }
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

    /// Asks for ICE servers on the open link, once.
    pub(super) fn fetch_ice_servers(&mut self) {
        let Some(link) = self.attempt.as_ref().and_then(|attempt| attempt.links.open) else {
            return;
        };
        if !self.is_in_flight(Purpose::FetchIceServers) {
            let command = SignalingCommand::FetchIceServers { link };
            self.ask_signaling(Purpose::FetchIceServers, command);
        }
        let deadline = self.now + self.config.ice_servers_timeout;
        self.in_flight.hurry(deadline, |purpose| *purpose == Purpose::FetchIceServers);
    }

    /// The master's offer needs TURN credentials that are fresh: fetches them where that is possible.
    pub(super) fn refresh_for_offer(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        // Those of the attempt's start are on their way.
        let possible = attempt.links.open.is_some() && !matches!(attempt.servers, Servers::Awaited);
        attempt.refresh = if possible { Refresh::Asked } else { Refresh::Done };
        if possible {
            self.fetch_ice_servers();
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
