//! The arguments of `watch` and `demo`, and their conversion to the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use negotiation_core::{ClientIdPolicy, Config, Mode, RetryDelay, Settings};
use peer_webrtc::{Authorities, IcePolicy, Media, PeerConfig, RemoteAddresses};
use recording::{Container, LiveOutput};
use signaling_aws::{Field, Limits, SignalingConfig, SignalingConfigBuilder, Stun};

use super::journal::JournalArgs;
use super::log::Level;
use super::output::Events;
use super::spans::{duration, duration_or_zero};
use super::status::Verbosity;
use kvs_viewer::SessionConfig;
use kvs_viewer::record::codecs_for;

/// Which channel is watched, and over which service.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// Name or ARN of the channel [env: KVS_VIEWER_CHANNEL=]
    // The variable is read by hand, because clap would treat it as a second channel next to CHANNEL
    // or --channel.
    #[arg(value_name = "CHANNEL", help_heading = None, conflicts_with = "channel")]
    pub name: Option<String>,
    /// Same as CHANNEL
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<String>,
    /// AWS region [default: the region of the ARN, AWS_REGION or the profile]
    #[arg(long)]
    pub region: Option<String>,
    /// Profile of ~/.aws/config and ~/.aws/credentials [default: AWS_PROFILE or "default"]
    #[arg(long)]
    pub profile: Option<String>,
    /// Send requests to this URL, as of an emulator; overrides AWS_ENDPOINT_URL*
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// Allow a plain http:// URL beyond this machine, where others on the way can read and use the
    /// signed requests
    #[arg(long)]
    pub allow_plain_http: bool,
    /// Trust the CA certificates in this PEM file too; overrides AWS_CA_BUNDLE
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Use FIPS endpoints; disables the regional STUN server, so only TURN is used unless --stun is
    /// given
    #[arg(long)]
    pub fips: bool,
    /// Use dual-stack (IPv4 and IPv6) endpoints
    #[arg(long)]
    pub dual_stack: bool,
    /// Connect with this client id [default: a random one]
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Use the same client id in every attempt, for cameras that authorize by it
    #[arg(long, requires = "client_id")]
    pub fixed_client_id: bool,
    /// Directory in which viewers on this machine share which client ids are in use and the
    /// endpoints of channels [default: $XDG_STATE_HOME/kvs-viewer or ~/.local/state/kvs-viewer]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// How patient the session is.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Timeouts and retries")]
pub struct PatienceArgs {
    /// Preset of timeouts and retries
    #[arg(long, value_enum, default_value_t = Retry::OneRetry)]
    pub retry: Retry,
    /// Wait this long for the camera's answer [default: by preset, 30s with one-retry]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub answer_timeout: Option<Duration>,
    /// Wait this long between a failed attempt and the next [default: by preset, 6s with one-retry]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero, allow_negative_numbers = true)]
    pub retry_delay: Option<Duration>,
    /// Try again this many times [default: by preset, 1 with one-retry]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
}

/// The presets of the contract's part 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Retry {
    /// Wait 30 s for an answer, and try again once after 6 s
    #[default]
    OneRetry,
    /// Try again 10 times or for 2 minutes, with short timeouts and random delays
    Persistent,
    /// Do not try again
    Never,
}

/// What is received, for how long, and where it goes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Record to this file: .mp4, .m4v, .ts (H.264), .webm (VP8, VP9) or .mkv (any); never
    /// overwrites. If the camera sends what the file cannot hold, the command ends and names the
    /// file that can
    #[arg(short, long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write live media here for a player or another program to read, each frame at once: -
    /// (standard output, with nothing else on it), a named pipe, or a new file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Format of --output [default: by the file's name; mkv for - and for other names]
    #[arg(long, value_enum, requires = "output")]
    pub format: Option<Format>,
    /// Stop this long after the video first starts, interruptions included: 20s, 2m, 1h30m, or
    /// seconds [default: at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
    /// Print events as JSON, one per line, on standard output; with `--output -` on standard error,
    /// in the place of messages for people
    #[arg(long)]
    pub json: bool,
    /// Print events as JSON, one per line, to this open file descriptor
    #[arg(long, value_name = "N")]
    pub json_fd: Option<u32>,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print every step, deadlines and open descriptors too
    #[arg(short, long)]
    pub verbose: bool,
    /// Where the session's journal goes.
    #[command(flatten)]
    pub journal: JournalArgs,
    /// Log level on standard error
    #[arg(long, value_enum, default_value_t = Level::Warn, env = "KVS_VIEWER_LOG")]
    pub log: Level,
}

/// Formats of a live output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Matroska, with any codec
    Mkv,
    /// WebM, with VP8 or VP9, and Opus
    Webm,
    /// MPEG transport stream, with H.264 and Opus
    Ts,
    /// H.264 byte stream (Annex B), without audio
    H264,
}

