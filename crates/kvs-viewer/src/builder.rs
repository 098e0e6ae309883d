//! The options of a session, each by its name, and what they are checked into.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use negotiation_core::{ClientIdPolicy, Mode, RetryDelay, Settings};
use peer_webrtc::{Authorities, Codec, IcePolicy, Media, PeerConfig, RemoteAddresses};
use signaling_aws::{KvsClient, Limits, Proxy, SignalingConfig, SignalingConfigBuilder, Stun};

use crate::error::InvalidOption;
use crate::frame::{FrameOptions, H264Format};
#[cfg(feature = "recording")]
use crate::record::Container;
use crate::session::SessionConfig;
#[cfg(feature = "recording")]
use crate::viewer::Files;
use crate::viewer::Viewer;

/// Presets of deadlines and retries, which further options can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryPreset {
    /// 30 s for the answer, and one retry after 6 s.
    #[default]
    OneRetry,
    /// Shorter deadlines, and retries with growing delays for as long as the application watches.
    Persistent,
    /// One attempt.
    Never,
}

/// The options of a session; [`crate::Viewer::watch`] creates them, and `.await` or
/// [`ViewerBuilder::start`] opens the session. Options that are not set come from the environment
/// and the profile, as in AWS's SDKs, or else are defaults.
#[derive(Clone)]
#[must_use = "a session opens with start() or .await"]
pub struct ViewerBuilder {
    signaling: SignalingConfigBuilder,
    retry: RetryPreset,
    settings: Option<Settings>,
    answer_timeout: Option<Duration>,
    retry_delay: Option<Duration>,
    retries: Option<u32>,
    storage_session: bool,
    relay_only: bool,
    ca_file: Option<PathBuf>,
    video: Media,
    audio: Media,
    codecs: Option<Vec<Codec>>,
    remote_addresses: Option<RemoteAddresses>,
    bind: Option<Vec<String>>,
    #[cfg(feature = "network-watch")]
    watch_network: bool,
    frames: FrameOptions,
    #[cfg(feature = "recording")]
    record_to: Option<PathBuf>,
    #[cfg(feature = "recording")]
    live: Option<(PathBuf, Container)>,
    channel: String,
}

/// The default limit for the frames that wait for the application, in bytes.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

impl ViewerBuilder {
    pub(crate) fn new(channel: String) -> Self {
        Self {
            signaling: SignalingConfig::builder(channel.clone()),
            retry: RetryPreset::default(),
            settings: None,
            answer_timeout: None,
            retry_delay: None,
            retries: None,
            storage_session: false,
            relay_only: false,
            ca_file: None,
            video: Media::RecvOnly,
            audio: Media::RecvOnly,
            codecs: None,
            remote_addresses: None,
            bind: None,
            #[cfg(feature = "network-watch")]
            watch_network: true,
            frames: FrameOptions {
                h264_format: H264Format::default(),
                rtp_packets: false,
                queue_bytes: QUEUE_BYTES,
            },
            #[cfg(feature = "recording")]
            record_to: None,
            #[cfg(feature = "recording")]
            live: None,
            channel,
        }
    }

    /// Sets the AWS region, such as `us-west-2`. Default: the ARN's, or that of the AWS
    /// configuration.
    pub fn region(self, region: impl Into<String>) -> Self {
        self.with_signaling(|signaling| signaling.region(region))
    }

    /// Sets the URL of the control plane, for an emulator or a VPC endpoint. It overrides
    /// `AWS_ENDPOINT_URL` and profiles.
    pub fn endpoint_url(self, url: impl Into<String>) -> Self {
        self.with_signaling(|signaling| signaling.endpoint_url(url))
    }

    /// Accepts `http://` and `ws://` endpoints beyond this machine. Anyone on the network path can
    /// then read and use each signed request.
    pub fn allow_plain_http(self, allow: bool) -> Self {
        self.with_signaling(|signaling| signaling.allow_plain_http(allow))
    }

    /// Selects the profile of AWS's configuration files.
    pub fn profile(self, profile: impl Into<String>) -> Self {
        self.with_signaling(|signaling| signaling.profile(profile))
    }

    /// Sets an access key, instead of AWS's default chain.
    pub fn credentials(
        self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        self.with_signaling(|signaling| {
            signaling.credentials(access_key_id, secret_access_key, session_token)
        })
    }

