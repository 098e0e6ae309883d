//! What the whole process shares on a channel: the pace of connects and the pool of client ids.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use negotiation_core::{ClientId, ClientIdPolicy, ClientIdPool, Failure, FailureCode, Timestamp};
use tokio::time::{Instant, sleep_until};

/// Quota: ConnectAsViewer and ConnectAsMaster 3 a second and channel.
const CONNECTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Channel {
    connects: VecDeque<Instant>,
    ids: ClientIdPool,
}

fn with_channel<T>(key: &str, act: impl FnOnce(&mut Channel) -> T) -> T {
    static CHANNELS: Mutex<BTreeMap<String, Channel>> = Mutex::new(BTreeMap::new());
    // Every change below is whole: a panic elsewhere leaves nothing half done.
    let mut channels = CHANNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let result = act(channels.entry(key.to_owned()).or_default());
    let now = Instant::now();
    channels.retain(|_, channel| {
        channel.connects.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        !channel.connects.is_empty() || channel.ids != ClientIdPool::default()
    });
    result
}

/// Waits until one more connect is within the quota.
pub(crate) async fn admit_connect(key: &str) {
    loop {
        let now = Instant::now();
        let wait_until = with_channel(key, |channel| {
            channel.connects.retain(|at| now.saturating_duration_since(*at) < WINDOW);
            if channel.connects.len() < CONNECTS {
                channel.connects.push_back(now);
                return None;
            }
            channel.connects.front().map(|first| *first + WINDOW)
        });
        match wait_until {
            Some(at) => sleep_until(at).await,
            None => return,
        }
    }
}

/// A client id in use by one link. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct IdLease {
    key: String,
    id: ClientId,
    policy: ClientIdPolicy,
    offered: bool,
}

impl IdLease {
    /// Takes an id for a link (contract, N3).
    pub(crate) fn take(
        key: &str,
        base: &ClientId,
        policy: ClientIdPolicy,
    ) -> Result<Self, Failure> {
        let id = match policy {
            ClientIdPolicy::Fixed => base.clone(),
            ClientIdPolicy::Pooled => {
                with_channel(key, |channel| channel.ids.lease(base, timestamp())).ok_or_else(
                    || {
                        Failure::new(
                            FailureCode::ViewerLimit,
                            "every client id of this process is in use on this channel",
                        )
                    },
                )?
            }
        };
        Ok(Self { key: key.to_owned(), id, policy, offered: false })
    }

    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }

    /// An offer went out: the master may hold a session of this id after the link is gone.
    pub(crate) fn offered(&mut self) {
        self.offered = true;
    }
}

impl Drop for IdLease {
    fn drop(&mut self) {
        if self.policy == ClientIdPolicy::Pooled {
            with_channel(&self.key, |channel| {
                channel.ids.give_back(&self.id, self.offered, timestamp());
            });
        }
    }
}

/// Time since the first use in this process: pools outlive sessions and their clocks.
fn timestamp() -> Timestamp {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    Timestamp::new(Instant::now().saturating_duration_since(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    #[tokio::test(start_paused = true)]
    async fn three_connects_a_second_and_channel() {
        let start = Instant::now();
        for _ in 0..7 {
            admit_connect("pace-a").await;
        }
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        let start = Instant::now();
        admit_connect("pace-b").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_rests_when_an_offer_went_out_on_it() {
        let take = || IdLease::take("ids", &id("cam"), ClientIdPolicy::Pooled).expect("free");
        let first = take();
        let second = take();
        assert_eq!((first.id().as_str(), second.id().as_str()), ("cam", "cam-2"));
        drop(first);
        let mut again = take();
        assert_eq!(again.id().as_str(), "cam");
        again.offered();
        drop(again);
        assert_eq!(take().id().as_str(), "cam-3");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(take().id().as_str(), "cam");
    }

    #[test]
    fn a_fixed_id_stays() {
        let take = || IdLease::take("fixed", &id("cam"), ClientIdPolicy::Fixed).expect("free");
        let (first, second) = (take(), take());
        assert_eq!(first.id(), second.id());
    }
}
