//! Checks that every crate uses the workspace's lints, and that the manifest and the README of a
//! published one are complete.

use std::fs;
use std::path::Path;

use super::Package;
use crate::files::{read, shown};
use crate::step;

pub(super) fn check(packages: &[Package]) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for package in packages {
        let manifest = package.folder.join("Cargo.toml");
        let text = read(&manifest)?;
        if !takes_workspace_lints(&text) {
            findings.push(format!(
                "{}: add `[lints]` with `workspace = true`, so that the crate has our lints",
                shown(&manifest)
            ));
        }
        if !text.contains("\ndescription = \"") {
            findings.push(format!(
                "{}: add a `description`: one sentence that says what the crate is for",
                shown(&manifest)
            ));
        }
        if package.is_published {
            findings.extend(incomplete(package, &text)?);
        }
    }
    Ok(findings)
}

const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Returns what a published crate lacks.
fn incomplete(package: &Package, manifest: &str) -> Result<Vec<String>, String> {
    let shown = shown(&package.folder.join("Cargo.toml"));
    let mut findings = Vec::new();
    let mut require = |has: bool, what: &str| {
        if !has {
            findings.push(format!("{shown}: {what}, or `publish = false`"));
        }
    };
    require((1..=5).contains(&package.keywords), "add one to five `keywords`");
    require((1..=5).contains(&package.categories), "add `categories` of crates.io");
    require(manifest.contains("[package.metadata.docs.rs]"), "add [package.metadata.docs.rs]");
    require(
        package.has_readme && package.folder.join("README.md").is_file(),
        "add `readme = \"README.md\"` and that file",
    );
    for licence in LICENCES {
        let original = fs::read(step::root().join(licence)).map_err(|error| error.to_string())?;
        let copy = fs::read(package.folder.join(licence));
        require(
            copy.is_ok_and(|copy| copy == original),
            &format!("copy {licence} beside it: a package has to contain its licences"),
        );
    }
    let library = package.targets.iter().find(|target| target.is_library);
    let front = library.map(|target| read(&target.root)).transpose()?.unwrap_or_default();
    require(
        has_example(&front)
            || (front.contains(README_INCLUDED) && readme_has_example(&package.folder)),
        "begin the library's documentation with a code example that is compiled",
    );
    Ok(findings)
}

/// The line that makes a crate's README its documentation, and its code a doc test.
const README_INCLUDED: &str = "#![doc = include_str!(\"../README.md\")]";

fn readme_has_example(folder: &Path) -> bool {
    let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    has_code(readme.lines().filter_map(|line| line.strip_prefix("```")))
}

/// Whether a crate's own documentation has a block of Rust code.
fn has_example(source: &str) -> bool {
    has_code(source.lines().filter_map(|line| line.strip_prefix("//! ```")))
}

/// Whether a block of code between these fences is compiled as a test.
fn has_code<'a>(fences: impl Iterator<Item = &'a str>) -> bool {
    // Every second fence closes a block.
    fences.step_by(2).any(|language| {
        language
            .split(',')
            .all(|word| ["", "no_run", "rust", "should_panic"].contains(&word.trim()))
    })
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.replace(' ', "") == "workspace=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_page_without_compiled_code_is_found() {
        assert!(has_example("//! ```no_run\n//! f();\n//! ```\n"));
        assert!(!has_example("//! ```text\n//! f();\n//! ```\n"));
        assert!(!has_example("//! Words.\n"));
    }

    #[test]
    fn crate_that_forgot_the_lints_is_found() {
        assert!(takes_workspace_lints("[package]\n[lints]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[package]\nversion.workspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n[dependencies]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints.rust]\nworkspace = true\n"));
    }
}
