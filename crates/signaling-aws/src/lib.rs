//! KVS signaling over AWS: control plane, presigned WebSocket, wire codec.
#![forbid(unsafe_code)]

mod arn;
mod config;
mod connect;
mod control_plane;
mod error;
mod ice;
mod identity;
mod master;
pub mod presign;
mod quota;
mod socket;
mod tls;
pub mod wire;

pub use arn::ChannelArn;
pub use config::{Channel, ConfigError, Limits, SignalingConfig, SignalingConfigBuilder, Stun};
pub use master::{IceSource, MasterEvent, MasterLink, MasterSender};
