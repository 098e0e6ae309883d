//! From an HTTP request to a response: health, the admin API, the REST calls and the upgrade.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::config::{Credential, is_authority};
use crate::connections::{self, OnConnection, OpenConnection};
use crate::error::{Api, ApiError};
use crate::fault::{Action, CallFacts};
use crate::shared::Shared;
use crate::sigv4::{SERVICE, Verifier, Wire};
use crate::sync::lock;
use crate::{admin, calls, upgrade};

/// A request's body; AWS's largest is well below.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The connection is to end without a response.
#[derive(Debug, thiserror::Error)]
#[error("connection reset by fault")]
pub(crate) struct Reset;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    /// Its place among the connections at a time: a socket keeps it for as long as it lives.
    pub(crate) slot: Arc<OwnedSemaphorePermit>,
    /// Its number among the connections; the last copy of it notes the end.
    pub(crate) connection: Arc<OpenConnection>,
}

pub(crate) type Reply = Response<Full<Bytes>>;

/// Answers one request, and notes it among what the connection carried.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Reply, Reset> {
    let tcp = peer.connection.tcp;
    let authorization = request.headers().get("authorization").and_then(|text| text.to_str().ok());
    let access_key =
        connections::access_key(authorization, request.uri().query().unwrap_or_default());
    let call = request_name(&request).to_owned();
    shared.connections.note(tcp, OnConnection::Request { call, access_key });
    let reply = answer(&shared, peer, request).await;
    let status = reply.as_ref().ok().map(|reply| reply.status().as_u16());
    shared.connections.note(tcp, OnConnection::Response { status });
    reply
}

/// What a request is for: an API's name, or what else the emulator answers.
fn request_name(request: &Request<Incoming>) -> &'static str {
    let (path, method) = (request.uri().path(), request.method());
    if path == "/health" {
        return "health";
    }
    if is_admin(path) {
        return "admin";
    }
    if method == Method::OPTIONS {
        return "preflight";
    }
    if upgrade::is_upgrade(request) {
        let query = request.uri().query().unwrap_or_default();
        let is_viewer = query.split('&').any(|pair| pair.starts_with("X-Amz-ClientId="));
        return if is_viewer { "ConnectAsViewer" } else { "ConnectAsMaster" };
    }
    calls::find(path).filter(|_| method == Method::POST).map_or("unknown", |call| call.name)
}

fn is_admin(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

async fn answer(
    shared: &Arc<Shared>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Reply, Reset> {
    let path = request.uri().path().to_owned();
    if path == "/health" {
        return Ok(json_reply(shared, StatusCode::OK, &json!({ "status": "ok" })));
    }
    if is_admin(&path) {
        return Ok(admin::handle(shared, peer.addr, request).await);
    }
    if request.method() == Method::OPTIONS {
        return Ok(preflight(shared, request.headers()));
    }
    if upgrade::is_upgrade(&request) {
        return upgrade::handle(shared, peer, request).await;
    }
    call(shared, request).await
}

async fn call(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Reset> {
    let method = request.method().clone();
    let call = calls::find(request.uri().path()).filter(|_| method == Method::POST);
    let (api, name) = call.map_or((Api::ControlPlane, "unknown"), |call| (call.api, call.name));
    let (parts, body) = request.into_parts();
    let body = read(body).await;
    let (channel, client_id) = body.as_ref().map(|body| named(body)).unwrap_or_default();
    let facts = CallFacts { name, client_id: client_id.as_deref(), channel: channel.as_deref() };
    let mut turn_age_secs = 0;
    if let Some((_, action)) = shared.faults.for_call(&facts) {
        match strike(shared, api, action).await? {
            Reaction::GoOn => {}
            Reaction::TurnAge(secs) => turn_age_secs = secs,
            Reaction::Answer(reply) => {
                shared.count(name, true);
                return Ok(reply);
            }
        }
    }
    let result = body.and_then(|body| {
        let headers = header_map(&parts.headers);
        let wire = Wire {
            method: method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &headers,
            body: &body,
        };
        let credentials = shared.credentials();
        verifier(shared, &credentials).verify_header(&wire)?;
        let call = call
            .ok_or_else(|| ApiError::new(404, "UnknownOperationException", "No such operation."))?;
        let authority = authority(shared, &headers)?;
        let caller = calls::Caller { shared, call, authority: &authority, turn_age_secs };
        calls::run(&caller, &body)
    });
    shared.count(name, result.is_err());
    Ok(match result {
        Ok(value) => json_reply(shared, StatusCode::OK, &value),
        Err(error) => {
            tracing::info!(call = name, error = %error.kind, reason = error.message, "call refused");
            error_reply(shared, api, &error)
        }
    })
}

/// What a fault makes of a call or an upgrade.
pub(crate) enum Reaction {
    /// It goes on.
    GoOn,
    /// It goes on with TURN credentials of this age.
    TurnAge(u32),
    /// It is answered.
    Answer(Reply),
}

/// Every fault of a call or an upgrade, and what it does.
pub(crate) async fn strike(
    shared: &Arc<Shared>,
    api: Api,
    action: Action,
) -> Result<Reaction, Reset> {
    let refused = |error: &ApiError| Ok(Reaction::Answer(error_reply(shared, api, error)));
    match action {
        Action::Refuse { status, error, message } => {
            refused(&ApiError::new(status, error, message))
        }
        Action::Throttle => refused(&ApiError::throttled()),
        Action::ViewerLimit => refused(&ApiError::viewer_limit()),
        Action::ExpiredToken => refused(&ApiError::expired_token()),
        Action::Page { status, body, content_type } => {
            Ok(Reaction::Answer(page(shared, status, &content_type, Bytes::from(body))))
        }
        Action::Garbage => {
            let body = Bytes::from_static(b"<html>\x00 not what you asked for");
            Ok(Reaction::Answer(page(shared, 200, "application/json", body)))
        }
        Action::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(Reaction::GoOn)
        }
        Action::Hang { ms: Some(ms) } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Err(Reset)
        }
        Action::Hang { ms: None } => std::future::pending().await,
        Action::Reset => Err(Reset),
        Action::TurnAge { secs } => Ok(Reaction::TurnAge(secs)),
        // Those of messages, and what is done once the socket is open.
        Action::Drop
        | Action::Duplicate { .. }
        | Action::Reorder { .. }
        | Action::Hold
        | Action::Away
        | Action::Corrupt { .. }
        | Action::Replay { .. }
        | Action::Sender { .. }
        | Action::Inject { .. }
        | Action::Status { .. }
        | Action::CloseSocket { .. }
        | Action::Socket { .. }
        | Action::After { .. } => Ok(Reaction::GoOn),
    }
}

fn page(shared: &Shared, status: u16, content_type: &str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    set(&mut reply, "content-type", content_type);
    decorate(shared, reply)
}

/// The channel and the client id that a call names, whatever else it may be.
fn named(body: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else { return (None, None) };
    let text = |name: &str| {
        let found = object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let of_arn = text("ChannelARN").and_then(|arn| arn.split('/').nth(1));
    let channel = of_arn.or(text("ChannelName")).map(str::to_owned);
    (channel, text("ClientId").map(str::to_owned))
}

pub(crate) fn verifier<'a>(shared: &'a Shared, credentials: &'a [Credential]) -> Verifier<'a> {
    Verifier {
        credentials,
        region: &shared.config.region,
        service: SERVICE,
        now: shared.clock.now(),
        expires_max_secs: shared.config.unknowns.presigned_url_max_secs,
    }
}

/// Names in lower case, repeated ones joined: what signatures are computed over.
pub(crate) fn header_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut out = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        out.entry(name.as_str().to_owned())
            .and_modify(|joined| {
                joined.push(',');
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    out
}

/// Reads a body within bounds of size and time.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let reading = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(_)) => Err(ApiError::new(413, "RequestEntityTooLargeException", "Body too large.")),
        Err(_) => Err(ApiError::new(408, "RequestTimeoutException", "Body took too long.")),
    }
}

pub(crate) fn json_reply(shared: &Shared, status: StatusCode, value: &Value) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(value.to_string())));
    *reply.status_mut() = status;
    decorate(shared, reply)
}

