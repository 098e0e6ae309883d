//! Every setting, with its default. Where AWS's behaviour is unknown there is a setting for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::authority::is_authority;
use crate::clock::OFFSET_SECS;
use crate::error::EmulatorError;
use crate::fault::Fault;

/// The access key accepted when no credential is configured. It is public, so it is valid on
/// loopback only.
pub const DEFAULT_ACCESS_KEY_ID: &str = "AKIAKVSEMULATOR00000";
/// The secret key that belongs to [`DEFAULT_ACCESS_KEY_ID`]. It is public.
pub const DEFAULT_SECRET_ACCESS_KEY: &str = "kvs-emulator-development-key";

/// The lifetimes of TURN credentials that the service model allows (docs/kvs-protocol.md 1.2).
pub(crate) const TTL_SECS: RangeInclusive<u32> = 30..=86_400;

/// The lifetimes of a presigned URL that Signature Version 4 allows: up to a week.
const PRESIGNED_SECS: RangeInclusive<u32> = 1..=604_800;

/// Longest round-trip time that can be put on connections.
pub(crate) const WIRE_RTT_MAX: Duration = Duration::from_secs(10);

/// The longest lifetime of a setting, so that no time overflows.
const LIFETIME_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The settings of an emulator.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// TLS, if enabled: the JavaScript SDK and GStreamer support `wss://` only.
    pub tls: Option<TlsConfig>,
    /// `host:port` written into endpoints. `None`: the one that the client used (its signed `Host`
    /// header).
    pub advertised_authority: Option<String>,
    /// The region of every channel, and the one signatures must be scoped to.
    pub region: String,
    /// The twelve-digit account of every channel.
    pub account: String,
    /// The accepted credentials. Empty: the public development credential
    /// ([`DEFAULT_ACCESS_KEY_ID`]).
    pub credentials: Vec<Credential>,
    /// Names of the channels that exist from the start.
    pub channels: Vec<String>,
    /// Names of the channels with media storage: the service is every client's only peer there.
    pub storage_channels: Vec<String>,
    /// The response of GetIceServerConfig.
    pub turn: TurnConfig,
    /// Whether the emulator runs its own STUN and TURN server, which GetIceServerConfig then
    /// returns where [`EmulatorConfig::turn`] names none.
    pub relay: bool,
    /// AWS's documented quotas.
    pub quotas: Quotas,
    /// The lifetimes of sockets, channels and storage sessions.
    pub lifetimes: Lifetimes,
    /// The behaviour that AWS does not document.
    pub unknowns: Unknowns,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
    /// Seed of everything random (versions, request ids, faults with a probability).
    pub seed: u64,
    /// Seconds added to the system's clock, at most 1,000,000,000 either way, to simulate a service
    /// with another clock than the device.
    pub clock_offset_secs: i64,
    /// How many times faster than AWS's the emulator's own clock runs: lifetimes of sockets,
    /// messages and storage sessions are divided by it. Signatures, TURN credentials and quotas a
    /// second stay real.
    pub time_scale: f64,
    /// TCP connections at a time; more wait in the system's queue.
    pub connections_max: usize,
    /// A round-trip time on every TCP connection, REST and WebSocket, connecting and the TLS
    /// handshake included: the bytes of each direction arrive half of it later. At most 10 s, in
    /// whole milliseconds; UDP (STUN, TURN, media) is not delayed.
    pub wire_rtt: Duration,
    /// Events kept in memory, of channels and of TCP connections each; older ones are removed.
    pub events_max: usize,
    /// A file that every [`ConnectionEvent`](crate::ConnectionEvent) is written to, one JSON object
    /// a line. It is replaced when it exists.
    pub connection_log: Option<PathBuf>,
    /// Origins of public web sites, such as `https://example.com`, whose pages may reach the
    /// emulator on this machine or a private network: browsers require that in addition to CORS.
    pub allowed_origins: Vec<String>,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            tls: None,
            advertised_authority: None,
            region: "us-west-2".to_owned(),
            account: "123456789012".to_owned(),
            credentials: Vec::new(),
            channels: Vec::new(),
            storage_channels: Vec::new(),
            turn: TurnConfig::default(),
            relay: false,
            quotas: Quotas::default(),
            lifetimes: Lifetimes::default(),
            unknowns: Unknowns::default(),
            faults: Vec::new(),
            seed: 0,
            clock_offset_secs: 0,
            time_scale: 1.0,
            connections_max: 1024,
            wire_rtt: Duration::ZERO,
            events_max: 4096,
            connection_log: None,
            allowed_origins: Vec::new(),
        }
    }
}

