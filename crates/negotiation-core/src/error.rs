//! The ways for things to go wrong, kept apart by audience.
//!
//! [`Failure`] comes in from ports, [`EndReason`] goes out once, [`Ignored`] reports harmless
//! input. A broken invariant is a bug and asserts; it has no type here.

use alloc::string::String;
use core::fmt;

/// What a port reports when a command failed or a signaling connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Failure {
    /// What went wrong.
    pub code: FailureCode,
    /// The API's own name for the error (`ResourceNotFoundException`), where there is one.
    pub api_name: Option<String>,
    /// A sentence for people. It never holds a secret: that is the port's duty.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::masked_detail"))]
    pub detail: String,
}

impl Failure {
    /// Longest [`Failure::detail`], in bytes; the rest is cut.
    pub const DETAIL_MAX: usize = 512;

    /// A failure without an API name.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::DETAIL_MAX {
            let cut = (0..=Self::DETAIL_MAX).rev().find(|i| detail.is_char_boundary(*i));
            detail.truncate(cut.unwrap_or(0));
        }
        // It stands inside sentences.
        detail.truncate(detail.trim_end_matches(['.', ' ']).len());
        Self { code, api_name: None, detail }
    }

    /// Adds the API's own name for the error.
    #[must_use]
    pub fn named(mut self, api_name: impl Into<String>) -> Self {
        self.api_name = Some(api_name.into());
        self
    }

    /// The completion of a command that a close overtook.
    pub fn cancelled() -> Self {
        Self::new(FailureCode::Cancelled, "cancelled by a close")
    }

    /// What the session may do about it.
    pub fn kind(&self) -> FailureKind {
        self.code.kind()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.api_name {
            Some(name) => write!(f, "{} ({name}): {}", self.code, self.detail),
            None => write!(f, "{}: {}", self.code, self.detail),
        }
    }
}

/// What a session may do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Another attempt may succeed.
    Transient,
    /// No attempt will succeed.
    Permanent,
    /// The service throttles requests: wait longer.
    Throttled,
    /// A close overtook the command.
    Cancelled,
}

/// What went wrong in a port. One table maps each to its [`FailureKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum FailureCode {
    /// The channel does not exist (404).
    NoChannel,
    /// The credentials are not allowed to do this, or are wrong (401, 403).
    AccessDenied,
    /// Temporary credentials have expired and cannot be renewed.
    ExpiredCredentials,
    /// No credentials were found, or their source failed for good.
    NoCredentials,
    /// The service refuses the client id.
    InvalidClientId,
    /// The service refuses an argument.
    InvalidArgument,
    /// The channel is in storage mode: it answers no peer-to-peer viewer.
    StorageMode,
    /// More viewers than the channel admits.
    ViewerLimit,
    /// Too many requests.
    Throttled,
    /// Our client id connected elsewhere.
    Replaced,
    /// A host name did not resolve.
    Dns,
    /// The connection was refused, reset or is unreachable.
    Network,
    /// TLS failed: an unknown authority, a wrong host name, an expired certificate.
    Tls,
    /// The service failed (5xx) or spoke nonsense.
    Service,
    /// Nothing came in time.
    TimedOut,
    /// The signaling connection was closed by the other end.
    Closed,
    /// The signaling or peer connection that a command names is not there.
    NotOpen,
    /// The message is too big for the service.
    TooBig,
    /// The peer stack refuses the description.
    BadDescription,
    /// No codec in common.
    Codec,
    /// A requested local track is not available.
    LocalMedia,
    /// The viewer's own address policy refuses a candidate of the master.
    AddressPolicy,
    /// Something else in the port failed.
    Port,
    /// A close overtook the command.
    Cancelled,
}

