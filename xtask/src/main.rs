//! The workspace's own commands. What CI checks, `cargo xtask ci` checks, and nothing else does.
#![forbid(unsafe_code)]

mod ci;
mod outside;
mod step;
mod tidy;
mod wasm;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy     check what the compiler does not: dependency arrows, lints, docs, dead files, links
  wasm     build the portable crates for wasm32-unknown-unknown, and run them there
  outside  build and run the crates of tests/outside, which use ours as a stranger would
  ci       all of it, with rustfmt, clippy, rustdoc and every test";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match arguments.as_slice() {
        [one] => one.as_str(),
        [] | [_, ..] => "",
    };
    let result = match command {
        "tidy" => tidy::run(),
        "wasm" => wasm::run(),
        "outside" => outside::run(),
        "ci" => ci::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {command}: {why}");
            ExitCode::FAILURE
        }
    }
}
