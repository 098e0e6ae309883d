//! Calls of the control plane: which channel, which endpoints, which ICE servers.
//!
//! A call with a refused signature is repeated after the clock was corrected, and one with refused
//! temporary credentials after they were fetched again (contract, N16). A call that the service
//! could not serve is repeated a moment later, within its limit; the session retries all others.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_kinesisvideo::types::{
    ChannelProtocol, ChannelRole, MediaStorageConfigurationStatus,
    SingleMasterChannelEndpointConfiguration,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use kvs_wire::{ChannelArn, ServiceError};
use negotiation_core::{ClientId, Failure, FailureCode, FailureKind, IceServer, Secret};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use url::Url;
use viewer_session::redact::{self, Origin};

use crate::clock::{SigningClock, Skew};
use crate::config::{Channel, SignalingConfig};
use crate::endpoint::{PlainHttp, Role, is_socket_endpoint, parse_endpoint};
use crate::error;
use crate::http::{Http, was_cut};
use crate::identity::Identity;
use crate::kvs_client::KvsClient;
use crate::service_cache::{Endpoints, Key, TurnServers};

/// Maximum number of ICE servers accepted from the service, which returns about two.
const ICE_SERVERS_MAX: usize = 16;

/// Maximum number of times that one call is made, when the service fails or throttles it.
const TRIES_MAX: u32 = 3;

fn channel_role(role: Role) -> ChannelRole {
    match role {
        Role::Master => ChannelRole::Master,
        Role::Viewer => ChannelRole::Viewer,
    }
}

/// A channel's storage mode as the service reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageMode {
    On,
    /// It is off, or the credentials are not allowed to read it.
    Off,
    /// There was no usable response; a later request may bring one.
    Unknown,
}

/// Region, endpoints and credentials of one connection, and the calls that use them.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    config: SignalingConfig,
    identity: Identity,
    credentials: RwLock<Credentials>,
}

impl ControlPlane {
    /// Finds region and credentials.
    pub(crate) async fn open(
        config: &SignalingConfig,
        http: SharedHttpClient,
    ) -> Result<Self, Failure> {
        let identity = Identity::load(config, http).await?;
        let credentials = RwLock::new(identity.credentials().await?);
        Ok(Self { config: config.clone(), identity, credentials })
    }

    /// The client that the session shares with others.
    pub(crate) fn client(&self) -> &KvsClient {
        &self.config.client
    }

    pub(crate) fn region(&self) -> &str {
        &self.identity.region
    }

    pub(crate) fn clock(&self) -> &SigningClock {
        &self.identity.clock
    }

    pub(crate) async fn current_credentials(&self) -> Credentials {
        self.credentials.read().await.clone()
    }

    /// The control plane's endpoint where it is not AWS's own.
    pub(crate) fn control_endpoint(&self) -> Option<&str> {
        self.identity.control_endpoint.as_deref()
    }

    pub(crate) fn uses_fips(&self) -> bool {
        self.identity.sdk.use_fips().unwrap_or(false)
    }

    pub(crate) fn uses_dual_stack(&self) -> bool {
        self.identity.sdk.use_dual_stack().unwrap_or(false)
    }

    /// The directory that keeps endpoints for later processes.
    pub(crate) fn endpoint_cache(&self) -> Option<&Path> {
        self.config.endpoint_cache.as_deref()
    }

    /// The key under which the process remembers the channel for these credentials.
    pub(crate) async fn key(&self, role: Role) -> Key {
        let kind = match (self.uses_fips(), self.uses_dual_stack()) {
            (false, false) => "",
            (true, false) => " fips",
            (false, true) => " dual-stack",
            (true, true) => " fips dual-stack",
        };
        Key {
            place: format!("{}{kind}", self.place()),
            channel: self.channel().to_owned(),
            role,
            access_key_id: self.current_credentials().await.access_key_id().to_owned(),
        }
    }

    /// The control plane by its endpoint and region.
    fn place(&self) -> String {
        format!("{} {}", self.control_endpoint().unwrap_or("aws"), self.region())
    }

