//! The configuration of signaling, checked before any network is touched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures_util::future::BoxFuture;
use kvs_wire::{ChannelArn, is_channel_name};
use negotiation_core::{ClientId, ClientIdPolicy};
use url::Url;

use crate::config_error::{ConfigError, Field};
use crate::endpoint::{self, PlainHttp, is_loopback, parse_endpoint};
use crate::ice::is_stun;
use crate::kvs_client::KvsClient;
use crate::limits::Limits;
use crate::proxy::{Duplex, Proxy, Route};
use crate::tls::Trust;

/// A channel, by name or by ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// By name: the service is queried for its ARN.
    Name(String),
    /// By ARN: no query is necessary.
    Arn(ChannelArn),
}

/// Which STUN server a peer connection is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stun {
    /// The region's own. None when the endpoint is on loopback, where no region is near, and none
    /// with FIPS, where the region offers STUN over TLS only.
    #[default]
    Auto,
    /// No STUN server.
    Off,
    /// These URIs, `stun:HOST[:PORT]` each.
    Custom(Vec<String>),
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct SignalingConfig {
    pub(crate) channel: Channel,
    pub(crate) region: Option<String>,
    pub(crate) client_id: ClientId,
    pub(crate) client_id_policy: ClientIdPolicy,
    pub(crate) shared_ids: Option<PathBuf>,
    pub(crate) endpoint_cache: Option<PathBuf>,
    pub(crate) storage_session: bool,
    pub(crate) endpoint_url: Option<Url>,
    pub(crate) allow_plain_http: bool,
    pub(crate) profile: Option<String>,
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) fips: Option<bool>,
    pub(crate) dual_stack: Option<bool>,
    pub(crate) stun: Stun,
    pub(crate) trust: Trust,
    pub(crate) route: Route,
    pub(crate) limits: Limits,
    pub(crate) client: KvsClient,
}

impl SignalingConfig {
    /// The directory that processes share and from which old files are removed.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        self.shared_ids.as_deref().or(self.endpoint_cache.as_deref())
    }

    /// Starts a configuration for a channel, by name or by ARN.
    pub fn builder(channel: impl Into<String>) -> SignalingConfigBuilder {
        SignalingConfigBuilder {
            channel: channel.into(),
            region: None,
            client_id: None,
            client_id_policy: ClientIdPolicy::default(),
            shared_ids: None,
            endpoint_cache: None,
            storage_session: false,
            endpoint_url: None,
            allow_plain_http: false,
            remembered_channels: None,
            profile: None,
            ca_file: None,
            proxy: Proxy::default(),
            credentials: None,
            fips: None,
            dual_stack: None,
            stun: Stun::default(),
            limits: Limits::default(),
            client: None,
        }
    }

    /// Returns a text that identifies the channel: its name or ARN, its region, its endpoint and
    /// its profile. It holds no secret.
    pub fn identity(&self) -> String {
        format!("{:?} {:?} {:?} {:?}", self.channel, self.region, self.endpoint_url, self.profile)
    }

    /// The client id that the first attempt uses.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// Whether the service is on this machine, by the configured endpoint, or where there is none,
    /// by `AWS_ENDPOINT_URL_KINESIS_VIDEO` or `AWS_ENDPOINT_URL`.
    ///
    /// This ignores an endpoint from a profile: profiles are read later.
    pub fn is_loopback(&self) -> bool {
        let variable = |name: &str| std::env::var(name).ok();
        let endpoint = self.endpoint_url.clone().or_else(|| endpoint::of_environment(variable));
        endpoint.as_ref().is_some_and(is_loopback)
    }

    /// The host name and port of the control plane, as far as they are known before a call is made:
    /// those of the endpoint that [`Self::is_loopback`] checks, else of the region's own.
    ///
    /// A peer port resolves it, to see whether the service is on this machine.
    pub fn service_host(&self) -> Option<(String, u16)> {
        let variable = |name: &str| std::env::var(name).ok();
        let endpoint = self.endpoint_url.clone().or_else(|| endpoint::of_environment(variable));
        if let Some(endpoint) = endpoint {
            return Some((endpoint.host_str()?.to_owned(), endpoint.port_or_known_default()?));
        }
        let region = self.region.clone().or_else(|| variable("AWS_REGION"))?;
        let (fips, dual_stack) = (self.fips == Some(true), self.dual_stack == Some(true));
        Some((crate::ice::regional_control_plane(&region, fips, dual_stack), 443))
    }

    /// Returns a function that connects to a given host and port through the proxy, for other
    /// streams such as TURN over TCP; its result is `None` where no proxy applies to the host.
    pub fn detour(
        &self,
    ) -> impl Fn(String, u16) -> BoxFuture<'static, io::Result<Option<Box<dyn Duplex>>>>
    + Send
    + Sync
    + use<> {
        let (route, trust) = (self.route.clone(), self.trust.clone());
        move |host, port| {
            let around = route.clone().around(trust.clone(), host, port);
            Box::pin(async {
                around.await.map_err(|failure| io::Error::other(failure.to_string()))
            })
        }
    }

    /// The hosts at which a configured endpoint may use plain HTTP.
    pub(crate) fn plain(&self) -> PlainHttp {
        if self.allow_plain_http { PlainHttp::Anywhere } else { PlainHttp::Loopback }
    }
}

