//! The emulator on its own: `cargo run -p kvs-emulator --example emulator -- --channel demo`.

use std::process::ExitCode;

use clap::Parser;
use kvs_emulator::EmulatorArgs;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    emulator: EmulatorArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match kvs_emulator::run(Cli::parse().emulator).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
