//! The kinds of inputs and faults that are counted.
//!
//! Each list is one table of kind, name and pattern. The table does not compile without an entry
//! for every variant.

use core::fmt;

use negotiation_core::{
    Completion, Connectivity, FailureCode, Input, PeerEvent, Sender, SignalingEvent, Undecodable,
};

use crate::faults::{Action, CommandFault, CommandKind, Delivery, Fault, MessageKind};

/// Defines an enumeration of kinds, with a name for each and the kind of each value.
macro_rules! kinds {
    (
        $(#[$meta:meta])* $name:ident $(of $source:ty {
            $($kind:ident $text:literal = $pattern:pat,)+
        })? $(and { $($other:ident $other_text:literal,)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $text] $kind,)+)? $($(#[doc = $other_text] $other,)+)? }

        impl $name {
            /// All kinds, in order.
            pub const ALL: &[Self] = &[$($(Self::$kind,)+)? $($(Self::$other,)+)?];

            /// The name, for people.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$kind => $text,)+)?
                    $($(Self::$other => $other_text,)+)?
                }
            }

            $(
                /// The kind of a value.
                pub fn of(value: &$source) -> Self {
                    match value { $($pattern => Self::$kind,)+ }
                }
            )?
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use kinds;

kinds! {
    /// The kinds of input.
    InputKind of Input {
        Open "open" = Input::Open,
        Close "close" = Input::Close,
        Restart "restart" = Input::Restart,
        Renegotiate "renegotiate" = Input::Renegotiate,
        Timeout "timeout" = Input::Timeout,
        Resumed "resumed" = Input::Resumed,
        NetworkChanged "network-changed" = Input::NetworkChanged,
        LocalAddressGone "local-address-gone" = Input::LocalAddressGone,
        MasterKnown "master-known" = Input::MasterKnown(_),
        Offline "online(false)" = Input::Online(false),
        Online "online(true)" = Input::Online(true),
        Foreign "connection: offer, answer or candidate from another sender" = Input::Signaling(
            _,
            SignalingEvent::Offer { sender: Sender::Other, .. }
            | SignalingEvent::Answer { sender: Sender::Other, .. }
            | SignalingEvent::Candidate { sender: Sender::Other, .. }
        ),
        Offer "connection: offer" =
            Input::Signaling(_, SignalingEvent::Offer { sender: Sender::Master, body: Ok(_) }),
        OfferBroken "connection: offer, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Offer { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Answer "connection: answer" =
            Input::Signaling(_, SignalingEvent::Answer { sender: Sender::Master, body: Ok(_) }),
        AnswerBroken "connection: answer, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Answer { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Candidate "connection: candidate" =
            Input::Signaling(_, SignalingEvent::Candidate { sender: Sender::Master, body: Ok(_) }),
        CandidateBroken "connection: candidate, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Candidate { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Status "connection: STATUS_RESPONSE to a sent message" =
            Input::Signaling(_, SignalingEvent::Status { ticket: Some(_), .. }),
        StatusStray "connection: STATUS_RESPONSE to no message" =
            Input::Signaling(_, SignalingEvent::Status { ticket: None, .. }),
        GoAway "connection: GO_AWAY" = Input::Signaling(_, SignalingEvent::GoAway),
        ReconnectIceServer "connection: RECONNECT_ICE_SERVER" =
            Input::Signaling(_, SignalingEvent::ReconnectIceServer),
        Garbage "connection: garbage" = Input::Signaling(_, SignalingEvent::Garbage),
        LinkEnded "connection: ended" = Input::Signaling(_, SignalingEvent::Disconnected(_)),
        CandidateGathered "peer: candidate gathered" =
            Input::Peer(_, PeerEvent::CandidateGathered(_)),
        GatheringDone "peer: gathering done" = Input::Peer(_, PeerEvent::GatheringDone),
        Checking "peer: checking" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::Checking)),
        IceConnected "peer: ICE connected" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::IceConnected)),
        Connected "peer: connected" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::Connected)),
        Disconnected "peer: ICE disconnected" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::Disconnected)),
        IceFailed "peer: ICE failed" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::IceFailed)),
        DtlsFailed "peer: DTLS failed" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::DtlsFailed)),
        ClosedByPeer "peer: closed by the master" =
            Input::Peer(_, PeerEvent::ConnectivityChanged(Connectivity::ClosedByPeer)),
        TrackAdded "peer: track added" = Input::Peer(_, PeerEvent::TrackAdded(_)),
        MediaFlowing "peer: media flowing" = Input::Peer(_, PeerEvent::MediaFlowing(_)),
        KeyframeReceived "peer: keyframe" = Input::Peer(_, PeerEvent::KeyframeReceived),
        MediaStalled "peer: media stalled" = Input::Peer(_, PeerEvent::MediaStalled),
        SenderReport "peer: sender report" = Input::Peer(_, PeerEvent::SenderReport),
        MediaProblem "peer: packets make no picture" =
            Input::Peer(_, PeerEvent::MediaProblem(_)),
        ServersUnresolved "peer: servers unresolved" =
            Input::Peer(_, PeerEvent::IceServersUnresolved(_)),
        Done "completed: done" = Input::Completed(Completion { outcome: Ok(_), .. }),
        Cancelled "completed: cancelled" = Input::Completed(Completion {
            outcome: Err(negotiation_core::Failure { code: FailureCode::Cancelled, .. }),
            ..
        }),
        Failed "completed: failed" = Input::Completed(Completion { outcome: Err(_), .. }),
    } and {
        Unawaited "completed: of a command no longer awaited",
        LateLink "an echo of a closed connection",
        LatePeer "an echo of a closed peer connection",
    }
}

