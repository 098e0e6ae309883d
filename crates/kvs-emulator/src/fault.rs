//! A fault as plain data: the events it matches, and its effect. Each counts its hits.
//!
//! This module describes, checks and selects faults; relay, socket and server apply them.

mod action;
mod book;
mod inject;
mod menu;

use serde::{Deserialize, Serialize};

use crate::authority::is_authority;
use crate::wire::MessageType;
pub use action::{Action, Corruption, Place, Target, Then};
pub(crate) use book::{CallFacts, MessageFacts};
pub use book::{FaultReport, Faults};
pub(crate) use inject::Frame;
pub use inject::{Garbage, Injection};
pub(crate) use menu::MENU;

/// One fault. As JSON: `{"match":{"on":"message","type":"SDP_ANSWER","times":1},
/// "action":{"do":"drop"}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The events it applies to.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The effect.
    pub action: Action,
}

/// The events a fault applies to. Every filter that is set must match.
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
    /// The viewer concerned, whichever way the message goes; of a call, the client id in its body.
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
    /// How often it applies; absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The probability that it applies, drawn from the emulator's seed; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
}

impl Match {
    /// Matches everything at this place.
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

    /// Matches the first `times` messages of a type.
    #[must_use]
    pub fn first(kind: MessageType, times: u64) -> Self {
        Self { message_type: Some(kind), times: Some(times), ..Self::on(Point::Message) }
    }

    /// Matches every message of a type.
    #[must_use]
    pub fn every(kind: MessageType) -> Self {
        Self { message_type: Some(kind), ..Self::on(Point::Message) }
    }

    /// Refuses a filter that does not exist at its place, since it could never match.
    fn check(&self) -> Result<(), String> {
        let foreign = match self.on {
            Point::Message => self.call.is_some(),
            Point::Upgrade => self.call.is_some() || self.message_type.is_some(),
            Point::Call => self.message_type.is_some() || self.from.is_some(),
        };
        if foreign {
            return Err(format!("a filter of the fault says nothing of {:?}", self.on));
        }
        if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("a probability is between 0 and 1".to_owned());
        }
        Ok(())
    }
}

/// The events that faults apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// A signaling message, once it was accepted from its sender.
    Message,
    /// A socket that is being opened.
    Upgrade,
    /// A REST call, before its signature is checked.
    Call,
}

/// A side of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The camera: it answers offers.
    Master,
    /// A viewer: it sends offers.
    Viewer,
}

impl Fault {
    /// A fault.
    #[must_use]
    pub fn new(matches: Match, action: Action) -> Self {
        Self { matches, action }
    }

    /// Refuses a fault that could never apply, with the reason.
    pub fn check(&self) -> Result<(), String> {
        let on = self.matches.on;
        if !menu::of(&self.action).is_some_and(|kind| kind.on.contains(&on)) {
            return Err(format!("{:?} cannot strike on {on:?}", self.action));
        }
        self.matches.check()?;
        match &self.action {
            Action::Refuse { status, .. } if !(400..=599).contains(status) => {
                Err(format!("status {status} is no error"))
            }
            Action::Refuse { error, .. } if !is_authority(error) => {
                Err(format!("{error:?} is no name of an error"))
            }
            Action::Page { status, .. } if !(200..=599).contains(status) => {
                Err(format!("status {status} is no answer"))
            }
            Action::Duplicate { copies, .. } if *copies > 100 => {
                Err("at most 100 copies".to_owned())
            }
            Action::Inject { what, .. } => what.check(),
            Action::Socket { then, .. } | Action::After { then, .. } => then.check(),
            Action::Drop
            | Action::Delay { .. }
            | Action::Duplicate { .. }
            | Action::Reorder { .. }
            | Action::Hold
            | Action::Away
            | Action::Corrupt { .. }
            | Action::Replay { .. }
            | Action::Sender { .. }
            | Action::Status { .. }
            | Action::CloseSocket { .. }
            | Action::Refuse { .. }
            | Action::Page { .. }
            | Action::Throttle
            | Action::ViewerLimit
            | Action::ExpiredToken
            | Action::Hang { .. }
            | Action::Reset
            | Action::Garbage
            | Action::TurnAge { .. } => Ok(()),
        }
    }
}
