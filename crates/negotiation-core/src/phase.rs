//! The phases of a session and the table of legal edges. The table is data and can be printed.

use core::fmt;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not opened yet.
    Idle,
    /// The link opens; the peer connection and its offer are made meanwhile.
    Connecting,
    /// The link is open; the offer is not out yet.
    Offering,
    /// The offer is out.
    AwaitingAnswer,
    /// The answer is here; ICE and DTLS are on their way.
    Establishing,
    /// Connected; waiting for media that counts.
    AwaitingMedia,
    /// Media flows.
    Live,
    /// Everything that the attempt opened is being closed.
    Closing,
    /// Waiting before the next attempt.
    BackingOff,
    /// Over.
    Ended,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 10] = [
        Self::Idle,
        Self::Connecting,
        Self::Offering,
        Self::AwaitingAnswer,
        Self::Establishing,
        Self::AwaitingMedia,
        Self::Live,
        Self::Closing,
        Self::BackingOff,
        Self::Ended,
    ];

    /// The legal edges.
    pub const EDGES: &'static [(Self, Self)] = &[
        (Self::Idle, Self::Connecting),
        (Self::Idle, Self::Ended),
        (Self::Connecting, Self::Offering),
        (Self::Connecting, Self::Closing),
        (Self::Offering, Self::AwaitingAnswer),
        (Self::Offering, Self::Closing),
        (Self::AwaitingAnswer, Self::Establishing),
        (Self::AwaitingAnswer, Self::Closing),
        (Self::Establishing, Self::AwaitingMedia),
        (Self::Establishing, Self::Live),
        (Self::Establishing, Self::Closing),
        (Self::AwaitingMedia, Self::Live),
        (Self::AwaitingMedia, Self::Closing),
        (Self::Live, Self::Closing),
        (Self::Closing, Self::Connecting),
        (Self::Closing, Self::BackingOff),
        (Self::Closing, Self::Ended),
        (Self::BackingOff, Self::Connecting),
        (Self::BackingOff, Self::Ended),
    ];

    /// Whether a session may go from here to `to`.
    pub fn may_become(self, to: Self) -> bool {
        Self::EDGES.contains(&(self, to))
    }

    /// Whether an attempt is under way.
    pub fn has_attempt(self) -> bool {
        match self {
            Self::Connecting
            | Self::Offering
            | Self::AwaitingAnswer
            | Self::Establishing
            | Self::AwaitingMedia
            | Self::Live => true,
            Self::Idle | Self::Closing | Self::BackingOff | Self::Ended => false,
        }
    }

    /// A stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Offering => "offering",
            Self::AwaitingAnswer => "awaiting-answer",
            Self::Establishing => "establishing",
            Self::AwaitingMedia => "awaiting-media",
            Self::Live => "live",
            Self::Closing => "closing",
            Self::BackingOff => "backing-off",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_but_the_last_can_end() {
        for phase in Phase::ALL {
            let ends = phase.may_become(Phase::Ended) || phase.may_become(Phase::Closing);
            assert_eq!(ends, phase != Phase::Ended, "{phase}");
        }
    }
}
