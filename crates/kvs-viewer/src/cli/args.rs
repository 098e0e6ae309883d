//! The arguments of `watch` and `demo`, and what they are checked into.

use std::path::PathBuf;
use std::time::Duration;

use negotiation_core::{ClientIdPolicy, Config, Mode, RetryDelay, Settings};
use peer_webrtc::{Authorities, IcePolicy, Media, PeerConfig, RemoteAddresses};
use signaling_aws::{Limits, SignalingConfig, SignalingConfigBuilder, Stun};

use super::journal::JournalArgs;
use super::log::Level;
use super::media::codecs_for;
use crate::viewer::ViewerConfig;

/// Which channel is watched, and over which service.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// The channel's name or ARN
    #[arg(long, value_name = "NAME|ARN")]
    pub channel: String,
    /// The region; without it the ARN's, or that of the AWS configuration
    #[arg(long)]
    pub region: Option<String>,
    /// The control plane's URL, as for an emulator; goes before AWS_ENDPOINT_URL*
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Authorities to trust beside the system's, as a PEM file
    #[arg(long, value_name = "PEM")]
    pub ca_file: Option<PathBuf>,
    /// A profile of the AWS configuration
    #[arg(long)]
    pub profile: Option<String>,
    /// Use FIPS endpoints; without --stun there is TURN alone then, for the region's STUN speaks TLS
    #[arg(long)]
    pub fips: bool,
    /// Use dual-stack endpoints
    #[arg(long)]
    pub dual_stack: bool,
    /// This viewer's id on the channel; random without it
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Use the id as it is in every attempt, for cameras that authorise by it
    #[arg(long, requires = "client_id")]
    pub fixed_client_id: bool,
    /// Where viewers on this machine tell each other which client ids they use [default:
    /// $XDG_STATE_HOME/kvs-viewer or ~/.local/state/kvs-viewer]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// A STUN server, stun:HOST or stun:HOST:PORT, in place of the region's; may be given several times
    #[arg(long, value_name = "URI")]
    pub stun: Vec<String>,
}

/// How patient the session is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PatienceArgs {
    /// The preset that the other options here change
    #[arg(long, value_enum, default_value_t = Retry::OneRetry)]
    pub retry: Retry,
    /// Seconds to wait for the camera's answer
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub answer_timeout: Option<Duration>,
    /// Seconds between a failed attempt and the next
    #[arg(long, value_name = "S", value_parser = seconds_or_zero, allow_negative_numbers = true)]
    pub retry_delay: Option<Duration>,
    /// How often to try again
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
}

/// The presets of the contract's part 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Retry {
    /// 30 s for an answer, one retry after 6 s
    #[default]
    OneRetry,
    /// 10 retries or 2 minutes of them, short deadlines, jittered pauses
    Persistent,
    /// No retry
    Never,
}

/// What is received, for how long, and where it goes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Record to this file: .mp4 or .m4v (H.264), .webm (VP8, VP9) or .mkv (any); never overwrites
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Stop after being live for so many seconds; without it, at Ctrl-C
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
    /// Print one JSON event a line on standard output
    #[arg(long)]
    pub json: bool,
    /// Where the session's journal goes.
    #[command(flatten)]
    pub journal: JournalArgs,
    /// How much is logged to standard error
    #[arg(long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG")]
    pub log: Level,
}

/// Watch a channel.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Join the channel's storage session, where the service offers and no camera does
    /// (experimental: it has not met AWS)
    #[arg(long)]
    pub(crate) storage_session: bool,
    /// Use relayed candidates alone: only a TURN server reaches the camera
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Which of the camera's addresses are tried (default: `network`, or `any` when the service is
    /// on this machine)
    #[arg(long, value_enum)]
    pub(crate) remote_addresses: Option<Remote>,
    /// Do not watch this machine's network for changes (with a service on this machine it never is)
    #[arg(long)]
    pub(crate) no_network_watch: bool,
    /// Do not ask for the camera's sound
    #[arg(long)]
    pub(crate) no_audio: bool,
    /// Do not ask for the camera's picture
    #[arg(long, conflicts_with = "no_audio")]
    pub(crate) no_video: bool,
}

impl PatienceArgs {
    /// The session's configuration.
    pub(crate) fn config(&self, mode: Mode, relay_only: bool) -> Result<Config, String> {
        let mut settings = match self.retry {
            Retry::OneRetry => Settings::one_retry(),
            Retry::Persistent => Settings::persistent(),
            Retry::Never => Settings::never(),
        };
        settings.mode = mode;
        if let Some(timeout) = self.answer_timeout {
            settings.answer_timeouts = vec![timeout];
        }
        if let Some(delay) = self.retry_delay {
            settings.retry_delay = RetryDelay::Fixed(delay);
        }
        if let Some(retries) = self.retries {
            settings.retries = retries;
        }
        settings.relay_only = relay_only;
        settings.check().map_err(|error| error.to_string())
    }
}

