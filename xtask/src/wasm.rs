//! Checks the portable crates on WebAssembly: that they build, that the core needs no standard
//! library, that a session runs to its end in a module without imports from its host, and that the
//! simulator's journals are the same there as on this machine.

mod journals;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::step;

/// The crates of `tests/outside` that are WebAssembly programs.
pub(crate) const PROBES: [&str; 2] = [SESSIONS, journals::PROBE];

const SESSIONS: &str = "session-on-wasm/Cargo.toml";

/// The WebAssembly target with the standard library, as far as it is supported there.
const TARGET: &str = "wasm32-unknown-unknown";

/// The WebAssembly target without a standard library: code that uses `std` does not compile.
const BARE_TARGET: &str = "wasm32v1-none";

const PURE: [&str; 2] = ["-p", "negotiation-core"];
const PORTABLE: [&str; 6] = ["-p", "negotiation-sim", "-p", "viewer-session", "-p", "kvs-wire"];

const HOW_TO_GET_IT: &str = "\
no toolchain here can build for wasm32-unknown-unknown. Either
  rustup target add wasm32-unknown-unknown wasm32v1-none
or, on Debian without rustup's servers,
  apt-get install rustc-web cargo-web rust-web-src lld
then run this again.";

const FIX: &str = "A portable crate must build without a host: no std in negotiation-core, no \
    clock, thread or socket in negotiation-sim, viewer-session and kvs-wire. See docs/architecture.md.";

/// The toolchain that builds for WebAssembly on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The toolchain in use has the targets.
    Installed,
    /// Debian's toolchain, which contains the standard library as source and builds it.
    Debian,
}

pub(crate) fn run() -> Result<(), String> {
    let toolchain = find()?;
    eprintln!("building for WebAssembly with the {toolchain:?} toolchain");
    let pure_target = match toolchain {
        Toolchain::Installed => BARE_TARGET,
        Toolchain::Debian => TARGET,
    };
    let target_dir = step::root().join("target/wasm").join(format!("{toolchain:?}"));
    // Each set of library crates has its own folder, since otherwise cargo would rebuild them.
    let pure_dir = target_dir.join("pure");
    step::run(build(toolchain, "core,alloc", pure_target, &pure_dir).args(PURE), FIX)?;
    let journals = build(toolchain, "core,alloc", pure_target, &pure_dir);
    step::run({ journals }.args(PURE).args(["--features", "serde"]), FIX)?;
    let probe = step::root().join("tests/outside").join(SESSIONS);
    step::run(
        build(toolchain, "std,panic_abort", TARGET, &target_dir).arg("--manifest-path").arg(probe),
        FIX,
    )?;
    check_module(&target_dir.join(TARGET).join("debug/session-on-wasm.wasm"))?;
    step::run(build(toolchain, "std,panic_abort", TARGET, &target_dir).args(PORTABLE), FIX)?;
    journals::compare(toolchain, &target_dir)
}

pub(crate) fn find() -> Result<Toolchain, String> {
    if std::env::var_os("XTASK_WASM_TOOLCHAIN").is_some_and(|wanted| wanted == "debian") {
        return if has_debian() { Ok(Toolchain::Debian) } else { Err(HOW_TO_GET_IT.into()) };
    }
    if is_installed(TARGET) && is_installed(BARE_TARGET) {
        return Ok(Toolchain::Installed);
    }
    let added = step::tool("rustup").args(["target", "add", TARGET, BARE_TARGET]).status();
    if added.is_ok_and(|status| status.success()) && is_installed(TARGET) {
        return Ok(Toolchain::Installed);
    }
    if has_debian() { Ok(Toolchain::Debian) } else { Err(HOW_TO_GET_IT.into()) }
}

fn is_installed(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libdir =
        step::output(step::tool(rustc).args(["--print", "target-libdir", "--target", target]));
    libdir.is_some_and(|libdir| Path::new(libdir.trim()).is_dir())
}

