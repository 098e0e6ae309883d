//! The viewer slots of a storage session, without IO.
//!
//! "A maximum of 3 viewers"; after a viewer leaves, its slot stays consumed for a minute, and
//! within that minute only the same client id takes it again (JoinStorageSessionAsViewer,
//! docs/kvs-protocol.md 1.6).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// The viewers' slots of one session.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_client: BTreeMap<String, Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Taken,
    /// The slot's viewer left; the slot becomes free at this time.
    Kept(Instant),
}

impl Slots {
    /// Takes a slot, or the client's own again. Returns `false` if none is free.
    pub(super) fn take(&mut self, client_id: &str, max: Option<usize>, now: Instant) -> bool {
        self.forget(now);
        let own = self.by_client.contains_key(client_id);
        if !own && max.is_some_and(|max| self.by_client.len() >= max) {
            return false;
        }
        self.by_client.insert(client_id.to_owned(), Slot::Taken);
        true
    }

    /// Keeps the slot of a client that left, for the time `kept`.
    pub(super) fn leave(&mut self, client_id: &str, kept: Duration, now: Instant) {
        if let Some(slot) = self.by_client.get_mut(client_id) {
            *slot = Slot::Kept(now + kept);
        }
    }

    /// Whether no slot is taken or kept any more.
    pub(super) fn is_empty(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.by_client.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        self.by_client.retain(|_, slot| match slot {
            Slot::Taken => true,
            Slot::Kept(until) => now < *until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn fourth_storage_viewer_is_refused() {
        let (now, mut slots) = (Instant::now(), Slots::default());
        for id in ["a", "b", "c", "a"] {
            assert!(slots.take(id, Some(3), now), "{id}");
        }
        assert!(!slots.take("d", Some(3), now));
        assert!(slots.take("d", None, now), "quotas are off");
    }

    #[tokio::test(start_paused = true)]
    async fn storage_slot_is_kept_a_minute_for_the_same_id() {
        let (now, mut slots) = (Instant::now(), Slots::default());
        assert!(slots.take("a", Some(1), now));
        slots.leave("a", MINUTE, now);
        let later = now + MINUTE - Duration::from_secs(1);
        assert!(!slots.take("b", Some(1), later));
        assert!(slots.take("a", Some(1), later), "its own slot");
        slots.leave("a", MINUTE, later);
        assert!(!slots.is_empty(later));
        assert!(slots.take("b", Some(1), later + MINUTE));
    }
}
