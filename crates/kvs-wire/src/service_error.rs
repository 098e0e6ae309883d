//! What an error of the service means for a session: one table of names, and rules for the rest.

use std::fmt;

use negotiation_core::{Failure, FailureCode};
use serde_json::Value;

/// Longest piece of a service's own text that [`displayable`] keeps, in characters.
pub const TEXT_CHARS_MAX: usize = 240;

/// A request or a message that the service refused.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceError {
    status: u16,
    name: Option<String>,
    text: String,
}

/// The credentials that signed a refused request. They distinguish a wrong access key id from a
/// wrong session token, which the service reports by the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedWith {
    /// The request was not signed, or the signer is unknown.
    Unknown,
    /// An access key alone.
    AccessKey,
    /// An access key with a session token.
    SessionToken,
}

impl ServiceError {
    /// An error with its HTTP status, its name (with any prefix or suffix that the service adds),
    /// and its text. The caller bounds the lengths.
    pub fn new(status: u16, name: Option<&str>, text: &str) -> Self {
        Self { status, name: name.map(str::to_owned), text: text.to_owned() }
    }

    /// Reads an HTTP response, as of a refused WebSocket upgrade: the value of the header
    /// `x-amzn-errortype`, and the body, which is JSON unless a proxy or a gateway wrote it.
    pub fn from_response(status: u16, name: Option<&str>, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |names: [&str; 2]| names.iter().find_map(|name| body.get(*name)?.as_str());
        let name = name.or_else(|| field(["__type", "code"]));
        Self::new(status, name, field(["message", "Message"]).unwrap_or_default())
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The meaning for a session.
    pub fn code(&self) -> FailureCode {
        let name = self.name.as_deref().map(bare_name).filter(|name| !name.is_empty());
        let text = self.text.to_ascii_lowercase();
        name.and_then(|name| code_of_name(name, &text))
            .or_else(|| code_of_text(&text))
            .unwrap_or_else(|| code_of_status(self.status, name.is_some()))
    }

    /// The failure of a session: its code, advice in plain words, the service's own text and name.
    ///
    /// `redact` removes secrets from a text: a service may repeat what it was sent.
    pub fn failure(&self, signed_with: SignedWith, redact: impl Fn(&str) -> String) -> Failure {
        let code = self.code();
        let name = self.name.as_deref().map(|name| displayable(name, &redact));
        let name = name.as_deref().map(bare_name).filter(|name| !name.is_empty());
        let advice = if code == FailureCode::AccessDenied {
            advice_on_credentials(name, &self.text.to_ascii_lowercase(), signed_with)
        } else {
            advice(code)
        };
        let status = self.status;
        let text = displayable(&self.text, &redact);
        let text = if text.is_empty() { text } else { format!(": {text}") };
        let failure = Failure::new(code, format!("{advice} (HTTP {status}){text}"));
        match name {
            Some(name) => failure.named(name),
            None => failure,
        }
    }
}

impl fmt::Debug for ServiceError {
    /// Without name and text: they come from outside and may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceError({:?}, HTTP {})", self.code(), self.status)
    }
}

/// A text from outside as it may be shown: redacted, without control characters, and at most
/// [`TEXT_CHARS_MAX`] characters. A text that quotes a signed request is left out.
pub fn displayable(text: &str, redact: impl Fn(&str) -> String) -> String {
    let redacted = redact(text);
    let shown = redacted.chars().map(|c| if c.is_control() { ' ' } else { c });
    let shown: String = shown.take(TEXT_CHARS_MAX).collect();
    let lower = shown.to_ascii_lowercase();
    if lower.contains("x-amz-") || lower.contains("aws4-hmac") {
        // Signature errors quote the canonical request, with the token in it.
        return "(the service quotes the signed request; left out)".to_owned();
    }
    shown.trim().to_owned()
}

