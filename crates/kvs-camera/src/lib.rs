//! A synthetic camera: a KVS WebRTC master for any KVS-compatible endpoint.
//!
//! [`Camera::start`] connects to a channel as its master and answers viewers as real masters do;
//! [`Behaviour`] and [`Trickle`] select the kind of master. It sends a clip in an endless loop: a
//! bundled one, which shows a frame counter, or a file. [`CameraArgs`] and [`run`] provide the same
//! as a command.
//!
//! All viewers get one live stream, as from one encoder. It pauses while no viewer watches, so that
//! the counter continues where it stopped. A file has keyframes at fixed places: when a viewer
//! joins or requests one (PLI, FIR), the stream jumps to the clip's next keyframe for all viewers,
//! audio and video together.
//!
//! ```no_run
//! use kvs_camera::{Camera, CameraConfig};
//! use signaling_aws::SignalingConfig;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let signaling = SignalingConfig::builder("front-door").region("us-west-2").build()?;
//! let camera = Camera::start(CameraConfig::new(signaling)).await?;
//! tokio::signal::ctrl_c().await?;
//! camera.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod args;
mod camera;
mod config;
mod encoder;
mod error;
mod event;
mod frame_log;
mod keyframes;
mod link;
mod outlet;
mod playback;
mod roster;
mod sdp;
mod session;

pub use args::{BehaviourKind, CameraArgs, ClipCodec, run, run_until};
pub use camera::Camera;
pub use config::{Behaviour, CameraConfig, Source, Trickle};
pub use error::CameraError;
pub use event::{CameraEvent, IgnoredOffer, LeaveReason};
pub use frame_log::FrameLog;
pub use frame_log::FrameRecord;
