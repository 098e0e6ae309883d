//! One table: what AWS and the network say, as the [`Failure`]s that a session knows.
//!
//! Nothing here takes a URL or a header into a message: those may be signed.

use std::error::Error;
use std::io;

use negotiation_core::{Failure, FailureCode};
use tokio_tungstenite::tungstenite;
use viewer_session::redact;

/// What goes wrong below HTTP; [`transport`] reads it.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Longest piece of the service's own text that goes into a message.
const TEXT_MAX: usize = 240;

/// What the service says of a request it refused.
pub(crate) fn service(status: u16, name: Option<&str>, text: &str) -> Failure {
    refused(status, name, text, None)
}

/// As [`service`], for a request that was signed: with a session token, or without one.
pub(crate) fn signed(status: u16, name: Option<&str>, text: &str, token: bool) -> Failure {
    refused(status, name, text, Some(token))
}

fn refused(status: u16, name: Option<&str>, text: &str, token: Option<bool>) -> Failure {
    let name = name.map(clean);
    let name = name.as_deref().map(bare_name).filter(|name| !name.is_empty());
    let lower = text.to_ascii_lowercase();
    let code = name
        .and_then(|name| by_name(name, &lower))
        .or_else(|| by_text(&lower))
        .unwrap_or_else(|| by_status(status, name.is_some()));
    let is_denied = code == FailureCode::AccessDenied;
    let advice = if is_denied { denied(name, &lower, token) } else { advice(code) };
    let text = clean(text);
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    let failure = Failure::new(code, format!("{advice} (HTTP {status}){said}"));
    match name {
        Some(name) => failure.named(name),
        None => failure,
    }
}

/// Names come as `ResourceNotFoundException`, with a suffix `:http://...`, or with a prefix `...#`.
fn bare_name(name: &str) -> &str {
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

/// The service's own names for its errors, with what each means for a session.
///
/// Those of docs/kvs-protocol.md 1.3 come first, in its order; then those of the signature, which
/// every service of AWS has.
const NAMES: [(&str, Means); 30] = [
    ("InvalidArgumentException", Means::Argument),
    ("ClientLimitExceededException", Means::Limit),
    ("ResourceNotFoundException", Means::Code(FailureCode::NoChannel)),
    ("AccessDeniedException", Means::Denied),
    ("NotAuthorizedException", Means::Denied),
    // The channel is being created or updated: later it may be there.
    ("ResourceInUseException", Means::Code(FailureCode::Service)),
    // Of calls that an owner makes: asking for the same again cannot help.
    ("VersionMismatchException", Means::Code(FailureCode::InvalidArgument)),
    ("AccountChannelLimitExceededException", Means::Code(FailureCode::InvalidArgument)),
    ("TagsPerResourceExceededLimitException", Means::Code(FailureCode::InvalidArgument)),
    ("NoDataRetentionException", Means::Code(FailureCode::InvalidArgument)),
    ("InvalidClientException", Means::Code(FailureCode::InvalidClientId)),
    // "Client should reconnect": another attempt does.
    ("SessionExpiredException", Means::Code(FailureCode::Service)),
    ("InvalidSignatureException", Means::Denied),
    ("SignatureDoesNotMatch", Means::Denied),
    ("UnrecognizedClientException", Means::Denied),
    ("InvalidClientTokenId", Means::Denied),
    ("IncompleteSignatureException", Means::Denied),
    ("IncompleteSignature", Means::Denied),
    ("MissingAuthenticationTokenException", Means::Denied),
    ("MissingAuthenticationToken", Means::Denied),
    ("AccessDenied", Means::Denied),
    ("ExpiredTokenException", Means::Code(FailureCode::ExpiredCredentials)),
    ("ExpiredToken", Means::Code(FailureCode::ExpiredCredentials)),
    ("ThrottlingException", Means::Code(FailureCode::Throttled)),
    ("TooManyRequestsException", Means::Code(FailureCode::Throttled)),
    ("RequestLimitExceeded", Means::Code(FailureCode::Throttled)),
    ("LimitExceededException", Means::Limit),
    ("ValidationException", Means::Argument),
    ("InternalFailure", Means::Code(FailureCode::Service)),
    ("ServiceUnavailable", Means::Code(FailureCode::Service)),
];

/// What a name stands for; some stand for two things, and the service's text says which.
#[derive(Clone, Copy)]
enum Means {
    Code(FailureCode),
    /// An argument; the client id has a code of its own.
    Argument,
    /// Too many requests, which pass, or too many viewers, who stay.
    Limit,
    /// Not allowed, or no longer.
    Denied,
}

fn by_name(name: &str, text: &str) -> Option<FailureCode> {
    let (_, means) = NAMES.iter().find(|(known, _)| *known == name)?;
    Some(match means {
        Means::Code(code) => *code,
        Means::Argument if text.contains("clientid") || text.contains("client id") => {
            FailureCode::InvalidClientId
        }
        Means::Argument => FailureCode::InvalidArgument,
        Means::Limit if text.contains("viewer") => FailureCode::ViewerLimit,
        Means::Limit => FailureCode::Throttled,
        Means::Denied => by_text(text).unwrap_or(FailureCode::AccessDenied),
    })
}

fn by_text(text: &str) -> Option<FailureCode> {
    // ConnectAsViewer has one text for both: "not authorized ... or the token has expired".
    let expired =
        text.contains("token") && text.contains("expired") && !text.contains("not authorized");
    expired.then_some(FailureCode::ExpiredCredentials)
}

/// A refusal without a name that we know. A nameless 400 is no word of the API on the arguments:
/// data-plane endpoints answer with an HTML 400 what they cannot read (docs/kvs-protocol.md 1.4).
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
        | FailureCode::AddressPolicy
        | FailureCode::Port
        | FailureCode::Cancelled => "the service failed",
    }
}

