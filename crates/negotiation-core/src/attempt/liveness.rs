//! Connected, live, lost, and recovered: wait, restart ICE, begin again (contract, N18).

use super::exchange::ExchangeState;
use super::exchange::state::RestartReason;
use super::{Attempt, Stage};
use crate::config::Mode;
use crate::context::{Context, Flow, ON, over};
use crate::error::Ignored;
use crate::evidence::{AttemptEnd, Deadline};
use crate::input::Connectivity;
use crate::master::{MasterKnowledge, RecoveryCause};
use crate::output::Event;
use crate::time::Timer;

impl Attempt {
    pub(super) fn on_connectivity(&mut self, cx: &mut Context, now: Connectivity) -> Flow {
        let before = core::mem::replace(&mut self.peer.connectivity, now);
        let media = matches!(self.stage, Stage::AwaitingMedia | Stage::Live);
        match now {
            // ICE looks for a pair again by itself: a loss like any other.
            Connectivity::Checking | Connectivity::Disconnected => {
                let restarting = now == Connectivity::Checking && self.recovery.restart;
                if media && before != now && !self.recovery.grace && !restarting {
                    self.recovery.begin_grace(cx);
                }
            }
            Connectivity::IceConnected => {
                self.reached.ice_connected = true;
                cx.evidence.ice_connected = true;
                self.recovery.on_back(cx);
            }
            Connectivity::Connected => {
                (self.reached.ice_connected, self.reached.connected) = (true, true);
                (cx.evidence.ice_connected, cx.evidence.connected) = (true, true);
                self.recovery.address_gone = false;
                self.see_master(cx);
                self.recovery.on_back(cx);
                if self.stage == Stage::Establishing {
                    self.on_connection_up(cx);
                }
                self.on_recovered(cx);
                self.settle_restart(cx);
            }
            Connectivity::IceFailed | Connectivity::DtlsFailed | Connectivity::ClosedByPeer => {
                return self.on_connection_failed(cx, now);
            }
        }
        ON
    }

    fn on_connection_failed(&mut self, cx: &mut Context, now: Connectivity) -> Flow {
        match self.stage {
            Stage::Live if now == Connectivity::IceFailed => {
                return self.recover(cx, RecoveryCause::IceFailed);
            }
            // A restart that is under way has its own deadline, unless it was fruitless.
            Stage::Recovering if now == Connectivity::IceFailed => {
                if self.exchange.has_restart() {
                    return ON;
                }
                self.lose_master(cx, RecoveryCause::IceFailed);
            }
            Stage::Establishing | Stage::AwaitingMedia | Stage::Live | Stage::Recovering => {}
            Stage::Connecting
            | Stage::Offering
            | Stage::AwaitingAnswer
            | Stage::AwaitingOffer
            | Stage::Answering => {
                cx.ignore(Ignored::OutOfPhase);
                return ON;
            }
        }
        over(match now {
            Connectivity::DtlsFailed => AttemptEnd::DtlsFailed,
            Connectivity::ClosedByPeer => {
                self.lose_master(cx, RecoveryCause::ClosedByPeer);
                AttemptEnd::MasterGone
            }
            Connectivity::IceFailed
            | Connectivity::Checking
            | Connectivity::IceConnected
            | Connectivity::Connected
            | Connectivity::Disconnected => AttemptEnd::IceFailed,
        })
    }

    /// ICE and DTLS are up.
    pub(super) fn on_connection_up(&mut self, cx: &mut Context) {
        cx.disarm(Timer::Establish);
        cx.tell(Event::Connected);
        if self.live_if_media_flows(cx) {
            return;
        }
        self.enter(cx, Stage::AwaitingMedia);
        cx.arm(Timer::FirstMedia, cx.config.settings().first_media_timeout);
        if self.media.video {
            self.media.request_keyframe(cx, self.peer.id);
        }
    }

    /// Media came that may be what the attempt waits for.
    pub(super) fn on_media(&mut self, cx: &mut Context) {
        if self.stage == Stage::AwaitingMedia {
            self.live_if_media_flows(cx);
        }
    }

    fn live_if_media_flows(&mut self, cx: &mut Context) -> bool {
        if !self.media.is_live(&cx.config) {
            return false;
        }
        self.reached.live = true;
        cx.evidence.was_live = true;
        self.replacements = 0;
        cx.policy.answers_refused = 0;
        cx.disarm(Timer::FirstMedia);
        cx.disarm(Timer::KeyframeRequest);
        cx.disarm(Timer::SetUp);
        self.enter(cx, Stage::Live);
        cx.tell(Event::Live);
        self.refill_later(cx);
        true
    }