impl EmulatorConfig {
    /// Refuses an invalid setting and names the field.
    pub(crate) fn check(&self) -> Result<(), EmulatorError> {
        let refuse = |field, reason: String| Err(EmulatorError::Setting { field, reason });
        if self.region.is_empty()
            || !self
                .region
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return refuse("region", format!("{:?} is no region; try us-west-2", self.region));
        }
        if self.account.len() != 12 || !self.account.bytes().all(|b| b.is_ascii_digit()) {
            return refuse("account", format!("{:?} is not twelve digits", self.account));
        }
        if self.credentials.is_empty() && !self.listen.ip().to_canonical().is_loopback() {
            return refuse(
                "credentials",
                "the built-in credential is public: off loopback, give one of your own".to_owned(),
            );
        }
        for credential in &self.credentials {
            if credential.access_key_id.is_empty() || credential.secret_access_key.is_empty() {
                return refuse("credentials", "access key and secret must not be empty".to_owned());
            }
        }
        if self.connections_max == 0 {
            return refuse("connections_max", "must be at least 1".to_owned());
        }
        if self.events_max == 0 {
            return refuse("events_max", "must be at least 1".to_owned());
        }
        if self.wire_rtt > WIRE_RTT_MAX {
            return refuse("wire_rtt", "must be at most 10 s".to_owned());
        }
        if !PRESIGNED_SECS.contains(&self.unknowns.presigned_url_max_secs) {
            return refuse("unknowns.presigned_url_max_secs", "must be 1 to 604800".to_owned());
        }
        for origin in &self.allowed_origins {
            if !is_origin(origin) {
                let reason = format!("{origin:?} is no origin; try https://example.com");
                return refuse("allowed_origins", reason);
            }
        }
        if !(1.0..=1000.0).contains(&self.time_scale) {
            return refuse("time_scale", "must be 1 to 1000".to_owned());
        }
        for (field, lifetime) in self.lifetimes.named() {
            if lifetime > LIFETIME_MAX {
                return refuse(field, "must be at most a year".to_owned());
            }
        }
        if !OFFSET_SECS.contains(&self.clock_offset_secs) {
            let (least, most) = (OFFSET_SECS.start(), OFFSET_SECS.end());
            return refuse("clock_offset_secs", format!("must be {least} to {most}"));
        }
        if !TTL_SECS.contains(&self.turn.ttl_secs) {
            return refuse("turn.ttl_secs", "must be 30 to 86400".to_owned());
        }
        for uri in self.turn.servers.iter().flatten() {
            let known = ["turn:", "turns:", "stun:", "stuns:"].iter().any(|s| uri.starts_with(s));
            if !known || uri.len() > 256 {
                return refuse("turn.servers", format!("{uri:?} is no TURN or STUN URI"));
            }
        }
        if let Some(authority) = &self.advertised_authority
            && !is_authority(authority)
        {
            return refuse("advertised_authority", format!("{authority:?} is not host:port"));
        }
        for fault in &self.faults {
            fault.check().map_err(|reason| EmulatorError::Setting { field: "faults", reason })?;
        }
        Ok(())
    }

    pub(crate) fn effective_credentials(&self) -> Vec<Credential> {
        if self.credentials.is_empty() {
            vec![Credential::new(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)]
        } else {
            self.credentials.clone()
        }
    }
}

/// Whether the text has the form of a browser's `Origin`: scheme, host, and port if any.
fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(is_authority)
}

/// A credential that is accepted. Its secret parts never print.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The id of the access key, which is public.
    pub access_key_id: String,
    /// The key for signatures.
    pub secret_access_key: String,
    /// The token a temporary credential must come with.
    pub session_token: Option<String>,
    /// When it ends, in seconds since 1970: `ExpiredTokenException` from then on.
    pub expires_at_secs: Option<i64>,
}

