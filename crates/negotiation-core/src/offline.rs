//! [`Offline`]: for how long deadlines stand still while the platform has no network.

use core::time::Duration;

use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offline {
    /// The platform has no network since.
    pub(crate) since: Option<Timestamp>,
    /// Deadlines stand still.
    pub(crate) frozen: bool,
    /// Until then at most.
    pub(crate) until: Timestamp,
    /// They stood still for so long in this attempt before.
    pub(crate) frozen_for: Duration,
}

impl Offline {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { since: None, frozen: false, until: now, frozen_for: Duration::ZERO }
    }

    pub(crate) fn frozen_until(&self) -> Option<Timestamp> {
        self.frozen.then_some(self.until)
    }

    /// The network is away. However often it comes and goes, no attempt waits for longer than
    /// `limit` in all.
    pub(crate) fn freeze(&mut self, now: Timestamp, limit: Duration) {
        self.since = Some(now);
        let left = limit.saturating_sub(self.frozen_for);
        self.until = now + left;
        self.frozen = !left.is_zero();
    }

    /// Deadlines go on.
    pub(crate) fn thaw(&mut self, now: Timestamp) {
        if core::mem::replace(&mut self.frozen, false) {
            let away = now.saturating_since(self.since.unwrap_or(now));
            self.frozen_for = self.frozen_for.saturating_add(away);
        }
    }

    /// How long deadlines may stand still is counted from zero again.
    pub(crate) fn forget_waits(&mut self) {
        self.frozen_for = Duration::ZERO;
    }

    pub(crate) fn end(&mut self) {
        self.since = None;
        self.frozen = false;
    }
}
