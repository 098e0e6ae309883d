//! [`Attempt`]: one client id, one live signaling connection, one peer connection; the only
//! coordinator of the state machines below it, none of which calls another.
//!
//! Here are its parts and its inputs. What it does in an exchange of its own is in [`negotiation`],
//! in one of the master's in [`answering`], and for a connection that is up or lost in
//! [`liveness`].

mod answering;
pub(crate) mod candidates;
pub(crate) mod connections;
pub(crate) mod exchange;
mod liveness;
pub(crate) mod media;
mod negotiation;
pub(crate) mod recovery;
pub(crate) mod servers;

use alloc::vec::Vec;

use self::candidates::Candidates;
use self::connections::{Connections, Opened};
use self::exchange::{Exchange, ExchangeState};
use self::media::Media;
use self::recovery::Recovery;
use self::servers::{IceServers, Refresh};
use crate::config::Mode;
use crate::context::{Context, Flow, ON, over};
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, Deadline, Evidence};
use crate::input::{Connectivity, Done, PeerEvent, PeerTraits, SignalingEvent};
use crate::master::RecoveryCause;
use crate::output::{Event, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::purpose::Purpose;
use crate::time::{Timer, Timestamp};
use crate::types::{ConnectionId, IceServer, MediaKind, PeerId};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) started: Timestamp,
    pub(crate) stage: Stage,
    pub(crate) peer: Peer,
    pub(crate) connections: Connections,
    pub(crate) servers: IceServers,
    pub(crate) exchange: Exchange,
    pub(crate) candidates: Candidates,
    pub(crate) media: Media,
    pub(crate) recovery: Recovery,
    pub(crate) reached: Reached,
    /// Something came from the master, and the master was not lost since.
    pub(crate) master_here: bool,
    /// New sessions of the master's since media flowed.
    pub(crate) replacements: u8,
    /// An earlier attempt's offer was sent with the same client id.
    pub(crate) repeats_id: bool,
    /// The next join is due after its interval; without, as soon as a connection is open.
    pub(crate) join_scheduled: bool,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Connecting,
    Offering,
    AwaitingAnswer,
    AwaitingOffer,
    Answering,
    Establishing,
    AwaitingMedia,
    Live,
    Recovering,
}

impl Stage {
    pub(crate) fn phase(self) -> Phase {
        match self {
            Self::Connecting => Phase::Connecting,
            Self::Offering => Phase::Offering,
            Self::AwaitingAnswer => Phase::AwaitingAnswer,
            Self::AwaitingOffer => Phase::AwaitingOffer,
            Self::Answering => Phase::Answering,
            Self::Establishing => Phase::Establishing,
            Self::AwaitingMedia => Phase::AwaitingMedia,
            Self::Live => Phase::Live,
            Self::Recovering => Phase::Recovering,
        }
    }

    /// Media flows or did: there is a connection to recover.
    fn is_up(self) -> bool {
        matches!(self, Self::Live | Self::Recovering)
    }

    /// No description of the master's is here yet.
    fn is_unanswered(self) -> bool {
        match self {
            Self::Connecting | Self::Offering | Self::AwaitingAnswer | Self::AwaitingOffer => true,
            Self::Answering
            | Self::Establishing
            | Self::AwaitingMedia
            | Self::Live
            | Self::Recovering => false,
        }
    }
}

/// The peer connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    /// `None` until it is created.
    pub(crate) traits: Option<PeerTraits>,
    pub(crate) connectivity: Connectivity,
}

impl Peer {
    fn create(cx: &mut Context) -> Self {
        Self { id: cx.next_peer(), traits: None, connectivity: Connectivity::Checking }
    }

    fn request(&self, cx: &mut Context) {
        cx.ask_peer(Purpose::CreatePeer, PeerCommand::Create { peer: self.id });
    }

    fn is_connected(&self) -> bool {
        self.connectivity == Connectivity::Connected
    }

    /// Whether a restart leaves the pair in use alone until the new one works.
    fn keeps_pair(&self) -> bool {
        self.traits.is_some_and(|traits| traits.restart_keeps_pair)
    }
}

