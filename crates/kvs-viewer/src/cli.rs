//! The command line: arguments in, one exit code out.

mod args;
mod demo;
mod exit;
mod journal;
mod log;
mod media;
mod replay;
mod report;
mod resources;
mod status;
mod streams;
mod watch;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use kvs_camera::CameraArgs;
use kvs_emulator::EmulatorArgs;

pub use args::{OutputArgs, PatienceArgs, Retry, ServiceArgs, WatchArgs};
pub use demo::DemoArgs;
pub use exit::{Exit, HELP};
pub use journal::JournalArgs;
pub use log::Level;
pub use replay::ReplayArgs;

/// Watch a Kinesis Video Streams WebRTC camera: live, or ended with a reason.
#[derive(Debug, Parser)]
#[command(name = "kvs-viewer", version, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one value in the life of the process")]
enum Command {
    /// Watch a channel of AWS, or of any endpoint that speaks like it
    #[command(after_help = HELP)]
    Watch(WatchArgs),
    /// See it work on this machine: an emulator, a camera, the first answer lost, then live video
    #[command(after_help = HELP)]
    Demo(DemoArgs),
    /// Run a journal through the core again: its timeline, and whether every output is the same
    #[command(after_help = replay::HELP)]
    Replay(ReplayArgs),
    /// Be a camera: a master that loops a clip on a channel
    Camera {
        #[command(flatten)]
        args: CameraArgs,
        /// How much is logged to standard error
        #[arg(long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG")]
        log: Level,
    },
    /// Be the service: Kinesis Video Streams WebRTC signaling on this machine, with faults
    Emulator {
        #[command(flatten)]
        args: EmulatorArgs,
        /// How much is logged to standard error
        #[arg(long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG")]
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
    // One provider for every TLS stack in the process; a second call would fail, and mean nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let exit = complain(Exit::Internal, &format!("no runtime: {error}"));
            return ExitCode::from(exit.code());
        }
    };
    let exit = runtime.block_on(run(cli.command, started));
    // What still resolves a name or reads a file is not waited for.
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
                Err(error) => complain(Exit::of_camera(&error), &error.to_string()),
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

/// Says what is wrong, for people.
pub(crate) fn complain(exit: Exit, problem: &str) -> Exit {
    // Without a standard error there is only the exit code.
    let _ = writeln!(io::stderr(), "kvs-viewer: {problem}");
    exit
}

/// A line for people.
pub(crate) fn note(text: &str) {
    // Without a standard error nobody reads it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Ends at Ctrl-C, or when the system asks the process to end.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // A handler that cannot be installed leaves the system's own way to end the process.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
