//! Ports and driver: runs `negotiation-core` over pluggable signaling, peer and clock adapters.
//!
//! Give [`session`] a configuration and three ports, spawn [`Driver::run`], and talk to the session
//! through its [`Handle`]. This crate needs no particular runtime: it uses channels, not timers.
#![forbid(unsafe_code)]

mod driver;
pub mod facts;
mod handle;
#[cfg(feature = "journal")]
pub mod journal;
mod ports;
pub mod redact;
pub mod sdp;

pub use driver::{Driver, Observer, session};
pub use handle::{Control, EVENTS_MAX, Handle, Told};
pub use negotiation_core as core;
pub use ports::{
    Clock, MasterMemory, MaybeSend, NetworkInput, NetworkPort, PeerInput, PeerPort, SignalingInput,
    SignalingPort,
};