impl ServiceArgs {
    fn signaling(&self, session: &Config) -> Result<SignalingConfig, String> {
        let stores = session.mode == Mode::Answerer;
        let mut builder = SignalingConfig::builder(&self.channel).storage_session(stores);
        builder = builder.limits(Limits {
            call: session.call_timeout,
            credentials: session.credentials_timeout,
            link_open: session.link_open_timeout,
            write: session.operation_timeout,
            ..Limits::default()
        });
        let set =
            |builder: SignalingConfigBuilder,
             value: &Option<String>,
             with: fn(SignalingConfigBuilder, String) -> SignalingConfigBuilder| {
                match value {
                    Some(value) => with(builder, value.clone()),
                    None => builder,
                }
            };
        builder = set(builder, &self.region, |b, v| b.region(v));
        builder = set(builder, &self.endpoint_url, |b, v| b.endpoint_url(v));
        builder = set(builder, &self.profile, |b, v| b.profile(v));
        builder = set(builder, &self.client_id, |b, v| b.client_id(v));
        if let Some(path) = &self.ca_file {
            builder = builder.ca_file(path);
        }
        if self.fips {
            builder = builder.fips(true);
        }
        if self.dual_stack {
            builder = builder.dual_stack(true);
        }
        if self.fixed_client_id {
            builder = builder.client_id_policy(ClientIdPolicy::Fixed);
        }
        if let Some(dir) = self.state_dir.clone().or_else(default_state_dir) {
            builder = builder.shared_ids(dir);
        }
        if !self.stun.is_empty() {
            builder = builder.stun(Stun::Custom(self.stun.clone()));
        }
        builder.build().map_err(|error| error.to_string())
    }
}

/// The XDG base directory for state; without a home directory there is none.
fn default_state_dir() -> Option<PathBuf> {
    let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    Some(state?.join("kvs-viewer"))
}

/// [`RemoteAddresses`], as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Remote {
    /// Every address, this machine's own among them
    Any,
    /// Those of local networks and of the internet, but no loopback or link-local ones
    Network,
    /// Those of the internet alone
    Public,
}

impl From<Remote> for RemoteAddresses {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Any => Self::Any,
            Remote::Network => Self::Network,
            Remote::Public => Self::Public,
        }
    }
}

impl WatchArgs {
    /// What a viewer is made from; no network is touched.
    pub(crate) fn viewer(&self) -> Result<ViewerConfig, String> {
        let mode = if self.storage_session { Mode::Answerer } else { Mode::Offerer };
        let session = self.patience.config(mode, self.relay_only)?;
        let signaling = self.service.signaling(&session)?;
        let authorities = match &self.service.ca_file {
            None => Authorities::system(),
            Some(path) => Authorities::with_pem_file(path).map_err(|error| error.to_string())?,
        };
        let wanted = |off| if off { Media::Off } else { Media::RecvOnly };
        // On this machine loopback addresses are candidates.
        let is_loopback = signaling.is_loopback();
        let default = PeerConfig::new(is_loopback);
        let remote = self.remote_addresses.map_or(default.remote_addresses, Into::into);
        let peer = PeerConfig {
            video: wanted(self.no_video),
            audio: wanted(self.no_audio),
            codecs: codecs_for(self.output.record.as_deref()),
            authorities,
            policy: if self.relay_only { IcePolicy::Relay } else { IcePolicy::All },
            remote_addresses: remote,
            ..default
        };
        // A session that never leaves this machine needs no network.
        let watch_network = !self.no_network_watch && !is_loopback;
        Ok(ViewerConfig { session, signaling, peer, watch_network })
    }
}

/// Seconds, with a fraction if wanted.
fn seconds(text: &str) -> Result<Duration, String> {
    let duration = seconds_or_zero(text)?;
    if duration.is_zero() { Err("must be more than 0".into()) } else { Ok(duration) }
}

fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "expected a number of seconds, like 30 or 2.5")?;
    if !(0.0..=604_800.0).contains(&secs) {
        return Err("must be between 0 and 604800 seconds (a week)".into());
    }
    Duration::try_from_secs_f64(secs).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_checked() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["", "x", "-1", "0", "nan", "inf", "1e12"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_change_the_preset() {
        let patience = PatienceArgs {
            answer_timeout: Some(Duration::from_secs(3)),
            retries: Some(4),
            ..PatienceArgs::default()
        };
        let config = patience.config(Mode::Offerer, false).expect("valid");
        assert_eq!(config.answer_timeouts, [Duration::from_secs(3)]);
        assert_eq!(config.retries, 4);
        let refused = PatienceArgs { retries: Some(5000), ..PatienceArgs::default() };
        assert!(refused.config(Mode::Offerer, false).expect_err("too many").contains("retries"));
    }
}
