//! The bounds of an exploration: what may go wrong, and how often.

use core::fmt;
use core::time::Duration;

use negotiation_core::{Config, Mode, RetryDelay, Settings};

/// Something that goes wrong, or that happens unasked. Each kind happens a limited number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Trouble {
    /// A message arrives twice.
    Duplicate,
    /// A message overtakes another.
    Reorder,
    /// A message is lost.
    Loss,
    /// A second, different answer to one offer arrives.
    SecondAnswer,
    /// A message arrives that cannot be decoded.
    Undecodable,
    /// A signaling connection is lost.
    Drop,
    /// The master restarts and has lost all its state.
    MasterRestart,
    /// A command fails.
    Failure,
    /// The service refuses permanently.
    Refusal,
    /// The service reports a failed message with STATUS_RESPONSE.
    Status,
    /// The service sends GO_AWAY.
    GoAway,
    /// The service sends RECONNECT_ICE_SERVER.
    Refresh,
    /// The master sends an offer of its own.
    MasterOffers,
    /// ICE, DTLS or media fail although the master is unchanged.
    Path,
    /// The platform's network changes, or is away for a while.
    Network,
    /// The device sleeps.
    Sleep,
    /// The application requests an ICE restart or a renegotiation.
    Request,
    /// Something takes until just before its deadline.
    Slow,
}

impl Trouble {
    /// All kinds, in order.
    pub const ALL: [Self; 18] = [
        Self::Duplicate,
        Self::Reorder,
        Self::Loss,
        Self::SecondAnswer,
        Self::Undecodable,
        Self::Drop,
        Self::MasterRestart,
        Self::Failure,
        Self::Refusal,
        Self::Status,
        Self::GoAway,
        Self::Refresh,
        Self::MasterOffers,
        Self::Path,
        Self::Network,
        Self::Sleep,
        Self::Request,
        Self::Slow,
    ];
}

/// The limits of an exploration.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Retries in the budget. Attempts that follow a live one are not counted.
    pub retries: u32,
    /// How often each kind of trouble happens at most.
    pub each: [u8; Trouble::ALL.len()],
    /// How many troubles happen in all at most.
    pub troubles: u8,
    /// Whether the viewer or the service offers.
    pub mode: Mode,
    /// Whether states with equal normal forms count as one. Without this no exploration ends soon.
    pub normalised: bool,
    /// The number of states after which the exploration stops.
    pub states_max: usize,
}

impl Bounds {
    /// Three attempts and no trouble but silence, hanging commands and a close.
    pub fn quiet() -> Self {
        Self {
            retries: 2,
            each: [0; Trouble::ALL.len()],
            troubles: 0,
            mode: Mode::Offerer,
            normalised: true,
            states_max: usize::MAX,
        }
    }

    /// Allows so many troubles in all, and each of these kinds once.
    #[must_use]
    pub fn with(mut self, troubles: u8, kinds: &[Trouble]) -> Self {
        self.troubles = troubles;
        for kind in kinds {
            self.each[*kind as usize] = 1;
        }
        self
    }

    /// The configuration of the session: the default, with pauses that are not random.
    pub(super) fn config(&self) -> Config {
        let settings = Settings {
            retries: self.retries,
            link_reopen: RetryDelay::Fixed(Duration::from_millis(300)),
            go_away_spread: Duration::ZERO,
            mode: self.mode,
            // Deadlines that are multiples of each other coincide, which leaves fewer states.
            first_media_timeout: Duration::from_secs(10),
            keyframe_interval: Duration::from_secs(10),
            join_interval: Duration::from_secs(15),
            ..Settings::one_retry()
        };
        match settings.check() {
            Ok(config) => config,
            Err(error) => panic!("{error}"),
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} attempts, close at any point", self.mode, self.retries + 1)?;
        write!(f, ", any command and message delayed past its deadline")?;
        if self.troubles == 0 {
            return write!(f, ", no other trouble");
        }
        write!(f, ", {} of:", self.troubles)?;
        for (kind, times) in Trouble::ALL.iter().zip(self.each) {
            if times > 0 {
                write!(f, " {kind:?}")?;
            }
            if times > 1 {
                write!(f, " x{times}")?;
            }
        }
        Ok(())
    }
}