    /// The channel's name or ARN, as configured.
    fn channel(&self) -> &str {
        match &self.config.channel {
            Channel::Arn(arn) => arn.as_str(),
            Channel::Name(name) => name,
        }
    }

    /// The hosts at which endpoints that the service returns may use plain HTTP.
    pub(crate) fn plain_of_service(&self) -> PlainHttp {
        PlainHttp::of_service(self.control_endpoint(), self.config.allow_plain_http)
    }

    /// Waits for the call's turn within the quotas of account, region and channel.
    async fn admit(&self, name: &'static str, credentials: &Credentials) -> Result<(), Failure> {
        let place = self.place();
        // Each session that assumes a role has keys of its own, but all share the account's quota.
        let account = credentials.account_id().map(|account| account.as_str());
        let account = account.unwrap_or_else(|| credentials.access_key_id());
        let channel = format!("{place} {}", self.channel());
        let limit = self.config.limits.call;
        let account = format!("{place} {account}");
        self.client().quotas().admit_call(name, &account, &channel, limit).await
    }

    /// Requests the channel's ARN and the two endpoints of its data plane.
    pub(crate) async fn resolve(&self, role: Role, http: &Http) -> Result<Endpoints, Failure> {
        let arn = match &self.config.channel {
            Channel::Arn(arn) => arn.clone(),
            Channel::Name(name) => self.describe(name, http).await?,
        };
        let protocols = [ChannelProtocol::Wss, ChannelProtocol::Https];
        let mut named = self.named_endpoints(&arn, role, &protocols, http).await?;
        let (Some(wss), Some(https)) = (named.remove("WSS"), named.remove("HTTPS")) else {
            return Err(Failure::new(
                FailureCode::Service,
                "GetSignalingChannelEndpoint named no WSS or no HTTPS endpoint",
            ));
        };
        let plain = self.plain_of_service();
        if parse_endpoint(&https, plain).is_err() {
            return Err(Failure::new(
                FailureCode::Service,
                "GetSignalingChannelEndpoint named an HTTPS endpoint that cannot be used",
            ));
        }
        if !Url::parse(&wss).is_ok_and(|url| is_socket_endpoint(&url, plain)) {
            return Err(Failure::new(
                FailureCode::Service,
                "GetSignalingChannelEndpoint named a WSS endpoint that cannot be used",
            ));
        }
        Ok(Endpoints { arn, wss, https, storage: Arc::default() })
    }

    /// Requests GetSignalingChannelEndpoint and returns the endpoints by protocol in capitals:
    /// neither their order nor their case is fixed (docs/kvs-protocol.md 1.1).
    async fn named_endpoints(
        &self,
        arn: &ChannelArn,
        role: Role,
        protocols: &[ChannelProtocol],
        http: &Http,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let configuration = SingleMasterChannelEndpointConfiguration::builder()
            .set_protocols(Some(protocols.to_vec()))
            .role(channel_role(role))
            .build();
        let output = self
            .call("GetSignalingChannelEndpoint", Idempotent::Yes, http, |credentials, http| {
                self.video(credentials, http)
                    .get_signaling_channel_endpoint()
                    .channel_arn(arn.as_str())
                    .single_master_channel_endpoint_configuration(configuration.clone())
                    .send()
            })
            .await?;
        let list = output.resource_endpoint_list().iter();
        Ok(list
            .filter_map(|item| {
                let protocol = item.protocol()?.as_str().to_ascii_uppercase();
                Some((protocol, item.resource_endpoint()?.to_owned()))
            })
            .collect())
    }

    /// Requests the endpoint for joining a storage session. A channel that is not in storage mode
    /// has none.
    pub(crate) async fn storage_endpoint(
        &self,
        arn: &ChannelArn,
        role: Role,
        http: &Http,
    ) -> Result<String, Failure> {
        let mut named = self.named_endpoints(arn, role, &[ChannelProtocol::Webrtc], http).await?;
        named
            .remove("WEBRTC")
            .filter(|text| parse_endpoint(text, self.plain_of_service()).is_ok())
            .ok_or_else(|| {
                Failure::new(
                    FailureCode::Service,
                    "GetSignalingChannelEndpoint named no usable WEBRTC endpoint",
                )
            })
    }

