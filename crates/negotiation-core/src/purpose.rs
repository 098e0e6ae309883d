//! What a command in flight is for: its completion is routed by it.

use crate::output::PeerCommand;
use crate::time::Timer;
use crate::types::{ConnectionId, PeerId};

/// What a command in flight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Connect(ConnectionId),
    /// Closes a signaling connection that another one has replaced.
    Leave(ConnectionId),
    FetchIceServers,
    Join,
    SendOffer,
    SendAnswer,
    /// The slot of the candidate.
    SendCandidate(usize),
    CreatePeer,
    CreateOffer,
    CreateAnswer,
    SetIceServers,
    RefreshIceServers,
    SetLocal,
    SetRemote,
    Rollback,
    AddCandidate,
    RequestKeyframe,
    /// A step of closing an attempt.
    Close,
    /// A step of closing the peer connection of a remote session that was replaced.
    Replace(CloseStep),
}

impl Purpose {
    /// The name of its deadline.
    pub(crate) fn timer(self) -> Timer {
        match self {
            Self::Connect(_) => Timer::Connect,
            Self::FetchIceServers => Timer::IceServers,
            Self::Close | Self::Replace(_) | Self::Leave(_) => Timer::CloseStep,
            Self::Join
            | Self::SendOffer
            | Self::SendAnswer
            | Self::SendCandidate(_)
            | Self::CreatePeer
            | Self::CreateOffer
            | Self::CreateAnswer
            | Self::SetIceServers
            | Self::RefreshIceServers
            | Self::SetLocal
            | Self::SetRemote
            | Self::Rollback
            | Self::AddCandidate
            | Self::RequestKeyframe => Timer::Operation,
        }
    }

    /// Create, set-local, send, set-remote, rollback: one at a time (contract, N2).
    ///
    /// An operation that outlived its deadline counts as failed and is no longer in flight, so the
    /// rollback that follows may be requested while the stack is still busy with it. A port runs
    /// one operation after the other; if the late one succeeded, the rollback fails and is
    /// reported.
    pub(crate) fn is_description_operation(self) -> bool {
        match self {
            Self::CreateOffer
            | Self::CreateAnswer
            | Self::SetLocal
            | Self::SendOffer
            | Self::SendAnswer
            | Self::SetRemote
            | Self::Rollback => true,
            Self::Connect(_)
            | Self::Leave(_)
            | Self::FetchIceServers
            | Self::Join
            | Self::SendCandidate(_)
            | Self::CreatePeer
            | Self::SetIceServers
            | Self::RefreshIceServers
            | Self::AddCandidate
            | Self::RequestKeyframe
            | Self::Close
            | Self::Replace(_) => false,
        }
    }

    /// Whether something is being closed while the attempt goes on.
    pub(crate) fn is_closing(self) -> bool {
        matches!(self, Self::Leave(_) | Self::Replace(_))
    }

    /// The step of closing a peer connection that is replaced.
    pub(crate) fn replaces(self) -> Option<CloseStep> {
        if let Self::Replace(step) = self { Some(step) } else { None }
    }
}

/// One step of closing a peer connection. One that fails or hangs stops none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CloseStep {
    StopTransceivers,
    RemoveTracks,
    ClosePeer,
}

impl CloseStep {
    /// The shares that the time for closing is divided into: signaling, which goes first, and each
    /// step.
    pub(crate) const COUNT: u32 = 4;

    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::StopTransceivers => Some(Self::RemoveTracks),
            Self::RemoveTracks => Some(Self::ClosePeer),
            Self::ClosePeer => None,
        }
    }

    pub(crate) fn command(self, peer: PeerId) -> PeerCommand {
        match self {
            Self::StopTransceivers => PeerCommand::StopTransceivers { peer },
            Self::RemoveTracks => PeerCommand::RemoveTracks { peer },
            Self::ClosePeer => PeerCommand::Close { peer },
        }
    }
}