/// Which credentials a refusal is about, as far as its name and text tell them apart.
fn denied(name: Option<&str>, text: &str, token: Option<bool>) -> &'static str {
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
        Some("UnrecognizedClientException" | "InvalidClientTokenId") => match token {
            Some(true) => Some(
                "the session token is not valid, or no longer, or belongs to another access key: \
                 get new temporary credentials",
            ),
            Some(false) => Some(
                "the access key id does not exist; one that begins with ASIA also needs its \
                 session token",
            ),
            None => None,
        },
        Some(_) | None => None,
    };
    by_name.unwrap_or(advice(FailureCode::AccessDenied))
}

/// A text from outside: on one line, short, without secrets, and without characters that a
/// terminal obeys or that deceive who reads it.
pub(crate) fn clean(text: &str) -> String {
    let out = redact::outside(text, TEXT_MAX);
    let lower = out.to_ascii_lowercase();
    if lower.contains("x-amz-") || lower.contains("aws4-hmac") {
        // Signature errors quote what was signed.
        return "(the service quotes the signed request; left out)".to_owned();
    }
    out
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
        Some(code) => Failure::new(FailureCode::Closed, format!("{CLOSED} ({code})")),
        None => Failure::new(FailureCode::Closed, CLOSED),
    }
}

const CLOSED: &str = "the service closed the socket";

