//! The master's end of a channel, for a camera. The camera itself connects again after a failure.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use kvs_wire::{Incoming, SdpType, encode_candidate, encode_description};
use negotiation_core::{Candidate, Description, Failure, FailureCode, IceServer, Undecodable};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use viewer_session::redact;

use crate::channel_client::{ChannelClient, Invalidate, Resolved};
use crate::config::SignalingConfig;
use crate::connection::received_description;
use crate::endpoint::Role;
use crate::error;
use crate::pace::{Coalesced, PacedQueue};
use crate::socket::Socket;

/// Maximum number of messages queued in either direction; beyond it the sender waits, and the
/// socket is not read.
const QUEUE: usize = 256;

/// Quotas of a socket, a second: SendSDPOffer and SendSDPAnswer 5 each, SendICECandidate 20
/// (docs/kvs-protocol.md 1.6). A message beyond them waits for its turn and is not refused.
const OFFERS: usize = 5;
const ANSWERS: usize = 5;
const CANDIDATES: usize = 20;

/// An event on a master's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterEvent {
    /// A viewer's offer, or the storage service's.
    Offer {
        /// The viewer; empty for the storage service.
        from: String,
        /// The offer.
        body: Result<Description, Undecodable>,
    },
    /// A viewer's answer to this master's offer.
    Answer {
        /// The viewer.
        from: String,
        /// The answer.
        body: Result<Description, Undecodable>,
    },
    /// A viewer's candidate, or the storage service's.
    Candidate {
        /// The viewer; empty for the storage service.
        from: String,
        /// The candidate.
        body: Result<Candidate, Undecodable>,
    },
    /// The service could not handle a message of this master.
    Status {
        /// The correlation id of that message.
        correlation: Option<String>,
        /// Why the service could not handle it.
        failure: Failure,
    },
    /// The service will close this connection within a minute.
    GoAway,
    /// The ICE servers should be fetched again.
    ReconnectIceServer,
    /// A frame that is none of these.
    Garbage,
    /// The connection is over; no event follows.
    Disconnected(Failure),
}

