//! The emulator over real sockets, with the signer of another project.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "everything but the expected fails alike")]

#[path = "wire/connections.rs"]
mod connections;
#[path = "wire/control_plane.rs"]
mod control_plane;
#[path = "wire/faults.rs"]
mod faults;
#[path = "wire/injected.rs"]
mod injected;
#[path = "wire/lifecycle.rs"]
mod lifecycle;
#[path = "wire/presence.rs"]
mod presence;
#[path = "wire/relay.rs"]
mod relay;
#[cfg(feature = "storage")]
#[path = "wire/storage.rs"]
mod storage;
#[path = "wire/support.rs"]
mod support;
#[path = "wire/turn.rs"]
mod turn;
