//! A whole run as plain data: the session's configuration, its surroundings, and the faults.

use core::time::Duration;

use negotiation_core::{ClientIdPolicy, Config, Settings};

use crate::faults::Fault;
use crate::traits::{MasterTraits, PathTraits, PeerStack, ServiceTraits};

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The session's configuration.
    pub config: Config,
    /// The session's seed.
    pub seed: u64,
    /// Whether client ids come from the pool.
    pub ids: ClientIdPolicy,
    /// The behaviour of KVS.
    pub service: ServiceTraits,
    /// The behaviour of the camera.
    pub master: MasterTraits,
    /// The behaviour of the peer stack.
    pub stack: PeerStack,
    /// The network path between viewer and master in attempt 1, 2, ...; the last one repeats.
    pub paths: Vec<PathTraits>,
    /// How late every timer fires.
    pub timer_late: Duration,
    /// The faults of the run.
    pub faults: Vec<Fault>,
}

impl Default for Plan {
    /// A run without faults, with the default configuration.
    fn default() -> Self {
        Self::new(Settings::one_retry())
    }
}

impl Plan {
    /// A run without faults.
    ///
    /// # Panics
    /// When the settings are invalid: a plan is written by a test.
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
