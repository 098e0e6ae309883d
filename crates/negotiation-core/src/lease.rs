//! Which client id an attempt gets (contract, N3).
//!
//! A channel admits few viewers, and a master holds the session of an id that vanished for up to a
//! minute and answers nothing on it meanwhile. So ids are few, reused, and rested after use.
//! The signaling adapter owns one pool per process and channel; the simulator owns one too.

use alloc::collections::BTreeMap;
use alloc::format;
use core::time::Duration;

use crate::time::Timestamp;
use crate::types::ClientId;

/// How ids are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientIdPolicy {
    /// The id as given first, then with `-2`, `-3`, ... while earlier ones rest.
    #[default]
    Pooled,
    /// Always the id as given: some masters authorise by it.
    Fixed,
}

/// The ids of one process on one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientIdPool {
    leases: BTreeMap<ClientId, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Leased,
    /// Free again; `offered`: whether a master may still hold a session of it.
    Returned {
        at: Timestamp,
        offered: bool,
    },
}

impl ClientIdPool {
    /// How long an id rests after its connection closed, if an offer was sent on it.
    ///
    /// Masters hold the session of an id that vanished for 30 s to over 55 s (kvs-protocol.md 3.4).
    pub const REST: Duration = Duration::from_secs(60);

    /// Most ids of one base; KVS admits 10 viewers on a channel.
    pub const IDS_MAX: u32 = 10;

    /// Leases an id: the lowest of `base`, `base-2`, `base-3`, ... that is not in use and that has
    /// rested; when none has, the one that rested longest.
    ///
    /// Ids under lease are never given twice, so with every id of the base leased the answer is
    /// `None`.
    pub fn lease(&mut self, base: &ClientId, now: Timestamp) -> Option<ClientId> {
        let mut longest_rested: Option<(Timestamp, ClientId)> = None;
        for number in 1..=Self::IDS_MAX {
            let id = numbered(base, number);
            match self.leases.get(&id) {
                Some(State::Leased) => {}
                Some(State::Returned { at, offered: true })
                    if now.saturating_since(*at) < Self::REST =>
                {
                    if longest_rested.as_ref().is_none_or(|(other, _)| at < other) {
                        longest_rested = Some((*at, id));
                    }
                }
                Some(State::Returned { .. }) | None => {
                    longest_rested = Some((Timestamp::ZERO, id));
                    break;
                }
            }
        }
        let (_, id) = longest_rested?;
        self.leases.insert(id.clone(), State::Leased);
        Some(id)
    }

    /// Gives an id back when its connection is closed; `offered` if an offer was sent on it.
    pub fn give_back(&mut self, id: &ClientId, offered: bool, now: Timestamp) {
        self.leases.insert(id.clone(), State::Returned { at: now, offered });
        // What has rested is as good as new: the pool stays as small as what it must remember.
        self.leases.retain(|_, state| match state {
            State::Leased => true,
            State::Returned { at, offered } => *offered && now.saturating_since(*at) < Self::REST,
        });
    }
}

fn numbered(base: &ClientId, number: u32) -> ClientId {
    if number == 1 {
        return base.clone();
    }
    let suffix = format!("-{number}");
    // A base of full length gives up its last characters for the number.
    let room = ClientId::CHARS_MAX - suffix.len();
    let stem = &base.as_str()[..base.as_str().len().min(room)];
    ClientId::new(&format!("{stem}{suffix}")).unwrap_or_else(|_| base.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    // Shows: N3.
    #[test]
    fn id_with_an_offer_rests_and_one_without_does_not() {
        let (mut pool, base) = (ClientIdPool::default(), id("cam"));
        assert_eq!(pool.lease(&base, at(0)), Some(id("cam")));
        pool.give_back(&id("cam"), false, at(1));
        assert_eq!(pool.lease(&base, at(1)), Some(id("cam")));
        pool.give_back(&id("cam"), true, at(2));
        assert_eq!(pool.lease(&base, at(3)), Some(id("cam-2")));
        assert_eq!(pool.lease(&base, at(62)), Some(id("cam")));
    }

    #[test]
    fn when_all_rest_the_longest_rested_is_used() {
        let (mut pool, base) = (ClientIdPool::default(), id("cam"));
        for n in 0..10 {
            let leased = pool.lease(&base, at(n)).expect("one is left");
            pool.give_back(&leased, true, at(n));
        }
        assert_eq!(pool.lease(&base, at(11)), Some(id("cam")));
        assert_eq!(pool.lease(&base, at(11)), Some(id("cam-2")));
    }

    #[test]
    fn of_ids_that_all_rest_the_first_of_the_longest_is_used() {
        let (mut pool, base) = (ClientIdPool::default(), id("cam"));
        let ids: alloc::vec::Vec<_> =
            (0..10).map(|_| pool.lease(&base, at(0)).expect("free")).collect();
        for (number, id) in ids.iter().enumerate() {
            let closed = if matches!(number, 3 | 6) { 1 } else { 2 };
            pool.give_back(id, true, at(closed));
        }
        assert_eq!(pool.lease(&base, at(11)), Some(id("cam-4")));
        assert_eq!(pool.lease(&base, at(11)), Some(id("cam-7")));
        assert_eq!(pool.lease(&base, at(11)), Some(id("cam")));
    }

    #[test]
    fn pool_forgets_what_has_rested_and_what_never_offered() {
        let (mut pool, base) = (ClientIdPool::default(), id("cam"));
        let [one, two, three] = [(); 3].map(|()| pool.lease(&base, at(0)).expect("free"));
        pool.give_back(&one, true, at(1));
        pool.give_back(&two, false, at(2));
        assert_eq!(pool.leases.len(), 2, "the second is as good as new");
        pool.give_back(&three, true, at(61));
        assert_eq!(pool.leases.len(), 1, "the first has rested for a minute");
    }

    // Shows: 65.
    #[test]
    fn ten_sessions_at_once_share_ten_ids() {
        let (mut pool, base) = (ClientIdPool::default(), id("cam"));
        let ids: alloc::collections::BTreeSet<_> =
            (0..10).map(|_| pool.lease(&base, at(0)).expect("free")).collect();
        assert_eq!(ids.len(), 10);
        assert_eq!(pool.lease(&base, at(0)), None);
    }

    #[test]
    fn base_of_full_length_still_gets_numbers() {
        let (mut pool, base) = (ClientIdPool::default(), id(&"x".repeat(256)));
        let first = pool.lease(&base, at(0)).expect("free");
        let second = pool.lease(&base, at(0)).expect("free");
        assert_ne!(first, second);
        assert_eq!(second.as_str().len(), 256);
    }
}
