//! The service's quotas as the sessions of one client share them: connects, calls and client ids by
//! channel, calls by account.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use negotiation_core::{ClientId, ClientIdPool, Failure, FailureCode, Timestamp};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::pace::RateWindow;

/// Quota: ConnectAsViewer and ConnectAsMaster, 3 a second for each channel.
const CONNECTS: usize = 3;

/// Number of channels up to which idle ones are not removed.
const CHANNELS_KEPT: usize = 64;

/// Number of accounts or channels up to which a limiter of calls keeps idle ones.
const IDLE_KEPT: usize = 1024;

/// The wait after the first throttled GetIceServerConfig of a channel; it doubles each time.
const ICE_BACKOFF: Duration = Duration::from_secs(5);

/// The longest wait after a throttled GetIceServerConfig.
const ICE_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The usage of the service's quotas by the sessions of one client.
pub(crate) struct Quotas {
    /// The origin of times in pools and limiters, which outlive sessions and their clocks.
    origin: Instant,
    channels: Mutex<ChannelStates>,
    calls: BTreeMap<&'static str, Limiters>,
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quotas")
    }
}

impl Quotas {
    pub(crate) fn new() -> Self {
        let origin = Instant::now();
        let limiter = |rate: Option<u32>| {
            let rate = rate.and_then(NonZeroU32::new)?;
            Some(RateLimiter::hashmap_with_clock(Quota::per_second(rate), TokioClock { origin }))
        };
        let calls = CALL_QUOTAS.iter().map(|quota| {
            let (account, channel) = (limiter(quota.account), limiter(quota.channel));
            (quota.name, Limiters { account, channel })
        });
        Self { origin, channels: Mutex::new(ChannelStates::new()), calls: calls.collect() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::new(Instant::now().saturating_duration_since(self.origin))
    }

    fn with_channel<T>(&self, key: &str, act: impl FnOnce(&mut ChannelState) -> T) -> T {
        // No panic can leave a change half done, so a poisoned lock is usable.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        act(channels.entry(key, self.now()))
    }

    /// Leases a client id of the channel's pool; `None` if all are in use.
    pub(crate) fn lease_id(&self, key: &str, base: &ClientId) -> Option<ClientId> {
        self.with_channel(key, |channel| channel.lease(base, self.now()))
    }

    /// Returns a client id to the channel's pool. One that sent an offer rests from `since`.
    pub(crate) fn return_id(&self, key: &str, id: &ClientId, offered: bool, since: Timestamp) {
        self.with_channel(key, |channel| channel.give_back(id, offered, since));
    }

    /// Waits until one more connect is within the quota.
    pub(crate) async fn admit_connect(&self, key: &str) {
        while let Err(at) = self.with_channel(key, |channel| channel.connects.admit(CONNECTS)) {
            sleep_until(at).await;
        }
    }

    /// Waits until one more call is within the quotas of the account in its region and of the
    /// channel.
    ///
    /// # Errors
    /// The wait would exceed `limit`.
    pub(crate) async fn admit_call(
        &self,
        name: &'static str,
        account: &str,
        channel: &str,
        limit: Duration,
    ) -> Result<(), Failure> {
        let Some(limiters) = self.calls.get(name) else { return Ok(()) };
        let turn = async {
            self.pass(limiters.channel.as_ref(), channel).await;
            self.pass(limiters.account.as_ref(), account).await;
        };
        timeout(limit, turn).await.map_err(|_| {
            let detail =
                format!("sessions here already call {name} as often as the service admits");
            Failure::new(FailureCode::Throttled, detail)
        })
    }

    async fn pass(&self, limiter: Option<&Limiter>, key: &str) {
        let Some(limiter) = limiter else { return };
        if limiter.len() > IDLE_KEPT {
            limiter.retain_recent();
        }
        let (key, clock) = (key.to_owned(), TokioClock { origin: self.origin });
        while let Err(early) = limiter.check_key(&key) {
            sleep(early.wait_time_from(clock.now())).await;
        }
    }

    /// Admits a GetIceServerConfig of the channel.
    ///
    /// # Errors
    /// The service throttled the last one a short time ago.
    pub(crate) fn admit_ice_call(&self, key: &str) -> Result<(), Failure> {
        let until = self.with_channel(key, |channel| channel.ice.until);
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            None => Ok(()),
            Some(left) => {
                let seconds = left.as_secs_f32().ceil();
                let detail =
                    format!("the service throttles GetIceServerConfig; next in {seconds} s");
                Err(Failure::new(FailureCode::Throttled, detail))
            }
        }
    }

