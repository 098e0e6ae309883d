//! Decides when a keyframe is needed early: for a viewer that joins, or that sends PLI or FIR.

use std::time::Duration;

/// The shortest interval between keyframes that serve requests.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A request this soon after a keyframe was sent before the keyframe arrived.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// Decides about jumps to a keyframe. Times are relative to the encoder's start.
#[derive(Debug, Default)]
pub(crate) struct Keyframes {
    sent: Option<Duration>,
    is_requested: bool,
    joining: bool,
}

impl Keyframes {
    /// Records that a viewer joined: the next frame must be a keyframe.
    pub(crate) fn viewer_joined(&mut self) {
        self.joining = true;
    }

    /// Records a viewer's keyframe request.
    pub(crate) fn requested(&mut self, now: Duration) {
        let on_its_way = self.sent.is_some_and(|sent| now.saturating_sub(sent) < ON_ITS_WAY);
        self.is_requested |= !on_its_way;
    }

    /// Returns whether the next frame must be a keyframe.
    pub(crate) fn wanted(&self, now: Duration) -> bool {
        let rested = self.sent.is_none_or(|sent| now.saturating_sub(sent) >= INTERVAL_MIN);
        self.joining || (self.is_requested && rested)
    }

    /// Records that a keyframe is sent, which serves all viewers.
    pub(crate) fn sent(&mut self, now: Duration) {
        *self = Self { sent: Some(now), is_requested: false, joining: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn joining_viewer_does_not_wait() {
        let mut keyframes = Keyframes::default();
        keyframes.sent(at(0));
        assert!(!keyframes.wanted(at(10)));
        keyframes.viewer_joined();
        assert!(keyframes.wanted(at(10)));
    }

    #[test]
    fn requests_are_served_once_a_second() {
        let mut keyframes = Keyframes::default();
        keyframes.requested(at(0));
        assert!(keyframes.wanted(at(0)), "the first needs no rest");
        keyframes.sent(at(0));
        let mut jumps = 0;
        for ms in (300..10_300).step_by(10) {
            keyframes.requested(at(ms));
            if keyframes.wanted(at(ms)) {
                keyframes.sent(at(ms));
                jumps += 1;
            }
        }
        assert!((9..=10).contains(&jumps), "{jumps}");
    }

    #[test]
    fn keyframe_on_its_way_answers_a_request() {
        let mut keyframes = Keyframes::default();
        keyframes.sent(at(1000));
        keyframes.requested(at(1100));
        assert!(!keyframes.wanted(at(5000)));
        keyframes.requested(at(1300));
        assert!(!keyframes.wanted(at(1900)));
        assert!(keyframes.wanted(at(2000)), "remembered until its time has come");
        keyframes.sent(at(1950));
        assert!(!keyframes.wanted(at(5000)), "a keyframe in turn serves as well");
    }
}
