//! Errors of AWS and of the network as a session's [`Failure`]s.
//!
//! No message contains a URL or a header: those may be signed.

use std::error::Error;
use std::io;

use kvs_wire::{ServiceError, SignedWith, TEXT_CHARS_MAX, displayable};
use negotiation_core::{Failure, FailureCode};
use tokio_tungstenite::tungstenite;
use viewer_session::redact;

/// An error below HTTP; [`transport`] maps it to a failure.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Maps a refusal of the service to a session's failure.
pub(crate) fn service(error: &ServiceError) -> Failure {
    error.failure(SignedWith::Unknown, redacted)
}

/// As [`service`], for a request that was signed with a session token, or without one.
pub(crate) fn signed(error: &ServiceError, token: bool) -> Failure {
    let signed_with = if token { SignedWith::SessionToken } else { SignedWith::AccessKey };
    error.failure(signed_with, redacted)
}

/// Makes a received text safe to display: on one line, short, without secrets, and without
/// characters that control a terminal or deceive a reader.
pub(crate) fn clean(text: &str) -> String {
    displayable(text, redacted)
}

fn redacted(text: &str) -> String {
    redact::outside(text, TEXT_CHARS_MAX)
}

/// Maps the error of a socket that could not be opened, or failed while open; upgrade refusals are
/// handled elsewhere.
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

/// Returns the failure for a socket that the service closed.
pub(crate) fn closed(code: Option<u16>) -> Failure {
    match code {
        Some(code) => Failure::new(FailureCode::Closed, format!("{CLOSED} ({code})")),
        None => Failure::new(FailureCode::Closed, CLOSED),
    }
}

const CLOSED: &str = "the service closed the socket";

/// Returns the code of the close frame by which the service ended a signaling connection; `None`
/// for every other failure, such as a broken connection.
#[must_use]
pub fn close_code(failure: &Failure) -> Option<u16> {
    let is_closed = failure.code == FailureCode::Closed;
    let code = failure.detail.strip_prefix(CLOSED).filter(|_| is_closed)?;
    code.strip_prefix(" (")?.strip_suffix(')')?.parse().ok()
}

/// Maps the error of a connection that failed below HTTP; the error's causes identify the layer.
pub(crate) fn transport(what: &str, error: &(dyn Error + 'static)) -> Failure {
    let mut code = FailureCode::Network;
    let mut reason = None;
    let mut current = Some(error);
    while let Some(cause) = current {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return match tls_is_final(tls) {
                true => Failure::new(
                    FailureCode::Tls,
                    format!(
                        "TLS with {what} failed: {}; a private authority needs a CA file",
                        clean(&tls.to_string())
                    ),
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
        let printed = cause.to_string();
        if let Some(problem) = printed.strip_prefix("tunnel error: ") {
            // A cause below may replace this reason; an error from the proxy's response has none.
            reason = Some(match problem {
                "proxy authorization required" => {
                    "the proxy requires a user name and a password".to_owned()
                }
                "unsuccessful" => "the proxy refuses to connect".to_owned(),
                other => format!("the proxy: {}", clean(other)),
            });
        }
        if printed.contains("dns error") {
            code = FailureCode::Dns;
            let named = printed.strip_prefix("dns error: ");
            reason = Some(named.map_or_else(|| "the host name does not resolve".to_owned(), clean));
            break;
        }
        current = cause.source();
    }
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Failure::new(code, format!("{what} cannot be reached{reason}"))
}

/// Whether a retry cannot succeed.
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

/// Returns the failure for something that did not arrive in time.
pub(crate) fn timed_out(what: &str) -> Failure {
    Failure::new(FailureCode::TimedOut, format!("{what} did not come in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_frame_has_a_close_code() {
        assert_eq!(close_code(&closed(Some(1001))), Some(1001));
        assert_eq!(close_code(&closed(None)), None);
        let cut = tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        assert_eq!(close_code(&socket(&tungstenite::Error::Protocol(cut))), None);
        let other = Failure::new(FailureCode::Service, "the service closed the socket (1001)");
        assert_eq!(close_code(&other), None);
    }

    #[test]
    fn error_message_has_no_secret_or_control_character() {
        use viewer_session::redact::{Origin, remember};
        let token = "tokencanary+/=0123456789";
        remember(Origin::Account, token);
        let lower = "the canonical headers were x-amz-security-token:abcdef host:h";
        for text in [
            format!("token was {token}"),
            format!("{}token was {token}", "x".repeat(TEXT_CHARS_MAX - 20)),
            "token was tokencanary%2b%2f%3d0123456789".to_owned(),
            "token was tokencanary+\\/=0123456789".to_owned(),
            format!("\u{202e}{token}\u{2028}\u{200b}"),
            lower.to_owned(),
        ] {
            let failure = service(&ServiceError::new(403, Some(token), &text));
            let printed = format!("{failure} {failure:?}");
            assert!(!printed.contains("canary") && !printed.contains("abcdef"), "{printed}");
            assert!(!printed.contains(['\u{202e}', '\u{2028}', '\u{200b}']), "{printed}");
        }
    }

    #[test]
    fn host_that_does_not_resolve_is_named() {
        let error = io::Error::other("dns error: v.example does not resolve");
        let failure = transport("the signaling socket", &error);
        assert_eq!(failure.code, FailureCode::Dns);
        assert!(failure.detail.ends_with("v.example does not resolve"), "{failure}");
    }

    #[test]
    fn refused_certificate_is_final_and_a_reset_is_not() {
        let refused = io::Error::new(
            io::ErrorKind::InvalidData,
            rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer),
        );
        assert_eq!(transport("x", &refused).code, FailureCode::Tls);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(transport("x", &reset).code, FailureCode::Network);
    }
}
