//! The deadlines of a peer's task besides commands and events.

use std::time::{Duration, Instant};

use negotiation_core::Connectivity;

/// The resolution of the deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// How often the stack is woken while a relay may be in use; see
/// [`crate::stack::Stack::wake_stack`].
pub(crate) const WAKE_INTERVAL: Duration = Duration::from_millis(5);
/// The longest period of waking: a connection is not awaited longer.
const WAKE_MAX: Duration = Duration::from_secs(20);
/// The longest interval between the end of media and the end of the data channel for the two to
/// count as one.
const TOGETHER: Duration = Duration::from_millis(500);

/// The start times of the deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    handshake_since: Option<Instant>,
    nudging_since: Option<Instant>,
    /// When the data channel was closed. The master may close it and continue, so this alone is
    /// not a close.
    channel_closed: Option<Instant>,
    /// Whether the master sent a report afterwards, which proves that it continued.
    outlived: bool,
}

impl Timers {
    /// Returns whether anything must be checked at each [`TICK`].
    pub(crate) fn is_any(&self) -> bool {
        self.handshake_since.is_some() || self.channel_closed.is_some()
    }

    /// Starts the DTLS time limit when ICE connects, and ends it when the connection is up or has
    /// ended.
    pub(crate) fn follow(&mut self, connectivity: Connectivity, now: Instant) {
        self.handshake_since = match connectivity {
            Connectivity::IceConnected => Some(now),
            // An ICE interruption does not stop the time limit.
            Connectivity::Checking | Connectivity::Disconnected => self.handshake_since,
            Connectivity::Connected
            | Connectivity::IceFailed
            | Connectivity::DtlsFailed
            | Connectivity::ClosedByPeer => None,
        };
    }

    /// Returns whether the DTLS time limit has just expired.
    pub(crate) fn is_handshake_overdue(&mut self, now: Instant, limit: Duration) -> bool {
        self.handshake_since
            .take_if(|since| now.saturating_duration_since(*since) >= limit)
            .is_some()
    }

    /// Records that the master closed the data channel.
    pub(crate) fn channel_closed(&mut self, now: Instant) {
        self.channel_closed.get_or_insert(now);
    }

    /// Records a sender report of the master.
    pub(crate) fn reported(&mut self) {
        self.outlived |= self.is_channel_closed();
    }

    pub(crate) fn is_channel_closed(&self) -> bool {
        self.channel_closed.is_some()
    }

    /// Returns whether media that ended at this moment ended together with the data channel, with
    /// no report since; a paused camera still reports (contract, N27).
    pub(crate) fn ended_together(&self, media_ended: Instant) -> bool {
        !self.outlived
            && self.channel_closed.is_some_and(|closed| {
                media_ended <= closed + TOGETHER && closed <= media_ended + TOGETHER
            })
    }

    /// Starts to wake the stack regularly.
    pub(crate) fn start_nudging(&mut self, now: Instant) {
        self.nudging_since = Some(now);
    }

    pub(crate) fn stop_nudging(&mut self) {
        self.nudging_since = None;
    }

    /// Returns whether the stack is woken at each [`WAKE_INTERVAL`].
    pub(crate) fn is_waking(&self) -> bool {
        self.nudging_since.is_some()
    }

    /// Returns whether to wake the stack now, and stops waking after [`WAKE_MAX`].
    pub(crate) fn is_wake_due(&mut self, now: Instant) -> bool {
        self.nudging_since.take_if(|since| now.saturating_duration_since(*since) > WAKE_MAX);
        self.nudging_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        Instant::now()
    }

    #[test]
    fn handshake_timeout_fires_once_despite_ice_gap() {
        let (start, limit) = (start(), Duration::from_secs(10));
        let mut timers = Timers::default();
        timers.follow(Connectivity::IceConnected, start);
        timers.follow(Connectivity::Disconnected, start + limit / 2);
        assert!(!timers.is_handshake_overdue(start + limit / 2, limit));
        assert!(timers.is_handshake_overdue(start + limit, limit));
        assert!(!timers.is_handshake_overdue(start + limit, limit));
        timers.follow(Connectivity::IceConnected, start);
        timers.follow(Connectivity::Connected, start);
        assert!(!timers.is_handshake_overdue(start + limit, limit));
    }

    #[test]
    fn media_end_near_channel_close_counts_as_close() {
        let start = start();
        let mut timers = Timers::default();
        timers.reported();
        assert!(!timers.ended_together(start), "no channel was closed");
        let closed = start + Duration::from_secs(9);
        timers.channel_closed(closed);
        timers.channel_closed(closed + Duration::from_secs(9));
        assert!(timers.ended_together(closed), "the first word counts");
        for (near, far) in
            [(closed + TOGETHER, closed + TOGETHER * 2), (closed - TOGETHER, closed - TOGETHER * 2)]
        {
            assert!(timers.ended_together(near) && !timers.ended_together(far));
        }
        timers.reported();
        assert!(!timers.ended_together(closed), "it is paused, and there");
    }

    #[test]
    fn waking_stops_after_limit() {
        let start = start();
        let mut timers = Timers::default();
        timers.start_nudging(start);
        assert!(timers.is_wake_due(start + WAKE_MAX));
        assert!(!timers.is_wake_due(start + WAKE_MAX + WAKE_INTERVAL));
        assert!(!timers.is_waking());
    }
}
