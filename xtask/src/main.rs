//! The workspace's own commands. `cargo xtask ci` runs exactly the checks of CI.
#![forbid(unsafe_code)]

mod bench;
mod ci;
mod contract;
mod dependencies;
mod filemap;
mod files;
mod mutants;
mod outside;
mod release;
mod setup;
mod sim;
mod statemap;
mod step;
mod tidy;
mod wasm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy     check what the compiler does not: dependency arrows, lints, docs, dead files, links,
           citations
  statemap [--check]
           write docs/state-machine.md from the core's table, or say whether it is up to date
  contract write docs/contract-tests.md: which test shows which rule of docs/contract.md
  filemap  write docs/file-map.md: every source file, by the first sentence of its documentation
  sim      --runs N [--seed S] [--jobs N] [--coverage FILE] [--require-hits N]: so many sessions
           in the simulator, from seed S on; the table of what they tried must be full, and is
           written to FILE; every end and every fault must have been met so often
           --seed S [--journal]: the one of that seed again
  mutants  [BASE]: cargo-mutants on the last changes of the core, or on what differs from BASE
  wasm     build the portable crates for wasm32-unknown-unknown, and run them there
  outside  build and run the crates of tests/outside, which use ours as a stranger would
  bench    start | fleet: how fast a session starts, and what many cost (docs/performance.md)
  check    the quick gate: rustfmt, tidy, statemap, clippy, unit tests and scenarios; it needs
           nothing but Rust and a C compiler
  ci       [--setup] [--only STEP | --from STEP]: all of it, with rustdoc and every test; --setup
           installs what it needs first (apt on Debian and Ubuntu; elsewhere it says what)
  release-check
           what has to hold before publishing, beside `ci`: packages, public API, advisories";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => tidy::run(),
        ["statemap"] => statemap::write(),
        ["statemap", "--check"] => statemap::check(),
        ["contract"] => contract::write(),
        ["filemap"] => filemap::write(),
        ["sim", requested @ ..] => sim::run(requested),
        ["mutants"] => mutants::run(None),
        ["mutants", base] => mutants::run(Some(base)),
        ["wasm"] => wasm::run(),
        ["outside"] => outside::run(),
        ["bench", requested @ ..] => bench::run(requested),
        ["check"] => ci::check(),
        ["ci", requested @ ..] => ci::run(requested),
        ["release-check"] => release::check(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {}: {why}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}
