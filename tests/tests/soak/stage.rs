//! The emulator, cameras and viewers of a soak test, all in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock_tokio::TokioClock;
use kvs_camera::{Camera, CameraConfig};
use kvs_emulator::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Quotas,
};
use kvs_viewer_tests::nat::{Detour, Network};
use negotiation_core::{Event, MediaKind, Outcome, Settings};
use peer_webrtc::{MediaEvent, MediaReceiver, PeerConfig, WebRtcPeer};
use signaling_aws::{AwsSignaling, SignalingConfig, SignalingConfigBuilder};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use viewer_session::redact::{Origin, remember};
use viewer_session::{Handle, SessionUpdate};

/// A time limit for operations without a deadline.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Fills the process's registry of secrets. The registry keeps a bounded number of the newest, and
/// growth up to that bound must not count as a leak.
pub(crate) fn fill_secrets() {
    for (origin, count) in [(Origin::Connection, 4096), (Origin::Service, 16 * 1024)] {
        for n in 0..count {
            // As long as a signature, the longest kind of secret; each has its own prefix.
            remember(origin, &format!("{n:06x}{:058}", 0));
        }
    }
}

/// Starts an emulator without quotas, with these channels. Its event lists are full after a few
/// cycles, because growth up to a bound must not count as a leak.
pub(crate) async fn emulator(channels: Vec<String>) -> Emulator {
    let quotas = Quotas { enabled: false, ..Quotas::default() };
    let config = EmulatorConfig { channels, quotas, events_max: 64, ..EmulatorConfig::default() };
    Emulator::start(config).await.expect("the emulator starts")
}

fn reach(emulator: &Emulator, channel: &str) -> SignalingConfigBuilder {
    SignalingConfig::builder(channel)
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
}

/// Starts a camera that soon drops a viewer that vanished.
pub(crate) async fn camera(emulator: &Emulator, channel: &str) -> Camera {
    let signaling = reach(emulator, channel).build().expect("valid");
    let config = CameraConfig {
        connect_timeout: secs(4),
        disconnect_timeout: secs(2),
        ..CameraConfig::new(signaling)
    };
    Camera::start(config).await.expect("the camera starts")
}

/// A session of the product, and its results.
pub(crate) struct Watching {
    handle: Handle,
    driver: JoinHandle<Outcome>,
    pictures: Arc<AtomicU64>,
    taker: JoinHandle<()>,
}

impl Watching {
    /// Starts a session as [`kvs_viewer::Session`] does, over the simulated network if there is
    /// one. The test itself reports changes of the machine's network.
    pub(crate) fn start(
        emulator: &Emulator,
        channel: &str,
        settings: Settings,
        network: Option<&Network>,
    ) -> Self {
        let session = settings.check().expect("it can work");
        let signaling = reach(emulator, channel).client_id("soak").build().expect("valid");
        let mut peer = PeerConfig::new(true);
        if network.is_some() {
            peer.bind = vec!["127.0.0.1:0".to_owned()];
        }
        let mut peer = WebRtcPeer::new(peer).expect("it can work");
        let media = peer.media().expect("not taken");
        let port = AwsSignaling::new(signaling);
        let signaling = Detour { port, network: network.cloned(), tamper: None };
        let clock = TokioClock::start();
        let (driver, handle) = viewer_session::session(session, 7, signaling, peer, clock);
        let driver = tokio::spawn(driver.run());
        let pictures = Arc::<AtomicU64>::default();
        let taker = tokio::spawn(take(media, pictures.clone()));
        Self { handle, driver, pictures, taker }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns the number of complete pictures so far.
    pub(crate) fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// Waits for the next event; returns `None` once the session has ended.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            match self.handle.next_event().await? {
                SessionUpdate::Event { event, .. } => return Some(event),
                SessionUpdate::Lagged(_) => {}
            }
        }
    }

    /// Waits for an event that `fits` accepts; returns false if the session ended without one.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> bool {
        let waited = timeout(PATIENCE, async {
            while let Some(event) = self.event().await {
                if fits(&event) {
                    return true;
                }
            }
            false
        });
        waited.await.expect("it comes or the session ends")
    }

    /// Waits for this many more pictures.
    pub(crate) async fn more_pictures(&self, more: u64) {
        let until = self.pictures() + more;
        let flow = async {
            while self.pictures() < until {
                tokio::time::sleep(ms(5)).await;
            }
        };
        timeout(PATIENCE, flow).await.expect("media flows");
    }

    /// Closes the session and waits until it has ended.
    pub(crate) async fn close(self) -> Outcome {
        self.handle.close();
        self.ended().await
    }

    /// Waits until the session has ended.
    pub(crate) async fn ended(self) -> Outcome {
        let outcome = timeout(PATIENCE, self.driver).await.expect("it ends");
        self.taker.await.expect("media ends with it");
        outcome.expect("the driver does not panic")
    }
}

async fn take(mut media: MediaReceiver, pictures: Arc<AtomicU64>) {
    while let Some(event) = media.next().await {
        if matches!(event, MediaEvent::Frame { kind: MediaKind::Video, .. }) {
            pictures.fetch_add(1, Ordering::Relaxed);
        }
    }
}
