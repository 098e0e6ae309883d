//! The session's port, which passes each command to its peer connection's task.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use negotiation_core::{Completion, Done, Failure, FailureCode, PeerCommand, PeerId, Ticket};
use viewer_session::{PeerInput, PeerPort};
use webrtc::peer_connection::StatsSelector;

use crate::config::{InvalidPeerConfig, PeerConfig};
use crate::mailbox::Mailbox;
use crate::media::{MediaEvent, MediaReceiver};
use crate::peer::{Peer, Shared};
use crate::queue::Submitted;
use crate::received::MediaClock;
use crate::stats::{MediaTotals, PeerStats, local_address, path};

/// The most open peer connections. Attempts do not overlap, so a session has one.
const PEERS_MAX: usize = 16;
/// The most events that wait for the session.
const EVENTS_MAX: usize = 1024;

type Peers = Arc<Mutex<BTreeMap<PeerId, Arc<Shared>>>>;

/// A [`PeerPort`] over the webrtc crate. Needs a tokio runtime with time and IO.
pub struct WebRtcPeer {
    config: Arc<PeerConfig>,
    peers: Peers,
    outbox: Arc<Mailbox<PeerInput>>,
    media: Arc<Mailbox<MediaEvent>>,
    receiver: Option<MediaReceiver>,
    clock: MediaClock,
}

impl WebRtcPeer {
    /// Creates a port without a peer connection.
    ///
    /// # Errors
    /// Names the configuration field with an invalid value.
    pub fn new(config: PeerConfig) -> Result<Self, InvalidPeerConfig> {
        config.check()?;
        let media = Arc::new(Mailbox::with_bytes(config.media_queue, config.media_bytes_max));
        Ok(Self {
            config: Arc::new(config),
            peers: Peers::default(),
            outbox: Arc::new(Mailbox::new(EVENTS_MAX)),
            receiver: Some(MediaReceiver::new(Arc::clone(&media))),
            media,
            clock: MediaClock::new(tokio::time::Instant::now().into_std()),
        })
    }

    /// Returns the receiver of media, for all successive peer connections. There is one; later
    /// calls return `None`.
    pub fn media(&mut self) -> Option<MediaReceiver> {
        self.receiver.take()
    }

    /// Returns a handle for statistics that can be used alongside the port.
    pub fn monitor(&self) -> PeerMonitor {
        PeerMonitor { peers: Arc::clone(&self.peers) }
    }

    fn complete(&self, ticket: Ticket, outcome: Result<Done, Failure>) {
        self.outbox.push(PeerInput::Completed(Completion { ticket, outcome }));
    }

    fn create(&self, peer: PeerId, ticket: Ticket) -> Result<(), Failure> {
        let mut peers = lock(&self.peers);
        peers.retain(|_, shared| !shared.commands.is_closed());
        if peers.contains_key(&peer) || peers.len() >= PEERS_MAX {
            return Err(Failure::new(FailureCode::Port, "no room for this peer connection"));
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Failure::new(FailureCode::Port, "there is no tokio runtime here"))?;
        let shared = Arc::new(Shared::default());
        shared.commands.submit(ticket, PeerCommand::Create { peer });
        peers.insert(peer, Arc::clone(&shared));
        let task = Peer::new(
            peer,
            Arc::clone(&self.config),
            shared,
            Arc::clone(&self.outbox),
            Arc::clone(&self.media),
            self.clock.clone(),
        );
        runtime.spawn(task.run());
        Ok(())
    }
}

#[async_trait]
impl PeerPort for WebRtcPeer {
    fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
        let peer = command.peer();
        if matches!(command, PeerCommand::Create { .. }) {
            if let Err(failure) = self.create(peer, ticket) {
                self.complete(ticket, Err(failure));
            }
            return;
        }
        let closing = command.is_close();
        let submitted = lock(&self.peers)
            .get(&peer)
            .map_or(Submitted::TooLate, |shared| shared.commands.submit(ticket, command));
        match submitted {
            Submitted::Queued => {}
            Submitted::Overtook(tickets) => {
                for overtaken in tickets {
                    self.complete(overtaken, Err(Failure::cancelled()));
                }
            }
            Submitted::TooLate if closing => self.complete(ticket, Ok(Done::Ok)),
            Submitted::TooLate => {
                let failure = Failure::new(FailureCode::NotOpen, "the peer connection is not open");
                self.complete(ticket, Err(failure));
            }
            Submitted::Full => {
                let failure = Failure::new(FailureCode::Port, "too many commands are waiting");
                self.complete(ticket, Err(failure));
            }
        }
    }

    async fn next(&mut self) -> PeerInput {
        match self.outbox.next().await {
            Some(input) => input,
            // The mailbox is closed only when the port is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for WebRtcPeer {
    fn drop(&mut self) {
        for shared in lock(&self.peers).values() {
            shared.commands.abandon();
        }
        self.outbox.abandon();
        self.media.close();
    }
}

/// Reads statistics of a port's peer connections while the session runs.
#[derive(Clone)]
pub struct PeerMonitor {
    peers: Peers,
}

impl PeerMonitor {
    /// Takes a snapshot of every open peer connection.
    pub async fn stats(&self) -> Vec<PeerStats> {
        let open: Vec<_> = lock(&self.peers)
            .iter()
            .filter(|(_, shared)| !shared.commands.is_closing())
            .map(|(peer, shared)| (*peer, Arc::clone(shared)))
            .collect();
        let mut all = Vec::with_capacity(open.len());
        for (peer, shared) in open {
            let now = tokio::time::Instant::now().into_std();
            let path = match shared.stack() {
                Some(stack) => path(&stack.connection().get_stats(now, StatsSelector::None).await),
                None => None,
            };
            let streams = shared.counters().snapshot(now);
            let totals = shared.counters().totals();
            all.push(PeerStats { peer, streams, totals, path, dropped: shared.dropped() });
        }
        all
    }

    /// Returns this machine's address that the newest peer connection uses, to check whether it is
    /// still present. Returns `None` without a selected pair, or if a relay or a NAT hides the
    /// address.
    pub async fn local_address(&self) -> Option<IpAddr> {
        let newest = lock(&self.peers)
            .values()
            .rfind(|shared| !shared.commands.is_closing())
            .map(Arc::clone)?;
        let now = tokio::time::Instant::now().into_std();
        let stack = newest.stack()?;
        local_address(&stack.connection().get_stats(now, StatsSelector::None).await)
    }

    /// Sums the counters of every open peer connection; cheaper than [`Self::stats`].
    pub fn totals(&self) -> Vec<(PeerId, MediaTotals)> {
        let peers = lock(&self.peers);
        let open = peers.iter().filter(|(_, shared)| !shared.commands.is_closed());
        open.map(|(peer, shared)| (*peer, shared.counters().totals())).collect()
    }

    /// Requests a keyframe on every open peer connection, as a recorder that lost packets needs.
    pub fn request_keyframe(&self) {
        for shared in lock(&self.peers).values() {
            shared.keyframe.notify_one();
        }
    }
}

fn lock(peers: &Peers) -> MutexGuard<'_, BTreeMap<PeerId, Arc<Shared>>> {
    peers.lock().unwrap_or_else(PoisonError::into_inner)
}