kinds! {
    /// How the service delivers a message.
    DeliveryKind of Delivery {
        Drop "drop" = Delivery::Drop,
        Delay "delay" = Delivery::Delay(_),
        Duplicate "duplicate" = Delivery::Duplicate(_),
        Hold "hold" = Delivery::Hold,
        Corrupt "corrupt" = Delivery::Corrupt,
        AfterOldAnswer "after an old answer" = Delivery::AfterOldAnswer,
        FromSender "from another sender" = Delivery::FromSender(_),
    }
}

kinds! {
    /// How a command fails.
    CommandFaultKind of CommandFault {
        Fail "fail" = CommandFault::Fail(_),
        Late "late" = CommandFault::Late(_),
        Hang "hang" = CommandFault::Hang,
    }
}

kinds! {
    /// Something that happens to the session or around it.
    ActionKind of Action {
        Open "open" = Action::Open,
        Close "close" = Action::Close,
        Restart "restart" = Action::Restart,
        Renegotiate "renegotiate" = Action::Renegotiate,
        Suspend "suspend" = Action::Suspend(_),
        ClockJump "clock jump" = Action::ClockJump(_),
        TimersLate "timers late" = Action::TimersLate(_),
        CutLink "connection lost" = Action::CutLink(_),
        GoAway "GO_AWAY" = Action::GoAway,
        ReconnectIceServer "RECONNECT_ICE_SERVER" = Action::ReconnectIceServer,
        Garbage "garbage" = Action::Garbage,
        OfferStatus "STATUS_RESPONSE to the offer" = Action::OfferStatus(_),
        StrayStatus "STATUS_RESPONSE to no message" = Action::StrayStatus(_),
        RepeatAnswer "answer again" = Action::RepeatAnswer,
        StrayAnswer "answer to no offer" = Action::StrayAnswer(_),
        OldAnswer "answer to the attempt before" = Action::OldAnswer,
        StrayOffer "unexpected offer" = Action::StrayOffer(_),
        CandidateFlood "candidate flood" = Action::CandidateFlood(_),
        OldCandidate "old candidate" = Action::OldCandidate,
        ForeignCandidate "foreign candidate" = Action::ForeignCandidate,
        EndOfCandidates "end of candidates" = Action::EndOfCandidates,
        LocalBurst "local candidate burst" = Action::LocalBurst(_),
        IceDisconnected "ICE disconnected" = Action::IceDisconnected,
        IceBack "ICE back" = Action::IceBack,
        IceFailed "ICE failed" = Action::IceFailed,
        DtlsFailed "DTLS failed" = Action::DtlsFailed,
        MasterCloses "master closes" = Action::MasterCloses,
        Stall "stall" = Action::Stall,
        SenderReport "sender report" = Action::SenderReport,
        MediaBack "media back" = Action::MediaBack,
        MasterArrives "master arrives" = Action::MasterArrives,
        MasterReboots "master reboots" = Action::MasterReboots(_),
        MasterBecomes "master changes its behaviour" = Action::MasterBecomes(_),
        MasterOffers "master offers" = Action::MasterOffers { .. },
        NetworkDown "network down" = Action::NetworkDown,
        NetworkUp "network up" = Action::NetworkUp,
        NetworkChanged "network changed" = Action::NetworkChanged,
        Offline "offline" = Action::Offline,
        Online "online" = Action::Online,
        Takeover "takeover" = Action::Takeover(_),
        RefuseSecondLink "second connection refused" = Action::RefuseSecondLink,
        TurnExpires "TURN expires" = Action::TurnExpires,
        Undecodable "undecodable offer, answer or candidate" = Action::Undecodable(_),
        IceChecking "ICE checks" = Action::IceChecking,
        IceConnected "ICE connected" = Action::IceConnected,
        TrackAdded "track added" = Action::TrackAdded,
        Keyframe "keyframe" = Action::Keyframe,
        GatheringDone "gathering done" = Action::GatheringDone,
        MediaProblem "packets without a decodable picture" = Action::MediaProblem(_),
        ServersUnresolved "servers unresolved" = Action::ServersUnresolved(_),
        LocalAddressGone "local address gone" = Action::LocalAddressGone,
        MasterKnown "master known" = Action::MasterKnown(_),
        LinkEcho "late events of a closed connection" = Action::LinkEcho,
        PeerEcho "late events of a closed peer connection" = Action::PeerEcho,
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ViewerOffer => "viewer's offer",
            Self::ViewerCandidate => "viewer's candidate",
            Self::MasterAnswer => "master's answer",
            Self::MasterCandidate => "master's candidate",
            Self::ViewerAnswer => "viewer's answer",
            Self::MasterOffer => "master's offer",
        })
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The kinds of faults: what goes wrong, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A message is not delivered as sent.
    Message(MessageKind, DeliveryKind),
    /// A command does not succeed.
    Command(CommandKind, CommandFaultKind),
    /// Something happens at a point of the session.
    Action(ActionKind),
}

