//! The command line of the emulator, and the function that runs it until a signal.

mod faults;

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::{
    Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, EmulatorConfig, Lifetimes,
    Quotas, TlsConfig, TurnAuth, TurnConfig,
};
use crate::emulator::Emulator;
use crate::error::EmulatorError;
pub use faults::FaultArgs;

/// Headings of the help, in its order.
const NETWORK: &str = "Network";
const ACCESS: &str = "Channels and credentials";
const RELAY: &str = "STUN and TURN";
const BEHAVIOUR: &str = "Behaviour of the service";
const SCRIPTS: &str = "Scripts and logs";

/// Kinesis Video Streams WebRTC signaling on this machine.
#[derive(Debug, Clone, clap::Args)]
pub struct EmulatorArgs {
    /// Address to listen on; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:4700", value_name = "ADDR", help_heading = NETWORK)]
    pub listen: SocketAddr,
    /// Serve HTTPS and WSS, with a CA that is made at the start
    #[arg(long, help_heading = NETWORK)]
    pub tls: bool,
    /// Keep the CA in this directory, as ca.pem and ca-key.pem (implies --tls)
    #[arg(long, value_name = "DIR", help_heading = NETWORK)]
    pub tls_dir: Option<PathBuf>,
    /// Add a host name or address to the certificate, beside localhost (implies --tls)
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    pub tls_name: Vec<String>,
    /// Host and port that endpoints are handed out with [default: as the client called it]
    #[arg(long, value_name = "HOST:PORT", help_heading = NETWORK)]
    pub advertise: Option<String>,
    /// Let pages of this public web site reach an emulator on this machine or a private network
    #[arg(long, value_name = "ORIGIN", help_heading = NETWORK)]
    pub allow_origin: Vec<String>,
    /// Round-trip time of each TCP connection, connecting and TLS included: 50ms, 1s, or a number
    /// of milliseconds
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = milliseconds, help_heading = NETWORK)]
    pub wire_rtt: Duration,
    /// Region of the channels
    #[arg(long, default_value = "us-west-2", help_heading = ACCESS)]
    pub region: String,
    /// Account of the channels
    #[arg(long, default_value = "123456789012", help_heading = ACCESS)]
    pub account: String,
    /// Create a channel at the start
    #[arg(long, value_name = "NAME", help_heading = ACCESS)]
    pub channel: Vec<String>,
    /// Create a channel with media storage at the start
    #[arg(long, value_name = "NAME", help_heading = ACCESS)]
    pub storage_channel: Vec<String>,
    /// Accept this access key [default: a public development key, on loopback alone]
    #[arg(long, value_name = "ID", env = "KVS_EMULATOR_ACCESS_KEY_ID", help_heading = ACCESS)]
    pub access_key: Vec<String>,
    /// Secret key of the access key, in the same order
    #[arg(
        long,
        value_name = "KEY",
        env = "KVS_EMULATOR_SECRET_ACCESS_KEY",
        hide_env_values = true,
        help_heading = ACCESS
    )]
    pub secret_key: Vec<Secret>,
    /// Session token of the access key, in the same order; empty for none
    #[arg(
        long,
        value_name = "TOKEN",
        env = "KVS_EMULATOR_SESSION_TOKEN",
        hide_env_values = true,
        help_heading = ACCESS
    )]
    pub session_token: Vec<Secret>,
    /// Read credentials from a file, one a line: access key, secret key, session token if any
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub credentials_file: Option<PathBuf>,
    /// Run no STUN and TURN server; without this one is handed out where no --turn-uri is given
    #[arg(long, help_heading = RELAY)]
    pub no_relay: bool,
    /// One entry of the ICE server list: its URIs, separated by commas
    #[arg(long, value_name = "URI[,URI]", help_heading = RELAY)]
    pub turn_uri: Vec<String>,
    /// Secret shared with coturn (its static-auth-secret) [env: KVS_EMULATOR_TURN_SECRET]
    #[arg(long, value_name = "SECRET", help_heading = RELAY)]
    pub turn_secret: Option<Secret>,
    /// Hand out a fixed TURN user instead of short-lived ones
    #[arg(long, value_name = "USER", conflicts_with = "turn_secret", help_heading = RELAY)]
    pub turn_user: Option<String>,
    /// Password of the fixed TURN user [env: KVS_EMULATOR_TURN_PASSWORD]
    #[arg(long, value_name = "PASSWORD", requires = "turn_user", help_heading = RELAY)]
    pub turn_password: Option<Secret>,
    /// Lifetime of TURN credentials in seconds
    #[arg(long, default_value_t = 300, value_name = "S", help_heading = RELAY)]
    pub turn_ttl: u32,
    /// Apply no quotas
    #[arg(long, help_heading = BEHAVIOUR)]
    pub no_quotas: bool,
    /// Change quotas, as JSON: {"viewers_max":3}
    #[arg(long, value_name = "JSON", conflicts_with = "no_quotas", help_heading = BEHAVIOUR)]
    pub quotas: Option<String>,
    /// Change behaviour that AWS does not document, as JSON: {"displaced_close_code":null}
    #[arg(long, value_name = "JSON", help_heading = BEHAVIOUR)]
    pub unknowns: Option<String>,
    /// Seconds without traffic until a WebSocket is closed
    #[arg(long, default_value_t = 600, value_name = "S", help_heading = BEHAVIOUR)]
    pub idle_timeout: u64,
    /// Seconds until a WebSocket is sent GO_AWAY
    #[arg(long, default_value_t = 3600, value_name = "S", help_heading = BEHAVIOUR)]
    pub max_age: u64,
    /// Seconds from GO_AWAY to the close
    #[arg(long, default_value_t = 60, value_name = "S", help_heading = BEHAVIOUR)]
    pub go_away_grace: u64,
    /// Divide lifetimes of WebSockets, messages and storage sessions by this; not signatures or
    /// quotas
    #[arg(long, default_value_t = 1.0, value_name = "N", help_heading = BEHAVIOUR)]
    pub time_scale: f64,
    /// Seconds by which the service's clock differs from this machine's
    #[arg(
        long,
        default_value_t = 0,
        value_name = "S",
        allow_negative_numbers = true,
        help_heading = BEHAVIOUR
    )]
    pub clock_offset: i64,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = BEHAVIOUR)]
    pub seed: u64,
    /// Faults in force from the start
    #[command(flatten)]
    pub faults: FaultArgs,
    /// Write one line of JSON to this file once clients can connect: endpoint, CA, channels
    #[arg(long, value_name = "FILE", help_heading = SCRIPTS)]
    pub ready_file: Option<PathBuf>,
    /// Print that line on standard output
    #[arg(long, help_heading = SCRIPTS)]
    pub json: bool,
    /// Write what each TCP connection carries to this file, one JSON object a line: TLS
    /// handshakes, requests, offers and answers
    #[arg(long, value_name = "FILE", help_heading = SCRIPTS)]
    pub connection_log: Option<PathBuf>,
}

