//! A peer port over the webrtc crate.
//!
//! What belongs here: everything that names a type of the webrtc stack. [`WebRtcPeer`] is the
//! session's port; [`stack`] is the tuned connection below it, which a master uses directly.
//! Media bypasses the session: the application reads it from [`WebRtcPeer::media`].
//!
//! Inside, each peer connection is one task ([`stack::Stack`] below it has a second, the stack's
//! own): it runs the commands of one queue, one at a time, and turns the stack's events into the
//! session's events. RTP and RTCP packets reach it through an interceptor, not through the stack's
//! tracks, so that the first packets are not lost and sender reports are received.
//!
//! ```no_run
//! use peer_webrtc::{MediaEvent, PeerConfig, WebRtcPeer};
//! use viewer_session::core::Settings;
//! use viewer_session::{Clock, SignalingPort, session};
//!
//! async fn watch(
//!     signaling: impl SignalingPort + 'static,
//!     clock: impl Clock + 'static,
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut peer = WebRtcPeer::new(PeerConfig::new(false))?;
//!     let mut media = peer.media().ok_or("the media was taken")?;
//!     let (driver, _handle) = session(Settings::one_retry().check()?, 7, signaling, peer, clock);
//!     let driver = tokio::spawn(driver.run());
//!     while let Some(event) = media.next().await {
//!         if let MediaEvent::Frame { kind, frame, .. } = event {
//!             println!("{kind:?}: {} bytes", frame.data.len());
//!         }
//!     }
//!     println!("{}", driver.await?.sentence());
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod bucket;
mod channel;
mod codec;
mod commands;
mod config;
mod connectivity;
mod dtls_fragments;
mod ice_servers;
mod ingress;
mod keyframe;
mod local;
mod mailbox;
mod media;
mod pacing;
mod peer;
mod port;
mod queue;
mod received;
mod remote;
mod remote_candidates;
mod resolver;
mod retransmission;
mod sdp;
mod sequence;
mod socket;
pub mod stack;
mod stats;
mod stun;
mod tap;
mod timers;
mod turn_stream;

pub use codec::Codec;
pub use config::{InvalidPeerConfig, Media, PeerConfig};
pub use local::{LocalSource, LocalTrack, NotAttached, Otherwise, Unavailable};
pub use media::{MediaEvent, MediaReceiver};
pub use port::{PeerMonitor, WebRtcPeer};
pub use remote::RemoteAddresses;
pub use resolver::{Lookup, Resolve, Resolver};
pub use stack::{IcePolicy, Mdns};
pub use stats::{CandidateKind, MediaTotals, PathStats, PeerStats, StreamStats};
pub use tap::{Control, RtpArrival, TapLosses};
pub use turn_stream::{Authorities, Detour, InvalidAuthorities};

/// A frame of received media.
pub use encoded_frames::Frame as EncodedFrame;

/// The RTP packets that this crate receives and sends.
pub use rtc::rtp;

/// Targets of the stack's own logging (by the `log` crate) that print ICE passwords, descriptions
/// or TURN credentials at some level. A log must exclude them.
pub const LEAKY_LOG_TARGETS: [&str; 1] = ["rtc_ice::agent"];
