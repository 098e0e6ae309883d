//! A session with the default adapters wired, in its parts.

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

/// What a viewer is made from.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Deadlines, retries, limits.
    pub session: Config,
    /// Channel, region, credentials, endpoint.
    pub signaling: SignalingConfig,
    /// Media, codecs, ICE policy. Without a detour of its own, TURN over TCP and TLS goes through
    /// signaling's proxy.
    pub peer: PeerConfig,
    /// Whether the session watches the platform's network by itself. Where it does not (a phone, a
    /// test), the application reports it: [`crate::Control::network_changed`],
    /// [`crate::Control::online`].
    pub watch_network: bool,
}

/// The session's configuration, with the media that the peer connection requests: without any of
/// it, connected is live.
fn asking_for(session: &Config, peer: &PeerConfig) -> Config {
    let mut settings = session.settings().clone();
    settings.receive_video &= !matches!(peer.video, Media::Off);
    settings.receive_audio &= !matches!(peer.audio, Media::Off);
    // It was valid, and these fields are no reason for it not to be.
    settings.check().unwrap_or_else(|_| session.clone())
}

/// A running session: AWS signaling, the webrtc peer, tokio's clock, the platform's network.
///
/// Dropping it closes the session; to wait for the end of closing, call [`Handle::close`] on
/// [`Session::handle`] and await [`Session::ended`].
pub struct Session {
    /// The session's events, and the requests to it.
    pub handle: Handle,
    /// Numbers of the running peer connection.
    pub monitor: PeerMonitor,
    clock: TokioClock,
    pub(crate) driver: JoinHandle<Outcome>,
}

impl Session {
    /// Opens a session. Its media comes from the returned receiver.
    ///
    /// # Errors
    /// Names the field of the peer's configuration that cannot work; nothing was opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: SessionConfig) -> Result<(Self, MediaReceiver), InvalidPeerConfig> {
        Self::start_observed(config, None)
    }

    /// As [`Session::start`], with an observer that sees the whole session: a journal's recorder.
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
        // A network that is left only through a proxy lets no TURN out either.
        peer_config.detour.get_or_insert_with(|| Detour::by(config.signaling.detour()));
        let mut peer = WebRtcPeer::new(peer_config)?;
        // It was made a line ago, so its media was not taken yet.
        let media = peer.media().expect("not taken");
        let monitor = peer.monitor();
        let memory = ChannelMemory::of(config.signaling.identity());
        let signaling = AwsSignaling::new(config.signaling);
        // Jitter wants a seed that differs between processes, not a secret.
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

    /// The time on the session's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until the session ended and everything it opened is closed.
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

/// Waits for a task. Its panic goes on here; it is cancelled with its runtime alone, and nothing is
/// waited for then.
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
