//! What a camera tells of itself.

use negotiation_core::Failure;
use serde::Serialize;

/// What happened. As JSON: an object with `event` and the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CameraEvent {
    /// Connected to the channel, at first or again.
    SignalingConnected,
    /// The link to the channel is lost; media goes on, and the camera connects again.
    SignalingLost {
        /// Why.
        #[serde(serialize_with = "failure_text")]
        failure: Failure,
    },
    /// A viewer's offer will be answered.
    Offer {
        /// The viewer.
        client_id: String,
        /// The session it begins.
        session: u64,
    },
    /// A viewer's offer meets silence.
    OfferIgnored {
        /// The viewer.
        client_id: String,
        /// Why.
        reason: IgnoredOffer,
    },
    /// An answer was handed to the service.
    Answer {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
    },
    /// A viewer is connected and is sent media.
    ViewerJoined {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
    },
    /// A session is over and everything of it is free.
    ViewerLeft {
        /// The viewer.
        client_id: String,
        /// The session.
        session: u64,
        /// Why.
        reason: LeaveReason,
        /// Frames it was sent.
        frames: u64,
    },
}

/// Why an offer meets silence. No message exists that would refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IgnoredOffer {
    /// Its client id has a session.
    Repeated,
    /// Its client id had a session whose viewer vanished a while ago.
    Lingering,
    /// There are as many sessions as there may be.
    Full,
    /// It is no description.
    Undecodable,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// The viewer closed its connection.
    ClosedByViewer,
    /// The viewer cannot be reached any more.
    Vanished,
    /// It was never connected.
    NeverConnected,
    /// The same client id offered again.
    Replaced,
    /// The offer could not be answered, or the connection broke.
    Failed,
    /// The camera was shut down.
    Shutdown,
}

fn failure_text<S: serde::Serializer>(failure: &Failure, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(failure)
}
