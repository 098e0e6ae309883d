//! Code that the test binaries share: real processes around an emulator, and external tools that
//! check the files they produce.
#![forbid(unsafe_code)]

pub mod admin;
#[cfg(feature = "product")]
pub mod connect_proxy;
#[cfg(feature = "product")]
pub mod nat;
#[cfg(feature = "product")]
pub mod path;
pub mod piped;
pub mod process;
pub mod stage;
pub mod tools;

pub use piped::Piped;
pub use process::{Ended, Process};
pub use stage::{Keys, Stage};