    /// Requests an offer to this viewer. Not idempotent: each call brings an offer.
    pub(crate) async fn join_storage_session(
        &self,
        endpoint: &str,
        arn: &ChannelArn,
        client_id: &ClientId,
        http: &Http,
    ) -> Result<(), Failure> {
        // The session repeats it on a timer of its own (contract, N8).
        self.call("JoinStorageSessionAsViewer", Idempotent::No, http, |credentials, http| {
            self.storage(credentials, endpoint, http)
                .join_storage_session_as_viewer()
                .channel_arn(arn.as_str())
                .client_id(client_id.as_str())
                .send()
        })
        .await
        .map(|_| ())
    }

    /// Requests an offer to this master. Not idempotent: each call brings an offer.
    pub(crate) async fn join_storage_session_as_master(
        &self,
        endpoint: &str,
        arn: &ChannelArn,
        http: &Http,
    ) -> Result<(), Failure> {
        self.call("JoinStorageSession", Idempotent::No, http, |credentials, http| {
            self.storage(credentials, endpoint, http)
                .join_storage_session()
                .channel_arn(arn.as_str())
                .send()
        })
        .await
        .map(|_| ())
    }

    async fn describe(&self, name: &str, http: &Http) -> Result<ChannelArn, Failure> {
        let output = self
            .call("DescribeSignalingChannel", Idempotent::Yes, http, |credentials, http| {
                self.video(credentials, http).describe_signaling_channel().channel_name(name).send()
            })
            .await?;
        output
            .channel_info()
            .and_then(|info| info.channel_arn())
            .and_then(ChannelArn::parse)
            .ok_or_else(|| {
                Failure::new(FailureCode::Service, "DescribeSignalingChannel named no valid ARN")
            })
    }

