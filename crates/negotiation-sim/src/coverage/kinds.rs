//! What is counted: every kind of input, and every kind of fault.
//!
//! Each list is one table of kind, name and pattern. The compiler refuses a table without a new
//! variant, so that none can be forgotten.

use core::fmt;

use negotiation_core::{
    Completion, Connectivity, FailureCode, Input, PeerEvent, Sender, SignalingEvent, Undecodable,
};

use crate::faults::{Act, Fault, Handling, Mail, Op, OpFault};

/// An enumeration of kinds, its names, and the kind of each value.
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
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$($(Self::$kind,)+)? $($(Self::$other,)+)?];

            /// Its name, for people.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$kind => $text,)+)?
                    $($(Self::$other => $other_text,)+)?
                }
            }

            $(
                /// The kind of this one.
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

pub(super) use kinds;

kinds! {
    /// The kinds of input, as fine as a reader wants to know them.
    Heard of Input {
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
        Foreign "link: offer, answer or candidate from another sender" = Input::Signaling(
            _,
            SignalingEvent::Offer { sender: Sender::Other, .. }
            | SignalingEvent::Answer { sender: Sender::Other, .. }
            | SignalingEvent::Candidate { sender: Sender::Other, .. }
        ),
        Offer "link: offer" =
            Input::Signaling(_, SignalingEvent::Offer { sender: Sender::Master, body: Ok(_) }),
        OfferBroken "link: offer, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Offer { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Answer "link: answer" =
            Input::Signaling(_, SignalingEvent::Answer { sender: Sender::Master, body: Ok(_) }),
        AnswerBroken "link: answer, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Answer { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Candidate "link: candidate" =
            Input::Signaling(_, SignalingEvent::Candidate { sender: Sender::Master, body: Ok(_) }),
        CandidateBroken "link: candidate, undecodable" = Input::Signaling(
            _,
            SignalingEvent::Candidate { sender: Sender::Master, body: Err(Undecodable) }
        ),
        Status "link: status of a message of ours" =
            Input::Signaling(_, SignalingEvent::Status { ticket: Some(_), .. }),
        StatusStray "link: status of nothing of ours" =
            Input::Signaling(_, SignalingEvent::Status { ticket: None, .. }),
        GoAway "link: GO_AWAY" = Input::Signaling(_, SignalingEvent::GoAway),
        ReconnectIceServer "link: RECONNECT_ICE_SERVER" =
            Input::Signaling(_, SignalingEvent::ReconnectIceServer),
        Garbage "link: garbage" = Input::Signaling(_, SignalingEvent::Garbage),
        LinkEnded "link: ended" = Input::Signaling(_, SignalingEvent::Disconnected(_)),
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
        Unawaited "completed: of a command that is awaited no more",
        LateLink "an echo of a link that was closed",
        LatePeer "an echo of a peer connection that was closed",
    }
}

kinds! {
    /// What the service does with a message.
    HandlingKind of Handling {
        Drop "drop" = Handling::Drop,
        Delay "delay" = Handling::Delay(_),
        Duplicate "duplicate" = Handling::Duplicate(_),
        Hold "hold" = Handling::Hold,
        Corrupt "corrupt" = Handling::Corrupt,
        AfterOld "after an old one" = Handling::AfterOld,
        From "from another sender" = Handling::From(_),
    }
}

kinds! {
    /// What becomes of a command.
    OpFaultKind of OpFault {
        Fail "fail" = OpFault::Fail(_),
        Late "late" = OpFault::Late(_),
        Hang "hang" = OpFault::Hang,
    }
}

kinds! {
    /// What happens at a moment of the plan's.
    ActKind of Act {
        Open "open" = Act::Open,
        Close "close" = Act::Close,
        Restart "restart" = Act::Restart,
        Renegotiate "renegotiate" = Act::Renegotiate,
        Suspend "suspend" = Act::Suspend(_),
        ClockJump "clock jump" = Act::ClockJump(_),
        TimersLate "timers late" = Act::TimersLate(_),
        CutLink "link cut" = Act::CutLink(_),
        GoAway "GO_AWAY" = Act::GoAway,
        ReconnectIceServer "RECONNECT_ICE_SERVER" = Act::ReconnectIceServer,
        Garbage "garbage" = Act::Garbage,
        OfferStatus "STATUS_RESPONSE for the offer" = Act::OfferStatus(_),
        StrayStatus "STATUS_RESPONSE for nothing" = Act::StrayStatus(_),
        RepeatAnswer "answer again" = Act::RepeatAnswer,
        StrayAnswer "answer to nobody" = Act::StrayAnswer(_),
        OldAnswer "answer to the attempt before" = Act::OldAnswer,
        StrayOffer "offer of nobody" = Act::StrayOffer(_),
        CandidateFlood "candidate flood" = Act::CandidateFlood(_),
        OldCandidate "old candidate" = Act::OldCandidate,
        ForeignCandidate "foreign candidate" = Act::ForeignCandidate,
        EndOfCandidates "end of candidates" = Act::EndOfCandidates,
        LocalBurst "local candidate burst" = Act::LocalBurst(_),
        IceDisconnected "ICE disconnected" = Act::IceDisconnected,
        IceBack "ICE back" = Act::IceBack,
        IceFailed "ICE failed" = Act::IceFailed,
        DtlsFailed "DTLS failed" = Act::DtlsFailed,
        MasterCloses "master closes" = Act::MasterCloses,
        Stall "stall" = Act::Stall,
        SenderReport "sender report" = Act::SenderReport,
        MediaBack "media back" = Act::MediaBack,
        MasterArrives "master arrives" = Act::MasterArrives,
        MasterReboots "master reboots" = Act::MasterReboots(_),
        MasterBecomes "master changes its ways" = Act::MasterBecomes(_),
        MasterOffers "master offers" = Act::MasterOffers { .. },
        NetworkDown "network down" = Act::NetworkDown,
        NetworkUp "network up" = Act::NetworkUp,
        NetworkChanged "network changed" = Act::NetworkChanged,
        Offline "offline" = Act::Offline,
        Online "online" = Act::Online,
        Takeover "takeover" = Act::Takeover(_),
        RefuseSecondLink "second link refused" = Act::RefuseSecondLink,
        TurnExpires "TURN expires" = Act::TurnExpires,
        Undecodable "undecodable offer, answer or candidate" = Act::Undecodable(_),
        IceChecking "ICE checks" = Act::IceChecking,
        IceConnected "ICE connected" = Act::IceConnected,
        TrackAdded "track added" = Act::TrackAdded,
        Keyframe "keyframe" = Act::Keyframe,
        GatheringDone "gathering done" = Act::GatheringDone,
        MediaProblem "packets make no picture" = Act::MediaProblem(_),
        ServersUnresolved "servers unresolved" = Act::ServersUnresolved(_),
        LocalAddressGone "local address gone" = Act::LocalAddressGone,
        MasterKnown "master known" = Act::MasterKnown(_),
        LinkEcho "echo of a closed link" = Act::LinkEcho,
        PeerEcho "echo of a closed peer connection" = Act::PeerEcho,
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offer => "viewer's offer",
            Self::ViewerCandidate => "viewer's candidate",
            Self::Answer => "master's answer",
            Self::MasterCandidate => "master's candidate",
            Self::ViewerAnswer => "viewer's answer",
            Self::MasterOffer => "master's offer",
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The kinds of faults: what goes wrong, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A message is not carried as it should be.
    Mail(Mail, HandlingKind),
    /// A command does not do what it should.
    Op(Op, OpFaultKind),
    /// Something happens.
    Act(ActKind),
}

impl FaultKind {
    /// The kind of this fault.
    pub fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Mail { what, how, .. } => Self::Mail(*what, HandlingKind::of(how)),
            Fault::Op { what, how, .. } => Self::Op(*what, OpFaultKind::of(how)),
            Fault::At { act, .. } => Self::Act(ActKind::of(act)),
        }
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let each = |mail| HandlingKind::ALL.iter().map(move |how| Self::Mail(mail, *how));
        let mails = Mail::ALL.into_iter().flat_map(each);
        let each = |op| OpFaultKind::ALL.iter().map(move |how| Self::Op(op, *how));
        let ops = Op::ALL.into_iter().flat_map(each);
        mails.chain(ops).chain(ActKind::ALL.iter().copied().map(Self::Act))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(mail, how) => write!(f, "{mail}: {how}"),
            Self::Op(op, how) => write!(f, "{op}: {how}"),
            Self::Act(act) => write!(f, "{act}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_input_stands_at_its_place_under_a_name_of_its_own() {
        let names: BTreeSet<_> = Heard::ALL.iter().map(|heard| heard.as_str()).collect();
        assert_eq!(names.len(), Heard::ALL.len());
        for (place, heard) in Heard::ALL.iter().enumerate() {
            assert_eq!(*heard as usize, place, "{heard}");
        }
    }

    #[test]
    fn every_kind_of_fault_has_a_name_of_its_own() {
        let kinds: Vec<_> = FaultKind::all().collect();
        let names: BTreeSet<_> = kinds.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), kinds.len());
    }
}
