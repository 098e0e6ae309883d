//! The phases of a session and the table of legal edges. The table is data and can be printed.

use core::fmt;

use crate::time::Timer;

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Phase {
    /// Not opened yet.
    Idle,
    /// The connection opens; the peer connection and its offer are made meanwhile.
    Connecting,
    /// The connection is open; the offer is not out yet.
    Offering,
    /// The offer is out.
    AwaitingAnswer,
    /// Joined; the service offers (answerer mode).
    AwaitingOffer,
    /// The master's offer is being answered.
    Answering,
    /// Both descriptions are there; ICE and DTLS are on their way.
    Establishing,
    /// Connected; waiting for media that counts.
    AwaitingMedia,
    /// Media flows.
    Live,
    /// An ICE restart is under way.
    Recovering,
    /// Everything that the attempt opened is being closed.
    Closing,
    /// Waiting before the next attempt.
    BackingOff,
    /// Over.
    Ended,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 13] = [
        Self::Idle,
        Self::Connecting,
        Self::Offering,
        Self::AwaitingAnswer,
        Self::AwaitingOffer,
        Self::Answering,
        Self::Establishing,
        Self::AwaitingMedia,
        Self::Live,
        Self::Recovering,
        Self::Closing,
        Self::BackingOff,
        Self::Ended,
    ];

    /// The legal edges.
    pub const EDGES: &'static [(Self, Self)] = &[
        (Self::Idle, Self::Connecting),
        (Self::Idle, Self::Ended),
        (Self::Connecting, Self::Offering),
        (Self::Connecting, Self::AwaitingOffer),
        (Self::Connecting, Self::Closing),
        (Self::Offering, Self::AwaitingAnswer),
        (Self::Offering, Self::Answering),
        (Self::Offering, Self::Closing),
        (Self::AwaitingAnswer, Self::Establishing),
        (Self::AwaitingAnswer, Self::Answering),
        (Self::AwaitingAnswer, Self::Closing),
        (Self::AwaitingOffer, Self::Answering),
        (Self::AwaitingOffer, Self::Closing),
        (Self::Answering, Self::Establishing),
        (Self::Answering, Self::Offering),
        (Self::Answering, Self::Closing),
        (Self::Establishing, Self::Answering),
        (Self::Establishing, Self::AwaitingMedia),
        (Self::Establishing, Self::Live),
        (Self::Establishing, Self::Closing),
        (Self::AwaitingMedia, Self::Answering),
        (Self::AwaitingMedia, Self::Live),
        (Self::AwaitingMedia, Self::Closing),
        (Self::Live, Self::Answering),
        (Self::Live, Self::Recovering),
        (Self::Live, Self::Closing),
        (Self::Recovering, Self::Answering),
        (Self::Recovering, Self::Live),
        (Self::Recovering, Self::Closing),
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

    /// The deadline that a session waits on here, whatever else is armed; `None` where no one is
    /// waited for (contract, N12).
    ///
    /// While the session waits for its own ports, it is the deadline of the command.
    pub fn deadline(self) -> Option<Timer> {
        match self {
            Self::Connecting => Some(Timer::Connect),
            Self::Offering | Self::Answering => Some(Timer::Operation),
            Self::AwaitingAnswer => Some(Timer::Answer),
            Self::AwaitingOffer => Some(Timer::Offer),
            Self::Establishing => Some(Timer::Establish),
            Self::AwaitingMedia => Some(Timer::FirstMedia),
            Self::Recovering => Some(Timer::Restart),
            Self::Closing => Some(Timer::CloseStep),
            Self::BackingOff => Some(Timer::RetryDelay),
            Self::Idle | Self::Live | Self::Ended => None,
        }
    }

    /// What it is, in one sentence for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Idle => "Not opened yet.",
            Self::Connecting => "The link opens; peer connection and offer are made meanwhile.",
            Self::Offering => "The link is open; the offer is not out yet.",
            Self::AwaitingAnswer => "The offer is out.",
            Self::AwaitingOffer => "Joined; the service offers (answerer mode).",
            Self::Answering => "The master's offer is being answered.",
            Self::Establishing => "Both descriptions are there; ICE and DTLS are on their way.",
            Self::AwaitingMedia => "Connected; waiting for media that counts.",
            Self::Live => "Media flows.",
            Self::Recovering => "An ICE restart is under way.",
            Self::Closing => "Everything that the attempt opened is being closed.",
            Self::BackingOff => "Waiting before the next attempt.",
            Self::Ended => "Over.",
        }
    }

    /// Whether an attempt is under way.
    pub fn has_attempt(self) -> bool {
        match self {
            Self::Connecting
            | Self::Offering
            | Self::AwaitingAnswer
            | Self::AwaitingOffer
            | Self::Answering
            | Self::Establishing
            | Self::AwaitingMedia
            | Self::Live
            | Self::Recovering => true,
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
            Self::AwaitingOffer => "awaiting-offer",
            Self::Answering => "answering",
            Self::Establishing => "establishing",
            Self::AwaitingMedia => "awaiting-media",
            Self::Live => "live",
            Self::Recovering => "recovering",
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

    // Shows: N12.
    #[test]
    fn every_phase_that_waits_names_its_deadline() {
        for phase in Phase::ALL {
            let waits_for_nobody = matches!(phase, Phase::Idle | Phase::Live | Phase::Ended);
            assert_eq!(phase.deadline().is_none(), waits_for_nobody, "{phase}");
        }
    }

    #[test]
    fn every_phase_has_a_name_and_a_sentence_of_its_own() {
        for (i, phase) in Phase::ALL.iter().enumerate() {
            assert!(phase.meaning().ends_with('.'), "{phase}");
            for other in &Phase::ALL[..i] {
                assert_ne!(phase.meaning(), other.meaning());
                assert_ne!(phase.as_str(), other.as_str());
            }
        }
    }

    #[test]
    fn every_phase_can_be_reached_and_no_edge_is_there_twice() {
        for phase in Phase::ALL {
            let reached = Phase::EDGES.iter().any(|(_, to)| *to == phase);
            assert_eq!(reached, phase != Phase::Idle, "{phase}");
        }
        for (i, edge) in Phase::EDGES.iter().enumerate() {
            assert!(!Phase::EDGES[..i].contains(edge), "{edge:?}");
            assert_ne!(edge.0, edge.1);
        }
    }

    #[test]
    fn every_phase_but_the_last_can_end() {
        for phase in Phase::ALL {
            let ends = phase.may_become(Phase::Ended) || phase.may_become(Phase::Closing);
            assert_eq!(ends, phase != Phase::Ended, "{phase}");
        }
    }
}
