//! [`Session`]: dispatches inputs, keeps time, and decides between another attempt and the end.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::ops::ControlFlow;
use core::time::Duration;

use crate::attempt::Attempt;
use crate::closing::Closing;
use crate::config::Config;
use crate::context::{Context, Flow, over};
use crate::error::{EndReason, Failure, FailureCode, Ignored};
use crate::evidence::{AttemptEnd, AttemptReport, Outcome};
use crate::input::{Completion, Done, Input};
use crate::master::MasterKnowledge;
use crate::output::{Event, Output};
use crate::phase::Phase;
use crate::policy::Then;
use crate::purpose::Purpose;
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};

/// One viewer that watches one channel.
///
/// Give it inputs with [`Session::handle_input`], drain [`Session::poll_output`] to `None` after
/// each, and come back at [`Session::poll_timeout`] with [`Input::Timeout`]. The crate's own page
/// shows the loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    pub(crate) cx: Context,
    pub(crate) state: State,
    pub(crate) reports: VecDeque<AttemptReport>,
    pub(crate) was_live: bool,
    pub(crate) opened: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum State {
    #[default]
    Idle,
    Attempt(Box<Attempt>),
    Closing(Closing),
    /// The next attempt begins after a pause.
    BackingOff,
    Ended,
}

impl Session {
    /// A session that waits for [`Input::Open`]. The seed is for jitter alone.
    pub fn new(config: Config, seed: u64, now: Timestamp) -> Self {
        Self {
            cx: Context::new(config, seed, now),
            state: State::Idle,
            reports: VecDeque::new(),
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
        self.advance_clock(now);
        if input == Input::Close {
            self.on_close();
        }
        self.fire_due_deadlines();
        match input {
            Input::Open => self.on_open(),
            Input::Close | Input::Timeout => {}
            Input::Resumed => self.on_resumed(),
            Input::NetworkChanged => self.in_attempt(|a, cx| a.on_network_changed(cx, false)),
            Input::LocalAddressGone => self.in_attempt(|a, cx| a.on_network_changed(cx, true)),
            Input::MasterKnown(known) => self.on_master_known(known),
            Input::Online(online) => self.on_online(online),
            Input::Restart => self.in_attempt(Attempt::on_restart),
            Input::Renegotiate => self.in_attempt(|a, cx| {
                a.on_renegotiate(cx);
                Flow::Continue(())
            }),
            Input::Signaling(link, event) => match &self.state {
                State::Attempt(_) => self.in_attempt(|a, cx| a.on_signaling(cx, link, event)),
                State::Idle | State::Closing(_) | State::BackingOff | State::Ended => {
                    self.ignore(Ignored::Stale);
                }
            },
            Input::Peer(peer, event) => match &self.state {
                State::Attempt(_) => self.in_attempt(|a, cx| a.on_peer(cx, peer, event)),
                State::Idle | State::Closing(_) | State::BackingOff | State::Ended => {
                    self.ignore(Ignored::Stale);
                }
            },
            Input::Completed(completion) => self.on_completed(completion),
        }
        if let State::Attempt(_) = self.state {
            self.in_attempt(Attempt::advance);
        }
    }

    /// The next command or event, in order. Nothing is lost by draining late.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.poll_output()
    }

