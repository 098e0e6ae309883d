//! What a fault does, as data. [`super::menu`] lists where each kind may strike.

use serde::{Deserialize, Serialize};

use super::inject::Injection;
use crate::wire::Sender;

/// What happens. Which actions fit which place is checked by [`super::Fault::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Message: is lost.
    Drop,
    /// Message, call, upgrade: goes on later.
    Delay {
        /// By how much.
        ms: u64,
    },
    /// Message: is delivered this many times more.
    Duplicate {
        /// Beside the message itself.
        copies: u32,
        /// Between two of them.
        #[serde(default)]
        every_ms: u64,
    },
    /// Message: is overtaken by those that follow it to the same recipient.
    Reorder {
        /// How many overtake it.
        behind: u32,
        /// It goes on after this even when fewer came.
        #[serde(default = "reorder_ms")]
        within_ms: u64,
    },
    /// Message: is kept until the fault is released.
    Hold,
    /// Message: waits as if its recipient were away, until that connects again or the message's
    /// time to live ends.
    Away,
    /// Message: arrives damaged.
    Corrupt {
        /// How.
        how: Corruption,
    },
    /// Message: the last one of its type from an earlier connection of a viewer arrives first, or
    /// instead; without one, the last of this connection.
    Replay {
        /// Whether the message itself is lost.
        #[serde(default)]
        instead: bool,
    },
    /// Message: arrives as from another sender; without one, as from the master.
    Sender {
        /// The `senderClientId`: absent, null or any text.
        #[serde(default, skip_serializing_if = "Sender::is_absent")]
        sender: Sender,
    },
    /// Message: its recipient is sent something that no client sent.
    Inject {
        /// What.
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
    /// Message: a socket is closed, and the message lost.
    CloseSocket {
        /// The side whose socket it is.
        whose: Target,
        /// The close code; absent: TCP ends without a close frame.
        #[serde(default)]
        code: Option<u16>,
    },
    /// Message: something happens to a socket, and the message goes on or is lost.
    Socket {
        /// The side whose socket it is.
        whose: Target,
        /// What.
        then: Then,
        /// Whether the message is lost.
        #[serde(default)]
        lost: bool,
    },
    /// Call, upgrade: is answered with an error, in AWS's form.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        error: String,
        /// Its text.
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
        /// Its type.
        #[serde(default = "html")]
        content_type: String,
    },
    /// Call, upgrade: is refused as above its rate.
    Throttle,
    /// Call, upgrade: is refused as one viewer too many.
    ViewerLimit,
    /// Call, upgrade: is refused as signed with a temporary credential that has ended.
    ExpiredToken,
    /// Call, upgrade: is never answered, or reset after a while.
    Hang {
        /// Until the connection is reset; absent: until the client leaves.
        #[serde(default)]
        ms: Option<u64>,
    },
    /// Call, upgrade: the connection ends without an answer.
    Reset,
    /// Call: is answered with 200 and a body that is no JSON.
    Garbage,
    /// Call (GetIceServerConfig): hands out credentials that have been used for so long already.
    TurnAge {
        /// Their age; more than their lifetime, and relays refuse them.
        secs: u32,
    },
    /// Upgrade: something happens to the socket some time after it opened.
    After {
        /// After it opened.
        ms: u64,
        /// What.
        then: Then,
    },
}

fn reorder_ms() -> u64 {
    1000
}

fn html() -> String {
    "text/html".to_owned()
}

/// Where an injected frame stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before the message.
    #[default]
    Before,
    /// After it.
    After,
    /// The message is lost.
    Instead,
}

/// Ways to damage a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// The payload is no base64.
    Base64,
    /// The payload is base64 of what is no JSON.
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
    /// The sender's.
    Sender,
    /// The recipient's.
    Recipient,
    /// Both.
    Both,
}

/// What can happen to an open socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// A close frame with code 1001.
    Close,
    /// A close frame with this code.
    CloseWith(u16),
    /// TCP ends without one.
    Cut,
    /// No byte is read or written any more, and TCP stays up.
    Stall,
    /// GO_AWAY, and the close after the grace period.
    GoAway,
    /// RECONNECT_ICE_SERVER.
    ReconnectIceServer,
    /// A connection without a client takes its place, as when its client id connects elsewhere. It stays
    /// until a newer one takes its own.
    Takeover,
    /// Something that no client sent arrives.
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