    /// Records whether the service throttled a GetIceServerConfig of the channel.
    pub(crate) fn ice_call_ended(&self, key: &str, throttled: bool) {
        self.with_channel(key, |channel| {
            channel.ice = if throttled {
                let before = channel.ice.throttled;
                let wait = (ICE_BACKOFF * 2u32.saturating_pow(before.min(8))).min(ICE_BACKOFF_MAX);
                let until = Some(Instant::now() + wait);
                IceBackoff { throttled: before.saturating_add(1), until }
            } else {
                IceBackoff::default()
            };
        });
    }
}

/// The channels that the client used recently.
struct ChannelStates {
    by_key: BTreeMap<String, ChannelState>,
    /// Number of channels at which idle ones are removed at once; below it, once per
    /// [`ClientIdPool::REST`].
    prune_at: usize,
    pruned: Timestamp,
}

#[derive(Default)]
struct ChannelState {
    connects: RateWindow,
    ids: ClientIdPool,
    /// Number of ids in use.
    leased: usize,
    /// When the id that was returned last began to rest.
    given_back: Timestamp,
    ice: IceBackoff,
}

/// The throttling of a channel's GetIceServerConfig.
#[derive(Clone, Copy, Debug, Default)]
struct IceBackoff {
    /// Throttled calls in a row.
    throttled: u32,
    until: Option<Instant>,
}

impl ChannelStates {
    fn new() -> Self {
        Self { by_key: BTreeMap::new(), prune_at: CHANNELS_KEPT, pruned: Timestamp::ZERO }
    }

    fn entry(&mut self, key: &str, now: Timestamp) -> &mut ChannelState {
        if self.by_key.len() >= CHANNELS_KEPT {
            // All channels of a fleet may be in use, so not every call searches for idle ones.
            let is_due = now.saturating_since(self.pruned) >= ClientIdPool::REST;
            if is_due || self.by_key.len() >= self.prune_at {
                self.by_key.retain(|_, channel| !channel.is_idle(now));
                self.prune_at = CHANNELS_KEPT.max(2 * self.by_key.len());
                self.pruned = now;
            }
        }
        self.by_key.entry(key.to_owned()).or_default()
    }
}

impl ChannelState {
    fn lease(&mut self, base: &ClientId, now: Timestamp) -> Option<ClientId> {
        let id = self.ids.lease(base, now)?;
        self.leased += 1;
        Some(id)
    }

    fn give_back(&mut self, id: &ClientId, offered: bool, since: Timestamp) {
        self.ids.give_back(id, offered, since);
        self.leased = self.leased.saturating_sub(1);
        self.given_back = self.given_back.max(since);
    }

    /// Whether the state equals that of an unused channel.
    fn is_idle(&mut self, now: Timestamp) -> bool {
        let rested = now.saturating_since(self.given_back) >= ClientIdPool::REST;
        let ids_are_free = self.leased == 0 && (rested || self.ids == ClientIdPool::default());
        let backs_off = self.ice.until.is_some_and(|until| Instant::now() < until);
        ids_are_free && !backs_off && self.connects.is_idle()
    }
}

/// The published quotas of a call, per second: in an account's region, and on one channel
/// (docs/kvs-protocol.md 1.6). Calls without a published quota are not limited.
struct CallQuota {
    name: &'static str,
    account: Option<u32>,
    channel: Option<u32>,
}

const CALL_QUOTAS: [CallQuota; 5] = [
    CallQuota { name: "DescribeSignalingChannel", account: Some(300), channel: Some(5) },
    CallQuota { name: "GetSignalingChannelEndpoint", account: Some(300), channel: None },
    CallQuota { name: "DescribeMediaStorageConfiguration", account: Some(50), channel: Some(5) },
    CallQuota { name: "CreateSignalingChannel", account: Some(50), channel: None },
    CallQuota { name: "GetIceServerConfig", account: None, channel: Some(5) },
];

