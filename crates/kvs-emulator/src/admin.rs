//! The admin API: faults, clients, channels and the clock, for loopback peers alone.
//!
//! Its requests carry no signature, so a web page must not reach it either: it refuses a request
//! with an `Origin`, which a browser sets, and a request to a host name that is not this machine's
//! own (a page can make its own name resolve to loopback).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::OFFSET_SECS;
use crate::config::{TTL_SECS, WIRE_RTT_MAX};
use crate::error::{Api, ApiError};
use crate::fault::{Fault, Injection, MENU, Role, Then};
use crate::reply::{self, Reply};
use crate::shared::{ServiceMessage, Shared};
use crate::socket_actions;
use crate::sync::lock;

/// The clients that a request applies to; with no field set, all of the channel.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    role: Option<Role>,
    client_id: Option<String>,
    /// Absent: TCP ends without a close frame.
    code: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Send {
    role: Option<Role>,
    client_id: Option<String>,
    /// `GO_AWAY` or `RECONNECT_ICE_SERVER`.
    #[serde(rename = "type")]
    message_type: Option<String>,
    /// Any text frame.
    raw: Option<String>,
    /// Other frames that no client sent.
    inject: Option<Injection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Do {
    role: Option<Role>,
    client_id: Option<String>,
    then: Then,
}

/// The client that the storage service sends a new offer; absent, the master.
#[cfg(feature = "storage")]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    client_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    ttl_secs: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    rtt_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    access_key_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    offset_secs: i64,
}

/// The form of the admin API's errors.
const FORM: Api = Api::ControlPlane;
/// The longest wait for an event.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Answers an admin request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let headers = request.headers();
    let allowed = peer.ip().to_canonical().is_loopback()
        && !headers.contains_key("origin")
        && headers.get("host").and_then(|host| host.to_str().ok()).is_some_and(is_local);
    if !allowed {
        let error = ApiError::new(403, "AccessDeniedException", "The admin API is for loopback.");
        return reply::error_reply(shared, FORM, &error);
    }
    let (parts, body) = request.into_parts();
    let (method, path) = (&parts.method, parts.uri.path());
    let result = match reply::read(body).await {
        Ok(_) if method == Method::GET && path == "/admin/connections" => {
            connections(shared, parts.uri.query().unwrap_or_default())
        }
        Ok(_) if method == Method::GET && path == "/admin/events" => {
            events(shared, parts.uri.query().unwrap_or_default()).await
        }
        Ok(body) => route(shared, method, path, &body),
        Err(error) => Err(error),
    };
    match result {
        Ok(value) => reply::json_reply(shared, StatusCode::OK, &value),
        Err(error) => reply::error_reply(shared, FORM, &error),
    }
}

/// Whether a `Host` is an address or `localhost`, with a port or without.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Returns the events after number N (`after=N`), and waits up to M ms for one (`wait_ms=M`).
async fn events(shared: &Shared, query: &str) -> Result<Value, ApiError> {
    let (mut after, mut wait) = (0, Duration::ZERO);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let number: u64 =
            value.parse().map_err(|_| ApiError::invalid_argument(format!("{name}: a number")))?;
        match name {
            "after" => after = number,
            "wait_ms" => wait = Duration::from_millis(number).min(WAIT_MAX),
            _ => return Err(ApiError::invalid_argument("after and wait_ms can be given")),
        }
    }
    let waited = tokio::time::timeout(wait, shared.events.next(after)).await;
    Ok(json!({ "events": waited.unwrap_or_default() }))
}

/// Returns the connection events after number N (`after=N`).
fn connections(shared: &Shared, query: &str) -> Result<Value, ApiError> {
    let after = match query.split_once('=') {
        None => 0,
        Some(("after", number)) => {
            number.parse().map_err(|_| ApiError::invalid_argument("after: a number"))?
        }
        Some(_) => return Err(ApiError::invalid_argument("after can be given")),
    };
    Ok(json!({ "events": shared.connections.after(after) }))
}

