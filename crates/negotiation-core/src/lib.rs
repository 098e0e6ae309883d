//! The sans-IO core of a KVS WebRTC viewer session: it decides everything and touches nothing.
//!
//! No clock, no randomness, no IO, no threads, no async: time and a seed come in, commands and
//! events go out. Same inputs, same outputs, byte for byte, on every platform.
//!
//! # A session's life
//!
//! 1. **Open.** An attempt begins: a signaling connection opens, ICE servers are fetched and a peer
//!    connection is made, side by side. The offer is made meanwhile, set locally, and sent once the
//!    signaling connection is open.
//! 2. **Answer.** The answer's deadline runs from the completed send. A duplicate, a second, a late
//!    or a foreign answer changes nothing and is reported as [`Event::Ignored`]. Candidates wait
//!    until the answer is *set*.
//! 3. **Live.** ICE and DTLS come up, then media: with video, the first whole keyframe.
//! 4. **Recovery.** A short loss is waited out, a longer one answered by an ICE restart in a way
//!    that cannot make things worse, and only then by a new attempt. Signaling connections are lost
//!    and opened again beside the media.
//! 5. **Failure.** Whatever ends an attempt, all that it opened is closed first, in order; then the
//!    pause; then a new attempt with a new peer connection, a new signaling connection, another
//!    client id.
//! 6. **End.** Once, with an [`Outcome`]: a reason, what was tried, the evidence, the likely cause.
//!
//! # The loop
//!
//! 1. Call [`Session::handle_input`] with the time and one [`Input`].
//! 2. Drain [`Session::poll_output`] to `None`.
//! 3. Carry out each command; give its result back later, as [`Input::Completed`] with its ticket.
//! 4. Show each event to the application.
//! 5. Ask [`Session::poll_timeout`] when to come back with [`Input::Timeout`].
//! 6. Wait for that moment or for the next input, whichever is first.
//!
//! ```
//! # extern crate std;
//! use negotiation_core::*;
//! use std::time::{Duration, Instant};
//!
//! // A world in which nothing can be reached: every command fails, and the session reports it.
//! let mut settings = Settings::never();
//! settings.close_timeout = Duration::from_millis(40);
//! let origin = Instant::now();
//! let now = || Timestamp::new(origin.elapsed());
//! let mut session = Session::new(settings.check().expect("valid"), 7, now());
//! let mut next = Input::Open;
//! let outcome = 'session: loop {
//!     session.handle_input(now(), next);
//!     let mut failed = None;
//!     while let Some(output) = session.poll_output() {
//!         match output {
//!             Output::Signaling(ticket, _) | Output::Peer(ticket, _) => failed = Some(ticket),
//!             Output::Event(Event::Ended(outcome)) => break 'session outcome,
//!             Output::Event(event) => std::println!("{event:?}"),
//!         }
//!     }
//!     next = match (failed, session.poll_timeout()) {
//!         (Some(ticket), _) => Input::Completed(Completion {
//!             ticket,
//!             outcome: Err(Failure::new(FailureCode::Network, "unreachable")),
//!         }),
//!         (None, Some((at, _))) => {
//!             std::thread::sleep(at.saturating_since(now()));
//!             Input::Timeout
//!         }
//!         (None, None) => unreachable!("a session that waits has a deadline"),
//!     };
//! };
//! assert!(!outcome.was_live);
//! ```
//!
//! # The journal form
//!
//! With the feature `serde`, everything that goes in and comes out can be written and read. What is
//! written holds no secret and no address: a description, a candidate's text and a credential are
//! written as stand-ins. Equal texts have equal stand-ins, a stand-in is its own, and the core only
//! ever compares texts, so inputs that were read back bring the outputs that were written.
//!
//! The rules cited as N1 to N28 are the negotiation contract's; `docs/` names the test for each.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod attempt;
mod checking;
mod closing;
mod config;
mod context;
mod diagnosis;
mod error;
mod evidence;
mod input;
mod lease;
mod master;
mod offline;
mod output;
mod phase;
mod policy;
mod purpose;
mod retry;
mod rng;
mod sentences;
#[cfg(feature = "serde")]
mod serial;
mod session;
mod ticket;
mod time;
mod types;

pub use attempt::exchange::ExchangeState;
pub use checking::Normalised;
pub use config::{Config, ConfigError, Mode, RetryDelay, Settings};
pub use error::{EndReason, Failure, FailureCode, FailureKind, Ignored};
pub use evidence::{AttemptEnd, AttemptReport, Deadline, Evidence, Outcome};
pub use input::{
    CandidateRelease, Completion, Connectivity, Done, Input, MediaProblem, PeerEvent, PeerTraits,
    Sender, SignalingEvent, Undecodable,
};
pub use lease::{ClientIdPolicy, ClientIdPool};
pub use master::{MasterKnowledge, RecoveryCause};
pub use output::{Event, Message, Output, PeerCommand, SignalingCommand};
pub use phase::Phase;
#[cfg(feature = "serde")]
pub use serial::CandidateMask;
pub use session::Session;
pub use ticket::{InvalidTicket, Ticket};
pub use time::{Timer, Timestamp};
pub use types::{
    Candidate, ClientId, ConnectionId, Description, Digest, IceServer, InvalidClientId, MediaKind,
    MediaSection, PeerId, Sdp, SdpKind, SdpSummary, Secret,
};
