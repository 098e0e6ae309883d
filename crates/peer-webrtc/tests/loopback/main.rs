//! Tests with real peers in one process over 127.0.0.1: no fixed ports, no fixed timers.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one thing")]

mod answers;
mod candidates;
mod channels;
mod close;
mod common;
mod flood;
mod local;
#[expect(
    unreachable_pub,
    dead_code,
    reason = "public for the tests of the whole, which are another package"
)]
#[path = "../../../../tests/src/path.rs"]
mod path;
mod port;
mod recovery;
mod rtx;
mod secrets;
mod servers;
mod stack;
mod viewer;
mod waking;
