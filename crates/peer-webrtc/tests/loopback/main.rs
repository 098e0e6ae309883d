//! Real peers in one process over 127.0.0.1: no fixed ports, no fixed waits.

mod common;
mod port;
mod stack;
mod viewer;
