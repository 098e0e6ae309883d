//! The steps from a configuration to an open connection, the same for viewer and master.

use std::io;
use std::sync::{Arc, Once};

use negotiation_core::{ClientId, Failure, FailureCode, IceServer};
use tokio::time::timeout;
use viewer_session::redact::{self, Origin};

use crate::config::{SignalingConfig, Stun};
use crate::control_plane::{ControlPlane, Remedies, StorageMode};
use crate::endpoint::PlainHttp;
use crate::endpoint::Role;
use crate::endpoint_file;
use crate::error;
use crate::http::{self, Http};
use crate::ice::{is_aws, regional_stun};
use crate::kvs_client::KvsClient;
use crate::presign::{Connect, SignedUrl};
use crate::service_cache::{Endpoints, Key, TurnServers};
use crate::socket::Socket;
use crate::state_dir::Disk;
use crate::upgrade::Refusal;

/// A channel as this process reaches it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ChannelClient {
    pub(crate) config: Arc<SignalingConfig>,
}

/// A channel with its endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    plane: Arc<ControlPlane>,
    endpoints: Endpoints,
    key: Key,
    /// The endpoints came from the cache.
    remembered: bool,
}

impl ChannelClient {
    pub(crate) fn new(config: SignalingConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    fn client(&self) -> &KvsClient {
        &self.config.client
    }

    /// Finds region and credentials.
    pub(crate) async fn plane(&self) -> Result<Arc<ControlPlane>, Failure> {
        let http = http::unpooled(&self.config.trust, &self.config.route);
        ControlPlane::open(&self.config, http).await.map(Arc::new)
    }

    /// Creates an HTTP client for calls. Its clones share its connections, which close with the
    /// last clone.
    pub(crate) fn http(&self) -> Http {
        Http::new(&self.config.trust, &self.config.route)
    }

    /// Returns the channel's data plane endpoints, from the cache or from the service.
    pub(crate) async fn resolve(
        &self,
        plane: &Arc<ControlPlane>,
        role: Role,
        http: &Http,
    ) -> Result<Resolved, Failure> {
        let key = plane.key(role).await;
        if let Some(endpoints) = self.load_cached(plane, &key).await {
            let plane = plane.clone();
            return Ok(Resolved { plane, endpoints, key, remembered: true });
        }
        let endpoints = plane.resolve(role, http).await?;
        self.client().cache(|channels| channels.learn_endpoints(&key, &endpoints));
        if let Some(dir) = self.config.endpoint_cache.clone() {
            let (key, endpoints) = (key.clone(), endpoints.clone());
            in_background(self.client().disk(), move || {
                endpoint_file::store(&dir, &key, &endpoints)
            });
        }
        Ok(Resolved { plane: plane.clone(), endpoints, key, remembered: false })
    }

    /// Returns the endpoints that this process or an earlier one cached.
    async fn load_cached(&self, plane: &ControlPlane, key: &Key) -> Option<Endpoints> {
        if let Some(endpoints) = self.client().cache(|channels| channels.endpoints(key)) {
            return Some(endpoints);
        }
        let dir = self.config.endpoint_cache.clone()?;
        if !self.client().cache(|channels| channels.may_recall(key)) {
            return None;
        }
        let (of, plain) = (key.clone(), plane.plain_of_service());
        match self.client().disk().run(move || endpoint_file::load(&dir, &of, plain)).await {
            Ok(found) => {
                let (endpoints, learned) = found?;
                self.client().cache(|channels| channels.recall_endpoints(key, &endpoints, learned));
                Some(endpoints)
            }
            Err(error) => {
                tracing::debug!(%error, "the endpoints of an earlier process cannot be read");
                None
            }
        }
    }

    /// Requests the endpoints again after a failure with cached ones. Returns `None` when the
    /// response is the same, or when the endpoints cannot have caused the failure.
    pub(crate) async fn renew(
        &self,
        resolved: &Resolved,
        failure: &Failure,
        http: &Http,
    ) -> Result<Option<Resolved>, Failure> {
        if !resolved.invalidate_after(failure) || !resolved.remembered {
            return Ok(None);
        }
        let fresh = self.resolve(&resolved.plane, resolved.key.role, http).await?;
        Ok((fresh.endpoints != resolved.endpoints).then_some(fresh))
    }

    /// Creates the channel where it does not exist.
    pub(crate) async fn create(&self, plane: &ControlPlane) -> Result<(), Failure> {
        plane.create(&self.http()).await
    }

    /// Returns whether the channel is in storage mode; `false` when that is unknown. Caches the
    /// service's response while it is good; `retries` marks an attempt after a failed one.
    pub(crate) async fn is_storage_channel(
        &self,
        resolved: &Resolved,
        retries: bool,
        http: Http,
    ) -> bool {
        let key = &resolved.key;
        if self.client().cache(|channels| channels.is_peer_to_peer(key, retries)) {
            return false;
        }
        let answer = resolved.plane.storage_mode(http).await;
        if answer == StorageMode::Off {
            self.client().cache(|channels| channels.learn_peer_to_peer(key));
        }
        answer == StorageMode::On
    }

    /// Opens a socket, within the limit and the process's quota.
    pub(crate) async fn open(
        &self,
        resolved: &Resolved,
        client_id: Option<&ClientId>,
    ) -> Result<Socket, Failure> {
        let limit = self.config.limits.connection_open;
        let open = self.open_unlimited(resolved, client_id);
        timeout(limit, open)
            .await
            .unwrap_or_else(|_| Err(error::timed_out("the opening of the signaling socket")))
    }

    async fn open_unlimited(
        &self,
        resolved: &Resolved,
        client_id: Option<&ClientId>,
    ) -> Result<Socket, Failure> {
        let config = &self.config;
        let mut tried = Remedies::default();
        loop {
            self.client().quotas().admit_connect(&resolved.pace()).await;
            let signed = resolved.plane.clock().skew();
            let url = resolved.sign(client_id).await?;
            match Socket::open(&url, &config.trust, &config.route, config.limits).await {
                Ok(socket) => {
                    resolved.plane.clock().confirm();
                    return Ok(socket);
                }
                Err(Refusal::Transport(failure)) => return Err(failure),
                Err(Refusal::Upgrade { status, date, failure }) => {
                    let refused = matches!(status, 401 | 403);
                    if !(refused
                        && resolved.plane.remedy(&mut tried, date.as_deref(), signed).await)
                    {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Returns the STUN server first, then the TURN servers; the STUN server alone when no TURN
    /// server is available. `fresh` bypasses the cache.
    pub(crate) async fn ice_servers(
        &self,
        resolved: &Resolved,
        fresh: bool,
    ) -> Result<Vec<IceServer>, Failure> {
        let stun = self.stun(&resolved.plane);
        match self.turn_servers(resolved, fresh).await {
            Ok(turn) => Ok(stun.into_iter().chain(turn).collect()),
            Err(failure) => match stun {
                Some(stun) => {
                    tracing::warn!(%failure, "no TURN servers; going on with STUN alone");
                    Ok(vec![stun])
                }
                None => Err(failure),
            },
        }
    }

    async fn turn_servers(
        &self,
        resolved: &Resolved,
        fresh: bool,
    ) -> Result<Vec<IceServer>, Failure> {
        let key = &resolved.key;
        let remembered = self.client().cache(|channels| channels.turn_servers(key));
        if let Some(servers) = remembered.as_ref().filter(|_| !fresh) {
            return Ok(servers.clone());
        }
        let pace = resolved.pace();
        let reported = match self.client().quotas().admit_ice_call(&pace) {
            Ok(()) => {
                let reported = resolved.plane.turn_servers(&resolved.endpoints, &self.http()).await;
                let throttled = reported.as_ref().is_err_and(|f| f.code == FailureCode::Throttled);
                self.client().quotas().ice_call_ended(&pace, throttled);
                reported
            }
            Err(throttled) => Err(throttled),
        };
        match (reported, remembered) {
            // Credentials that are still good are better than none.
            (Err(failure), Some(servers)) if failure.code == FailureCode::Throttled => Ok(servers),
            (reported, _) => self.reported(resolved, reported),
        }
    }

    fn reported(
        &self,
        resolved: &Resolved,
        reported: Result<TurnServers, Failure>,
    ) -> Result<Vec<IceServer>, Failure> {
        match reported {
            Ok(turn) => {
                self.client().cache(|channels| channels.learn_turn_servers(&resolved.key, &turn));
                Ok(turn.servers)
            }
            Err(failure) => {
                resolved.invalidate_after(&failure);
                Err(failure)
            }
        }
    }

    /// Requests an offer from the storage service to this viewer or master. Each call brings one
    /// offer.
    pub(crate) async fn join(&self, resolved: &Resolved, role: Role) -> Result<(), Failure> {
        let plane = &resolved.plane;
        let http = self.http();
        let Endpoints { arn, storage, .. } = &resolved.endpoints;
        let requested = storage.get_or_try_init(|| plane.storage_endpoint(arn, role, &http));
        let endpoint = requested.await?.clone();
        let joined = match role {
            Role::Viewer => {
                // A storage session uses the configured id unchanged.
                let client_id = &self.config.client_id;
                plane.join_storage_session(&endpoint, arn, client_id, &http).await
            }
            Role::Master => plane.join_storage_session_as_master(&endpoint, arn, &http).await,
        };
        joined.inspect_err(|failure| {
            resolved.invalidate_after(failure);
        })
    }

    fn stun(&self, plane: &ControlPlane) -> Option<IceServer> {
        let uris = match &self.config.stun {
            Stun::Off => return None,
            Stun::Custom(uris) => uris.clone(),
            Stun::Auto if is_aws(plane.control_endpoint()) => {
                let (fips, dual_stack) = (plane.uses_fips(), plane.uses_dual_stack());
                let Some(uri) = regional_stun(plane.region(), fips, dual_stack) else {
                    warn_fips_without_stun();
                    return None;
                };
                vec![uri]
            }
            Stun::Auto => return None,
        };
        Some(IceServer { uris, username: None, password: None })
    }
}

impl Resolved {
    /// Removes from the cache what the service declared outdated on a connection of this channel.
    pub(crate) fn invalidate(&self, what: Invalidate) {
        match what {
            Invalidate::Everything => {
                self.plane.client().cache(|channels| channels.forget(&self.key));
                if let Some(dir) = self.plane.endpoint_cache() {
                    let (dir, key) = (dir.to_owned(), self.key.clone());
                    in_background(self.plane.client().disk(), move || {
                        endpoint_file::remove(&dir, &key)
                    });
                }
            }
            Invalidate::IceServers => {
                self.plane.client().cache(|channels| channels.forget_turn_servers(&self.key))
            }
        }
    }

    /// Clears the channel's cache when a failure makes it doubtful; returns whether it does.
    fn invalidate_after(&self, failure: &Failure) -> bool {
        use FailureCode as Code;
        let doubtful = matches!(
            failure.code,
            Code::NoChannel
                | Code::AccessDenied
                | Code::InvalidArgument
                | Code::Dns
                | Code::Network
                | Code::Tls
                | Code::Service
                | Code::TimedOut
        );
        if doubtful {
            self.invalidate(Invalidate::Everything);
        }
        doubtful
    }

    /// Returns the key by which the process paces its connects: one ARN on two emulators is two
    /// channels.
    pub(crate) fn pace(&self) -> String {
        let endpoint = self.plane.control_endpoint().unwrap_or("aws");
        format!("{endpoint} {}", self.endpoints.arn)
    }

    async fn sign(&self, client_id: Option<&ClientId>) -> Result<SignedUrl, Failure> {
        let credentials = self.plane.current_credentials().await;
        let connect = Connect {
            endpoint: &self.endpoints.wss,
            channel_arn: self.endpoints.arn.as_str(),
            client_id: client_id.map(ClientId::as_str),
            region: self.plane.region(),
            credentials: &credentials,
            time: self.plane.clock().now(),
        };
        let signed = match self.plane.plain_of_service() {
            PlainHttp::Anywhere => connect.sign_insecure(),
            PlainHttp::Loopback | PlainHttp::Refused => connect.sign(),
        };
        let url = signed.map_err(|error| Failure::new(FailureCode::Service, error.to_string()))?;
        if let Some(signature) = url.signature() {
            redact::remember(Origin::Connection, signature);
        }
        Ok(url)
    }
}

/// The cached data that the process must not use again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Invalidate {
    Everything,
    IceServers,
}

/// Changes a file of the endpoint cache while the session goes on. Where that fails, later
/// processes request the endpoints themselves.
fn in_background(disk: &Disk, task: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let disk = disk.clone();
    tokio::spawn(async move {
        if let Err(error) = disk.run(task).await {
            tracing::debug!(%error, "the endpoints are not kept for later processes");
        }
    });
}

/// Warns once per process, since it applies to every connection.
fn warn_fips_without_stun() {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "with FIPS the region's STUN server speaks TLS alone, which is not spoken here: \
             addresses beyond this network come from TURN, or from a STUN server that is given"
        );
    });
}
