//! Everything that can happen to a session.

use alloc::vec::Vec;

use crate::error::Failure;
use crate::master::MasterKnowledge;
use crate::ticket::Ticket;
use crate::types::{Candidate, ClientId, ConnectionId, Description, IceServer, MediaKind, PeerId};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Input {
    /// The application wants to watch.
    Open,
    /// The application wants it to end. Never refused.
    Close,
    /// Nothing but time passed.
    Timeout,
    /// The device slept: whatever was connected is gone.
    Resumed,
    /// The platform's network changed: sockets may be dead, addresses are others.
    NetworkChanged,
    /// The same, and the local address of the pair in use is gone: nothing gets through on it.
    LocalAddressGone,
    /// What an earlier session of this process learned about the channel's master. It is taken
    /// before [`Input::Open`] alone.
    MasterKnown(MasterKnowledge),
    /// The platform has a network, or has none.
    Online(bool),
    /// The application wants an ICE restart.
    Restart,
    /// The application changed its media and wants a new exchange.
    Renegotiate,
    /// A message of the service or of the master arrived on a connection.
    Signaling(ConnectionId, SignalingEvent),
    /// The peer connection noticed something.
    Peer(PeerId, PeerEvent),
    /// A command is done.
    Completed(Completion),
}

/// Who sent a signaling message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Sender {
    /// The master: no sender, null, empty, or `AWS_DEFAULT_SINGLE_MASTER`.
    Master,
    /// Another sender.
    Other,
}

/// A payload that could not be decoded: bad base64, bad JSON, an empty or senseless SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Undecodable;

/// What comes in on a signaling connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SignalingEvent {
    /// `SDP_OFFER`.
    Offer {
        /// Who sent it.
        sender: Sender,
        /// Its content.
        body: Result<Description, Undecodable>,
    },
    /// `SDP_ANSWER`.
    Answer {
        /// Who sent it.
        sender: Sender,
        /// Its content.
        body: Result<Description, Undecodable>,
    },
    /// `ICE_CANDIDATE`.
    Candidate {
        /// Who sent it.
        sender: Sender,
        /// Its content.
        body: Result<Candidate, Undecodable>,
    },
    /// `STATUS_RESPONSE`: the service could not handle a message of this viewer.
    Status {
        /// The command that sent the message, where the correlation id is ours.
        ticket: Option<Ticket>,
        /// The service's status for it.
        failure: Failure,
    },
    /// `GO_AWAY`: the service ends this link within a minute.
    GoAway,
    /// `RECONNECT_ICE_SERVER`: the ICE servers should be fetched again.
    ReconnectIceServer,
    /// Something that is none of these: an empty or binary frame, broken JSON, an unknown type.
    Garbage,
    /// The connection ended.
    Disconnected(Failure),
}

/// What a peer connection notices. Edges, not packets: media never passes the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerEvent {
    /// A local candidate was gathered.
    CandidateGathered(Candidate),
    /// No more local candidates will come.
    GatheringDone,
    /// ICE or DTLS changed.
    ConnectivityChanged(Connectivity),
    /// The master's track is there.
    TrackAdded(MediaKind),
    /// The first packet of this kind of media came, or the first after a stall.
    MediaFlowing(MediaKind),
    /// The first whole keyframe came.
    KeyframeReceived,
    /// No packet of media for a while (2 s is usual).
    MediaStalled,
    /// A sender report came while media is stalled: the camera lives, its encoder pauses.
    SenderReport,
    /// Packets arrive, and no picture can be assembled from them. Reported when it is established,
    /// and again when the reason changes; it feeds the evidence alone.
    MediaProblem(MediaProblem),
    /// The names of so many STUN and TURN servers did not resolve; it feeds the evidence alone.
    IceServersUnresolved(u32),
}

/// Why no picture can be assembled although packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum MediaProblem {
    /// The packets have a payload type that was not negotiated.
    UnofferedPayloadType,
    /// Pictures arrive, but no keyframe (IDR) is among them.
    NoKeyframe,
    /// Keyframes arrive without their parameter sets (SPS and PPS), in-band or in the SDP.
    NoParameterSets,
    /// Packets are lost, so that no keyframe is complete.
    PacketLoss,
}

impl MediaProblem {
    /// Every problem, in order.
    pub const ALL: [Self; 4] =
        [Self::UnofferedPayloadType, Self::NoKeyframe, Self::NoParameterSets, Self::PacketLoss];

    /// A stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnofferedPayloadType => "unoffered-payload-type",
            Self::NoKeyframe => "no-keyframe",
            Self::NoParameterSets => "no-parameter-sets",
            Self::PacketLoss => "packet-loss",
        }
    }
}

/// How well the peer connection is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Connectivity {
    /// ICE checks run; also the state before the stack reported any.
    Checking,
    /// ICE has a pair; DTLS is not done.
    IceConnected,
    /// ICE and DTLS are up.
    Connected,
    /// ICE receives nothing for a while.
    Disconnected,
    /// ICE has given up.
    IceFailed,
    /// DTLS was refused.
    DtlsFailed,
    /// The master closed its end.
    ClosedByPeer,
}

/// The result of exactly one command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Completion {
    /// The command.
    pub ticket: Ticket,
    /// How it ended.
    pub outcome: Result<Done, Failure>,
}

/// What a command brought.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Done {
    /// It is done, without a result.
    Ok,
    /// `Connect`: the link is open, under this id.
    Connected(ClientId),
    /// `FetchIceServers`: STUN and TURN, STUN first.
    IceServers(Vec<IceServer>),
    /// `Create`: the peer connection is there.
    Created(PeerTraits),
    /// `CreateOffer` and `CreateAnswer`: the description.
    Description(Description),
}

/// What the core must know of a peer stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerTraits {
    /// When local candidates may be sent.
    pub candidates: CandidateRelease,
    /// Whether an ICE restart keeps the old pair until the new one works.
    pub restart_keeps_pair: bool,
}

/// When local candidates may be sent (contract, N11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CandidateRelease {
    /// As soon as the offer was sent.
    AfterOffer,
    /// Once the answer is applied: the stack drops checks that come before it.
    AfterAnswer,
}
