//! Fuzz target for service responses that this project parses itself: refused upgrades, and the
//! endpoints that the control plane returns.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use kvs_wire::presign::EXPIRES;
use kvs_wire::{ServiceError, SignedWith};
use signaling_aws::presign::Connect;

use super::redacted;

/// The maximum length in bytes of a text that is made from a service response: a sentence of this
/// project, and an excerpt of the response.
const TOLD_MAX: usize = 1200;

/// Checks that a refusal becomes a short text without secrets, and that a URL is signed only for an
/// endpoint that may receive it.
pub fn service(bytes: &[u8]) {
    let (status, rest) = bytes.split_at(bytes.len().min(2));
    let status = status.iter().fold(0, |sum: u16, byte| sum << 8 | u16::from(*byte));
    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (name, body) = rest.split_at(line);
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
    for name in [None, name] {
        let error = ServiceError::from_response(status, name, body);
        let failure = error.failure(SignedWith::Unknown, redacted);
        let reported = [Some(failure.detail.as_ref()), failure.api_name.as_deref()];
        for text in reported.into_iter().flatten() {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.len() <= TOLD_MAX, "{} bytes", text.len());
            assert!(!text.contains("X-Amz-") && !text.contains("AWS4-HMAC"), "{text:?}");
        }
    }
    if let Ok(endpoint) = std::str::from_utf8(bytes) {
        signed(endpoint);
    }
}

fn signed(endpoint: &str) {
    let token = Some("tokencanary".to_owned());
    let credentials = Credentials::new("AKID", "keycanary", token, None, "fuzz");
    let connect = Connect {
        endpoint,
        channel_arn: "arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1",
        client_id: Some("viewer"),
        region: "us-west-2",
        credentials: &credentials,
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_575_158_400),
    };
    let Ok(url) = connect.sign() else { return };
    let text = url.expose();
    assert!(text.is_ascii() && !text.contains(|c: char| c.is_control() || c == ' '), "{text:?}");
    let is_tls = text.starts_with("wss://");
    assert!(is_tls || text.starts_with("ws://"), "{text:?}");
    let (place, query) = text.split_once('?').expect("a query");
    assert!(query.contains(&format!("X-Amz-Expires={}&", EXPIRES.as_secs())), "{query}");
    assert!(!text.contains("keycanary"), "a URL never holds the key");
    if !is_tls {
        let local = ["127.", "localhost", "[::1]"].iter().any(|local| place.contains(local));
        assert!(local, "a token in the clear, to {place:?}");
    }
}
