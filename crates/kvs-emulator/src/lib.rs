//! Amazon Kinesis Video Streams WebRTC signaling on this machine, with faults.
//!
//! One port serves the APIs that a KVS client needs: the control plane, GetIceServerConfig and the
//! signaling WebSocket. Any client with a configurable endpoint URL can use it; it shares no code
//! with a client, so that client and service do not share the same mistake.
//!
//! # In a process
//!
//! ```
//! use kvs_emulator::{Action, Emulator, EmulatorConfig, Fault, Match, MessageType};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EmulatorConfig { channels: vec!["demo".into()], ..EmulatorConfig::default() };
//! let emulator = Emulator::start(config).await?;
//! assert!(emulator.endpoint().starts_with("http://127.0.0.1:"));
//! assert!(emulator.channel_arn("demo").is_some());
//!
//! // The first answer is lost.
//! let fault = Fault::new(Match::first(MessageType::SdpAnswer, 1), Action::Drop);
//! let id = emulator.faults().add(fault)?;
//! assert_eq!(emulator.faults().hits(id), 0);
//! emulator.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # On the command line
//!
//! [`EmulatorArgs`] are the flags and [`run`] serves until a signal arrives; the example `emulator`
//! consists of these two. `--ready-file FILE`, or `--json` on standard output, reports the address
//! in one line of JSON: `endpoint`, `region`, `ca_file`, `ca_pem`, and `channels` from name to ARN.
//! Clients then read `AWS_ENDPOINT_URL_KINESIS_VIDEO`, a region and a credential from the
//! environment as usual. Without a credential of your own the public [`DEFAULT_ACCESS_KEY_ID`] and
//! [`DEFAULT_SECRET_ACCESS_KEY`] are accepted, on loopback only. The JavaScript SDK and GStreamer
//! support `wss://` only: use `--tls-dir DIR` and let them trust `DIR/ca.pem`.
//!
//! # The rest
//!
//! The crate's `README.md` is the manual: the behaviour of AWS ([`Quotas`], [`Lifetimes`]), the
//! settings for unknown behaviour ([`Unknowns`]), what is missing; recipes for other clients; every
//! kind of fault, and the admin API.
//!
//! A [`Fault`] is plain data: a [`Match`] (a message, an upgrade or a call; type, side, client id,
//! channel, API name; how many to let through, how often to apply, with which probability) and an
//! [`Action`]. The first that matches and has uses left applies. Each counts the events that
//! matched and how often it applied. Faults come from [`Emulator::faults`], from flags
//! ([`FaultArgs`]) and from the admin API. An action on an open socket is a [`Then`], by fault or
//! by [`Emulator::strike`]; frames that no client sent are an [`Injection`].
//!
//! # Features
//!
//! `storage` (the storage service's own peer connections) and `turn` (a STUN and TURN server) are
//! on by default; they take most of the build time.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod authority;
mod call_faults;
mod calls;
mod channel;
mod clock;
mod config;
mod connection_guard;
mod connections;
mod emulator;
mod error;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod ice;
mod peer;
mod presence;
mod quota;
mod random;
mod relay;
mod reply;
mod routing;
mod server;
mod shared;
mod sigv4;
mod socket;
mod socket_actions;
#[cfg(feature = "storage")]
mod storage;
#[cfg(feature = "storage")]
mod storage_sessions;
mod sync;
mod tls;
#[cfg(feature = "turn")]
mod turn;
#[cfg(feature = "turn")]
mod turn_auth;
mod upgrade;
mod wire;
mod wire_delay;

pub use args::{EmulatorArgs, FaultArgs, Secret, run, run_until};
pub use config::{
    Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, EmulatorConfig, Lifetimes,
    Quotas, TlsConfig, TurnAuth, TurnConfig, Unknowns,
};
pub use connections::{ConnectionEvent, OnConnection};
pub use emulator::Emulator;
pub use error::EmulatorError;
pub use fault::{
    Action, Corruption, Fault, FaultReport, Faults, Garbage, Injection, Match, Place, Point, Role,
    Target, Then,
};
pub use presence::{Event, PresenceChange, Why};
pub use relay::ClientReport;
pub use shared::{CallCount, ServiceMessage};
pub use wire::{MessageType, Sender};
