//! [`Session`]: the only mutable thing. It dispatches inputs, owns the outputs, and keeps time.
//!
//! The rooms behind it: [`setup`] opens an attempt, [`links`] keeps its signaling, [`exchange`]
//! does our offers and [`answering`] the master's, [`media`] follows what the peer connection
//! notices, [`trickle`] carries candidates, [`ladder`] recovers what was live, [`closing`] ends attempts and the session.

mod answering;
mod closing;
mod exchange;
mod ladder;
mod links;
mod media;
mod normal;
mod setup;
#[cfg(test)]
mod stage;
mod state;
mod trickle;

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use crate::config::Config;
use crate::error::{Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, AttemptReport, Deadline, Outcome};
use crate::input::{Completion, Input, SignalingEvent};
use crate::output::{Event, Output, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::recovery::{MasterKnowledge, RecoveryCause};
use crate::retry::{Budget, Rng};
use crate::ticket::{InFlight, Ticket};
use crate::time::{Timer, TimerTable, Timestamp};
use crate::types::{ClientId, LinkId};
use closing::{CloseStep, Closing};
pub use normal::Normalised;
use setup::Attempt;

/// One viewer's wish to watch one channel.
///
/// Give it inputs with [`Session::handle_input`], drain [`Session::poll_output`] to `None` after
/// each, and come back at [`Session::poll_timeout`] with [`Input::Timeout`]. The crate's own page
/// shows the loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    config: Config,
    now: Timestamp,
    phase: Phase,
    rng: Rng,
    timers: TimerTable,
    in_flight: InFlight<Purpose>,
    outputs: VecDeque<Output>,
    links: u32,
    peers: u32,
    attempts: u32,
    attempt: Option<Attempt>,
    closing: Option<Closing>,
    budget: Budget,
    ignored: BTreeMap<Ignored, u32>,
    reports: VecDeque<AttemptReport>,
    answers_refused: u32,
    /// What is known of the master, from this session and from earlier ones.
    master: MasterKnowledge,
    /// The client id of the last attempt whose offer was sent.
    offered_as: Option<ClientId>,
    /// The service asked for fewer requests: nothing is opened before this (contract, N16).
    throttled_until: Timestamp,
    /// Links that the service closed soon after they opened, in a row.
    quick_ends: u32,
    /// The platform has no network since.
    offline_since: Option<Timestamp>,
    /// Deadlines stand still, until then at most, and did so in this attempt for so long before.
    frozen: bool,
    offline_until: Timestamp,
    frozen_for: Duration,
    was_live: bool,
    opened: Timestamp,
}

/// What a command in flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Purpose {
    Connect(LinkId),
    Leave(LinkId),
    FetchIceServers,
    Join,
    SendOffer,
    SendAnswer,
    /// The slot of the candidate.
    SendCandidate(usize),
    CreatePeer,
    CreateOffer,
    CreateAnswer,
    SetIceServers,
    RefreshIceServers,
    SetLocal,
    SetRemote,
    Rollback,
    AddCandidate,
    RequestKeyframe,
    /// A step of closing an attempt.
    Close,
    /// A step of closing the peer connection of a remote session that was replaced.
    Replace(CloseStep),
}

impl Purpose {
    /// The name of its deadline.
    fn timer(self) -> Timer {
        match self {
            Self::Connect(_) => Timer::Connect,
            Self::FetchIceServers => Timer::IceServers,
            Self::Close | Self::Replace(_) | Self::Leave(_) => Timer::CloseStep,
            Self::Join
            | Self::SendOffer
            | Self::SendAnswer
            | Self::SendCandidate(_)
            | Self::CreatePeer
            | Self::CreateOffer
            | Self::CreateAnswer
            | Self::SetIceServers
            | Self::RefreshIceServers
            | Self::SetLocal
            | Self::SetRemote
            | Self::Rollback
            | Self::AddCandidate
            | Self::RequestKeyframe => Timer::Operation,
        }
    }

    /// Create, set-local, send, set-remote, rollback: one at a time (contract, N2).
    ///
    /// One that outlived its deadline counts as failed and is in flight no more, so the rollback
    /// that follows may be asked for while the stack is still at it. A port does one after the
    /// other, and where the late one succeeded after all the rollback fails and is reported.
    fn is_description_operation(self) -> bool {
        match self {
            Self::CreateOffer
            | Self::CreateAnswer
            | Self::SetLocal
            | Self::SendOffer
            | Self::SendAnswer
            | Self::SetRemote
            | Self::Rollback => true,
            Self::Connect(_)
            | Self::Leave(_)
            | Self::FetchIceServers
            | Self::Join
            | Self::SendCandidate(_)
            | Self::CreatePeer
            | Self::SetIceServers
            | Self::RefreshIceServers
            | Self::AddCandidate
            | Self::RequestKeyframe
            | Self::Close
            | Self::Replace(_) => false,
        }
    }

