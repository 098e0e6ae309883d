//! The network port over what the platform reports of its interfaces, by the if-watch crate.
//!
//! Notices of the platform (netlink on Linux) say *when* to look; `seen` has what is examined,
//! and `judge` what of it a session must know. No address leaves this crate, not even in a log.
//!
//! ```no_run
//! use network_ifwatch::IfWatchNetwork;
//! use viewer_session::{Clock, Driver, PeerPort, SignalingPort};
//!
//! /// Lets a session recover as soon as the platform reports another network.
//! fn watching<S, P, C>(driver: Driver<S, P, C>) -> std::io::Result<Driver<S, P, C>>
//! where
//!     S: SignalingPort,
//!     P: PeerPort,
//!     C: Clock,
//! {
//!     Ok(driver.with_network(Box::new(IfWatchNetwork::start()?)))
//! }
//! ```
#![forbid(unsafe_code)]

mod judge;
mod seen;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use if_watch::tokio::IfWatcher;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use viewer_session::{NetworkInput, NetworkPort};

use judge::Judge;
use seen::Seen;

/// A change of network is a dozen notices; one look is taken this long after the first.
const SETTLE: Duration = Duration::from_millis(250);
/// What changes without a notice is found this late: a route, an IPv4 link that is taken down
/// (Linux keeps its addresses), an IPv6 address that is still being checked for duplicates.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longest wait for the local address of the pair in use.
const PAIR_MAX: Duration = Duration::from_millis(200);

/// Looks up the local address of the connection in use.
type PairAddress =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Option<IpAddr>> + Send>> + Send + Sync>;

/// Tells a session of the platform's network. Needs a tokio runtime with time and IO.
pub struct IfWatchNetwork {
    /// `None` once the platform's notices broke off: then there is only looking now and then. The
    /// watcher is not `Sync`, as a port must be; this lock is never contended.
    notices: Option<Mutex<IfWatcher>>,
    looks: tokio::time::Interval,
    /// When to look because of a notice.
    settled: Option<Instant>,
    judge: Judge,
    pair: Option<PairAddress>,
    waiting: VecDeque<NetworkInput>,
}

impl fmt::Debug for IfWatchNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IfWatchNetwork").field("judge", &self.judge).finish_non_exhaustive()
    }
}

impl IfWatchNetwork {
    /// Begins to watch. What the network is like now counts as known, unless there is none.
    ///
    /// # Errors
    /// The platform gives no notices to this process.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start() -> io::Result<Self> {
        let mut looks = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut network = Self {
            notices: Some(Mutex::new(IfWatcher::new()?)),
            looks,
            settled: None,
            judge: Judge::default(),
            pair: None,
            waiting: VecDeque::new(),
        };
        if let Some(seen) = look() {
            network.waiting.extend(network.judge.look_at(seen, None));
        }
        Ok(network)
    }

    /// Looks up the local address of the connection in use whenever the network changes, to report
    /// that it is gone.
    #[must_use]
    pub fn with_pair_address<F>(mut self, pair: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<IpAddr>> + Send + 'static,
    {
        self.pair = Some(Box::new(move || Box::pin(pair())));
        self
    }

    /// Looks again. Nothing is lost when this is cancelled: the next look finds the same.
    async fn look(&mut self) {
        let Some(seen) = look().filter(|seen| self.judge.is_news(seen)) else { return };
        let pair = match &self.pair {
            Some(pair) => timeout(PAIR_MAX, pair()).await.ok().flatten(),
            None => None,
        };
        self.waiting.extend(self.judge.look_at(seen, pair));
    }
}

fn look() -> Option<Seen> {
    Seen::now().inspect_err(|error| tracing::debug!(%error, "the interfaces cannot be listed")).ok()
}

#[async_trait]
impl NetworkPort for IfWatchNetwork {
    async fn next(&mut self) -> NetworkInput {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                tracing::info!(?input, "the platform's network");
                return input;
            }
            let (notices, settled) = (&mut self.notices, self.settled);
            let noticed = async {
                match notices {
                    Some(notices) => {
                        notices.get_mut().unwrap_or_else(PoisonError::into_inner).next().await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                notice = noticed => match notice {
                    Some(Ok(_)) => {
                        self.settled.get_or_insert_with(|| Instant::now() + SETTLE);
                    }
                    Some(Err(_)) | None => {
                        tracing::debug!("no more notices of the platform's network");
                        self.notices = None;
                    }
                },
                () = sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => {
                    self.look().await;
                    self.settled = None;
                }
                _ = self.looks.tick() => self.look().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unchanged_network_reports_nothing() {
        let mut network = IfWatchNetwork::start().expect("the platform gives notices");
        let offline = Seen::now().expect("listed").is_offline();
        if offline {
            assert_eq!(network.next().await, NetworkInput::Online(false));
        }
        // Long enough for the notices of the beginning, which name every address there is.
        let printed = timeout(SETTLE * 3, network.next()).await;
        assert!(printed.is_err(), "{printed:?}");
    }
}
