//! The cells that stay empty, and why. An excused cell that is hit fails the check as well, so that
//! each excuse stays true.

use negotiation_core::Phase;

use super::kinds::{FaultKind, HandlingKind, Heard};
use crate::faults::Mail;

/// Why some cells are never hit.
struct Excuse {
    phases: &'static [Phase],
    heard: &'static [Heard],
    why: &'static str,
}

/// Why some kinds of faults never strike.
struct FaultExcuse {
    faults: &'static [FaultKind],
    why: &'static str,
}

/// The whole table.
const CELLS: &[Excuse] = &[
    Excuse {
        phases: &[Phase::Idle],
        heard: FROM_LINK,
        why: "Before it is opened a session has asked for no link.",
    },
    Excuse {
        phases: &[Phase::Idle],
        heard: FROM_PEER,
        why: "Before it is opened a session has asked for no peer connection.",
    },
    Excuse {
        phases: &[Phase::Idle],
        heard: &[Heard::Done, Heard::Cancelled, Heard::Failed, Heard::Unawaited],
        why: "Before it is opened a session has given no command.",
    },
    Excuse {
        phases: &[Phase::Idle],
        heard: &[Heard::LateLink, Heard::LatePeer],
        why: "Before it is opened a session has closed nothing.",
    },
    Excuse {
        phases: &[Phase::Connecting],
        heard: FROM_LINK,
        why: "The link opens with the end of this phase; what comes of an earlier one is an echo.",
    },
    Excuse {
        phases: &[Phase::Closing, Phase::BackingOff, Phase::Ended],
        heard: FROM_LINK,
        why: "Links are closed in the first step of closing; what comes of them later is an echo.",
    },
    Excuse {
        phases: &[Phase::BackingOff, Phase::Ended],
        heard: &[Heard::Done, Heard::Cancelled, Heard::Failed],
        why: "Between attempts and after the end no command is awaited.",
    },
    Excuse {
        phases: &[Phase::Connecting],
        heard: &[Heard::Cancelled],
        why: "Only a close cancels, and an attempt that begins has closed nothing.",
    },
    Excuse {
        phases: &[Phase::Closing],
        heard: &[Heard::Cancelled],
        why: "A close cancels what is under way, and that is awaited no more once it began.",
    },
    Excuse {
        phases: &[Phase::AwaitingOffer],
        heard: &[Heard::Status],
        why: "A viewer that joined has sent no message that a status could be of.",
    },
];

/// What comes of a link.
const FROM_LINK: &[Heard] = &[
    Heard::Foreign,
    Heard::Offer,
    Heard::OfferBroken,
    Heard::Answer,
    Heard::AnswerBroken,
    Heard::Candidate,
    Heard::CandidateBroken,
    Heard::Status,
    Heard::StatusStray,
    Heard::GoAway,
    Heard::ReconnectIceServer,
    Heard::Garbage,
    Heard::LinkEnded,
];

/// What comes of a peer connection.
const FROM_PEER: &[Heard] = &[
    Heard::CandidateGathered,
    Heard::GatheringDone,
    Heard::Checking,
    Heard::IceConnected,
    Heard::Connected,
    Heard::Disconnected,
    Heard::IceFailed,
    Heard::DtlsFailed,
    Heard::ClosedByPeer,
    Heard::TrackAdded,
    Heard::MediaFlowing,
    Heard::KeyframeReceived,
    Heard::MediaStalled,
    Heard::SenderReport,
    Heard::MediaProblem,
    Heard::ServersUnresolved,
];

/// The same for faults.
const FAULTS: &[FaultExcuse] = &[FaultExcuse {
    faults: &[
        FaultKind::Mail(Mail::Offer, HandlingKind::AfterOld),
        FaultKind::Mail(Mail::Offer, HandlingKind::From),
        FaultKind::Mail(Mail::ViewerCandidate, HandlingKind::AfterOld),
        FaultKind::Mail(Mail::ViewerCandidate, HandlingKind::From),
        FaultKind::Mail(Mail::ViewerAnswer, HandlingKind::AfterOld),
        FaultKind::Mail(Mail::ViewerAnswer, HandlingKind::From),
    ],
    why: "Whom the master takes a message for is the master's affair: the session cannot see it.",
}];

/// Why this cell is never hit: the number of the excuse in [`all`].
pub(super) fn of_cell(phase: Phase, heard: Heard) -> Option<usize> {
    CELLS.iter().position(|excuse| excuse.phases.contains(&phase) && excuse.heard.contains(&heard))
}

/// Why faults of this kind never strike: the number of the excuse in [`all`].
pub(super) fn of_fault(kind: FaultKind) -> Option<usize> {
    let place = FAULTS.iter().position(|excuse| excuse.faults.contains(&kind));
    place.map(|place| CELLS.len() + place)
}

/// Every excuse, in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    CELLS.iter().map(|excuse| excuse.why).chain(FAULTS.iter().map(|excuse| excuse.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_excused_twice() {
        for phase in Phase::ALL {
            for heard in Heard::ALL {
                let covers = |excuse: &&Excuse| {
                    excuse.phases.contains(&phase) && excuse.heard.contains(heard)
                };
                assert!(CELLS.iter().filter(covers).count() <= 1, "{phase}, {heard}");
            }
        }
    }

    #[test]
    fn every_excuse_is_a_sentence() {
        for why in all() {
            assert!(why.ends_with('.') && why.starts_with(char::is_uppercase), "{why}");
        }
    }
}