impl Credential {
    /// A credential without an end.
    pub fn new(
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: session_token.filter(|token| !token.is_empty()),
            expires_at_secs: None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("access_key_id", &self.access_key_id)
            .field("session_token", &self.session_token.is_some())
            .field("expires_at_secs", &self.expires_at_secs)
            .finish_non_exhaustive()
    }
}

/// Certificates made at the start: a CA and one leaf.
#[derive(Debug, Clone, Default)]
pub struct TlsConfig {
    /// The directory of `ca.pem` and its key, which later starts use again; `None` makes a new CA
    /// in memory.
    pub dir: Option<PathBuf>,
    /// Names and addresses of the leaf beside `localhost`, `127.0.0.1` and `::1`.
    pub extra_names: Vec<String>,
}

/// The response of GetIceServerConfig. By default it is empty, or names the emulator's own relay
/// ([`EmulatorConfig::relay`]), since an unreachable server only slows clients down. AWS returns
/// about two entries of three URIs, and the C SDK's master refuses every offer while its list is
/// empty, so give it an entry.
#[derive(Clone)]
pub struct TurnConfig {
    /// One entry of `IceServerList` each, with its URIs.
    pub servers: Vec<Vec<String>>,
    /// How username and password are made.
    pub auth: TurnAuth,
    /// Lifetime of a password in seconds; AWS's is 300.
    pub ttl_secs: u32,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), auth: TurnAuth::SharedSecret(random_secret()), ttl_secs: 300 }
    }
}

/// Returns a random secret, which does not depend on the seed.
fn random_secret() -> String {
    let mut bytes = [0; 24];
    // It fails only if the system has no randomness, and then no credential is safe anyway.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::warn!("no randomness: TURN credentials can be guessed");
    }
    STANDARD.encode(bytes)
}

impl fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnConfig")
            .field("servers", &self.servers)
            .field("ttl_secs", &self.ttl_secs)
            .finish_non_exhaustive()
    }
}

/// How TURN credentials are made.
#[derive(Clone)]
pub enum TurnAuth {
    /// The username `<expiry>:<base64("v1:" + ARN)>` as AWS makes it, with the password
    /// `base64(HMAC-SHA1(secret, username))`, which coturn's `use-auth-secret` checks.
    SharedSecret(String),
    /// The same pair every time, for a TURN server with fixed users.
    Fixed {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
}

impl fmt::Debug for TurnAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedSecret(_) => f.write_str("SharedSecret(..)"),
            Self::Fixed { .. } => f.write_str("Fixed { .. }"),
        }
    }
}

/// AWS's documented quotas (kvs-protocol.md 1.6). Calls a second, each with a burst of one second.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// `false` lets everything through, payload size and viewer count included.
    pub enabled: bool,
    /// Viewers of a channel at a time.
    pub viewers_max: usize,
    /// ConnectAsViewer and ConnectAsMaster of a channel, each.
    pub connects_per_second: u32,
    /// Offers a socket may send.
    pub offers_per_second: u32,
    /// Answers a socket may send.
    pub answers_per_second: u32,
    /// Candidates a socket may send.
    pub candidates_per_second: u32,
    /// GetIceServerConfig of a channel.
    pub ice_configs_per_second: u32,
    /// Bytes of a base64 payload.
    pub payload_bytes_max: usize,
    /// Channels of the account; without a number, as many as AWS allows in the region.
    pub channels_max: Option<usize>,
    /// Viewers of a storage session, including those that left a moment ago.
    pub storage_viewers_max: usize,
    /// Channels of the account with media storage.
    pub storage_channels_max: usize,
    /// Allocations of a channel on the emulator's own TURN server.
    pub turn_allocations_max: usize,
    /// Bits a second that an allocation carries.
    pub turn_bits_per_second: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            enabled: true,
            viewers_max: 10,
            connects_per_second: 3,
            offers_per_second: 5,
            answers_per_second: 5,
            candidates_per_second: 20,
            ice_configs_per_second: 5,
            payload_bytes_max: 10 * 1024,
            channels_max: None,
            storage_viewers_max: 3,
            storage_channels_max: 100,
            turn_allocations_max: 50,
            turn_bits_per_second: 5_000_000,
        }
    }
}

