//! Checks that Rust files are documented, of a readable size, reachable from a crate's root and
//! without leftover notes; and the attributes at the top of each crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Package;
use crate::files::{files, read, shown};
use crate::step;

/// The maximum number of lines of a file, including its tests.
const LINES_MAX: usize = 600;

/// The files that are longer, with their maximum length. It may shrink, never grow: reduce the
/// number here when a file becomes shorter, and remove a file under [`LINES_MAX`].
const RATCHET: &[(&str, usize)] = &[];

/// Notes that must not remain, split, so that this file does not match itself.
const LEFT_OVER: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// The phrases in the reason of an ignored test that another test runs.
const RUN_ELSEWHERE: [&str; 2] = ["run by", "child of"];

/// The file types that are searched for notes and citations.
pub(super) const TEXTS: [&str; 7] = [".rs", ".md", ".toml", ".py", ".js", ".mjs", ".sh"];

pub(super) fn check(packages: &[Package]) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for package in packages {
        findings.extend(check_roots(package)?);
        findings.extend(check_reachable(package)?);
    }
    for file in files(&step::root(), ".rs")? {
        findings.extend(check_file(&shown(&file), &read(&file)?));
    }
    for suffix in TEXTS {
        for file in files(&step::root(), suffix)? {
            findings.extend(check_left_over(&shown(&file), &read(&file)?));
        }
    }
    Ok(findings)
}

fn check_roots(package: &Package) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    let sources = package.folder.join("src");
    for target in package.targets.iter().filter(|target| target.root.starts_with(&sources)) {
        let name = shown(&target.root);
        if !target.root.is_file() {
            findings.push(format!("{name}: declared in the manifest, but not there"));
            continue;
        }
        let text = read(&target.root)?;
        let has = |line: &str| text.lines().any(|other| other.trim() == line);
        if !has("#![forbid(unsafe_code)]") {
            findings.push(format!("{name}: add `#![forbid(unsafe_code)]` under the crate's docs"));
        }
        if package.name == "negotiation-core" && target.is_library {
            if !has("#![no_std]") {
                findings.push(format!("{name}: the core is `#![no_std]`"));
            }
            if has("extern crate std;") {
                findings.push(format!("{name}: the core names no `std`; use `core` and `alloc`"));
            }
        }
    }
    Ok(findings)
}

/// A file that no `mod` leads to is never compiled.
fn check_reachable(package: &Package) -> Result<Vec<String>, String> {
    let mut reached = BTreeSet::new();
    for target in &package.targets {
        reach(&target.root, true, &mut reached)?;
    }
    let nested: Vec<PathBuf> = files(&package.folder, "Cargo.toml")?
        .into_iter()
        .filter_map(|manifest| manifest.parent().map(Path::to_path_buf))
        .filter(|folder| *folder != package.folder)
        .collect();
    let dead = files(&package.folder, ".rs")?
        .into_iter()
        .filter(|file| !reached.contains(file) && !nested.iter().any(|n| file.starts_with(n)));
    Ok(dead
        .map(|file| format!("{}: no `mod` leads here; declare it or delete the file", shown(&file)))
        .collect())
}