/// Parses a time: `50ms`, `1.5s`, or a number of milliseconds.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let broken = || format!("{text:?} is no time; try 50ms");
    let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1e-3),
    };
    let number: f64 = number.trim().parse().map_err(|_| broken())?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| broken())
}

/// A secret from the command line or the environment; it never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Serves until Ctrl-C or a signal that ends the process (SIGTERM, SIGHUP), then closes everything.
pub async fn run(args: EmulatorArgs) -> Result<(), EmulatorError> {
    run_until(args, terminated()).await
}

/// Serves until `stop` is ready.
pub async fn run_until(
    args: EmulatorArgs,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), EmulatorError> {
    let public_key = args.access_key.is_empty() && args.credentials_file.is_none();
    let config = args.to_config()?;
    let mut stop = std::pin::pin!(stop);
    let emulator = tokio::select! {
        biased;
        // Polled first, so that signals are handled before readiness is reported.
        () = &mut stop => return Ok(()),
        emulator = Emulator::start(config) => emulator?,
    };
    announce(&args, &emulator, public_key)?;
    stop.await;
    emulator.shutdown().await;
    Ok(())
}

impl EmulatorArgs {
    /// The settings of these flags; reads the credentials file.
    pub fn to_config(&self) -> Result<EmulatorConfig, EmulatorError> {
        let extra_names = self.tls_name.clone();
        let tls = self.tls || self.tls_dir.is_some() || !extra_names.is_empty();
        Ok(EmulatorConfig {
            listen: self.listen,
            tls: tls.then(|| TlsConfig { dir: self.tls_dir.clone(), extra_names }),
            advertised_authority: self.advertise.clone(),
            region: self.region.clone(),
            account: self.account.clone(),
            credentials: self.credentials()?,
            channels: self.channels(),
            storage_channels: self.storage_channel.clone(),
            turn: self.turn(|name| std::env::var(name).ok())?,
            relay: cfg!(feature = "turn") && !self.no_relay && self.turn_uri.is_empty(),
            quotas: match self.no_quotas {
                true => Quotas { enabled: false, ..Quotas::default() },
                false => from_json("quotas", self.quotas.as_deref())?,
            },
            unknowns: from_json("unknowns", self.unknowns.as_deref())?,
            lifetimes: Lifetimes {
                idle: Duration::from_secs(self.idle_timeout),
                age: Duration::from_secs(self.max_age),
                go_away_grace: Duration::from_secs(self.go_away_grace),
                ..Lifetimes::default()
            },
            faults: self.faults.to_faults()?,
            seed: self.seed,
            clock_offset_secs: self.clock_offset,
            time_scale: self.time_scale,
            wire_rtt: self.wire_rtt,
            connection_log: self.connection_log.clone(),
            allowed_origins: self.allow_origin.clone(),
            ..EmulatorConfig::default()
        })
    }