/// What the attempt has reached at any time: it decides how an end counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reached {
    pub(crate) ice_connected: bool,
    pub(crate) connected: bool,
    pub(crate) live: bool,
}

impl Attempt {
    /// Begins everything that needs no other result: signaling, ICE servers, peer connection.
    pub(crate) fn start(cx: &mut Context, from: Phase) -> Self {
        cx.attempt += 1;
        // What was ignored between two attempts is counted with the second.
        let ignored = core::mem::take(&mut cx.ignored);
        cx.evidence = Evidence { ignored, ..Evidence::default() };
        cx.offline.forget_waits();
        let (connections, link) = Connections::open_first(cx);
        let attempt = Self {
            number: cx.attempt,
            started: cx.now,
            stage: Stage::Connecting,
            peer: Peer::create(cx),
            connections,
            servers: IceServers::default(),
            exchange: Exchange::default(),
            candidates: Candidates::default(),
            media: Media::default(),
            recovery: Recovery::default(),
            reached: Reached::default(),
            master_here: false,
            replacements: 0,
            repeats_id: false,
            join_scheduled: false,
        };
        cx.timers.disarm_all();
        let limit = cx.config.set_up_timeout(cx.policy.budget.spent());
        cx.wake_after(Timer::SetUp, limit);
        cx.tell(Event::AttemptStarted { attempt: cx.attempt });
        cx.phase_changed(from, Phase::Connecting);
        attempt.connections.connect(cx, link);
        cx.ask_signaling(Purpose::FetchIceServers, SignalingCommand::FetchIceServers { link });
        attempt.peer.request(cx);
        attempt
    }

    pub(crate) fn enter(&mut self, cx: &mut Context, stage: Stage) {
        let from = core::mem::replace(&mut self.stage, stage);
        cx.phase_changed(from.phase(), stage.phase());
    }

    /// Starts every operation whose prerequisites are met. Called after each input.
    pub(crate) fn advance(&mut self, cx: &mut Context) -> Flow {
        if let Some(old) = self.connections.to_leave(cx)
            && !self.exchange.is_sending_on(cx, old)
            && !self.candidates.transit.uses(old)
        {
            self.connections.leave_replaced(cx);
        }
        self.advance_exchange(cx)?;
        self.candidates.send(cx, self.connections.open);
        ON
    }

    pub(crate) fn on_signaling(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        event: SignalingEvent,
    ) -> Flow {
        if !self.connections.speaks(link) {
            cx.ignore(Ignored::Stale);
            return ON;
        }
        match event {
            SignalingEvent::Offer { sender, body } => self.on_offer(cx, sender, body),
            SignalingEvent::Answer { sender, body } => return self.on_answer(cx, sender, body),
            SignalingEvent::Candidate { sender, body } => self.on_candidate(cx, sender, body),
            SignalingEvent::Status { ticket, failure } => {
                return self.on_status(cx, ticket, failure);
            }
            SignalingEvent::GoAway => {
                let media = matches!(self.stage, Stage::Live | Stage::AwaitingMedia);
                let may_wait = media && self.exchange.is_idle();
                self.connections.on_go_away(cx, link, may_wait);
            }
            SignalingEvent::ReconnectIceServer => self.connections.on_reconnect_ice_server(cx),
            SignalingEvent::Garbage => cx.ignore(Ignored::Unknown),
            SignalingEvent::Disconnected(failure) => {
                // An offer that is answered was sent, whatever its sending reports in the end.
                let unanswered = self.stage.is_unanswered() && !self.exchange.has_early_answer();
                return self.connections.on_lost(cx, link, failure, unanswered);
            }
        }
        ON
    }