    /// Whether something is being closed while the attempt goes on.
    fn is_closing(self) -> bool {
        matches!(self, Self::Leave(_) | Self::Replace(_))
    }

    /// The step of closing a peer connection that is replaced.
    fn replaces(self) -> Option<CloseStep> {
        if let Self::Replace(step) = self { Some(step) } else { None }
    }
}

impl Session {
    /// A session that waits for [`Input::Open`]. The seed is for jitter alone.
    pub fn new(config: Config, seed: u64, now: Timestamp) -> Self {
        Self {
            config,
            now,
            phase: Phase::Idle,
            rng: Rng::new(seed),
            timers: TimerTable::default(),
            in_flight: InFlight::default(),
            outputs: VecDeque::new(),
            links: 0,
            peers: 0,
            attempts: 0,
            attempt: None,
            closing: None,
            budget: Budget::default(),
            ignored: BTreeMap::new(),
            reports: VecDeque::new(),
            answers_refused: 0,
            master: MasterKnowledge::default(),
            offered_as: None,
            throttled_until: Timestamp::ZERO,
            quick_ends: 0,
            offline_since: None,
            frozen: false,
            offline_until: now,
            frozen_for: Duration::ZERO,
            was_live: false,
            opened: now,
        }
    }

    /// Takes one input. A deadline that is due by `now` fires first (contract, N5), except before a
    /// close, which wins in the same instant as anything else (N22).
    ///
    /// It never fails and never panics, whatever comes in whatever phase. A `now` before an
    /// earlier one counts as that earlier one.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        let now = self.now.max(now.min(Timestamp::LATEST));
        let passed = now.saturating_since(self.now);
        if self.frozen {
            self.budget.hold(passed);
        }
        if self.is_frozen() {
            self.hold_deadlines(passed);
        }
        self.now = now;
        if input == Input::Close {
            self.on_close();
        }
        self.fire_due_deadlines();
        match input {
            Input::Open => self.on_open(),
            Input::Close | Input::Timeout => {}
            Input::Resumed => self.on_resumed(),
            Input::NetworkChanged => self.on_network_changed(false),
            Input::LocalAddressGone => self.on_network_changed(true),
            Input::MasterKnown(known) => self.on_master_known(known),
            Input::Online(online) => self.on_online(online),
            Input::Restart => self.on_restart(),
            Input::Renegotiate => self.on_renegotiate(),
            Input::Signaling(link, event) => self.on_signaling(link, event),
            Input::Peer(peer, event) => self.on_peer(peer, event),
            Input::Completed(completion) => self.on_completed(completion),
        }
        self.advance();
    }

    /// The next thing to do or tell, in order. Nothing is lost by draining late.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Timeout`], and what for. `None`: nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Timer)> {
        if self.is_frozen() {
            return self.timers.at(Timer::Offline).map(|at| (at, Timer::Offline));
        }
        let operation = self.in_flight.earliest().map(|(at, purpose)| (at, purpose.timer()));
        self.timers.earliest().into_iter().chain(operation).min()
    }

    /// Where the session is; for people, logs and tests.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the attempt under way, or of the last one; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.attempts
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the completion of this command still counts; for tests and simulators.
    pub fn awaits(&self, ticket: Ticket) -> bool {
        self.in_flight.awaits(ticket)
    }

    /// Whether the state makes sense; for tests and simulators.
    ///
    /// # Errors
    /// Says what does not.
    pub fn check_invariants(&self) -> Result<(), &'static str> {
        let require = |holds: bool, what| if holds { Ok(()) } else { Err(what) };
        let waits_for_nobody = matches!(self.phase, Phase::Idle | Phase::Live | Phase::Ended);
        require(
            self.phase.has_attempt() == (self.attempt.is_some() && self.closing.is_none()),
            "an attempt exists exactly in the phases that have one",
        )?;
        require(
            (self.phase == Phase::Closing) == self.closing.is_some(),
            "closing has its steps, and nothing else has",
        )?;
        require(
            self.in_flight.purposes().filter(|p| p.is_description_operation()).count() <= 1,
            "N2: at most one description operation is in flight",
        )?;
        require(
            waits_for_nobody || self.has_deadline_of_stage(),
            "N12: every phase that waits has a deadline",
        )?;
        require(
            !matches!(self.phase, Phase::Idle | Phase::Ended)
                || (self.timers.is_empty() && self.in_flight.len() == 0),
            "N23: nothing is pending before the start and after the end",
        )?;
        if let Some(attempt) = &self.attempt {
            require(
                attempt.remote.held() <= self.config.candidates_max
                    && attempt.local.waiting() <= self.config.candidates_max,
                "N9: candidates are bounded",
            )?;
        }
        Ok(())
    }

    /// Whether the stage that the session is at has a deadline, beside that of the whole set-up.
    fn has_deadline_of_stage(&self) -> bool {
        self.in_flight.len() > 0
            || self.timers.earliest_but(Timer::SetUp).is_some()
            || self.is_frozen()
    }

    /// Knowledge of earlier sessions comes before the session is opened.
    fn on_master_known(&mut self, known: MasterKnowledge) {
        if self.phase == Phase::Idle {
            self.master = known;
        } else {
            self.ignore(Ignored::OutOfPhase);
        }
    }

    /// Keeps what was learned about the master, and reports it.
    fn learn(&mut self, known: MasterKnowledge) {
        if self.master != known {
            self.master = known;
            self.tell(Event::MasterLearned(known));
        }
    }

    fn on_open(&mut self) {
        if self.phase != Phase::Idle {
            return self.ignore(Ignored::AlreadyOpen);
        }
        self.opened = self.now;
        self.start_attempt();
    }

    fn on_close(&mut self) {
        match self.phase {
            Phase::Idle | Phase::BackingOff => self.end(crate::EndReason::Closed),
            Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering => self.end_attempt(AttemptEnd::Closed),
            Phase::Closing => self.close_while_closing(),
            Phase::Ended => {}
        }
    }

    /// A device that slept: whatever was connected is gone (contract, N13).
    fn on_resumed(&mut self) {
        match self.phase {
            Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering => self.end_attempt(AttemptEnd::Resumed),
            Phase::BackingOff if !self.frozen => self.retry_now(),
            Phase::Closing => self.resume_while_closing(),
            Phase::Idle | Phase::BackingOff | Phase::Ended => self.ignore(Ignored::OutOfPhase),
        }
    }

    fn on_completed(&mut self, Completion { ticket, outcome }: Completion) {
        let Some(purpose) = self.in_flight.complete(ticket) else {
            // Completions cancelled by the session's own close are expected; others are reported.
            if !matches!(&outcome, Err(failure) if failure.code == FailureCode::Cancelled) {
                self.ignore(Ignored::StaleCompletion);
            }
            return;
        };
        self.finish(purpose, outcome);
    }

    /// Each firing disarms its deadline or moves it past `now`, so this ends.
    fn fire_due_deadlines(&mut self) {
        while let Some((at, timer)) = self.poll_timeout() {
            if at > self.now {
                return;
            }
            self.fire(timer);
        }
    }

    fn fire(&mut self, timer: Timer) {
        self.timers.disarm(timer);
        match timer {
            Timer::Connect | Timer::IceServers | Timer::Operation | Timer::CloseStep => {
                if let Some(purpose) = self.in_flight.take_overdue(self.now) {
                    self.tell(Event::DeadlineFired(timer));
                    let late = Failure::new(FailureCode::TimedOut, "not done within its deadline");
                    self.finish(purpose, Err(late));
                }
            }
            Timer::Offer => self.on_deadline(timer, Deadline::Offer),
            Timer::Join => self.join(),
            Timer::Answer => self.on_answer_deadline(),
            Timer::Establish => self.on_deadline(timer, Deadline::Establish),
            Timer::FirstMedia => self.on_deadline(timer, Deadline::FirstMedia),
            Timer::Grace => self.on_grace_deadline(),
            Timer::Restart => self.on_restart_deadline(),
            Timer::LinkReopen | Timer::GoAway => self.reopen(),
            Timer::Offline => self.thaw(),
            Timer::MediaGiveUp => {
                self.lose_master(RecoveryCause::Silent);
                self.on_deadline(timer, Deadline::MediaGiveUp);
            }
            Timer::KeyframeRequest => self.request_keyframe(),
            // `advance` sends what is due.
            Timer::CandidatePacing => self.send_candidates(),
            Timer::RetryDelay => self.start_attempt(),
            Timer::SetUp => self.on_set_up_deadline(),
            Timer::BudgetRefill => {
                self.frozen_for = Duration::ZERO;
                self.budget.refill();
            }
        }
    }

    fn on_deadline(&mut self, timer: Timer, deadline: Deadline) {
        self.tell(Event::DeadlineFired(timer));
        self.end_attempt(AttemptEnd::Deadline(deadline));
    }

    /// The stages were entered again and again, each within its own deadline.
    fn on_set_up_deadline(&mut self) {
        let deadline = match self.phase {
            Phase::AwaitingOffer => Deadline::Offer,
            Phase::Connecting | Phase::Offering | Phase::AwaitingAnswer => Deadline::Answer,
            Phase::AwaitingMedia => Deadline::FirstMedia,
            Phase::Idle
            | Phase::Answering
            | Phase::Establishing
            | Phase::Live
            | Phase::Recovering
            | Phase::Closing
            | Phase::BackingOff
            | Phase::Ended => Deadline::Establish,
        };
        self.on_deadline(Timer::SetUp, deadline);
    }

    fn on_grace_deadline(&mut self) {
        self.tell(Event::DeadlineFired(Timer::Grace));
        if self.phase == Phase::Live {
            self.recover(RecoveryCause::Disconnected);
        } else {
            self.end_attempt(AttemptEnd::Deadline(Deadline::Grace));
        }
    }

    fn set_phase(&mut self, to: Phase) {
        let from = self.phase;
        if from == to {
            return;
        }
        debug_assert!(from.may_become(to), "no edge from {from} to {to}");
        tracing::info!(attempt = self.attempts, %from, %to, at = %self.now, "phase");
        self.phase = to;
        self.tell(Event::PhaseChanged { from, to });
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Arms a deadline that the session waits on, and reports it.
    fn arm(&mut self, timer: Timer, at: Timestamp) {
        self.timers.arm(timer, at);
        self.tell(Event::DeadlineArmed { timer, at });
    }

    /// Nothing is dropped silently: the first of a kind is reported, the rest counted (N25).
    fn ignore(&mut self, reason: Ignored) {
        if matches!(self.phase, Phase::Idle | Phase::Ended) {
            return;
        }
        tracing::debug!(attempt = self.attempts, %reason, at = %self.now, "ignored");
        let count = self.ignored.entry(reason).or_insert(0);
        *count = count.saturating_add(1);
        if *count == 1 {
            self.tell(Event::Ignored(reason));
        }
    }

    fn ignore_times(&mut self, reason: Ignored, times: usize) {
        for _ in 0..times {
            self.ignore(reason);
        }
    }

    fn ask_signaling(&mut self, purpose: Purpose, command: SignalingCommand) -> Ticket {
        let ticket = self.issue(purpose);
        self.outputs.push_back(Output::Signaling(ticket, command));
        ticket
    }

    fn ask_peer(&mut self, purpose: Purpose, command: PeerCommand) {
        let ticket = self.issue(purpose);
        self.outputs.push_back(Output::Peer(ticket, command));
    }

    fn issue(&mut self, purpose: Purpose) -> Ticket {
        let config = &self.config;
        let within = match purpose.timer() {
            Timer::Connect => config.connect_timeout(),
            // The servers need the endpoints that the opening link asks for; once it is open,
            // `on_connected` shortens this to the call alone.
            Timer::IceServers => config.connect_timeout(),
            Timer::CloseStep => config.close_timeout / CloseStep::COUNT,
            Timer::Operation
            | Timer::Offer
            | Timer::Join
            | Timer::Answer
            | Timer::Establish
            | Timer::FirstMedia
            | Timer::KeyframeRequest
            | Timer::CandidatePacing
            | Timer::Grace
            | Timer::Restart
            | Timer::LinkReopen
            | Timer::GoAway
            | Timer::Offline
            | Timer::MediaGiveUp
            | Timer::RetryDelay
            | Timer::SetUp
            | Timer::BudgetRefill => config.operation_timeout,
        };
        self.in_flight.issue(self.attempts, self.now + within, purpose)
    }

    fn on_signaling(&mut self, link: LinkId, event: SignalingEvent) {
        if self.closing.is_some() || self.attempt.as_ref().is_none_or(|a| !a.links.speaks(link)) {
            return self.ignore(Ignored::Stale);
        }
        match event {
            SignalingEvent::Offer { sender, body } => self.on_offer(sender, body),
            SignalingEvent::Answer { sender, body } => self.on_answer(sender, body),
            SignalingEvent::Candidate { sender, body } => self.on_candidate(sender, body),
            SignalingEvent::Status { ticket, failure } => self.on_status(ticket, failure),
            SignalingEvent::GoAway => self.on_go_away(link),
            SignalingEvent::ReconnectIceServer => self.on_reconnect_ice_server(),
            SignalingEvent::Garbage => self.ignore(Ignored::Unknown),
            SignalingEvent::Disconnected(failure) => self.on_link_lost(link, failure),
        }
    }

    fn is_in_flight(&self, purpose: Purpose) -> bool {
        self.in_flight.purposes().any(|other| *other == purpose)
    }

    fn remember(&mut self, report: AttemptReport) {
        if self.reports.len() == Outcome::ATTEMPTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }
}

#[cfg(test)]
mod tests;
