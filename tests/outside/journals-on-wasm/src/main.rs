//! The journals of the first seeds on WebAssembly: `cargo xtask wasm` compares their digest with
//! the one that the same code gives on the machine that builds.
//!
//! The module imports nothing, so it cannot print: its result stays in its memory, after a mark.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
compile_error!("this program is for WebAssembly: `cargo xtask wasm` builds and runs it");

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use negotiation_sim::journals;

/// The mark that the reader searches for in memory; it occurs only before the result.
const MARK: u64 = 0x6a6f_7572_6e61_6c73;

/// The mark, the number of seeds, the number of bytes of text, and their digest; little-endian, as
/// all WebAssembly memory is.
static RESULT: [AtomicU64; 4] =
    [AtomicU64::new(MARK), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];

fn main() {
    let sum = journals::sum(0..journals::SEEDS).expect("every seed has a plan");
    let [_, seeds, bytes, digest] = &RESULT;
    seeds.store(sum.seeds, Relaxed);
    bytes.store(sum.bytes, Relaxed);
    digest.store(sum.digest.0, Relaxed);
    // The program never reads the result, so the compiler would otherwise remove it.
    black_box(&RESULT);
}
