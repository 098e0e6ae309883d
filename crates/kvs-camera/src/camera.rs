//! A running camera: start, events and shutdown.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Candidate, Description, Failure, FailureKind, Undecodable};
use signaling_aws::MasterConnection;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::CameraConfig;
use crate::encoder::Encoder;
use crate::error::CameraError;
use crate::event::{CameraEvent, IgnoredOffer, LeaveReason};
use crate::frame_log;
use crate::link::{Backoff, Keeper, LinkEvent};
use crate::roster::{Decision, Roster, SessionNumber};
use crate::session::{Common, Outcome, Session};

/// The most events that a receiver may be behind.
const EVENTS_MAX: usize = 1024;
/// The most events of the signaling connection that wait.
const LINK_EVENTS_MAX: usize = 64;
/// The most candidates that wait for their session.
const CANDIDATES_MAX: usize = 256;
/// The most renegotiation offers that wait for one session.
const OFFERS_MAX: usize = 4;
/// The longest that a channel may take to be created.
const CREATING_MAX: Duration = Duration::from_secs(30);
/// The interval of joining: the storage service sends one offer for each call, and the call is
/// repeated until an offer comes, every 6 s as in the JavaScript SDK's sample
/// (docs/kvs-protocol.md 3.2).
const JOIN_EVERY: Duration = Duration::from_secs(6);
/// The longest that the first signaling connection may take; the C SDK's limit for connecting
/// (docs/kvs-protocol.md 3.1).
const CONNECTING_MAX: Duration = Duration::from_secs(15);

