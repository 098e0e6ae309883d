//! The way from a configuration to an open link, the same for viewer and master.

use std::sync::Arc;

use negotiation_core::{ClientId, Failure, FailureCode, IceServer};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use url::Url;

use crate::config::{SignalingConfig, Stun};
use crate::control_plane::{ControlPlane, Cures, Endpoints, Role};
use crate::error;
use crate::ice::{is_aws, regional_stun};
use crate::identity::SigningClock;
use crate::presign::{Connect, SignedUrl};
use crate::quota;
use crate::socket::{Refusal, Socket};

/// A channel as this process reaches it. Cheap to clone; clones share what was learnt of the
/// service's clock.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) config: Arc<SignalingConfig>,
    clock: SigningClock,
}

/// A channel whose endpoints are known.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    plane: Arc<ControlPlane>,
    endpoints: Endpoints,
    /// Where a storage session is joined; asked for at the first join.
    storage: Arc<OnceCell<String>>,
}

impl Site {
    pub(crate) fn new(config: SignalingConfig) -> Self {
        Self { config: Arc::new(config), clock: SigningClock::default() }
    }

    /// Finds region and credentials.
    pub(crate) async fn plane(&self) -> Result<Arc<ControlPlane>, Failure> {
        let http = self.config.trust.unpooled_http_client()?;
        ControlPlane::open(&self.config, &self.clock, http).await.map(Arc::new)
    }

    /// Asks where the channel's data plane is.
    pub(crate) async fn resolve(
        &self,
        plane: &Arc<ControlPlane>,
        role: Role,
    ) -> Result<Resolved, Failure> {
        let http = self.config.trust.http_client(is_plain(plane.control_endpoint()))?;
        let endpoints = plane.resolve(role, &http).await?;
        Ok(Resolved { plane: plane.clone(), endpoints, storage: Arc::default() })
    }

    /// Creates the channel where it does not exist.
    pub(crate) async fn create(&self, plane: &ControlPlane) -> Result<(), Failure> {
        let http = self.config.trust.http_client(is_plain(plane.control_endpoint()))?;
        plane.create(&http).await
    }

    /// Whether the channel is in storage mode; no when nobody says.
    pub(crate) async fn is_storage_channel(&self, plane: &ControlPlane) -> bool {
        match self.config.trust.http_client(is_plain(plane.control_endpoint())) {
            Ok(http) => plane.is_storage_channel(&http).await,
            Err(_) => false,
        }
    }

    /// Opens a socket, within the limit and the process's quota.
    pub(crate) async fn open(
        &self,
        resolved: &Resolved,
        client_id: Option<&ClientId>,
    ) -> Result<Socket, Failure> {
        let limit = self.config.limits.link_open;
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
        let plain = resolved.endpoints.wss.starts_with("ws:");
        let tls = if plain { None } else { Some(self.config.trust.client_config()?) };
        let mut tried = Cures::default();
        loop {
            quota::admit_connect(&resolved.key()).await;
            let url = resolved.sign(client_id).await?;
            match Socket::open(&url, tls.clone(), self.config.limits).await {
                Ok(socket) => return Ok(socket),
                Err(Refusal::Transport(failure)) => return Err(failure),
                Err(Refusal::Upgrade { status, date, failure }) => {
                    let refused = matches!(status, 401 | 403);
                    if !(refused && resolved.plane.cure(&mut tried, date.as_deref()).await) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// STUN first, then TURN with fresh credentials. Without TURN, STUN alone.
    pub(crate) async fn ice_servers(&self, resolved: &Resolved) -> Result<Vec<IceServer>, Failure> {
        let stun = self.stun(&resolved.plane);
        let http = self.config.trust.http_client(is_plain(Some(&resolved.endpoints.https)))?;
        match resolved.plane.turn_servers(&resolved.endpoints, &http).await {
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

    /// Asks the service to offer to this viewer (a storage session). One offer a call.
    pub(crate) async fn join(&self, resolved: &Resolved) -> Result<(), Failure> {
        let plane = &resolved.plane;
        let http = self.config.trust.http_client(is_plain(plane.control_endpoint()))?;
        let asked = resolved
            .storage
            .get_or_try_init(|| plane.storage_endpoint(&resolved.endpoints.arn, &http));
        let endpoint = asked.await?.clone();
        let http = self.config.trust.http_client(is_plain(Some(&endpoint)))?;
        // In a storage session the id stays as it was given.
        let client_id = &self.config.client_id;
        plane.join_storage_session(&endpoint, &resolved.endpoints.arn, client_id, &http).await
    }

    fn stun(&self, plane: &ControlPlane) -> Option<IceServer> {
        let uris = match &self.config.stun {
            Stun::Off => return None,
            Stun::Custom(uris) => uris.clone(),
            Stun::Auto if is_aws(plane.control_endpoint()) => {
                vec![regional_stun(plane.region(), plane.uses_fips(), plane.uses_dual_stack())]
            }
            Stun::Auto => return None,
        };
        Some(IceServer { uris, username: None, password: None })
    }
}

impl Resolved {
    /// By what the process knows the channel: one ARN on two emulators is two channels.
    pub(crate) fn key(&self) -> String {
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
        connect.sign().map_err(|error| Failure::new(FailureCode::Service, error.to_string()))
    }
}

fn is_plain(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|text| Url::parse(text).is_ok_and(|url| url.scheme() == "http"))
}
