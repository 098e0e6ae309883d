//! Leases of client ids: from a channel's pool, and with a directory also from other processes of
//! this machine (contract, N3).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{ClientId, ClientIdPolicy, Failure, FailureCode, Timestamp};

use crate::id_file::{Claim, IdFile};
use crate::quota::Quotas;
use crate::state_dir::Disk;

/// Leases client ids. Clones share pools and disk.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    quotas: Arc<Quotas>,
    disk: Disk,
}

impl Leases {
    pub(crate) fn new(quotas: Arc<Quotas>, disk: Disk) -> Self {
        Self { quotas, disk }
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Leases an id of the channel; with a directory, one that no other process of this machine
    /// uses or lets rest.
    pub(crate) async fn acquire(
        &self,
        key: &str,
        base: &ClientId,
        policy: ClientIdPolicy,
        dir: Option<&Path>,
    ) -> Result<IdLease, Failure> {
        if policy == ClientIdPolicy::Fixed {
            return Ok(self.fixed(key, base));
        }
        let leased = match dir {
            None => self.quotas.lease_id(key, base).map(|id| (id, None)),
            Some(dir) => self.acquire_shared(key, base, dir).await,
        };
        let (id, file) = leased.ok_or_else(|| {
            Failure::new(
                FailureCode::ViewerLimit,
                "every client id of this machine is in use on this channel",
            )
        })?;
        Ok(self.lease(key, id, policy, file))
    }

    /// Leases an id that does not belong to the pool.
    pub(crate) fn fixed(&self, key: &str, id: &ClientId) -> IdLease {
        self.lease(key, id.clone(), ClientIdPolicy::Fixed, None)
    }

    fn lease(
        &self,
        key: &str,
        id: ClientId,
        policy: ClientIdPolicy,
        file: Option<IdFile>,
    ) -> IdLease {
        let (key, leases) = (key.to_owned(), self.clone());
        IdLease { leases, key, id, policy, offered: false, idle_since: None, file }
    }

    /// Leases the pool's first choice that no other process uses or lets rest.
    async fn acquire_shared(
        &self,
        key: &str,
        base: &ClientId,
        dir: &Path,
    ) -> Option<(ClientId, Option<IdFile>)> {
        let mut rejected = RejectedIds { quotas: &self.quotas, key, ids: Vec::new() };
        while let Some(id) = self.quotas.lease_id(key, base) {
            // The id is pushed before the wait, so that it is returned if this future is dropped.
            rejected.ids.push((id.clone(), None));
            let rested = match self.claim(dir, key, &id, false).await {
                Ok(Claim::Acquired(file)) => {
                    rejected.ids.pop();
                    return Some((id, Some(file)));
                }
                Ok(Claim::Resting(rested)) => Some(rested),
                Ok(Claim::InUse) => None,
                Err(error) => {
                    tracing::warn!(%error, dir = %dir.display(), "client ids are not shared");
                    rejected.ids.pop();
                    return Some((id, None));
                }
            };
            if let Some((_, known)) = rejected.ids.last_mut() {
                *known = rested;
            }
        }
        // All are resting or in use: takes the one that rested longest, as within one process.
        rejected.ids.sort_by_key(|(_, rested)| *rested);
        let (id, _) = rejected.ids.last().filter(|(_, rested)| rested.is_some())?.clone();
        match self.claim(dir, key, &id, true).await {
            Ok(Claim::Acquired(file)) => {
                rejected.ids.pop();
                Some((id, Some(file)))
            }
            Ok(Claim::Resting(_) | Claim::InUse) | Err(_) => None,
        }
    }

    async fn claim(
        &self,
        dir: &Path,
        key: &str,
        id: &ClientId,
        allow_resting: bool,
    ) -> io::Result<Claim> {
        let (dir, key, id) = (dir.to_owned(), key.to_owned(), id.clone());
        self.disk.run(move || IdFile::claim(&dir, &key, &id, allow_resting)).await
    }
}

/// A client id that one attempt uses. Dropping the lease returns the id.
#[derive(Debug)]
pub(crate) struct IdLease {
    leases: Leases,
    key: String,
    id: ClientId,
    policy: ClientIdPolicy,
    offered: bool,
    /// When the id's last signaling connection closed; `None` while one is open.
    idle_since: Option<Timestamp>,
    file: Option<IdFile>,
}

impl IdLease {
    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }

    /// Records that a signaling connection uses the id.
    pub(crate) fn in_use(&mut self) {
        self.idle_since = None;
    }