    fn credentials(&self) -> Result<Vec<Credential>, EmulatorError> {
        let refuse = |reason: &str| {
            Err(EmulatorError::Setting { field: "credentials", reason: reason.to_owned() })
        };
        if self.access_key.len() != self.secret_key.len() {
            return refuse("give as many --secret-key as --access-key");
        }
        if self.session_token.len() > self.access_key.len() {
            return refuse("there are more --session-token than --access-key");
        }
        let tokens = self.session_token.iter().map(Some).chain(std::iter::repeat(None));
        let mut credentials: Vec<Credential> = self
            .access_key
            .iter()
            .zip(&self.secret_key)
            .zip(tokens)
            .map(|((id, key), token)| {
                Credential::new(id, &key.0, token.map(|token| token.0.clone()))
            })
            .collect();
        if let Some(path) = &self.credentials_file {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|source| EmulatorError::File { path: path.clone(), source })?;
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
            {
                let words: Vec<&str> = line.split_whitespace().collect();
                credentials.push(match words.as_slice() {
                    [id, key] => Credential::new(*id, *key, None),
                    [id, key, token] => Credential::new(*id, *key, Some((*token).to_owned())),
                    _ => {
                        return refuse(
                            "a line of the file is not: access key, secret key[, token]",
                        );
                    }
                });
            }
        }
        Ok(credentials)
    }

    /// Returns all channels once: those with media storage may also be among the others.
    fn channels(&self) -> Vec<String> {
        let stores = |name: &&String| !self.channel.contains(name);
        let stored = self.storage_channel.iter().filter(stores);
        self.channel.iter().chain(stored).cloned().collect()
    }

    /// Builds the TURN settings. A secret from the environment does not count as a flag: it
    /// requires no other flag and conflicts with none.
    fn turn(&self, env: impl Fn(&str) -> Option<String>) -> Result<TurnConfig, EmulatorError> {
        let split = |uris: &String| uris.split(',').map(|uri| uri.trim().to_owned()).collect();
        let given = |flag: &Option<Secret>, name| match flag {
            Some(secret) => Some(secret.0.clone()),
            None => env(name).filter(|secret| !secret.is_empty()),
        };
        let auth = if let Some(username) = &self.turn_user {
            let Some(password) = given(&self.turn_password, "KVS_EMULATOR_TURN_PASSWORD") else {
                let reason = "--turn-password or KVS_EMULATOR_TURN_PASSWORD is missing".to_owned();
                return Err(EmulatorError::Setting { field: "turn_user", reason });
            };
            TurnAuth::Fixed { username: username.clone(), password }
        } else if let Some(secret) = given(&self.turn_secret, "KVS_EMULATOR_TURN_SECRET") {
            TurnAuth::SharedSecret(secret)
        } else {
            TurnConfig::default().auth
        };
        Ok(TurnConfig {
            servers: self.turn_uri.iter().map(split).collect(),
            auth,
            ttl_secs: self.turn_ttl,
        })
    }
}

