//! The events of a camera.

use std::fmt;

use negotiation_core::Failure;
use serde::Serialize;

/// An event of a camera. As JSON: an object with `event` and the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CameraEvent {
    /// Connected to the channel, at first or again.
    SignalingConnected,
    /// The signaling connection is lost; media continues, and the camera reconnects.
    SignalingLost {
        /// The reason.
        #[serde(serialize_with = "failure_text")]
        failure: Failure,
    },
    /// Another master repeatedly took the channel within seconds after this one connected. The
    /// camera no longer reconnects; its existing sessions continue.
    Displaced {
        /// The number of displacements in a row.
        times: u32,
    },
    /// A viewer's offer will be answered.
    Offer {
        /// The viewer.
        client_id: String,
        /// The session that begins.
        session: u64,
    },
    /// A viewer's offer is not answered.
    OfferIgnored {
        /// The viewer.
        client_id: String,
        /// The reason.
        reason: IgnoredOffer,
    },
    /// A viewer offers to receive video or audio, but not the codec that this camera sends: the
    /// section is rejected in the answer.
    CodecMismatch {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
        /// `video` or `audio`.
        kind: &'static str,
        /// The codec that this camera sends.
        sends: &'static str,
        /// The codecs that the viewer offers.
        offered: Vec<String>,
    },
    /// An answer was sent.
    Answer {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
    },
    /// A viewer is connected and receives media.
    ViewerJoined {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
    },
    /// A session ended and everything that it opened is closed.
    ViewerLeft {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
        /// The reason.
        reason: LeaveReason,
        /// The number of frames sent to it.
        frames: u64,
    },
}

/// The reason why an offer is not answered. KVS has no message that refuses an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IgnoredOffer {
    /// Its client id has a session.
    Repeated,
    /// Its client id had a session with a viewer that vanished a while ago.
    Lingering,
    /// The camera has its maximum number of sessions.
    Full,
    /// The offer is not a session description.
    Undecodable,
}

/// The reason why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeaveReason {
    /// The viewer closed its connection.
    ClosedByViewer,
    /// The viewer can no longer be reached.
    Vanished,
    /// The viewer never connected.
    NeverConnected,
    /// The same client id offered again.
    Replaced,
    /// The offer could not be answered, or the connection broke.
    Failed,
    /// The viewer offers no codec that the camera sends, so the answer rejected every section.
    NoCommonCodec,
    /// The camera was shut down.
    Shutdown,
}

impl fmt::Display for IgnoredOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "its client id has a session already",
            Self::Lingering => "the session of its client id was lost a moment ago",
            Self::Full => "the camera has as many viewers as it may have",
            Self::Undecodable => "it is not a session description",
        })
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosedByViewer => "the viewer closed the connection",
            Self::Vanished => "the connection to the viewer was lost",
            Self::NeverConnected => "no connection to the viewer could be made",
            Self::Replaced => "the viewer made a new offer",
            Self::Failed => "the offer could not be answered, or the connection failed",
            Self::NoCommonCodec => "the viewer offers no codec that this camera sends",
            Self::Shutdown => "the camera stopped",
        })
    }
}

fn failure_text<S: serde::Serializer>(failure: &Failure, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(failure)
}
