//! The sans-IO core of a KVS WebRTC viewer session: it decides everything and touches nothing.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod error;
mod evidence;
mod input;
mod lease;
mod output;
mod phase;
mod ticket;
mod time;
mod types;

pub use config::{Config, ConfigError, RetryDelay, Settings};
pub use error::{EndReason, Failure, FailureCode, FailureKind, Ignored};
pub use evidence::{AttemptEnd, AttemptReport, Evidence, Outcome};
pub use input::{
    CandidateRelease, Completion, Connectivity, Done, Input, PeerEvent, PeerTraits, Sender,
    SignalingEvent, Undecodable,
};
pub use lease::{ClientIdPolicy, ClientIdPool};
pub use output::{Event, Message, Output, PeerCommand, SignalingCommand};
pub use phase::Phase;
pub use ticket::{InvalidTicket, Ticket};
pub use time::{Timer, Timestamp};
pub use types::{
    Candidate, ClientId, Description, Digest, Facts, IceServer, InvalidClientId, LinkId, MediaFact,
    MediaKind, PeerId, Sdp, Secret,
};