fn from_json<T: DeserializeOwned + Default>(
    field: &'static str,
    text: Option<&str>,
) -> Result<T, EmulatorError> {
    let Some(text) = text else { return Ok(T::default()) };
    serde_json::from_str(text)
        .map_err(|error| EmulatorError::Setting { field, reason: error.to_string() })
}

/// Reports the emulator's address to scripts and users.
fn announce(
    args: &EmulatorArgs,
    emulator: &Emulator,
    public_key: bool,
) -> Result<(), EmulatorError> {
    let line = ready_line(emulator).to_string();
    if let Some(path) = &args.ready_file {
        write_whole(path, &line)
            .map_err(|source| EmulatorError::File { path: path.clone(), source })?;
    }
    let (to, written) = if args.json {
        ("standard output", writeln!(std::io::stdout(), "{line}"))
    } else {
        let text = for_people(emulator, public_key);
        ("standard error", writeln!(std::io::stderr(), "{text}"))
    };
    written.map_err(|source| EmulatorError::File { path: PathBuf::from(to), source })
}

fn ready_line(emulator: &Emulator) -> Value {
    json!({
        "event": "ready",
        "endpoint": emulator.endpoint(),
        "region": emulator.region(),
        "ca_file": emulator.ca_pem_path(),
        "ca_pem": emulator.ca_pem(),
        "channels": emulator.channels(),
        "relay": emulator.relay_addr(),
    })
}

fn for_people(emulator: &Emulator, public_key: bool) -> String {
    let mut text = format!(
        "Signaling at {0}\n\n  export AWS_ENDPOINT_URL_KINESIS_VIDEO={0}\n  export AWS_REGION={1}\n",
        emulator.endpoint(),
        emulator.region()
    );
    if public_key {
        text.push_str(&format!(
            "  export AWS_ACCESS_KEY_ID={DEFAULT_ACCESS_KEY_ID}\n  export \
             AWS_SECRET_ACCESS_KEY={DEFAULT_SECRET_ACCESS_KEY}\n"
        ));
    }
    for (name, arn) in emulator.channels() {
        text.push_str(&format!("\nChannel {name}: {arn}"));
    }
    if let Some(path) = emulator.ca_pem_path() {
        text.push_str(&format!("\nCA: {}", path.display()));
    }
    text
}

/// Writes the file atomically: a script that waits for it must never see a partial one.
fn write_whole(path: &Path, line: &str) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    // Removes a symbolic link at this path instead of following it.
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::File::create_new(&part)?;
    writeln!(file, "{line}")?;
    std::fs::rename(&part, path)
}

/// Completes at Ctrl-C or at a signal that ends the process, such as that of a closed terminal.
async fn terminated() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let requested = {
        use tokio::signal::unix::SignalKind;
        async {
            tokio::select! {
                () = signalled(SignalKind::terminate()) => {}
                () = signalled(SignalKind::hangup()) => {}
            }
        }
    };
    #[cfg(not(unix))]
    let requested = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = requested => {}
    }
}

#[cfg(unix)]
async fn signalled(kind: tokio::signal::unix::SignalKind) {
    match tokio::signal::unix::signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