    /// Creates the channel of the configuration. An existing channel is left unchanged.
    pub(crate) async fn create(&self, http: &Http) -> Result<(), Failure> {
        let Channel::Name(name) = &self.config.channel else {
            let problem = "a channel is created by its name, not by an ARN";
            return Err(Failure::new(FailureCode::InvalidArgument, problem));
        };
        let created = self
            .call("CreateSignalingChannel", Idempotent::Yes, http, |credentials, http| {
                self.video(credentials, http).create_signaling_channel().channel_name(name).send()
            })
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(failure) if failure.api_name.as_deref() == Some("ResourceInUseException") => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Requests the channel's storage mode. Best effort: the credentials of a viewer often do not
    /// permit this call.
    pub(crate) async fn storage_mode(&self, http: Http) -> StorageMode {
        // With a wrong clock, a request parallel to the first call would be refused like that one.
        self.clock().confirmed().await;
        let credentials = self.current_credentials().await;
        if self.admit("DescribeMediaStorageConfiguration", &credentials).await.is_err() {
            return StorageMode::Unknown;
        }
        let request = self.video(credentials, http.client()).describe_media_storage_configuration();
        let request = match &self.config.channel {
            Channel::Arn(arn) => request.channel_arn(arn.as_str()),
            Channel::Name(name) => request.channel_name(name),
        };
        match timeout(self.config.limits.call, request.send()).await {
            Ok(Ok(output)) => {
                let configuration = output.media_storage_configuration();
                let is_on = configuration
                    .is_some_and(|c| *c.status() == MediaStorageConfigurationStatus::Enabled);
                if is_on { StorageMode::On } else { StorageMode::Off }
            }
            Ok(Err(error)) => {
                let failure = call_failure("DescribeMediaStorageConfiguration", &error, false);
                match failure.kind() {
                    FailureKind::Permanent => StorageMode::Off,
                    FailureKind::Transient | FailureKind::Throttled | FailureKind::Cancelled => {
                        StorageMode::Unknown
                    }
                }
            }
            Err(_) => StorageMode::Unknown,
        }
    }

    /// Requests TURN servers with fresh credentials.
    pub(crate) async fn turn_servers(
        &self,
        endpoints: &Endpoints,
        http: &Http,
    ) -> Result<TurnServers, Failure> {
        let output = self
            .call("GetIceServerConfig", Idempotent::Yes, http, |credentials, http| {
                self.signaling(credentials, &endpoints.https, http)
                    .get_ice_server_config()
                    .channel_arn(endpoints.arn.as_str())
                    .send()
            })
            .await?;
        let list = || output.ice_server_list().iter().take(ICE_SERVERS_MAX);
        for secret in list().flat_map(|server| [server.username(), server.password()]).flatten() {
            redact::remember(Origin::Service, secret);
        }
        let servers = list().map(|server| IceServer {
            uris: server.uris().iter().take(ICE_SERVERS_MAX).cloned().collect(),
            username: server.username().map(Secret::new),
            password: server.password().map(Secret::new),
        });
        let ttl = |server: &aws_sdk_kinesisvideosignaling::types::IceServer| {
            server.ttl().and_then(|secs| u64::try_from(secs).ok()).unwrap_or(0)
        };
        let ttl = list().map(ttl).min();
        Ok(TurnServers {
            servers: servers.filter(|server| !server.uris.is_empty()).collect(),
            ttl: Duration::from_secs(ttl.unwrap_or(0)),
        })
    }

    /// Corrects the clock or the credentials after a 401 or 403. Returns true when the request may
    /// succeed now.
    ///
    /// `date` is the `Date` header of the refusal, `signed` the skew with which the request was
    /// signed. Each remedy is tried once.
    pub(crate) async fn remedy(
        &self,
        tried: &mut Remedies,
        date: Option<&str>,
        signed: Skew,
    ) -> bool {
        if !tried.clock && self.clock().learn(date, signed) {
            tried.clock = true;
            return true;
        }
        let temporary = {
            let current = self.credentials.read().await;
            current.session_token().is_some_and(|token| !token.is_empty())
        };
        if tried.credentials || !temporary {
            return false;
        }
        tried.credentials = true;
        match self.identity.credentials().await {
            Ok(fresh) => {
                *self.credentials.write().await = fresh;
                true
            }
            Err(_) => false,
        }
    }

    async fn call<T, E, F, Fut>(
        &self,
        name: &'static str,
        again: Idempotent,
        http: &Http,
        request: F,
    ) -> Result<T, Failure>
    where
        F: Fn(Credentials, SharedHttpClient) -> Fut,
        Fut: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tried = Remedies::default();
        let mut failed = 0;
        let mut deadline = None;
        loop {
            let credentials = self.current_credentials().await;
            self.admit(name, &credentials).await?;
            let deadline_at =
                *deadline.get_or_insert_with(|| Instant::now() + self.config.limits.call);
            let signed = self.clock().skew();
            let token = credentials.session_token().is_some_and(|token| !token.is_empty());
            let error = match timeout_at(deadline_at, request(credentials, http.client())).await {
                Ok(Ok(output)) => {
                    self.clock().confirm();
                    return Ok(output);
                }
                Ok(Err(error)) => error,
                Err(_) => return Err(error::timed_out(&format!("the answer to {name}"))),
            };
            let refused = error.raw_response().filter(|r| matches!(r.status().as_u16(), 401 | 403));
            if let Some(response) = refused {
                let date = response.headers().get("date").map(str::to_owned);
                if self.remedy(&mut tried, date.as_deref(), signed).await {
                    // The repeated request gets a new limit and a new connection: services close
                    // the connection on which they refused a request.
                    deadline = None;
                    http.renew();
                    continue;
                }
            }
            if matches!(again, Idempotent::Yes) && !tried.connection && is_cut(&error) {
                // The service closed this pooled connection before the request arrived.
                tried.connection = true;
                http.renew();
                continue;
            }
            let failure = call_failure(name, &error, token);
            let pause = match again {
                Idempotent::Yes => pause(&failure, failed),
                Idempotent::No => None,
            };
            match pause.map(|pause| Instant::now() + pause) {
                Some(at) if at < deadline_at => sleep_until(at).await,
                Some(_) | None => return Err(failure),
            }
            failed += 1;
            tracing::debug!(name, failed, "asking again");
        }
    }

