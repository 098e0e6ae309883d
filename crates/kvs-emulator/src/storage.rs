//! The storage service: sessions in which the service itself is the peer of every client.
//!
//! A client joins by a call; the service then offers to it over its socket, one offer a call, and
//! the client answers (docs/kvs-protocol.md 1.6 and 2.5). The master's media goes to every viewer.
//! Nothing is stored.

mod member;
mod peer;
mod splice;

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::ApiError;
use crate::presence::{PresenceChange, Who};
use crate::shared::Shared;
use crate::storage_sessions::Joined;
use member::Member;

/// Adds a client, or adds it once more: each call brings one offer of a connection of its own.
pub(crate) fn join(shared: &Arc<Shared>, who: Who) -> Result<(), ApiError> {
    let now = Instant::now();
    let quotas = &shared.config.quotas;
    let viewers_max = quotas.enabled.then_some(quotas.storage_viewers_max);
    let lifetime = shared.lifetimes.storage_session;
    let joined = shared.storage.join(&who, lifetime, viewers_max, now).map_err(|_full| {
        // Clients distinguish this error from a throttle by its text (docs/kvs-protocol.md 1.3).
        ApiError::limit("The maximum number of viewers connected to the session is reached.")
    })?;
    shared.events.record(&who, None, PresenceChange::StorageJoined, now);
    let shared = shared.clone();
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Joined { number, hub, inbox, ended, ends_at } = joined;
        let member =
            Member { shared: shared.clone(), who: who.clone(), number, hub, inbox, ends_at };
        let why = member.run(ended).await;
        let now = Instant::now();
        shared.storage.leave(&who, number, shared.lifetimes.storage_slot_kept, now);
        shared.events.record(&who, None, PresenceChange::StorageLeft { why }, now);
    });
    Ok(())
}

/// Sends a client in the session a new offer from a new connection; `false` if there is none.
pub(crate) fn offer_again(shared: &Arc<Shared>, arn: &str, client_id: Option<&str>) -> bool {
    let who = shared.storage.member(arn, client_id);
    who.is_some_and(|who| join(shared, who).is_ok())
}
