//! Real peers in one process over 127.0.0.1: no fixed ports, no fixed waits.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one thing")]

mod answers;
mod candidates;
mod common;
mod flood;
mod goodbye;
mod local;
mod port;
mod recovery;
mod secrets;
mod stack;
mod viewer;
