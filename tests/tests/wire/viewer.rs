//! A session of the product's own parts, with a log of all its inputs and outputs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock_tokio::TokioClock;
use kvs_viewer_tests::nat::{Detour, Network, Tamper};
use negotiation_core::{
    Config, Description, Event, Ignored, Input, Outcome, Output, Settings, SignalingCommand,
    SignalingEvent, Timestamp,
};
use peer_webrtc::{PeerConfig, PeerMonitor, WebRtcPeer};
use signaling_aws::{AwsSignaling, SignalingConfigBuilder};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use viewer_session::{Clock as _, Handle, Observer};

use crate::film::Film;

/// A time limit for operations without a deadline.
const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of a viewer.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) signaling: SignalingConfigBuilder,
    pub(crate) peer: PeerConfig,
    pub(crate) network: Option<Network>,
    pub(crate) tamper: Option<Tamper>,
}

impl Plan {
    /// Starts the viewer as [`kvs_viewer::Session`] does, with the simulated network if there is
    /// one.
    pub(crate) fn watch(self) -> Watching {
        let config = self.settings.check().expect("it can work");
        let clock = TokioClock::start();
        let origin = Instant::now();
        let mut peer = WebRtcPeer::new(self.peer).expect("it can work");
        let media = peer.media().expect("not taken");
        let monitor = peer.monitor();
        let film = Film::default();
        tokio::spawn(film.clone().take(media, origin));
        let port = AwsSignaling::new(self.signaling.build().expect("it can work"));
        let signaling = Detour { port, network: self.network, tamper: self.tamper };
        let log = Log::default();
        let (driver, handle) = viewer_session::session(config, 7, signaling, peer, clock.clone());
        let driver = tokio::spawn(driver.with_observer(Box::new(log.clone())).run());
        Watching { handle, film, log, monitor, clock, driver, seen: 0 }
    }
}

/// A running session.
pub(crate) struct Watching {
    pub(crate) handle: Handle,
    pub(crate) film: Film,
    pub(crate) log: Log,
    pub(crate) monitor: PeerMonitor,
    clock: TokioClock,
    driver: JoinHandle<Outcome>,
    /// The number of log entries that were already examined.
    seen: usize,
}

impl Watching {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the time since a moment on the session's clock.
    pub(crate) fn since(&self, moment: Timestamp) -> Duration {
        self.now().saturating_since(moment)
    }