/// An open connection of a master. Dropping it closes it.
#[derive(Debug)]
pub struct MasterConnection {
    events: mpsc::Receiver<MasterEvent>,
    sender: MasterSender,
    client: ChannelClient,
    resolved: Resolved,
    ice: IceSource,
    close: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl MasterConnection {
    /// Connects to the channel of a configuration as its master.
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn connect(config: SignalingConfig) -> Result<Self, Failure> {
        let client = ChannelClient::new(config);
        let plane = client.plane().await?;
        let http = client.http();
        let mut resolved = client.resolve(&plane, Role::Master, &http).await?;
        let socket = loop {
            let failure = match client.open(&resolved, None).await {
                Ok(socket) => break socket,
                Err(failure) => failure,
            };
            resolved = client.renew(&resolved, &failure, &http).await?.ok_or(failure)?;
        };
        let (outgoing_in, outgoing) = mpsc::channel(QUEUE);
        let (events_in, events) = mpsc::channel(QUEUE);
        let (close, closed) = oneshot::channel();
        let task = tokio::spawn(run(socket, outgoing, events_in, closed));
        let sender = MasterSender::new(outgoing_in);
        let ice = IceSource::new(&client, &resolved);
        Ok(Self { events, sender, client, resolved, ice, close: Some(close), task })
    }

    /// Creates the channel of a configuration by its name. An existing channel is left unchanged.
    /// The service may need a moment until a connection is possible (`ResourceInUseException`).
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn create_channel(config: SignalingConfig) -> Result<(), Failure> {
        let client = ChannelClient::new(config);
        let plane = client.plane().await?;
        client.create(&plane).await
    }

    /// Waits for the next event. Cancel-safe. After the end of the connection every call returns
    /// [`MasterEvent::Disconnected`].
    pub async fn recv(&mut self) -> MasterEvent {
        let event = self.events.recv().await;
        match &event {
            Some(MasterEvent::GoAway) => self.resolved.invalidate(Invalidate::Everything),
            Some(MasterEvent::ReconnectIceServer) => {
                self.resolved.invalidate(Invalidate::IceServers)
            }
            Some(
                MasterEvent::Offer { .. }
                | MasterEvent::Answer { .. }
                | MasterEvent::Candidate { .. }
                | MasterEvent::Status { .. }
                | MasterEvent::Garbage
                | MasterEvent::Disconnected(_),
            )
            | None => {}
        }
        event.unwrap_or_else(|| MasterEvent::Disconnected(not_open()))
    }

    /// Returns a handle for sending, which may be cloned and used independently of this one.
    pub fn sender(&self) -> MasterSender {
        self.sender.clone()
    }

    /// The channel's STUN and TURN servers, with fresh credentials.
    ///
    /// # Errors
    /// The service refused, and there is no STUN server either.
    pub async fn ice_servers(&self) -> Result<Vec<IceServer>, Failure> {
        self.ice.fetch().await
    }

    /// Returns a source of ICE servers, which may be cloned and outlive the connection.
    pub fn ice_source(&self) -> IceSource {
        self.ice.clone()
    }

    /// Returns a handle for joining the channel's storage session, which may be cloned and outlive
    /// the connection.
    pub fn storage(&self) -> StorageSession {
        StorageSession { client: self.client.clone(), resolved: self.resolved.clone() }
    }

    /// Closes the connection and frees its socket.
    pub async fn close(mut self) {
        if let Some(close) = self.close.take() {
            let _ = close.send(());
        }
        let patience = self.client.config.limits.close * 2;
        if timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
            // The task ends as cancelled, which closes the socket.
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for MasterConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Joins a channel's storage session as its master.
#[derive(Clone, Debug)]
pub struct StorageSession {
    client: ChannelClient,
    resolved: Resolved,
}

impl StorageSession {
    /// Requests an offer from the storage service. Each call brings one offer, which has no sender.
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn join(&self) -> Result<(), Failure> {
        self.client.join(&self.resolved, Role::Master).await
    }
}

/// Fetches ICE servers for a channel. Clones share a running call: a fetch that starts while a
/// call is under way waits for the response to that call and makes no other.
#[derive(Clone)]
pub struct IceSource {
    client: ChannelClient,
    resolved: Resolved,
    running: Arc<Mutex<Option<WeakShared<Fetch>>>>,
}

type Fetch = BoxFuture<'static, Result<Vec<IceServer>, Failure>>;

impl fmt::Debug for IceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceSource")
    }
}

impl IceSource {
    fn new(client: &ChannelClient, resolved: &Resolved) -> Self {
        Self { client: client.clone(), resolved: resolved.clone(), running: Arc::default() }
    }

    /// Returns the channel's STUN and TURN servers with fresh credentials, from the cache or, when
    /// it has none that are still good, from the service.
    ///
    /// # Errors
    /// The service refused, and there is no STUN server either.
    pub async fn fetch(&self) -> Result<Vec<IceServer>, Failure> {
        let fetch = {
            // No panic below can leave a change half done, so a poisoned lock is usable.
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = running.as_ref().and_then(WeakShared::upgrade);
            match joined.filter(|fetch| fetch.peek().is_none()) {
                Some(fetch) => fetch,
                None => {
                    let (client, resolved) = (self.client.clone(), self.resolved.clone());
                    let fetch = async move { client.ice_servers(&resolved, false).await };
                    let fetch = fetch.boxed().shared();
                    *running = fetch.downgrade();
                    fetch
                }
            }
        };
        fetch.await
    }
}

/// Sends on a master's connection within the service's quotas; messages of one kind keep the order
/// of their send calls.
#[derive(Clone)]
pub struct MasterSender {
    outgoing: mpsc::Sender<Outgoing>,
    sent: Arc<AtomicU64>,
    paces: Arc<Paces>,
}

/// The queues by kind of message; clones of the sender share them.
struct Paces {
    offers: PacedQueue,
    answers: PacedQueue,
    candidates: PacedQueue,
}

impl fmt::Debug for MasterSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSender")
    }
}

