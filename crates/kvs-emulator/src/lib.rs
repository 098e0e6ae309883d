//! Amazon Kinesis Video Streams WebRTC signaling on this machine, with faults.
//!
//! One port speaks what a KVS client needs: the control plane, GetIceServerConfig and the
//! signaling WebSocket. Any client that takes an endpoint URL can point at it; it shares no code
//! with a client, so that nothing agrees with itself in its mistakes.
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
//! [`EmulatorArgs`] are the flags and [`run`] serves until a signal comes; the example `emulator`
//! is no more than that. `--ready-file FILE`, or `--json` on standard output, says in one line of
//! JSON where it is: `endpoint`, `region`, `ca_file`, `ca_pem`, and `channels` from name to ARN.
//! Clients then take `AWS_ENDPOINT_URL_KINESIS_VIDEO`, a region and a credential from the
//! environment as they always do. Without a credential of your own the public
//! [`DEFAULT_ACCESS_KEY_ID`] and [`DEFAULT_SECRET_ACCESS_KEY`] are accepted, on loopback alone.
//! The JavaScript SDK and GStreamer speak to `wss://` alone: give them `--tls-dir DIR` and let
//! them trust `DIR/ca.pem`.
//!
//! # The rest
//!
//! The crate's `README.md` is the manual: what it does as AWS ([`Quotas`], [`Lifetimes`]), what is
//! a setting because it is unknown ([`Unknowns`]), what is missing; recipes for other clients; every
//! kind of fault, and the admin API.
//!
//! A [`Fault`] is plain data: a [`Match`] (a message, an upgrade or a call; type, side, client id,
//! channel, API name; how many to let through, how often to strike, with which probability) and an
//! [`Action`]. The first that matches and has strikes left decides. Each counts what it saw and how
//! often it struck. They come from [`Emulator::faults`], from flags ([`FaultArgs`]) and from the
//! admin API. What can happen to an open socket is a [`Then`], by fault or by
//! [`Emulator::strike`]; what no client sent is an [`Injection`].
//!
//! # Features
//!
//! `storage` (the storage service's own peer connections) and `turn` (a STUN and TURN server) are
//! on by default, and are what takes the time to build.
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
