//! The `kvs-viewer` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kvs_viewer_cli::main()
}
