//! The upgrade of a connection to a WebSocket, over HTTP/1.1: the request, the check of the
//! response, and the body of a refusal, since the reason may be in the body only.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, DATE, HOST, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kvs_wire::ServiceError;
use negotiation_core::{Failure, FailureCode};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::error;
use crate::presign::SignedUrl;
use crate::proxy::Duplex;

/// Maximum number of bytes read of a refusal's body; the service's own have about a hundred.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// How long the client waits for a refusal's body: its status is known already.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// Why a connection did not open.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The service responded with another status than 101.
    Upgrade {
        /// The HTTP status.
        status: u16,
        /// The `Date` header, which reveals a wrong clock.
        date: Option<String>,
        /// The failure to report.
        failure: Failure,
    },
    /// There was no response.
    Transport(Failure),
}

/// Requests the upgrade. The caller limits the total time.
pub(crate) async fn upgrade(
    connection: Box<dyn Duplex>,
    url: &SignedUrl,
    config: WebSocketConfig,
) -> Result<WebSocketStream<Box<dyn Duplex>>, Refusal> {
    let key = generate_key();
    let request = request(url, &key).ok_or_else(|| broken("the signaling endpoint is no URL"))?;
    // Header names in title case, as in `Sec-Websocket-Key`: some servers do not recognize
    // hyper's lower case.
    let mut http = http1::Builder::new();
    let http = http.title_case_headers(true).handshake(TokioIo::new(connection)).await;
    let (mut sender, connection) = http.map_err(|error| unanswered(&error))?;
    // The connection must be polled for the response to arrive; its output is the bare stream.
    let mut connection = pin!(connection.without_shutdown().fuse());
    let mut bare = None;
    let mut response = pin!(sender.send_request(request));
    let response = loop {
        tokio::select! {
            biased;
            response = &mut response => break response,
            ended = &mut connection => bare = Some(ended),
        }
    };
    let mut response = response.map_err(|error| unanswered(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !is_accepted(response.headers(), &key) {
            return Err(broken("the service broke the WebSocket protocol"));
        }
        let bare = match bare {
            Some(bare) => bare,
            None => connection.await,
        };
        let bare = bare.map_err(|error| unanswered(&error))?;
        // The first messages may have arrived together with the response.
        let (stream, read) = (bare.io.into_inner(), bare.read_buf.to_vec());
        let role = Role::Client;
        return Ok(WebSocketStream::from_partially_read(stream, read, role, Some(config)).await);
    }
    let mut body = Vec::new();
    let read = read_body(&mut response, &mut body);
    tokio::select! {
        // After the timeout, the part of the body that arrived may contain the reason.
        _ = timeout(REFUSAL_PATIENCE, read) => {}
        () = async { loop { let _ = (&mut connection).await; } } => {}
    }
    Err(refusal(response.status(), response.headers(), &body))
}

fn request(url: &SignedUrl, key: &str) -> Option<Request<Empty<&'static [u8]>>> {
    let uri: Uri = url.expose().parse().ok()?;
    Request::get(uri.path_and_query()?.as_str())
        .header(HOST, uri.authority()?.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", key)
        .body(Empty::new())
        .ok()
}

/// Whether a 101 accepts the requested WebSocket (RFC 6455, 4.1).
fn is_accepted(headers: &HeaderMap, key: &str) -> bool {
    let says = |name: http::HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|v| v.trim().eq_ignore_ascii_case(token))
    };
    let accept = derive_accept_key(key.as_bytes());
    says(UPGRADE, "websocket")
        && says(CONNECTION, "upgrade")
        && headers.get("sec-websocket-accept").is_some_and(|value| value == accept.as_str())
        // The client requested neither.
        && !headers.contains_key("sec-websocket-extensions")
        && !headers.contains_key("sec-websocket-protocol")
}

/// Reads a body to its end or up to [`REFUSAL_BYTES_MAX`].
async fn read_body(response: &mut Response<Incoming>, body: &mut Vec<u8>) {
    while let Some(Ok(frame)) = response.frame().await {
        let data = frame.data_ref().map_or(&[][..], |data| data.as_ref());
        let room = REFUSAL_BYTES_MAX - body.len();
        body.extend(data.iter().take(room));
        if body.len() == REFUSAL_BYTES_MAX {
            return;
        }
    }
}

/// Maps the response that refuses an upgrade.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let name = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    Refusal::Upgrade {
        status: status.as_u16(),
        date: header(DATE).map(str::to_owned),
        failure: error::service(&ServiceError::from_response(status.as_u16(), name, body)),
    }
}

fn unanswered(error: &hyper::Error) -> Refusal {
    if error.is_parse() || error.is_incomplete_message() {
        return broken("the service did not answer the upgrade as HTTP does");
    }
    Refusal::Transport(error::transport("the signaling socket", error))
}

fn broken(problem: &str) -> Refusal {
    Refusal::Transport(Failure::new(FailureCode::Service, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_read_from_header_and_body() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Sun, 22 Nov 2026 15:56:02 GMT".parse().expect("header"));
        let body = br#"{"__type":"x#ClientLimitExceededException","Message":"too many viewers"}"#;
        let Refusal::Upgrade { status: 400, date: Some(date), failure } =
            refusal(StatusCode::BAD_REQUEST, &headers, body)
        else {
            panic!("an upgrade refusal");
        };
        assert!(date.starts_with("Sun"));
        assert_eq!(failure.code, FailureCode::ViewerLimit);
        headers.insert("x-amzn-errortype", "ResourceNotFoundException".parse().expect("header"));
        let Refusal::Upgrade { failure, .. } = refusal(StatusCode::NOT_FOUND, &headers, b"<html>")
        else {
            panic!("an upgrade refusal");
        };
        assert_eq!(failure.code, FailureCode::NoChannel);
    }

    #[test]
    fn upgrade_with_wrong_header_is_refused() {
        // RFC 6455, 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        let accepted = |headers: &[(&'static str, &'static str)]| {
            let parse = |(name, value): &(&'static str, &'static str)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            };
            is_accepted(&headers.iter().map(parse).collect(), key)
        };
        assert!(accepted(&good));
        for n in 0..good.len() {
            let mut headers = good;
            headers[n].1 = "x";
            assert!(!accepted(&headers), "{headers:?}");
            headers[n].0 = "x";
            assert!(!accepted(&headers), "{headers:?}");
        }
        for unasked in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            assert!(!accepted(&[good[0], good[1], good[2], (unasked, "x")]), "{unasked}");
        }
    }
}