    /// When to come back with [`Input::Timeout`], and what for. `None`: nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Timestamp, Timer)> {
        let cx = &self.cx;
        if self.is_frozen() {
            return cx.offline.frozen_until().map(|at| (at, Timer::Offline));
        }
        let operation = cx.in_flight.earliest().map(|(at, purpose)| (at, purpose.timer()));
        cx.timers.earliest().into_iter().chain(operation).min()
    }

    /// The phase that the session is in.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Idle => Phase::Idle,
            State::Attempt(attempt) => attempt.stage.phase(),
            State::Closing(_) => Phase::Closing,
            State::BackingOff => Phase::BackingOff,
            State::Ended => Phase::Ended,
        }
    }

    /// The number of the attempt under way, or of the last one; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.cx.attempt
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.cx.config
    }

    /// Whether the completion of this command still counts; for tests and simulators.
    pub fn awaits(&self, ticket: Ticket) -> bool {
        self.cx.in_flight.awaits(ticket)
    }

    /// Whether deadlines stand still: never while something is being closed.
    pub(crate) fn is_frozen(&self) -> bool {
        self.cx.offline.frozen && !matches!(self.state, State::Closing(_))
    }

    fn advance_clock(&mut self, now: Timestamp) {
        let now = self.cx.now.max(now.min(Timestamp::LATEST));
        let passed = now.saturating_since(self.cx.now);
        if self.cx.offline.frozen {
            self.cx.policy.budget.hold(passed);
        }
        if self.is_frozen() {
            self.cx.hold_deadlines(passed);
            if let State::Attempt(attempt) = &mut self.state {
                attempt.exchange.hold(passed);
            }
        }
        self.cx.now = now;
    }

    /// Lets the attempt act; the one place in which an attempt ends.
    fn in_attempt(&mut self, act: impl FnOnce(&mut Attempt, &mut Context) -> Flow) {
        match &mut self.state {
            State::Attempt(attempt) => {
                if let ControlFlow::Break(end) = act(attempt, &mut self.cx) {
                    self.end_attempt(end);
                }
            }
            State::Idle | State::Closing(_) | State::BackingOff | State::Ended => {
                self.ignore(Ignored::OutOfPhase);
            }
        }
    }

    /// Before the start and after the end nothing counts, nor is it reported.
    fn ignore(&mut self, reason: Ignored) {
        match self.state {
            State::Idle | State::Ended => {}
            State::Attempt(_) | State::Closing(_) | State::BackingOff => self.cx.ignore(reason),
        }
    }

    /// Knowledge of earlier sessions comes before the session is opened.
    fn on_master_known(&mut self, known: MasterKnowledge) {
        if self.state == State::Idle {
            self.cx.policy.master = known;
        } else {
            self.ignore(Ignored::OutOfPhase);
        }
    }

    fn on_open(&mut self) {
        if self.state == State::Idle {
            self.opened = self.cx.now;
            self.start_attempt(Phase::Idle);
        } else {
            self.ignore(Ignored::AlreadyOpen);
        }
    }

    fn on_close(&mut self) {
        match &mut self.state {
            State::Idle => self.end(Phase::Idle, EndReason::Closed),
            State::BackingOff => self.end(Phase::BackingOff, EndReason::Closed),
            State::Attempt(_) => self.in_attempt(|_, _| over(AttemptEnd::Closed)),
            State::Closing(closing) => closing.on_close(),
            State::Ended => {}
        }
    }

    /// A device that slept: whatever was connected is gone (contract, N13).
    fn on_resumed(&mut self) {
        match &mut self.state {
            State::Attempt(_) => self.in_attempt(|_, _| over(AttemptEnd::Resumed)),
            State::Closing(closing) => closing.on_resumed(&self.cx),
            State::BackingOff if !self.cx.offline.frozen => self.retry_now(),
            State::Idle | State::BackingOff | State::Ended => self.ignore(Ignored::OutOfPhase),
        }
    }

    fn on_online(&mut self, online: bool) {
        let is_open = !matches!(self.state, State::Idle | State::Ended);
        match (online, self.cx.offline.since) {
            (false, None) if is_open => {
                self.cx.evidence.was_offline = true;
                self.cx.freeze();
            }
            (true, Some(_)) => {
                self.cx.thaw();
                self.cx.offline.since = None;
                self.cx.tell(Event::Online);
                match &self.state {
                    State::Attempt(_) => self.in_attempt(Attempt::on_online),
                    State::BackingOff => self.retry_now(),
                    State::Idle | State::Closing(_) | State::Ended => {}
                }
            }
            (false, _) | (true, None) => self.ignore(Ignored::OutOfPhase),
        }
    }

    fn on_completed(&mut self, Completion { ticket, outcome }: Completion) {
        match self.cx.in_flight.complete(ticket) {
            Some(purpose) => self.finish(purpose, outcome),
            // Completions cancelled by the session's own close are expected; others are reported.
            None if is_cancelled(&outcome) => {}
            None => self.ignore(Ignored::StaleCompletion),
        }
    }

    fn finish(&mut self, purpose: Purpose, outcome: Result<Done, Failure>) {
        if let State::Closing(closing) = &mut self.state {
            closing.on_step_completed(&mut self.cx, outcome.err());
            self.advance_closing();
        } else {
            self.in_attempt(|attempt, cx| attempt.on_completed(cx, purpose, outcome));
        }
    }

    /// Each firing disarms its deadline or moves it past `now`, so this ends.
    fn fire_due_deadlines(&mut self) {
        while let Some((at, timer)) = self.poll_timeout() {
            if at > self.cx.now {
                return;
            }
            self.fire(timer);
        }
    }

    fn fire(&mut self, timer: Timer) {
        self.cx.disarm(timer);
        match timer {
            Timer::Connect | Timer::IceServers | Timer::Operation | Timer::CloseStep => {
                if let Some(purpose) = self.cx.in_flight.pop_expired(self.cx.now) {
                    self.cx.tell(Event::DeadlineFired(timer));
                    let late = Failure::new(FailureCode::TimedOut, "not done within its deadline");
                    self.finish(purpose, Err(late));
                }
            }
            Timer::Offline => self.cx.thaw(),
            Timer::RetryDelay => self.start_attempt(Phase::BackingOff),
            Timer::BudgetRefill => {
                self.cx.offline.forget_waits();
                self.cx.policy.budget.refill();
            }
            Timer::Offer
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
            | Timer::MediaGiveUp
            | Timer::SetUp => self.in_attempt(|attempt, cx| attempt.on_timer(cx, timer)),
        }
    }

    fn start_attempt(&mut self, from: Phase) {
        self.state = State::Attempt(Box::new(Attempt::start(&mut self.cx, from)));
    }

    /// Decides what follows the attempt, and begins to close what it opened.
    fn end_attempt(&mut self, end: AttemptEnd) {
        let state = core::mem::take(&mut self.state);
        let State::Attempt(attempt) = state else {
            self.state = state;
            return;
        };
        let cx = &mut self.cx;
        tracing::info!(attempt = cx.attempt, cause = %end, at = %cx.now, "attempt over");
        let reached = attempt.reached;
        self.was_live |= reached.live;
        let reason = end.reason(reached.ice_connected, reached.connected);
        let then = cx.policy.what_follows(&cx.config, cx.now, &end, reached.live, reason);
        self.state = State::Closing(Closing::begin(cx, *attempt, end, then));
        self.advance_closing();
    }

    fn advance_closing(&mut self) {
        let State::Closing(mut closing) = core::mem::take(&mut self.state) else { return };
        if closing.advance(&mut self.cx) {
            self.on_closed(closing);
        } else {
            self.state = State::Closing(closing);
        }
    }

    /// Everything that the attempt opened is closed.
    fn on_closed(&mut self, closing: Closing) {
        let report = AttemptReport {
            attempt: closing.attempt,
            client_id: closing.client_id,
            started: closing.started,
            ended: closing.ended,
            end: closing.end,
            evidence: self.cx.take_evidence(),
        };
        self.cx.tell(Event::AttemptEnded(Box::new(report.clone())));
        if self.reports.len() == Outcome::ATTEMPTS_MAX {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
        match closing.then {
            Then::End(reason) => self.end(Phase::Closing, reason),
            Then::Retry(Duration::ZERO) if !self.cx.offline.frozen => {
                self.start_attempt(Phase::Closing);
            }
            Then::Retry(pause) => self.back_off(pause),
        }
    }

    fn back_off(&mut self, pause: Duration) {
        let (attempt, at) = (self.cx.attempt + 1, self.cx.now + pause);
        self.state = State::BackingOff;
        self.cx.phase_changed(Phase::Closing, Phase::BackingOff);
        self.cx.tell(Event::RetryScheduled { attempt, at });
        self.cx.arm_at(Timer::RetryDelay, at);
    }

    /// Something changed for the better while the session waits before its next attempt: that
    /// begins now, or as soon as the service's throttling allows (contract, N16).
    fn retry_now(&mut self) {
        let allowed = self.cx.policy.throttled_until;
        if self.cx.now >= allowed {
            self.start_attempt(Phase::BackingOff);
        } else {
            self.cx.shorten_to(Timer::RetryDelay, allowed);
        }
    }

    /// The end of the session; nothing follows.
    fn end(&mut self, from: Phase, reason: EndReason) {
        self.state = State::Ended;
        let cx = &mut self.cx;
        cx.timers.disarm_all();
        cx.in_flight.forget_all();
        cx.offline.end();
        cx.phase_changed(from, Phase::Ended);
        // What was ignored after the last attempt.
        if let Some(last) = self.reports.back_mut() {
            last.evidence.count_ignored(core::mem::take(&mut cx.ignored));
        }
        let outcome = Outcome {
            reason,
            was_live: self.was_live,
            attempts_total: cx.attempt,
            attempts: self.reports.iter().cloned().collect(),
            lasted: cx.now.saturating_since(self.opened),
        };
        cx.tell(Event::Ended(Box::new(outcome)));
    }
}

fn is_cancelled(outcome: &Result<Done, Failure>) -> bool {
    matches!(outcome, Err(failure) if failure.code == FailureCode::Cancelled)
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;
