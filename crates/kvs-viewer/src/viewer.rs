//! The library's face: a session with the default adapters wired.

use std::hash::{BuildHasher as _, RandomState};

use clock_tokio::TokioClock;
use negotiation_core::{Config, Outcome, Settings, Timestamp};
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
pub struct ViewerConfig {
    /// Deadlines, retries, limits.
    pub session: Config,
    /// Channel, region, credentials, endpoint.
    pub signaling: SignalingConfig,
    /// Media, codecs, ICE policy. Without a detour of its own, TURN over TCP and TLS goes through
    /// signaling's proxy.
    pub peer: PeerConfig,
    /// Whether the session hears of the platform's network by itself. Where it does not (a phone, a
    /// test), the application tells it: [`Handle::network_changed`], [`Handle::online`].
    pub watch_network: bool,
}

/// The session's configuration, with what the peer connection asks to receive: without any of it,
/// connected is live.
fn asking_for(session: &Config, peer: &PeerConfig) -> Config {
    let mut settings = Settings::clone(session);
    settings.receive_video &= !matches!(peer.video, Media::Off);
    settings.receive_audio &= !matches!(peer.audio, Media::Off);
    // It was valid, and these fields are no reason for it not to be.
    settings.check().unwrap_or_else(|_| session.clone())
}

/// A running session: AWS signaling, the webrtc peer, tokio's clock, the platform's network.
///
/// Dropping it closes the session; to wait for the end of closing, call [`Handle::close`] on
/// [`Viewer::handle`] and await [`Viewer::ended`].
pub struct Viewer {
    /// What the session tells, and what it can be asked.
    pub handle: Handle,
    /// Numbers of the running peer connection.
    pub monitor: PeerMonitor,
    clock: TokioClock,
    driver: JoinHandle<Outcome>,
}

impl Viewer {
    /// Opens a session. Its media comes from the returned receiver.
    ///
    /// # Errors
    /// Names the field of the peer's configuration that cannot work; nothing was opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(config: ViewerConfig) -> Result<(Self, MediaReceiver), InvalidPeerConfig> {
        Self::start_observed(config, None)
    }

    /// As [`Viewer::start`], with an observer that sees the whole session: a journal's recorder.
    ///
    /// # Errors
    /// As [`Viewer::start`].
    ///
    /// # Panics
    /// As [`Viewer::start`].
    pub fn start_observed(
        config: ViewerConfig,
        observer: Option<Box<dyn Observer>>,
    ) -> Result<(Self, MediaReceiver), InvalidPeerConfig> {
        let clock = TokioClock::start();
        let mut peer_config = config.peer;
        let session = asking_for(&config.session, &peer_config);
        // A network that lets nobody out but a proxy lets no TURN out either.
        peer_config.detour.get_or_insert_with(|| Detour::by(config.signaling.detour()));
        let mut peer = WebRtcPeer::new(peer_config)?;
        // It was made a line ago, so nobody took its media yet.
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
        let driver = match config.watch_network.then(IfWatchNetwork::start) {
            Some(Ok(network)) => {
                let watched = monitor.clone();
                let pair = move || {
                    let watched = watched.clone();
                    async move { watched.local_address().await }
                };
                driver.with_network(Box::new(network.with_pair_address(pair)))
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the platform's network is not watched");
                driver
            }
            None => driver,
        };
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
