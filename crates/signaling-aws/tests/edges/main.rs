//! Edge cases of one port with the emulator: several connections of one attempt, the client's
//! cache, and connections through a proxy.

mod attempts;
mod cache;
#[expect(unreachable_pub, reason = "public for the tests of the whole, which are another package")]
#[path = "../../../../tests/src/connect_proxy.rs"]
mod connect_proxy;
mod connections;
mod echoes;
mod proxy;
mod support;