fn route(
    shared: &Arc<Shared>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Result<Value, ApiError> {
    let segments: Vec<&str> = path.split('/').skip(2).filter(|part| !part.is_empty()).collect();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["menu"]) => Ok(json!({ "menu": MENU })),
        ("GET", ["faults"]) => Ok(json!({ "faults": shared.faults.list() })),
        ("POST", ["faults"]) => {
            let fault: Fault = parse(body)?;
            let id = shared.faults.add(fault).map_err(ApiError::invalid_argument)?;
            Ok(json!({ "id": id }))
        }
        ("DELETE", ["faults"]) => {
            shared.faults.clear();
            Ok(json!({}))
        }
        ("DELETE", ["faults", id]) => {
            if shared.faults.remove(number(id)?) {
                Ok(json!({}))
            } else {
                Err(no_such("fault"))
            }
        }
        ("POST", ["faults", id, "release"]) => {
            Ok(json!({ "released": shared.release(number(id)?) }))
        }
        ("GET", ["clients"]) => {
            Ok(json!({ "clients": lock(&shared.relay).clients(Instant::now()) }))
        }
        ("GET", ["calls"]) => Ok(json!({ "calls": shared.calls() })),
        ("GET", ["channels"]) => Ok(json!({ "channels": lock(&shared.channels).arns() })),
        ("POST", ["channels", name, "disconnect"]) => {
            let who: Disconnect =
                if body.is_empty() { Disconnect::default() } else { parse(body)? };
            let then = who.code.map_or(Then::Cut, Then::CloseWith);
            let (role, id) = (who.role, who.client_id.as_deref());
            let count =
                socket_actions::apply_to_channel(shared, &arn_of(shared, name)?, role, id, &then);
            Ok(json!({ "disconnected": count }))
        }
        ("POST", ["channels", name, "do"]) => {
            let order: Do = parse(body)?;
            order.then.check().map_err(ApiError::invalid_argument)?;
            let (role, id) = (order.role, order.client_id.as_deref());
            let count = socket_actions::apply_to_channel(
                shared,
                &arn_of(shared, name)?,
                role,
                id,
                &order.then,
            );
            Ok(json!({ "done": count }))
        }
        ("POST", ["channels", name, "send"]) => {
            let send: Send = parse(body)?;
            let message = match (send.message_type.as_deref(), send.raw, send.inject) {
                (Some("GO_AWAY"), None, None) => ServiceMessage::GoAway,
                (Some("RECONNECT_ICE_SERVER"), None, None) => ServiceMessage::ReconnectIceServer,
                (None, Some(text), None) => ServiceMessage::Raw(text),
                (None, None, Some(what)) => ServiceMessage::Injected(what),
                (_, _, _) => {
                    return Err(ApiError::invalid_argument(
                        "give one: raw, inject or a type, GO_AWAY or RECONNECT_ICE_SERVER",
                    ));
                }
            };
            let then = message.then();
            then.check().map_err(ApiError::invalid_argument)?;
            let (role, id) = (send.role, send.client_id.as_deref());
            let sent =
                socket_actions::apply_to_channel(shared, &arn_of(shared, name)?, role, id, &then);
            Ok(json!({ "sent": sent }))
        }
        #[cfg(feature = "storage")]
        ("POST", ["channels", name, "offer"]) => {
            let whom: Offer = if body.is_empty() { Offer::default() } else { parse(body)? };
            let arn = arn_of(shared, name)?;
            let offered = crate::storage::offer_again(shared, &arn, whom.client_id.as_deref());
            if offered { Ok(json!({})) } else { Err(no_such("client of the storage session")) }
        }
        ("POST", ["turn"]) => {
            let turn: Turn = parse(body)?;
            if !TTL_SECS.contains(&turn.ttl_secs) {
                return Err(ApiError::invalid_argument("ttl_secs must be 30 to 86400"));
            }
            shared.set_turn_ttl_secs(turn.ttl_secs);
            Ok(json!({}))
        }
        ("POST", ["wire"]) => {
            let wire: Wire = parse(body)?;
            let rtt = Duration::from_millis(wire.rtt_ms);
            if rtt > WIRE_RTT_MAX {
                return Err(ApiError::invalid_argument("rtt_ms must be at most 10000"));
            }
            shared.set_wire_rtt(rtt);
            Ok(json!({}))
        }
        ("POST", ["credentials", "expire"]) => {
            let expire: Expire = parse(body)?;
            if shared.expire_credential(&expire.access_key_id, i64::MIN) {
                Ok(json!({}))
            } else {
                Err(no_such("credential"))
            }
        }
        ("POST", ["clock"]) => {
            let clock: Clock = parse(body)?;
            if !OFFSET_SECS.contains(&clock.offset_secs) {
                return Err(ApiError::invalid_argument("offset_secs is out of range"));
            }
            shared.clock.set_offset_secs(clock.offset_secs);
            Ok(json!({}))
        }
        _ => Err(no_such("admin resource")),
    }
}

fn arn_of(shared: &Shared, name: &str) -> Result<String, ApiError> {
    Ok(lock(&shared.channels).by_name(name, Instant::now())?.arn.clone())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid_argument(error.to_string()))
}

fn number(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| no_such("fault"))
}

fn no_such(what: &str) -> ApiError {
    ApiError::not_found(format!("no such {what}"))
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn foreign_host_name_is_not_local() {
        for host in
            ["localhost", "localhost:1", "127.0.0.1:4700", "[::1]:4700", "[::1]", "10.0.0.1"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["example.com", "example.com:4700", "localhost.example.com", "", ":1"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
