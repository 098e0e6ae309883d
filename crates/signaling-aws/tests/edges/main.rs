//! The edges of AWS as one port meets them, through the emulator: several connections of one attempt,
//! what the client caches, and connections through a proxy.

mod attempts;
mod cache;
#[expect(unreachable_pub, reason = "public for the tests of the whole, which are another package")]
#[path = "../../../../tests/src/connect_proxy.rs"]
mod connect_proxy;
mod connections;
mod echoes;
mod proxy;
mod support;