fn reach(file: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    if !reached.insert(file.to_path_buf()) || !file.is_file() {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(file);
    let stem = file.file_stem().unwrap_or_default();
    let children = if is_root || stem == "mod" { folder.to_path_buf() } else { folder.join(stem) };
    for module in modules(&read(file)?) {
        let candidates = match &module {
            Module::Named(name) => {
                [children.join(format!("{name}.rs")), children.join(name).join("mod.rs")]
            }
            Module::At(path) => [folder.join(path), children.join(path)],
        };
        // The compiler reports a missing module.
        if let Some(found) = candidates.iter().find(|candidate| candidate.is_file()) {
            let found = found.canonicalize().unwrap_or_else(|_| found.clone());
            reach(&found, false, reached)?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Module {
    Named(String),
    At(String),
}

/// Returns the modules that a file declares without their bodies.
fn modules(text: &str) -> Vec<Module> {
    let mut path = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(str::to_owned);
            continue;
        }
        let declared = line.strip_suffix(';').and_then(|line| {
            let (before, name) = line.rsplit_once("mod ")?;
            let before = before.trim();
            let is_declaration = before.is_empty() || before == "pub" || before.starts_with("pub(");
            (is_declaration && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
                .then_some(name)
        });
        if let Some(name) = declared {
            found.push(path.take().map_or_else(|| Module::Named(name.to_owned()), Module::At));
        }
    }
    found
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.trim_start().starts_with("//!") {
        findings.push(format!("{name}: begin with `//!`: what belongs in here"));
    }
    let lines = text.lines().count();
    let allowed = RATCHET.iter().find(|(file, _)| *file == name).map(|(_, lines)| *lines);
    if lines > allowed.unwrap_or(LINES_MAX) {
        findings.push(format!(
            "{name}: {lines} lines, {} at most; split it where its subject splits",
            allowed.unwrap_or(LINES_MAX)
        ));
    } else if allowed.is_some_and(|allowed| lines < allowed) {
        findings.push(format!("{name}: {lines} lines now; lower its number in {}", file!()));
    }
    for (number, line) in text.lines().enumerate() {
        let place = number + 1;
        let line = line.trim_start();
        if is_hiding(name, line) {
            findings.push(format!(
                "{name}:{place}: use `#[expect(lint, reason = \"...\")]`: it goes when it is no \
                 longer needed"
            ));
        }
        if line.starts_with("#[ignore") && !RUN_ELSEWHERE.iter().any(|says| line.contains(says)) {
            findings.push(format!(
                "{name}:{place}: no test is skipped; mend it or remove it. One that another test \
                 runs in a process of its own says so in its reason: `{}`",
                RUN_ELSEWHERE.join("` or `")
            ));
        }
    }
    findings
}

fn is_hiding(name: &str, line: &str) -> bool {
    let shared_by_tests = name.contains("tests/") && line.starts_with("#![allow(dead_code, reason");
    (line.starts_with("#[allow(") || line.starts_with("#![allow(")) && !shared_by_tests
}

fn check_left_over(name: &str, text: &str) -> Vec<String> {
    let words = |line: &str, note: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == note)
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| LEFT_OVER.iter().any(|note| words(line, note)))
        .map(|(number, _)| {
            format!("{name}:{}: a note to yourself is left; do it or open an issue", number + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_modules_are_read() {
        let text = "//! Docs: mod no;\nmod a;\npub mod b;\n    pub(crate) mod c;\n\
            #[path = \"x/d.rs\"]\nmod d;\nmod tests {\n// mod no;\nuse x::mod_e;\n";
        let named = |name: &str| Module::Named(name.to_owned());
        assert_eq!(
            modules(text),
            [named("a"), named("b"), named("c"), Module::At("x/d.rs".to_owned())]
        );
    }

    #[test]
    fn file_without_docs_or_too_long_is_found() {
        assert_eq!(check_file("a.rs", "//! Docs.\nfn a() {}\n").len(), 0);
        assert_eq!(check_file("a.rs", "fn a() {}\n").len(), 1);
        assert_eq!(check_file("a.rs", &format!("//! Docs.\n{}", "\n".repeat(600))).len(), 1);
    }

    #[test]
    fn unexplained_allow_ignore_and_notes_are_found() {
        for hidden in ["#[allow(dead_code)]", "#![allow(missing_docs)]", "#[ignore = \"slow\"]"] {
            assert_eq!(check_file("a.rs", &format!("//! Docs.\n{hidden}\n")).len(), 1, "{hidden}");
        }
        let shared = "//! Docs.\n#![allow(dead_code, reason = \"each binary uses its part\")]\n";
        assert_eq!(check_file("crates/a/tests/common/mod.rs", shared).len(), 0);
        assert_eq!(check_file("crates/a/src/lib.rs", shared).len(), 1);
        let elsewhere = "//! Docs.\n#[ignore = \"run by `parent` in a process of its own\"]\n";
        assert_eq!(check_file("a.rs", elsewhere).len(), 0);
        let note = LEFT_OVER.map(|note| format!("// {note}: later\n")).concat();
        assert_eq!(check_left_over("a.rs", &note).len(), 2);
        assert_eq!(check_left_over("a.rs", "todo!() in lower case is clippy's\n").len(), 0);
    }
}