impl FaultKind {
    /// The kind of a fault.
    pub fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Message { what, how, .. } => Self::Message(*what, DeliveryKind::of(how)),
            Fault::Command { what, how, .. } => Self::Command(*what, CommandFaultKind::of(how)),
            Fault::At { action, .. } => Self::Action(ActionKind::of(action)),
        }
    }

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        let each = |message| DeliveryKind::ALL.iter().map(move |how| Self::Message(message, *how));
        let messages = MessageKind::ALL.into_iter().flat_map(each);
        let each =
            |command| CommandFaultKind::ALL.iter().map(move |how| Self::Command(command, *how));
        let commands = CommandKind::ALL.into_iter().flat_map(each);
        messages.chain(commands).chain(ActionKind::ALL.iter().copied().map(Self::Action))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message, how) => write!(f, "{message}: {how}"),
            Self::Command(command, how) => write!(f, "{command}: {how}"),
            Self::Action(action) => write!(f, "{action}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn input_kinds_have_distinct_names_and_indices() {
        let names: BTreeSet<_> =
            InputKind::ALL.iter().map(|input_kind| input_kind.as_str()).collect();
        assert_eq!(names.len(), InputKind::ALL.len());
        for (place, input_kind) in InputKind::ALL.iter().enumerate() {
            assert_eq!(*input_kind as usize, place, "{input_kind}");
        }
    }

    #[test]
    fn fault_kinds_have_distinct_names() {
        let kinds: Vec<_> = FaultKind::all().collect();
        let names: BTreeSet<_> = kinds.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), kinds.len());
    }
}
