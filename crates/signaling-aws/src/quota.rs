//! What the whole process shares on a channel: the pace of connects and the pool of client ids.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use negotiation_core::{ClientId, ClientIdPolicy, ClientIdPool, Failure, FailureCode, Timestamp};
use tokio::time::{Instant, sleep_until};

use crate::id_file::{self, Claim, IdFile};
use crate::pace::Pace;

/// Quota: ConnectAsViewer and ConnectAsMaster 3 a second and channel.
const CONNECTS: usize = 3;

/// With fewer channels than these it is not asked whether each is still worth remembering.
const CHANNELS_KEPT: usize = 64;

/// The channels that this process has to do with.
struct Channels(BTreeMap<String, Channel>);

#[derive(Default)]
struct Channel {
    connects: Pace,
    ids: ClientIdPool,
    /// How many of the ids are in use.
    leased: usize,
    /// Since when the last one rests that was given back.
    given_back: Timestamp,
}

fn with_channel<T>(key: &str, act: impl FnOnce(&mut Channel) -> T) -> T {
    static CHANNELS: Mutex<Channels> = Mutex::new(Channels(BTreeMap::new()));
    // Every change below is whole: a panic elsewhere leaves nothing half done.
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner).with(key, act)
}

impl Channels {
    fn with<T>(&mut self, key: &str, act: impl FnOnce(&mut Channel) -> T) -> T {
        if self.0.len() >= CHANNELS_KEPT {
            let now = timestamp();
            self.0.retain(|_, channel| !channel.is_as_new(now));
        }
        act(self.0.entry(key.to_owned()).or_default())
    }
}

impl Channel {
    fn lease(
        &mut self,
        key: &str,
        base: &ClientId,
        dir: Option<&Path>,
    ) -> Option<(ClientId, Option<IdFile>)> {
        let leased = lease(&mut self.ids, key, base, dir)?;
        self.leased += 1;
        Some(leased)
    }

    fn give_back(&mut self, id: &ClientId, offered: bool, since: Timestamp) {
        self.ids.give_back(id, offered, since);
        self.leased = self.leased.saturating_sub(1);
        self.given_back = self.given_back.max(since);
    }

    /// Whether one that was never used would do the same.
    fn is_as_new(&mut self, now: Timestamp) -> bool {
        let rested = now.saturating_since(self.given_back) >= ClientIdPool::REST;
        let ids_are_free = self.leased == 0 && (rested || self.ids == ClientIdPool::default());
        ids_are_free && self.connects.is_resting()
    }
}

/// Waits until one more connect is within the quota.
pub(crate) async fn admit_connect(key: &str) {
    while let Err(at) = with_channel(key, |channel| channel.connects.admit(CONNECTS)) {
        sleep_until(at).await;
    }
}

/// A client id in use by one attempt. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct IdLease {
    key: String,
    id: ClientId,
    policy: ClientIdPolicy,
    offered: bool,
    /// Since when no link uses it.
    idle_since: Option<Timestamp>,
    file: Option<IdFile>,
}

impl IdLease {
    /// Takes an id for a link (contract, N3); with a directory, one that no other process of this
    /// machine uses or lets rest.
    pub(crate) fn take(
        key: &str,
        base: &ClientId,
        policy: ClientIdPolicy,
        dir: Option<&Path>,
    ) -> Result<Self, Failure> {
        let (id, file) = match policy {
            ClientIdPolicy::Fixed => (base.clone(), None),
            ClientIdPolicy::Pooled => with_channel(key, |channel| channel.lease(key, base, dir))
                .ok_or_else(|| {
                    Failure::new(
                        FailureCode::ViewerLimit,
                        "every client id of this machine is in use on this channel",
                    )
                })?,
        };
        Ok(Self { key: key.to_owned(), id, policy, offered: false, idle_since: None, file })
    }

    /// An id that is the caller's own.
    pub(crate) fn of(key: &str, id: &ClientId) -> Self {
        Self {
            key: key.to_owned(),
            id: id.clone(),
            policy: ClientIdPolicy::Fixed,
            offered: false,
            idle_since: None,
            file: None,
        }
    }

    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }

    /// A link uses it again.
    pub(crate) fn in_use(&mut self) {
        self.idle_since = None;
    }

    /// No link uses it: should it be given back, it has rested since now.
    pub(crate) fn idle(&mut self) {
        self.idle_since.get_or_insert_with(timestamp);
    }

    /// An offer goes out: the master may hold a session of this id after the link is gone.
    pub(crate) fn offered(&mut self) {
        // A later exchange says nothing new.
        if std::mem::replace(&mut self.offered, true) {
            return;
        }
        if let Some(Err(error)) = self.file.as_mut().map(IdFile::offered) {
            tracing::warn!(%error, "other processes will not know of this client id");
        }
    }
}

