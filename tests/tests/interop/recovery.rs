//! Recovery with foreign masters: how each reacts to an offer for an ICE restart, and what happens
//! when it dies (N18, N19; scenarios 23, 25 and 45).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvs_viewer::{Session, SessionConfig};
use kvs_viewer_tests::stage::{CHANNEL, REGION, Stage};
use kvs_viewer_tests::{Keys, Process};
use negotiation_core::{EndReason, Event, MediaKind, Outcome, Settings};
use peer_webrtc::{MediaEvent, MediaReceiver, PeerConfig};
use signaling_aws::SignalingConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};
use viewer_session::SessionUpdate;

use crate::{PATIENCE, PROGRAM, in_a_network_of_its_own};

/// The page closes the connection that the offer was for, and makes another: the viewer detects the
/// refused restart by the other certificate or by the close, whichever comes first.
// Shows: N18.
#[test]
fn restart_of_javascript_master_takes_new_attempt() {
    let stage = Stage::start_tls(PROGRAM, Keys::session());
    let _master = stage.browser("master", &[]);
    a_restart_costs_a_full_attempt(&stage, "the JavaScript master");
}

// Shows: N19, 25, 45.
#[test]
fn aiortc_restarts_and_reboots() {
    in_a_network_of_its_own("recovery::aiortc");
}

#[test]
#[ignore = "run by the test above, in a network of its own"]
fn aiortc() {
    a_restart_costs_aiortc_a_full_attempt();
    an_ignored_restart_costs_nothing();
    a_master_that_dies_is_found();
}

/// aiortc answers with a new connection, and so with another certificate.
fn a_restart_costs_aiortc_a_full_attempt() {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let _master = master(&stage, "replace");
    a_restart_costs_a_full_attempt(&stage, "aiortc");
}

/// Media continues while the restart's deadline runs, and after it.
fn an_ignored_restart_costs_nothing() {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let master = master(&stage, "ignore");
    runtime().block_on(async {
        let mut watching = Watching::start(&stage);
        watching.until("live", |event| *event == Event::Live).await;
        watching.viewer.handle.control().restart();
        watching.until("the deadline", |event| *event == Event::RestartRefused).await;
        watching.more_pictures(100).await;
        let outcome = watching.close().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Closed, 1), "{outcome:?}");
        eprintln!("restart ignored by aiortc: media went on in the attempt");
    });
    master.event("offer", PATIENCE);
}

/// A killed master sends no DTLS close, and its socket is not closed in order.
fn a_master_that_dies_is_found() {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let first = master(&stage, "replace");
    runtime().block_on(async {
        let mut watching = Watching::start(&stage);
        watching.until("live", |event| *event == Event::Live).await;
        let died = watching.viewer.now();
        first.kill();
        let _second = master(&stage, "replace");
        watching.until("live again", |event| *event == Event::Live).await;
        let took = watching.viewer.now().saturating_since(died);
        watching.more_pictures(100).await;
        let outcome = watching.close().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Closed, 2), "{outcome:?}");
        eprintln!("reboot of aiortc: {:?}, live after {took:.1?}", outcome.attempts[0].end);
    });
}

fn a_restart_costs_a_full_attempt(stage: &Stage, who: &str) {
    runtime().block_on(async {
        let mut watching = Watching::start(stage);
        watching.until("live", |event| *event == Event::Live).await;
        watching.viewer.handle.control().restart();
        watching.until("live again", |event| *event == Event::Live).await;
        watching.more_pictures(100).await;
        let outcome = watching.close().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Closed, 2), "{outcome:?}");
        eprintln!("restart of {who}: {:?}, then live", outcome.attempts[0].end);
    });
}

fn master(stage: &Stage, repeated: &str) -> Process {
    let master = stage.python("aiortc_master.py", &["--repeated", repeated]);
    master.event("ready", PATIENCE);
    master
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A session of the product with its default settings.
struct Watching {
    viewer: Session,
    pictures: Arc<AtomicU64>,
}

impl Watching {
    fn start(stage: &Stage) -> Self {
        let keys = stage.keys();
        let signaling = SignalingConfig::builder(CHANNEL)
            .region(REGION)
            .endpoint_url(stage.endpoint())
            .credentials(&keys.id, &keys.secret, keys.token.clone());
        let signaling = match stage.ca_file() {
            Some(file) => signaling.ca_file(file),
            None => signaling,
        };
        let config = SessionConfig {
            session: Settings::one_retry().check().expect("it can work"),
            signaling: signaling.build().expect("valid"),
            peer: PeerConfig::new(true),
            watch_network: false,
        };
        let (viewer, media) = Session::start(config).expect("it can work");
        let pictures = Arc::<AtomicU64>::default();
        tokio::spawn(count(media, pictures.clone()));
        Self { viewer, pictures }
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Event) -> bool) {
        let mut seen = Vec::new();
        let waited = timeout(PATIENCE, async {
            while let Some(reported) = self.viewer.handle.next_event().await {
                if let SessionUpdate::Event { event, .. } = reported {
                    if fits(&event) {
                        return true;
                    }
                    seen.push(event);
                }
            }
            false
        });
        let came = waited.await.unwrap_or(false);
        assert!(came, "{what} did not come: {seen:#?}");
    }

    /// Waits for this many more pictures.
    async fn more_pictures(&self, more: u64) {
        let until = self.pictures.load(Ordering::Relaxed) + more;
        let flow = async {
            while self.pictures.load(Ordering::Relaxed) < until {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, flow).await.expect("media flows");
    }

    async fn close(self) -> Outcome {
        self.viewer.handle.close();
        let ended = timeout(PATIENCE, self.viewer.ended()).await.expect("it ends");
        ended.expect("the driver does not panic")
    }
}

async fn count(mut media: MediaReceiver, pictures: Arc<AtomicU64>) {
    while let Some(event) = media.next().await {
        if matches!(event, MediaEvent::Frame { kind: MediaKind::Video, .. }) {
            pictures.fetch_add(1, Ordering::Relaxed);
        }
    }
}
