//! The network port over what the platform tells of its interfaces, by the if-watch crate.
//!
//! Notices of the platform (netlink on Linux) say *when* to look; `seen` says what is looked at,
//! and `judge` what of it a session must know. No address leaves this crate, not even in a log.
#![forbid(unsafe_code)]

mod judge;
mod seen;

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use if_watch::tokio::IfWatcher;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use viewer_session::{NetworkInput, NetworkPort};

use judge::Judge;
use seen::Seen;

/// A change of network is a dozen notices; one look is taken this long after the first.
const SETTLE: Duration = Duration::from_millis(250);
/// What changes without a notice is found this late: a route, an IPv4 link that is taken down
/// (Linux keeps its addresses), an IPv6 address that is still being checked for duplicates.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tells a session of the platform's network. Needs a tokio runtime with time and IO.
#[derive(Debug)]
pub struct IfWatchNetwork {
    /// `None` once the platform's notices broke off: then there is only looking now and then. The
    /// watcher is not `Sync`, as a port must be; nobody ever waits for this lock.
    notices: Option<Mutex<IfWatcher>>,
    looks: tokio::time::Interval,
    /// When to look because of a notice.
    settled: Option<Instant>,
    judge: Judge,
    waiting: VecDeque<NetworkInput>,
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
            waiting: VecDeque::new(),
        };
        network.look();
        Ok(network)
    }

    fn look(&mut self) {
        match Seen::now() {
            Ok(seen) => self.waiting.extend(self.judge.look_at(seen)),
            Err(error) => tracing::debug!(%error, "the interfaces cannot be listed"),
        }
    }
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
                    self.settled = None;
                    self.look();
                }
                _ = self.looks.tick() => self.look(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_network_that_stays_as_it_is_says_nothing() {
        let mut network = IfWatchNetwork::start().expect("the platform gives notices");
        let offline = Seen::now().expect("listed").is_offline();
        if offline {
            assert_eq!(network.next().await, NetworkInput::Online(false));
        }
        // Long enough for the notices of the beginning, which name every address there is.
        let said = tokio::time::timeout(SETTLE * 3, network.next()).await;
        assert!(said.is_err(), "{said:?}");
    }
}
