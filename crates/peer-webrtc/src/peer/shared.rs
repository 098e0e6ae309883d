//! State that the port and the application share with a peer's task.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use crate::queue::CommandQueue;
use crate::stack::Stack;
use crate::stats::Counters;
use crate::tap::TapLosses;

/// State that the port and the application share with a peer's task.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) commands: CommandQueue,
    pub(crate) keyframe: Notify,
    counters: Mutex<Counters>,
    pub(super) stack: Mutex<Weak<Stack>>,
    pub(super) losses: OnceLock<Arc<TapLosses>>,
}

impl Shared {
    pub(crate) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stack(&self) -> Option<Arc<Stack>> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Returns how many RTP and RTCP packets were lost because they were not read in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.losses.get().map_or(0, |losses| losses.rtp() + losses.control())
    }
}

#[cfg(test)]
mod tests;
