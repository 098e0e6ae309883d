//! The KVS WebRTC viewer that always ends: live, or with a reason.
//!
//! [`Viewer`] is a session with the default adapters wired: AWS signaling, the webrtc crate, tokio.
//! Whoever wants other adapters takes `viewer-session` and brings ports; whoever wants another
//! runtime takes `negotiation-core` and brings a loop.
#![forbid(unsafe_code)]

mod masters;
mod viewer;

pub use viewer::{Viewer, ViewerConfig};
