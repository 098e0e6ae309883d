//! The behaviour of service, master, peer stack and network in a run.

use core::time::Duration;

use negotiation_core::{CandidateRelease, PeerTraits};

/// The behaviour of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTraits {
    /// Time from the command to an open connection.
    pub connect_after: Duration,
    /// Time from the command to the ICE servers.
    pub ice_servers_after: Duration,
    /// Time that a message takes between viewer and master, one way.
    pub one_way_delay: Duration,
    /// How long an offer is stored for an absent master (`MessageTtlSeconds`).
    pub message_ttl: Duration,
    /// Whether there is a TURN server among the ICE servers.
    pub turn: bool,
    /// Connects per second: the channel's quota, which the adapter keeps.
    pub connects_per_second: usize,
}

impl Default for ServiceTraits {
    fn default() -> Self {
        Self {
            connect_after: Duration::from_millis(120),
            ice_servers_after: Duration::from_millis(80),
            one_way_delay: Duration::from_millis(20),
            message_ttl: Duration::from_secs(60),
            turn: true,
            connects_per_second: 3,
        }
    }
}

/// The behaviour of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterTraits {
    /// When the master connects, counted from the start of the run; `None` is never.
    pub arrives_after: Option<Duration>,
    /// How the master answers offers.
    pub answers: Answers,
    /// How many offers the master ignores before it answers one.
    pub ignored_offers: u32,
    /// Time from an offer to its answer.
    pub answers_after: Duration,
    /// Number of candidates that the master trickles.
    pub candidates: u32,
    /// Whether its candidates come before its answer.
    pub candidates_first: bool,
    /// Number of candidates inside the answer.
    pub candidates_inside: u16,
    /// Whether the master sends video.
    pub video: bool,
    /// Whether the master sends audio.
    pub audio: bool,
    /// What the master does in glare.
    pub glare: Glare,
    /// What the master does with an offer under a client id that it has a session for.
    pub repeated_id: RepeatedId,
    /// How long the master keeps the session of a viewer that vanished.
    pub lingers: Duration,
    /// Whether the master notices at once that a viewer closed a connected peer connection.
    pub notices_close: bool,
    /// The most sessions that the master has at once.
    pub sessions_max: usize,
    /// Whether the master can reach the viewer's addresses, so that peer-reflexive pairs work.
    pub reaches_viewer: bool,
}

impl Default for MasterTraits {
    fn default() -> Self {
        Self {
            arrives_after: Some(Duration::ZERO),
            answers: Answers::Correctly,
            ignored_offers: 0,
            answers_after: Duration::from_millis(30),
            candidates: 3,
            candidates_first: false,
            candidates_inside: 1,
            video: true,
            audio: true,
            glare: Glare::Impolite,
            repeated_id: RepeatedId::Ignores,
            lingers: Duration::from_secs(35),
            notices_close: true,
            sessions_max: 10,
            reaches_viewer: true,
        }
    }
}

/// How a master answers an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// With a correct answer.
    Correctly,
    /// Never.
    Never,
    /// With something that cannot be decoded.
    Undecodable,
    /// With an answer that the peer stack refuses.
    Refused,
    /// With an answer that accepts none of the media.
    RejectsMedia,
    /// With the right answer, then with another one.
    ThenAnother,
    /// With an answer left over from an earlier process of the same client id, then with the right
    /// one.
    AfterStale,
}

/// What a master does with a second offer under one client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedId {
    /// Closes the old session and answers (JS sample).
    Replaces,
    /// Does not answer while the old session lasts (C sample).
    Ignores,
    /// Renegotiates in the existing session, with new credentials for a restart.
    Renegotiates,
    /// Renegotiates, but answers a restart with the old credentials.
    OldCredentials,
    /// Repeats its first answer.
    RepeatsAnswer,
}

/// What a master does in glare: with an offer that arrives while its own is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glare {
    /// Rolls its own offer back and answers.
    Polite,
    /// Ignores the viewer's offer.
    Impolite,
    /// Falls silent: neither offer is ever settled.
    Breaks,
}

/// The behaviour of the peer stack under the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStack {
    /// What the stack reports about itself.
    pub traits: PeerTraits,
    /// Number of local candidates that are gathered.
    pub candidates: u32,
    /// Time between two candidates.
    pub candidate_every: Duration,
    /// Time that one operation takes.
    pub operation_delay: Duration,
}

impl Default for PeerStack {
    fn default() -> Self {
        Self {
            traits: PeerTraits {
                candidates: CandidateRelease::AfterAnswer,
                restart_keeps_pair: false,
            },
            candidates: 4,
            candidate_every: Duration::from_millis(7),
            operation_delay: Duration::from_millis(3),
        }
    }
}

/// What happens to a peer connection's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathTraits {
    /// What happens to ICE.
    pub ice: Ice,
    /// What happens to DTLS.
    pub dtls: Dtls,
    /// What happens to media.
    pub media: Media,
}

/// What happens to ICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ice {
    /// A pair is found.
    #[default]
    Works,
    /// ICE fails after 15 s.
    Fails,
    /// No packet arrives.
    Silent,
}

/// What happens to DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtls {
    /// The handshake succeeds.
    #[default]
    Works,
    /// The handshake fails.
    Fails,
    /// No packet arrives.
    Silent,
}

/// What happens to media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// Media flows.
    #[default]
    Flows,
    /// Packets arrive, but never a whole keyframe.
    NoKeyframe,
    /// No packet arrives.
    Nothing,
}
