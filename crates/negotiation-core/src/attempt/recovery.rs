//! [`Recovery`]: the deadlines of a live connection that was lost (contract, N18): first the grace
//! for ICE to come back by itself, then the restart.

use core::time::Duration;

use crate::config::Config;
use crate::context::Context;
use crate::output::Event;
use crate::time::Timer;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Recovery {
    /// ICE is disconnected, and the grace runs.
    pub(crate) grace: bool,
    /// The deadline of a restart runs. Both may: ICE can be lost again while a restart is open.
    pub(crate) restart: bool,
    /// The local address of the pair in use is gone: nothing can come back on it.
    pub(crate) address_gone: bool,
}

impl Recovery {
    /// The whole deadline of a restart.
    pub(crate) fn restart_timeout(&self, config: &Config) -> Duration {
        let whole = config.settings().restart_timeout;
        if self.address_gone {
            whole.min(config.settings().restart_timeout_address_gone)
        } else {
            whole
        }
    }

    /// ICE receives nothing: it has the grace to come back by itself.
    pub(crate) fn begin_grace(&mut self, cx: &mut Context) {
        self.grace = true;
        cx.tell(Event::Disconnected);
        cx.arm(Timer::Grace, cx.config.settings().disconnect_grace);
    }

    /// ICE is back.
    pub(crate) fn on_back(&mut self, cx: &mut Context) {
        if core::mem::replace(&mut self.grace, false) {
            cx.disarm(Timer::Grace);
            cx.tell(Event::Reconnected);
        }
    }

    /// A restart is needed. One that is open keeps its deadline, unless its address is gone
    /// meanwhile.
    pub(crate) fn begin_restart(&mut self, cx: &mut Context) {
        self.grace = false;
        cx.disarm(Timer::Grace);
        cx.disarm(Timer::BudgetRefill);
        self.restart = true;
        let within = self.restart_timeout(&cx.config);
        cx.arm_or_shorten(Timer::Restart, within);
    }

    pub(crate) fn end_restart(&mut self, cx: &mut Context) {
        self.restart = false;
        cx.disarm(Timer::Restart);
    }

    /// A remote session has to be set up again.
    pub(crate) fn stop_waiting(&mut self, cx: &mut Context) {
        (self.grace, self.restart) = (false, false);
        for timer in [Timer::Grace, Timer::Restart, Timer::BudgetRefill] {
            cx.disarm(timer);
        }
    }
}
