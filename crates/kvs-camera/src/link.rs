//! The camera's signaling connection: keeps one open and reconnects when it is lost. Media does
//! not depend on it.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use negotiation_core::{Candidate, Description, Failure, FailureCode, IceServer, Undecodable};
use signaling_aws::{
    IceSource, MasterConnection, MasterEvent, MasterSender, SignalingConfig, StorageSession,
    close_code,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The first and the longest wait before reconnecting: the C SDK's values
/// (docs/kvs-protocol.md 3.1).
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A connection that lasted this long resets the waits.
const HEALTHY: Duration = Duration::from_secs(30);

/// A connection that the service closes earlier than this was displaced by another master: the
/// service reports only that it closed (docs/kvs-protocol.md 2.4). This is longer than the longest
/// wait before the other master reconnects.
const DISPLACED_WITHIN: Duration = Duration::from_secs(12);

/// After this many displacements in a row, this master leaves the channel to the other one.
const DISPLACED_MAX: u32 = 3;

/// How long a message waits for a new connection.
const SEND_WAIT: Duration = Duration::from_secs(30);

/// An event of the signaling connection.
pub(crate) enum LinkEvent {
    Up,
    Down(Failure),
    /// Another master took the channel this many times in a row: the camera does not reconnect.
    Displaced(u32),
    Offer {
        from: String,
        body: Result<Description, Undecodable>,
    },
    Candidate {
        from: String,
        body: Candidate,
    },
}

/// Sends over the current signaling connection, or over the next one.
#[derive(Clone)]
pub(crate) struct Line {
    current: watch::Receiver<Option<Current>>,
}

#[derive(Clone, Copy)]
enum Message<'a> {
    Answer(&'a str),
    Candidate(&'a Candidate),
}

#[derive(Clone)]
struct Current {
    sender: MasterSender,
    ice: IceSource,
    storage: StorageSession,
}

impl Line {
    /// Sends an answer, over the next connection if there is none now.
    pub(crate) async fn answer(&self, to: &str, sdp: &str) -> Result<(), Failure> {
        self.send(to, Message::Answer(sdp)).await
    }

    /// Sends a candidate.
    pub(crate) async fn candidate(&self, to: &str, candidate: &Candidate) -> Result<(), Failure> {
        self.send(to, Message::Candidate(candidate)).await
    }

    /// Sends a message. If the connection ends first, the message goes over the next one.
    async fn send(&self, to: &str, message: Message<'_>) -> Result<(), Failure> {
        let mut current = self.current.clone();
        loop {
            let sender = up(&mut current).await?.sender;
            let sent = match message {
                Message::Answer(sdp) => sender.send_answer(to, sdp).await,
                Message::Candidate(candidate) => sender.send_candidate(to, candidate).await,
            };
            match sent {
                Err(failure) if failure.code == FailureCode::NotOpen => {
                    let gone = timeout(SEND_WAIT, current.changed()).await;
                    gone.map_err(|_| failure)?.map_err(|_| Failure::cancelled())?;
                }
                sent => return sent,
            }
        }
    }

    /// Requests an offer from the storage service.
    pub(crate) async fn join_storage_session(&self) -> Result<(), Failure> {
        self.current().await?.storage.join().await
    }

    /// Returns the channel's ICE servers, with fresh credentials.
    pub(crate) async fn ice_servers(&self) -> Result<Vec<IceServer>, Failure> {
        self.current().await?.ice.fetch().await
    }

    async fn current(&self) -> Result<Current, Failure> {
        up(&mut self.current.clone()).await
    }
}

/// Returns the current connection, or waits for the next one.
async fn up(current: &mut watch::Receiver<Option<Current>>) -> Result<Current, Failure> {
    match timeout(SEND_WAIT, current.wait_for(Option::is_some)).await {
        Ok(Ok(found)) => found.clone().ok_or_else(Failure::cancelled),
        Ok(Err(_)) | Err(_) => Err(Failure::cancelled()),
    }
}

/// Keeps the signaling connection open; the counterpart of [`Line`].
pub(crate) struct Keeper {
    config: SignalingConfig,
    current: watch::Sender<Option<Current>>,
    events: mpsc::Sender<LinkEvent>,
}

impl Keeper {
    /// Creates a keeper of the connection, and the line that sends over it.
    pub(crate) fn new(config: SignalingConfig, events: mpsc::Sender<LinkEvent>) -> (Self, Line) {
        let (current, receiver) = watch::channel(None);
        (Self { config, current, events }, Line { current: receiver })
    }

    /// Serves `link` and every later connection until cancelled.
    pub(crate) async fn run(self, link: MasterConnection, cancelled: CancellationToken) {
        let mut link = Some(link);
        let mut backoff = Backoff::default();
        let mut displaced = Displaced::default();
        let mut failing = false;
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
                        connected = MasterConnection::connect(self.config.clone()) => connected,
                    };
                    match connected {
                        Ok(open) => open,
                        Err(failure) => {
                            // Report this once for each outage: the loss of the connection was
                            // reported.
                            if !std::mem::replace(&mut failing, true) {
                                tracing::info!(%failure, "the channel cannot be reached yet");
                            }
                            tracing::debug!(%failure, "the channel cannot be reached");
                            continue;
                        }
                    }
                }
            };
            failing = false;
            let since = Instant::now();
            let ended = self.serve(open, &cancelled).await;
            if since.elapsed() >= HEALTHY {
                backoff = Backoff::default();
            }
            if let Some(failure) = ended {
                let times = displaced.link_ended(since.elapsed(), &failure);
                tracing::info!(%failure, "the link to the channel is lost");
                self.say(LinkEvent::Down(failure), &cancelled).await;
                if times >= DISPLACED_MAX {
                    self.say(LinkEvent::Displaced(times), &cancelled).await;
                    // The line remains, and its messages wait: connected viewers do not need it.
                    cancelled.cancelled().await;
                }
            }
        }
    }

    /// Serves one connection to its end. Returns `None` if this side closed it.
    async fn serve(
        &self,
        mut link: MasterConnection,
        cancelled: &CancellationToken,
    ) -> Option<Failure> {
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
                // The service closes the connection within a minute; the C SDK leaves at once.
                MasterEvent::GoAway => {
                    tracing::info!("the service ends the link: connecting again");
                    break None;
                }
                // The connection has dropped its cached ICE servers.
                MasterEvent::ReconnectIceServer => tracing::debug!("the ICE servers change"),
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
            // Sending fails only if the camera is gone, and then this task ends as well.
            _ = self.events.send(event) => {}
        }
    }
}

