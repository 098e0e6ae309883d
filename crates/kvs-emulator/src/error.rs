//! The errors that clients receive, with AWS's names, statuses and bodies, and the start error.

use std::borrow::Cow;

/// Why the emulator did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// A setting cannot work; the text names the field and the fix.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// What is wrong with it, and a valid value.
        reason: String,
    },
    /// The address could not be bound.
    #[error("cannot listen on {addr}: {source}{}", listen_hint(addr, source))]
    Listen {
        /// The requested address.
        addr: std::net::SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificates could not be made or stored.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Advice for an address that cannot be bound.
fn listen_hint(addr: &std::net::SocketAddr, source: &std::io::Error) -> String {
    let any = std::net::SocketAddr::new(addr.ip(), 0);
    let why = if source.kind() == std::io::ErrorKind::AddrInUse {
        "another program listens there"
    } else if source.kind() == std::io::ErrorKind::PermissionDenied && addr.port() < 1024 {
        "ports below 1024 need root"
    } else {
        return String::new();
    };
    format!("; {why}: `--listen {any}` takes any free port")
}

/// The APIs: each writes its errors in a form of its own (docs/kvs-protocol.md 1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// kinesisvideo.
    ControlPlane,
    /// kinesis-video-signaling.
    Signaling,
    /// kinesis-video-webrtc-storage.
    Storage,
    /// ConnectAsMaster and ConnectAsViewer, which no service model has (docs/kvs-protocol.md 2.1).
    Connect,
}

/// One error response of an API: status, `x-amzn-ErrorType` and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(
        status: u16,
        kind: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind: kind.into(), message: message.into() }
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidArgumentException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "ResourceNotFoundException", message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(400, "ClientLimitExceededException", message)
    }

    /// More calls than the quota allows.
    pub(crate) fn throttled() -> Self {
        Self::limit("Rate exceeded")
    }

    /// ConnectAsViewer: "more viewers than allowed" (docs/kvs-protocol.md 2.1).
    pub(crate) fn viewer_limit() -> Self {
        Self::limit("The channel has reached its maximum number of viewers.")
    }

    /// The signature is valid and the access is denied.
    pub(crate) fn denied(api: Api, message: impl Into<String>) -> Self {
        let (status, kind) = match api {
            Api::ControlPlane => (401, "AccessDeniedException"),
            Api::Signaling => (401, "NotAuthorizedException"),
            Api::Storage | Api::Connect => (403, "AccessDeniedException"),
        };
        Self::new(status, kind, message)
    }

    /// A temporary credential that expired.
    pub(crate) fn expired_token() -> Self {
        let text = "The security token included in the request is expired";
        Self::new(403, "ExpiredTokenException", text)
    }

    /// The JSON member that holds the text: `message` in all of webrtc-storage, in two exceptions
    /// of signaling and in the errors of the signature layer in front.
    pub(crate) fn member(&self, api: Api) -> &'static str {
        match self.kind.as_ref() {
            "InvalidArgumentException"
            | "ClientLimitExceededException"
            | "ResourceNotFoundException"
            | "AccessDeniedException"
            | "NotAuthorizedException"
            | "ResourceInUseException"
            | "VersionMismatchException"
            | "AccountChannelLimitExceededException"
            | "TagsPerResourceExceededLimitException"
            | "NoDataRetentionException"
                if api != Api::Storage =>
            {
                "Message"
            }
            _ => "message",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_message_member_follows_the_service_models() {
        let invalid = ApiError::invalid_argument("x");
        assert_eq!(invalid.member(Api::ControlPlane), "Message");
        assert_eq!(invalid.member(Api::Storage), "message");
        let session = ApiError::new(400, "SessionExpiredException", "x");
        assert_eq!(session.member(Api::Signaling), "message");
        let signature = ApiError::new(403, "InvalidSignatureException", "x");
        assert_eq!(signature.member(Api::ControlPlane), "message");
    }
}
