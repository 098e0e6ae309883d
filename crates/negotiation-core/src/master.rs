//! What a session knows of its master, and why a live session recovers (contract, N18 and N19).

/// Why a live session recovers, or why its master counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RecoveryCause {
    /// ICE receives nothing for longer than the grace.
    Disconnected,
    /// ICE gave up.
    IceFailed,
    /// The platform's network changed.
    NetworkChanged,
    /// The application requested it.
    Requested,
    /// The master closed its end.
    ClosedByPeer,
    /// No packet of any kind comes.
    Silent,
}

/// What is known of a master: learned in this session, or given at its start from an earlier one
/// of the same channel (contract, N19). A master that ignores ICE restarts costs one deadline, not
/// one at each loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MasterKnowledge {
    /// Whether it answers the offer of an ICE restart; `None` before one was tried.
    pub answers_restarts: Option<bool>,
    /// Whether it answers the offer of a client id that an earlier attempt has used; `None` before
    /// that was tried.
    pub answers_repeated_id: Option<bool>,
}

impl MasterKnowledge {
    /// Whether a restart is known to be useless.
    pub(crate) fn ignores_restarts(self) -> bool {
        self.answers_restarts == Some(false)
    }
}
