//! What an exploration may do, and how often.

use core::fmt;
use core::time::Duration;

use negotiation_core::{Config, Mode, RetryDelay, Settings};

/// Something that goes wrong, or that nobody waits for. Each happens so often at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Trouble {
    /// A message comes twice.
    Duplicate,
    /// A message overtakes another.
    Reorder,
    /// A message is lost.
    Loss,
    /// A second, different answer to one offer.
    SecondAnswer,
    /// A message that cannot be decoded in the place of one.
    Undecodable,
    /// The socket dies.
    Drop,
    /// The master starts anew and knows nothing.
    MasterRestart,
    /// A command fails.
    Failure,
    /// The service refuses for good.
    Refusal,
    /// The service cannot handle our description and says so.
    Status,
    /// GO_AWAY.
    GoAway,
    /// RECONNECT_ICE_SERVER.
    Refresh,
    /// The master offers by itself.
    MasterOffers,
    /// ICE, DTLS or media fail though nothing happened to the master.
    Path,
    /// The platform's network changes, or is away for a while.
    Network,
    /// The device sleeps.
    Sleep,
    /// The application asks for a restart or a renegotiation.
    Ask,
    /// Something takes until just before its deadline.
    Slow,
}

impl Trouble {
    /// Every one, in order.
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
        Self::Ask,
        Self::Slow,
    ];
}

/// How far an exploration goes.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Retries in the budget; attempts that follow a live one come on top.
    pub retries: u32,
    /// How often each trouble happens at most.
    pub each: [u8; Trouble::ALL.len()],
    /// How many troubles there are in all.
    pub troubles: u8,
    /// Who offers.
    pub mode: Mode,
    /// Whether equal situations count as one state. Without it nothing ends soon.
    pub normalised: bool,
    /// Where to give up.
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

    /// So many troubles in all, each of these kinds once.
    #[must_use]
    pub fn with(mut self, troubles: u8, kinds: &[Trouble]) -> Self {
        self.troubles = troubles;
        for kind in kinds {
            self.each[*kind as usize] = 1;
        }
        self
    }

    /// The configuration of the session: the default, with pauses that need no dice.
    pub(super) fn config(&self) -> Config {
        let settings = Settings {
            retries: self.retries,
            link_reopen: RetryDelay::Fixed(Duration::from_millis(300)),
            go_away_spread: Duration::ZERO,
            mode: self.mode,
            // Deadlines that are multiples of each other meet in fewer ways.
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