/// The file from which AWS's own tools read authorities.
fn ca_bundle() -> Option<PathBuf> {
    std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Collects the settings of a [`SignalingConfig`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SignalingConfigBuilder {
    channel: String,
    region: Option<String>,
    client_id: Option<String>,
    client_id_policy: ClientIdPolicy,
    shared_ids: Option<PathBuf>,
    endpoint_cache: Option<PathBuf>,
    storage_session: bool,
    endpoint_url: Option<String>,
    allow_plain_http: bool,
    remembered_channels: Option<usize>,
    profile: Option<String>,
    ca_file: Option<PathBuf>,
    proxy: Proxy,
    credentials: Option<SharedCredentialsProvider>,
    fips: Option<bool>,
    dual_stack: Option<bool>,
    stun: Stun,
    limits: Limits,
    client: Option<KvsClient>,
}

impl SignalingConfigBuilder {
    /// The region; without it the ARN's, or that of the AWS configuration.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The viewer's id; without it a random one, made once per process.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// How ids are chosen when one rests.
    pub fn client_id_policy(mut self, policy: ClientIdPolicy) -> Self {
        self.client_id_policy = policy;
        self
    }

    /// A directory in which the processes of this machine record which ids they use, so that one
    /// does not take the id of another that was just killed.
    pub fn shared_ids(mut self, dir: impl Into<PathBuf>) -> Self {
        self.shared_ids = Some(dir.into());
        self
    }

    /// A directory in which the processes of this machine leave the ARN and the endpoints of
    /// channels for each other, for ten hours. A process that finds them there starts without
    /// DescribeSignalingChannel and GetSignalingChannelEndpoint. The files hold no credential and
    /// no ICE server, and are used for the same access key alone. Endpoints that fail are requested
    /// again within the attempt. It may be the directory of [`Self::shared_ids`].
    pub fn endpoint_cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.endpoint_cache = Some(dir.into());
        self
    }

    /// Watches a channel in storage mode: the service offers once the viewer has joined, and all
    /// attempts use the same id.
    pub fn storage_session(mut self, storage_session: bool) -> Self {
        self.storage_session = storage_session;
        self
    }

    /// The control plane's URL; it overrides every `AWS_ENDPOINT_URL*` and every profile.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Accepts `http://` and `ws://` endpoints beyond this machine as well, as for an emulator in
    /// another container. Others on the network path can then read and use every signed request, so
    /// use credentials that are valid for nothing else. The log warns of it.
    pub fn allow_plain_http(mut self, allow_plain_http: bool) -> Self {
        self.allow_plain_http = allow_plain_http;
        self
    }

    /// How many channels the client caches endpoints and ICE servers of; 4096 by default. A channel
    /// that is removed is requested again. Where several configurations share a client, the largest
    /// number applies.
    pub fn remembered_channels(mut self, channels: usize) -> Self {
        self.remembered_channels = Some(channels);
        self
    }

    /// The profile in the AWS configuration files.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// A PEM file with authorities to trust beside the system's; without it, `AWS_CA_BUNDLE`.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca_file = Some(path.as_ref().to_owned());
        self
    }

    /// Which proxy carries HTTPS and the signaling socket; without it, that of `HTTPS_PROXY`.
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Fixed credentials, instead of the AWS default chain.
    pub fn credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        let credentials =
            Credentials::new(access_key_id, secret_access_key, session_token, None, "configured");
        self.credentials = Some(SharedCredentialsProvider::new(credentials));
        self
    }

    /// A provider of credentials, instead of the AWS default chain.
    pub fn credentials_provider(mut self, provider: SharedCredentialsProvider) -> Self {
        self.credentials = Some(provider);
        self
    }

    /// FIPS endpoints; without it, the AWS configuration decides. With FIPS the region has no STUN
    /// server that could be used; see [`stun`](Self::stun).
    pub fn fips(mut self, fips: bool) -> Self {
        self.fips = Some(fips);
        self
    }

    /// Dual-stack endpoints; without it, the AWS configuration decides.
    pub fn dual_stack(mut self, dual_stack: bool) -> Self {
        self.dual_stack = Some(dual_stack);
        self
    }

    /// Which STUN server is used.
    pub fn stun(mut self, stun: Stun) -> Self {
        self.stun = stun;
        self
    }

    /// How long each step may take.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The client that the session shares with others; without it, [`KvsClient::of_process`].
    pub fn client(mut self, client: KvsClient) -> Self {
        self.client = Some(client);
        self
    }

    /// Checks all settings. It touches no network; it reads the CA file and the variables that name
    /// a CA file or a proxy.
    ///
    /// # Errors
    /// Names the first field that cannot work, and what to write instead.
    pub fn build(self) -> Result<SignalingConfig, ConfigError> {
        let channel = channel(&self.channel)?;
        let region = region(self.region, &channel)?;
        let client_id = match &self.client_id {
            Some(text) => ClientId::new(text)
                .map_err(|error| ConfigError::new(Field::ClientId, error.to_string()))?,
            None => default_client_id(),
        };
        let plain = if self.allow_plain_http { PlainHttp::Anywhere } else { PlainHttp::Loopback };
        let endpoint_url = self.endpoint_url.as_deref().map(|text| parse_endpoint(text, plain));
        let endpoint_url = endpoint_url.transpose().map_err(ConfigError::endpoint)?;
        if endpoint_url.is_some() && (self.fips == Some(true) || self.dual_stack == Some(true)) {
            return Err(ConfigError::new(
                Field::EndpointUrl,
                "cannot be combined with FIPS or dual-stack: give the whole URL, or neither",
            ));
        }
        let trust = match self.ca_file.or_else(ca_bundle) {
            Some(path) => Trust::with_ca_file(&path)
                .map_err(|problem| ConfigError::new(Field::CaFile, problem))?,
            None => Trust::system(),
        };
        let route =
            self.proxy.route().map_err(|problem| ConfigError::new(Field::Proxy, problem))?;
        check_stun(&self.stun)?;
        self.limits.check()?;
        let client = self.client.unwrap_or_default();
        if let Some(channels) = self.remembered_channels {
            if !(1..=REMEMBERED_MAX).contains(&channels) {
                return Err(ConfigError::new(
                    Field::RememberedChannels,
                    format!("must be between 1 and {REMEMBERED_MAX}"),
                ));
            }
            client.cache(|cache| cache.keep_at_least(channels));
        }
        Ok(SignalingConfig {
            channel,
            region,
            client_id,
            // A storage session identifies its viewer by the id, also after a pause (contract, N3).
            client_id_policy: match self.storage_session {
                true => ClientIdPolicy::Fixed,
                false => self.client_id_policy,
            },
            shared_ids: self.shared_ids,
            endpoint_cache: self.endpoint_cache,
            storage_session: self.storage_session,
            endpoint_url,
            allow_plain_http: self.allow_plain_http,
            profile: self.profile,
            credentials: self.credentials,
            fips: self.fips,
            dual_stack: self.dual_stack,
            stun: self.stun,
            trust,
            route,
            limits: self.limits,
            client,
        })
    }
}

