//! The journals of the first seeds on WebAssembly: `cargo xtask wasm` compares their digest with
//! the one that the same code gives on the machine that builds.
//!
//! The module imports nothing, so it cannot print: its result stays in its memory, behind a mark.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
compile_error!("this program is for WebAssembly: `cargo xtask wasm` builds and runs it");

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use negotiation_sim::journals;

/// What the reader looks for in memory: it stands before the result, and nowhere else.
const MARK: u64 = 0x6a6f_7572_6e61_6c73;

/// The mark, how many seeds, how many bytes of text, and their digest; little-endian, as all
/// memory of WebAssembly.
static RESULT: [AtomicU64; 4] =
    [AtomicU64::new(MARK), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];

fn main() {
    let sum = journals::sum(0..journals::SEEDS).expect("every seed has a plan");
    let [_, seeds, bytes, digest] = &RESULT;
    seeds.store(sum.seeds, Relaxed);
    bytes.store(sum.bytes, Relaxed);
    digest.store(sum.digest.0, Relaxed);
    // Nothing here reads it, but it has to be written.
    black_box(&RESULT);
}
