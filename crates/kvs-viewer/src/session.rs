//! A session that is wired to the default adapters, for access to its parts.

use std::hash::{BuildHasher as _, RandomState};

use clock_tokio::TokioClock;
use negotiation_core::{Config, Outcome, Timestamp};
#[cfg(feature = "network-watch")]
use network_ifwatch::IfWatchNetwork;
use peer_webrtc::{
    Detour, InvalidPeerConfig, Media, MediaReceiver, PeerConfig, PeerMonitor, WebRtcPeer,
};
use signaling_aws::{AwsSignaling, SignalingConfig};
use tokio::task::JoinHandle;
use viewer_session::{Clock as _, Handle, Observer};

use crate::masters::ChannelMemory;

/// The configuration of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Deadlines, retries, limits.
    pub session: Config,
    /// Channel, region, credentials, endpoint.
    pub signaling: SignalingConfig,
    /// Media, codecs, ICE policy. If it has no detour, TURN over TCP and TLS uses the signaling
    /// proxy.
    pub peer: PeerConfig,
    /// Whether the session watches the platform's network itself. If not (on a phone, in a test),
    /// the application reports changes: [`crate::Control::network_changed`],
    /// [`crate::Control::online`].
    pub watch_network: bool,
}

/// Returns the session's configuration with the media that the peer connection requests to receive:
/// if none, the session is live once it is connected.
fn asking_for(session: &Config, peer: &PeerConfig) -> Config {
    let mut settings = session.settings().clone();
    settings.receive_video &= !matches!(peer.video, Media::Off);
    settings.receive_audio &= !matches!(peer.audio, Media::Off);
    // The settings were valid before, and these fields cannot make them invalid.
    settings.check().unwrap_or_else(|_| session.clone())
}

/// A running session: AWS signaling, the webrtc peer, tokio's clock, the platform's network.
///
/// Dropping it closes the session; to wait for the end of closing, call [`Handle::close`] on
/// [`Session::handle`] and await [`Session::ended`].
pub struct Session {
    /// Reads events from the session and sends it commands.
    pub handle: Handle,
    /// The statistics of the running peer connection.
    pub monitor: PeerMonitor,
    clock: TokioClock,
    pub(crate) driver: JoinHandle<Outcome>,
}

impl Session {
    /// Opens a session. The returned receiver delivers its media.
    ///
    /// # Errors
    /// Returns the field of the peer configuration that cannot work; no connection was opened.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub fn start(config: SessionConfig) -> Result<(Self, MediaReceiver), InvalidPeerConfig> {
        Self::start_observed(config, None)
    }

    /// As [`Session::start`], with an observer of the whole session, such as a journal recorder.
    ///
    /// # Errors
    /// As [`Session::start`].
    ///
    /// # Panics
    /// As [`Session::start`].
    pub fn start_observed(
        config: SessionConfig,
        observer: Option<Box<dyn Observer>>,
    ) -> Result<(Self, MediaReceiver), InvalidPeerConfig> {
        let clock = TokioClock::start();
        let mut peer_config = config.peer;
        let session = asking_for(&config.session, &peer_config);
        // A network that can only be left through a proxy blocks direct TURN too.
        peer_config.detour.get_or_insert_with(|| Detour::by(config.signaling.detour()));
        let mut peer = WebRtcPeer::new(peer_config)?;
        // The peer was created above, so its media was not taken yet.
        let media = peer.media().expect("not taken");
        let monitor = peer.monitor();
        let memory = ChannelMemory::of(config.signaling.identity());
        let signaling = AwsSignaling::new(config.signaling);
        // The jitter of retries needs a seed that differs between processes, not a secret one.
        let seed = RandomState::new().hash_one(std::process::id());
        let (driver, handle) =
            viewer_session::session(session, seed, signaling, peer, clock.clone());
        let driver = driver.with_memory(Box::new(memory));
        let driver = match observer {
            Some(observer) => driver.with_observer(observer),
            None => driver,
        };
        #[cfg(feature = "network-watch")]
        let driver = if config.watch_network { watching_network(driver, &monitor) } else { driver };
        #[cfg(not(feature = "network-watch"))]
        if config.watch_network {
            tracing::warn!("the network is not watched: the feature network-watch is off");
        }
        let driver = tokio::spawn(driver.run());
        Ok((Self { handle, monitor, clock, driver }, media))
    }

    /// Returns the time on the session's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until the session has ended and everything it opened is closed.
    ///
    /// # Errors
    /// The driver's task was cancelled with its runtime.
    pub async fn ended(self) -> Result<Outcome, tokio::task::JoinError> {
        let Self { handle, driver, .. } = self;
        let outcome = driver.await;
        drop(handle);
        outcome
    }
}

/// Waits for a task and propagates its panic. Only the shutdown of the runtime cancels the task;
/// the function then never returns.
pub(crate) async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(feature = "network-watch")]
fn watching_network<S, P, C>(
    driver: viewer_session::Driver<S, P, C>,
    monitor: &PeerMonitor,
) -> viewer_session::Driver<S, P, C>
where
    S: viewer_session::SignalingPort,
    P: viewer_session::PeerPort,
    C: viewer_session::Clock,
{
    match IfWatchNetwork::start() {
        Ok(network) => {
            let watched = monitor.clone();
            let pair = move || {
                let watched = watched.clone();
                async move { watched.local_address().await }
            };
            driver.with_network(Box::new(network.with_pair_address(pair)))
        }
        Err(error) => {
            tracing::warn!(%error, "the platform's network is not watched");
            driver
        }
    }
}