/// The code of the close frame by which the service ended a signaling connection; `None` for every
/// other failure, a connection that broke among them.
#[must_use]
pub fn close_code(failure: &Failure) -> Option<u16> {
    let is_closed = failure.code == FailureCode::Closed;
    let code = failure.detail.strip_prefix(CLOSED).filter(|_| is_closed)?;
    code.strip_prefix(" (")?.strip_suffix(')')?.parse().ok()
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
        let said = cause.to_string();
        if let Some(problem) = said.strip_prefix("tunnel error: ") {
            // Below may be the cause of it; the proxy's own answer has none.
            reason = Some(match problem {
                "proxy authorization required" => {
                    "the proxy asks for a user name and a password".to_owned()
                }
                "unsuccessful" => "the proxy refuses to connect".to_owned(),
                other => format!("the proxy: {}", clean(other)),
            });
        }
        if said.contains("dns error") {
            code = FailureCode::Dns;
            let named = said.strip_prefix("dns error: ");
            reason = Some(named.map_or_else(|| "the host name does not resolve".to_owned(), clean));
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
    fn only_a_close_frame_has_a_close_code() {
        assert_eq!(close_code(&closed(Some(1001))), Some(1001));
        assert_eq!(close_code(&closed(None)), None);
        let cut = tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        assert_eq!(close_code(&socket(&tungstenite::Error::Protocol(cut))), None);
        let other = Failure::new(FailureCode::Service, "the service closed the socket (1001)");
        assert_eq!(close_code(&other), None);
    }

    // Shows: 46.
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

    /// The list of docs/kvs-protocol.md 1.3 (N16, scenario 43): each by the API's own name, which
    /// is reported.
    // Shows: N16, 43.
    #[test]
    fn every_error_of_the_api_has_its_code() {
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
            assert!(by_name(name, "").is_some(), "{name} is in the table");
        }
        for (n, (name, _)) in NAMES.iter().enumerate() {
            assert!(NAMES[n + 1..].iter().all(|(other, _)| other != name), "{name} is there twice");
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
    fn wrong_credentials_are_told_apart_by_name_and_text() {
        let said = |name, text, token| signed(403, Some(name), text, token).detail;
        let invalid = "The security token included in the request is invalid";
        for (name, text, token, expected) in [
            ("UnrecognizedClientException", invalid, true, "session token is not valid"),
            ("UnrecognizedClientException", invalid, false, "access key id does not exist"),
            ("InvalidClientTokenId", invalid, true, "session token is not valid"),
            ("InvalidSignatureException", "The request signature we", true, "secret access key"),
            ("InvalidSignatureException", "Signature expired: 2020", false, "clock"),
            (
                "SignatureDoesNotMatch",
                "Credential should be scoped to a valid region, not 'us-east-1'.",
                false,
                "another region",
            ),
            ("AccessDeniedException", "not authorized to perform", true, "do not allow this"),
        ] {
            let said = said(name, text, token);
            assert!(said.contains(expected), "{name} {text}: {said}");
        }
        let of_a_frame = service(403, Some("UnrecognizedClientException"), invalid).detail;
        assert!(of_a_frame.contains("wrong or do not allow"), "{of_a_frame}");
    }

    #[test]
    fn no_form_of_a_secret_and_no_deceiving_character_gets_into_a_message() {
        use viewer_session::redact::{Origin, remember};
        let token = "tokencanary+/=0123456789";
        remember(Origin::Account, token);
        let lower = "the canonical headers were x-amz-security-token:abcdef host:h";
        for text in [
            format!("token was {token}"),
            format!("{}token was {token}", "x".repeat(TEXT_MAX - 20)),
            "token was tokencanary%2b%2f%3d0123456789".to_owned(),
            "token was tokencanary+\\/=0123456789".to_owned(),
            format!("\u{202e}{token}\u{2028}\u{200b}"),
            lower.to_owned(),
        ] {
            let failure = service(403, Some(token), &text);
            let said = format!("{failure} {failure:?}");
            assert!(!said.contains("canary") && !said.contains("abcdef"), "{said}");
            assert!(!said.contains(['\u{202e}', '\u{2028}', '\u{200b}']), "{said}");
        }
    }

    #[test]
    fn a_host_that_does_not_resolve_is_named() {
        let error = io::Error::other("dns error: v.example does not resolve");
        let failure = transport("the signaling socket", &error);
        assert_eq!(failure.code, FailureCode::Dns);
        assert!(failure.detail.ends_with("v.example does not resolve"), "{failure}");
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
