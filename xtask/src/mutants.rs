//! `cargo xtask mutants`: runs cargo-mutants on the last changes of the core, configured by
//! `.cargo/mutants.toml`. To test the whole core, run `SIM_CASES=1/40 cargo mutants -p
//! negotiation-core`, which takes an hour or two.

use std::fs;
use std::path::Path;

use crate::step;

const CORE: &str = "crates/negotiation-core/src";

/// The number of last commits to the core that are tested.
const COMMITS: &str = "10";

/// The maximum number of mutants, a limit due to CI's time; of a larger change a sample is tested.
const MUTANTS_MAX: usize = 60;

const INSTALL: &str = "cargo install --locked cargo-mutants";

/// Tests the difference to `base`, or by default the last changes of the core.
pub(crate) fn run(base: Option<&str>) -> Result<(), String> {
    if step::output(step::cargo().args(["mutants", "--version"])).is_none() {
        return step::leave_out(format!("mutants: cargo-mutants is missing: {INSTALL}"));
    }
    let base = base.map_or_else(before_the_last_changes, |base| Ok(base.to_owned()))?;
    let diff = step::output(step::tool("git").args(["diff", &base, "--", CORE]))
        .ok_or_else(|| format!("`git diff {base}` failed: it needs the history of the core"))?;
    let path = step::root().join("target/mutants.diff");
    fs::create_dir_all(step::root().join("target"))
        .and_then(|()| fs::write(&path, diff))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let list = step::output(mutants(&path).arg("--list"))
        .ok_or("`cargo mutants --list` failed: run it to see why")?;
    let found = list.lines().count();
    let parts = found.div_ceil(MUTANTS_MAX).max(1);
    eprintln!("mutants: {found} in what differs from {base}, part 1 of {parts} is judged");
    if found == 0 {
        return Ok(());
    }
    let judge = &mut mutants(&path);
    let judge = judge.args(["--jobs", "2", "--shard", &format!("0/{parts}")]);
    let status = step::status(judge.args(["--sharding", "round-robin"]))?;
    if status.success() || (status.code() == Some(TIMED_OUT) && none_missed()) {
        return Ok(());
    }
    Err(format!(
        "cargo-mutants ended with {status}\nEach mutant that was missed is a line of the core that \
         no test looks at: write the test, or delete the line. target/mutants.out has the logs."
    ))
}

/// The exit code of cargo-mutants if mutants timed out, whether or not others were missed. A mutant
/// that times out counts as caught.
const TIMED_OUT: i32 = 3;

fn none_missed() -> bool {
    let missed = step::root().join("target/mutants.out/missed.txt");
    fs::read_to_string(missed).is_ok_and(|missed| missed.is_empty())
}

fn mutants(diff: &Path) -> std::process::Command {
    let mut command = step::cargo();
    command.args(["mutants", "-p", "negotiation-core", "-o", "target", "--in-diff"]).arg(diff);
    command.env("SIM_CASES", "1/40");
    command
}

fn before_the_last_changes() -> Result<String, String> {
    let log = &mut step::tool("git");
    let hashes = step::output(log.args(["log", "-n", COMMITS, "--format=%h", "--", CORE]));
    let oldest = hashes.as_deref().and_then(|hashes| hashes.lines().last());
    oldest.map(|hash| format!("{hash}^")).ok_or_else(|| format!("git knows no commit of {CORE}"))
}
