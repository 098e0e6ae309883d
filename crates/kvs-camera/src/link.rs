//! The camera's link to its channel: kept alive, connected again when it is lost. Media never
//! depends on it.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Candidate, Description, Failure, IceServer, Undecodable};
use signaling_aws::{
    IceSource, MasterEvent, MasterLink, MasterSender, SignalingConfig, StorageSession,
};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The first wait before connecting again, and the longest (the C SDK's numbers, kvs.md 3.1).
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A link that lived this long makes the waits short again.
const HEALTHY: Duration = Duration::from_secs(30);

/// TURN credentials live for 300 s; the C SDK asks anew 30 s before.
const ICE_SERVERS_FRESH: Duration = Duration::from_secs(270);

/// How long a message waits for a lost link.
const SEND_WAIT: Duration = Duration::from_secs(30);

/// What the link brings.
pub(crate) enum LinkEvent {
    Up,
    Down(Failure),
    Offer { from: String, body: Result<Description, Undecodable> },
    Candidate { from: String, body: Candidate },
}

/// The channel's ICE servers, and when they were asked for.
type Servers = (Instant, Vec<IceServer>);

/// The sending end, whichever link is up.
#[derive(Clone)]
pub(crate) struct Line {
    current: watch::Receiver<Option<Current>>,
    servers: Arc<Mutex<Option<Servers>>>,
}

#[derive(Clone)]
struct Current {
    sender: MasterSender,
    ice: IceSource,
    storage: StorageSession,
}

impl Line {
    /// Sends an answer, over the link that comes next if there is none now.
    pub(crate) async fn answer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        self.current().await?.sender.send_answer(to, sdp).await
    }

    /// Sends a candidate.
    pub(crate) async fn candidate(&self, to: &str, candidate: &Candidate) -> Result<(), Failure> {
        self.current().await?.sender.send_candidate(to, candidate).await
    }

    /// Asks the storage service for an offer.
    pub(crate) async fn join_storage_session(&self) -> Result<(), Failure> {
        self.current().await?.storage.join().await
    }

    /// The channel's ICE servers, asked for when those known are about to expire.
    pub(crate) async fn ice_servers(&self) -> Result<Vec<IceServer>, Failure> {
        // Held across the call: of several viewers at once the first asks for all.
        let mut known = self.servers.lock().await;
        if let Some((since, servers)) = &*known
            && since.elapsed() < ICE_SERVERS_FRESH
        {
            return Ok(servers.clone());
        }
        let servers = self.current().await?.ice.fetch().await?;
        *known = Some((Instant::now(), servers.clone()));
        Ok(servers)
    }

    async fn current(&self) -> Result<Current, Failure> {
        let mut current = self.current.clone();
        let up = tokio::time::timeout(SEND_WAIT, current.wait_for(Option::is_some)).await;
        match up {
            Ok(Ok(found)) => found.clone().ok_or_else(Failure::cancelled),
            Ok(Err(_)) | Err(_) => Err(Failure::cancelled()),
        }
    }
}

/// The task's end of it.
pub(crate) struct Keeper {
    config: SignalingConfig,
    current: watch::Sender<Option<Current>>,
    servers: Arc<Mutex<Option<Servers>>>,
    events: mpsc::Sender<LinkEvent>,
}

impl Keeper {
    /// A keeper of links, and the line that goes over them.
    pub(crate) fn new(config: SignalingConfig, events: mpsc::Sender<LinkEvent>) -> (Self, Line) {
        let (current, receiver) = watch::channel(None);
        let servers = Arc::new(Mutex::new(None));
        let line = Line { current: receiver, servers: Arc::clone(&servers) };
        (Self { config, current, servers, events }, line)
    }

    /// Serves `link`, and whatever follows it, until cancelled.
    pub(crate) async fn run(self, link: MasterLink, cancelled: CancellationToken) {
        let mut link = Some(link);
        let mut backoff = Backoff::default();
        while !cancelled.is_cancelled() {
            let open = match link.take() {
                Some(open) => open,
                None => {
                    tokio::select! {
                        () = cancelled.cancelled() => break,
                        () = sleep(backoff.next()) => {}
                    }
                    let connected = tokio::select! {
                        () = cancelled.cancelled() => break,
                        connected = MasterLink::connect(self.config.clone()) => connected,
                    };
                    match connected {
                        Ok(open) => open,
                        Err(failure) => {
                            tracing::warn!(%failure, "the channel cannot be reached");
                            continue;
                        }
                    }
                }
            };
            let since = Instant::now();
            let ended = self.serve(open, &cancelled).await;
            if since.elapsed() >= HEALTHY {
                backoff = Backoff::default();
            }
            if let Some(failure) = ended {
                tracing::info!(%failure, "the link to the channel is lost");
                self.say(LinkEvent::Down(failure), &cancelled).await;
            }
        }
    }

    /// One link, to its end. `None` when it was closed by us.
    async fn serve(&self, mut link: MasterLink, cancelled: &CancellationToken) -> Option<Failure> {
        let (ice, storage) = (link.ice_source(), link.storage());
        let current = Current { sender: link.sender(), ice, storage };
        self.current.send_replace(Some(current));
        self.say(LinkEvent::Up, cancelled).await;
        let ended = loop {
            let event = tokio::select! {
                () = cancelled.cancelled() => break None,
                event = link.recv() => event,
            };
            match event {
                MasterEvent::Offer { from, body } => {
                    self.say(LinkEvent::Offer { from, body }, cancelled).await;
                }
                MasterEvent::Candidate { from, body: Ok(body) } => {
                    self.say(LinkEvent::Candidate { from, body }, cancelled).await;
                }
                MasterEvent::Candidate { body: Err(_), .. } => {
                    tracing::debug!("a candidate that cannot be read");
                }
                MasterEvent::Answer { .. } => tracing::debug!("an answer, and no offer was sent"),
                MasterEvent::Status { correlation, failure } => {
                    tracing::warn!(?correlation, %failure, "the service refused a message");
                }
                // The service ends the link within a minute; the C SDK leaves at once.
                MasterEvent::GoAway => {
                    tracing::info!("the service ends the link: connecting again");
                    break None;
                }
                MasterEvent::ReconnectIceServer => *self.servers.lock().await = None,
                MasterEvent::Garbage => tracing::debug!("a frame that is no message"),
                MasterEvent::Disconnected(failure) => break Some(failure),
            }
        };
        self.current.send_replace(None);
        link.close().await;
        ended
    }

    async fn say(&self, event: LinkEvent, cancelled: &CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            // It fails when the camera is gone, and then this ends as well.
            _ = self.events.send(event) => {}
        }
    }
}

/// Doubling waits with full jitter.
#[derive(Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let limit = BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(self.tries.min(16)));
        self.tries = self.tries.saturating_add(1);
        // Hashers are seeded by the system, each differently.
        let share = RandomState::new().hash_one(self.tries) % 1024;
        limit * u32::try_from(share).unwrap_or(0) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit() {
        let mut backoff = Backoff::default();
        for n in 0..200 {
            let limit = BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.pow(n.min(16)));
            assert!(backoff.next() <= limit, "try {n}");
        }
        let waits: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits.iter().max() > Some(&(BACKOFF_MAX / 2)), "they do grow");
        assert!(waits.iter().min() < Some(&(BACKOFF_MAX / 2)), "and they do jitter");
    }
}
