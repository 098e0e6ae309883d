//! The state that every connection of one emulator shares.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::channel::{Channels, NewChannel};
use crate::clock::WallClock;
use crate::config::{Credential, EmulatorConfig, Lifetimes, TurnConfig, WIRE_RTT_MAX};
use crate::connections::Connections;
use crate::error::ApiError;
use crate::fault::{Faults, Injection, Then};
use crate::presence::Events;
use crate::quota::Buckets;
use crate::random::Random;
use crate::relay::Relay;
use crate::sigv4::{SERVICE, Verifier};
use crate::sync::lock;
use crate::wire::{self, MessageType, Sender};

/// Most names of calls that are counted; unknown paths count under one name.
const CALLS_MAX: usize = 64;
/// Most tasks at a time; beyond, delayed messages are dropped.
const TASKS_MAX: usize = 20_000;

/// The emulator's state. No two of its locks are ever held together.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EmulatorConfig,
    /// The configured lifetimes, divided by the time scale.
    pub(crate) lifetimes: Lifetimes,
    credentials: Mutex<Arc<[Credential]>>,
    turn: Mutex<TurnConfig>,
    /// The address of the emulator's own TURN server, if it has one.
    pub(crate) relay_addr: OnceLock<SocketAddr>,
    #[cfg(feature = "turn")]
    pub(crate) turn_users: crate::turn_auth::Users,
    pub(crate) clock: WallClock,
    pub(crate) faults: Faults,
    pub(crate) channels: Mutex<Channels>,
    pub(crate) relay: Mutex<Relay>,
    pub(crate) buckets: Mutex<Buckets>,
    pub(crate) random: Mutex<Random>,
    pub(crate) events: Events,
    pub(crate) connections: Connections,
    /// The round-trip time of new connections, in milliseconds.
    wire_rtt_ms: AtomicU64,
    #[cfg(feature = "storage")]
    pub(crate) storage: crate::storage_sessions::StorageSessions,
    calls: Mutex<BTreeMap<String, CallCount>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The number of requests of a call or connect, and of refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallCount {
    /// Requests.
    pub requests: u64,
    /// Requests answered with an error.
    pub refused: u64,
}

impl Shared {
    pub(crate) fn new(config: EmulatorConfig) -> Self {
        Self {
            lifetimes: config.lifetimes.scaled(config.time_scale),
            credentials: Mutex::new(config.effective_credentials().into()),
            turn: Mutex::new(config.turn.clone()),
            relay_addr: OnceLock::new(),
            #[cfg(feature = "turn")]
            turn_users: crate::turn_auth::Users::default(),
            clock: WallClock::new(config.clock_offset_secs),
            faults: Faults::new(config.faults.clone(), config.seed),
            channels: Mutex::default(),
            relay: Mutex::default(),
            buckets: Mutex::default(),
            random: Mutex::new(Random::new(config.seed)),
            events: Events::new(Instant::now(), config.events_max),
            connections: Connections::new(Instant::now(), config.events_max),
            wire_rtt_ms: AtomicU64::new(millis(config.wire_rtt)),
            #[cfg(feature = "storage")]
            storage: crate::storage_sessions::StorageSessions::default(),
            calls: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            config,
        }
    }

    /// Spawns a task that ends when the emulator stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Runs `work` after a delay, unless the emulator stops before.
    pub(crate) fn spawn_after(
        self: &Arc<Self>,
        after: Duration,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) {
        if self.tasks.len() >= TASKS_MAX {
            tracing::warn!("too much is delayed already: a message is lost");
            return;
        }
        let shared = self.clone();
        self.spawn(async move {
            tokio::time::sleep(after).await;
            work(&shared);
        });
    }

    pub(crate) fn count(&self, call: &str, refused: bool) {
        let mut calls = lock(&self.calls);
        if calls.len() >= CALLS_MAX && !calls.contains_key(call) {
            return;
        }
        let count = calls.entry(call.to_owned()).or_default();
        count.requests += 1;
        count.refused += u64::from(refused);
    }

