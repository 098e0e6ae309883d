//! A fault is plain data: what it matches, and what then happens. Each counts its hits.
//!
//! What a fault means on the wire is the business of the relay, the socket and the server; here
//! it is only described, checked and chosen.

mod book;

use serde::{Deserialize, Serialize};

use crate::config::is_authority;
use crate::wire::MessageType;
pub(crate) use book::MessageFacts;
pub use book::{FaultReport, Faults};

/// One fault. As JSON: `{"match":{"on":"message","type":"SDP_ANSWER","times":1},
/// "action":{"do":"drop"}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When it strikes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// What happens then.
    pub action: Action,
}

/// When a fault strikes. Every filter that is set must agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The place.
    pub on: Point,
    /// Messages of this type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// Messages or sockets of this side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Role>,
    /// The viewer concerned, whichever way the message goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The channel, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The REST call, by its API name (`GetIceServerConfig`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// How many that match are let through first.
    #[serde(default)]
    pub skip: u64,
    /// How often it strikes; absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Strikes with this probability, drawn from the emulator's seed; absent: surely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

impl Match {
    /// Everything at this place.
    #[must_use]
    pub fn on(point: Point) -> Self {
        Self {
            on: point,
            message_type: None,
            from: None,
            client_id: None,
            channel: None,
            call: None,
            skip: 0,
            times: None,
            probability: None,
        }
    }

    /// The first `times` messages of a type.
    #[must_use]
    pub fn first(kind: MessageType, times: u64) -> Self {
        Self { message_type: Some(kind), times: Some(times), ..Self::on(Point::Message) }
    }

    /// Every message of a type.
    #[must_use]
    pub fn every(kind: MessageType) -> Self {
        Self { message_type: Some(kind), ..Self::on(Point::Message) }
    }
}

/// Where faults strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// A signaling message, once it was accepted from its sender.
    Message,
    /// A socket that is being opened.
    Upgrade,
    /// A REST call, before its signature is looked at.
    Call,
}

/// A side of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one who answers.
    Master,
    /// One of those who offer.
    Viewer,
}

/// What happens. Which actions fit which place is checked by [`Fault::check`].
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
    /// Message: arrives damaged.
    Corrupt {
        /// How.
        how: Corruption,
    },
    /// Message: an earlier one of its type on the channel arrives first, or instead.
    Replay {
        /// Whether the message itself is lost.
        #[serde(default)]
        instead: bool,
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
        /// Whose.
        whose: Whose,
        /// The close code; absent: TCP ends without a close frame.
        #[serde(default)]
        code: Option<u16>,
    },
    /// Call, upgrade: is answered with an error.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        error: String,
        /// Its text.
        #[serde(default)]
        message: String,
    },
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

/// Whose socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The sender's.
    Sender,
    /// The recipient's.
    Recipient,
    /// Both.
    Both,
}

/// What can happen to an open socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// A close frame with code 1001.
    Close,
    /// TCP ends without one.
    Cut,
    /// No byte is read or written any more, and TCP stays up.
    Stall,
    /// GO_AWAY, and the close after the grace period.
    GoAway,
    /// RECONNECT_ICE_SERVER.
    ReconnectIceServer,
}

impl Fault {
    /// A fault.
    #[must_use]
    pub fn new(matches: Match, action: Action) -> Self {
        Self { matches, action }
    }

    /// Refuses what could never strike, with the reason.
    pub fn check(&self) -> Result<(), String> {
        let fits = match (&self.action, self.matches.on) {
            (
                Action::Drop
                | Action::Duplicate { .. }
                | Action::Reorder { .. }
                | Action::Hold
                | Action::Corrupt { .. }
                | Action::Replay { .. }
                | Action::Status { .. }
                | Action::CloseSocket { .. },
                point,
            ) => point == Point::Message,
            (Action::Delay { .. }, _) => true,
            (Action::Refuse { .. } | Action::Hang { .. } | Action::Reset, point) => {
                point != Point::Message
            }
            (Action::Garbage, point) => point == Point::Call,
            (Action::After { .. }, point) => point == Point::Upgrade,
        };
        if !fits {
            return Err(format!("{:?} cannot strike on {:?}", self.action, self.matches.on));
        }
        if let Action::Refuse { status, error, .. } = &self.action {
            if !(400..=599).contains(status) {
                return Err(format!("status {status} is no error"));
            }
            if !is_authority(error) {
                return Err(format!("{error:?} is no name of an error"));
            }
        }
        if let Action::Duplicate { copies, .. } = &self.action
            && *copies > 100
        {
            return Err("at most 100 copies".to_owned());
        }
        if self.matches.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("a probability is between 0 and 1".to_owned());
        }
        Ok(())
    }
}
