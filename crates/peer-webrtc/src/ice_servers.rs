//! The STUN and TURN servers of one connection: which URIs are used, and from when.
//!
//! Host names are resolved while the offer is made ([`crate::resolver`]). The offer waits briefly
//! for them, because most resolvers answer at once. A name that is resolved later is used by
//! gathering again, as long as there is no connection. A name that is not resolved is left out and
//! reported.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rtc::ice::url::{SchemeType, Url};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use webrtc::error::{Error, Result};
use webrtc::peer_connection::{
    PeerConnection, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy,
    RTCSdpType, RTCSessionDescription,
};

use crate::resolver::{Hosts, literal};
use crate::stack::config::IcePolicy;
use crate::stack::events::StackEvent;

/// The longest that an offer waits for names. A nearby resolver answers within this time, and
/// later answers are still used.
const BESIDE_OFFER: Duration = Duration::from_millis(50);
/// The most URIs of one connection. The service names four to seven; each costs the requests of
/// one socket on every interface.
const URIS_MAX: usize = 24;

/// The servers of one connection.
pub(crate) struct IceServers {
    connection: Arc<dyn PeerConnection>,
    policy: IcePolicy,
    hosts: Arc<Hosts>,
    events: mpsc::Sender<StackEvent>,
    /// Locked while a description is set: gathering again sets one too.
    describing: Arc<AsyncMutex<()>>,
    state: Arc<Mutex<State>>,
    /// Whether the connection was established since gathering began.
    connected: Arc<AtomicBool>,
    lookups: AsyncMutex<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct State {
    servers: Vec<RTCIceServer>,
    /// The kinds of servers that were known when gathering began.
    gathered: Option<Known>,
    /// The local offer as the stack made it: the stack accepts no other text.
    offer: Option<Box<RTCSessionDescription>>,
}

/// The kinds of servers whose addresses are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    stun: bool,
    turn: bool,
}

impl Known {
    /// Returns whether the newly known servers are worth gathering again. Gathering again gives up
    /// the allocated relays, so another server of a known kind is not worth it.
    fn is_much_more_than(self, before: Self) -> bool {
        (self.turn && !before.turn) || (self.stun && !before.stun && !before.turn)
    }
}

impl IceServers {
    pub(crate) fn new(
        connection: Arc<dyn PeerConnection>,
        policy: IcePolicy,
        hosts: Arc<Hosts>,
        events: mpsc::Sender<StackEvent>,
        connected: Arc<AtomicBool>,
    ) -> Self {
        Self {
            connection,
            policy,
            hosts,
            events,
            describing: Arc::default(),
            state: Arc::default(),
            connected,
            lookups: AsyncMutex::default(),
        }
    }

    /// Returns the lock to hold while a description is set.
    pub(crate) fn describing(&self) -> &AsyncMutex<()> {
        &self.describing
    }

    /// Uses these servers from the next gathering on, each URI once. Returns the number of URIs.
    /// URIs with names that are not resolved in time are left out of that gathering.
    ///
    /// # Errors
    /// The connection is closed, or its policy is relay only and no TURN server's name is
    /// resolved.
    pub(crate) async fn use_servers(&self, servers: Vec<RTCIceServer>) -> Result<usize> {
        let servers = distinct(servers);
        let count = servers.iter().map(|server| server.urls.len()).sum();
        let names = names(&servers);
        lock(&self.state).servers = servers;
        let mut lookups = self.lookups.lock().await;
        lookups.shutdown().await;
        let (done, mut resolved) = watch::channel(names.is_empty());
        if !names.is_empty() {
            let helper = self.helper();
            lookups.spawn(async move {
                let unresolved = helper.hosts.resolve(names).await;
                done.send_replace(true);
                if unresolved > 0 {
                    // The event is lost if the queue is full; the log still reports the names.
                    let _ = helper.events.try_send(StackEvent::IceServersUnresolved(unresolved));
                }
                helper.gather_late().await;
            });
        }
        // With relay only there is nothing to try before a TURN server's name is resolved.
        let all_of_them = resolved.wait_for(|done| *done);
        if self.policy == IcePolicy::Relay && !self.helper().known().turn {
            let _ = all_of_them.await;
        } else {
            let _ = timeout(BESIDE_OFFER, all_of_them).await;
        }
        self.helper().configure().await?;
        Ok(count)
    }

    /// Prepares for the gathering that starts when `description` is set.
    ///
    /// # Errors
    /// As [`Self::use_servers`].
    pub(crate) async fn gathering(&self, description: &RTCSessionDescription) -> Result<()> {
        let helper = self.helper();
        let known = helper.known();
        {
            let mut state = lock(&self.state);
            state.gathered = Some(known);
            let is_offer = description.sdp_type == RTCSdpType::Offer;
            state.offer = is_offer.then(|| Box::new(description.clone()));
        }
        self.connected.store(false, Ordering::Release);
        if lock(&self.state).servers.is_empty() {
            return Ok(());
        }
        helper.configure().await
    }

    /// Stops all lookups.
    pub(crate) async fn close(&self) {
        self.lookups.lock().await.shutdown().await;
    }

    fn helper(&self) -> Helper {
        Helper {
            connection: Arc::clone(&self.connection),
            policy: self.policy,
            hosts: Arc::clone(&self.hosts),
            events: self.events.clone(),
            describing: Arc::clone(&self.describing),
            state: Arc::clone(&self.state),
            connected: Arc::clone(&self.connected),
        }
    }
}

