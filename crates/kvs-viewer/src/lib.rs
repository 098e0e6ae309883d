//! Watch cameras of Amazon Kinesis Video Streams with WebRTC (KVS): every session ends up live or
//! ends with a reason.
//!
//! ```no_run
//! use kvs_viewer::prelude::*;
//!
//! # async fn watch() -> Result<(), InvalidOption> {
//! let mut viewer = Viewer::watch("front-door").region("us-west-2").start().await?;
//! while let Some(update) = viewer.next().await {
//!     match update {
//!         Update::Frame(frame) => println!("{frame}"),
//!         Update::Event(event) => eprintln!("{event}"),
//!         _ => {}
//!     }
//! }
//! println!("{}", viewer.closed().await);
//! # Ok(())
//! # }
//! ```
//!
//! [`Viewer`] opens the signaling connection, sends the SDP offer, waits for the camera's answer
//! with a deadline, retries within its budget and recovers a live session; [`Viewer::watch`] has an
//! option for each part of that. Credentials and region come from AWS's default chain.
//!
//! | feature | what it adds |
//! |---|---|
//! | `recording` | `ViewerBuilder::record_to`: a file (`.mp4`, `.webm`, `.mkv`) that plays at any moment |
//! | `network-watch` | the platform's network changes start recovery at once, instead of after ICE noticed |
//!
//! [`Session`] is the layer below: the same adapters without builder options, frame queues or
//! recording. An application with its own signaling or peer stack uses [`viewer_session`], and one
//! with its own runtime uses [`viewer_session::core`].
#![forbid(unsafe_code)]

mod builder;
mod error;
mod frame;
mod masters;
mod queue;
#[cfg(feature = "recording")]
pub mod record;
mod session;
mod viewer;

pub use builder::{RetryPreset, ViewerBuilder};
pub use encoded_frames::{AudioCodec, Codec, ParameterSets, VideoCodec, h264};
pub use error::InvalidOption;
pub use frame::{EncodedFrame, H264Format};
pub use negotiation_core::{EndReason, Event, MediaKind, Outcome, Phase, Settings, Timestamp};
pub use peer_webrtc::{
    IcePolicy, MediaEvent, MediaReceiver, PeerConfig, PeerMonitor, PeerStats, RemoteAddresses, rtp,
};
pub use session::{Session, SessionConfig};
pub use signaling_aws::{KvsClient, Proxy, SignalingConfig, SignalingConfigBuilder};
#[cfg(feature = "recording")]
pub use viewer::RecordingUpdate;
pub use viewer::{Events, Frames, Update, Viewer};
pub use viewer_session::{self, Control};

/// The types that nearly every application uses.
pub mod prelude {
    pub use crate::{
        EncodedFrame, EndReason, Event, InvalidOption, MediaKind, Outcome, Update, Viewer,
    };
}
