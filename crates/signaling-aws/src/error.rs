//! One table: what AWS and the network say, as the [`Failure`]s that a session knows.
//!
//! Nothing here takes a URL or a header into a message: those may be signed.

use std::error::Error;
use std::io;

use negotiation_core::{Failure, FailureCode};
use tokio_tungstenite::tungstenite;

/// Longest piece of the service's own text that goes into a message.
const TEXT_MAX: usize = 240;

/// What the service says of a request it refused.
pub(crate) fn service(status: u16, name: Option<&str>, text: &str) -> Failure {
    let name = name.map(bare_name).filter(|name| !name.is_empty());
    let lower = text.to_ascii_lowercase();
    let code = name
        .and_then(|name| by_name(name, &lower))
        .or_else(|| by_text(&lower))
        .unwrap_or_else(|| by_status(status, name.is_some()));
    let text = clean(text);
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    let failure = Failure::new(code, format!("{} (HTTP {status}){said}", advice(code)));
    match name {
        Some(name) => failure.named(clean(name)),
        None => failure,
    }
}

/// Names come as `ResourceNotFoundException`, with a suffix `:http://...`, or with a prefix `...#`.
fn bare_name(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

fn by_name(name: &str, text: &str) -> Option<FailureCode> {
    Some(match name {
        "ResourceNotFoundException" => FailureCode::NoChannel,
        "AccessDeniedException"
        | "NotAuthorizedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "AccessDenied" => by_text(text).unwrap_or(FailureCode::AccessDenied),
        "ExpiredTokenException" | "ExpiredToken" => FailureCode::ExpiredCredentials,
        "ClientLimitExceededException" | "LimitExceededException" => {
            if text.contains("viewer") {
                FailureCode::ViewerLimit
            } else {
                FailureCode::Throttled
            }
        }
        "ThrottlingException" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            FailureCode::Throttled
        }
        "InvalidClientException" => FailureCode::InvalidClientId,
        "InvalidArgumentException" | "ValidationException" => {
            if text.contains("clientid") || text.contains("client id") {
                FailureCode::InvalidClientId
            } else {
                FailureCode::InvalidArgument
            }
        }
        // The channel is being created or updated: later it may be there.
        "ResourceInUseException"
        | "SessionExpiredException"
        | "InternalFailure"
        | "ServiceUnavailable" => FailureCode::Service,
        _ => return None,
    })
}

fn by_text(text: &str) -> Option<FailureCode> {
    (text.contains("token") && text.contains("expired")).then_some(FailureCode::ExpiredCredentials)
}

/// A refusal without a name that we know. A nameless 400 is no word of the API on the arguments:
/// data-plane endpoints answer with an HTML 400 what they cannot read (kvs.md 1.4).
fn by_status(status: u16, is_named: bool) -> FailureCode {
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
        FailureCode::Throttled => "the service asks for fewer requests",
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
        | FailureCode::Port
        | FailureCode::Cancelled => "the service failed",
    }
}

/// What the service wrote, on one line and short; control characters never reach a terminal.
pub(crate) fn clean(text: &str) -> String {
    let mut out: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect();
    if out.contains("X-Amz-") || out.contains("AWS4-HMAC") {
        // Signature errors quote what was signed.
        out = "(the service quotes the signed request; left out)".to_owned();
    }
    out.trim().to_owned()
}

/// A socket that could not be opened, or failed while open; upgrade refusals are not for this.
pub(crate) fn socket(error: &tungstenite::Error) -> Failure {
    use tungstenite::Error as E;
    match error {
        E::ConnectionClosed | E::AlreadyClosed => closed(None),
        E::Io(error) => transport("the signaling socket", error),
        E::Tls(error) => transport("the signaling socket", error),
        E::Capacity(_) => {
            Failure::new(FailureCode::Service, "the service sent a message over the size limit")
        }
        E::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Failure::new(FailureCode::Closed, "the signaling socket was cut without a close")
        }
        E::Protocol(_) | E::Utf8(_) | E::AttackAttempt | E::Http(_) | E::HttpFormat(_) => {
            Failure::new(FailureCode::Service, "the service broke the WebSocket protocol")
        }
        E::WriteBufferFull(_) => {
            Failure::new(FailureCode::Network, "the signaling socket takes no more data")
        }
        E::Url(_) => Failure::new(FailureCode::Service, "the signaling endpoint is no usable URL"),
    }
}

/// The other end closed the socket.
pub(crate) fn closed(code: Option<u16>) -> Failure {
    match code {
        Some(code) => {
            Failure::new(FailureCode::Closed, format!("the service closed the socket ({code})"))
        }
        None => Failure::new(FailureCode::Closed, "the service closed the socket"),
    }
}

/// A connection that failed below HTTP: the causes inside an error say which layer it was.
pub(crate) fn transport(what: &str, error: &(dyn Error + 'static)) -> Failure {
    let mut code = FailureCode::Network;
    let mut reason = None;
    let mut current = Some(error);
    while let Some(cause) = current {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return match tls_is_final(tls) {
                true => Failure::new(
                    FailureCode::Tls,
                    format!("TLS with {what} failed: {tls}; a private authority needs a CA file"),
                ),
                false => Failure::new(FailureCode::Network, format!("TLS with {what} broke off")),
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::TimedOut {
                code = FailureCode::TimedOut;
            }
            reason = Some(io.kind().to_string());
            if let Some(inner) = io.get_ref() {
                let inner: &(dyn Error + 'static) = inner;
                current = Some(inner);
                continue;
            }
        }
        if cause.to_string().contains("dns error") {
            code = FailureCode::Dns;
            reason = Some("the host name does not resolve".to_owned());
            break;
        }
        current = cause.source();
    }
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Failure::new(code, format!("{what} cannot be reached{reason}"))
}

/// Whether trying again cannot help.
fn tls_is_final(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::UnsupportedNameType
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(_)
    )
}

/// Something did not come in time.
pub(crate) fn timed_out(what: &str) -> Failure {
    Failure::new(FailureCode::TimedOut, format!("{what} did not come in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_service_errors() {
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

    #[test]
    fn a_quoted_signature_never_gets_into_a_message() {
        let text = "The Canonical String should have been GET / X-Amz-Signature=abc";
        let failure = service(403, Some("InvalidSignatureException"), text);
        assert!(!failure.detail.contains("abc"), "{}", failure.detail);
        assert_eq!(failure.api_name.as_deref(), Some("InvalidSignatureException"));
    }

    #[test]
    fn a_refused_certificate_is_final_and_a_reset_is_not() {
        let refused = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
        );
        assert_eq!(transport("x", &refused).code, FailureCode::Tls);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(transport("x", &reset).code, FailureCode::Network);
    }
}
