//! [`Context`]: what every state machine of a session is given: the configuration, the time, the
//! deadlines, the commands in flight, and the one way out.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::ControlFlow;
use core::time::Duration;

use crate::config::Config;
use crate::error::Ignored;
use crate::evidence::{AttemptEnd, Evidence};
use crate::master::MasterKnowledge;
use crate::offline::Offline;
use crate::output::{Event, Output, PeerCommand, SignalingCommand};
use crate::phase::Phase;
use crate::policy::Policy;
use crate::purpose::{CloseStep, Purpose};
use crate::ticket::{InFlight, Ticket};
use crate::time::{Timer, TimerTable, Timestamp};
use crate::types::{ConnectionId, PeerId};

/// The attempt goes on, or ends like this. The session alone acts on an end.
pub(crate) type Flow<T = ()> = ControlFlow<AttemptEnd, T>;

/// The attempt goes on.
pub(crate) const ON: Flow = ControlFlow::Continue(());

/// Ends the attempt.
pub(crate) fn over<T>(end: AttemptEnd) -> Flow<T> {
    ControlFlow::Break(end)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) now: Timestamp,
    pub(crate) timers: TimerTable,
    pub(crate) in_flight: InFlight<Purpose>,
    pub(crate) offline: Offline,
    pub(crate) policy: Policy,
    /// What was seen in this attempt. It is for people: nothing is decided by it.
    pub(crate) evidence: Evidence,
    /// The attempt under way, or the last one.
    pub(crate) attempt: u32,
    pub(crate) connections: u32,
    pub(crate) peers: u32,
    pub(crate) ignored: BTreeMap<Ignored, u32>,
    outputs: VecDeque<Output>,
}

impl Context {
    pub(crate) fn new(config: Config, seed: u64, now: Timestamp) -> Self {
        Self {
            config,
            now,
            timers: TimerTable::default(),
            in_flight: InFlight::default(),
            offline: Offline::new(now),
            policy: Policy::new(seed),
            evidence: Evidence::default(),
            attempt: 0,
            connections: 0,
            peers: 0,
            ignored: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn phase_changed(&mut self, from: Phase, to: Phase) {
        if from == to {
            return;
        }
        debug_assert!(from.may_become(to), "no edge from {from} to {to}");
        tracing::info!(attempt = self.attempt, %from, %to, at = %self.now, "phase");
        self.tell(Event::PhaseChanged { from, to });
    }

    /// Arms a deadline that the session waits on, and reports it.
    pub(crate) fn arm(&mut self, timer: Timer, within: Duration) {
        self.arm_at(timer, self.now + within);
    }

    pub(crate) fn arm_at(&mut self, timer: Timer, at: Timestamp) {
        self.timers.arm(timer, at);
        self.tell(Event::DeadlineArmed { timer, at });
    }

    /// Arms a deadline, unless it is armed for an earlier moment already.
    pub(crate) fn arm_or_shorten(&mut self, timer: Timer, within: Duration) {
        let at = self.now + within;
        if self.timers.arm_if_earlier(timer, at) {
            self.tell(Event::DeadlineArmed { timer, at });
        }
    }

    /// Shortens a deadline, where it is armed for a later moment.
    pub(crate) fn shorten(&mut self, timer: Timer, within: Duration) {
        self.shorten_to(timer, self.now + within);
    }

    pub(crate) fn shorten_to(&mut self, timer: Timer, at: Timestamp) {
        if self.timers.shorten(timer, at) {
            self.tell(Event::DeadlineArmed { timer, at });
        }
    }

    /// Arms a wake-up, which is not reported.
    pub(crate) fn wake_after(&mut self, timer: Timer, after: Duration) {
        self.timers.arm(timer, self.now + after);
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.timers.disarm(timer);
    }

    /// Nothing is dropped silently: the first of a kind is reported, the rest counted (N25).
    pub(crate) fn ignore(&mut self, reason: Ignored) {
        tracing::debug!(attempt = self.attempt, %reason, at = %self.now, "ignored");
        let count = self.ignored.entry(reason).or_insert(0);
        *count = count.saturating_add(1);
        if *count == 1 {
            self.tell(Event::Ignored(reason));
        }
    }

    pub(crate) fn ignore_times(&mut self, reason: Ignored, times: usize) {
        for _ in 0..times {
            self.ignore(reason);
        }
    }

    /// Keeps what was learned about the master, and reports it.
    pub(crate) fn learn(&mut self, known: MasterKnowledge) {
        if self.policy.master != known {
            self.policy.master = known;
            self.tell(Event::MasterLearned(known));
        }
    }

    pub(crate) fn ask_signaling(&mut self, purpose: Purpose, command: SignalingCommand) -> Ticket {
        let ticket = self.issue(purpose);
        self.outputs.push_back(Output::Signaling(ticket, command));
        ticket
    }

    pub(crate) fn ask_peer(&mut self, purpose: Purpose, command: PeerCommand) {
        let ticket = self.issue(purpose);
        self.outputs.push_back(Output::Peer(ticket, command));
    }

    fn issue(&mut self, purpose: Purpose) -> Ticket {
        let config = &self.config;
        let within = match purpose.timer() {
            Timer::Connect => config.connect_timeout(),
            // The servers need the endpoints that the opening connection requests; once it is open,
            // the deadline is shortened to the call alone.
            Timer::IceServers => config.connect_timeout(),
            Timer::CloseStep => self.close_share(),
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
            | Timer::BudgetRefill => config.settings().operation_timeout,
        };
        self.in_flight.issue(self.attempt, self.now + within, purpose)
    }

    /// The time that one step of closing may take.
    pub(crate) fn close_share(&self) -> Duration {
        self.config.settings().close_timeout / CloseStep::COUNT
    }

    pub(crate) fn is_in_flight(&self, purpose: Purpose) -> bool {
        self.in_flight.purposes().any(|other| *other == purpose)
    }

    pub(crate) fn next_connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub(crate) fn next_peer(&mut self) -> PeerId {
        self.peers += 1;
        PeerId(self.peers)
    }

    /// The evidence of the attempt, with what was ignored in it; both begin anew.
    pub(crate) fn take_evidence(&mut self) -> Evidence {
        let mut evidence = core::mem::take(&mut self.evidence);
        evidence.count_ignored(core::mem::take(&mut self.ignored));
        evidence
    }

    /// Disarms all deadlines of an attempt; those of the missing network stay.
    pub(crate) fn disarm_attempt(&mut self) {
        self.timers.disarm_all();
        self.restore_offline_deadline();
    }

    /// The time since the last input does not count for what stands still.
    pub(crate) fn hold_deadlines(&mut self, passed: Duration) {
        self.timers.shift(passed);
        self.in_flight.shift(passed);
        self.restore_offline_deadline();
    }

    fn restore_offline_deadline(&mut self) {
        if let Some(until) = self.offline.frozen_until() {
            self.timers.arm(Timer::Offline, until);
        }
    }

    /// The network is away: deadlines stand still for a while.
    pub(crate) fn freeze(&mut self) {
        self.tell(Event::Offline);
        self.offline.freeze(self.now, self.config.settings().offline_limit);
        self.restore_offline_deadline();
    }

    /// Deadlines go on; the time without a network did not count.
    pub(crate) fn thaw(&mut self) {
        self.timers.disarm(Timer::Offline);
        self.offline.thaw(self.now);
    }
}
