//! The command line of `kvs-viewer`: parses arguments, runs the command, returns the exit code.
//!
//! The library is the crate `kvs-viewer`; this crate adds the test camera, the emulator and the
//! output for people and scripts.
//!
//! ```sh
//! cargo install kvs-viewer-cli
//! kvs-viewer watch front-door --region us-west-2 --record door.mp4
//! ```
//!
//! The whole program:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     kvs_viewer_cli::main()
//! }
//! ```
#![forbid(unsafe_code)]

mod args;
mod demo;
mod exit;
mod journal;
mod log;
mod media;
mod output;
mod replay;
mod report;
mod resources;
mod signals;
mod spans;
mod status;
mod streams;
mod summary;
mod trace;
mod view;
mod watch;
mod words;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use kvs_camera::{CameraArgs, CameraError};
use kvs_emulator::EmulatorArgs;

pub use args::{Format, OutputArgs, PatienceArgs, Retry, ServiceArgs, WatchArgs};
pub use demo::DemoArgs;
use exit::WATCH_HELP;
pub use exit::{Exit, HELP};
pub use journal::JournalArgs;
pub use log::Level;
pub use replay::ReplayArgs;

/// Watch Amazon Kinesis Video Streams WebRTC cameras: live, or ended with a reason
#[derive(Debug, Parser)]
#[command(name = "kvs-viewer", version, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value in the life of the process")]
enum Command {
    /// Watch a camera: connect to its channel, show what happens, record
    #[command(after_help = WATCH_HELP)]
    Watch(WatchArgs),
    /// Run a demo on this machine: an emulator, a test camera, a lost answer, then live video
    #[command(after_help = HELP)]
    Demo(DemoArgs),
    /// Replay a session's journal: print its timeline and check that every output is the same
    #[command(after_help = replay::HELP)]
    Replay(ReplayArgs),
    /// Run a test camera (KVS master) that plays a clip in a loop
    Camera {
        #[command(flatten)]
        args: CameraArgs,
        /// Log level on standard error
        #[arg(
            long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG",
            help_heading = "Output"
        )]
        log: Level,
    },
    /// Run a local KVS emulator: the signaling service on this machine, with faults to order
    Emulator {
        #[command(flatten)]
        args: EmulatorArgs,
        /// Log level on standard error
        #[arg(
            long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG",
            help_heading = "Output"
        )]
        log: Level,
    },
}

/// When the process began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started(Instant);

impl Started {
    #[expect(clippy::disallowed_methods, reason = "the origin of every `t_ms` on the output")]
    fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let started = Started::now();
    // The warm-up runs in parallel with the following steps; the first connection needs both.
    let warm_up = signaling_aws::warm_up();
    // One crypto provider for all TLS stacks of the process; the error of a second call is
    // harmless.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Demo(_)) {
        // The demo compares counts of open descriptors, so the warm-up must not change them later.
        warm_up.wait();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // If standard error is closed, only the exit code reports the problem.
            let _ = writeln!(std::io::stderr(), "kvs-viewer: no runtime: {error}");
            return ExitCode::from(Exit::Internal.code());
        }
    };
    let exit = runtime.block_on(async {
        let exit = run(cli.command, started).await;
        output::flush().await;
        exit
    });
    // The process does not wait for name resolution and file reads that are still running.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ExitCode::from(exit.code())
}

async fn run(command: Command, started: Started) -> Exit {
    match command {
        Command::Watch(args) => watch::run(args, started).await,
        Command::Demo(args) => demo::run(args, started).await,
        Command::Replay(args) => replay::run(&args),
        Command::Camera { args, log } => {
            log::start(log);
            match kvs_camera::run(args).await {
                Ok(()) => Exit::Ok,
                Err(error) => complain(Exit::of_camera(&error), &camera_problem(&error)),
            }
        }
        Command::Emulator { args, log } => {
            log::start(log);
            match kvs_emulator::run(args).await {
                Ok(()) => Exit::Ok,
                Err(error) => complain(Exit::of_emulator(&error), &error.to_string()),
            }
        }
    }
}

/// Formats the error that prevents a camera from starting, with the command line's option names.
fn camera_problem(error: &CameraError) -> String {
    if let CameraError::Signaling(error) = error {
        return error.with_names(args::flag);
    }
    error.to_string()
}

/// Prints a problem for the user, and returns the exit code.
pub(crate) fn complain(exit: Exit, problem: &str) -> Exit {
    output::stderr().line(format!("kvs-viewer: {problem}"));
    exit
}