impl Quotas {
    /// Maximum number of channels of the account in a region; `None` where quotas are off.
    pub(crate) fn channels(&self, region: &str) -> Option<usize> {
        // The service-quotas page of the developer guide (`kvswebrtc-limits`).
        let documented = if matches!(region, "us-east-1" | "us-west-2") { 10_000 } else { 5_000 };
        self.enabled.then(|| self.channels_max.unwrap_or(documented))
    }
}

/// Lifetimes of sockets, channels and storage sessions (docs/kvs-protocol.md 1.6 and 2.4); each at
/// most a year.
#[derive(Debug, Clone)]
pub struct Lifetimes {
    /// A socket without traffic is closed after this.
    pub idle: Duration,
    /// A socket is sent GO_AWAY after this.
    pub age: Duration,
    /// From GO_AWAY to the close.
    pub go_away_grace: Duration,
    /// How long a channel stays `CREATING`; AWS takes a short time.
    pub creating: Duration,
    /// How long a channel stays `DELETING`.
    pub deleting: Duration,
    /// A storage session ends after this.
    pub storage_session: Duration,
    /// A viewer stays in a storage session without a master for this long.
    pub storage_without_master: Duration,
    /// A viewer that left a storage session keeps its slot for this long.
    pub storage_slot_kept: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(600),
            age: Duration::from_secs(3600),
            go_away_grace: Duration::from_secs(60),
            creating: Duration::ZERO,
            deleting: Duration::ZERO,
            storage_session: Duration::from_secs(3600),
            storage_without_master: Duration::from_secs(180),
            storage_slot_kept: Duration::from_secs(60),
        }
    }
}

impl Lifetimes {
    fn named(&self) -> [(&'static str, Duration); 8] {
        [
            ("lifetimes.idle", self.idle),
            ("lifetimes.age", self.age),
            ("lifetimes.go_away_grace", self.go_away_grace),
            ("lifetimes.creating", self.creating),
            ("lifetimes.deleting", self.deleting),
            ("lifetimes.storage_session", self.storage_session),
            ("lifetimes.storage_without_master", self.storage_without_master),
            ("lifetimes.storage_slot_kept", self.storage_slot_kept),
        ]
    }

    /// Returns the lifetimes divided by `times`.
    pub(crate) fn scaled(&self, times: f64) -> Self {
        Self {
            idle: self.idle.div_f64(times),
            age: self.age.div_f64(times),
            go_away_grace: self.go_away_grace.div_f64(times),
            creating: self.creating.div_f64(times),
            deleting: self.deleting.div_f64(times),
            storage_session: self.storage_session.div_f64(times),
            storage_without_master: self.storage_without_master.div_f64(times),
            storage_slot_kept: self.storage_slot_kept.div_f64(times),
        }
    }
}

/// Behaviour unknown outside AWS (kvs-protocol.md 7): each a setting, with the likeliest default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unknowns {
    /// The close code of a socket that a newer one with the same id displaces; `None` leaves it
    /// open but without messages.
    pub displaced_close_code: Option<u16>,
    /// Close code at the idle limit.
    pub idle_close_code: u16,
    /// Close code at the age limit and after GO_AWAY.
    pub age_close_code: u16,
    /// Whether GO_AWAY comes before the close at the age limit.
    pub age_sends_go_away: bool,
    /// A payload for GO_AWAY and RECONNECT_ICE_SERVER.
    pub service_message_payload: Option<String>,
    /// Whether candidates for an absent master or viewer are kept like descriptions.
    pub candidates_kept: bool,
    /// Whether answers for an absent viewer are kept.
    pub answers_kept: bool,
    /// Whether pings reset the idle timer.
    pub pings_reset_idle: bool,
    /// Whether a master may send offers on a peer-to-peer channel: the guide allows it, but a
    /// maintainer denied it.
    pub master_offers_relayed: bool,
    /// `errorType` of a STATUS_RESPONSE to a message above its quota.
    pub throttle_error_type: String,
    /// `errorType` of a STATUS_RESPONSE to an oversize payload.
    pub oversize_error_type: String,
    /// Whether a call to join a storage session is accepted.
    pub join_storage_accepted: bool,
    /// Longest `X-Amz-Expires` of a presigned socket URL, 1 to 604800. The C SDK signs for the
    /// whole life of its credentials, up to a week; the JavaScript SDK for 299 s.
    pub presigned_url_max_secs: u32,
}

