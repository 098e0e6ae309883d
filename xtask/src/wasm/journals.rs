//! Runs the same seeds on two machines: the simulator's journals on WebAssembly and on this machine
//! must be the same, byte for byte.

use std::path::Path;

use negotiation_sim::journals::{self, Sum};

use super::{NO_NODE, TARGET, Toolchain, build, check_imports, has_node};
use crate::step;

/// The crate of `tests/outside` that computes the sum of the journals on WebAssembly.
pub(super) const PROBE: &str = "journals-on-wasm/Cargo.toml";

/// The marker before the result in the module's memory.
const MARK: u64 = 0x6a6f_7572_6e61_6c73;

const FIX: &str = "The simulator must build for WebAssembly with its generators, and without \
    entropy or a clock.";

/// Runs a module without arguments and imports, and reads three numbers after the marker in its
/// memory.
const SCRIPT: &str = "\
const [path, mark] = process.argv.slice(1);
const bytes = require('fs').readFileSync(path);
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {});
exports.main(0, 0);
const memory = Buffer.from(exports.memory.buffer);
const wanted = Buffer.alloc(8);
wanted.writeBigUInt64LE(BigInt(mark));
const at = memory.indexOf(wanted);
if (at < 0) throw new Error('no result in memory');
console.log([8, 16, 24].map((n) => memory.readBigUInt64LE(at + n)).join(' '));
";

/// Builds and runs the probe, and compares its sum with the one computed on this machine.
pub(super) fn compare(toolchain: Toolchain, target_dir: &Path) -> Result<(), String> {
    let target_dir = target_dir.join("journals");
    let manifest = step::root().join("tests/outside").join(PROBE);
    let mut cargo = build(toolchain, "std,panic_abort", TARGET, &target_dir);
    // The generators link a source of entropy, which a module without imports does not have; seeds
    // are given, so the source is never used.
    cargo.env(
        "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
        "--cfg getrandom_backend=\"unsupported\"",
    );
    step::run(cargo.arg("--manifest-path").arg(manifest), FIX)?;
    let module = target_dir.join(TARGET).join("debug/journals-on-wasm.wasm");
    check_imports(&module)?;
    if !has_node() {
        return step::leave_out(format!("wasm: no journals were compared: {NO_NODE}"));
    }
    // Both run in parallel.
    let (there, here) = std::thread::scope(|scope| {
        let there = scope.spawn(|| on_wasm(&module));
        let here = journals::sum(0..journals::SEEDS);
        (there.join(), here)
    });
    let (there, here) = (there.map_err(|_| "node's thread panicked")??, here?);
    let name = std::env::consts::ARCH;
    if there != here {
        return Err(format!(
            "the journals of {} seeds differ: {here:?} on {name}, {there:?} on wasm32. Something \
             in the simulator or the core depends on the machine: usize, a hash map's order, a \
             float's text.",
            journals::SEEDS
        ));
    }
    let Sum { seeds, bytes, digest } = here;
    eprintln!("the journals of {seeds} seeds, {bytes} bytes, on {name} and on wasm32: {digest:?}");
    Ok(())
}

fn on_wasm(module: &Path) -> Result<Sum, String> {
    let mut node = step::tool("node");
    node.args(["--eval", SCRIPT]).arg(module).arg(MARK.to_string());
    let text = step::output(&mut node).ok_or("node did not run the journals to their end")?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [seeds, bytes, digest] = numbers[..] else {
        return Err(format!("no result of node's: {text:?}"));
    };
    Ok(Sum { seeds, bytes, digest: negotiation_core::Digest(digest) })
}