impl FailureCode {
    /// What a session may do about it.
    pub fn kind(self) -> FailureKind {
        match self {
            Self::NoChannel
            | Self::AccessDenied
            | Self::ExpiredCredentials
            | Self::NoCredentials
            | Self::InvalidClientId
            | Self::InvalidArgument
            | Self::StorageMode
            | Self::Replaced
            | Self::Tls
            | Self::TooBig
            | Self::Codec
            | Self::LocalMedia => FailureKind::Permanent,
            Self::ViewerLimit | Self::Throttled => FailureKind::Throttled,
            Self::Dns
            | Self::Network
            | Self::Service
            | Self::TimedOut
            | Self::Closed
            | Self::NotOpen
            | Self::BadDescription
            | Self::AddressPolicy
            | Self::Port => FailureKind::Transient,
            Self::Cancelled => FailureKind::Cancelled,
        }
    }

    /// A stable name, for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoChannel => "no-channel",
            Self::AccessDenied => "access-denied",
            Self::ExpiredCredentials => "expired-credentials",
            Self::NoCredentials => "no-credentials",
            Self::InvalidClientId => "invalid-client-id",
            Self::InvalidArgument => "invalid-argument",
            Self::StorageMode => "storage-mode",
            Self::ViewerLimit => "viewer-limit",
            Self::Throttled => "throttled",
            Self::Replaced => "replaced",
            Self::Dns => "dns",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Service => "service",
            Self::TimedOut => "timed-out",
            Self::Closed => "closed",
            Self::NotOpen => "not-open",
            Self::TooBig => "too-big",
            Self::BadDescription => "bad-description",
            Self::Codec => "codec",
            Self::LocalMedia => "local-media",
            Self::AddressPolicy => "address-policy",
            Self::Port => "port",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum EndReason {
    /// The application closed it.
    Closed,
    /// The offer went out and no answer came.
    NoAnswer,
    /// The service was joined and never offered (answerer mode).
    NoOffer,
    /// An answer came that cannot be decoded.
    BadAnswer,
    /// The peer stack refuses the answer.
    IncompatibleSdp,
    /// The master accepts none of the offered media.
    Codec,
    /// No pair of addresses works.
    NoRoute,
    /// ICE is up, DTLS is not.
    Dtls,
    /// Connected, but no media came.
    NoMedia,
    /// The signaling service cannot be reached, or dropped the signaling connection.
    Signaling,
    /// The credentials do not allow it.
    AccessDenied,
    /// Temporary credentials expired and cannot be renewed.
    ExpiredCredentials,
    /// No credentials were found.
    NoCredentials,
    /// The channel does not exist.
    NoChannel,
    /// The service refuses the client id.
    InvalidClientId,
    /// The service refuses an argument.
    InvalidArgument,
    /// The channel is in storage mode.
    StorageMode,
    /// More viewers than the channel admits.
    ViewerLimit,
    /// The service throttles requests, and went on doing so.
    Throttled,
    /// The client id is in use elsewhere.
    Replaced,
    /// TLS with the service failed.
    Tls,
    /// A local track cannot be had.
    LocalMedia,
    /// The peer stack failed.
    PeerFailed,
}

impl EndReason {
    /// Every reason, in order.
    pub const ALL: [Self; 23] = [
        Self::Closed,
        Self::NoAnswer,
        Self::NoOffer,
        Self::BadAnswer,
        Self::IncompatibleSdp,
        Self::Codec,
        Self::NoRoute,
        Self::Dtls,
        Self::NoMedia,
        Self::Signaling,
        Self::AccessDenied,
        Self::ExpiredCredentials,
        Self::NoCredentials,
        Self::NoChannel,
        Self::InvalidClientId,
        Self::InvalidArgument,
        Self::StorageMode,
        Self::ViewerLimit,
        Self::Throttled,
        Self::Replaced,
        Self::Tls,
        Self::LocalMedia,
        Self::PeerFailed,
    ];

