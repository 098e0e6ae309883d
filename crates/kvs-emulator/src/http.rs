//! Routes HTTP requests: health, the admin API, the REST calls and the upgrade.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::authority::is_authority;
use crate::call_faults::{self, Reaction};
use crate::connections::{self, OnConnection};
use crate::error::{Api, ApiError};
use crate::fault::CallFacts;
use crate::peer::Peer;
use crate::reply::{Reply, Reset, decorate, error_reply, header_map, json_reply, read, set};
use crate::shared::Shared;
use crate::sigv4::Wire;
use crate::{admin, calls, upgrade};

/// Answers one request, and adds it to the connection's log.
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

/// Returns a request's name for the log: its API name, or a name for the emulator's own requests.
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
        match call_faults::apply(shared, api, action).await? {
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
        shared.verifier(&credentials).verify_header(&wire)?;
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

/// The channel and the client id in a call's body, if any.
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

/// Answers the CORS preflight that precedes a request with an `Authorization` header.
fn preflight(shared: &Shared, headers: &HeaderMap) -> Reply {
    let mut reply = decorate(shared, Response::new(Full::new(Bytes::new())));
    set(&mut reply, "access-control-allow-methods", "POST, GET, OPTIONS");
    set(
        &mut reply,
        "access-control-allow-headers",
        "authorization, content-type, x-amz-date, x-amz-security-token, x-amz-user-agent, \
         x-amz-content-sha256, amz-sdk-invocation-id, amz-sdk-request",
    );
    // Without this header a browser blocks requests of public sites to this machine.
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