/// The parts of [`IceServers`] that a lookup task uses when the lookup is done.
struct Helper {
    connection: Arc<dyn PeerConnection>,
    policy: IcePolicy,
    hosts: Arc<Hosts>,
    events: mpsc::Sender<StackEvent>,
    describing: Arc<AsyncMutex<()>>,
    state: Arc<Mutex<State>>,
    connected: Arc<AtomicBool>,
}

impl Helper {
    /// Returns the servers with resolved addresses.
    fn reachable(&self) -> Vec<RTCIceServer> {
        let mut servers = lock(&self.state).servers.clone();
        for server in &mut servers {
            server.urls.retain(|uri| {
                name(uri).is_none_or(|(host, port)| self.hosts.known(&host, port).is_some())
            });
        }
        servers.retain(|server| !server.urls.is_empty());
        servers
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        for uri in self.reachable().iter().flat_map(|server| &server.urls) {
            match uri.starts_with("stun") {
                true => known.stun = true,
                false => known.turn = true,
            }
        }
        known
    }

    async fn configure(&self) -> Result<()> {
        let servers = self.reachable();
        if servers.is_empty() && self.policy == IcePolicy::Relay {
            return Err(Error::Other("no TURN server's name is resolved".to_owned()));
        }
        self.connection.set_configuration(configuration(self.policy, servers)).await
    }

    /// Gathers again if a kind of server became known that was missing before.
    async fn gather_late(&self) {
        let _describing = self.describing.lock().await;
        let known = self.known();
        let is_connected = self.connected.load(Ordering::Acquire);
        {
            let mut state = lock(&self.state);
            let before = state.gathered;
            if is_connected || !before.is_some_and(|before| known.is_much_more_than(before)) {
                return;
            }
            state.gathered = Some(known);
        }
        tracing::debug!("names of ICE servers are resolved late: gathering again");
        if let Err(error) = self.gather_again().await {
            tracing::debug!(%error, "gathering again failed");
        }
    }

    /// Makes the stack gather, by setting a local description: the pending one again, or a new one
    /// that is rolled back.
    async fn gather_again(&self) -> Result<()> {
        self.configure().await?;
        if self.connection.pending_local_description().await.is_some() {
            let offer = lock(&self.state).offer.clone();
            return match offer {
                Some(offer) => self.connection.set_local_description(*offer).await,
                None => Ok(()),
            };
        }
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        self.connection.set_local_description(RTCSessionDescription::rollback(None)?).await
    }
}

/// Keeps each URI once, and TURN before STUN if there are too many.
fn distinct(mut servers: Vec<RTCIceServer>) -> Vec<RTCIceServer> {
    let mut seen = BTreeSet::new();
    servers.sort_by_key(|server| server.username.is_empty());
    for server in &mut servers {
        server.urls.retain(|uri| seen.len() < URIS_MAX && seen.insert(uri.clone()));
    }
    servers.retain(|server| !server.urls.is_empty());
    servers
}

fn names(servers: &[RTCIceServer]) -> BTreeSet<(String, u16)> {
    servers.iter().flat_map(|server| &server.urls).filter_map(|uri| name(uri)).collect()
}

/// Returns the host name and port of a URI; `None` if there is nothing to look up.
fn name(uri: &str) -> Option<(String, u16)> {
    let url =
        Url::parse_url(uri.split('?').next().filter(|_| uri.starts_with("stun:")).unwrap_or(uri));
    let Url { scheme, host, port, .. } = url.ok()?;
    let is_udp = matches!(scheme, SchemeType::Stun | SchemeType::Turn);
    (is_udp && literal(&host).is_none() && host != "localhost").then_some((host, port))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Builds a configuration. Without servers, the previously set ones stay in use.
fn configuration(policy: IcePolicy, servers: Vec<RTCIceServer>) -> RTCConfiguration {
    let policy = match policy {
        IcePolicy::All => RTCIceTransportPolicy::All,
        IcePolicy::Relay => RTCIceTransportPolicy::Relay,
    };
    RTCConfigurationBuilder::new()
        .with_ice_servers(servers)
        .with_ice_transport_policy(policy)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], username: &str) -> RTCIceServer {
        let urls = urls.iter().map(|uri| (*uri).to_owned()).collect();
        RTCIceServer { urls, username: username.to_owned(), ..RTCIceServer::default() }
    }

    #[test]
    fn server_names_are_distinct_and_exclude_addresses() {
        let servers = [
            server(&["stun:stun.example.org:443", "stun:stun.example.org:443?transport=udp"], ""),
            server(&["turn:turn.example.org:443?transport=udp", "turn:127.0.0.1:4000"], "x"),
            server(&["turn:localhost:4000?transport=udp", "stun:[2001:db8::1]:3478"], "x"),
        ];
        let expected = ["stun.example.org", "turn.example.org"].map(|name| (name.to_owned(), 443));
        assert_eq!(names(&servers), BTreeSet::from(expected));
    }

    #[test]
    fn uris_are_deduplicated_and_limited() {
        let many: Vec<String> = (0..100).map(|n| format!("stun:s{n}.example.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let turn = server(&["turn:a.example.org", "turn:a.example.org"], "x");
        let kept = distinct(vec![server(&many, ""), turn]);
        assert_eq!(kept[0].urls, ["turn:a.example.org"]);
        assert_eq!(kept.iter().map(|server| server.urls.len()).sum::<usize>(), URIS_MAX);
    }

    #[test]
    fn gathering_repeats_only_for_missing_server_kind() {
        let known = |stun, turn| Known { stun, turn };
        assert!(known(false, true).is_much_more_than(known(true, false)));
        assert!(known(true, false).is_much_more_than(known(false, false)));
        assert!(!known(true, true).is_much_more_than(known(false, true)));
        assert!(!known(true, false).is_much_more_than(known(true, false)));
    }
}