impl From<Format> for Container {
    fn from(format: Format) -> Self {
        match format {
            Format::Mkv => Self::Matroska,
            Format::Webm => Self::WebM,
            Format::Ts => Self::MpegTs,
            Format::H264 => Self::H264,
        }
    }
}

impl OutputArgs {
    /// Where live media goes, and its format.
    pub(crate) fn live(&self) -> Option<(&Path, Container)> {
        let path = self.output.as_deref()?;
        let format = self.format.map(Container::from);
        let container = format.or_else(|| Container::from_path(path).ok());
        Some((path, container.unwrap_or(Container::Matroska)))
    }

    /// The containers that media is written to.
    pub(crate) fn containers(&self) -> Vec<Container> {
        let recorded = self.record.as_deref().and_then(|path| Container::from_path(path).ok());
        recorded.into_iter().chain(self.live().map(|(_, container)| container)).collect()
    }

    /// Whether audio is of use: no file is written, or one of them can hold it.
    pub(crate) fn takes_audio(&self) -> bool {
        let opus = recording::Codec::Audio(recording::AudioCodec::Opus);
        let containers = self.containers();
        containers.is_empty() || containers.iter().any(|container| container.check(opus).is_ok())
    }

    /// Where events are printed as JSON.
    pub(crate) fn events(&self) -> Option<Events> {
        match self.json_fd {
            Some(number) => Some(Events::Descriptor(number)),
            None if !self.json => None,
            None if self.takes_standard_output() => Some(Events::StandardError),
            None => Some(Events::StandardOutput),
        }
    }

    /// Whether live media goes to standard output, so that nothing else may.
    pub(crate) fn takes_standard_output(&self) -> bool {
        self.output.as_deref().is_some_and(LiveOutput::is_standard_output)
    }

    pub(crate) fn verbosity(&self) -> Verbosity {
        if self.events() == Some(Events::StandardError) {
            // The events contain all messages for people.
            return Verbosity::Quiet;
        }
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

/// Watch a channel.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) patience: PatienceArgs,
    #[command(flatten)]
    pub(crate) media: MediaArgs,
}

/// What is received, and over which network paths.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Media and network")]
pub(crate) struct MediaArgs {
    /// Do not receive audio
    #[arg(long)]
    pub(crate) no_audio: bool,
    /// Do not receive video
    #[arg(long, conflicts_with = "no_audio")]
    pub(crate) no_video: bool,
    /// Join the channel's storage session, in which the service makes the offer (experimental: not
    /// tested with AWS)
    #[arg(long)]
    pub(crate) storage_session: bool,
    /// Connect through a TURN server only
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Use this STUN server instead of the region's, as stun:HOST[:PORT]; repeat for more
    #[arg(long, value_name = "URI")]
    pub(crate) stun: Vec<String>,
    /// Camera addresses to connect to [default: network, or any if the service is on this machine]
    #[arg(long, value_enum)]
    pub(crate) remote_addresses: Option<Remote>,
    /// Do not watch this machine's network for changes (never done if the service is on this
    /// machine)
    #[arg(long)]
    pub(crate) no_network_watch: bool,
}

impl PatienceArgs {
    /// Builds the session's configuration.
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
        settings.check().map_err(|error| of_field(error.field, &error.to_string()))
    }
}

impl ServiceArgs {
    /// Returns the channel of the arguments, or of the environment.
    pub(crate) fn channel(&self) -> Result<String, String> {
        let given = self.name.clone().or_else(|| self.channel.clone());
        let variable = || std::env::var("KVS_VIEWER_CHANNEL").ok().filter(|name| !name.is_empty());
        given.or_else(variable).ok_or_else(|| {
            "no channel given: name it, as in `kvs-viewer watch front-door`, or set \
             KVS_VIEWER_CHANNEL"
                .to_owned()
        })
    }

    fn signaling(&self, session: &Config, stun: &[String]) -> Result<SignalingConfig, String> {
        let stores = session.settings().mode == Mode::Answerer;
        let mut builder = SignalingConfig::builder(self.channel()?).storage_session(stores);
        builder = builder.limits(Limits {
            call: session.settings().call_timeout,
            credentials: session.settings().credentials_timeout,
            connection_open: session.settings().link_open_timeout,
            write: session.settings().operation_timeout,
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
        builder = builder.allow_plain_http(self.allow_plain_http);
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
            builder = builder.shared_ids(&dir).endpoint_cache(dir);
        }
        if !stun.is_empty() {
            builder = builder.stun(Stun::Custom(stun.to_vec()));
        }
        builder.build().map_err(|error| error.with_names(flag))
    }
}

/// Returns the option or variable that sets this field of the signaling configuration.
pub(crate) fn flag(field: Field) -> &'static str {
    match field {
        Field::Channel => "CHANNEL",
        Field::Region => "--region",
        Field::ClientId => "--client-id",
        Field::EndpointUrl => "--endpoint-url",
        Field::AllowPlainHttp => "--allow-plain-http",
        Field::Profile => "--profile",
        Field::CaFile => CA_FILE,
        Field::Proxy => "HTTPS_PROXY",
        Field::Stun => "--stun",
        // The command line has no option for these fields.
        Field::RememberedChannels | Field::Limits => field.as_str(),
    }
}

