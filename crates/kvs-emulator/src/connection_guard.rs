//! Removes a client from its channel when the task of its socket ends, for any reason.

use std::sync::Arc;

use tokio::time::Instant;

use crate::peer::Peer;
use crate::presence::{PresenceChange, Why};
use crate::relay::Link;
use crate::shared::Shared;
use crate::sync::lock;

/// Frees the connection when dropped, also when the socket's task never ran.
pub(crate) struct ConnectionGuard {
    shared: Arc<Shared>,
    link: Link,
    pub(crate) why: Why,
    /// `None` for a connection without a client, which a fault made.
    peer: Option<Peer>,
}

impl ConnectionGuard {
    pub(crate) fn new(shared: &Arc<Shared>, link: Link, peer: Option<Peer>) -> Self {
        shared.events.record(&link.who, Some(link.id), PresenceChange::Joined, Instant::now());
        Self { shared: shared.clone(), link, why: Why::Lost, peer }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The number of the TCP connection that carries the socket.
    pub(crate) fn tcp(&self) -> Option<u64> {
        self.peer.as_ref().map(|peer| peer.connection.tcp)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let (who, now) = (&self.link.who, Instant::now());
        lock(&self.shared.relay).leave(&who.arn, self.link.id, now);
        let left = PresenceChange::Left { why: self.why };
        self.shared.events.record(who, Some(self.link.id), left, now);
    }
}
