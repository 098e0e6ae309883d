//! Ports and driver: runs `negotiation-core` over pluggable signaling, peer and clock adapters.
//!
//! Give [`session`] a configuration and three ports, spawn [`Driver::run`], and talk to the session
//! through its [`Handle`]. This crate needs no particular runtime: it uses channels, not timers.
//!
//! ```
//! use viewer_session::core::{Event, Outcome, Settings};
//! use viewer_session::{Clock, PeerPort, SignalingPort, SessionUpdate, session};
//!
//! /// Watches until live, then closes.
//! async fn watch_once<S, P, C>(signaling: S, peer: P, clock: C, seed: u64) -> Outcome
//! where
//!     S: SignalingPort,
//!     P: PeerPort,
//!     C: Clock,
//! {
//!     let config = Settings::one_retry().check().expect("a preset is valid");
//!     let (driver, mut handle) = session(config, seed, signaling, peer, clock);
//!     let events = async {
//!         while let Some(update) = handle.next_event().await {
//!             if matches!(update, SessionUpdate::Event { event: Event::Live, .. }) {
//!                 handle.close();
//!             }
//!         }
//!     };
//!     tokio::join!(driver.run(), events).0
//! }
//! ```
#![forbid(unsafe_code)]

mod driver;
pub mod facts;
mod handle;
#[cfg(feature = "journal")]
pub mod journal;
mod ports;
pub mod redact;
pub mod sdp;

pub use driver::{Driver, Observer, session};
pub use handle::{Control, EVENTS_MAX, Handle, SessionUpdate};
pub use negotiation_core as core;
pub use ports::{
    Clock, MasterMemory, MaybeSend, NetworkInput, NetworkPort, PeerInput, PeerPort, SignalingInput,
    SignalingPort,
};