type Limiter = RateLimiter<String, HashMapStateStore<String>, TokioClock, NoOpMiddleware<Duration>>;

/// The limiters of one call.
struct Limiters {
    account: Option<Limiter>,
    channel: Option<Limiter>,
}

/// Tokio's time, which tests can pause.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    // Shows: N16, 65.
    #[tokio::test(start_paused = true)]
    async fn channel_gets_three_connects_a_second() {
        let quotas = Quotas::new();
        let start = Instant::now();
        for _ in 0..7 {
            quotas.admit_connect("pace-a").await;
        }
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        let start = Instant::now();
        quotas.admit_connect("pace-b").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn channel_is_removed_once_its_ids_have_rested() {
        let (quotas, mut channels) = (Quotas::new(), ChannelStates::new());
        let mut serve = |key: &str, given_back: bool| {
            let now = quotas.now();
            let channel = channels.entry(key, now);
            channel.connects.admit(CONNECTS).expect("the first");
            let id = channel.lease(&id("cam"), now).expect("free");
            if given_back {
                channel.give_back(&id, true, now);
            }
            channels.by_key.len()
        };
        for n in 1..=2 * CHANNELS_KEPT {
            // Channels that are in use are kept, however many there are.
            assert_eq!(serve(&format!("door{n}"), true), n);
        }
        serve("in use", false);
        tokio::time::advance(ClientIdPool::REST * 2).await;
        assert_eq!(serve("next", true), 2, "the channel in use stays");
    }

    // Shows: N16.
    #[tokio::test(start_paused = true)]
    async fn calls_are_limited_by_account_region_and_name() {
        const CALL: &str = "GetSignalingChannelEndpoint";
        let (quotas, start) = (Quotas::new(), Instant::now());
        let patience = Duration::from_secs(10);
        let calls = (0..1000).map(|n| {
            let (channel, quotas) = (format!("fleet-{n}"), &quotas);
            async move {
                quotas
                    .admit_call(CALL, "aws us-west-2 fleet", &channel, patience)
                    .await
                    .expect("a turn");
                start.elapsed()
            }
        });
        let went = futures_util::future::join_all(calls).await;
        // A bucket of 300 is full at the start, and 300 more are admitted each second.
        assert!((2.2..2.5).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        let within = |from: Duration| {
            let to = from + Duration::from_secs(1);
            went.iter().filter(|at| (from..to).contains(*at)).count()
        };
        assert!(within(Duration::from_secs(1)) <= 300, "{}", within(Duration::from_secs(1)));
        let before = Instant::now();
        for account in ["aws eu-west-1 fleet", "aws us-west-2 other"] {
            quotas.admit_call(CALL, account, "fleet-0", patience).await.expect("another account");
        }
        quotas
            .admit_call("CreateSignalingChannel", "aws us-west-2 fleet", "x", patience)
            .await
            .expect("another call");
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_waits_too_long_is_throttled() {
        let quotas = Quotas::new();
        let ask = || {
            let limit = Duration::from_secs(1);
            quotas.admit_call("DescribeMediaStorageConfiguration", "a busy account", "busy", limit)
        };
        let requested = futures_util::future::join_all((0..20).map(|_| ask())).await;
        let admitted = requested.iter().filter(|turn| turn.is_ok()).count();
        // Five are admitted at once, and five within the second that a call may wait.
        assert!((10..=11).contains(&admitted), "{admitted}");
        let refused = requested.into_iter().find_map(Result::err).expect("some");
        assert_eq!(refused.code, FailureCode::Throttled);
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_channel_waits_longer_each_time() {
        let (quotas, key) = (Quotas::new(), "ice-rest");
        assert!(quotas.admit_ice_call(key).is_ok());
        let mut rests = Vec::new();
        for _ in 0..6 {
            quotas.ice_call_ended(key, true);
            let start = Instant::now();
            while quotas.admit_ice_call(key).is_err() {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            rests.push(start.elapsed().as_secs());
        }
        assert_eq!(rests, [5, 10, 20, 40, 60, 60]);
        quotas.ice_call_ended(key, false);
        assert!(quotas.admit_ice_call(key).is_ok());
        quotas.ice_call_ended(key, true);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(quotas.admit_ice_call(key).is_ok());
    }
}
