//! All commands and events of a session.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::{Failure, Ignored};
use crate::evidence::{AttemptReport, Outcome};
use crate::master::{MasterKnowledge, RecoveryCause};
use crate::phase::Phase;
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};
use crate::types::{
    Candidate, ClientId, ConnectionId, Description, IceServer, MediaKind, PeerId, SdpKind,
};

/// One command or event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Output {
    /// A command for the signaling port.
    Signaling(Ticket, SignalingCommand),
    /// A command for the peer port.
    Peer(Ticket, PeerCommand),
    /// News for the application.
    Event(Event),
}

/// A command to the signaling port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SignalingCommand {
    /// Open a signaling connection. Completes with [`crate::Done::Connected`].
    Connect {
        /// The signaling connection's number.
        link: ConnectionId,
        /// The attempt it is for.
        attempt: u32,
        /// The attempt's id, for a connection after its first; without it the port leases one.
        client_id: Option<ClientId>,
    },
    /// Ask the service to offer (a storage session). Not idempotent: one offer a call.
    Join {
        /// On behalf of this connection.
        link: ConnectionId,
    },
    /// Ask for STUN and TURN servers, beside a connection that is opening.
    /// Completes with [`crate::Done::IceServers`].
    FetchIceServers {
        /// The connection they belong to; closing it cancels this.
        link: ConnectionId,
    },
    /// Send a message to the master.
    Send {
        /// On this connection.
        link: ConnectionId,
        /// This message.
        message: Message,
    },
    /// Close the signaling connection and cancel what is under way on it.
    Disconnect {
        /// The connection.
        link: ConnectionId,
    },
}

impl SignalingCommand {
    /// The connection it is about.
    pub fn link(&self) -> ConnectionId {
        match self {
            Self::Connect { link, .. }
            | Self::Join { link }
            | Self::FetchIceServers { link }
            | Self::Send { link, .. }
            | Self::Disconnect { link } => *link,
        }
    }
}

/// A message to the master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Message {
    /// `SDP_OFFER`.
    Offer(Description),
    /// `SDP_ANSWER`.
    Answer(Description),
    /// `ICE_CANDIDATE`.
    Candidate(Candidate),
}

/// A command to the peer port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PeerCommand {
    /// Make a peer connection. Completes with [`crate::Done::Created`].
    Create {
        /// Its number.
        peer: PeerId,
    },
    /// Make an offer. Completes with [`crate::Done::Description`].
    CreateOffer {
        /// The peer connection.
        peer: PeerId,
        /// With new ICE credentials.
        restart: bool,
    },
    /// Make an answer to the offer that was set. Completes with [`crate::Done::Description`].
    CreateAnswer {
        /// The peer connection.
        peer: PeerId,
    },
    /// Use these servers from the next gathering on.
    SetIceServers {
        /// The peer connection.
        peer: PeerId,
        /// The servers.
        servers: Vec<IceServer>,
    },
    /// Set a local offer or answer.
    SetLocal {
        /// The peer connection.
        peer: PeerId,
        /// Which of the two.
        kind: SdpKind,
        /// As the port made it.
        description: Description,
    },
    /// Set an offer or answer of the master's.
    SetRemote {
        /// The peer connection.
        peer: PeerId,
        /// Which of the two.
        kind: SdpKind,
        /// As it came.
        description: Description,
    },
    /// Take back an offer that was set and has no answer, ours or the master's.
    Rollback {
        /// The peer connection.
        peer: PeerId,
    },
    /// Add one of the master's candidates.
    AddCandidate {
        /// The peer connection.
        peer: PeerId,
        /// The candidate.
        candidate: Candidate,
    },
    /// Ask the master's encoder for a keyframe (PLI and FIR).
    RequestKeyframe {
        /// The peer connection.
        peer: PeerId,
    },
    /// First step of closing a peer connection.
    StopTransceivers {
        /// The peer connection.
        peer: PeerId,
    },
    /// Second step: the application's own tracks are detached, not ended.
    RemoveTracks {
        /// The peer connection.
        peer: PeerId,
    },
    /// Last step: close it and drop every reference to it.
    Close {
        /// The peer connection.
        peer: PeerId,
    },
}

