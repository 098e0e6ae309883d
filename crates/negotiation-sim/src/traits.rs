//! How service, master, peer stack and network behave in a run.

use core::time::Duration;

use negotiation_core::{CandidateRelease, PeerTraits};

/// How the service behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTraits {
    /// From the command to an open link.
    pub connect_after: Duration,
    /// From the command to ICE servers.
    pub ice_servers_after: Duration,
    /// One way between viewer and master.
    pub one_way_delay: Duration,
    /// How long an offer is kept for a master that is not there (`MessageTtlSeconds`).
    pub message_ttl: Duration,
    /// Whether TURN is among the ICE servers.
    pub turn: bool,
    /// Connects in any second (quota of the channel, kept by the adapter).
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

/// How a master behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterTraits {
    /// When it connects, counted from the start of the world; `None` is never.
    pub arrives_after: Option<Duration>,
    /// What it answers.
    pub answers: Answers,
    /// How many offers it lets pass first.
    pub ignored_offers: u32,
    /// How long it thinks.
    pub answers_after: Duration,
    /// Candidates that it trickles.
    pub candidates: u32,
    /// Whether they come before the answer.
    pub candidates_first: bool,
    /// Candidates inside the answer.
    pub candidates_inside: u16,
    /// It sends video.
    pub video: bool,
    /// It sends audio.
    pub audio: bool,
    /// What it does with an offer that meets its own.
    pub glare: Glare,
    /// What it does with an id that it has a session of.
    pub repeated_id: RepeatedId,
    /// How long it holds the session of a viewer that vanished.
    pub lingers: Duration,
    /// Whether a viewer that closes a connection which was up is noticed at once.
    pub notices_close: bool,
    /// Most sessions at once.
    pub sessions_max: usize,
    /// It can reach the viewer's addresses (peer-reflexive connections come about).
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

/// What a master answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// As it should.
    Correctly,
    /// Not at all.
    Never,
    /// Something that cannot be decoded.
    Undecodable,
    /// Something that the peer stack refuses.
    Refused,
    /// It accepts none of the media.
    RejectsMedia,
    /// The right answer, then another one.
    ThenAnother,
    /// An answer left over from an earlier process with this id, then the right one.
    AfterStale,
}

/// What a master does with a second offer of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepeatedId {
    /// It closes the old session and answers (JS sample).
    Replaces,
    /// It answers nothing while the old session lasts (C sample).
    Ignores,
    /// It settles it in the session that it has, with new credentials where it is a restart.
    Renegotiates,
    /// The same, but a restart gets the credentials that were there before.
    OldCredentials,
    /// It sends the answer again that it gave first.
    RepeatsAnswer,
}

/// What a master does with an offer that meets its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glare {
    /// It takes its own back and answers.
    Polite,
    /// It ignores the other.
    Impolite,
    /// It falls silent: neither its own offer nor the other is ever settled.
    Breaks,
}

/// The peer stack under the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStack {
    /// What it tells the core of itself.
    pub traits: PeerTraits,
    /// Local candidates that it gathers.
    pub candidates: u32,
    /// Between two of them.
    pub candidate_every: Duration,
    /// One operation.
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

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathTraits {
    /// Of ICE.
    pub ice: Ice,
    /// Of DTLS.
    pub dtls: Dtls,
    /// Of media.
    pub media: Media,
}

/// What becomes of ICE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ice {
    /// A pair is found.
    #[default]
    Works,
    /// It gives up after 15 s.
    Fails,
    /// Nothing is heard.
    Silent,
}

/// What becomes of DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtls {
    /// It comes up.
    #[default]
    Works,
    /// It is refused.
    Fails,
    /// Nothing is heard.
    Silent,
}

/// What becomes of media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// It flows.
    #[default]
    Flows,
    /// Packets come, but never a whole keyframe.
    NoKeyframe,
    /// Nothing comes.
    Nothing,
}
