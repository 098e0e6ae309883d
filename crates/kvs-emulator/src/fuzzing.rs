//! The emulator's parsers without a socket, for the workspace's fuzzers. No public API.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;

use crate::calls::{self, MESSAGE_TTL_SECS};
use crate::clock::UnixTime;
use crate::config::{Credential, EmulatorConfig};
use crate::relay::{Connection, Joining, Outgoing};
use crate::routing::{self, SendQuota};
use crate::shared::Shared;
use crate::sigv4::{SERVICE, Verifier, Wire};
use crate::sync::lock;

/// The client id of the viewer of a [`Bench`].
pub const VIEWER: &str = "viewer";

/// The host and the check time of the request of [`signed_query`]: the first test vector of the
/// JavaScript SDK (docs/kvs-protocol.md 5.1).
const SIGNED_HOST: &str = "kvs.awsamazon.com";
const SIGNED_AT: UnixTime = UnixTime(1_575_158_400);

/// One channel of a fresh emulator, with its master and one viewer.
pub struct Bench {
    shared: Arc<Shared>,
    connections: [(Connection, SendQuota); 2],
}

/// What a client received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A text frame.
    Text(String),
    /// The end of the socket, or any other command to it.
    End,
}

impl Bench {
    /// Creates the channel and its clients. `None` only if a fresh emulator refuses one channel or
    /// two clients.
    #[must_use]
    pub fn new() -> Option<Self> {
        let shared = Arc::new(Shared::new(EmulatorConfig::default()));
        let channel = "fuzz";
        let arn = shared.create_channel(channel, MESSAGE_TTL_SECS).ok()?;
        let connection = |client_id| {
            let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let joining = Joining { arn: &arn, channel, client_id, peer };
            let (unknowns, now) = (&shared.config.unknowns, Instant::now());
            let connection = lock(&shared.relay).join(&joining, None, unknowns, now)?;
            Some((connection, SendQuota::new(&shared.config.quotas, now)))
        };
        let connections = [connection(None)?, connection(Some(VIEWER))?];
        Some(Self { shared, connections })
    }

    /// Handles a text frame of the master or the viewer; returns what master and viewer then
    /// receive.
    pub fn frame(&mut self, of_viewer: bool, text: &str) -> [Vec<Sent>; 2] {
        let (connection, quota) = &mut self.connections[usize::from(of_viewer)];
        routing::handle_text(&self.shared, connection, quota, text);
        self.connections.each_mut().map(|(connection, _)| {
            let mut sent = Vec::new();
            while let Ok(outgoing) = connection.outgoing.try_recv() {
                sent.push(match outgoing {
                    Outgoing::Text(text) => Sent::Text(text),
                    Outgoing::Injected(_)
                    | Outgoing::GoAway
                    | Outgoing::Close(..)
                    | Outgoing::Stall => Sent::End,
                });
            }
            sent
        })
    }

    /// Runs every call with this body, as if its signature were valid; returns their statuses.
    #[must_use]
    pub fn call(&self, body: &[u8]) -> Vec<u16> {
        let run = |call| {
            let (shared, authority) = (&self.shared, "127.0.0.1:1");
            let caller = calls::Caller { shared, call, authority, turn_age_secs: 0 };
            calls::run(&caller, body).map_or_else(|error| error.status, |_| 200)
        };
        calls::CALLS.iter().map(run).collect()
    }

    /// Whether a request that may be unsigned is accepted.
    #[must_use]
    pub fn admits(&self, query: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> bool {
        let wire = Wire { method: "POST", path: "/listSignalingChannels", query, headers, body };
        let credentials = self.shared.credentials();
        let verifier = self.shared.verifier(&credentials);
        verifier.verify_header(&wire).is_ok() || verifier.verify_query(&wire).is_ok()
    }
}

/// Returns the parameters of a query if its signature is valid for one fixed host, key and time.
#[must_use]
pub fn signed_query(query: &str) -> Option<BTreeMap<String, String>> {
    let token = Some("FakeSessionToken".to_owned());
    let credential = Credential::new("AKIA4F7WJQR7FMMWMNXI", "FakeSecretKey", token);
    let headers = [("host".to_owned(), SIGNED_HOST.to_owned())].into();
    let expires_max_secs = EmulatorConfig::default().unknowns.presigned_url_max_secs;
    let verifier = Verifier {
        expires_max_secs,
        credentials: std::slice::from_ref(&credential),
        region: "us-west-2",
        service: SERVICE,
        now: SIGNED_AT,
    };
    let wire = Wire { method: "GET", path: "/", query, headers: &headers, body: b"" };
    verifier.verify_query(&wire).ok()
}
