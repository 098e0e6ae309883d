//! Runs sessions on WebAssembly until they end: once with the core driven by hand, once with the
//! driver and its ports.
//!
//! The module imports nothing: time is a number that changes when a task waits for it.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
compile_error!("this program is for WebAssembly: `cargo xtask wasm` builds and runs it");

mod by_hand;
mod driven;

fn main() {
    by_hand::run();
    driven::run();
}