    /// Waits for the next event that `fits` accepts, and returns its time.
    pub(crate) async fn until(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Timestamp {
        let found = self.next(what, |entry| match entry {
            Entry::Output(Output::Event(event)) => fits(event),
            Entry::Output(_) | Entry::Input(_) => false,
        });
        found.await
    }

    /// Waits for the next input or output that `fits` accepts, and returns its time.
    pub(crate) async fn next(&mut self, what: &str, fits: impl Fn(&Entry) -> bool) -> Timestamp {
        let waited = timeout(PATIENCE, async {
            loop {
                let changed = self.log.changed.notified();
                {
                    let entries = self.log.entries();
                    while let Some((at, entry)) = entries.get(self.seen) {
                        self.seen += 1;
                        if fits(entry) {
                            return *at;
                        }
                    }
                }
                changed.await;
            }
        });
        match waited.await {
            Ok(at) => at,
            Err(_) => panic!("no {what} came:\n{}", self.log.story()),
        }
    }

    pub(crate) async fn live(&mut self) -> Timestamp {
        self.until("live", |event| *event == Event::Live).await
    }

    /// Waits until the session reports an ignored input for this reason, which it does once per
    /// attempt.
    pub(crate) async fn ignored(&mut self, reason: Ignored) -> Timestamp {
        self.until("ignored", |event| *event == Event::Ignored(reason)).await
    }

    /// Returns the time of the first report of this reason, if there was one.
    pub(crate) fn ignored_so_far(&self, reason: Ignored) -> Option<Timestamp> {
        let reported = |entry: &Entry| matches!(entry, Entry::Output(Output::Event(Event::Ignored(r))) if *r == reason);
        self.log.times(reported).first().copied()
    }

    /// Waits until the session has ended.
    pub(crate) async fn ended(self) -> Outcome {
        match timeout(PATIENCE, self.driver).await {
            Ok(outcome) => outcome.expect("the driver does not panic"),
            Err(_) => panic!("it did not end:\n{}", self.log.story()),
        }
    }

    /// Drops the session's handle, and waits until the session has ended.
    pub(crate) async fn dropped(self) -> Outcome {
        let Self { handle, driver, .. } = self;
        drop(handle);
        let ended = timeout(PATIENCE, driver).await.expect("it ends");
        ended.expect("the driver does not panic")
    }

    /// Closes the session, and waits until it has ended.
    pub(crate) async fn close(self) -> Outcome {
        self.handle.close();
        self.ended().await
    }

    /// Waits for this many more pictures.
    pub(crate) async fn more_pictures(&self, count: usize) {
        let before = self.film.len();
        let waited = timeout(PATIENCE, async {
            while self.film.len() < before + count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "no pictures come:\n{}", self.log.story());
    }

    /// Waits for a picture that arrived after a moment.
    pub(crate) async fn next_picture(&self, moment: Timestamp) {
        let is_later = || self.film.pictures().last().is_some_and(|picture| picture.at > moment);
        let waited = timeout(PATIENCE, async {
            while !is_later() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "no picture comes:\n{}", self.log.story());
    }

    /// Returns the longest time between two pictures, from this picture on.
    pub(crate) fn longest_gap(&self, since: usize) -> Duration {
        let pictures = self.film.pictures();
        let pairs = pictures[since..].windows(2);
        pairs.map(|two| two[1].at.saturating_since(two[0].at)).max().unwrap_or_default()
    }

    /// Returns the number of matching events so far.
    pub(crate) fn count(&self, like: impl Fn(&Event) -> bool) -> usize {
        self.log.count(|entry| match entry {
            Entry::Output(Output::Event(event)) => like(event),
            Entry::Output(_) | Entry::Input(_) => false,
        })
    }

    /// Returns the number of offers that the session created.
    pub(crate) fn offers(&self, restart: bool) -> usize {
        use negotiation_core::PeerCommand::CreateOffer;
        self.log.count(|entry| {
            matches!(entry, Entry::Output(Output::Peer(_, CreateOffer { restart: r, .. }))
                if *r == restart)
        })
    }

    /// Returns the number of signaling connections that the session requested.
    pub(crate) fn links(&self) -> usize {
        use SignalingCommand::Connect;
        self.log.count(|entry| matches!(entry, Entry::Output(Output::Signaling(_, Connect { .. }))))
    }

    /// Returns the number of the master's candidates that arrived.
    pub(crate) fn candidates(&self) -> usize {
        self.log.count(|entry| {
            matches!(entry, Entry::Input(Input::Signaling(_, SignalingEvent::Candidate { .. })))
        })
    }

    /// Returns the received answers as the master sent them.
    pub(crate) fn answers(&self) -> Vec<Description> {
        let entries = self.log.entries();
        let answers = entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Input(Input::Signaling(_, SignalingEvent::Answer { body: Ok(body), .. })) => {
                Some(body.clone())
            }
            Entry::Input(_) | Entry::Output(_) => None,
        });
        answers.collect()
    }
}

/// An input or output of the session.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Input(Input),
    Output(Output),
}

/// All inputs and outputs of a session. Clones share the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    entries: Arc<Mutex<Vec<(Timestamp, Entry)>>>,
    changed: Arc<Notify>,
}

impl Log {
    fn entries(&self) -> MutexGuard<'_, Vec<(Timestamp, Entry)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, like: impl Fn(&Entry) -> bool) -> usize {
        self.entries().iter().filter(|(_, entry)| like(entry)).count()
    }

    /// Calls a function with each entry, in order.
    pub(crate) fn each(&self, look: impl FnMut(&Entry)) {
        self.entries().iter().map(|(_, entry)| entry).for_each(look);
    }

    /// Returns the times of the matching entries.
    pub(crate) fn times(&self, like: impl Fn(&Entry) -> bool) -> Vec<Timestamp> {
        self.entries().iter().filter(|(_, entry)| like(entry)).map(|(at, _)| *at).collect()
    }

    /// Returns the events as text, for a failure's message.
    pub(crate) fn story(&self) -> String {
        let entries = self.entries();
        let events = entries.iter().filter_map(|(at, entry)| match entry {
            Entry::Output(Output::Event(event)) => Some(format!("{at} {event:?}\n")),
            Entry::Output(_) | Entry::Input(_) => None,
        });
        events.collect()
    }

    fn push(&self, at: Timestamp, entry: Entry) {
        self.entries().push((at, entry));
        self.changed.notify_waiters();
    }
}

impl Observer for Log {
    fn began(&mut self, _: &Config, _: u64, _: Timestamp) {}

    fn input(&mut self, at: Timestamp, input: &Input) {
        self.push(at, Entry::Input(input.clone()));
    }

    fn output(&mut self, at: Timestamp, output: &Output) {
        self.push(at, Entry::Output(output.clone()));
    }
}
