//! What a session knows for the recovery of a live connection (contract, N18 and N19).

/// Why a live session recovers, or why its master counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RecoveryCause {
    /// ICE hears nothing for longer than the grace.
    Disconnected,
    /// ICE gave up.
    IceFailed,
    /// The platform's network changed.
    NetworkChanged,
    /// The application asked.
    Requested,
    /// The master closed its end.
    ClosedByPeer,
    /// No packet of any kind comes.
    Silent,
}

/// What the session has learnt about its master's way with ICE restarts. It is kept over attempts:
/// a master that ignores one costs one deadline, not one each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Restarts {
    /// None was tried, or one worked.
    #[default]
    Possible,
    /// One was ignored or refused.
    Useless,
}
