//! A bounded list of numbered events about clients that join or leave, which a caller can await.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fault::Role;
use crate::sync::lock;

/// An event on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// The event's number, from 1, without gaps.
    pub seq: u64,
    /// Milliseconds since the emulator started.
    pub at_ms: u64,
    /// The channel's name.
    pub channel: String,
    /// The side that the event concerns.
    pub role: Role,
    /// The viewer's id; the master has none.
    pub client_id: Option<String>,
    /// The number of the connection, if the event concerns one.
    pub connection: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub what: PresenceChange,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PresenceChange {
    /// The client's socket opened.
    Joined,
    /// A socket ended.
    Left {
        /// The reason.
        why: Why,
    },
    /// The client was added to the storage session.
    StorageJoined,
    /// The service's media connection to the client is up.
    StorageConnected,
    /// The client is no longer in the storage session.
    StorageLeft {
        /// The reason.
        why: Why,
    },
}

impl PresenceChange {
    fn text(self) -> &'static str {
        match self {
            Self::Joined => "client joined",
            Self::Left { .. } => "client left",
            Self::StorageJoined => "client joined the storage session",
            Self::StorageConnected => "storage session connected",
            Self::StorageLeft { .. } => "client left the storage session",
        }
    }
}

/// How a stay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Why {
    /// The client closed.
    Closed,
    /// The connection was lost.
    Lost,
    /// A newer connection displaced it.
    Displaced,
    /// Nothing was received from it for too long.
    Idle,
    /// The connection reached its maximum age, or its time after GO_AWAY was over.
    Age,
    /// The service ended it, because of a fault or a request of the application or the admin API.
    Service,
    /// The channel was deleted.
    Deleted,
    /// The emulator stopped.
    Stopped,
}

/// The client that an event concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) arn: String,
    pub(crate) channel: String,
    pub(crate) role: Role,
    /// The viewer's id; the master has none.
    pub(crate) client_id: Option<String>,
}

/// The list.
#[derive(Debug)]
pub(crate) struct Events {
    started: Instant,
    events_max: usize,
    kept: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Events {
    /// Keeps the last `events_max` events.
    pub(crate) fn new(now: Instant, events_max: usize) -> Self {
        Self { started: now, events_max, kept: Mutex::default(), last: watch::Sender::new(0) }
    }

    pub(crate) fn record(
        &self,
        who: &Who,
        connection: Option<u64>,
        what: PresenceChange,
        now: Instant,
    ) {
        tracing::info!(channel = who.channel, role = ?who.role, client_id = who.client_id,
            connection, ?what, "{}", what.text());
        let since = now.saturating_duration_since(self.started).as_millis();
        let mut kept = lock(&self.kept);
        let seq = *self.last.borrow() + 1;
        if kept.len() >= self.events_max {
            kept.pop_front();
        }
        kept.push_back(Event {
            seq,
            at_ms: u64::try_from(since).unwrap_or(u64::MAX),
            channel: who.channel.clone(),
            role: who.role,
            client_id: who.client_id.clone(),
            connection,
            what,
        });
        self.last.send_replace(seq);
    }

    /// Returns the kept events after the number `after`.
    pub(crate) fn after(&self, after: u64) -> Vec<Event> {
        lock(&self.kept).iter().filter(|event| event.seq > after).cloned().collect()
    }

    /// Waits for an event after the number `after`, and returns as [`Self::after`] does.
    pub(crate) async fn next(&self, after: u64) -> Vec<Event> {
        let mut last = self.last.subscribe();
        // The wait fails only if the sender is dropped, and that lives as long as `self`.
        let _ = last.wait_for(|seq| *seq > after).await;
        self.after(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> Who {
        Who { arn: "a".into(), channel: "c".into(), role: Role::Master, client_id: None }
    }

    #[tokio::test(start_paused = true)]
    async fn presence_events_are_numbered_bounded_and_awaited() {
        let now = Instant::now();
        const EVENTS: usize = 4;
        let events = Events::new(now, EVENTS);
        let (seen, ()) = tokio::join!(events.next(0), async {
            events.record(&who(), Some(1), PresenceChange::Joined, now);
        });
        assert_eq!((seen[0].seq, seen[0].what), (1, PresenceChange::Joined));
        for _ in 0..EVENTS {
            events.record(&who(), Some(1), PresenceChange::Left { why: Why::Lost }, now);
        }
        let kept = events.after(0);
        assert_eq!((kept.len(), kept[0].seq), (EVENTS, 2), "the oldest went");
        assert!(events.after(EVENTS as u64 + 1).is_empty());
    }

    #[test]
    fn presence_event_is_flat_json() {
        let event = Event {
            seq: 1,
            at_ms: 2,
            channel: "c".into(),
            role: Role::Viewer,
            client_id: Some("v".into()),
            connection: Some(3),
            what: PresenceChange::Left { why: Why::Idle },
        };
        let json = serde_json::to_value(event).unwrap();
        assert_eq!((&json["event"], &json["why"]), (&"left".into(), &"idle".into()));
    }
}
