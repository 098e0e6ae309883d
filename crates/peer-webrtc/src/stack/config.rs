//! The configuration of a connection.

use crate::codec::Codec;
use crate::turn_stream::{Authorities, Detour};

/// The candidates that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcePolicy {
    /// Candidates of every kind.
    #[default]
    All,
    /// Relayed candidates only; no address of this machine is sent or used.
    Relay,
}

/// The handling of candidates that are names ending in `.local`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mdns {
    /// Accepts them without using them: the master still reaches us by its own checks.
    #[default]
    Ignore,
    /// Resolves them, which needs a multicast socket for each connection.
    Resolve,
}

/// The configuration of a connection.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The codecs of both kinds, in order of preference.
    pub codecs: Vec<Codec>,
    /// The addresses to bind, as `IP:PORT`; see [`super::bind_addresses`].
    pub bind: Vec<String>,
    /// The candidates that may be used.
    pub policy: IcePolicy,
    /// The handling of `.local` names in candidates.
    pub mdns: Mdns,
    /// The certificate authorities to trust for TURN servers over TLS.
    pub authorities: Authorities,
    /// The route to TURN servers over TCP and TLS; `None` connects directly.
    pub detour: Option<Detour>,
    /// The most RTP packets that wait for the reader; 0 for a peer that only sends.
    pub media_queue: usize,
    /// Whether video may be resent on separate streams (RTX, RFC 4588). A receiver needs it,
    /// because some masters resend in no other way; a sender without a track made by
    /// [`crate::LocalTrack::with_rtx`] does not.
    pub rtx: bool,
}
