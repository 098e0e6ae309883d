//! Virtual time: a timestamp that needs no clock, the names of the deadlines, and their table.
//!
//! Nothing here reads a clock; the host passes the time in.

use alloc::collections::BTreeMap;
use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A moment, as the time since an origin that the host chose once for the session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The latest moment that a session takes: every deadline after it is still later.
    pub(crate) const LATEST: Self = Self(Duration::from_secs(u64::MAX / 2));

    /// The moment `since_origin` after the origin.
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The moment `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Time since the origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// Time since `earlier`, zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the session wakes. One slot each; contract part 4 gives the durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Timer {
    /// The connection is not open: credentials, control plane, socket.
    Connect,
    /// The ICE servers are not here.
    IceServers,
    /// Another command is not completed by its port.
    Operation,
    /// No offer from the service (answerer mode).
    Offer,
    /// Time to join again (answerer mode).
    Join,
    /// No valid answer to the offer.
    Answer,
    /// ICE and DTLS are not up after the answer.
    Establish,
    /// Connected, but no media that counts.
    FirstMedia,
    /// The next request for a keyframe.
    KeyframeRequest,
    /// Time to send the next local candidate within the quota.
    CandidatePacing,
    /// ICE stays disconnected longer than the grace.
    Grace,
    /// The ICE restart is not answered, or brought nothing.
    Restart,
    /// Time to open the lost connection again.
    LinkReopen,
    /// Time to follow a GO_AWAY.
    GoAway,
    /// The network has been away for as long as deadlines stand still for it.
    Offline,
    /// The delay before the next attempt is over.
    RetryDelay,
    /// The session has been live long enough: the budget is full again.
    BudgetRefill,
    /// No media came back after a stall.
    MediaGiveUp,
    /// One step of closing hangs.
    CloseStep,
    /// The attempt is not live after all the time that its stages may take.
    SetUp,
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::IceServers => "ice-servers",
            Self::Operation => "operation",
            Self::Offer => "offer",
            Self::Join => "join",
            Self::Answer => "answer",
            Self::Establish => "establish",
            Self::FirstMedia => "first-media",
            Self::KeyframeRequest => "keyframe-request",
            Self::CandidatePacing => "candidate-pacing",
            Self::Grace => "grace",
            Self::Restart => "restart",
            Self::LinkReopen => "link-reopen",
            Self::GoAway => "go-away",
            Self::Offline => "offline",
            Self::RetryDelay => "retry-delay",
            Self::BudgetRefill => "budget-refill",
            Self::MediaGiveUp => "media-give-up",
            Self::CloseStep => "close-step",
            Self::SetUp => "set-up",
        })
    }
}

/// The armed deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TimerTable(BTreeMap<Timer, Timestamp>);

impl TimerTable {
    pub(crate) fn arm(&mut self, timer: Timer, at: Timestamp) {
        self.0.insert(timer, at);
    }

    /// Arms a deadline, unless it is armed for this moment or an earlier one. Returns whether it
    /// did.
    pub(crate) fn arm_if_earlier(&mut self, timer: Timer, at: Timestamp) -> bool {
        let earlier = self.0.get(&timer).is_none_or(|armed| at < *armed);
        if earlier {
            self.arm(timer, at);
        }
        earlier
    }

    /// Moves an armed deadline forward to this moment. Returns whether it did.
    pub(crate) fn shorten(&mut self, timer: Timer, at: Timestamp) -> bool {
        self.0.contains_key(&timer) && self.arm_if_earlier(timer, at)
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    pub(crate) fn disarm_all(&mut self) {
        self.0.clear();
    }

    /// The earliest of all but one.
    pub(crate) fn earliest_but(&self, but: Timer) -> Option<Timestamp> {
        self.0.iter().filter(|(timer, _)| **timer != but).map(|(_, at)| *at).min()
    }

    pub(crate) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.0.get(&timer).copied()
    }

    /// Moves every deadline: the time between did not count.
    pub(crate) fn shift(&mut self, by: Duration) {
        for at in self.0.values_mut() {
            *at = *at + by;
        }
    }

    /// Moves each deadline.
    pub(crate) fn map(&mut self, moved: impl Fn(Timestamp) -> Timestamp) {
        for at in self.0.values_mut() {
            *at = moved(*at);
        }
    }

    /// Every timer that is armed.
    pub(crate) fn armed(&self) -> impl Iterator<Item = Timer> {
        self.0.keys().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The earliest deadline; of equal ones the first in the enum's order.
    pub(crate) fn earliest(&self) -> Option<(Timestamp, Timer)> {
        self.0.iter().map(|(timer, at)| (*at, *timer)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn timestamp_reads_as_seconds() {
        assert_eq!(Timestamp::from_millis(12_034).to_string(), "12.034s");
    }

    #[test]
    fn deadlines_are_moved_together() {
        let at = Timestamp::from_millis;
        let mut table = TimerTable::default();
        assert!(table.is_empty());
        table.arm(Timer::Answer, at(5));
        assert!(!table.is_empty());
        table.map(|deadline| deadline + Duration::from_millis(10));
        assert_eq!(table.at(Timer::Answer), Some(at(15)));
        table.shift(Duration::from_millis(2));
        assert_eq!(table.earliest(), Some((at(17), Timer::Answer)));
    }

    #[test]
    fn moments_are_counted_from_the_origin() {
        let at = Timestamp::from_millis(1500);
        assert_eq!(at.since_origin(), Duration::from_millis(1500));
        assert_eq!(at.saturating_since(Timestamp::from_millis(400)), Duration::from_millis(1100));
        assert_eq!(Timestamp::from_millis(400).saturating_since(at), Duration::ZERO);
        let end = Timestamp::new(Duration::MAX) + Duration::from_secs(1);
        assert_eq!(end, Timestamp::new(Duration::MAX), "time does not wrap");
    }

    #[test]
    fn earliest_deadline_comes_first_and_ties_are_stable() {
        let mut table = TimerTable::default();
        table.arm(Timer::RetryDelay, Timestamp::from_millis(5));
        table.arm(Timer::Answer, Timestamp::from_millis(5));
        table.arm(Timer::Establish, Timestamp::from_millis(9));
        assert_eq!(table.earliest(), Some((Timestamp::from_millis(5), Timer::Answer)));
        table.disarm(Timer::Answer);
        assert_eq!(table.earliest(), Some((Timestamp::from_millis(5), Timer::RetryDelay)));
    }
}