/// Most channels that a client may be configured to cache.
const REMEMBERED_MAX: usize = 1_000_000;

fn channel(text: &str) -> Result<Channel, ConfigError> {
    if text.starts_with("arn:") {
        return ChannelArn::parse(text).map(Channel::Arn).ok_or_else(|| {
            ConfigError::new(
                Field::Channel,
                "is no signaling channel's ARN; it looks like \
                 arn:aws:kinesisvideo:REGION:ACCOUNT:channel/NAME/CREATION_TIME",
            )
        });
    }
    if !is_channel_name(text) {
        return Err(ConfigError::new(
            Field::Channel,
            "a name has 1 to 256 letters, digits, '_', '.' and '-'; an ARN begins with \"arn:\"",
        ));
    }
    Ok(Channel::Name(text.to_owned()))
}

fn region(given: Option<String>, channel: &Channel) -> Result<Option<String>, ConfigError> {
    let given = match given {
        Some(region) if !is_region(&region) => {
            return Err(ConfigError::new(
                Field::Region,
                format!("{region:?} is no region; one looks like us-west-2"),
            ));
        }
        given => given,
    };
    let Channel::Arn(arn) = channel else {
        return Ok(given);
    };
    match given {
        Some(region) if region != arn.region() => Err(ConfigError::new(
            Field::Region,
            format!(
                "{region} is not the region of the channel's ARN, {}; leave the region out",
                arn.region()
            ),
        )),
        _ => Ok(Some(arn.region().to_owned())),
    }
}

