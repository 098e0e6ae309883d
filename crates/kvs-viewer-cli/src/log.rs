//! Logs to standard error, with two measures that keep secrets out.
//!
//! The first measure is a filter. Dependencies log signed URLs, authorization headers, ICE
//! passwords and whole packets at their finer levels, so they are limited to `warn` at every
//! requested level. The second is a writer that blanks every text that looks like a credential in
//! the remaining lines.

use std::io::{self, Write};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use viewer_session::redact::redact;

use super::output;

/// Crates of this workspace; their log statements avoid secrets.
const OURS: [&str; 12] = [
    "kvs_viewer",
    "kvs_viewer_cli",
    "kvs_camera",
    "kvs_emulator",
    "viewer_session",
    "negotiation_core",
    "signaling_aws",
    "peer_webrtc",
    "encoded_frames",
    "clock_tokio",
    "recording",
    "network_ifwatch",
];

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Nothing
    Off,
    /// Errors
    Error,
    /// Errors and warnings
    #[default]
    Warn,
    /// Changes of state too
    Info,
    /// Details too
    Debug,
    /// Everything except secrets
    Trace,
}

impl Level {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Starts logging. Only the first call has an effect.
pub(crate) fn start(level: Level) {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(Redacting)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
        // If the application that uses the library has installed a subscriber, it stays.
        let _ = tracing_subscriber::registry().with(targets(level)).with(layer).try_init();
        // The webrtc crates log through the `log` crate.
        let _ = tracing_log::LogTracer::init_with_filter(tracing_log::log::LevelFilter::Warn);
    });
}

fn targets(level: Level) -> Targets {
    let ours = level.filter();
    let others = ours.min(LevelFilter::WARN);
    // aws_config looks for a region and for credentials in many places, and warns of each place
    // without them, in hundreds of characters; the session reports the resulting error itself.
    let aws_config =
        if ours >= LevelFilter::INFO { others } else { others.min(LevelFilter::ERROR) };
    // At error level the stack prints whole packets that it drops while a track opens.
    let stack = if ours >= LevelFilter::DEBUG { LevelFilter::ERROR } else { LevelFilter::OFF };
    // A target also matches all targets that begin with it.
    let noisy = ["webrtc", "rtc"];
    Targets::new()
        .with_default(others)
        .with_target("aws_config", aws_config)
        .with_targets(noisy.map(|target| (target, stack)))
        .with_targets(OURS.map(|target| (target, ours)))
}

/// Creates writers to standard error that blank credentials.
#[derive(Clone, Copy, Debug)]
struct Redacting;

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One line; it is written once it is complete, so that no credential is split across two checks.
#[derive(Debug)]
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        // The queue is used because the session's tasks log, and none of them may wait for a
        // reader.
        output::stderr().line(redact(text.trim_end()).into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_config_warnings_need_info_level() {
        let shown = |level| {
            let region = "aws_config::imds::region";
            targets(level).would_enable(region, &tracing::Level::WARN)
        };
        assert!(!shown(Level::Warn));
        assert!(shown(Level::Info));
        let own = targets(Level::Warn);
        assert!(own.would_enable("signaling_aws::link", &tracing::Level::WARN));
    }

    #[test]
    fn log_level_of_dependencies_is_capped() {
        let targets = targets(Level::Trace);
        for (target, level, wanted) in [
            ("kvs_viewer_cli::watch", tracing::Level::TRACE, true),
            ("signaling_aws::socket", tracing::Level::TRACE, true),
            ("network_ifwatch", tracing::Level::TRACE, true),
            ("aws_sigv4", tracing::Level::DEBUG, false),
            ("hyper::proto", tracing::Level::INFO, false),
            ("tungstenite::handshake", tracing::Level::TRACE, false),
            ("rtc_ice::agent", tracing::Level::WARN, false),
            ("log", tracing::Level::INFO, false),
        ] {
            assert_eq!(targets.would_enable(target, &level), wanted, "{target} at {level}");
        }
    }
}