impl Drop for IdLease {
    fn drop(&mut self) {
        let now = timestamp();
        let since = self.idle_since.unwrap_or(now);
        if self.policy == ClientIdPolicy::Pooled {
            with_channel(&self.key, |channel| {
                channel.give_back(&self.id, self.offered, since);
            });
        }
        if let Some(file) = self.file.take().filter(|_| self.offered)
            && let Err(error) = file.give_back(now.saturating_since(since))
        {
            tracing::warn!(%error, "other processes will not know of this client id");
        }
    }
}

/// The pool's choice, unless another process has it: then the pool's next.
fn lease(
    ids: &mut ClientIdPool,
    key: &str,
    base: &ClientId,
    dir: Option<&Path>,
) -> Option<(ClientId, Option<IdFile>)> {
    let Some(dir) = dir else { return Some((ids.lease(base, timestamp())?, None)) };
    id_file::tidy(dir);
    let mut taken = Vec::new();
    let mut chosen = None;
    while let Some(id) = ids.lease(base, timestamp()) {
        match IdFile::claim(dir, key, &id, false) {
            Ok(Claim::Ours(file)) => {
                chosen = Some((id, Some(file)));
                break;
            }
            Ok(Claim::Rests(rested)) => taken.push((id, Some(rested))),
            Ok(Claim::Elsewhere) => taken.push((id, None)),
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "client ids are not shared");
                chosen = Some((id, None));
                break;
            }
        }
    }
    if chosen.is_none() {
        // None has rested: the one that rested longest, as within one process.
        taken.sort_by_key(|(_, rested)| *rested);
        let longest = taken.pop_if(|(_, rested)| rested.is_some());
        chosen = longest.and_then(|(id, _)| match IdFile::claim(dir, key, &id, true) {
            Ok(Claim::Ours(file)) => Some((id, Some(file))),
            Ok(Claim::Rests(_) | Claim::Elsewhere) | Err(_) => {
                ids.give_back(&id, false, timestamp());
                None
            }
        });
    }
    for (id, _) in taken {
        // The files remember how it is with these; this process's pool need not.
        ids.give_back(&id, false, timestamp());
    }
    chosen
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
    use std::time::Duration;

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
        let take = || IdLease::take("ids", &id("cam"), ClientIdPolicy::Pooled, None).expect("free");
        let first = take();
        let second = take();
        assert_eq!((first.id().as_str(), second.id().as_str()), ("cam", "cam-2"));
        drop(first);
        let mut again = take();
        assert_eq!(again.id().as_str(), "cam");
        again.offered();
        drop(again);
        assert_eq!(take().id().as_str(), "cam-3");
        // By far: the origin of timestamps is another test's when that one was first.
        tokio::time::advance(ClientIdPool::REST * 2).await;
        assert_eq!(take().id().as_str(), "cam");
    }

    #[tokio::test(start_paused = true)]
    async fn channels_are_forgotten_once_their_ids_have_rested() {
        let mut channels = Channels(BTreeMap::new());
        let mut serve = |key: &str, given_back: bool| {
            channels.with(key, |channel| {
                channel.connects.admit(CONNECTS).expect("the first");
                let (id, _) = channel.lease(key, &id("cam"), None).expect("free");
                if given_back {
                    channel.give_back(&id, true, timestamp());
                }
            });
            channels.0.len()
        };
        for n in 1..=2 * CHANNELS_KEPT {
            // Whoever has to be remembered is, however many there are.
            assert_eq!(serve(&format!("door{n}"), true), n);
        }
        serve("in use", false);
        tokio::time::advance(ClientIdPool::REST * 2).await;
        assert_eq!(serve("next", true), 2, "beside it the one in use");
    }

    #[test]
    fn the_ids_of_other_processes_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = |id: &ClientId| match IdFile::claim(dir.path(), "shared", id, false) {
            Ok(Claim::Ours(file)) => file,
            other => panic!("not free: {other:?}"),
        };
        let _in_use = elsewhere(&id("cam"));
        let mut killed = elsewhere(&id("cam-2"));
        killed.offered().expect("written");
        drop(killed);
        let take = || IdLease::take("shared", &id("cam"), ClientIdPolicy::Pooled, Some(dir.path()));
        let leases: Vec<_> = (0..8).map(|_| take().expect("free")).collect();
        assert_eq!(leases[0].id().as_str(), "cam-3");
        assert_eq!(take().expect("the one that rests").id().as_str(), "cam-2");
    }

    #[test]
    fn a_fixed_id_stays() {
        let take =
            || IdLease::take("fixed", &id("cam"), ClientIdPolicy::Fixed, None).expect("free");
        let (first, second) = (take(), take());
        assert_eq!(first.id(), second.id());
    }
}