/// A running camera. Dropping it shuts it down without waiting; [`Camera::shutdown`] waits.
pub struct Camera {
    events: broadcast::Sender<CameraEvent>,
    first: Option<broadcast::Receiver<CameraEvent>>,
    cancelled: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Camera {
    /// Reads the source, connects to the channel and serves viewers until shut down.
    ///
    /// # Errors
    /// A setting is invalid or a clip cannot be sent (checked before the network is used), or the
    /// service refused the connection.
    pub async fn start(config: CameraConfig) -> Result<Self, CameraError> {
        Self::start_noting(config, |_| {}).await
    }

    /// Works as [`Camera::start`]; calls `waiting` once if the channel cannot be reached at first
    /// and the camera tries again.
    ///
    /// # Errors
    /// As [`Camera::start`].
    pub async fn start_noting(
        config: CameraConfig,
        waiting: impl Fn(&Failure) + Send,
    ) -> Result<Self, CameraError> {
        let reading = config.clone();
        let clip = tokio::task::spawn_blocking(move || reading.open_source());
        let clip = match clip.await {
            Ok(clip) => Arc::new(clip?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let (frames, frame_log) = frame_log::open(&config.frame_log)?;
        let link = connect(&config, waiting).await.map_err(CameraError::Connect)?;

        let (events, first) = broadcast::channel(EVENTS_MAX);
        let (link_events, incoming) = mpsc::channel(LINK_EVENTS_MAX);
        let (keeper, line) = Keeper::new(config.signaling.clone(), link_events);
        let encoder = Encoder::new();
        let cancelled = CancellationToken::new();
        let mut helpers = JoinSet::new();
        helpers.spawn(keeper.run(link, cancelled.clone()));
        helpers.spawn(encoder.clone().run(Arc::clone(&clip), cancelled.clone()));
        let roster = Roster::new(config.behaviour, config.sessions_max);
        let loopback = config.loopback.unwrap_or_else(|| config.signaling.is_loopback());
        let common = Common {
            loopback,
            config,
            clip,
            encoder,
            line,
            frames,
            events: events.clone(),
            began: Instant::now(),
        };
        let house = House {
            common: Arc::new(common),
            roster,
            sessions: JoinSet::new(),
            open: BTreeMap::new(),
            tasks: HashMap::new(),
            joining: JoinSet::new(),
        };
        let stop = cancelled.clone();
        let task = tokio::spawn(async move {
            house.run(incoming, stop).await;
            while helpers.join_next().await.is_some() {}
            if let Some(log) = frame_log {
                // Joining fails only if the log's thread panicked, and the panic was already
                // printed.
                let _ = log.await;
            }
        });
        Ok(Self { events, first: Some(first), cancelled, task: Some(task) })
    }

    /// Returns a receiver of the events from now on; the first call also returns the events since
    /// the start. A receiver that is far behind misses events.
    pub fn events(&mut self) -> broadcast::Receiver<CameraEvent> {
        self.first.take().unwrap_or_else(|| self.events.subscribe())
    }

    /// Closes every session and the signaling connection, and waits until all of it is gone.
    pub async fn shutdown(mut self) {
        self.cancelled.cancel();
        if let Some(task) = self.task.take() {
            // Joining fails only if the task panicked, and then there is nothing to wait for.
            let _ = task.await;
        }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.cancelled.cancel();
    }
}

impl fmt::Debug for Camera {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Camera").finish_non_exhaustive()
    }
}

/// Opens the first signaling connection. Retries if the service is not up yet or fails, or if the
/// channel was just created; gives up at a permanent failure.
async fn connect(
    config: &CameraConfig,
    waiting: impl Fn(&Failure) + Send,
) -> Result<MasterConnection, Failure> {
    let mut waiting = Some(waiting);
    let begun = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let failure = match connect_once(config).await {
            Ok(link) => return Ok(link),
            Err(failure) => failure,
        };
        // The API reports this name for a channel that is being created.
        let is_busy = failure.api_name.as_deref() == Some("ResourceInUseException");
        let patience = if is_busy { CREATING_MAX } else { CONNECTING_MAX };
        if failure.code.kind() == FailureKind::Permanent || begun.elapsed() >= patience {
            return Err(failure);
        }
        tracing::debug!(%failure, "the channel cannot be reached");
        if let Some(waiting) = waiting.take() {
            waiting(&failure);
        }
        sleep(backoff.next()).await;
    }
}

async fn connect_once(config: &CameraConfig) -> Result<MasterConnection, Failure> {
    if config.create_channel {
        MasterConnection::create_channel(config.signaling.clone()).await?;
    }
    MasterConnection::connect(config.signaling.clone()).await
}

/// The sessions and their clients.
struct House {
    common: Arc<Common>,
    roster: Roster,
    sessions: JoinSet<Outcome>,
    open: BTreeMap<SessionNumber, Open>,
    tasks: HashMap<Id, (SessionNumber, String)>,
    /// The call that requests an offer from the storage service.
    joining: JoinSet<()>,
}

struct Open {
    candidates: mpsc::Sender<Candidate>,
    /// Further offers from the same peer connection.
    offers: mpsc::Sender<Description>,
    fingerprints: Vec<String>,
    cancelled: CancellationToken,
    replaced: bool,
}

impl House {
    async fn run(mut self, mut incoming: mpsc::Receiver<LinkEvent>, stop: CancellationToken) {
        let mut joins = tokio::time::interval(JOIN_EVERY);
        joins.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = joins.tick(), if self.common.config.storage_session => self.join(),
                Some(_) = self.joining.join_next() => {}
                event = incoming.recv() => match event {
                    Some(event) => self.on_link(event),
                    None => break,
                },
                Some(ended) = self.sessions.join_next_with_id() => self.on_ended(ended),
            }
        }
        for open in self.open.values() {
            open.cancelled.cancel();
        }
        while let Some(ended) = self.sessions.join_next_with_id().await {
            self.on_ended(ended);
        }
    }

    /// Requests an offer from the storage service, unless there is a session or a pending call.
    fn join(&mut self) {
        if self.open.is_empty() && self.joining.is_empty() {
            let line = self.common.line.clone();
            self.joining.spawn(async move {
                if let Err(failure) = line.join_storage_session().await {
                    tracing::warn!(%failure, "the storage session cannot be joined");
                }
            });
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Offer { from, .. } | LinkEvent::Candidate { from, .. }
                if from.is_empty() != self.common.config.storage_session =>
            {
                tracing::debug!("a message for the other mode of the channel");
            }
            LinkEvent::Up => self.tell(CameraEvent::SignalingConnected),
            LinkEvent::Down(failure) => self.tell(CameraEvent::SignalingLost { failure }),
            LinkEvent::Displaced(times) => self.tell(CameraEvent::Displaced { times }),
            LinkEvent::Offer { from, body } => self.on_offer(from, body),
            LinkEvent::Candidate { from, body } => {
                let now = self.common.began.elapsed();
                let Some((session, candidate)) = self.roster.candidate(now, &from, body) else {
                    return;
                };
                if let Some(open) = self.open.get(&session)
                    && open.candidates.try_send(candidate).is_err()
                {
                    tracing::debug!(client = from, "a candidate too many");
                }
            }
        }
    }

    fn on_offer(&mut self, client: String, body: Result<Description, Undecodable>) {
        let now = self.common.began.elapsed();
        let Ok(offer) = body else {
            let reason = IgnoredOffer::Undecodable;
            return self.tell(CameraEvent::OfferIgnored { client_id: client, reason });
        };
        let ufrag = offer.facts.ice_ufrag.as_deref();
        let is_same = |session| {
            let open: Option<&Open> = self.open.get(&session);
            open.is_some_and(|open| open.fingerprints == offer.facts.fingerprints)
        };
        if let Some(session) = self.roster.renegotiates(&client, ufrag, is_same) {
            if let Some(open) = self.open.get(&session)
                && open.offers.try_send(offer).is_err()
            {
                tracing::debug!(client, "an offer too many");
            }
            return self.tell(CameraEvent::Offer { client_id: client, session: session.0 });
        }
        match self.roster.offer(now, &client, ufrag) {
            Decision::Ignore(reason) => {
                tracing::info!(client, ?reason, "an offer is ignored");
                self.tell(CameraEvent::OfferIgnored { client_id: client, reason });
            }
            Decision::Serve { session, replaces, candidates } => {
                if let Some(old) = replaces.and_then(|old| self.open.get_mut(&old)) {
                    old.replaced = true;
                    old.cancelled.cancel();
                }
                self.tell(CameraEvent::Offer { client_id: client.clone(), session: session.0 });
                self.begin(session, client, offer, candidates);
            }
        }
    }

    fn begin(
        &mut self,
        session: SessionNumber,
        client: String,
        offer: Description,
        held: Vec<Candidate>,
    ) {
        let (candidates, receiver) = mpsc::channel(CANDIDATES_MAX);
        for candidate in held {
            // The roster holds fewer candidates than fit into this queue.
            let _ = candidates.try_send(candidate);
        }
        let (offers, further) = mpsc::channel(OFFERS_MAX);
        let fingerprints = offer.facts.fingerprints.clone();
        let cancelled = CancellationToken::new();
        let running = Session {
            common: Arc::clone(&self.common),
            number: session,
            client: client.clone(),
            offer,
            candidates: receiver,
            offers: further,
            cancelled: cancelled.clone(),
        };
        let task = self.sessions.spawn(running.run()).id();
        self.tasks.insert(task, (session, client));
        self.open
            .insert(session, Open { candidates, offers, fingerprints, cancelled, replaced: false });
    }

    fn on_ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!("a session broke");
                (error.id(), Outcome { reason: Some(LeaveReason::Failed), frames: 0 })
            }
        };
        let Some((session, client_id)) = self.tasks.remove(&task) else { return };
        let replaced = self.open.remove(&session).is_some_and(|open| open.replaced);
        let cancelled = if replaced { LeaveReason::Replaced } else { LeaveReason::Shutdown };
        let reason = outcome.reason.unwrap_or(cancelled);
        self.roster.ended(self.common.began.elapsed(), &client_id, session, reason);
        tracing::info!(client = client_id, ?reason, frames = outcome.frames, "a session ended");
        let (session, frames) = (session.0, outcome.frames);
        self.tell(CameraEvent::ViewerLeft { client_id, session, reason, frames });
    }

    fn tell(&self, event: CameraEvent) {
        // Sending fails if there is no receiver.
        let _ = self.common.events.send(event);
    }
}
