//! The recovery ladder of a live session (contract, N18): wait, restart ICE, begin again.

use core::time::Duration;

use super::state::{Need, Step};
use super::{Purpose, Session};
use crate::config::Mode;
use crate::error::Ignored;
use crate::evidence::{AttemptEnd, Deadline};
use crate::input::Connectivity;
use crate::output::{Event, PeerCommand};
use crate::phase::Phase;
use crate::recovery::{MasterKnowledge, RecoveryCause};
use crate::time::Timer;

impl Session {
    /// The platform's network changed; `gone`: the local address of the pair in use with it.
    pub(super) fn on_network_changed(&mut self, gone: bool) {
        match self.phase {
            Phase::Live | Phase::Recovering => {
                if let Some(attempt) = &mut self.attempt {
                    attempt.address_gone |= gone;
                }
                self.recover_on_another_network();
            }
            // What is being set up stands on sockets that may be dead.
            Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia => self.end_attempt(AttemptEnd::NetworkChanged),
            Phase::Idle | Phase::BackingOff | Phase::Closing | Phase::Ended => {
                self.ignore(Ignored::OutOfPhase);
            }
        }
    }

    /// The open link stands on the network before. Until a ping finds that out, a restart sent on
    /// it would only wait for its deadline; so it waits for another link instead (contract, 26).
    fn recover_on_another_network(&mut self) {
        self.renew_link();
        self.recover(RecoveryCause::NetworkChanged);
    }

    pub(super) fn on_restart(&mut self) {
        match self.phase {
            Phase::Live | Phase::Recovering => self.recover(RecoveryCause::Requested),
            // Remembered until there is a connection to restart (contract, N1). Before the first
            // offer is asked for there is nothing to add: it has new credentials anyway.
            Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
                if self.may_restart() =>
            {
                if let Some(attempt) = &mut self.attempt
                    && attempt.exchange.number > 0
                {
                    attempt.exchange.want_restart(Need::Asked);
                }
            }
            Phase::Idle
            | Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::BackingOff
            | Phase::Closing
            | Phase::Ended => self.ignore(Ignored::OutOfPhase),
        }
    }

    /// Rung (b), or (c) where a restart is known to be useless.
    pub(super) fn recover(&mut self, cause: RecoveryCause) {
        let possible = self.may_restart();
        let Some(attempt) = &mut self.attempt else { return };
        if !possible {
            return match cause {
                RecoveryCause::Disconnected => {
                    self.lose_master(cause);
                    self.end_attempt(AttemptEnd::Deadline(Deadline::Grace));
                }
                RecoveryCause::IceFailed => {
                    self.lose_master(cause);
                    self.end_attempt(AttemptEnd::IceFailed);
                }
                RecoveryCause::NetworkChanged => self.end_attempt(AttemptEnd::NetworkChanged),
                RecoveryCause::Requested => self.ignore(Ignored::OutOfPhase),
                RecoveryCause::ClosedByPeer | RecoveryCause::Silent => {
                    self.end_attempt(AttemptEnd::MasterGone);
                }
            };
        }
        let asked = matches!(cause, RecoveryCause::Requested | RecoveryCause::NetworkChanged);
        attempt.exchange.want_restart(if asked { Need::Asked } else { Need::Loss });
        if self.timers.at(Timer::Restart).is_none() {
            // A link that once refused an offer may take this one.
            attempt.exchange.unsent_on = None;
        }
        self.enter_recovery(cause);
    }

    /// Whether a restart can be run, and the master is not known to ignore it.
    fn may_restart(&self) -> bool {
        let able = self.attempt.as_ref().is_some_and(|attempt| {
            let links = &attempt.links;
            // No link that an offer could go out on, and none will be opened.
            let mute = links.given_up && links.open.is_none();
            !attempt.exchange.is_stuck() && !mute
        });
        able && self.config.mode == Mode::Offerer && !self.master.ignores_restarts()
    }

    /// The whole deadline of a restart.
    pub(super) fn restart_timeout(&self) -> Duration {
        let whole = self.config.restart_timeout;
        if self.attempt.as_ref().is_some_and(|attempt| attempt.address_gone) {
            return whole.min(self.config.restart_timeout_address_gone);
        }
        whole
    }

    fn enter_recovery(&mut self, cause: RecoveryCause) {
        self.timers.disarm(Timer::Grace);
        self.timers.disarm(Timer::BudgetRefill);
        let at = self.now + self.restart_timeout();
        // One that is open has its time, unless its address is gone meanwhile.
        if self.timers.at(Timer::Restart).is_none_or(|armed| at < armed) {
            self.arm(Timer::Restart, at);
        }
        if self.phase == Phase::Live {
            self.set_phase(Phase::Recovering);
            self.tell(Event::Recovering(cause));
        }
    }

