//! A deterministic world for `negotiation-core`: no network, no clock, no async.
//!
//! A [`World`] owns a session, a model of KVS, a model master and model peer connections, and does
//! what the driver does minus `await`. Everything that can go wrong is a value in a [`Plan`]; the
//! same plan gives the same run, byte for byte. After every step an oracle looks for broken rules.
//!
//! ```
//! use core::time::Duration;
//! use negotiation_core::{EndReason, Phase};
//! use negotiation_sim::{Answers, Plan, World};
//!
//! let mut world = World::new(Plan::default());
//! world.open();
//! world.run_until_quiet(Duration::from_secs(600));
//! assert_eq!(world.phase(), Phase::Live);
//!
//! let mut plan = Plan::default();
//! plan.master.answers = Answers::Never;
//! let mut world = World::new(plan);
//! world.open();
//! world.run_until_quiet(Duration::from_secs(600));
//! assert_eq!(world.outcome().map(|o| o.reason), Some(EndReason::NoAnswer));
//! assert!(world.violations().is_empty());
//! ```
#![forbid(unsafe_code)]

pub mod coverage;
pub mod explore;
mod faults;
mod journal;
#[cfg(feature = "proptest")]
pub mod journals;
mod kinds;
mod master;
mod oracle;
mod path;
mod peer;
mod plan;
mod reference;
#[cfg(feature = "proptest")]
mod seeded;
mod service;
#[cfg(feature = "proptest")]
pub mod strategy;
mod tally;
mod traits;
mod world;

pub use faults::{Action, CommandFault, CommandKind, Delivery, Fault, MessageKind, Trigger};
pub use journal::{Journal, Mismatch, replay};
pub use plan::Plan;
#[cfg(feature = "proptest")]
pub use seeded::{plan_of, run, run_unrecorded};
pub use traits::{
    Answers, Dtls, Glare, Ice, MasterTraits, Media, PathTraits, PeerStack, RepeatedId,
    ServiceTraits,
};
pub use world::{Agreed, World};