    /// The budget is full again after a time that is live, and without a stall (contract, N14).
    pub(super) fn refill_later(&self, cx: &mut Context) {
        if self.stage == Stage::Live && self.media.stalled.is_none() {
            cx.wake_after(Timer::BudgetRefill, cx.config.settings().refill_after);
        }
    }

    /// Whether nothing is known to keep media from flowing now.
    pub(crate) fn flows(&self) -> bool {
        self.peer.is_connected() && self.media.may_flow()
    }

    // Recovery.

    /// The platform's network changed; `gone`: the local address of the pair in use with it.
    pub(crate) fn on_network_changed(&mut self, cx: &mut Context, gone: bool) -> Flow {
        if !self.stage.is_up() {
            // What is being set up stands on sockets that may be dead.
            return over(AttemptEnd::NetworkChanged);
        }
        self.recovery.address_gone |= gone;
        self.recover_on_another_network(cx)
    }

    /// The platform has a network again.
    pub(crate) fn on_online(&mut self, cx: &mut Context) -> Flow {
        if self.stage.is_up() && !self.flows() {
            return self.recover_on_another_network(cx);
        }
        ON
    }

    /// The open connection stands on the network before. Until a ping finds that out, a restart
    /// sent on it would only wait for its deadline; so it waits for another one instead
    /// (contract, 26).
    fn recover_on_another_network(&mut self, cx: &mut Context) -> Flow {
        self.connections.renew(cx);
        self.recover(cx, RecoveryCause::NetworkChanged)
    }

    /// The application requests an ICE restart. In the set-up it is remembered until there is a
    /// connection to restart (contract, N1); before the first offer is created there is nothing to
    /// add, since that one has new credentials anyway.
    pub(crate) fn on_restart(&mut self, cx: &mut Context) -> Flow {
        if self.stage.is_up() {
            return self.recover(cx, RecoveryCause::Requested);
        }
        if self.stage == Stage::AwaitingOffer || !self.may_restart(cx) {
            cx.ignore(Ignored::OutOfPhase);
        } else if self.exchange.number > 0 {
            self.exchange.request_restart(RestartReason::Requested);
        }
        ON
    }

    /// The application requests a new exchange. In a storage session the service offers.
    pub(crate) fn on_renegotiate(&mut self, cx: &mut Context) {
        if cx.config.settings().mode != Mode::Offerer || !self.exchange.request_negotiation() {
            cx.ignore(Ignored::OutOfPhase);
        }
    }

    /// Restarts ICE, or ends the attempt where a restart is known to be useless.
    fn recover(&mut self, cx: &mut Context, cause: RecoveryCause) -> Flow {
        if !self.may_restart(cx) {
            return self.give_up_recovery(cx, cause);
        }
        let requested = matches!(cause, RecoveryCause::Requested | RecoveryCause::NetworkChanged);
        self.exchange.request_restart(if requested {
            RestartReason::Requested
        } else {
            RestartReason::ConnectivityLost
        });
        if !self.recovery.restart {
            // A connection that once refused an offer may take this one.
            self.exchange.needed.unsent_on = None;
        }
        self.enter_recovery(cx, cause);
        ON
    }

    fn give_up_recovery(&mut self, cx: &mut Context, cause: RecoveryCause) -> Flow {
        over(match cause {
            RecoveryCause::Disconnected => {
                self.lose_master(cx, cause);
                AttemptEnd::Deadline(Deadline::Grace)
            }
            RecoveryCause::IceFailed => {
                self.lose_master(cx, cause);
                AttemptEnd::IceFailed
            }
            RecoveryCause::NetworkChanged => AttemptEnd::NetworkChanged,
            RecoveryCause::Requested => {
                cx.ignore(Ignored::OutOfPhase);
                return ON;
            }
            RecoveryCause::ClosedByPeer | RecoveryCause::Silent => AttemptEnd::MasterGone,
        })
    }

    /// Whether a restart can be run, and the master is not known to ignore it.
    fn may_restart(&self, cx: &Context) -> bool {
        let able = self.exchange.at() != ExchangeState::Unknown && !self.connections.is_mute();
        able && cx.config.settings().mode == Mode::Offerer && !cx.policy.master.ignores_restarts()
    }