impl PeerCommand {
    /// The peer connection it is about.
    pub fn peer(&self) -> PeerId {
        match self {
            Self::Create { peer }
            | Self::CreateOffer { peer, .. }
            | Self::CreateAnswer { peer }
            | Self::SetIceServers { peer, .. }
            | Self::SetLocal { peer, .. }
            | Self::SetRemote { peer, .. }
            | Self::Rollback { peer }
            | Self::AddCandidate { peer, .. }
            | Self::RequestKeyframe { peer }
            | Self::StopTransceivers { peer }
            | Self::RemoveTracks { peer }
            | Self::Close { peer } => *peer,
        }
    }

    /// Whether it is a step of closing, which overtakes what is queued.
    pub fn is_close(&self) -> bool {
        match self {
            Self::StopTransceivers { .. } | Self::RemoveTracks { .. } | Self::Close { .. } => true,
            Self::Create { .. }
            | Self::CreateOffer { .. }
            | Self::CreateAnswer { .. }
            | Self::SetIceServers { .. }
            | Self::SetLocal { .. }
            | Self::SetRemote { .. }
            | Self::Rollback { .. }
            | Self::AddCandidate { .. }
            | Self::RequestKeyframe { .. } => false,
        }
    }
}

/// What is reported to the application.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Event {
    /// The phase changed.
    PhaseChanged {
        /// The phase before.
        from: Phase,
        /// The phase now.
        to: Phase,
    },
    /// An attempt began.
    AttemptStarted {
        /// Its number, from 1.
        attempt: u32,
    },
    /// The signaling connection is open.
    LinkOpened {
        /// Under this id.
        client_id: ClientId,
    },
    /// The offer was handed to the service.
    OfferSent {
        /// The exchange's number in this attempt, from 1.
        exchange: u32,
    },
    /// A valid answer came.
    AnswerReceived {
        /// Time since the offer was sent.
        after: Duration,
    },
    /// Something came from the master for the first time in this attempt.
    MasterSeen,
    /// ICE and DTLS are up.
    Connected,
    /// The master's track is there; the media itself comes from the peer port.
    TrackAdded(MediaKind),
    /// The first whole keyframe came.
    KeyframeReceived,
    /// The session is live.
    Live,
    /// ICE receives nothing; nothing is done yet.
    Disconnected,
    /// ICE is back before anything was done.
    Reconnected,
    /// The ladder began: an ICE restart is under way, media may or may not flow.
    Recovering(RecoveryCause),
    /// The restart worked, or was not needed any more.
    Recovered,
    /// The master refuses or ignores ICE restarts; the next loss goes straight to a new attempt.
    RestartRefused,
    /// Something about the master was learned that holds for later sessions of its channel.
    MasterLearned(MasterKnowledge),
    /// The master is gone: nothing of it comes any more.
    MasterGone(RecoveryCause),
    /// The platform has no network; deadlines stand still for a while.
    Offline,
    /// The platform has a network again.
    Online,
    /// Only sender reports come: the camera is paused.
    MediaPaused,
    /// Media stopped while ICE is up; a keyframe is requested.
    MediaStalled,
    /// Media flows again.
    MediaResumed,
    /// The signaling connection ended while media flows; media goes on.
    LinkLost(Failure),
    /// A lost signaling connection is open again, under the same id.
    LinkReopened,
    /// A lost signaling connection could not be opened again; unless the failure is permanent, it
    /// is tried again.
    LinkNotReopened(Failure),
    /// A lost signaling connection is not opened again; media goes on while it lasts.
    LinkGivenUp(Failure),
    /// Fresh ICE servers are there for the next exchange.
    IceServersRefreshed,
    /// The service announced (GO_AWAY) that it will close this signaling connection.
    GoAway,
    /// A later exchange was not answered or failed; media goes on as before.
    RenegotiationFailed,
    /// A deadline was armed that the session waits on.
    DeadlineArmed {
        /// Which.
        timer: Timer,
        /// When it fires.
        at: Timestamp,
    },
    /// A deadline fired.
    DeadlineFired(Timer),
    /// An attempt is over and everything it opened is closed.
    AttemptEnded(Box<AttemptReport>),
    /// Another attempt will start.
    RetryScheduled {
        /// Its number.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// An input changed nothing; reported for the first of its kind in an attempt, then counted.
    Ignored(Ignored),
    /// A step of closing failed or hung; the others went on.
    CloseStepFailed(Failure),
    /// The end. Nothing follows.
    Ended(Box<Outcome>),
}
