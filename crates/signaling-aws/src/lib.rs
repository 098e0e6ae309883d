//! KVS signaling over AWS: the control plane and the presigned WebSocket.
//!
//! A viewer's end is [`AwsSignaling`], a [`viewer_session::SignalingPort`]; a master's is
//! [`MasterConnection`]. Both are created from a [`SignalingConfig`], which is checked before any
//! network is touched.
//!
//! # Secrets
//! This crate prints no key, token, signature or signed URL. Its dependencies do, at debug and
//! trace level; [`LEAKING_TARGETS`] lists them, so that a log can leave them out.
//!
//! # Example
//! ```
//! use signaling_aws::{AwsSignaling, SignalingConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = SignalingConfig::builder("front-door").region("us-west-2").build()?;
//! // The signaling port of `viewer_session::session`, which opens the connection. It needs a tokio
//! // runtime.
//! let signaling = AwsSignaling::new(config);
//! # drop(signaling);
//!
//! // An invalid setting is refused before any network is touched; the error names the field.
//! let refused = SignalingConfig::builder("front-door").endpoint_url("kvs").build();
//! assert_eq!(refused.map_err(|error| error.field.as_str()).err(), Some("endpoint_url"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod attempt_id;
mod bounded;
mod channel_client;
mod clock;
mod config;
mod config_error;
mod connection;
mod control_plane;
mod dial;
mod endpoint;
mod endpoint_file;
mod error;
mod http;
mod ice;
mod id_file;
mod identity;
mod kvs_client;
mod lease;
mod limits;
mod master;
mod pace;
mod port;
pub mod presign;
mod proxy;
mod quota;
mod service_cache;
mod socket;
mod state_dir;
mod status_probe;
mod tls;
mod upgrade;

pub use config::{Channel, SignalingConfig, SignalingConfigBuilder, Stun};
pub use config_error::{ConfigError, Field};
pub use error::close_code;
pub use kvs_client::KvsClient;
pub use kvs_wire::ChannelArn;
pub use limits::Limits;
pub use master::{IceSource, MasterConnection, MasterEvent, MasterSender, StorageSession};
pub use port::AwsSignaling;
pub use proxy::{Duplex, Proxy};
pub use tls::{WarmUp, warm_up};

/// Log targets (by prefix) that write signatures, tokens, signed URLs or TURN passwords below the
/// level `info`. A log at such a level has to leave them out.
pub const LEAKING_TARGETS: [&str; 13] = [
    // Canonical requests, requests with their Authorization header, bodies with TURN passwords.
    "aws_config",
    "aws_runtime",
    "aws_sdk_kinesisvideo",
    "aws_sdk_kinesisvideosignaling",
    "aws_sdk_sso",
    "aws_sdk_sts",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    // Headers and frames of HTTP.
    "h2",
    "hyper",
    // The upgrade request with the signed URL, and every frame.
    "tokio_tungstenite",
    "tungstenite",
];