    fn enter_recovery(&mut self, cx: &mut Context, cause: RecoveryCause) {
        self.recovery.begin_restart(cx);
        if self.stage == Stage::Live {
            self.enter(cx, Stage::Recovering);
            cx.tell(Event::Recovering(cause));
        }
    }

    /// A restart that was requested while another was open has a deadline of its own (contract,
    /// N18).
    pub(super) fn on_restart_begins(&mut self, cx: &mut Context, has_own_deadline: bool) {
        cx.evidence.restarts = cx.evidence.restarts.saturating_add(1);
        if has_own_deadline {
            self.recovery.end_restart(cx);
        }
        self.enter_recovery(cx, RecoveryCause::Requested);
    }

    /// The connection is up again while a restart was on its way.
    pub(super) fn on_recovered(&mut self, cx: &mut Context) {
        if self.stage != Stage::Recovering {
            return;
        }
        if self.exchange.is_restart_avoidable() {
            // Many masters answer a restart with a new connection: connectivity is back, so do not
            // risk it with a restart.
            self.abandon_restart(cx);
        } else if !self.exchange.is_restarting() {
            self.exchange.forget_needless_restart(self.connections.open);
            self.recovery.end_restart(cx);
        } else if self.exchange.needed.restart == Some(RestartReason::ConnectivityLost) {
            // What was lost while one is open is back as well.
            self.exchange.needed.restart = None;
        }
        self.enter(cx, Stage::Live);
        cx.tell(Event::Recovered);
        self.refill_later(cx);
    }

    /// A restart that is done and connected has no deadline any more, whatever the stage.
    pub(super) fn settle_restart(&mut self, cx: &mut Context) {
        if self.stage == Stage::Live && !self.exchange.has_restart() {
            self.recovery.end_restart(cx);
        }
    }

    fn abandon_restart(&mut self, cx: &mut Context) {
        self.recovery.end_restart(cx);
        if self.exchange.abandon_restart() {
            self.take_back(cx);
        }
    }

    pub(super) fn on_grace_deadline(&mut self, cx: &mut Context) -> Flow {
        cx.tell(Event::DeadlineFired(Timer::Grace));
        self.recovery.grace = false;
        if self.stage == Stage::Live {
            return self.recover(cx, RecoveryCause::Disconnected);
        }
        over(AttemptEnd::Deadline(Deadline::Grace))
    }

    /// The restart's deadline: what flows is left alone, what does not begins again.
    pub(super) fn on_restart_deadline(&mut self, cx: &mut Context) -> Flow {
        cx.tell(Event::DeadlineFired(Timer::Restart));
        self.recovery.restart = false;
        if self.is_restart_ignored(cx) {
            learn_useless(cx);
        }
        if !self.flows() {
            self.lose_master(cx, RecoveryCause::Disconnected);
            return over(AttemptEnd::Deadline(Deadline::Restart));
        }
        self.abandon_restart(cx);
        self.on_recovered(cx);
        ON
    }

    /// The master answered a restart with what is no restart (contract, N4 and N18).
    pub(super) fn on_restart_refused(&mut self, cx: &mut Context, started_over: bool) -> Flow {
        cx.ignore(Ignored::RefusedRestart);
        if self.exchange.is_restarting() {
            learn_useless(cx);
        }
        // A master that made a new connection has closed the old one.
        if started_over || !self.flows() {
            self.lose_master(cx, RecoveryCause::ClosedByPeer);
            return over(if started_over {
                AttemptEnd::StartedOver
            } else {
                AttemptEnd::RestartFailed
            });
        }
        self.abandon_restart(cx);
        self.on_recovered(cx);
        ON
    }

    /// The master had most of a restart's deadline, on a connection that is still open, and sent no
    /// answer (contract, N18).
    fn is_restart_ignored(&self, cx: &Context) -> bool {
        let since = self.exchange.restart_awaited_since(self.connections.open);
        let whole = self.recovery.restart_timeout(&cx.config);
        since.is_some_and(|since| cx.now.saturating_since(since) * 2 >= whole)
    }
}

/// The master is known to refuse or ignore restarts from now on.
fn learn_useless(cx: &mut Context) {
    if !cx.policy.master.ignores_restarts() {
        cx.tell(Event::RestartRefused);
        let known = cx.policy.master;
        cx.learn(MasterKnowledge { answers_restarts: Some(false), ..known });
    }
}

#[cfg(test)]
mod master_tests;
#[cfg(test)]
mod tests;