/// Names come as `ResourceNotFoundException`, with a suffix `:http://...`, or with a prefix `...#`.
fn bare_name(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

/// Error names of the API, with the meaning of each.
///
/// Those of docs/kvs-protocol.md 1.3 come first, in its order; then those that every AWS service
/// uses for signatures and throttling.
const NAMES: [(&str, Meaning); 30] = [
    ("InvalidArgumentException", Meaning::Argument),
    ("ClientLimitExceededException", Meaning::Limit),
    ("ResourceNotFoundException", Meaning::Code(FailureCode::NoChannel)),
    ("AccessDeniedException", Meaning::Denied),
    ("NotAuthorizedException", Meaning::Denied),
    // The channel is being created or updated; a later attempt may succeed.
    ("ResourceInUseException", Meaning::Code(FailureCode::Service)),
    // Errors of calls that manage channels; repeating the call cannot help.
    ("VersionMismatchException", Meaning::Code(FailureCode::InvalidArgument)),
    ("AccountChannelLimitExceededException", Meaning::Code(FailureCode::InvalidArgument)),
    ("TagsPerResourceExceededLimitException", Meaning::Code(FailureCode::InvalidArgument)),
    ("NoDataRetentionException", Meaning::Code(FailureCode::InvalidArgument)),
    ("InvalidClientException", Meaning::Code(FailureCode::InvalidClientId)),
    // "Client should reconnect": the next attempt does.
    ("SessionExpiredException", Meaning::Code(FailureCode::Service)),
    ("InvalidSignatureException", Meaning::Denied),
    ("SignatureDoesNotMatch", Meaning::Denied),
    ("UnrecognizedClientException", Meaning::Denied),
    ("InvalidClientTokenId", Meaning::Denied),
    ("IncompleteSignatureException", Meaning::Denied),
    ("IncompleteSignature", Meaning::Denied),
    ("MissingAuthenticationTokenException", Meaning::Denied),
    ("MissingAuthenticationToken", Meaning::Denied),
    ("AccessDenied", Meaning::Denied),
    ("ExpiredTokenException", Meaning::Code(FailureCode::ExpiredCredentials)),
    ("ExpiredToken", Meaning::Code(FailureCode::ExpiredCredentials)),
    ("ThrottlingException", Meaning::Code(FailureCode::Throttled)),
    ("TooManyRequestsException", Meaning::Code(FailureCode::Throttled)),
    ("RequestLimitExceeded", Meaning::Code(FailureCode::Throttled)),
    ("LimitExceededException", Meaning::Limit),
    ("ValidationException", Meaning::Argument),
    ("InternalFailure", Meaning::Code(FailureCode::Service)),
    ("ServiceUnavailable", Meaning::Code(FailureCode::Service)),
];

/// The meaning of a name; for some names it depends on the text.
#[derive(Clone, Copy)]
enum Meaning {
    Code(FailureCode),
    /// A wrong argument; a wrong client id has a code of its own.
    Argument,
    /// Too many requests (temporary), or too many viewers.
    Limit,
    /// Not allowed, or the credentials expired.
    Denied,
}

fn code_of_name(name: &str, text: &str) -> Option<FailureCode> {
    let (_, means) = NAMES.iter().find(|(known, _)| *known == name)?;
    Some(match means {
        Meaning::Code(code) => *code,
        Meaning::Argument if text.contains("clientid") || text.contains("client id") => {
            FailureCode::InvalidClientId
        }
        Meaning::Argument => FailureCode::InvalidArgument,
        Meaning::Limit if text.contains("viewer") => FailureCode::ViewerLimit,
        Meaning::Limit => FailureCode::Throttled,
        Meaning::Denied => code_of_text(text).unwrap_or(FailureCode::AccessDenied),
    })
}

fn code_of_text(text: &str) -> Option<FailureCode> {
    // ConnectAsViewer uses one text for both: "not authorized ... or the token has expired".
    let expired =
        text.contains("token") && text.contains("expired") && !text.contains("not authorized");
    expired.then_some(FailureCode::ExpiredCredentials)
}

/// The meaning of an error without a known name. A 400 without any name is not about an argument:
/// data-plane endpoints answer an unreadable request with an HTML 400 (docs/kvs-protocol.md 1.4).
fn code_of_status(status: u16, is_named: bool) -> FailureCode {
    match status {
        400 if is_named => FailureCode::InvalidArgument,
        401 | 403 => FailureCode::AccessDenied,
        404 => FailureCode::NoChannel,
        408 => FailureCode::TimedOut,
        413 => FailureCode::TooBig,
        429 => FailureCode::Throttled,
        _ => FailureCode::Service,
    }
}

fn advice(code: FailureCode) -> &'static str {
    match code {
        FailureCode::NoChannel => "the channel does not exist in this region and account",
        FailureCode::AccessDenied => "the credentials are wrong or do not allow this",
        FailureCode::ExpiredCredentials => "the temporary credentials have expired",
        FailureCode::ViewerLimit => "the channel has all the viewers it admits",
        FailureCode::Throttled => "the service throttles requests",
        FailureCode::InvalidClientId => "the service refuses the client id",
        FailureCode::InvalidArgument => "the service refuses an argument",
        FailureCode::TimedOut => "the service did not answer in time",
        FailureCode::TooBig => "the message is too big for the service",
        FailureCode::NoCredentials
        | FailureCode::StorageMode
        | FailureCode::Replaced
        | FailureCode::Dns
        | FailureCode::Network
        | FailureCode::Tls
        | FailureCode::Service
        | FailureCode::Closed
        | FailureCode::NotOpen
        | FailureCode::BadDescription
        | FailureCode::Codec
        | FailureCode::LocalMedia
        | FailureCode::AddressPolicy
        | FailureCode::Port
        | FailureCode::Cancelled => "the service failed",
    }
}