/// Counts connections that the service closed soon after they were opened.
#[derive(Debug, Default)]
struct Displaced {
    in_a_row: u32,
}

impl Displaced {
    /// Records how long a connection lasted. Returns how often in a row another master displaced
    /// this one.
    fn link_ended(&mut self, lived: Duration, failure: &Failure) -> u32 {
        // A broken connection does not indicate another master.
        let closed = close_code(failure).is_some() || failure.code == FailureCode::Replaced;
        self.in_a_row = if closed && lived < DISPLACED_WITHIN { self.in_a_row + 1 } else { 0 };
        self.in_a_row
    }
}

/// Computes doubling waits with full jitter.
#[derive(Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let limit = BACKOFF_MAX.min(BACKOFF_FIRST * 2_u32.saturating_pow(self.tries.min(16)));
        self.tries = self.tries.saturating_add(1);
        // The system seeds each hasher differently, so this is random.
        let share = RandomState::new().hash_one(self.tries) % 1024;
        limit * u32::try_from(share).unwrap_or(0) / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvs_emulator::{
        DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, ServiceMessage,
        TurnConfig,
    };

    /// A camera's signaling connection to an emulator.
    struct Stage {
        emulator: Emulator,
        line: Line,
        stop: CancellationToken,
        keeper: tokio::task::JoinHandle<()>,
        _events: mpsc::Receiver<LinkEvent>,
    }

    impl Stage {
        async fn new(turn: TurnConfig) -> Self {
            let channels = vec!["door".to_owned()];
            let config = EmulatorConfig { channels, turn, ..EmulatorConfig::default() };
            let emulator = Emulator::start(config).await.expect("started");
            let config = SignalingConfig::builder("door")
                .region(emulator.region())
                .endpoint_url(emulator.endpoint())
                .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
                .build()
                .expect("valid");
            let link = MasterConnection::connect(config.clone()).await.expect("connected");
            let (to, events) = mpsc::channel(64);
            let (keeper, line) = Keeper::new(config, to);
            let stop = CancellationToken::new();
            let keeper = tokio::spawn(keeper.run(link, stop.clone()));
            Self { emulator, line, stop, keeper, _events: events }
        }

        async fn end(self) {
            self.stop.cancel();
            self.keeper.await.expect("ended");
            self.emulator.shutdown().await;
        }
    }

    /// Credentials may be valid for only 30 s (kvs-protocol.md 1.2), and have expired when a later
    /// viewer comes.
    #[tokio::test]
    async fn turn_credentials_are_cached_for_their_ttl() {
        for (ttl_secs, calls) in [(30, 2), (300, 1)] {
            let servers = vec![vec!["turn:127.0.0.1:9".to_owned()]];
            let stage = Stage::new(TurnConfig { servers, ttl_secs, ..TurnConfig::default() }).await;
            for _ in 0..2 {
                assert_eq!(stage.line.ice_servers().await.expect("told").len(), 1);
            }
            let requested = stage.emulator.calls().get("GetIceServerConfig").map(|c| c.requests);
            assert_eq!(requested, Some(calls), "credentials for {ttl_secs} s");
            stage.end().await;
        }
    }

    /// More answers wait than the service accepts at once, and the connection ends meanwhile.
    #[tokio::test]
    async fn waiting_message_moves_to_next_signaling_connection() {
        let stage = Stage::new(TurnConfig::default()).await;
        let answers = (0..8).map(|_| {
            let line = stage.line.clone();
            tokio::spawn(async move { line.answer("viewer", "v=0").await })
        });
        let answers: Vec<_> = answers.collect();
        let mut sent = 0;
        for answer in answers {
            assert_eq!(answer.await.expect("no panic"), Ok(()), "answer {sent}");
            sent += 1;
            if sent == 1 {
                stage.emulator.send("door", None, None, ServiceMessage::GoAway);
            }
        }
        stage.end().await;
    }

    #[test]
    fn only_consecutive_quick_closes_count_as_displacement() {
        let closed = Failure::new(FailureCode::Closed, "the service closed the socket (1001)");
        let cut = Failure::new(FailureCode::Closed, "the signaling socket was cut without a close");
        let (soon, late) = (Duration::from_secs(1), DISPLACED_WITHIN);
        let mut displaced = Displaced::default();
        let mut count = |lived, failure| displaced.link_ended(lived, failure);
        assert_eq!((count(soon, &closed), count(soon, &closed)), (1, 2));
        assert_eq!(count(late, &closed), 0, "a link that lived was not displaced");
        assert_eq!((count(soon, &closed), count(soon, &cut)), (1, 0), "nor was one that broke");
        for times in 1..=DISPLACED_MAX {
            assert_eq!(count(soon, &closed), times);
        }
    }

    #[test]
    fn backoff_grows_to_its_limit_with_jitter() {
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
