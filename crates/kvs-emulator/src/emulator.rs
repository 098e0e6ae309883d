//! The emulator as a value, which a program starts, controls and shuts down.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::calls;
use crate::clock::OFFSET_SECS;
use crate::config::EmulatorConfig;
use crate::connections::ConnectionEvent;
use crate::error::EmulatorError;
use crate::fault::{Faults, Role, Then};
use crate::presence::Event;
use crate::relay::ClientReport;
use crate::server;
use crate::shared::{CallCount, ServiceMessage, Shared};
use crate::socket_actions;
use crate::sync::lock;
use crate::tls::{self, Tls};

/// A running emulator. Dropping it ends it too, without waiting for its last socket;
/// [`Emulator::shutdown`] waits.
pub struct Emulator {
    shared: Arc<Shared>,
    addr: SocketAddr,
    endpoint: String,
    tls: Option<Tls>,
}

impl Emulator {
    /// Binds, creates the configured channels, and serves until shut down or dropped.
    pub async fn start(config: EmulatorConfig) -> Result<Self, EmulatorError> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::prepare).transpose()?;
        let listen = |source| EmulatorError::Listen { addr: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        if !addr.ip().to_canonical().is_loopback() {
            tracing::warn!(%addr, "listening beyond loopback: anyone who reaches it can try");
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = match &config.advertised_authority {
            Some(authority) => format!("{scheme}://{authority}"),
            None => format!("{scheme}://{addr}"),
        };
        let shared = Arc::new(Shared::new(config));
        let config = &shared.config;
        if let Some(path) = &config.connection_log {
            shared.connections.write_to(path)?;
        }
        for name in &config.channels {
            if !crate::channel::is_name(name) {
                let reason = format!("{name:?} must be 1 to 256 characters of [a-zA-Z0-9_.-]");
                return Err(EmulatorError::Setting { field: "channels", reason });
            }
            shared.create_channel(name, calls::MESSAGE_TTL_SECS).map_err(|error| {
                EmulatorError::Setting { field: "channels", reason: error.message }
            })?;
        }
        for name in &config.storage_channels {
            lock(&shared.channels).store(name, Instant::now()).map_err(|_| {
                let reason = format!("{name:?} is none of the channels");
                EmulatorError::Setting { field: "storage_channels", reason }
            })?;
        }
        if config.relay {
            start_relay(&shared).await?;
        }
        let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
        shared.spawn(server::accept(shared.clone(), listener, acceptor));
        tracing::info!(endpoint, "emulator started");
        Ok(Self { shared, addr, endpoint, tls })
    }

    /// The endpoint URL for clients: `http://127.0.0.1:PORT`, or `https://…` with TLS.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of the emulator's CA, if TLS is enabled.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.ca_pem.as_str())
    }

    /// The path of that certificate, when a directory was configured.
    #[must_use]
    pub fn ca_pem_path(&self) -> Option<&Path> {
        self.tls.as_ref().and_then(|tls| tls.ca_path.as_deref())
    }

    /// The address of its own STUN and TURN server, if it has one.
    #[must_use]
    pub fn relay_addr(&self) -> Option<SocketAddr> {
        self.shared.relay_addr.get().copied()
    }

    /// The region its channels are in.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.shared.config.region
    }

    /// The channels, name to ARN.
    #[must_use]
    pub fn channels(&self) -> BTreeMap<String, String> {
        lock(&self.shared.channels).arns()
    }

    /// The ARN of a channel.
    #[must_use]
    pub fn channel_arn(&self, name: &str) -> Option<String> {
        self.channels().remove(name)
    }

    /// The emulator's faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// Delivers the messages that a `hold` fault held, and returns their number.
    pub fn release(&self, fault: u64) -> usize {
        self.shared.release(fault)
    }

    /// The connected clients, by channel, the master first.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientReport> {
        lock(&self.shared.relay).clients(Instant::now())
    }

    /// The calls and connects so far, by API name.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, CallCount> {
        self.shared.calls()
    }

    /// Ends the sockets of a channel that match (`None` matches all): with a close frame, or
    /// without one when there is no code. Returns their number.
    pub fn disconnect(
        &self,
        channel: &str,
        role: Option<Role>,
        client_id: Option<&str>,
        code: Option<u16>,
    ) -> usize {
        self.strike(channel, role, client_id, &code.map_or(Then::Cut, Then::CloseWith))
    }

    /// Applies an action to the sockets of a channel that match (`None` matches all), and returns
    /// their number.
    pub fn strike(
        &self,
        channel: &str,
        role: Option<Role>,
        client_id: Option<&str>,
        then: &Then,
    ) -> usize {
        let Some(arn) = self.channel_arn(channel) else { return 0 };
        socket_actions::apply_to_channel(&self.shared, &arn, role, client_id, then)
    }

    /// Returns the kept events on the channels after the event number `after` (0: from the start).
    #[must_use]
    pub fn events(&self, after: u64) -> Vec<Event> {
        self.shared.events.after(after)
    }

    /// Returns the kept events of the TCP connections after the event number `after` (0: from the
    /// start), with which a client's TLS handshakes and requests can be counted.
    #[must_use]
    pub fn connection_events(&self, after: u64) -> Vec<ConnectionEvent> {
        self.shared.connections.after(after)
    }

    /// The round-trip time of TCP connections that are opened from now on, at most 10 s.
    pub fn set_wire_rtt(&self, rtt: Duration) {
        self.shared.set_wire_rtt(rtt);
    }

    /// Waits until there is an event after `after`, then returns as [`Self::events`] does.
    pub async fn next_events(&self, after: u64) -> Vec<Event> {
        self.shared.events.next(after).await
    }

    /// Sends a message of the service to the clients of a channel that match. Returns their number.
    pub fn send(
        &self,
        channel: &str,
        role: Option<Role>,
        client_id: Option<&str>,
        message: ServiceMessage,
    ) -> usize {
        self.strike(channel, role, client_id, &message.then())
    }

    /// Sends a new offer of the storage service, from a new connection, to a client in the
    /// channel's session (`None`: the master). Returns whether the client is in the session.
    #[cfg(feature = "storage")]
    pub fn offer_again(&self, channel: &str, client_id: Option<&str>) -> bool {
        let Some(arn) = self.channel_arn(channel) else { return false };
        crate::storage::offer_again(&self.shared, &arn, client_id)
    }

    /// Expires a credential now. Returns whether there is one of this id.
    pub fn expire_credential(&self, access_key_id: &str) -> bool {
        self.shared.expire_credential(access_key_id, i64::MIN)
    }

    /// The lifetime of TURN credentials from now on, in seconds.
    pub fn set_turn_ttl_secs(&self, ttl_secs: u32) {
        self.shared.set_turn_ttl_secs(ttl_secs);
    }

    /// Shifts the clock that signatures are checked against and `Date` headers show, by at most
    /// 1,000,000,000 seconds either way.
    pub fn set_clock_offset_secs(&self, offset_secs: i64) {
        let offset_secs = offset_secs.clamp(*OFFSET_SECS.start(), *OFFSET_SECS.end());
        self.shared.clock.set_offset_secs(offset_secs);
    }

    /// Closes the listener and every connection, and waits until all are gone.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let shared = self.shared.clone();
        // The task fails only if it panicked, which has been reported.
        let _ = tokio::task::spawn_blocking(move || shared.connections.finish()).await;
        tracing::info!("emulator stopped");
    }
}

/// Binds the TURN server on the emulator's address and serves.
#[cfg(feature = "turn")]
async fn start_relay(shared: &Arc<Shared>) -> Result<(), EmulatorError> {
    let ip = shared.config.listen.ip();
    let turn = crate::turn::Turn::bind(ip).await;
    let turn =
        turn.map_err(|source| EmulatorError::Listen { addr: SocketAddr::new(ip, 0), source })?;
    shared.relay_addr.get_or_init(|| turn.addr());
    shared.spawn(turn.run(shared.clone()));
    Ok(())
}

#[cfg(not(feature = "turn"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
async fn start_relay(_shared: &Arc<Shared>) -> Result<(), EmulatorError> {
    let reason = "built without the feature turn".to_owned();
    Err(EmulatorError::Setting { field: "relay", reason })
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
