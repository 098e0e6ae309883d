//! Amazon Kinesis Video Streams WebRTC signaling on this machine, with faults.
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
mod http;
mod ice;
mod quota;
mod random;
mod relay;
mod server;
mod shared;
mod sigv4;
mod socket;
mod sync;
mod tls;
mod upgrade;
mod wire;

pub use args::{EmulatorArgs, FaultArgs, Secret, run, run_until};
pub use config::{
    Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, EmulatorConfig, Lifetimes,
    Quotas, TlsConfig, TurnAuth, TurnConfig, Unknowns,
};
pub use emulator::Emulator;
pub use error::EmulatorError;
pub use fault::{Action, Corruption, Fault, FaultReport, Faults, Match, Point, Role, Then, Whose};
pub use relay::ClientReport;
pub use shared::{CallCount, ServiceMessage};
pub use wire::MessageType;