impl MasterSender {
    fn new(outgoing: mpsc::Sender<Outgoing>) -> Self {
        let paces = Paces {
            offers: PacedQueue::new(OFFERS),
            answers: PacedQueue::new(ANSWERS),
            candidates: PacedQueue::new(CANDIDATES),
        };
        Self { outgoing, sent: Arc::default(), paces: Arc::new(paces) }
    }

    /// Sends an answer; returns when it was written to the socket.
    ///
    /// # Errors
    /// It is too big, or the connection is over.
    pub async fn send_answer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        redact::remember_description(sdp);
        let correlation = self.correlation("answer");
        let text = encode_description(SdpType::Answer, viewer(to), sdp, Some(&correlation))?;
        self.send(&self.paces.answers, text).await
    }

    /// Sends an offer; returns when it was written to the socket.
    ///
    /// # Errors
    /// It is too big, or the connection is over.
    pub async fn send_offer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        redact::remember_description(sdp);
        let correlation = self.correlation("offer");
        let text = encode_description(SdpType::Offer, Some(to), sdp, Some(&correlation))?;
        self.send(&self.paces.offers, text).await
    }

    /// Sends a candidate; returns when it was written to the socket. An end of candidates is not
    /// sent.
    ///
    /// # Errors
    /// It is too big, or the connection is over.
    pub async fn send_candidate(&self, to: &str, candidate: &Candidate) -> Result<(), Failure> {
        if candidate.is_end() {
            return Ok(());
        }
        let correlation = self.correlation("candidate");
        let text = encode_candidate(viewer(to), candidate, &[], Some(&correlation))?;
        self.send(&self.paces.candidates, text).await
    }

    /// Returns a new correlation id. The service reports an error only for a message that has one.
    fn correlation(&self, kind: &str) -> String {
        format!("{kind}-{}", self.sent.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, pace: &PacedQueue, text: String) -> Result<(), Failure> {
        tokio::select! {
            // If the connection is over, the send fails at once instead of waiting for its turn.
            biased;
            () = self.outgoing.closed() => return Err(not_open()),
            () = pace.pass() => {}
        }
        let (done, result) = oneshot::channel();
        self.outgoing.send(Outgoing { text, done }).await.map_err(|_| not_open())?;
        result.await.unwrap_or_else(|_| Err(not_open()))
    }
}

struct Outgoing {
    text: String,
    done: oneshot::Sender<Result<(), Failure>>,
}

async fn run(
    mut socket: Socket,
    mut outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<MasterEvent>,
    mut closed: oneshot::Receiver<()>,
) {
    let mut waiting: Option<MasterEvent> = None;
    let mut ice_servers = Coalesced::default();
    let end = loop {
        tokio::select! {
            _ = &mut closed => break None,
            // Sending continues while an event waits: the camera may be waiting for its own send
            // before it takes the next event.
            Some(Outgoing { text, done }) = outgoing.recv() => {
                let result = socket.send(text).await;
                let failed = result.as_ref().err().cloned();
                // The caller may have dropped its future.
                let _ = done.send(result);
                if failed.is_some() {
                    break failed;
                }
            }
            permit = events.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                (Ok(permit), Some(event)) => permit.send(event),
                (Ok(_), None) => {}
                (Err(_), _) => break None,
            },
            () = ice_servers.due(), if waiting.is_none() => {
                waiting = Some(MasterEvent::ReconnectIceServer);
            }
            frame = socket.next(), if waiting.is_none() => match frame {
                Ok(Incoming::ReconnectIceServer) => ice_servers.note(),
                Ok(frame) => waiting = event(frame),
                Err(failure) => break Some(failure),
            },
        }
    };
    socket.close().await;
    drop(outgoing);
    if let Some(failure) = end {
        for event in waiting.into_iter().chain([MasterEvent::Disconnected(failure)]) {
            // The camera may have dropped the connection.
            let _ = events.send(event).await;
        }
    }
}

/// Returns the recipient's client id; the storage service has none.
fn viewer(to: &str) -> Option<&str> {
    Some(to).filter(|id| !id.is_empty())
}

