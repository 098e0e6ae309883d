//! `cargo xtask release-check`: checks what is required to publish a version, in addition to `cargo
//! xtask ci`.

use std::collections::BTreeSet;

use crate::tidy::{self, Package};
use crate::{dependencies, step};

/// Packages every published crate, compares the public API with the last version's, and checks the
/// advisories about dependencies.
pub(crate) fn check() -> Result<(), String> {
    let packages = tidy::packages()?;
    let published: Vec<&Package> = packages.iter().filter(|package| package.is_published).collect();
    for package in &published {
        contents(package)?;
    }
    package(&packages)?;
    compatible()?;
    dependencies::check()?;
    dependencies::oldest_rust()?;
    dependencies::advisories()?;
    // This check is last, since the others can run before the repository's address is known.
    has_repository(&published)?;
    match step::left_out() {
        left_out if left_out.is_empty() => Ok(()),
        left_out => Err(format!("left out:\n{}", left_out.join("\n"))),
    }
}

/// The files that each package must contain.
const FILES: [&str; 4] = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

fn contents(package: &Package) -> Result<(), String> {
    let mut list = step::cargo();
    list.args(["package", "--list", "--allow-dirty", "-p", &package.name]);
    let list =
        step::output(&mut list).ok_or_else(|| format!("{}: cannot be listed", package.name))?;
    let list: BTreeSet<&str> = list.lines().collect();
    match FILES.iter().find(|file| !list.contains(*file)) {
        Some(file) => Err(format!("the package {} has no {file}", package.name)),
        None => Ok(()),
    }
}

fn package(packages: &[Package]) -> Result<(), String> {
    let mut package = step::cargo();
    package.args(["package", "--workspace", "--quiet"]);
    for package_without in packages.iter().filter(|package| !package.is_published) {
        package.args(["--exclude", &package_without.name]);
    }
    step::run(
        &mut package,
        "Each package has to compile from its own files and published dependencies alone.",
    )
}

/// Compares the public API with that of the last tag.
fn compatible() -> Result<(), String> {
    let mut describe = step::tool("git");
    let describe = describe.args(["describe", "--tags", "--abbrev=0", "--match", "v*"]);
    let Some(tag) = step::output(describe) else {
        eprintln!("No version is tagged, so there is no public API to compare with.");
        return Ok(());
    };
    if step::output(step::cargo().args(["semver-checks", "--version"])).is_none() {
        return step::leave_out(
            "API compatibility: cargo-semver-checks is missing: \
             cargo install --locked cargo-semver-checks"
                .to_owned(),
        );
    }
    step::run(
        step::cargo().args(["semver-checks", "--workspace", "--baseline-rev", tag.trim()]),
        "Raise the version (before 1.0 the minor number), and name the change in CHANGELOG.md.",
    )
}

fn has_repository(published: &[&Package]) -> Result<(), String> {
    let without: Vec<&str> = published
        .iter()
        .filter(|package| !package.has_repository)
        .map(|package| package.name.as_str())
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    Err(format!(
        "no `repository`: {}\nWrite the public address as `repository` in [workspace.package], and \
         `repository.workspace = true` in each manifest (docs/releasing.md).",
        without.join(", ")
    ))
}
