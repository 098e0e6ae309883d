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
//! # As AWS
//!
//! - **Signature Version 4** is verified, for calls (`Authorization`) and for the socket's
//!   presigned URL (`X-Amz-Expires` up to 300 s): key, session token, scope, time within 5
//!   minutes, every signed header, the whole query and body. A refusal has AWS's status, error
//!   name and text, and a `Date` header.
//! - **Calls**: Create-, Describe-, List- (paged, BEGINS_WITH), Update- and
//!   DeleteSignalingChannel, GetSignalingChannelEndpoint, Describe- and
//!   UpdateMediaStorageConfiguration, GetIceServerConfig. Fields are checked as the service
//!   models have it.
//! - **Sockets**: a URL with `X-Amz-ClientId` is a viewer's, one without is the master's. A newer
//!   connection takes the place of an older one with its id. Messages from the master carry no
//!   sender. Field names are read in any case, payloads pass through as they are.
//! - **Waiting**: an offer for an absent master waits for the channel's message TTL; a newer one
//!   of the same viewer overwrites it, with the candidates that belonged to it. Nobody is told
//!   that the other side is absent.
//! - **STATUS_RESPONSE** only on errors, and only for messages with a correlation id. What is no
//!   message, empty and binary frames among them, is passed over.
//! - **Quotas** ([`Quotas`]): ten viewers, connects, sends and calls a second, payload size.
//! - **A channel with media storage enabled** relays nothing between viewer and master.
//!
//! # Settings where AWS's behaviour is unknown
//!
//! [`Unknowns`], each with its default: what becomes of a displaced socket, close codes, whether
//! GO_AWAY precedes the age limit and what it carries, whether candidates and answers wait for an
//! absent side, whether pings count as traffic, whether a master may offer, error names of
//! throttled and oversize messages, what a join of a storage session answers. On the command
//! line: `--unknowns '{"displaced_close_code":null}'`, and `--quotas` alike.
//!
//! # Faults
//!
//! A [`Fault`] is plain data: a [`Match`] (a message, an upgrade or a call; type, side, client id,
//! channel, API name; how many to let through, how often to strike, with which probability) and an
//! [`Action`]. The first that matches and has strikes left decides. Each counts what it saw and
//! how often it struck. They come from [`Emulator::faults`], from flags ([`FaultArgs`]) and from
//! the admin API:
//!
//! | request | does |
//! |---|---|
//! | `GET /health` | says that it runs |
//! | `GET /admin/faults` | lists faults with `seen` and `hits` |
//! | `POST /admin/faults` | adds one: `{"match":{"on":"message","type":"SDP_ANSWER","times":1},"action":{"do":"drop"}}` |
//! | `DELETE /admin/faults`, `DELETE /admin/faults/ID` | ends all, ends one |
//! | `POST /admin/faults/ID/release` | delivers what a `hold` kept back |
//! | `GET /admin/clients`, `/admin/channels`, `/admin/calls` | who is connected, what exists, what was called and refused |
//! | `POST /admin/channels/NAME/disconnect` | `{"role":"viewer","client_id":"v","code":1001}`, all optional; without a code TCP just ends |
//! | `POST /admin/channels/NAME/send` | `{"type":"GO_AWAY"}`, `{"type":"RECONNECT_ICE_SERVER"}` or `{"raw":"…"}`, to `role` and `client_id` |
//! | `POST /admin/clock` | `{"offset_secs":600}`: the service's clock is off |
//!
//! It answers loopback peers alone, and no web page.
//!
//! The faults by name: `drop`, `delay`, `duplicate`, `reorder`, `hold`, `corrupt`, `replay`,
//! `status` and `close_socket` for messages; `refuse`, `delay`, `hang` and `reset` for calls and
//! upgrades; `garbage` for calls; `after` for upgrades, with `close`, `cut`, `stall`, `go_away` or
//! `reconnect_ice_server` some time after the socket opened.
//!
//! # Missing
//!
//! Storage sessions are not played (JoinStorageSession* answers an error, or an empty success by
//! setting); SendAlexaOfferToMaster, tags after creation and IAM policies are not there; an
//! `IceServerList` beside an offer is not passed on; HTTP/2 is not spoken; there is no STUN or
//! TURN server, and GetIceServerConfig's list is empty until [`TurnConfig`] names one. Master and
//! viewers get the same host. Nothing here has been compared with AWS itself.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod calls;
mod channel;
mod clock;
mod config;
mod courier;
mod emulator;
mod error;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
mod happen;
mod http;
mod ice;
mod presence;
mod quota;
mod random;
mod relay;
mod server;
mod shared;
mod sigv4;
mod socket;
#[cfg(feature = "storage")]
mod storage;
mod sync;
mod tls;
#[cfg(feature = "turn")]
mod turn;
mod upgrade;
mod wire;

pub use args::{EmulatorArgs, FaultArgs, Secret, run, run_until};
pub use config::{
    Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, EmulatorConfig, Lifetimes,
    Quotas, TlsConfig, TurnAuth, TurnConfig, Unknowns,
};
pub use emulator::Emulator;
pub use error::EmulatorError;
pub use fault::{
    Action, Corruption, Fault, FaultReport, Faults, Garbage, Injection, Match, Place, Point, Role,
    Sender, Then, Whose,
};
pub use presence::{Event, Happening, Why};
pub use relay::ClientReport;
pub use shared::{CallCount, ServiceMessage};
pub use wire::MessageType;