impl Default for Unknowns {
    fn default() -> Self {
        Self {
            displaced_close_code: Some(1001),
            idle_close_code: 1001,
            age_close_code: 1001,
            age_sends_go_away: true,
            service_message_payload: None,
            candidates_kept: true,
            answers_kept: true,
            pings_reset_idle: true,
            master_offers_relayed: true,
            throttle_error_type: "ClientLimitExceededException".to_owned(),
            oversize_error_type: "InvalidArgumentException".to_owned(),
            join_storage_accepted: true,
            presigned_url_max_secs: *PRESIGNED_SECS.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_setting_is_named() {
        let field = |config: EmulatorConfig| match config.check() {
            Err(EmulatorError::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let base = EmulatorConfig::default;
        assert!(base().check().is_ok());
        assert_eq!(field(EmulatorConfig { region: "US".into(), ..base() }), "region");
        assert_eq!(field(EmulatorConfig { account: "1".into(), ..base() }), "account");
        assert_eq!(field(EmulatorConfig { connections_max: 0, ..base() }), "connections_max");
        assert_eq!(field(EmulatorConfig { events_max: 0, ..base() }), "events_max");
        let everywhere = "0.0.0.0:0".parse().unwrap();
        assert_eq!(field(EmulatorConfig { listen: everywhere, ..base() }), "credentials");
        let wire_rtt = Duration::from_secs(11);
        assert_eq!(field(EmulatorConfig { wire_rtt, ..base() }), "wire_rtt");
        for origin in ["*", "example.com", "https://example.com/page", "https://"] {
            let allowed_origins = vec![origin.to_owned()];
            let config = EmulatorConfig { allowed_origins, ..base() };
            assert_eq!(field(config), "allowed_origins", "{origin}");
        }
        for presigned_url_max_secs in [0, 604_801] {
            let unknowns = Unknowns { presigned_url_max_secs, ..Unknowns::default() };
            let config = EmulatorConfig { unknowns, ..base() };
            assert_eq!(field(config), "unknowns.presigned_url_max_secs");
        }
        let turn = TurnConfig { servers: vec![vec!["http://x".into()]], ..Default::default() };
        assert_eq!(field(EmulatorConfig { turn, ..base() }), "turn.servers");
        for clock_offset_secs in [i64::MIN, -9_999_999_999, 9_999_999_999, i64::MAX] {
            let config = EmulatorConfig { clock_offset_secs, ..base() };
            assert_eq!(field(config), "clock_offset_secs", "{clock_offset_secs}");
        }
    }

    #[test]
    fn lifetime_beyond_the_clock_is_refused() {
        let long = |secs| {
            let lifetimes = Lifetimes { idle: Duration::from_secs(secs), ..Lifetimes::default() };
            EmulatorConfig { lifetimes, ..EmulatorConfig::default() }
        };
        assert!(long(365 * 86_400).check().is_ok());
        for secs in [365 * 86_400 + 1, 10_000_000_000_000_000_000, u64::MAX] {
            let refused = long(secs).check().unwrap_err().to_string();
            assert_eq!(refused, "lifetimes.idle: must be at most a year", "{secs}");
        }
    }

    #[test]
    fn channel_quota_follows_region_or_setting() {
        let quotas = Quotas::default();
        assert_eq!(quotas.channels("us-west-2"), Some(10_000));
        assert_eq!(quotas.channels("eu-west-1"), Some(5_000));
        let set = Quotas { channels_max: Some(2), ..quotas };
        assert_eq!(set.channels("us-west-2"), Some(2));
        assert_eq!(Quotas { enabled: false, ..set }.channels("us-west-2"), None);
    }

    #[test]
    fn config_secrets_do_not_print() {
        let config = EmulatorConfig {
            credentials: vec![Credential::new("AK", "s3cr3t", Some("t0k3n".into()))],
            turn: TurnConfig { auth: TurnAuth::SharedSecret("p4ss".into()), ..Default::default() },
            ..Default::default()
        };
        let text = format!("{config:?} {:?}", config.turn.auth);
        for secret in ["s3cr3t", "t0k3n", "p4ss"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
