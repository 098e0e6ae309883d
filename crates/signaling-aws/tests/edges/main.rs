//! The edges of AWS as one port meets them, through the emulator: links that follow one another,
//! what the process remembers, and the way through a proxy.

mod links;
mod proxy;
mod remembered;
mod support;
