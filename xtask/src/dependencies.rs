//! Checks licences and sources of the dependencies, by cargo-deny and `.cargo/deny.toml`; and that
//! the oldest supported Rust compiles the workspace.

use std::process::Command;

use crate::step;

const READ_DENY: &str = ".cargo/deny.toml lists what a dependency may be. Choose another dependency, or \
    change the list and say why in its comment.";

const INSTALL: &str = "cargo xtask ci --setup, or cargo install --locked cargo-deny";

/// Checks licences, banned crates and sources. [`advisories`] are separate, since they need the
/// network.
pub(crate) fn check() -> Result<(), String> {
    if !is_installed() {
        return step::leave_out(format!("dependencies: cargo-deny is missing: {INSTALL}"));
    }
    step::run(
        step::cargo()
            .args(["deny", "--locked", "check", "--hide-inclusion-graph"])
            .args(["licenses", "bans", "sources"]),
        READ_DENY,
    )
}

/// Checks the dependencies against the published advisories, which cargo-deny downloads.
pub(crate) fn advisories() -> Result<(), String> {
    if !is_installed() {
        return step::leave_out(format!("advisories: cargo-deny is missing: {INSTALL}"));
    }
    step::run(
        step::cargo().args(["deny", "--locked", "check", "advisories"]),
        "Update the dependency that it names. Without a network the database cannot be read: run \
         this where there is one.",
    )
}

fn is_installed() -> bool {
    step::output(step::cargo().args(["deny", "--version"])).is_some()
}

/// Checks that the workspace compiles with the `rust-version` of its manifest.
///
/// If that is the toolchain in use, every other step already checks it.
pub(crate) fn oldest_rust() -> Result<(), String> {
    let oldest = declared()?;
    let current = step::output(step::tool("rustc").arg("--version"));
    let current = current.as_deref().and_then(release).ok_or("`rustc --version` failed")?;
    if same_minor(&current, &oldest) {
        eprintln!("rust-version {oldest} is the toolchain in use ({current})");
        return Ok(());
    }
    let toolchain = format!("+{oldest}.0");
    // The cargo that runs this belongs to a toolchain; only rustup's accepts `+VERSION`.
    let cargo = || -> Command {
        let mut cargo = step::tool("cargo");
        cargo.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").arg(&toolchain);
        cargo
    };
    if step::output(cargo().arg("--version")).is_none() {
        return step::leave_out(format!(
            "rust-version {oldest}: this toolchain is {current}, and that one is not installed: \
             rustup toolchain install {oldest}.0, or raise rust-version (docs/releasing.md)"
        ));
    }
    step::run(
        cargo().args(["check", "--quiet", "--workspace", "--target-dir", "target/oldest-rust"]),
        "Do without what a newer Rust brought, or raise rust-version (docs/releasing.md).",
    )
}

fn declared() -> Result<String, String> {
    let manifest = crate::files::read(&step::root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    let version = line.and_then(|rest| rest.strip_suffix('"'));
    Ok(version.ok_or("Cargo.toml names no rust-version")?.to_owned())
}

/// Returns the version in `rustc 1.95.0 (59807616e 2026-04-14)`.
fn release(version: &str) -> Option<String> {
    version.strip_prefix("rustc ")?.split_whitespace().next().map(str::to_owned)
}

fn same_minor(release: &str, rust_version: &str) -> bool {
    release == rust_version
        || release.strip_prefix(rust_version).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchain_is_compared_by_its_minor_version() {
        let current = release("rustc 1.95.0 (59807616e 2026-04-14)\n").expect("a version");
        assert_eq!(current, "1.95.0");
        assert!(same_minor(&current, "1.95"));
        assert!(!same_minor(&current, "1.9"));
        assert!(!same_minor("1.96.1", "1.95"));
    }

    #[test]
    fn manifest_names_a_rust_version() {
        assert!(declared().expect("a version").starts_with("1."));
    }
}