    /// Records that no signaling connection uses the id: once the id is returned, its rest counts
    /// from now.
    pub(crate) fn idle(&mut self) {
        let now = self.leases.quotas.now();
        self.idle_since.get_or_insert(now);
    }

    /// Records that an offer or answer is about to be sent: the master may keep a session of this
    /// id after the signaling connection is gone. Returns the file that must record the first one.
    pub(crate) fn offered(&mut self) -> Option<(IdFile, Disk)> {
        if std::mem::replace(&mut self.offered, true) {
            return None;
        }
        Some((self.file.clone()?, self.leases.disk.clone()))
    }
}

impl Drop for IdLease {
    fn drop(&mut self) {
        let Leases { quotas, disk } = &self.leases;
        let now = quotas.now();
        let since = self.idle_since.unwrap_or(now);
        if self.policy == ClientIdPolicy::Pooled {
            quotas.return_id(&self.key, &self.id, self.offered, since);
        }
        if let Some(file) = self.file.take().filter(|_| self.offered) {
            file.give_back_later(disk, now.saturating_since(since));
        }
    }
}

/// Ids that were leased from the pool but that other processes use or let rest. Dropping this
/// returns them to the pool: the files record their state, so the pool does not have to.
struct RejectedIds<'a> {
    quotas: &'a Quotas,
    key: &'a str,
    /// The ids and how long each has rested; `None` for an id in use.
    ids: Vec<(ClientId, Option<Duration>)>,
}

impl Drop for RejectedIds<'_> {
    fn drop(&mut self) {
        for (id, _) in &self.ids {
            self.quotas.return_id(self.key, id, false, self.quotas.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::ClientIdPool;
    use tokio::time::timeout;

    const POOLED: ClientIdPolicy = ClientIdPolicy::Pooled;

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    fn leases() -> Leases {
        Leases::new(Arc::new(Quotas::new()), Disk::new())
    }

    #[tokio::test(start_paused = true)]
    async fn id_that_sent_an_offer_rests() {
        let (leases, base) = (leases(), id("cam"));
        let acquire = async || leases.acquire("door", &base, POOLED, None).await.expect("free");
        let first = acquire().await;
        let second = acquire().await;
        assert_eq!((first.id().as_str(), second.id().as_str()), ("cam", "cam-2"));
        drop(first);
        let mut again = acquire().await;
        assert_eq!(again.id().as_str(), "cam");
        again.offered();
        drop(again);
        assert_eq!(acquire().await.id().as_str(), "cam-3");
        tokio::time::advance(ClientIdPool::REST).await;
        assert_eq!(acquire().await.id().as_str(), "cam");
    }

    #[tokio::test]
    async fn ids_of_other_processes_are_not_leased() {
        let dir = tempfile::tempdir().expect("a directory");
        let other_process = |id: &ClientId| match IdFile::claim(dir.path(), "door", id, false) {
            Ok(Claim::Acquired(file)) => file,
            other => panic!("not free: {other:?}"),
        };
        let _in_use = other_process(&id("cam"));
        let killed = other_process(&id("cam-2"));
        killed.offered().expect("written");
        drop(killed);
        let (leases, base) = (leases(), id("cam"));
        let acquire = || leases.acquire("door", &base, POOLED, Some(dir.path()));
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(acquire().await.expect("free"));
        }
        assert_eq!(held[0].id().as_str(), "cam-3");
        assert_eq!(acquire().await.expect("the resting id").id().as_str(), "cam-2");
    }

    #[tokio::test]
    async fn dropped_request_that_waits_for_the_disk_holds_no_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let (leases, base) = (leases(), id("cam"));
        let acquire = || leases.acquire("door", &base, POOLED, Some(dir.path()));
        for _ in 0..2 * ClientIdPool::IDS_MAX {
            // Most of these futures are pending here, and dropped.
            let _ = futures_util::poll!(Box::pin(acquire()).as_mut());
        }
        // A file that is being opened is locked until it is closed.
        let leased = async {
            loop {
                if acquire().await.is_ok_and(|lease| lease.id() == &base) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), leased).await.expect("the first id is free");
    }

    // Shows: N3.
    #[tokio::test]
    async fn fixed_id_is_the_same_in_every_lease() {
        let (leases, base) = (leases(), id("cam"));
        let acquire = async || {
            leases.acquire("door", &base, ClientIdPolicy::Fixed, None).await.expect("free")
        };
        let (first, second) = (acquire().await, acquire().await);
        assert_eq!(first.id(), second.id());
    }
}
