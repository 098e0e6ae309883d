//! The effects of faults, as data. [`super::menu`] lists where each kind may apply.

use serde::{Deserialize, Serialize};

use super::inject::Injection;
use crate::wire::Sender;

/// The effect of a fault. [`super::Fault::check`] verifies that it fits the fault's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Message: is dropped.
    Drop,
    /// Message, call, upgrade: is delayed.
    Delay {
        /// The delay, in milliseconds.
        ms: u64,
    },
    /// Message: is delivered several times.
    Duplicate {
        /// Copies beside the message itself.
        copies: u32,
        /// The time between two copies, in milliseconds.
        #[serde(default)]
        every_ms: u64,
    },
    /// Message: is overtaken by those that follow it to the same recipient.
    Reorder {
        /// The number of messages that overtake it.
        behind: u32,
        /// It is delivered after this many milliseconds even if fewer arrived.
        #[serde(default = "reorder_ms")]
        within_ms: u64,
    },
    /// Message: is kept until the fault is released.
    Hold,
    /// Message: waits as if its recipient were absent, until the recipient connects again or the
    /// message's time to live ends.
    Away,
    /// Message: arrives damaged.
    Corrupt {
        /// The kind of damage.
        how: Corruption,
    },
    /// Message: the last one of its type from an earlier connection of a viewer arrives first, or
    /// instead; without one, the last of this connection.
    Replay {
        /// Whether the message itself is dropped.
        #[serde(default)]
        instead: bool,
    },
    /// Message: arrives as from another sender; without one, as from the master.
    Sender {
        /// The `senderClientId`: absent, null or any text.
        #[serde(default, skip_serializing_if = "Sender::is_absent")]
        sender: Sender,
    },
    /// Message: its recipient receives frames that no client sent.
    Inject {
        /// The frames.
        what: Injection,
        /// Before, after or instead of the message.
        #[serde(default)]
        place: Place,
    },
    /// Message: is refused with a STATUS_RESPONSE.
    Status {
        /// `errorType`.
        error: String,
        /// `statusCode`.
        status: u16,
    },
    /// Message: is dropped, and a socket is closed.
    CloseSocket {
        /// The side with the socket.
        whose: Target,
        /// The close code; absent: TCP ends without a close frame.
        #[serde(default)]
        code: Option<u16>,
    },
    /// Message: acts on a socket; the message is delivered or dropped.
    Socket {
        /// The side with the socket.
        whose: Target,
        /// The action.
        then: Then,
        /// Whether the message is dropped.
        #[serde(default)]
        lost: bool,
    },
    /// Call, upgrade: is answered with an error, in AWS's form.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        error: String,
        /// The error's message.
        #[serde(default)]
        message: String,
    },
    /// Call, upgrade: is answered with this status and body as they are.
    Page {
        /// The HTTP status.
        status: u16,
        /// The body.
        #[serde(default)]
        body: String,
        /// The `Content-Type`.
        #[serde(default = "html")]
        content_type: String,
    },
    /// Call, upgrade: is refused with a throttling error.
    Throttle,
    /// Call, upgrade: is refused because the channel has its maximum of viewers.
    ViewerLimit,
    /// Call, upgrade: is refused because its temporary credential expired.
    ExpiredToken,
    /// Call, upgrade: is never answered, or reset after a while.
    Hang {
        /// Milliseconds until the connection is reset; absent: it stays open until the client
        /// closes it.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// Call, upgrade: the connection is reset without an answer.
    Reset,
    /// Call: is answered with 200 and a body that is no JSON.
    Garbage,
    /// Call (GetIceServerConfig): returns TURN credentials of a given age.
    TurnAge {
        /// Their age in seconds; above their lifetime, TURN servers refuse them.
        secs: u32,
    },
    /// Upgrade: acts on the socket some time after it opened.
    After {
        /// Milliseconds after it opened.
        ms: u64,
        /// The action.
        then: Then,
    },
}

fn reorder_ms() -> u64 {
    1000
}

fn html() -> String {
    "text/html".to_owned()
}

/// The position of an injected frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before the message.
    #[default]
    Before,
    /// After the message.
    After,
    /// Instead of the message.
    Instead,
}

/// A kind of damage to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// The payload is not valid base64.
    Base64,
    /// The payload is base64 of invalid JSON.
    Json,
    /// The payload is a description with an empty `sdp`.
    Sdp,
    /// The frame itself is cut in half.
    Envelope,
}

/// The side of a message whose socket an action is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The socket of the message's sender.
    Sender,
    /// The socket of the message's recipient.
    Recipient,
    /// Both sockets.
    Both,
}

/// An action on an open socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Sends a close frame with code 1001.
    Close,
    /// Sends a close frame with this code.
    CloseWith(u16),
    /// Ends TCP without a close frame.
    Cut,
    /// Stops reading and writing, and keeps TCP open.
    Stall,
    /// Sends GO_AWAY, and closes after the grace period.
    GoAway,
    /// Sends RECONNECT_ICE_SERVER.
    ReconnectIceServer,
    /// Displaces the client, as if its client id connected elsewhere. The connection that takes its
    /// place has no client, and stays until a newer one displaces it.
    Takeover,
    /// Delivers frames that no client sent.
    Inject(Injection),
}

impl Then {
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Inject(what) => what.check(),
            Self::CloseWith(code) if !(1000..=4999).contains(code) => {
                Err(format!("{code} is no close code"))
            }
            Self::Close
            | Self::CloseWith(_)
            | Self::Cut
            | Self::Stall
            | Self::GoAway
            | Self::ReconnectIceServer
            | Self::Takeover => Ok(()),
        }
    }
}