pub(crate) fn error_reply(shared: &Shared, api: Api, error: &ApiError) -> Reply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let member = error.member(api);
    let mut reply = json_reply(shared, status, &json!({ member: error.message }));
    set(&mut reply, "x-amzn-errortype", &error.kind);
    reply
}

/// The headers of every response: the service's clock, a request id, and leave for browsers.
pub(crate) fn decorate(shared: &Shared, mut reply: Reply) -> Reply {
    let request_id = lock(&shared.random).request_id();
    set(&mut reply, "date", &shared.clock.now().http_date());
    set(&mut reply, "x-amzn-requestid", &request_id);
    if !reply.headers().contains_key("content-type") {
        set(&mut reply, "content-type", "application/json");
    }
    set(&mut reply, "access-control-allow-origin", "*");
    set(&mut reply, "access-control-expose-headers", "x-amzn-RequestId,x-amzn-ErrorType,Date");
    reply
}

/// A browser asks before it sends an `Authorization` header elsewhere.
fn preflight(shared: &Shared, headers: &HeaderMap) -> Reply {
    let mut reply = decorate(shared, Response::new(Full::new(Bytes::new())));
    set(&mut reply, "access-control-allow-methods", "POST, GET, OPTIONS");
    set(
        &mut reply,
        "access-control-allow-headers",
        "authorization, content-type, x-amz-date, x-amz-security-token, x-amz-user-agent, \
         x-amz-content-sha256, amz-sdk-invocation-id, amz-sdk-request",
    );
    // Without it a browser keeps pages of public sites away from this machine.
    let origin = headers.get("origin").and_then(|origin| origin.to_str().ok());
    if origin.is_some_and(|origin| shared.config.allowed_origins.iter().any(|o| o == origin)) {
        set(&mut reply, "access-control-allow-private-network", "true");
    }
    set(&mut reply, "vary", "Origin");
    set(&mut reply, "access-control-max-age", "600");
    reply
}

fn authority(shared: &Shared, headers: &BTreeMap<String, String>) -> Result<String, ApiError> {
    let host = shared.config.advertised_authority.as_ref().or_else(|| headers.get("host"));
    host.filter(|host| is_authority(host))
        .cloned()
        .ok_or_else(|| ApiError::invalid_argument("The Host header is not valid."))
}

fn set(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        reply.headers_mut().insert(name, value);
    }
}
