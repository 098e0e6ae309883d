//! The parts of requests and responses that every kind of request has: bounded bodies, headers,
//! and the form of errors.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::error::{Api, ApiError};
use crate::shared::Shared;
use crate::sync::lock;

/// Maximum size of a request's body; AWS's largest is far smaller.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The error that ends a connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("connection reset by fault")]
pub(crate) struct Reset;

pub(crate) type Reply = Response<Full<Bytes>>;

/// Returns the headers in the form that signatures cover: names in lower case, repeated ones
/// joined.
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

/// Adds the headers of every response: the service's clock, a request id, and the CORS permission.
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

/// Returns a page as from a gateway or proxy in front of the service.
pub(crate) fn page(shared: &Shared, status: u16, content_type: &str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    set(&mut reply, "content-type", content_type);
    decorate(shared, reply)
}

pub(crate) fn set(reply: &mut Reply, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        reply.headers_mut().insert(name, value);
    }
}
