//! The crates of `tests/outside`: outside the workspace, they use ours as a stranger would.

use std::fs;
use std::path::PathBuf;

use crate::{step, wasm};

/// Lints, builds and runs every one of them; each exits with 0 when what it asserts holds.
pub(crate) fn run() -> Result<(), String> {
    for manifest in manifests()? {
        if wasm::PROBES.iter().any(|probe| manifest.ends_with(probe)) {
            continue;
        }
        let cargo = |subcommand: &str| {
            let mut cargo = step::cargo();
            cargo.args([subcommand, "--quiet", "--manifest-path"]).arg(&manifest);
            cargo.arg("--target-dir").arg(step::root().join("target/outside"));
            cargo
        };
        step::run(
            cargo("clippy").args(["--", "-D", "warnings"]),
            "Fix the warning, or accept it on the spot with #[expect(lint, reason = \"...\")].",
        )?;
        step::run(
            &mut cargo("run"),
            "A crate that uses only our public API no longer works: mend the API, or, if the break \
             is meant, the crate, docs/ports.md and CHANGELOG.md.",
        )?;
    }
    Ok(())
}

/// Their manifests, in order.
pub(crate) fn manifests() -> Result<Vec<PathBuf>, String> {
    let folder = step::root().join("tests/outside");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut manifests: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("Cargo.toml")))
        .filter(|manifest| manifest.is_file())
        .collect();
    manifests.sort();
    if manifests.is_empty() {
        return Err("tests/outside holds no crate: it proves nothing".into());
    }
    Ok(manifests)
}
