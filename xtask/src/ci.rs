//! `cargo xtask ci`: exactly what CI runs. Quick checks first, the tests last.

use std::process::Command;
use std::time::Instant;

use crate::{mutants, outside, sim, statemap, step, tidy, wasm};

/// One check: its name, and how to run it.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("format", format),
    ("tidy", tidy::run),
    ("statemap", statemap::check),
    ("clippy", clippy),
    ("documentation", documentation),
    ("wasm", wasm::run),
    ("outside", outside::run),
    ("simulator", simulator),
    ("mutants", || mutants::run(None)),
    ("tests", tests),
];

#[expect(clippy::disallowed_methods, reason = "how long a check took, for people")]
pub(crate) fn run() -> Result<(), String> {
    let began = Instant::now();
    for (number, (name, check)) in STEPS.iter().enumerate() {
        eprintln!("\n== {}/{} {name}", number + 1, STEPS.len());
        check().map_err(|why| format!("{name}: {why}"))?;
        eprintln!("== {name} passed, {} s after the start", began.elapsed().as_secs());
    }
    let left_out = step::left_out();
    if left_out.is_empty() {
        eprintln!("\n== all {} checks passed", STEPS.len());
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

fn tests() -> Result<(), String> {
    let tests: &mut Command = &mut step::cargo();
    step::run(
        tests.args(["test", "--workspace", "--no-fail-fast"]),
        "Read the failures above; docs/testing.md says how to run one test alone and how to \
         replay a failing case.",
    )
}