    /// A stable code, for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::NoAnswer => "no-answer",
            Self::NoOffer => "no-offer",
            Self::BadAnswer => "bad-answer",
            Self::IncompatibleSdp => "incompatible-sdp",
            Self::Codec => "codec",
            Self::NoRoute => "no-route",
            Self::Dtls => "dtls",
            Self::NoMedia => "no-media",
            Self::Signaling => "signaling",
            Self::AccessDenied => "access-denied",
            Self::ExpiredCredentials => "expired-credentials",
            Self::NoCredentials => "no-credentials",
            Self::NoChannel => "no-channel",
            Self::InvalidClientId => "invalid-client-id",
            Self::InvalidArgument => "invalid-argument",
            Self::StorageMode => "storage-mode",
            Self::ViewerLimit => "viewer-limit",
            Self::Throttled => "throttled",
            Self::Replaced => "replaced",
            Self::Tls => "tls",
            Self::LocalMedia => "local-media",
            Self::PeerFailed => "peer-failed",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why an input changed nothing (contract, N25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Ignored {
    /// The session was opened already.
    AlreadyOpen,
    /// It belongs to a signaling or peer connection that is not the attempt's.
    Stale,
    /// The completion of a command that is not in flight.
    StaleCompletion,
    /// It comes from another sender than the master.
    Foreign,
    /// The answer or candidate was seen before.
    Duplicate,
    /// A second, different answer to one offer.
    SecondAnswer,
    /// An answer with no offer open.
    Unsolicited,
    /// An offer, while ours is open and this side does not give way.
    Glare,
    /// An answer to a restart that refuses it.
    RefusedRestart,
    /// A candidate of an earlier ICE generation.
    OldGeneration,
    /// A candidate or message that cannot be decoded.
    Undecodable,
    /// A message of no known type.
    Unknown,
    /// One more than the bounded queue takes.
    OverLimit,
    /// The peer stack refused a candidate.
    RefusedCandidate,
    /// A message could not be sent.
    Unsent,
    /// A status for a message that does not matter any more.
    Status,
    /// An offer or answer of the master that was kept for later and then not used: a newer one
    /// came, or what it was kept for was given up.
    Superseded,
    /// The request has no effect in this phase.
    OutOfPhase,
}

impl Ignored {
    /// A stable code, for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::AlreadyOpen => "already-open",
            Self::Stale => "stale",
            Self::StaleCompletion => "stale-completion",
            Self::Foreign => "foreign-sender",
            Self::Duplicate => "duplicate",
            Self::SecondAnswer => "second-answer",
            Self::Unsolicited => "unsolicited-answer",
            Self::Glare => "glare",
            Self::RefusedRestart => "refused-restart",
            Self::OldGeneration => "old-ice-generation",
            Self::Undecodable => "undecodable",
            Self::Unknown => "unknown-message",
            Self::OverLimit => "over-limit",
            Self::RefusedCandidate => "refused-candidate",
            Self::Unsent => "unsent",
            Self::Status => "status",
            Self::Superseded => "superseded",
            Self::OutOfPhase => "out-of-phase",
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    #[test]
    fn every_end_reason_has_a_code_of_its_own() {
        let codes: BTreeSet<_> = EndReason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), EndReason::ALL.len());
    }

    #[test]
    fn names_for_machines_are_these() {
        let failures = [
            (FailureCode::NoChannel, "no-channel"),
            (FailureCode::ViewerLimit, "viewer-limit"),
            (FailureCode::TimedOut, "timed-out"),
        ];
        for (code, name) in failures {
            assert_eq!((code.as_str(), code.to_string().as_str()), (name, name));
        }
        let ignored = [
            (Ignored::AlreadyOpen, "already-open"),
            (Ignored::Foreign, "foreign-sender"),
            (Ignored::OldGeneration, "old-ice-generation"),
        ];
        for (reason, name) in ignored {
            assert_eq!((reason.code(), reason.to_string().as_str()), (name, name));
        }
    }

    #[test]
    fn long_detail_is_cut_at_a_character() {
        let failure = Failure::new(FailureCode::Port, "é".repeat(400));
        assert!(failure.detail.len() <= Failure::DETAIL_MAX);
    }
}