    /// A source of credentials of the application's own, which is called again as they expire.
    pub fn credentials_provider(self, provider: SharedCredentialsProvider) -> Self {
        self.with_signaling(|signaling| signaling.credentials_provider(provider))
    }

    /// Sets a PEM file with certificate authorities to trust in addition to the system's, for API
    /// requests, the signaling connection and TURN over TLS.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.ca_file = Some(path.clone());
        self.with_signaling(|signaling| signaling.ca_file(path))
    }

    /// Sets the HTTP proxy for API requests, the signaling connection and TURN over TCP and TLS.
    /// Default: `HTTPS_PROXY` and `NO_PROXY`.
    pub fn proxy(self, proxy: Proxy) -> Self {
        self.with_signaling(|signaling| signaling.proxy(proxy))
    }

    /// Uses endpoints that satisfy FIPS 140.
    pub fn fips(self, fips: bool) -> Self {
        self.with_signaling(|signaling| signaling.fips(fips))
    }

    /// Uses endpoints with IPv6 and IPv4 addresses.
    pub fn dual_stack(self, dual_stack: bool) -> Self {
        self.with_signaling(|signaling| signaling.dual_stack(dual_stack))
    }

    /// Sets the viewer's client id on the channel. Default: a random one for each process. Later
    /// attempts add `-2`, `-3`, since a camera keeps the session of a client id that vanished for
    /// up to a minute.
    pub fn client_id(self, client_id: impl Into<String>) -> Self {
        self.with_signaling(|signaling| signaling.client_id(client_id))
    }

    /// Uses the same client id in each attempt, for cameras that authorize by it.
    pub fn fixed_client_id(self, fixed: bool) -> Self {
        let policy = if fixed { ClientIdPolicy::Fixed } else { ClientIdPolicy::default() };
        self.with_signaling(|signaling| signaling.client_id_policy(policy))
    }

    /// Sets a directory in which processes on this machine share the endpoints of channels and the
    /// client ids in use. Default: nothing is shared or stored.
    pub fn state_dir(self, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        self.with_signaling(|signaling| signaling.shared_ids(dir.clone()).endpoint_cache(dir))
    }

    /// Sets what the session shares with other sessions: cached endpoints, the use of the service's
    /// quotas, client ids. Default: one client for the process. A program that serves several
    /// tenants gives each its own [`KvsClient`].
    pub fn client(self, client: KvsClient) -> Self {
        self.with_signaling(|signaling| signaling.client(client))
    }

    /// Sets STUN servers instead of the region's, as `stun:HOST[:PORT]`; an empty list disables
    /// STUN.
    pub fn stun(self, uris: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let uris: Vec<String> = uris.into_iter().map(Into::into).collect();
        let stun = if uris.is_empty() { Stun::Off } else { Stun::Custom(uris) };
        self.with_signaling(|signaling| signaling.stun(stun))
    }

    /// Selects the preset of deadlines and retries.
    pub fn retry(mut self, preset: RetryPreset) -> Self {
        self.retry = preset;
        self
    }

    /// Sets every deadline, limit and retry, instead of a preset.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Sets how long each attempt waits for the camera's answer.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = Some(timeout);
        self
    }

    /// Sets the delay before each retry.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// Sets how many attempts may follow a failed one.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// Watches a channel in storage mode, in which the service makes the offer.
    pub fn storage_session(mut self, storage_session: bool) -> Self {
        self.storage_session = storage_session;
        self
    }

    /// Connects through a TURN server only.
    pub fn relay_only(mut self, relay_only: bool) -> Self {
        self.relay_only = relay_only;
        self
    }

    /// Sets whether video is received and sent. Default: received.
    pub fn video(mut self, video: Media) -> Self {
        self.video = video;
        self
    }

    /// Sets whether audio is received and sent. Default: received.
    pub fn audio(mut self, audio: Media) -> Self {
        self.audio = audio;
        self
    }

    /// Sets the codecs to offer, in order of preference. Default: all of them, H.264 and Opus
    /// first.
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.codecs = Some(codecs.into_iter().collect());
        self
    }

    /// Sets which addresses of the camera are tried. Default: network addresses, or any address if
    /// the service is on this machine.
    pub fn remote_addresses(mut self, addresses: RemoteAddresses) -> Self {
        self.remote_addresses = Some(addresses);
        self
    }

    /// Sets the local addresses for media, as `IP:PORT` (port 0: any). Default: those of all
    /// interfaces.
    pub fn bind(mut self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.bind = Some(addresses.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the platform's network changes start recovery. Default: yes, except where the
    /// service is on this machine. Where it is off (a phone, a test), the application reports
    /// changes by [`crate::Control::network_changed`] and [`crate::Control::online`].
    #[cfg(feature = "network-watch")]
    pub fn watch_network(mut self, watch: bool) -> Self {
        self.watch_network = watch;
        self
    }

    /// Sets how the NAL units of an H.264 frame are separated. Default: Annex B.
    pub fn h264_format(mut self, format: H264Format) -> Self {
        self.frames.h264_format = format;
        self
    }

    /// Returns each RTP packet too, as [`crate::Update::Packet`]. Default: frames alone.
    pub fn rtp_packets(mut self, rtp_packets: bool) -> Self {
        self.frames.rtp_packets = rtp_packets;
        self
    }

    /// Limits the bytes of frames that wait for the application. Beyond the limit, frames are
    /// dropped and counted ([`crate::Update::FramesLost`]), and video resumes at the next keyframe.
    /// Default: 16 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.frames.queue_bytes = bytes;
        self
    }

    /// Records to a new file: `.mp4` (H.264), `.webm` (VP8, VP9) or `.mkv` (any). The file is
    /// playable at any moment, and a slow disk and a slow application do not delay each other.
    #[cfg(feature = "recording")]
    pub fn record_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.record_to = Some(path.into());
        self
    }

    /// Writes live media for a program that reads it as it arrives: each frame when it is whole,
    /// from a keyframe on. The path is that of
    /// [`LiveOutput::open`](crate::record::LiveOutput::open): `-` for standard output, a named
    /// pipe, or a new file; the container is any but [`Container::Mp4`]. A reader that closed its
    /// end is reported as [`crate::Update::Live`], and the session goes on. For any other writer
    /// see [`crate::record::Recording::live`].
    #[cfg(feature = "recording")]
    pub fn write_live(mut self, path: impl Into<PathBuf>, container: Container) -> Self {
        self.live = Some((path.into(), container));
        self
    }

    /// Opens the session; `.await` on the builder does the same.
    ///
    /// # Errors
    /// Returns the option that cannot work; no connection was opened.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub async fn start(self) -> Result<Viewer, InvalidOption> {
        let config = self.session_config()?;
        config.signaling.check_environment().await?;
        let frames = self.frames;
        #[cfg(feature = "recording")]
        let opened = {
            let files = Files { record: self.record_to, live: self.live, title: self.channel };
            let (mut config, containers) = (config, files.containers());
            if self.codecs.is_none() && !containers.is_empty() {
                // A camera that has several codecs takes an early one.
                config.peer.codecs = crate::record::codecs_for(&containers);
            }
            Viewer::open(config, frames, files)
        };
        #[cfg(not(feature = "recording"))]
        let opened = Viewer::open(config, frames);
        opened
    }

    /// Returns the configuration for [`crate::Session::start`].
    ///
    /// # Errors
    /// Returns the option that cannot work.
    pub fn session_config(&self) -> Result<SessionConfig, InvalidOption> {
        let mut settings = self.settings.clone().unwrap_or_else(|| match self.retry {
            RetryPreset::OneRetry => Settings::one_retry(),
            RetryPreset::Persistent => Settings::persistent(),
            RetryPreset::Never => Settings::never(),
        });
        if self.storage_session {
            settings.mode = Mode::Answerer;
        }
        if let Some(timeout) = self.answer_timeout {
            settings.answer_timeouts = vec![timeout];
        }
        if let Some(delay) = self.retry_delay {
            settings.retry_delay = RetryDelay::Fixed(delay);
        }
        if let Some(retries) = self.retries {
            settings.retries = retries;
        }
        settings.relay_only |= self.relay_only;
        let session = settings.check().map_err(|error| {
            let text = error.to_string();
            let reason = text.strip_prefix(error.field).unwrap_or(&text).trim_start();
            InvalidOption::new(option(error.field), reason)
        })?;
        let checked = session.settings();
        let limits = Limits {
            call: checked.call_timeout,
            credentials: checked.credentials_timeout,
            connection_open: checked.link_open_timeout,
            write: checked.operation_timeout,
            ..Limits::default()
        };
        let signaling = self.signaling.clone().storage_session(checked.mode == Mode::Answerer);
        let signaling = signaling.limits(limits).build()?;
        let authorities = match &self.ca_file {
            None => Authorities::system(),
            Some(path) => Authorities::with_pem_file(path)
                .map_err(|error| InvalidOption::new("ca_file", error.to_string()))?,
        };
        // If the service is on this machine, loopback addresses are candidates.
        let is_loopback = signaling.is_loopback();
        let default = PeerConfig::new(is_loopback);
        let peer = PeerConfig {
            video: self.video.clone(),
            audio: self.audio.clone(),
            codecs: self.codecs.clone().unwrap_or(default.codecs),
            authorities,
            policy: if checked.relay_only { IcePolicy::Relay } else { IcePolicy::All },
            remote_addresses: self.remote_addresses.unwrap_or(default.remote_addresses),
            // A host name may also resolve to this machine, for example through /etc/hosts.
            service: signaling.service_host().filter(|_| self.remote_addresses.is_none()),
            bind: self.bind.clone().unwrap_or(default.bind),
            rtp_events: self.frames.rtp_packets,
            ..default
        };
        // A session with a service on this machine does not depend on the network.
        #[cfg(feature = "network-watch")]
        let watch_network = self.watch_network && !is_loopback;
        #[cfg(not(feature = "network-watch"))]
        let watch_network = false;
        Ok(SessionConfig { session, signaling, peer, watch_network })
    }

    fn with_signaling(
        mut self,
        change: impl FnOnce(SignalingConfigBuilder) -> SignalingConfigBuilder,
    ) -> Self {
        self.signaling = change(self.signaling);
        self
    }
}