    pub(crate) fn on_peer(&mut self, cx: &mut Context, peer: PeerId, event: PeerEvent) -> Flow {
        if self.peer.id != peer || self.exchange.at() == ExchangeState::Replacing {
            cx.ignore(Ignored::Stale);
            return ON;
        }
        match event {
            PeerEvent::CandidateGathered(candidate) => self.candidates.on_gathered(cx, candidate),
            PeerEvent::GatheringDone => {}
            PeerEvent::ConnectivityChanged(state) => return self.on_connectivity(cx, state),
            PeerEvent::TrackAdded(kind) => {
                cx.tell(Event::TrackAdded(kind));
                if kind == MediaKind::Video {
                    self.media.request_keyframe(cx, peer);
                }
            }
            PeerEvent::MediaFlowing(kind) => {
                if self.media.on_flowing(cx, kind) {
                    self.refill_later(cx);
                }
                self.on_media(cx);
            }
            PeerEvent::KeyframeReceived => {
                if self.media.on_keyframe(cx) {
                    self.on_media(cx);
                }
            }
            PeerEvent::MediaStalled if self.stage.is_up() => self.media.on_stalled(cx, peer),
            PeerEvent::MediaStalled => cx.ignore(Ignored::OutOfPhase),
            PeerEvent::SenderReport => self.media.on_sender_report(cx),
            PeerEvent::MediaProblem(problem) => cx.evidence.media_problem = Some(problem),
            PeerEvent::IceServersUnresolved(count) => {
                let known = &mut cx.evidence.unresolved_servers;
                *known = known.saturating_add(count);
            }
        }
        ON
    }

    /// A deadline passed, or a wake-up is due.
    pub(crate) fn on_timer(&mut self, cx: &mut Context, timer: Timer) -> Flow {
        match timer {
            Timer::Offer => deadline(cx, timer, Deadline::Offer),
            Timer::Answer => self.on_answer_deadline(cx),
            Timer::Establish => deadline(cx, timer, Deadline::Establish),
            Timer::FirstMedia => deadline(cx, timer, Deadline::FirstMedia),
            Timer::Grace => self.on_grace_deadline(cx),
            Timer::Restart => self.on_restart_deadline(cx),
            Timer::MediaGiveUp => {
                self.lose_master(cx, RecoveryCause::Silent);
                deadline(cx, timer, Deadline::MediaGiveUp)
            }
            // The stages were entered again and again, each within its own deadline.
            Timer::SetUp => deadline(cx, timer, self.stage_deadline()),
            Timer::Join => {
                self.join_scheduled = false;
                self.join(cx);
                ON
            }
            Timer::LinkReopen | Timer::GoAway => {
                self.connections.on_pause_over(cx, timer);
                ON
            }
            Timer::KeyframeRequest => {
                self.media.request_keyframe(cx, self.peer.id);
                ON
            }
            Timer::CandidatePacing => {
                self.candidates.send(cx, self.connections.open);
                ON
            }
            // The session's own.
            Timer::Connect
            | Timer::IceServers
            | Timer::Operation
            | Timer::CloseStep
            | Timer::Offline
            | Timer::RetryDelay
            | Timer::BudgetRefill => ON,
        }
    }

    /// The deadline that the stage is about.
    fn stage_deadline(&self) -> Deadline {
        match self.stage {
            Stage::AwaitingOffer => Deadline::Offer,
            Stage::Connecting | Stage::Offering | Stage::AwaitingAnswer => Deadline::Answer,
            Stage::AwaitingMedia => Deadline::FirstMedia,
            Stage::Answering | Stage::Establishing | Stage::Live | Stage::Recovering => {
                Deadline::Establish
            }
        }
    }