/// Names the credential that a refusal is about, as far as its name and text identify it.
fn advice_on_credentials(name: Option<&str>, text: &str, signed_with: SignedWith) -> &'static str {
    let by_name = match name {
        // "Credential should be scoped to a valid region, not 'us-west-2'."
        _ if text.contains("scoped to") && text.contains("region") => {
            Some("the request was signed for another region than the endpoint's: check the region")
        }
        // "Signature expired: 20201101T... is now earlier than ..."
        Some("InvalidSignatureException" | "SignatureDoesNotMatch")
            if text.contains("signature expired") || text.contains("not yet current") =>
        {
            Some("the clock of this machine is wrong by minutes")
        }
        Some("InvalidSignatureException" | "SignatureDoesNotMatch") => {
            Some("the secret access key is not the one of this access key id")
        }
        // "The security token included in the request is invalid", also where there is none.
        Some("UnrecognizedClientException" | "InvalidClientTokenId") => match signed_with {
            SignedWith::SessionToken => Some(
                "the session token is not valid, or no longer, or belongs to another access key: \
                 get new temporary credentials",
            ),
            SignedWith::AccessKey => Some(
                "the access key id does not exist; one that begins with ASIA also needs its \
                 session token",
            ),
            SignedWith::Unknown => None,
        },
        Some(_) | None => None,
    };
    by_name.unwrap_or(advice(FailureCode::AccessDenied))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(status: u16, name: Option<&str>, text: &str) -> Failure {
        ServiceError::new(status, name, text).failure(SignedWith::Unknown, str::to_owned)
    }

    // Shows: 46.
    #[test]
    fn known_errors_have_their_codes() {
        for (status, name, text, code) in [
            (404, Some("ResourceNotFoundException"), "", FailureCode::NoChannel),
            (401, Some("AccessDeniedException"), "no", FailureCode::AccessDenied),
            (401, Some("NotAuthorizedException"), "no", FailureCode::AccessDenied),
            (403, None, "Forbidden", FailureCode::AccessDenied),
            (
                403,
                Some("com.amazon.coral#ExpiredTokenException:http://x"),
                "",
                FailureCode::ExpiredCredentials,
            ),
            (
                403,
                Some("UnrecognizedClientException"),
                "The security token included in the request is expired",
                FailureCode::ExpiredCredentials,
            ),
            (
                400,
                Some("ClientLimitExceededException"),
                "Maximum number of Viewers reached",
                FailureCode::ViewerLimit,
            ),
            (
                403,
                Some("AccessDeniedException"),
                "not authorized to access the channel or the token has expired",
                FailureCode::AccessDenied,
            ),
            (400, Some("ClientLimitExceededException"), "Rate exceeded", FailureCode::Throttled),
            (400, Some("InvalidArgumentException"), "bad ARN", FailureCode::InvalidArgument),
            (400, Some("InvalidArgumentException"), "ClientId", FailureCode::InvalidClientId),
            (400, Some("ResourceInUseException"), "", FailureCode::Service),
            (429, None, "", FailureCode::Throttled),
            (503, None, "<html>", FailureCode::Service),
            (400, None, "", FailureCode::Service),
            (400, Some("SomethingNewException"), "", FailureCode::InvalidArgument),
        ] {
            assert_eq!(service(status, name, text).code, code, "{status} {name:?} {text}");
        }
    }

    /// The list of docs/kvs-protocol.md 1.3 (N16, scenario 43).
    // Shows: N16, 43.
    #[test]
    fn api_error_has_its_kind_and_name() {
        use negotiation_core::FailureKind::{Permanent, Throttled, Transient};
        for (name, status, kind) in [
            ("InvalidArgumentException", 400, Permanent),
            ("ClientLimitExceededException", 400, Throttled),
            ("ResourceNotFoundException", 404, Permanent),
            ("AccessDeniedException", 401, Permanent),
            ("AccessDeniedException", 403, Permanent),
            ("NotAuthorizedException", 401, Permanent),
            ("ResourceInUseException", 400, Transient),
            ("VersionMismatchException", 400, Permanent),
            ("AccountChannelLimitExceededException", 400, Permanent),
            ("TagsPerResourceExceededLimitException", 400, Permanent),
            ("NoDataRetentionException", 400, Permanent),
            ("InvalidClientException", 400, Permanent),
            ("SessionExpiredException", 400, Transient),
            ("ExpiredTokenException", 403, Permanent),
            ("InvalidSignatureException", 403, Permanent),
        ] {
            let failure = service(status, Some(name), "");
            assert_eq!((name, failure.kind()), (name, kind));
            assert_eq!(failure.api_name.as_deref(), Some(name));
            assert!(code_of_name(name, "").is_some(), "{name} is in the table");
        }
        for (n, (name, _)) in NAMES.iter().enumerate() {
            assert!(NAMES[n + 1..].iter().all(|(other, _)| other != name), "{name} occurs twice");
        }
    }

    #[test]
    fn text_that_quotes_a_signature_is_left_out() {
        let text = "The Canonical String should have been GET / X-Amz-Signature=abc";
        let failure = service(403, Some("InvalidSignatureException"), text);
        assert!(!failure.detail.contains("abc"), "{}", failure.detail);
        assert_eq!(failure.api_name.as_deref(), Some("InvalidSignatureException"));
    }

    #[test]
    fn wrong_credentials_are_identified_by_name_and_text() {
        let detail = |name, text, signed_with| {
            let error = ServiceError::new(403, Some(name), text);
            error.failure(signed_with, str::to_owned).detail
        };
        let invalid = "The security token included in the request is invalid";
        let (key, token) = (SignedWith::AccessKey, SignedWith::SessionToken);
        for (name, text, signed_with, expected) in [
            ("UnrecognizedClientException", invalid, token, "session token is not valid"),
            ("UnrecognizedClientException", invalid, key, "access key id does not exist"),
            ("InvalidClientTokenId", invalid, token, "session token is not valid"),
            ("InvalidSignatureException", "The request signature we", token, "secret access key"),
            ("InvalidSignatureException", "Signature expired: 2020", key, "clock"),
            (
                "SignatureDoesNotMatch",
                "Credential should be scoped to a valid region, not 'us-east-1'.",
                key,
                "another region",
            ),
            ("AccessDeniedException", "not authorized to perform", token, "do not allow this"),
        ] {
            let detail = detail(name, text, signed_with);
            assert!(detail.contains(expected), "{name} {text}: {detail}");
        }
        let of_a_frame = service(403, Some("UnrecognizedClientException"), invalid).detail;
        assert!(of_a_frame.contains("wrong or do not allow"), "{of_a_frame}");
    }

    #[test]
    fn response_gives_name_and_text_from_header_or_body() {
        let body = br#"{"__type":"x#ClientLimitExceededException","Message":"too many viewers"}"#;
        let error = ServiceError::from_response(400, None, body);
        assert_eq!(error.code(), FailureCode::ViewerLimit);
        let error = ServiceError::from_response(404, Some("ResourceNotFoundException"), b"<html>");
        assert_eq!((error.status(), error.code()), (404, FailureCode::NoChannel));
    }

    #[test]
    fn name_and_text_are_redacted_bounded_and_printable() {
        let text = format!("line\none {}canary", "x".repeat(2 * TEXT_CHARS_MAX));
        let error = ServiceError::new(403, Some("canary\u{7}"), &text);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        let failure = error.failure(SignedWith::Unknown, |text| text.replace("canary", "[secret]"));
        assert_eq!(failure.api_name.as_deref(), Some("[secret]"));
        assert!(failure.detail.contains("line one"), "{failure}");
        assert!(failure.detail.chars().count() < TEXT_CHARS_MAX + 100, "{failure}");
    }
}
