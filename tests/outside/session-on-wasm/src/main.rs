//! Sessions on WebAssembly: the core by hand, and the driver over ports, each to its end.
//!
//! The module imports nothing: time is a number that moves when a task waits for it.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
compile_error!("this program is for WebAssembly: `cargo xtask wasm` builds and runs it");

mod by_hand;
mod driven;

fn main() {
    by_hand::run();
    driven::run();
}