    /// Takes the result of a command: the one table from purpose to consequence.
    pub(crate) fn on_completed(
        &mut self,
        cx: &mut Context,
        purpose: Purpose,
        outcome: Result<Done, Failure>,
    ) -> Flow {
        match (purpose, outcome) {
            (Purpose::Replace(step), outcome) => self.on_replace_step(cx, step, outcome.err()),
            (Purpose::Leave(link), outcome) => self.connections.on_left(cx, link, outcome.err()),
            (Purpose::SendCandidate(slot), outcome) => {
                self.candidates.on_sent(cx, slot, outcome.err());
            }
            // It was settled meanwhile: by its answer, or by the loss of its connection.
            (Purpose::SendOffer, _) if self.exchange.at() != ExchangeState::SendingOffer => {}
            (Purpose::Connect(link), Ok(Done::Connected(id))) => {
                let opened = self.connections.on_connected(cx, link, id);
                self.on_connected(cx, opened);
            }
            (Purpose::FetchIceServers, Ok(Done::IceServers(servers))) => {
                return self.on_ice_servers(cx, servers);
            }
            (Purpose::Join, Ok(Done::Ok)) => {}
            (Purpose::CreatePeer, Ok(Done::Created(traits))) => self.peer.traits = Some(traits),
            (Purpose::CreateOffer, Ok(Done::Description(offer))) => {
                self.exchange.on_offer_created(cx, offer);
            }
            (Purpose::CreateAnswer, Ok(Done::Description(answer))) => {
                self.exchange.on_answer_created(cx, self.peer.id, answer);
            }
            (Purpose::SetIceServers, Ok(Done::Ok)) => self.exchange.on_servers_set(),
            (Purpose::RefreshIceServers, Ok(Done::Ok)) => {
                self.exchange.on_servers_refreshed(cx, self.peer.id);
            }
            (Purpose::SetLocal, Ok(Done::Ok)) => self.on_local_set(cx),
            (Purpose::SendOffer, Ok(Done::Ok)) => return self.on_offer_sent(cx),
            (Purpose::SendAnswer, Ok(Done::Ok)) => self.on_answer_sent(cx),
            (Purpose::SetRemote, Ok(Done::Ok)) => self.on_remote_set(cx),
            (Purpose::Rollback, Ok(Done::Ok)) => self.on_rolled_back(cx),
            (Purpose::AddCandidate | Purpose::RequestKeyframe, Ok(_)) => {}
            (purpose, Err(failure)) => return self.on_failed(cx, purpose, failure),
            (purpose, Ok(_)) => {
                let breach = Failure::new(FailureCode::Port, "the result of another command");
                return self.on_failed(cx, purpose, breach);
            }
        }
        ON
    }

    fn on_failed(&mut self, cx: &mut Context, purpose: Purpose, failure: Failure) -> Flow {
        let (later, timed_out) = (self.exchange.is_later(), failure.code == FailureCode::TimedOut);
        match purpose {
            Purpose::Connect(link) => {
                let waits = self.stage == Stage::Offering && !self.exchange.has_early_answer();
                let lost = failure.clone();
                if self.connections.on_connect_failed(cx, link, lost, waits)? {
                    return self.on_description_undeliverable(cx, failure);
                }
            }
            Purpose::Join => return self.on_join_failed(cx, failure),
            Purpose::FetchIceServers => return self.on_fetch_failed(cx, failure),
            Purpose::SetIceServers if cx.config.settings().relay_only => {
                return over(AttemptEnd::Peer(failure));
            }
            Purpose::SetIceServers => self.exchange.on_servers_set(),
            Purpose::RefreshIceServers => self.exchange.on_servers_refreshed(cx, self.peer.id),
            Purpose::SendOffer if self.exchange.has_early_answer() => {
                return self.on_offer_sent(cx);
            }
            Purpose::SendOffer | Purpose::SendAnswer if self.send_again() => {}
            Purpose::CreateAnswer | Purpose::SendAnswer => {
                return self.on_answering_failed(cx, purpose, failure);
            }
            Purpose::SetLocal | Purpose::SetRemote if self.exchange.is_answering() => {
                return self.on_answering_failed(cx, purpose, failure);
            }
            // Whether it was set is unknown, so no offer can be made from a stable state any more.
            Purpose::SetLocal if later && timed_out => {
                return self.on_rollback_failed(cx, failure);
            }
            // What already flows is not given up for a renegotiation.
            Purpose::CreateOffer | Purpose::SetLocal if later => self.on_rolled_back(cx),
            Purpose::SendOffer if later => self.on_offer_unsent(cx),
            Purpose::SendOffer => return over(AttemptEnd::Offer(failure)),
            Purpose::CreatePeer | Purpose::CreateOffer | Purpose::SetLocal => {
                return over(AttemptEnd::Peer(failure));
            }
            Purpose::SetRemote => return self.on_answer_refused(cx, failure),
            Purpose::Rollback => return self.on_rollback_failed(cx, failure),
            // The echo of a peer connection that was replaced.
            Purpose::AddCandidate | Purpose::RequestKeyframe
                if failure.code == FailureCode::Cancelled => {}
            Purpose::AddCandidate => {
                if failure.code == FailureCode::AddressPolicy {
                    let refused = &mut cx.evidence.candidates_refused;
                    *refused = refused.saturating_add(1);
                }
                cx.ignore(Ignored::RefusedCandidate);
            }
            Purpose::RequestKeyframe => cx.ignore(Ignored::Unsent),
            // Their completion is the same however they end.
            Purpose::SendCandidate(_) | Purpose::Leave(_) | Purpose::Replace(_) => {}
            // The session's, which closes the attempt.
            Purpose::Close => {}
        }
        ON
    }

