//! Ports and driver: runs `negotiation-core` over pluggable signaling, peer and clock adapters.
#![forbid(unsafe_code)]

pub mod facts;
mod ports;

pub use negotiation_core as core;
pub use ports::{Clock, MaybeSend, PeerInput, PeerPort, SignalingInput, SignalingPort};