    /// One that was remembered while another was open has a deadline of its own (contract, N18).
    pub(super) fn on_restart_begins(&mut self, remembered: bool) {
        if let Some(attempt) = &mut self.attempt {
            attempt.evidence.restarts = attempt.evidence.restarts.saturating_add(1);
        }
        if remembered {
            self.timers.disarm(Timer::Restart);
        }
        self.enter_recovery(RecoveryCause::Requested);
    }

    /// Whether media gets through now, as far as anybody knows.
    pub(super) fn flows(&self) -> bool {
        let connected =
            self.attempt.as_ref().is_some_and(|a| a.connectivity == Connectivity::Connected);
        // A camera that is paused has nothing that could flow (contract, N27).
        let paused = self.attempt.as_ref().is_some_and(|a| a.paused);
        connected && (paused || self.timers.at(Timer::MediaGiveUp).is_none())
    }

    /// The connection is up again while a restart was on its way.
    pub(super) fn on_recovered(&mut self) {
        if self.phase != Phase::Recovering {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        let (open, exchange) = (attempt.links.open, &mut attempt.exchange);
        if exchange.is_restart_avoidable() {
            // Many masters answer a restart with a new connection: what flows again is not put at
            // stake for a loss that is over.
            self.abandon_restart();
        } else if !exchange.is_restarting() {
            // One that waits is not needed any more, unless it was asked for and can begin
            // (contract, N1).
            let can_begin = open.is_some() && exchange.unsent_on != open;
            if exchange.restart_wanted != Some(Need::Asked) || !can_begin {
                exchange.forget_restart();
            }
            self.timers.disarm(Timer::Restart);
        } else if exchange.restart_wanted == Some(Need::Loss) {
            // What was lost while one is open is back as well.
            exchange.restart_wanted = None;
        }
        self.set_phase(Phase::Live);
        self.tell(Event::Recovered);
        self.refill_later();
    }

    /// A restart that is done and connected has no deadline any more, whatever the phase.
    pub(super) fn settle_restart(&mut self) {
        let open = self.attempt.as_ref().is_some_and(|attempt| attempt.exchange.has_restart());
        if self.phase == Phase::Live && !open {
            self.timers.disarm(Timer::Restart);
        }
    }

    /// The restart's deadline: what flows is left alone, what does not begins again.
    pub(super) fn on_restart_deadline(&mut self) {
        self.tell(Event::DeadlineFired(Timer::Restart));
        if self.is_restart_ignored() {
            self.learn_useless();
        }
        if !self.flows() {
            self.lose_master(RecoveryCause::Disconnected);
            return self.end_attempt(AttemptEnd::Deadline(Deadline::Restart));
        }
        self.abandon_restart();
        self.on_recovered();
    }

    /// The master answered a restart with what is no restart (contract, N4 and N18).
    pub(super) fn on_restart_refused(&mut self, started_over: bool) {
        self.ignore(Ignored::RefusedRestart);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.exchange.restart.is_some()) {
            self.learn_useless();
        }
        // A master that made a new connection has closed the old one.
        if started_over {
            self.lose_master(RecoveryCause::ClosedByPeer);
            return self.end_attempt(AttemptEnd::StartedOver);
        }
        if !self.flows() {
            self.lose_master(RecoveryCause::ClosedByPeer);
            return self.end_attempt(AttemptEnd::RestartFailed);
        }
        self.abandon_restart();
        self.on_recovered();
    }

    /// The master had most of a restart's deadline on a link that is still open, and said nothing
    /// (contract, N18).
    fn is_restart_ignored(&self) -> bool {
        let Some(attempt) = &self.attempt else { return false };
        let exchange = &attempt.exchange;
        let awaited = exchange.is_restarting() && exchange.step == Step::AwaitingAnswer;
        let carried = exchange.outgoing.as_ref().map(|(link, _)| *link);
        let reachable = carried.is_some() && carried == attempt.links.open;
        let since = exchange.awaited_since.unwrap_or(self.now);
        awaited && reachable && self.now.saturating_since(since) * 2 >= self.restart_timeout()
    }

    fn learn_useless(&mut self) {
        if !self.master.ignores_restarts() {
            self.tell(Event::RestartRefused);
            let known = self.master;
            self.learn(MasterKnowledge { answers_restarts: Some(false), ..known });
        }
    }

