//! For authors of adapters: the contract of the ports as checks to run on them.
//!
//! Give [`check_signaling`], [`check_peer`] or [`check_clock`] a stage: a fresh port for every
//! check, and the other end of it. Each promise of [`viewer_session`]'s ports is one check, and the
//! [`Report`] lists which are kept. [`simulated`] runs the real driver on recorded worlds of
//! `negotiation-sim`, without any adapter.
//!
//! Nothing here needs a particular runtime: waiting is done on the clock of the stage.
//!
//! ```
//! use clock_tokio::TokioClock;
//! use session_testing::check_clock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = check_clock(&TokioClock::start()).await;
//! report.assert_kept();
//! # }
//! ```
#![forbid(unsafe_code)]

mod bench;
mod clock;
mod peer;
mod report;
mod signaling;
pub mod simulated;

pub use bench::Pace;
pub use clock::check_clock;
pub use peer::{PeerStage, check_peer};
pub use report::{Check, Finding, Report};
pub use signaling::{SignalingStage, check_signaling};
