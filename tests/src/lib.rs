//! What the test binaries share: real processes on a stage of their own, and the foreign tools
//! that look at what they made.
#![forbid(unsafe_code)]

pub mod admin;
#[cfg(feature = "product")]
pub mod connect_proxy;
#[cfg(feature = "product")]
pub mod nat;
#[cfg(feature = "product")]
pub mod path;
pub mod process;
pub mod stage;
pub mod tools;

pub use process::{Ended, Process};
pub use stage::{Keys, Stage};
