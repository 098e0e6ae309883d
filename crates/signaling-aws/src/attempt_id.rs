//! The client id of one attempt, which its connections share.
//!
//! Connections of one attempt follow one another and overlap for a moment (contract, N20 and N21),
//! all under one id. So the attempt holds the id, also while it has no connection, and the id rests
//! from the moment its last connection closed.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use negotiation_core::{ClientId, ClientIdPolicy, Failure};

use crate::lease::{IdLease, Leases};

/// The client id that an attempt's connections use. Clones share it; the last one returns the id.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttemptId(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    lease: Option<IdLease>,
    connections: usize,
}

/// The parameters with which an attempt leases its id.
#[derive(Clone, Copy)]
pub(crate) struct LeaseRequest<'a> {
    pub(crate) leases: &'a Leases,
    pub(crate) key: &'a str,
    pub(crate) base: &'a ClientId,
    pub(crate) policy: ClientIdPolicy,
    pub(crate) dir: Option<&'a Path>,
    /// The id that the attempt has already, as the session knows it.
    pub(crate) known: Option<&'a ClientId>,
}

impl AttemptId {
    /// Returns the attempt's id for one more connection; the first connection leases it.
    pub(crate) async fn join(&self, request: &LeaseRequest<'_>) -> Result<IdHold, Failure> {
        if let Some(hold) = self.hold(request, None) {
            return Ok(hold);
        }
        let LeaseRequest { leases, key, base, policy, dir, .. } = *request;
        let lease = leases.acquire(key, base, policy, dir).await?;
        // Another connection of the attempt may have leased an id meanwhile: that lease stays, and
        // this one is returned.
        Ok(self.hold(request, Some(lease)).unwrap_or_else(|| unreachable!("there is a lease")))
    }

    /// Adds a connection to the attempt's id, which is `lease` if the attempt has none yet.
    fn hold(&self, request: &LeaseRequest<'_>, lease: Option<IdLease>) -> Option<IdHold> {
        let mut slot = self.slot();
        let id = match (&slot.lease, request.known) {
            (Some(lease), None) => lease.id().clone(),
            (Some(lease), Some(known)) if lease.id() == known => known.clone(),
            // An id that the session supplies does not belong to the pool.
            (_, Some(known)) => {
                slot.lease = Some(request.leases.fixed(request.key, known));
                known.clone()
            }
            (None, None) => slot.lease.insert(lease?).id().clone(),
        };
        slot.connections += 1;
        if let Some(lease) = &mut slot.lease {
            lease.in_use();
        }
        drop(slot);
        Some(IdHold { attempt: self.clone(), id })
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's share of its attempt's id.
#[derive(Debug)]
pub(crate) struct IdHold {
    attempt: AttemptId,
    id: ClientId,
}

impl IdHold {
    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }

    /// Records that an offer or answer is about to be sent: the master may keep a session of the id
    /// after the connection is gone. Waits until other processes can read the record, unless the
    /// disk is too slow.
    pub(crate) async fn offered(&self) {
        let recorded = self.attempt.slot().lease.as_mut().and_then(IdLease::offered);
        if let Some((file, disk)) = recorded
            && let Err(error) = disk.run(move || file.offered()).await
        {
            tracing::warn!(%error, "other processes will not know of this client id");
        }
    }
}

impl Drop for IdHold {
    fn drop(&mut self) {
        let mut slot = self.attempt.slot();
        slot.connections = slot.connections.saturating_sub(1);
        if slot.connections == 0
            && let Some(lease) = &mut slot.lease
        {
            lease.idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvs_client::KvsClient;
    use std::time::Duration;

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    async fn join(client: &KvsClient, attempt: &AttemptId, known: Option<&ClientId>) -> IdHold {
        let base = id("cam");
        let policy = ClientIdPolicy::Pooled;
        let request = LeaseRequest {
            leases: client.leases(),
            key: "door",
            base: &base,
            policy,
            dir: None,
            known,
        };
        attempt.join(&request).await.expect("free")
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_keeps_its_id_between_two_connections() {
        let client = KvsClient::new();
        let attempt = AttemptId::default();
        let first = join(&client, &attempt, None).await;
        first.offered().await;
        drop(first);
        // No other attempt gets the id meanwhile, however long that takes.
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(join(&client, &AttemptId::default(), None).await.id().as_str(), "cam-2");
        let again = join(&client, &attempt, Some(&id("cam"))).await;
        assert_eq!(again.id().as_str(), "cam");
    }

    #[tokio::test(start_paused = true)]
    async fn id_rests_from_the_close_of_its_last_connection() {
        let client = KvsClient::new();
        let attempt = AttemptId::default();
        let (first, second) =
            (join(&client, &attempt, None).await, join(&client, &attempt, None).await);
        assert_eq!(first.id(), second.id());
        first.offered().await;
        drop(first);
        tokio::time::advance(Duration::from_secs(100)).await;
        drop(second);
        tokio::time::advance(Duration::from_secs(50)).await;
        drop(attempt);
        let resting = AttemptId::default();
        assert_eq!(join(&client, &resting, None).await.id().as_str(), "cam-2");
        drop(resting);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(join(&client, &AttemptId::default(), None).await.id().as_str(), "cam");
    }
}