impl Viewer {
    /// Creates the options of a session with the camera of a channel, given by its name or ARN.
    pub fn watch(channel: impl Into<String>) -> ViewerBuilder {
        ViewerBuilder::new(channel.into())
    }
}

impl IntoFuture for ViewerBuilder {
    type Output = Result<Viewer, InvalidOption>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for ViewerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewerBuilder").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Returns the option that sets a field of [`Settings`].
fn option(field: &'static str) -> &'static str {
    match field {
        "answer_timeouts" => "answer_timeout",
        "retry_delay" | "retries" => field,
        _ => "settings",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> ViewerBuilder {
        ViewerBuilder::new("door".into()).region("us-west-2")
    }

    #[test]
    fn options_become_session_configuration() {
        let config = door()
            .endpoint_url("http://127.0.0.1:4700")
            .retry(RetryPreset::Persistent)
            .answer_timeout(Duration::from_secs(3))
            .retries(4)
            .relay_only(true)
            .audio(Media::Off)
            .session_config()
            .expect("valid");
        assert_eq!(config.session.settings().answer_timeouts, [Duration::from_secs(3)]);
        assert_eq!(
            (config.session.settings().retries, config.session.settings().relay_only),
            (4, true)
        );
        assert_eq!(config.peer.policy, IcePolicy::Relay);
        assert!(matches!(config.peer.audio, Media::Off));
        assert!(!config.watch_network, "the service is on this machine");
    }

    #[test]
    fn invalid_option_is_named() {
        let refused = |builder: ViewerBuilder| builder.session_config().expect_err("invalid");
        let error = refused(door().answer_timeout(Duration::ZERO));
        assert_eq!(error.option, "answer_timeout", "{error}");
        assert_eq!(refused(door().client_id("not a client id")).option, "client_id");
        assert_eq!(refused(door().endpoint_url("kvs")).option, "endpoint_url");
        assert_eq!(refused(door().stun(["x"])).option, "stun");
        assert_eq!(refused(door().ca_file("/no/such/file")).option, "ca_file");
        assert_eq!(refused(ViewerBuilder::new(String::new())).option, "channel");
        let error = refused(door().endpoint_url("http://192.0.2.1"));
        assert!(error.to_string().contains("allow_plain_http"), "{error}");
    }

    #[test]
    fn builder_prints_no_secret() {
        let builder = door().credentials("AKIA", "secret-canary", Some("token-canary".into()));
        assert!(!format!("{builder:?}").contains("canary"));
    }
}
