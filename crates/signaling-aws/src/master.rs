//! The master's end of a channel: what a camera needs. Connecting again is the camera's job.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use negotiation_core::{Candidate, Description, Failure, FailureCode, IceServer, Undecodable};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::SignalingConfig;
use crate::connect::{Forget, Resolved, Site};
use crate::control_plane::Role;
use crate::socket::Socket;
use crate::wire::{self, Action, Incoming};

/// Messages waiting in either direction; beyond it the sender waits, and the socket is not read.
const QUEUE: usize = 256;

/// What comes in at a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterEvent {
    /// A viewer's offer, or the storage service's.
    Offer {
        /// The viewer; empty for the storage service.
        from: String,
        /// The offer.
        body: Result<Description, Undecodable>,
    },
    /// A viewer's answer to an offer of ours.
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
    /// A message of ours could not be handled by the service.
    Status {
        /// Its correlation id.
        correlation: Option<String>,
        /// Why.
        failure: Failure,
    },
    /// The service ends this link within a minute.
    GoAway,
    /// The ICE servers should be fetched again.
    ReconnectIceServer,
    /// A frame that is none of these.
    Garbage,
    /// The link is over. Nothing follows.
    Disconnected(Failure),
}

/// An open link of a master. Dropping it closes it.
#[derive(Debug)]
pub struct MasterLink {
    events: mpsc::Receiver<MasterEvent>,
    sender: MasterSender,
    site: Site,
    resolved: Resolved,
    ice: IceSource,
    close: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl MasterLink {
    /// Connects to the channel of a configuration as its master.
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn connect(config: SignalingConfig) -> Result<Self, Failure> {
        let site = Site::new(config);
        let plane = site.plane().await?;
        let mut resolved = site.resolve(&plane, Role::Master).await?;
        let socket = loop {
            let failure = match site.open(&resolved, None).await {
                Ok(socket) => break socket,
                Err(failure) => failure,
            };
            resolved = site.renew(&resolved, &failure).await?.ok_or(failure)?;
        };
        let (outgoing_in, outgoing) = mpsc::channel(QUEUE);
        let (events_in, events) = mpsc::channel(QUEUE);
        let (close, closed) = oneshot::channel();
        let task = tokio::spawn(run(socket, outgoing, events_in, closed));
        let sender = MasterSender { outgoing: outgoing_in, sent: Arc::default() };
        let ice = IceSource::new(&site, &resolved);
        Ok(Self { events, sender, site, resolved, ice, close: Some(close), task })
    }

    /// Creates the channel of a configuration by its name. One that exists is left as it is. The
    /// service may need a moment until it can be connected to (`ResourceInUseException`).
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn create_channel(config: SignalingConfig) -> Result<(), Failure> {
        let site = Site::new(config);
        let plane = site.plane().await?;
        site.create(&plane).await
    }

    /// The next thing that comes in. Cancel-safe. After the end it stays
    /// [`MasterEvent::Disconnected`].
    pub async fn recv(&mut self) -> MasterEvent {
        let event = self.events.recv().await;
        match &event {
            Some(MasterEvent::GoAway) => self.resolved.forget(Forget::Everything),
            Some(MasterEvent::ReconnectIceServer) => self.resolved.forget(Forget::IceServers),
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

    /// A handle for sending, which may be cloned and kept apart.
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

    /// A fetcher of ICE servers, which may be cloned and outlive the link.
    pub fn ice_source(&self) -> IceSource {
        self.ice.clone()
    }

    /// For joining the channel's storage session; it may be cloned and outlive the link.
    pub fn storage(&self) -> StorageSession {
        StorageSession { site: self.site.clone(), resolved: self.resolved.clone() }
    }

    /// Closes the link and frees its socket.
    pub async fn close(mut self) {
        if let Some(close) = self.close.take() {
            let _ = close.send(());
        }
        let patience = self.site.config.limits.close * 2;
        if timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
            // It ends as cancelled, and with it the socket.
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for MasterLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Joins a channel's storage session as its master.
#[derive(Clone, Debug)]
pub struct StorageSession {
    site: Site,
    resolved: Resolved,
}

impl StorageSession {
    /// Asks the storage service to offer. Each call brings one offer, which has no sender.
    ///
    /// # Errors
    /// What the service or the network refused.
    pub async fn join(&self) -> Result<(), Failure> {
        self.site.join(&self.resolved, Role::Master).await
    }
}

/// Fetches ICE servers for a channel. Clones ask together: who comes while a call is under way
/// waits for its answer, and for no other.
#[derive(Clone)]
pub struct IceSource {
    site: Site,
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
    fn new(site: &Site, resolved: &Resolved) -> Self {
        Self { site: site.clone(), resolved: resolved.clone(), running: Arc::default() }
    }

    /// The channel's STUN and TURN servers, with fresh credentials: those that the process was told
    /// before while they are good, or else the service's answer.
    ///
    /// # Errors
    /// The service refused, and there is no STUN server either.
    pub async fn fetch(&self) -> Result<Vec<IceServer>, Failure> {
        let fetch = {
            // Nothing below panics half way.
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let joined = running.as_ref().and_then(WeakShared::upgrade);
            match joined.filter(|fetch| fetch.peek().is_none()) {
                Some(fetch) => fetch,
                None => {
                    let (site, resolved) = (self.site.clone(), self.resolved.clone());
                    let fetch = async move { site.ice_servers(&resolved, false).await };
                    let fetch = fetch.boxed().shared();
                    *running = fetch.downgrade();
                    fetch
                }
            }
        };
        fetch.await
    }
}

/// Sends on a master's link.
#[derive(Clone)]
pub struct MasterSender {
    outgoing: mpsc::Sender<Outgoing>,
    sent: Arc<AtomicU64>,
}

impl fmt::Debug for MasterSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSender")
    }
}

impl MasterSender {
    /// Sends an answer; done when it was handed to the service.
    ///
    /// # Errors
    /// It is too big, or the link is over.
    pub async fn send_answer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        let correlation = self.correlation("answer");
        let text = wire::encode_description(Action::Answer, viewer(to), sdp, Some(&correlation))?;
        self.send(text).await
    }

    /// Sends an offer; done when it was handed to the service.
    ///
    /// # Errors
    /// It is too big, or the link is over.
    pub async fn send_offer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        let correlation = self.correlation("offer");
        let text = wire::encode_description(Action::Offer, Some(to), sdp, Some(&correlation))?;
        self.send(text).await
    }

    /// Sends a candidate; done when it was handed to the service. The end of candidates is told
    /// by sending none.
    ///
    /// # Errors
    /// It is too big, or the link is over.
    pub async fn send_candidate(&self, to: &str, candidate: &Candidate) -> Result<(), Failure> {
        if candidate.is_end() {
            return Ok(());
        }
        let correlation = self.correlation("candidate");
        self.send(wire::encode_candidate(viewer(to), candidate, &[], Some(&correlation))?).await
    }

    /// Without one the service is silent about what it could not handle.
    fn correlation(&self, kind: &str) -> String {
        format!("{kind}-{}", self.sent.fetch_add(1, Ordering::Relaxed))
    }

    async fn send(&self, text: String) -> Result<(), Failure> {
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
    let end = loop {
        tokio::select! {
            _ = &mut closed => break None,
            // Sending goes on while an event waits for a camera that waits for its own sending.
            Some(Outgoing { text, done }) = outgoing.recv() => {
                let result = socket.send(text).await;
                let failed = result.as_ref().err().cloned();
                // Nobody may be waiting any more.
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
            frame = socket.next(), if waiting.is_none() => match frame {
                Ok(frame) => waiting = event(frame),
                Err(failure) => break Some(failure),
            },
        }
    };
    socket.close().await;
    drop(outgoing);
    if let Some(failure) = end {
        for event in waiting.into_iter().chain([MasterEvent::Disconnected(failure)]) {
            // A camera that is gone needs no news.
            let _ = events.send(event).await;
        }
    }
}

/// The storage service has no id.
fn viewer(to: &str) -> Option<&str> {
    Some(to).filter(|id| !id.is_empty())
}

/// An answer without a viewer's id is of no use to a master; what else has none is the storage
/// service's.
fn event(frame: Incoming) -> Option<MasterEvent> {
    Some(match frame {
        Incoming::Offer(from, body) => MasterEvent::Offer { from: from.unwrap_or_default(), body },
        Incoming::Answer(from, body) => MasterEvent::Answer { from: from?, body },
        Incoming::Candidate(from, body) => {
            MasterEvent::Candidate { from: from.unwrap_or_default(), body }
        }
        Incoming::Status { correlation, failure } => MasterEvent::Status { correlation, failure },
        Incoming::GoAway => MasterEvent::GoAway,
        Incoming::ReconnectIceServer => MasterEvent::ReconnectIceServer,
        Incoming::Garbage => MasterEvent::Garbage,
    })
}

fn not_open() -> Failure {
    Failure::new(FailureCode::NotOpen, "the link is closed")
}