const CA_FILE: &str = "--ca-file (or AWS_CA_BUNDLE)";

/// Formats the problem of a field, with the option that sets the field in place of its name.
pub(crate) fn of_field(field: &str, problem: &str) -> String {
    let option = match field {
        "ca_file" => CA_FILE,
        "answer_timeouts" => "--answer-timeout",
        "retry_delay" => "--retry-delay",
        "retries" => "--retries",
        other => other,
    };
    match problem.strip_prefix(field) {
        Some(rest) if rest.starts_with(':') => format!("{option}{rest}"),
        Some(rest) => format!("{option}: {}", rest.trim_start()),
        None => format!("{option}: {problem}"),
    }
}

/// Returns the XDG base directory for state; `None` without a home directory.
fn default_state_dir() -> Option<PathBuf> {
    let dir = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")));
    Some(state?.join("kvs-viewer"))
}

/// [`RemoteAddresses`] as a command-line value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Remote {
    /// All, this machine's own included
    Any,
    /// Those of local networks and of the internet; no loopback or link-local addresses
    Network,
    /// Those of the internet only
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
    /// Builds the configuration of the viewer, without using the network.
    pub(crate) fn viewer(&self) -> Result<SessionConfig, String> {
        let mode = if self.media.storage_session { Mode::Answerer } else { Mode::Offerer };
        let session = self.patience.config(mode, self.media.relay_only)?;
        let signaling = self.service.signaling(&session, &self.media.stun)?;
        let authorities = match &self.service.ca_file {
            None => Authorities::system(),
            Some(path) => Authorities::with_pem_file(path)
                .map_err(|error| of_field("ca_file", &error.to_string()))?,
        };
        let wanted = |off| if off { Media::Off } else { Media::RecvOnly };
        // If the service is on this machine, loopback addresses are candidates.
        let is_loopback = signaling.is_loopback();
        let default = PeerConfig::new(is_loopback);
        let remote = self.media.remote_addresses.map_or(default.remote_addresses, Into::into);
        // A host name may also resolve to this machine, for example through /etc/hosts.
        let service = signaling.service_host().filter(|_| self.media.remote_addresses.is_none());
        let peer = PeerConfig {
            video: wanted(self.media.no_video),
            audio: wanted(self.media.no_audio || !self.output.takes_audio()),
            codecs: codecs_for(&self.output.containers()),
            authorities,
            policy: if self.media.relay_only { IcePolicy::Relay } else { IcePolicy::All },
            remote_addresses: remote,
            service,
            ..default
        };
        // A session with a service on this machine does not depend on the network.
        let watch_network = !self.media.no_network_watch && !is_loopback;
        Ok(SessionConfig { session, signaling, peer, watch_network })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_change_the_preset() {
        let patience = PatienceArgs {
            answer_timeout: Some(Duration::from_secs(3)),
            retries: Some(4),
            ..PatienceArgs::default()
        };
        let config = patience.config(Mode::Offerer, false).expect("valid");
        assert_eq!(config.settings().answer_timeouts, [Duration::from_secs(3)]);
        assert_eq!(config.settings().retries, 4);
        let refused = PatienceArgs { retries: Some(5000), ..PatienceArgs::default() };
        let problem = refused.config(Mode::Offerer, false).expect_err("too many");
        assert!(problem.starts_with("--retries: must be"), "{problem}");
    }

    #[test]
    fn errors_name_options() {
        let args = |change: fn(&mut ServiceArgs)| {
            let mut args = WatchArgs { service: ServiceArgs::default(), ..WatchArgs::default() };
            args.service.name = Some("front-door".into());
            change(&mut args.service);
            args.viewer().expect_err("refused")
        };
        let url = args(|service| service.endpoint_url = Some("ftp://localhost".into()));
        assert!(url.starts_with("--endpoint-url: "), "{url}");
        let id = args(|service| service.client_id = Some("a@b".into()));
        assert!(id.starts_with("--client-id: "), "{id}");
        let file = args(|service| service.ca_file = Some("/no/such/file".into()));
        assert!(file.starts_with("--ca-file"), "{file}");
        let channel = args(|service| service.name = Some("front door".into()));
        assert!(channel.starts_with("CHANNEL: "), "{channel}");
    }
}
