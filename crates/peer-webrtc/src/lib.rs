//! A peer port over the webrtc crate.
//!
//! What belongs here: everything that names a type of the webrtc stack. The port is the
//! session's port; [`stack`] is the tuned connection below it, which a master uses directly.
//! Media goes straight to the application, past the session.
#![forbid(unsafe_code)]

mod codec;
mod local;
mod sdp;
pub mod stack;
mod tap;

pub use codec::Codec;
pub use local::{LocalTrack, NotAttached};
pub use stack::{IcePolicy, Mdns};
pub use tap::{Control, RtpArrival, TapLosses};

/// RTP packets as this crate takes and gives them.
pub use rtc::rtp;