    fn on_connected(&mut self, cx: &mut Context, opened: Opened) {
        match opened {
            Opened::Stale => {}
            Opened::First => match cx.config.settings().mode {
                Mode::Offerer => self.enter(cx, Stage::Offering),
                Mode::Answerer => self.await_offer(cx),
            },
            Opened::Later { refresh } => {
                if refresh {
                    self.connections.on_reconnect_ice_server(cx);
                }
                // The offer that was joined for may have gone to the connection before.
                if self.stage == Stage::AwaitingOffer && !self.join_scheduled {
                    self.join(cx);
                }
            }
        }
    }

    fn on_ice_servers(&mut self, cx: &mut Context, servers: Vec<IceServer>) -> Flow {
        let relays = servers.iter().any(|s| s.uris.iter().any(|uri| uri.starts_with("turn")));
        cx.evidence.turn_servers = relays;
        if self.servers.known.replace(servers.clone()).is_none() {
            if cx.config.settings().relay_only && !relays {
                let none = Failure::new(FailureCode::Service, "the service named no TURN server");
                return over(AttemptEnd::NoRelay(none));
            }
            return ON;
        }
        // They are used from the next gathering on: a restart waits for them to be set.
        cx.tell(Event::IceServersRefreshed);
        if core::mem::take(&mut self.servers.refresh) == Refresh::Requested {
            // The offer that waits for them sets them first.
            self.servers.set = false;
        } else if self.exchange.at() != ExchangeState::Replacing {
            let command = PeerCommand::SetIceServers { peer: self.peer.id, servers };
            cx.ask_peer(Purpose::RefreshIceServers, command);
        }
        ON
    }

    fn on_fetch_failed(&mut self, cx: &mut Context, failure: Failure) -> Flow {
        let cancelled = failure.code == FailureCode::Cancelled;
        if self.servers.known.is_some() {
            cx.evidence.ice_servers_error = Some(failure);
            // The ones from before may still do.
            self.servers.refresh = Refresh::Done;
            self.exchange.on_servers_refreshed(cx, self.peer.id);
        } else if cancelled && self.connections.open.is_some() {
            // Its connection was closed for another one.
            self.connections.fetch_ice_servers(cx);
        } else if cx.config.settings().relay_only {
            return over(AttemptEnd::NoRelay(failure));
        } else {
            // TURN is a help, not a need: the session goes on without (contract, 42).
            cx.evidence.ice_servers_error = Some(failure);
            return self.on_ice_servers(cx, Vec::new());
        }
        ON
    }

    /// Something came from the master, the first in this attempt (contract, N28).
    fn see_master(&mut self, cx: &mut Context) {
        if !core::mem::replace(&mut self.master_here, true) {
            cx.evidence.master_seen = true;
            cx.tell(Event::MasterSeen);
        }
    }

    /// Reported once for each time that the master was seen.
    fn lose_master(&mut self, cx: &mut Context, cause: RecoveryCause) {
        if core::mem::replace(&mut self.master_here, false) {
            cx.tell(Event::MasterGone(cause));
        }
    }
}

fn deadline(cx: &mut Context, timer: Timer, deadline: Deadline) -> Flow {
    cx.tell(Event::DeadlineFired(timer));
    over(AttemptEnd::Deadline(deadline))
}

#[cfg(test)]
mod tests;
