//! The edges of AWS as one port meets them, through the emulator: links that follow one another,
//! what the process remembers, and the way through a proxy.

#[expect(unreachable_pub, reason = "public for the tests of the whole, which are another package")]
#[path = "../../../../tests/src/connect_proxy.rs"]
mod connect_proxy;
mod connections;
mod echoes;
mod links;
mod proxy;
mod remembered;
mod support;
