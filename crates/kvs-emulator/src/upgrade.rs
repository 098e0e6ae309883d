//! ConnectAsMaster and ConnectAsViewer: the presigned URL is checked, and the request becomes a
//! socket (docs/kvs-protocol.md 2.1).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::call_faults::{self, Reaction};
use crate::channel::is_arn;
use crate::connection_guard::ConnectionGuard;
use crate::error::{Api, ApiError};
use crate::fault::{Action, Role};
use crate::peer::Peer;
use crate::relay::{Connection, Joining};
use crate::reply::{self, Reply, Reset};
use crate::shared::Shared;
use crate::sigv4::Wire;
use crate::socket::{self, Scheduled};
use crate::sync::lock;
use crate::wire;

pub(crate) fn is_upgrade(request: &Request<Incoming>) -> bool {
    let names = |value: &hyper::header::HeaderValue, token: &str| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    request.headers().get(UPGRADE).is_some_and(|value| names(value, "websocket"))
}

pub(crate) async fn handle(
    shared: &Arc<Shared>,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Reply, Reset> {
    let (target, key) = match examine(shared, &request) {
        Ok(examined) => examined,
        Err(error) => return Ok(refuse(shared, "Connect", &error)),
    };
    let client_id = target.client_id.as_deref();
    let (role, call) = match client_id {
        Some(_) => (Role::Viewer, "ConnectAsViewer"),
        None => (Role::Master, "ConnectAsMaster"),
    };
    let mut scheduled: Scheduled = None;
    if let Some((_, action)) = shared.faults.for_upgrade(role, client_id, &target.channel) {
        if let Action::After { ms, then } = action {
            scheduled = Some((Duration::from_millis(ms), then));
        } else if let Reaction::Answer(reply) =
            call_faults::apply(shared, Api::Connect, action).await?
        {
            shared.count(call, true);
            return Ok(reply);
        }
    }
    let connection = match admit(shared, &target, call, peer.addr) {
        Ok(connection) => connection,
        Err(error) => return Ok(refuse(shared, call, &error)),
    };
    shared.count(call, false);
    let guard = ConnectionGuard::new(shared, connection.link.clone(), Some(peer));
    let upgraded = hyper::upgrade::on(&mut request);
    shared.spawn(async move {
        match upgraded.await {
            Ok(io) => socket::run(guard, connection, TokioIo::new(io), scheduled).await,
            Err(error) => tracing::debug!(%error, "the client left during the upgrade"),
        }
    });
    let mut reply = reply::decorate(shared, Response::new(Full::new(Bytes::new())));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, hyper::header::HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, hyper::header::HeaderValue::from_static("websocket"));
    if let Ok(accept) = derive_accept_key(key.as_bytes()).parse() {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(reply)
}

/// The channel and client id of an upgrade.
struct Target {
    arn: String,
    channel: String,
    /// The viewer's id; a master has none.
    client_id: Option<String>,
}

fn examine(shared: &Shared, request: &Request<Incoming>) -> Result<(Target, String), ApiError> {
    let headers = reply::header_map(request.headers());
    let wire = Wire {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: &headers,
        body: b"",
    };
    let credentials = shared.credentials();
    let mut params = shared.verifier(&credentials).verify_query(&wire)?;
    let arn = params
        .remove("X-Amz-ChannelARN")
        .filter(|arn| is_arn(arn))
        .ok_or_else(|| ApiError::invalid_argument("X-Amz-ChannelARN is not a channel's ARN."))?;
    let client_id = params.remove("X-Amz-ClientId");
    if client_id.as_deref().is_some_and(|id| !wire::is_client_id(id)) {
        return Err(ApiError::invalid_argument(
            "X-Amz-ClientId must be 1 to 256 characters of [a-zA-Z0-9_.-] and must not start \
             with AWS_.",
        ));
    }
    let version = headers.get("sec-websocket-version").map(String::as_str);
    let key = request.headers().get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let (Some("13"), Some(key)) = (version, key) else {
        return Err(ApiError::invalid_argument("This is no WebSocket handshake of version 13."));
    };
    if arn.split(':').nth(4) != Some(shared.config.account.as_str()) {
        return Err(ApiError::denied(
            Api::Connect,
            "The caller is not authorized to access the channel or the token has expired.",
        ));
    }
    let now = Instant::now();
    let channel = {
        let mut channels = lock(&shared.channels);
        let channel = channels.by_arn(&arn, now)?;
        channel.need_active(now).map_err(|_| ApiError::not_found("The channel is not active."))?;
        channel.name.clone()
    };
    Ok((Target { arn, channel, client_id }, key.to_owned()))
}

fn admit(
    shared: &Shared,
    target: &Target,
    call: &'static str,
    peer: SocketAddr,
) -> Result<Connection, ApiError> {
    let quotas = &shared.config.quotas;
    if !shared.within_quota(call, &target.arn, quotas.connects_per_second) {
        return Err(ApiError::throttled());
    }
    let joining = Joining {
        arn: &target.arn,
        channel: &target.channel,
        client_id: target.client_id.as_deref(),
        peer,
    };
    let viewers_max = quotas.enabled.then_some(quotas.viewers_max);
    lock(&shared.relay)
        .join(&joining, viewers_max, &shared.config.unknowns, Instant::now())
        .ok_or_else(ApiError::viewer_limit)
}

fn refuse(shared: &Shared, call: &str, error: &ApiError) -> Reply {
    shared.count(call, true);
    tracing::info!(call, error = %error.kind, reason = error.message, "upgrade refused");
    reply::error_reply(shared, Api::Connect, error)
}
