//! What a connection is built from.

use crate::codec::Codec;
use crate::turn_stream::{Authorities, Detour};

/// Which candidates may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcePolicy {
    /// Every kind.
    #[default]
    All,
    /// Only those of a TURN server; no address of this machine is sent or used.
    Relay,
}

/// What to do with candidates that are names ending in `.local`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mdns {
    /// They are accepted and not used: the master still reaches us by our own checks.
    #[default]
    Ignore,
    /// They are looked up, at the price of a multicast socket a connection.
    Resolve,
}

/// What a connection is built from.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Codecs of both kinds, in order of preference.
    pub codecs: Vec<Codec>,
    /// Addresses to bind, as `IP:PORT`; see [`super::bind_addresses`].
    pub bind: Vec<String>,
    /// Which candidates may be used.
    pub policy: IcePolicy,
    /// Names as candidates.
    pub mdns: Mdns,
    /// Whom to trust when a TURN server is reached over TLS.
    pub authorities: Authorities,
    /// The way to TURN servers over TCP and TLS where it is not direct.
    pub detour: Option<Detour>,
    /// RTP packets that may wait to be taken; none for a peer that only sends.
    pub media_queue: usize,
    /// Whether video may be resent on streams of its own (RTX, RFC 4588): a receiver wants
    /// that, since some masters resend in no other way; a sender that has no track made by
    /// [`crate::LocalTrack::with_rtx`] has no use for it.
    pub rtx: bool,
}