/// Maps a frame to an event; `None` for an answer without a client id, which belongs to no viewer.
/// Other messages without one are from the storage service.
fn event(frame: Incoming) -> Option<MasterEvent> {
    Some(match frame {
        Incoming::Offer { sender, sdp } => {
            MasterEvent::Offer { from: sender.unwrap_or_default(), body: received_description(sdp) }
        }
        Incoming::Answer { sender, sdp } => {
            let body = received_description(sdp);
            MasterEvent::Answer { from: sender?, body }
        }
        Incoming::Candidate { sender, candidate } => {
            MasterEvent::Candidate { from: sender.unwrap_or_default(), body: candidate }
        }
        Incoming::Status { correlation_id, error } => {
            MasterEvent::Status { correlation: correlation_id, failure: error::service(&error) }
        }
        Incoming::GoAway => MasterEvent::GoAway,
        Incoming::ReconnectIceServer => MasterEvent::ReconnectIceServer,
        Incoming::Garbage => MasterEvent::Garbage,
    })
}

fn not_open() -> Failure {
    Failure::new(FailureCode::NotOpen, "the signaling connection is closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join;
    use std::time::Duration;
    use tokio::time::Instant;

    /// Ten viewers offer at once; the master sends each an answer and some candidates.
    #[tokio::test(start_paused = true)]
    async fn ten_offers_are_answered_in_order_within_quota() {
        const VIEWERS: usize = 10;
        const EACH: usize = 4;
        let (outgoing, mut sent) = mpsc::channel(QUEUE);
        let sender = MasterSender::new(outgoing);
        let crowd = async {
            let viewers = (0..VIEWERS).map(async |n| {
                let to = format!("viewer{n:02}");
                sender.send_answer(&to, "v=0").await.expect("sent");
                for port in 1..=EACH {
                    let text = format!("candidate:1 1 udp 1 127.0.0.1 {port} typ host").into();
                    let candidate = Candidate { text, mid: None, mline_index: None, ufrag: None };
                    sender.send_candidate(&to, &candidate).await.expect("sent");
                }
            });
            futures_util::future::join_all(viewers).await;
        };
        let start = Instant::now();
        let service = async {
            let mut received = Vec::new();
            while received.len() < VIEWERS * (1 + EACH) {
                let Outgoing { text, done } = sent.recv().await.expect("more");
                let message: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let word = |name: &str| message[name].as_str().expect("text").to_owned();
                received.push((word("action"), word("recipientClientId"), start.elapsed()));
                done.send(Ok(())).expect("waits");
            }
            received
        };
        let ((), received) = join(crowd, service).await;
        for (kind, most) in [("SDP_ANSWER", ANSWERS), ("ICE_CANDIDATE", CANDIDATES)] {
            let of_kind: Vec<_> = received.iter().filter(|(action, ..)| action == kind).collect();
            let within = |some: &[&(String, String, Duration)]| some[most].2 - some[0].2;
            assert!(
                of_kind.windows(most + 1).all(|some| within(some) >= Duration::from_secs(1)),
                "{of_kind:?}"
            );
        }
        let answers = received.iter().filter(|(action, ..)| action == "SDP_ANSWER");
        assert!(answers.map(|(_, to, _)| to).is_sorted(), "{received:?}");
        assert!(received.last().expect("some").2 < Duration::from_secs(4), "{received:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sends_on_a_closed_connection_do_not_wait() {
        let (outgoing, mut sent) = mpsc::channel(QUEUE);
        let sender = MasterSender::new(outgoing);
        let start = Instant::now();
        let several = futures_util::future::join_all((0..=ANSWERS).map(async |_| {
            let outcome = sender.send_answer("viewer", "v=0").await;
            outcome.map_err(|failure| failure.code)
        }));
        let link = async {
            for _ in 0..ANSWERS {
                sent.recv().await.expect("an answer").done.send(Ok(())).expect("waits");
            }
            drop(sent);
        };
        let (outcomes, ()) = join(several, link).await;
        assert_eq!(outcomes[ANSWERS], Err(FailureCode::NotOpen));
        assert_eq!(outcomes[..ANSWERS], [Ok(()); ANSWERS]);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
