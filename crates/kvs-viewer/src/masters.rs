//! Stores what this process learned about masters, by channel (contract, N19). The knowledge
//! outlives sessions, for an hour at most, and is bounded; the core decides what is learned and how
//! it is used.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use negotiation_core::MasterKnowledge;
use tokio::time::Instant;
use viewer_session::MasterMemory;

/// Older knowledge is not used, since the camera may run other software by then.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// The maximum number of remembered channels; the one updated longest ago is removed first.
const CHANNELS_MAX: usize = 4096;

static MASTERS: Mutex<Masters> = Mutex::new(Masters(BTreeMap::new()));

#[derive(Debug)]
struct Masters(BTreeMap<String, (MasterKnowledge, Instant)>);

impl Masters {
    fn recall(&self, channel: &str, now: Instant) -> MasterKnowledge {
        let fresh =
            |(_, at): &&(MasterKnowledge, Instant)| now.saturating_duration_since(*at) < KEPT_FOR;
        self.0.get(channel).filter(fresh).map(|(known, _)| *known).unwrap_or_default()
    }

    fn remember(&mut self, channel: &str, known: MasterKnowledge, now: Instant) {
        if self.0.len() >= CHANNELS_MAX && !self.0.contains_key(channel) {
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(oldest) = oldest.map(|(channel, _)| channel.clone()) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(channel.to_owned(), (known, now));
    }
}

/// The memory of one channel.
#[derive(Debug)]
pub(crate) struct ChannelMemory {
    channel: String,
}

impl ChannelMemory {
    /// Creates the memory; `channel` distinguishes channels of different services, regions and
    /// accounts.
    pub(crate) fn of(channel: String) -> Self {
        Self { channel }
    }
}

impl MasterMemory for ChannelMemory {
    fn recall(&self) -> MasterKnowledge {
        masters().recall(&self.channel, Instant::now())
    }

    fn remember(&mut self, known: MasterKnowledge) {
        masters().remember(&self.channel, known, Instant::now());
    }
}

fn masters() -> MutexGuard<'static, Masters> {
    // Each change is a single insertion or removal, so a panic elsewhere leaves the map consistent.
    MASTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignores() -> MasterKnowledge {
        MasterKnowledge { answers_restarts: Some(false), ..MasterKnowledge::default() }
    }

    /// Contract, N19: the knowledge is kept per channel, and for an hour.
    #[tokio::test(start_paused = true)]
    async fn n19_knowledge_is_kept_for_an_hour_and_per_channel() {
        let mut masters = Masters(BTreeMap::new());
        let learned = Instant::now();
        masters.remember("door", ignores(), learned);
        let at = |secs| learned + Duration::from_secs(secs);
        assert_eq!(masters.recall("door", at(3599)), ignores());
        assert_eq!(masters.recall("door", at(3600)), MasterKnowledge::default());
        assert_eq!(masters.recall("window", at(1)), MasterKnowledge::default());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_drops_the_oldest() {
        let mut masters = Masters(BTreeMap::new());
        let began = Instant::now();
        for n in 0..=CHANNELS_MAX as u64 {
            masters.remember(&format!("channel {n}"), ignores(), began + Duration::from_millis(n));
        }
        let now = began + Duration::from_secs(60);
        assert_eq!(masters.0.len(), CHANNELS_MAX);
        assert_eq!(masters.recall("channel 0", now), MasterKnowledge::default());
        assert_eq!(masters.recall("channel 1", now), ignores());
    }

    #[tokio::test]
    async fn sessions_of_one_channel_share_what_they_learn() {
        let name = || "sessions_of_one_channel_share_what_they_learn".to_owned();
        ChannelMemory::of(name()).remember(ignores());
        assert_eq!(ChannelMemory::of(name()).recall(), ignores());
    }
}