    fn video(
        &self,
        credentials: Credentials,
        http: SharedHttpClient,
    ) -> aws_sdk_kinesisvideo::Client {
        let mut builder = aws_sdk_kinesisvideo::config::Builder::from(&self.identity.sdk)
            .http_client(http)
            .credentials_provider(credentials);
        builder.set_endpoint_url(self.identity.control_endpoint.clone());
        aws_sdk_kinesisvideo::Client::from_conf(builder.build())
    }

    fn storage(
        &self,
        credentials: Credentials,
        endpoint: &str,
        http: SharedHttpClient,
    ) -> aws_sdk_kinesisvideowebrtcstorage::Client {
        let builder = aws_sdk_kinesisvideowebrtcstorage::config::Builder::from(&self.identity.sdk)
            .http_client(http)
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            // As for signaling: the flags and an endpoint exclude each other.
            .use_fips(false)
            .use_dual_stack(false);
        aws_sdk_kinesisvideowebrtcstorage::Client::from_conf(builder.build())
    }

    fn signaling(
        &self,
        credentials: Credentials,
        endpoint: &str,
        http: SharedHttpClient,
    ) -> aws_sdk_kinesisvideosignaling::Client {
        let endpoint = self.identity.signaling_override.as_deref().unwrap_or(endpoint);
        let builder = aws_sdk_kinesisvideosignaling::config::Builder::from(&self.identity.sdk)
            .http_client(http)
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            // The endpoint that the service returned is already of the requested kind, and the SDK
            // refuses the flags together with an endpoint.
            .use_fips(false)
            .use_dual_stack(false);
        aws_sdk_kinesisvideosignaling::Client::from_conf(builder.build())
    }
}

/// Whether a call may be repeated that the service could not serve.
#[derive(Clone, Copy, Debug)]
enum Idempotent {
    Yes,
    No,
}

/// Returns how long to wait before a call that has failed `failed` times is repeated; `None` when
/// it must not be repeated. Full jitter, so that viewers that failed together do not all retry at
/// the same time.
fn pause(failure: &Failure, failed: u32) -> Option<Duration> {
    // The C SDK's first step (docs/kvs-protocol.md 3.1); a throttled call needs a longer one.
    let first =
        Duration::from_millis(if failure.code == FailureCode::Throttled { 500 } else { 100 });
    let passes = matches!(failure.code, FailureCode::Service | FailureCode::Throttled);
    (passes && failed + 1 < TRIES_MAX).then(|| (first * 2u32.pow(failed)).mul_f64(fastrand::f64()))
}

/// The remedies that were already tried after a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remedies {
    clock: bool,
    credentials: bool,
    connection: bool,
}

/// Returns whether the connection ended before any byte of the response arrived.
fn is_cut<E>(error: &SdkError<E, HttpResponse>) -> bool {
    if let SdkError::DispatchFailure(failure) = error {
        return failure.as_connector_error().is_some_and(was_cut);
    }
    false
}

/// Maps an SDK error to a failure. `token`: the request was signed with a session token.
fn call_failure<E>(name: &str, error: &SdkError<E, HttpResponse>, token: bool) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let metadata = context.err();
            let (status, text) = (context.raw().status().as_u16(), metadata.message());
            let error = ServiceError::new(status, metadata.code(), text.unwrap_or_default());
            error::signed(&error, token)
        }
        SdkError::ResponseError(context) => {
            error::service(&ServiceError::new(context.raw().status().as_u16(), None, ""))
        }
        SdkError::TimeoutError(_) => error::timed_out(&format!("the answer to {name}")),
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) if connector.is_timeout() => {
                error::timed_out(&format!("a connection for {name}"))
            }
            Some(connector) => error::transport(name, connector),
            None => Failure::new(FailureCode::Network, format!("{name} could not be sent")),
        },
        // The request is invalid: FIPS with an endpoint, or a field out of its limits.
        other @ (SdkError::ConstructionFailure(_) | _) => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(source) = cause.source() {
                cause = source;
            }
            Failure::new(
                FailureCode::InvalidArgument,
                format!("{name} cannot be called: {}", error::clean(&cause.to_string())),
            )
        }
    }
}