fn has_debian() -> bool {
    ["/usr/bin/cargo", "/usr/bin/wasm-ld", "/usr/lib/rustlib/src/rust/library/Cargo.lock"]
        .iter()
        .all(|path| Path::new(path).exists())
}

fn build(toolchain: Toolchain, libraries: &str, target: &str, target_dir: &Path) -> Command {
    let mut command = match toolchain {
        Toolchain::Installed => step::cargo(),
        Toolchain::Debian => {
            let mut command = step::tool("/usr/bin/cargo");
            command
                .arg(format!("-Zbuild-std={libraries}"))
                // Only nightly compilers may build the standard library, unless this variable
                // allows it.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", "/usr/bin/rustc")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "/usr/bin/wasm-ld")
                .env_remove("CARGO")
                .env_remove("RUSTUP_TOOLCHAIN");
            command
        }
    };
    command.arg("build").arg("--target").arg(target).arg("--target-dir").arg(target_dir);
    command
}

/// Checks that a module imports nothing.
fn check_imports(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let imports = imports(&bytes).ok_or_else(|| format!("{}: no module", path.display()))?;
    if imports != 0 {
        return Err(format!(
            "{} imports {imports} things from its host, and must import none: something portable \
             has begun to use a clock, entropy or the network. {FIX}",
            path.display()
        ));
    }
    eprintln!("{} imports nothing ({} bytes)", path.display(), bytes.len());
    Ok(())
}

const NO_NODE: &str = "node is missing (package nodejs)";

/// Whether Node.js is available to run a module.
fn has_node() -> bool {
    step::output(step::tool("node").arg("--version")).is_some()
}

/// Checks that a module imports nothing, and that it runs to its end if Node.js is available.
fn check_module(path: &Path) -> Result<(), String> {
    check_imports(path)?;
    if !has_node() {
        return step::leave_out(format!("wasm: {} was not run: {NO_NODE}", path.display()));
    }
    let script = "const bytes = require('fs').readFileSync(process.argv[1]);\
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), {});\
        exports.main(0, 0);\
        console.log('ran to its end on WebAssembly');";
    step::run(
        step::tool("node").args(["--eval", script]).arg(path),
        "An assertion of tests/outside/session-on-wasm failed, or node (package nodejs) is missing.",
    )
}

/// Returns how many imports a module has; `None` if the bytes are not a module.
///
/// A module is a header of eight bytes and then sections, each an id, a length and the content;
/// section 2 holds the imports and begins with their number (WebAssembly core specification 5.5).
fn imports(module: &[u8]) -> Option<u32> {
    const IMPORT_SECTION: u8 = 2;
    let mut rest = module.strip_prefix(b"\0asm\x01\0\0\0")?;
    while let Some((id, after)) = rest.split_first() {
        let (length, content) = leb128(after)?;
        if *id == IMPORT_SECTION {
            return leb128(content).map(|(count, _)| count);
        }
        rest = content.get(usize::try_from(length).ok()?..)?;
    }
    Some(0)
}

/// Decodes an unsigned number of at most 32 bits, in groups of seven, the lowest first.
fn leb128(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn imports_are_counted_past_other_sections() {
        let module = [HEADER, &[0, 3, b'x', b'y', b'z'], &[2, 2, 0x81, 0x01]].concat();
        assert_eq!(imports(&module), Some(129));
    }

    #[test]
    fn module_without_an_import_section_imports_nothing() {
        assert_eq!(imports(&[HEADER, &[1, 1, 0]].concat()), Some(0));
    }

    #[test]
    fn truncated_module_is_rejected() {
        assert_eq!(imports(b"\x7fELF"), None);
        assert_eq!(imports(&[HEADER, &[1, 9, 0]].concat()), None);
        assert_eq!(imports(&[HEADER, &[1, 0x80]].concat()), None);
    }
}