pub(crate) fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_stun(stun: &Stun) -> Result<(), ConfigError> {
    let Stun::Custom(uris) = stun else {
        return Ok(());
    };
    if uris.is_empty() || uris.len() > 16 {
        return Err(ConfigError::new(Field::Stun, "needs 1 to 16 URIs like stun:HOST:PORT"));
    }
    match uris.iter().find(|uri| !is_stun(uri)) {
        Some(uri) => Err(ConfigError::new(
            Field::Stun,
            format!("{uri:?} cannot be used; one looks like stun:HOST:PORT, and TLS is not spoken"),
        )),
        None => Ok(()),
    }
}

/// Returns a random id, the same for the whole process: a channel accepts few (contract, N3).
fn default_client_id() -> ClientId {
    static ID: OnceLock<ClientId> = OnceLock::new();
    ID.get_or_init(|| {
        use std::hash::{BuildHasher as _, Hasher as _};
        // The standard library seeds its hashers from the system's entropy.
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        let text = format!("viewer-{:016x}", hasher.finish());
        match ClientId::new(&text) {
            Ok(id) => id,
            Err(_) => unreachable!("hexadecimal digits make a valid id"),
        }
    })
    .clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ARN: &str = "arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1234567890123";

    fn field(builder: SignalingConfigBuilder) -> &'static str {
        builder.build().expect_err("refused").field.as_str()
    }

    #[test]
    fn invalid_field_is_named_in_error() {
        let door = || SignalingConfig::builder("door");
        for bad in ["", "a b", "ärger", &"x".repeat(257), "arn:aws:s3:::bucket", "arn:"] {
            assert_eq!(field(SignalingConfig::builder(bad)), "channel", "{bad}");
        }
        for bad in ["", "US West", "us_west", "-us", &"x".repeat(65)] {
            assert_eq!(field(door().region(bad)), "region", "{bad}");
        }
        assert_eq!(field(SignalingConfig::builder(ARN).region("eu-west-1")), "region");
        for bad in ["AWS_x", "@", "", &"x".repeat(257)] {
            assert_eq!(field(door().client_id(bad)), "client_id", "{bad}");
        }
        for bad in ["http://example.com", "nonsense", "wss://x", "https://x/?a=b", "https://u:p@x/"]
        {
            assert_eq!(field(door().endpoint_url(bad)), "endpoint_url", "{bad}");
        }
        assert_eq!(field(door().endpoint_url("https://x").fips(true)), "endpoint_url");
        assert_eq!(field(door().ca_file("/nowhere/ca.pem")), "ca_file");
        let proxy = Proxy::Via { url: "socks5://x".into(), no_proxy: String::new() };
        assert_eq!(field(door().proxy(proxy)), "proxy");
        for bad in ["x", "stun:", "stuns:stun.example.org:443"] {
            let uris = vec!["stun:stun.example.org".into(), bad.into()];
            assert_eq!(field(door().stun(Stun::Custom(uris))), "stun", "{bad}");
        }
        let limits = Limits { silence: Duration::from_secs(5), ..Limits::default() };
        assert_eq!(field(door().limits(limits)), "limits");
        assert_eq!(field(door().remembered_channels(0)), "remembered_channels");
    }

    #[test]
    fn plain_http_beyond_loopback_requires_opt_in() {
        let emulator = || SignalingConfig::builder("door").endpoint_url("http://kvs-emulator:4700");
        let refused = emulator().build().expect_err("refused");
        assert_eq!(refused.alternative, Some(Field::AllowPlainHttp));
        assert!(refused.to_string().ends_with(", or give allow_plain_http"), "{refused}");
        let is_allowed = |field| field == Field::AllowPlainHttp;
        let flags = refused.with_names(|field| {
            if is_allowed(field) { "--allow-plain-http" } else { "--endpoint-url" }
        });
        assert!(flags.starts_with("--endpoint-url: "), "{flags}");
        assert!(flags.ends_with("or give --allow-plain-http"), "{flags}");
        let config = emulator().allow_plain_http(true).build().expect("asked for");
        assert!(!config.is_loopback());
        let refused = SignalingConfig::builder("door").endpoint_url("localhost:4700").build();
        let refused = refused.expect_err("no scheme").to_string();
        assert!(refused.contains("write http://localhost:4700"), "{refused}");
    }

    #[test]
    fn region_comes_from_the_arn() {
        let config = SignalingConfig::builder(ARN).build().expect("valid");
        assert_eq!(config.region.as_deref(), Some("us-west-2"));
        assert!(SignalingConfig::builder(ARN).region("us-west-2").build().is_ok());
    }

    #[test]
    fn ca_file_has_to_hold_certificates() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "hello").expect("written");
        assert_eq!(field(SignalingConfig::builder("door").ca_file(&path)), "ca_file");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, broken).expect("written");
        assert_eq!(field(SignalingConfig::builder("door").ca_file(&path)), "ca_file");
    }

    #[test]
    fn loopback_endpoints_may_be_plain() {
        for url in ["http://127.0.0.1:8443", "http://localhost:1", "http://[::1]:1", "https://x"] {
            assert!(SignalingConfig::builder("door").endpoint_url(url).build().is_ok(), "{url}");
        }
    }

    #[test]
    fn loopback_endpoint_is_detected() {
        for (url, here) in [("http://emu.localhost:1", true), ("https://127.example.com", false)] {
            let config = SignalingConfig::builder("door").endpoint_url(url).build();
            assert_eq!(config.expect("valid").is_loopback(), here, "{url}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        let config = SignalingConfig::builder("door").credentials(
            "AK",
            "secret-canary",
            Some("token-canary".into()),
        );
        let printed = format!("{config:?} {:?}", config.clone().build());
        assert!(!printed.contains("canary"), "{printed}");
    }

    #[test]
    fn default_client_id_is_one_per_process() {
        let id = || SignalingConfig::builder("door").build().expect("valid").client_id().clone();
        assert_eq!(id(), id());
    }
}
