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
    /// The signaling connection is lost; media continues, and the camera connects again.
    SignalingLost {
        /// Why.
        #[serde(serialize_with = "failure_text")]
        failure: Failure,
    },
    /// Another master took the channel again and again within seconds of this one's connecting. The
    /// camera no longer connects; sessions that it has go on.
    Displaced {
        /// How often in a row.
        times: u32,
    },
    /// A viewer's offer will be answered.
    Offer {
        /// The viewer.
        client_id: String,
        /// The session it begins.
        session: u64,
    },
    /// A viewer's offer is not answered.
    OfferIgnored {
        /// The viewer.
        client_id: String,
        /// Why.
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
        /// Why.
        reason: LeaveReason,
        /// The number of frames that it was sent.
        frames: u64,
    },
}

/// Why an offer is not answered. KVS has no message that refuses an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IgnoredOffer {
    /// Its client id has a session.
    Repeated,
    /// Its client id had a session whose viewer vanished a while ago.
    Lingering,
    /// The camera has its maximum of sessions.
    Full,
    /// The offer is not a session description.
    Undecodable,
}

/// Why a session ended.
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
    /// The viewer offers no codec that the camera sends: everything in its offer was rejected.
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