    pub(crate) fn calls(&self) -> BTreeMap<String, CallCount> {
        lock(&self.calls).clone()
    }

    /// Takes a token of a quota, when quotas are on.
    pub(crate) fn within_quota(&self, call: &'static str, of: &str, per_second: u32) -> bool {
        !self.config.quotas.enabled
            || lock(&self.buckets).take(call, of, per_second, Instant::now())
    }

    pub(crate) fn create_channel(
        &self,
        name: &str,
        message_ttl_secs: u32,
    ) -> Result<String, ApiError> {
        let new = NewChannel {
            name: name.to_owned(),
            region: self.config.region.clone(),
            account: self.config.account.clone(),
            created_millis: self.clock.now_millis(),
            message_ttl_secs,
            version: self.new_version(),
            creating: self.lifetimes.creating,
        };
        let max = self.config.quotas.channels(&self.config.region);
        lock(&self.channels).create(new, max, Instant::now())
    }

    pub(crate) fn new_version(&self) -> String {
        format!("{:016X}", lock(&self.random).next())
    }

    /// A duration of the service divided by the time scale.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        time.div_f64(self.config.time_scale)
    }

    pub(crate) fn credentials(&self) -> Arc<[Credential]> {
        lock(&self.credentials).clone()
    }

    /// Expires a credential at a time in seconds since 1970; `false` when there is none of this id.
    pub(crate) fn expire_credential(&self, access_key_id: &str, at_secs: i64) -> bool {
        let mut credentials = lock(&self.credentials);
        let mut changed = credentials.to_vec();
        let Some(found) = changed.iter_mut().find(|known| known.access_key_id == access_key_id)
        else {
            return false;
        };
        found.expires_at_secs = Some(at_secs);
        *credentials = changed.into();
        true
    }

    /// Verifies signatures at the present time, with these credentials.
    pub(crate) fn verifier<'a>(&'a self, credentials: &'a [Credential]) -> Verifier<'a> {
        Verifier {
            credentials,
            region: &self.config.region,
            service: SERVICE,
            now: self.clock.now(),
            expires_max_secs: self.config.unknowns.presigned_url_max_secs,
        }
    }

    pub(crate) fn turn(&self) -> TurnConfig {
        lock(&self.turn).clone()
    }

    /// The round-trip time of connections that are opened from now on.
    pub(crate) fn wire_rtt(&self) -> Duration {
        Duration::from_millis(self.wire_rtt_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_wire_rtt(&self, rtt: Duration) {
        self.wire_rtt_ms.store(millis(rtt.min(WIRE_RTT_MAX)), Ordering::Relaxed);
    }

    pub(crate) fn set_turn_ttl_secs(&self, ttl_secs: u32) {
        lock(&self.turn).ttl_secs = ttl_secs;
    }

    pub(crate) fn reconnect_ice_server(&self) -> String {
        let payload = self.config.unknowns.service_message_payload.as_deref();
        wire::message(MessageType::ReconnectIceServer, &Sender::Absent, payload)
    }

    pub(crate) fn go_away(&self) -> String {
        let payload = self.config.unknowns.service_message_payload.as_deref();
        wire::message(MessageType::GoAway, &Sender::Absent, payload)
    }

    /// Delivers the messages that a fault held.
    pub(crate) fn release(&self, fault: u64) -> usize {
        lock(&self.relay).release(fault, &self.config.unknowns, Instant::now())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A message that the service itself sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServiceMessage {
    /// GO_AWAY, and the close after the grace period.
    GoAway,
    /// RECONNECT_ICE_SERVER.
    ReconnectIceServer,
    /// A text frame as it is, such as garbage or an empty frame.
    Raw(String),
    /// Any other frames that no client sent.
    Injected(Injection),
}

impl ServiceMessage {
    pub(crate) fn then(self) -> Then {
        match self {
            Self::GoAway => Then::GoAway,
            Self::ReconnectIceServer => Then::ReconnectIceServer,
            Self::Raw(text) => Then::Inject(Injection::Text { text, count: 1 }),
            Self::Injected(what) => Then::Inject(what),
        }
    }
}
