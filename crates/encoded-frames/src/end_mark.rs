//! Decides whether a stream's marker bit shows where a picture ends.
//!
//! RFC 6184, section 5.1, and RFC 7741, section 4.1, specify the bit for the last packet of a
//! picture, but decoders must not rely on it. Some senders never set it, some set it on every
//! slice or packet. A picture is output at its marker only if the stream has shown that the bit is
//! not set within pictures.

use std::time::Duration;

/// How long a marked picture with an unproven end waits for a packet that proves it.
pub(crate) const UNPROVEN_WAIT: Duration = Duration::from_millis(100);

/// After this many pictures that ended with a marker, a packet lost after a marker counts as part
/// of the next picture.
const ENDED_MIN: u32 = 2;

/// The knowledge about a stream's markers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Nothing is known yet: a picture ends where the next one begins.
    #[default]
    Unknown,
    /// A picture of several parts had its marker on the last part only.
    Proven,
    /// A picture continued after a marker.
    Refuted,
}

impl Trust {
    /// Records that a picture continued after a marker.
    pub(crate) fn refute(&mut self) {
        *self = Self::Refuted;
    }

    /// Records the markers of a picture that ended.
    pub(crate) fn ended(&mut self, marks: Marks) {
        if *self == Self::Unknown && marks.is_marked() && marks.unmarked > 0 {
            *self = Self::Proven;
        }
    }

    /// Returns whether a picture with these markers is complete.
    pub(crate) fn is_whole(self, marks: Marks) -> bool {
        self == Self::Proven && marks.is_marked()
    }

    /// Returns whether a picture with these markers has waited long enough for a packet that
    /// proves its end.
    pub(crate) fn is_overdue(self, marks: Marks, now: Duration) -> bool {
        self != Self::Refuted
            && marks.marked_at.is_some_and(|at| now.saturating_sub(at) >= UNPROVEN_WAIT)
    }

    /// Returns whether a picture with these markers counts as complete when packets are lost after
    /// it, given the number of earlier pictures that `ended` with a marker.
    pub(crate) fn survives_gap(self, marks: Marks, ended: u32) -> bool {
        self != Self::Refuted && marks.is_marked() && ended >= ENDED_MIN
    }

    /// Returns whether a keyframe with these markers is most likely complete.
    pub(crate) fn is_likely_whole(self, marks: Marks) -> bool {
        self != Self::Refuted && marks.is_marked() && marks.unmarked > 0
    }
}

/// The markers on one picture's packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    marked_at: Option<Duration>,
    /// The number of packets without a marker that ended a part of the picture: a NAL unit, or for
    /// VP8 any packet.
    unmarked: u32,
}

impl Marks {
    /// Records a packet of the picture. `ends_part` states whether the packet ends a part.
    pub(crate) fn packet(&mut self, marker: bool, ends_part: bool, arrival: Duration) {
        if marker {
            self.marked_at = self.marked_at.max(Some(arrival));
        } else if !self.is_marked() {
            self.unmarked = self.unmarked.saturating_add(u32::from(ends_part));
        }
    }

    pub(crate) fn is_marked(self) -> bool {
        self.marked_at.is_some()
    }

    /// Clears the marker, because the picture continues after it.
    pub(crate) fn unmark(&mut self) {
        self.marked_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(packets: &[bool]) -> Marks {
        let mut marks = Marks::default();
        for &marker in packets {
            marks.packet(marker, true, Duration::ZERO);
        }
        marks
    }

    #[test]
    fn single_marked_part_does_not_prove_markers() {
        let mut trust = Trust::Unknown;
        let single = marks(&[true]);
        assert!(!trust.is_whole(single) && !trust.is_likely_whole(single));
        trust.ended(single);
        assert_eq!(trust, Trust::Unknown);
        assert!(!trust.is_overdue(single, UNPROVEN_WAIT / 2));
        assert!(trust.is_overdue(single, UNPROVEN_WAIT));
    }

    #[test]
    fn marker_on_last_part_only_proves_markers() {
        let mut trust = Trust::Unknown;
        let several = marks(&[false, true]);
        assert!(!trust.is_whole(several) && trust.is_likely_whole(several));
        trust.ended(several);
        assert!(trust.is_whole(marks(&[true])));
        assert!(!trust.is_whole(marks(&[false])));
        // A packet after the marker proves nothing.
        let mut trust = Trust::Unknown;
        trust.ended(marks(&[true, false]));
        assert_eq!(trust, Trust::Unknown);
    }

    #[test]
    fn picture_continuing_after_marker_refutes_markers() {
        let mut trust = Trust::Proven;
        trust.refute();
        let several = marks(&[false, true]);
        trust.ended(several);
        assert_eq!(trust, Trust::Refuted);
        assert!(!trust.is_whole(several) && !trust.is_overdue(several, Duration::MAX));
    }
}
