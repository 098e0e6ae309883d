//! A whole run as plain data: the session's configuration, its surroundings, and what goes wrong.

use core::time::Duration;

use negotiation_core::{ClientIdPolicy, Config, Settings};

use crate::faults::Fault;
use crate::traits::{MasterTraits, PathTraits, PeerStack, ServiceTraits};

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The session's configuration.
    pub config: Config,
    /// The session's seed.
    pub seed: u64,
    /// Whether ids come from the pool.
    pub ids: ClientIdPolicy,
    /// KVS.
    pub service: ServiceTraits,
    /// The camera.
    pub master: MasterTraits,
    /// The peer stack.
    pub stack: PeerStack,
    /// What the network does between viewer and master, for attempt 1, 2, ...; the last repeats.
    pub paths: Vec<PathTraits>,
    /// How late every timer fires.
    pub timer_late: Duration,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Default for Plan {
    /// All is well, with the default configuration.
    fn default() -> Self {
        Self::new(Settings::one_retry())
    }
}

impl Plan {
    /// All is well.
    ///
    /// # Panics
    /// When the settings cannot work: a plan is written by a test.
    pub fn new(settings: Settings) -> Self {
        let config = settings.check().unwrap_or_else(|error| panic!("{error}"));
        Self {
            config,
            seed: 1,
            ids: ClientIdPolicy::Pooled,
            service: ServiceTraits::default(),
            master: MasterTraits::default(),
            stack: PeerStack::default(),
            paths: vec![PathTraits::default()],
            timer_late: Duration::ZERO,
            faults: Vec::new(),
        }
    }

    /// Adds a fault.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }
}
