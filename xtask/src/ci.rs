//! `cargo xtask ci`: runs exactly what CI runs, quick checks first, then the tests, mutants last;
//! and `cargo xtask check`: runs the part of it that needs only Rust and a C compiler.

use std::time::Instant;

use crate::{dependencies, mutants, outside, setup, sim, statemap, step, tidy, wasm};

/// One check: its name, and how to run it.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", tidy::run),
    ("statemap", statemap::check),
    ("dependencies", dependencies::check),
    ("oldest-rust", dependencies::oldest_rust),
    ("clippy", clippy),
    ("documentation", documentation),
    ("wasm", wasm::run),
    ("outside", outside::run),
    ("simulator", simulator),
    ("tests", tests),
    ("mutants", || mutants::run(None)),
];

const QUICK: &[Step] = &[
    ("format", format),
    ("tidy", tidy::run),
    ("statemap", statemap::check),
    ("clippy", clippy),
    ("unit", unit),
    ("scenarios", scenarios),
];

/// The selected part of the full run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selection {
    setup: bool,
    only: Option<usize>,
    from: usize,
}

/// Runs the full set, or the part that `--only STEP` or `--from STEP` selects; `--setup` first
/// installs the required tools.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let selection = Selection::read(words)?;
    if selection.setup {
        setup::run().map_err(|why| format!("setup: {why}"))?;
    }
    match selection.only {
        Some(step) => run_steps(&STEPS[step..=step]),
        None => run_steps(&STEPS[selection.from..]),
    }
}

/// Runs the quick checks.
pub(crate) fn check() -> Result<(), String> {
    run_steps(QUICK)
}

impl Selection {
    fn read(words: &[&str]) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut step = || {
                let name =
                    words.next().ok_or_else(|| format!("{word} needs a step: {}", names()))?;
                let found = STEPS.iter().position(|(step, _)| step == name);
                found.ok_or_else(|| format!("{name:?} is no step. Steps: {}", names()))
            };
            match *word {
                "--setup" => selection.setup = true,
                "--only" => selection.only = Some(step()?),
                "--from" => selection.from = step()?,
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        if selection.only.is_some() && selection.from > 0 {
            return Err("--only and --from exclude each other".into());
        }
        Ok(selection)
    }
}

fn names() -> String {
    STEPS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::disallowed_methods, reason = "how long a check took, for people")]
fn run_steps(steps: &[Step]) -> Result<(), String> {
    let began = Instant::now();
    for (number, (name, check)) in steps.iter().enumerate() {
        eprintln!("\n== {}/{} {name}", number + 1, steps.len());
        check().map_err(|why| format!("{name}: {why}"))?;
        eprintln!("== {name} passed, {} s after the start", began.elapsed().as_secs());
    }
    let left_out = step::left_out();
    if left_out.is_empty() {
        eprintln!("\n== all {} checks passed", steps.len());
    } else {
        eprintln!("\n== passed, but for what was left out:\n{}", left_out.join("\n"));
    }
    Ok(())
}

fn format() -> Result<(), String> {
    let fix = "Run `cargo fmt --all`, and in a crate of tests/outside `cargo fmt`.";
    step::run(step::cargo().args(["fmt", "--all", "--check"]), fix)?;
    for manifest in outside::manifests()? {
        step::run(step::cargo().args(["fmt", "--check", "--manifest-path"]).arg(manifest), fix)?;
    }
    Ok(())
}

fn clippy() -> Result<(), String> {
    step::run(
        step::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        "Fix the warning, or accept it on the spot with #[expect(lint, reason = \"...\")].",
    )
}

fn documentation() -> Result<(), String> {
    step::run(
        step::cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
        "Fix the link or the markup that rustdoc names.",
    )
}

fn simulator() -> Result<(), String> {
    let table = step::root().join("target/coverage.md");
    let table = table.to_string_lossy();
    sim::run(&["--runs", "100000", "--require-hits", "10", "--coverage", &table])
}

const READ_FAILURES: &str = "Read the failures above; docs/testing.md says how to run one test alone \
    and how to replay a failing case.";

fn unit() -> Result<(), String> {
    step::run(step::cargo().args(["test", "--workspace", "--lib", "--no-fail-fast"]), READ_FAILURES)
}

fn scenarios() -> Result<(), String> {
    let mut tests = step::cargo();
    tests.args(["test", "-p", "kvs-viewer-tests", "--test", "scenarios"]);
    tests.args(["--test", "conformance", "--test", "journals"]);
    step::run(&mut tests, READ_FAILURES)
}

fn tests() -> Result<(), String> {
    step::run(step::cargo().args(["test", "--workspace", "--no-fail-fast"]), READ_FAILURES)
}

#[cfg(test)]
mod tests_of_selection {
    use super::*;

    #[test]
    fn steps_are_selected_by_name() {
        let whole = Selection::read(&[]).expect("valid");
        assert_eq!(whole, Selection::default());
        let only = Selection::read(&["--setup", "--only", "tidy"]).expect("valid");
        assert_eq!(only, Selection { setup: true, only: Some(1), from: 0 });
        let from = Selection::read(&["--from", "mutants"]).expect("valid");
        assert_eq!(from, Selection { from: STEPS.len() - 1, ..Selection::default() });
        for wrong in
            [&["--only"][..], &["--from", "x"], &["tidy"], &["--only", "tidy", "--from", "clippy"]]
        {
            assert!(Selection::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
