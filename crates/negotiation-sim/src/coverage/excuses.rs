//! The cells that stay empty, with the reasons. An excused cell that is hit fails the check too, so
//! each reason stays true.

use negotiation_core::Phase;

use crate::faults::MessageKind;
use crate::kinds::{DeliveryKind, FaultKind, InputKind};

/// The reason why some cells are never hit.
struct Excuse {
    phases: &'static [Phase],
    input_kind: &'static [InputKind],
    why: &'static str,
}

/// The reason why some kinds of faults never happen.
struct FaultExcuse {
    faults: &'static [FaultKind],
    why: &'static str,
}

/// The excused cells.
const CELLS: &[Excuse] = &[
    Excuse {
        phases: &[Phase::Idle],
        input_kind: FROM_LINK,
        why: "A session requests no connection before it is opened.",
    },
    Excuse {
        phases: &[Phase::Idle],
        input_kind: FROM_PEER,
        why: "A session requests no peer connection before it is opened.",
    },
    Excuse {
        phases: &[Phase::Idle],
        input_kind: &[
            InputKind::Done,
            InputKind::Cancelled,
            InputKind::Failed,
            InputKind::Unawaited,
        ],
        why: "A session gives no command before it is opened.",
    },
    Excuse {
        phases: &[Phase::Idle],
        input_kind: &[InputKind::LateLink, InputKind::LatePeer],
        why: "A session closes nothing before it is opened.",
    },
    Excuse {
        phases: &[Phase::Connecting],
        input_kind: FROM_LINK,
        why: "The connection opens at the end of this phase; events of an earlier one are echoes.",
    },
    Excuse {
        phases: &[Phase::Closing, Phase::BackingOff, Phase::Ended],
        input_kind: FROM_LINK,
        why: "Connections are closed in the first step of closing; later events are echoes.",
    },
    Excuse {
        phases: &[Phase::BackingOff, Phase::Ended],
        input_kind: &[InputKind::Done, InputKind::Cancelled, InputKind::Failed],
        why: "Between attempts and after the end no command is awaited.",
    },
    Excuse {
        phases: &[Phase::Connecting],
        input_kind: &[InputKind::Cancelled],
        why: "Only a close cancels, and an attempt that begins has closed nothing.",
    },
    Excuse {
        phases: &[Phase::Closing],
        input_kind: &[InputKind::Cancelled],
        why: "A close cancels commands that the session no longer awaits once the close began.",
    },
    Excuse {
        phases: &[Phase::AwaitingOffer],
        input_kind: &[InputKind::Status],
        why: "A viewer that joined has sent no message that a STATUS_RESPONSE could be for.",
    },
];

/// Events of a signaling connection.
const FROM_LINK: &[InputKind] = &[
    InputKind::Foreign,
    InputKind::Offer,
    InputKind::OfferBroken,
    InputKind::Answer,
    InputKind::AnswerBroken,
    InputKind::Candidate,
    InputKind::CandidateBroken,
    InputKind::Status,
    InputKind::StatusStray,
    InputKind::GoAway,
    InputKind::ReconnectIceServer,
    InputKind::Garbage,
    InputKind::LinkEnded,
];

/// Events of a peer connection.
const FROM_PEER: &[InputKind] = &[
    InputKind::CandidateGathered,
    InputKind::GatheringDone,
    InputKind::Checking,
    InputKind::IceConnected,
    InputKind::Connected,
    InputKind::Disconnected,
    InputKind::IceFailed,
    InputKind::DtlsFailed,
    InputKind::ClosedByPeer,
    InputKind::TrackAdded,
    InputKind::MediaFlowing,
    InputKind::KeyframeReceived,
    InputKind::MediaStalled,
    InputKind::SenderReport,
    InputKind::MediaProblem,
    InputKind::ServersUnresolved,
];

/// The excused kinds of faults.
const FAULTS: &[FaultExcuse] = &[FaultExcuse {
    faults: &[
        FaultKind::Message(MessageKind::ViewerOffer, DeliveryKind::AfterOldAnswer),
        FaultKind::Message(MessageKind::ViewerOffer, DeliveryKind::FromSender),
        FaultKind::Message(MessageKind::ViewerCandidate, DeliveryKind::AfterOldAnswer),
        FaultKind::Message(MessageKind::ViewerCandidate, DeliveryKind::FromSender),
        FaultKind::Message(MessageKind::ViewerAnswer, DeliveryKind::AfterOldAnswer),
        FaultKind::Message(MessageKind::ViewerAnswer, DeliveryKind::FromSender),
    ],
    why: "The session cannot see which sender the master takes a message to be from.",
}];

/// Why this cell is never hit: an index into [`all`].
pub(super) fn of_cell(phase: Phase, input_kind: InputKind) -> Option<usize> {
    CELLS.iter().position(|excuse| {
        excuse.phases.contains(&phase) && excuse.input_kind.contains(&input_kind)
    })
}

/// Why faults of this kind never happen: an index into [`all`].
pub(super) fn of_fault(kind: FaultKind) -> Option<usize> {
    let place = FAULTS.iter().position(|excuse| excuse.faults.contains(&kind));
    place.map(|place| CELLS.len() + place)
}

/// All reasons, in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    CELLS.iter().map(|excuse| excuse.why).chain(FAULTS.iter().map(|excuse| excuse.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_has_at_most_one_excuse() {
        for phase in Phase::ALL {
            for input_kind in InputKind::ALL {
                let covers = |excuse: &&Excuse| {
                    excuse.phases.contains(&phase) && excuse.input_kind.contains(input_kind)
                };
                assert!(CELLS.iter().filter(covers).count() <= 1, "{phase}, {input_kind}");
            }
        }
    }

    #[test]
    fn excuses_are_sentences() {
        for why in all() {
            assert!(why.ends_with('.') && why.starts_with(char::is_uppercase), "{why}");
        }
    }
}