    /// An offer that was never set is forgotten; one that was set is taken back.
    fn abandon_restart(&mut self) {
        self.timers.disarm(Timer::Restart);
        let Some(attempt) = &mut self.attempt else { return };
        let was_open = attempt.exchange.restart.is_some();
        attempt.exchange.forget_restart();
        match &attempt.exchange.step {
            Step::AwaitingAnswer | Step::LocalSet(_) => {
                attempt.exchange.abandoned = true;
                self.take_back();
            }
            Step::RefreshingServers | Step::Created(_) => attempt.exchange.step = Step::Stable,
            Step::SettingServers(_) => attempt.exchange.step = Step::SettingServers(None),
            // What is under way ends by itself and is then dropped.
            Step::CreatingOffer | Step::SettingLocal(_) | Step::Sending => {
                attempt.exchange.abandoned = true;
            }
            // It is answered: if it fails, no further restart was requested.
            Step::ApplyingLocal(_) | Step::SettingRemote | Step::RollingBack => {
                attempt.exchange.abandoned = was_open;
            }
            // Nothing of it is open.
            Step::Stable
            | Step::SettingOffer
            | Step::CreatingAnswer
            | Step::SettingAnswer(_)
            | Step::AnswerSet(_)
            | Step::SendingAnswer
            | Step::Replacing => {}
        }
    }

    /// Told once for each time that the master was seen.
    pub(super) fn lose_master(&mut self, cause: RecoveryCause) {
        if let Some(attempt) = &mut self.attempt
            && attempt.master_here
        {
            attempt.master_here = false;
            self.tell(Event::MasterGone(cause));
        }
    }

    pub(super) fn on_online(&mut self, online: bool) {
        match (online, self.offline_since) {
            (false, None) if !matches!(self.phase, Phase::Idle | Phase::Ended) => {
                self.offline_since = Some(self.now);
                if let Some(attempt) = &mut self.attempt {
                    attempt.evidence.was_offline = true;
                }
                self.tell(Event::Offline);
                // However often the network comes and goes, no attempt waits for longer in all.
                let left = self.config.offline_limit.saturating_sub(self.frozen_for);
                self.offline_until = self.now + left;
                if !left.is_zero() {
                    self.frozen = true;
                    self.timers.arm(Timer::Offline, self.offline_until);
                }
            }
            (true, Some(_)) => {
                self.thaw();
                self.offline_since = None;
                self.tell(Event::Online);
                match self.phase {
                    Phase::BackingOff => self.retry_now(),
                    Phase::Live | Phase::Recovering if !self.flows() => {
                        self.recover_on_another_network();
                    }
                    Phase::Idle
                    | Phase::Connecting
                    | Phase::Offering
                    | Phase::AwaitingAnswer
                    | Phase::AwaitingOffer
                    | Phase::Answering
                    | Phase::Establishing
                    | Phase::AwaitingMedia
                    | Phase::Live
                    | Phase::Recovering
                    | Phase::Closing
                    | Phase::Ended => {}
                }
            }
            (false, _) | (true, None) => self.ignore(Ignored::OutOfPhase),
        }
    }

    /// An attempt's end disarms what was its own; the network is still away.
    pub(super) fn restore_offline_deadline(&mut self) {
        if self.frozen {
            self.timers.arm(Timer::Offline, self.offline_until);
        }
    }

    /// Deadlines go on; the time without a network did not count.
    pub(super) fn thaw(&mut self) {
        self.timers.disarm(Timer::Offline);
        if !core::mem::take(&mut self.frozen) {
            return;
        }
        let since = self.offline_since.unwrap_or(self.now);
        let away = self.now.saturating_since(since);
        self.frozen_for = self.frozen_for.saturating_add(away);
    }

    /// The time since the last input does not count for what stands still.
    pub(super) fn hold_deadlines(&mut self, passed: Duration) {
        self.timers.shift(passed);
        self.in_flight.shift(passed);
        if let Some(attempt) = &mut self.attempt {
            let since = &mut attempt.exchange.awaited_since;
            *since = since.map(|since| since + passed);
        }
        self.restore_offline_deadline();
    }

    /// Whether deadlines stand still: never while something is being closed.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen && self.closing.is_none()
    }

    /// Asks the stack to take back what it has of a description that came to nothing.
    pub(super) fn roll_back(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let peer = attempt.peer;
        attempt.exchange.step = Step::RollingBack;
        self.timers.disarm(Timer::Answer);
        self.ask_peer(Purpose::Rollback, PeerCommand::Rollback { peer });
    }
}

#[cfg(test)]
mod master_tests;
#[cfg(test)]
mod tests;
