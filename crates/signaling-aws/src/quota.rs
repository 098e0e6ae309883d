//! What the whole process shares: on a channel the pace of connects and the pool of client ids, in an
//! account the pace of calls.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use negotiation_core::{ClientId, ClientIdPolicy, ClientIdPool, Failure, FailureCode, Timestamp};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::id_file::{Claim, IdFile};
use crate::pace::RateWindow;
use crate::state_dir::on_disk;

/// Quota: ConnectAsViewer and ConnectAsMaster 3 a second and channel.
const CONNECTS: usize = 3;

/// With fewer channels than these it is not asked whether each is still worth remembering.
const CHANNELS_KEPT: usize = 64;

/// With fewer accounts or channels than these a limiter of calls keeps what is idle.
const IDLE_KEPT: usize = 1024;

/// After a throttled GetIceServerConfig a channel's next one waits, for twice as long each time.
const ICE_BACKOFF: Duration = Duration::from_secs(5);

/// But no longer.
const ICE_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The channels that this process has to do with.
struct ChannelStates {
    by_key: BTreeMap<String, ChannelState>,
    /// With so many it is asked which are worth remembering; with fewer, now and then.
    crowded_at: usize,
    pruned: Timestamp,
}

#[derive(Default)]
struct ChannelState {
    connects: RateWindow,
    ids: ClientIdPool,
    /// How many of the ids are in use.
    leased: usize,
    /// Since when the last one rests that was given back.
    given_back: Timestamp,
    ice: IceBackoff,
}

/// How a channel's calls for ICE servers were throttled.
#[derive(Clone, Copy, Debug, Default)]
struct IceBackoff {
    /// In a row.
    throttled: u32,
    until: Option<Instant>,
}

fn with_channel<T>(key: &str, act: impl FnOnce(&mut ChannelState) -> T) -> T {
    static CHANNELS: Mutex<ChannelStates> = Mutex::new(ChannelStates::new());
    // Every change below is whole: a panic elsewhere leaves nothing half done.
    CHANNELS.lock().unwrap_or_else(PoisonError::into_inner).with(key, act)
}

impl ChannelStates {
    const fn new() -> Self {
        Self { by_key: BTreeMap::new(), crowded_at: CHANNELS_KEPT, pruned: Timestamp::ZERO }
    }

    fn with<T>(&mut self, key: &str, act: impl FnOnce(&mut ChannelState) -> T) -> T {
        if self.by_key.len() >= CHANNELS_KEPT {
            let now = timestamp();
            // A fleet's channels are all in use: each is not looked at with every call.
            let is_due = now.saturating_since(self.pruned) >= ClientIdPool::REST;
            if is_due || self.by_key.len() >= self.crowded_at {
                self.by_key.retain(|_, channel| !channel.is_idle(now));
                self.crowded_at = CHANNELS_KEPT.max(2 * self.by_key.len());
                self.pruned = now;
            }
        }
        act(self.by_key.entry(key.to_owned()).or_default())
    }
}

impl ChannelState {
    fn lease(&mut self, base: &ClientId) -> Option<ClientId> {
        let id = self.ids.lease(base, timestamp())?;
        self.leased += 1;
        Some(id)
    }

    fn give_back(&mut self, id: &ClientId, offered: bool, since: Timestamp) {
        self.ids.give_back(id, offered, since);
        self.leased = self.leased.saturating_sub(1);
        self.given_back = self.given_back.max(since);
    }

    /// Whether one that was never used would do the same.
    fn is_idle(&mut self, now: Timestamp) -> bool {
        let rested = now.saturating_since(self.given_back) >= ClientIdPool::REST;
        let ids_are_free = self.leased == 0 && (rested || self.ids == ClientIdPool::default());
        let rests = self.ice.until.is_some_and(|until| Instant::now() < until);
        ids_are_free && !rests && self.connects.is_resting()
    }
}

/// Waits until one more connect is within the quota.
pub(crate) async fn admit_connect(key: &str) {
    while let Err(at) = with_channel(key, |channel| channel.connects.admit(CONNECTS)) {
        sleep_until(at).await;
    }
}

/// What the service admits of one call a second, in an account's region and on one channel
/// (docs/kvs-protocol.md 1.6). Where it publishes nothing, the process does not wait.
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

type Limiter = RateLimiter<String, HashMapStateStore<String>, Virtual, NoOpMiddleware<Duration>>;

/// The limiters of one call.
struct Limiters {
    account: Option<Limiter>,
    channel: Option<Limiter>,
}

/// Tokio's time, which tests can stop.
#[derive(Clone, Copy, Debug)]
struct Virtual;

impl Clock for Virtual {
    type Instant = Duration;

    fn now(&self) -> Duration {
        since_origin()
    }
}

/// Waits until one more call is within the quotas: of the account in its region, and of the channel.
///
/// # Errors
/// That would take longer than the limit.
pub(crate) async fn admit_call(
    name: &'static str,
    account: &str,
    channel: &str,
    limit: Duration,
) -> Result<(), Failure> {
    let Some(limiters) = limiters(name) else { return Ok(()) };
    let turn = async {
        pass(limiters.channel.as_ref(), channel).await;
        pass(limiters.account.as_ref(), account).await;
    };
    timeout(limit, turn).await.map_err(|_| {
        let detail = format!("this process already calls {name} as often as the service admits");
        Failure::new(FailureCode::Throttled, detail)
    })
}

async fn pass(limiter: Option<&Limiter>, key: &str) {
    let Some(limiter) = limiter else { return };
    if limiter.len() > IDLE_KEPT {
        limiter.retain_recent();
    }
    let key = key.to_owned();
    while let Err(early) = limiter.check_key(&key) {
        sleep(early.wait_time_from(Virtual.now())).await;
    }
}

fn limiters(name: &str) -> Option<&'static Limiters> {
    static LIMITERS: OnceLock<BTreeMap<&'static str, Limiters>> = OnceLock::new();
    let all = LIMITERS.get_or_init(|| {
        let limiter = |rate: Option<u32>| {
            let rate = rate.and_then(NonZeroU32::new)?;
            Some(RateLimiter::hashmap_with_clock(Quota::per_second(rate), Virtual))
        };
        let made = CALL_QUOTAS.iter().map(|quota| {
            let (account, channel) = (limiter(quota.account), limiter(quota.channel));
            (quota.name, Limiters { account, channel })
        });
        made.collect()
    });
    all.get(name)
}

/// Whether a channel's ICE servers may be asked for.
///
/// # Errors
/// The service asked for fewer requests, and not long ago.
pub(crate) fn admit_ice_call(key: &str) -> Result<(), Failure> {
    let until = with_channel(key, |channel| channel.ice.until);
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    match left.filter(|left| !left.is_zero()) {
        None => Ok(()),
        Some(left) => {
            let seconds = left.as_secs_f32().ceil();
            let detail =
                format!("the service asks for fewer GetIceServerConfig; next in {seconds} s");
            Err(Failure::new(FailureCode::Throttled, detail))
        }
    }
}

/// How a channel's call for ICE servers was answered: throttled, or not.
pub(crate) fn ice_call_ended(key: &str, throttled: bool) {
    with_channel(key, |channel| {
        channel.ice = if throttled {
            let before = channel.ice.throttled;
            let rest = (ICE_BACKOFF * 2u32.saturating_pow(before.min(8))).min(ICE_BACKOFF_MAX);
            IceBackoff { throttled: before.saturating_add(1), until: Some(Instant::now() + rest) }
        } else {
            IceBackoff::default()
        };
    });
}

/// A client id in use by one attempt. Dropping it gives the id back.
#[derive(Debug)]
pub(crate) struct IdLease {
    key: String,
    id: ClientId,
    policy: ClientIdPolicy,
    offered: bool,
    /// Since when no connection uses it.
    idle_since: Option<Timestamp>,
    file: Option<IdFile>,
}

impl IdLease {
    /// Takes an id for a connection (contract, N3); with a directory, one that no other process of this
    /// machine uses or lets rest.
    pub(crate) async fn acquire(
        key: &str,
        base: &ClientId,
        policy: ClientIdPolicy,
        dir: Option<&Path>,
    ) -> Result<Self, Failure> {
        if policy == ClientIdPolicy::Fixed {
            return Ok(Self::fixed(key, base));
        }
        let leased = match dir {
            None => with_channel(key, |channel| channel.lease(base)).map(|id| (id, None)),
            Some(dir) => lease_shared(key, base, dir).await,
        };
        let (id, file) = leased.ok_or_else(|| {
            Failure::new(
                FailureCode::ViewerLimit,
                "every client id of this machine is in use on this channel",
            )
        })?;
        Ok(Self { key: key.to_owned(), id, policy, offered: false, idle_since: None, file })
    }

    /// An id that is the caller's own.
    pub(crate) fn fixed(key: &str, id: &ClientId) -> Self {
        Self {
            key: key.to_owned(),
            id: id.clone(),
            policy: ClientIdPolicy::Fixed,
            offered: false,
            idle_since: None,
            file: None,
        }
    }

    pub(crate) fn id(&self) -> &ClientId {
        &self.id
    }

    /// A connection uses it again.
    pub(crate) fn in_use(&mut self) {
        self.idle_since = None;
    }

    /// No connection uses it: should it be given back, it has rested since now.
    pub(crate) fn idle(&mut self) {
        self.idle_since.get_or_insert_with(timestamp);
    }

    /// An offer goes out: the master may hold a session of this id after the connection is gone. What is
    /// returned is to be told of it, and only of the first.
    pub(crate) fn offered(&mut self) -> Option<IdFile> {
        // A later exchange says nothing new.
        if std::mem::replace(&mut self.offered, true) {
            return None;
        }
        self.file.clone()
    }
}

impl Drop for IdLease {
    fn drop(&mut self) {
        let now = timestamp();
        let since = self.idle_since.unwrap_or(now);
        if self.policy == ClientIdPolicy::Pooled {
            with_channel(&self.key, |channel| {
                channel.give_back(&self.id, self.offered, since);
            });
        }
        if let Some(file) = self.file.take().filter(|_| self.offered) {
            file.give_back_later(now.saturating_since(since));
        }
    }
}

/// Ids that were leased from the pool and turned out to be another process's. Dropped, they go back
/// to the pool: the files remember how it is with them, and this process's pool need not.
struct RejectedIds<'a> {
    key: &'a str,
    ids: Vec<(ClientId, Option<Duration>)>,
}

impl Drop for RejectedIds<'_> {
    fn drop(&mut self) {
        with_channel(self.key, |channel| {
            for (id, _) in &self.ids {
                channel.give_back(id, false, timestamp());
            }
        });
    }
}

/// The pool's choice, unless another process has it: then the pool's next.
async fn lease_shared(
    key: &str,
    base: &ClientId,
    dir: &Path,
) -> Option<(ClientId, Option<IdFile>)> {
    let mut refused = RejectedIds { key, ids: Vec::new() };
    while let Some(id) = with_channel(key, |channel| channel.lease(base)) {
        // Also given back when the waiting task is dropped.
        refused.ids.push((id.clone(), None));
        let rested = match claim(dir, key, &id, false).await {
            Ok(Claim::Acquired(file)) => {
                refused.ids.pop();
                return Some((id, Some(file)));
            }
            Ok(Claim::Resting(rested)) => Some(rested),
            Ok(Claim::InUse) => None,
            Err(error) => {
                tracing::warn!(%error, dir = %dir.display(), "client ids are not shared");
                refused.ids.pop();
                return Some((id, None));
            }
        };
        if let Some((_, known)) = refused.ids.last_mut() {
            *known = rested;
        }
    }
    // None has rested: the one that rested longest, as within one process.
    refused.ids.sort_by_key(|(_, rested)| *rested);
    let (id, _) = refused.ids.last().filter(|(_, rested)| rested.is_some())?.clone();
    match claim(dir, key, &id, true).await {
        Ok(Claim::Acquired(file)) => {
            refused.ids.pop();
            Some((id, Some(file)))
        }
        Ok(Claim::Resting(_) | Claim::InUse) | Err(_) => None,
    }
}

async fn claim(dir: &Path, key: &str, id: &ClientId, allow_resting: bool) -> io::Result<Claim> {
    let (dir, key, id) = (dir.to_owned(), key.to_owned(), id.clone());
    on_disk(move || IdFile::claim(&dir, &key, &id, allow_resting)).await
}

fn timestamp() -> Timestamp {
    Timestamp::new(since_origin())
}

/// Time since the first use in this process: pools and limiters outlive sessions and their clocks.
fn since_origin() -> Duration {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    Instant::now().saturating_duration_since(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ClientId {
        ClientId::new(text).expect("valid")
    }

    // Shows: N16, 65.
    #[tokio::test(start_paused = true)]
    async fn three_connects_a_second_and_channel() {
        let start = Instant::now();
        for _ in 0..7 {
            admit_connect("pace-a").await;
        }
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        let start = Instant::now();
        admit_connect("pace-b").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_rests_when_an_offer_went_out_on_it() {
        let base = id("cam");
        let acquire = async || {
            IdLease::acquire("ids", &base, ClientIdPolicy::Pooled, None).await.expect("free")
        };
        let first = acquire().await;
        let second = acquire().await;
        assert_eq!((first.id().as_str(), second.id().as_str()), ("cam", "cam-2"));
        drop(first);
        let mut again = acquire().await;
        assert_eq!(again.id().as_str(), "cam");
        again.offered();
        drop(again);
        assert_eq!(acquire().await.id().as_str(), "cam-3");
        // By far: the origin of timestamps is another test's when that one was first.
        tokio::time::advance(ClientIdPool::REST * 2).await;
        assert_eq!(acquire().await.id().as_str(), "cam");
    }

    #[tokio::test(start_paused = true)]
    async fn channels_are_forgotten_once_their_ids_have_rested() {
        let mut channels = ChannelStates::new();
        let mut serve = |key: &str, given_back: bool| {
            channels.with(key, |channel| {
                channel.connects.admit(CONNECTS).expect("the first");
                let id = channel.lease(&id("cam")).expect("free");
                if given_back {
                    channel.give_back(&id, true, timestamp());
                }
            });
            channels.by_key.len()
        };
        for n in 1..=2 * CHANNELS_KEPT {
            // ChannelStates that are in use are remembered, however many there are.
            assert_eq!(serve(&format!("door{n}"), true), n);
        }
        serve("in use", false);
        tokio::time::advance(ClientIdPool::REST * 2).await;
        assert_eq!(serve("next", true), 2, "beside it the one in use");
    }

    #[tokio::test]
    async fn the_ids_of_other_processes_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = |id: &ClientId| match IdFile::claim(dir.path(), "shared", id, false) {
            Ok(Claim::Acquired(file)) => file,
            other => panic!("not free: {other:?}"),
        };
        let _in_use = elsewhere(&id("cam"));
        let killed = elsewhere(&id("cam-2"));
        killed.offered().expect("written");
        drop(killed);
        let base = id("cam");
        let acquire =
            || IdLease::acquire("shared", &base, ClientIdPolicy::Pooled, Some(dir.path()));
        let mut leases = Vec::new();
        for _ in 0..8 {
            leases.push(acquire().await.expect("free"));
        }
        assert_eq!(leases[0].id().as_str(), "cam-3");
        assert_eq!(acquire().await.expect("the one that rests").id().as_str(), "cam-2");
    }

    #[tokio::test]
    async fn who_no_longer_waits_for_a_disk_holds_no_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = id("cam");
        let acquire = || IdLease::acquire("gone", &base, ClientIdPolicy::Pooled, Some(dir.path()));
        for _ in 0..2 * ClientIdPool::IDS_MAX {
            // Mostly not there yet, and given up.
            let _ = futures_util::poll!(Box::pin(acquire()).as_mut());
        }
        // Files that are still being opened are another's until they are closed.
        let leased = async {
            loop {
                if acquire().await.is_ok_and(|lease| lease.id() == &base) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), leased).await.expect("the first id is free");
    }

    // Shows: N3.
    #[tokio::test]
    async fn a_fixed_id_stays() {
        let acquire = async || {
            let base = id("cam");
            IdLease::acquire("fixed", &base, ClientIdPolicy::Fixed, None).await.expect("free")
        };
        let (first, second) = (acquire().await, acquire().await);
        assert_eq!(first.id(), second.id());
    }

    /// A thousand channels of one account start together.
    // Shows: N16.
    #[tokio::test(start_paused = true)]
    async fn calls_go_at_the_accounts_pace_by_region_and_api() {
        const CALL: &str = "GetSignalingChannelEndpoint";
        let start = Instant::now();
        let patience = Duration::from_secs(10);
        let calls = (0..1000).map(|n| {
            let channel = format!("fleet-{n}");
            async move {
                admit_call(CALL, "aws us-west-2 fleet", &channel, patience).await.expect("a turn");
                start.elapsed()
            }
        });
        let went = futures_util::future::join_all(calls).await;
        // A bucket of 300 is full at the start, and 300 a second come after.
        assert!((2.2..2.5).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        let within = |from: Duration| {
            let to = from + Duration::from_secs(1);
            went.iter().filter(|at| (from..to).contains(*at)).count()
        };
        assert!(within(Duration::from_secs(1)) <= 300, "{}", within(Duration::from_secs(1)));
        let before = Instant::now();
        for account in ["aws eu-west-1 fleet", "aws us-west-2 other"] {
            admit_call(CALL, account, "fleet-0", patience).await.expect("another account");
        }
        admit_call("CreateSignalingChannel", "aws us-west-2 fleet", "x", patience)
            .await
            .expect("another call");
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_takes_too_long_is_a_throttle() {
        let ask = || {
            let limit = Duration::from_secs(1);
            admit_call("DescribeMediaStorageConfiguration", "a busy account", "busy", limit)
        };
        let asked = futures_util::future::join_all((0..20).map(|_| ask())).await;
        let admitted = asked.iter().filter(|turn| turn.is_ok()).count();
        // Five at once, and five within the second that each of them waits.
        assert!((10..=11).contains(&admitted), "{admitted}");
        let refused = asked.into_iter().find_map(Result::err).expect("some");
        assert_eq!(refused.code, FailureCode::Throttled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_channel_rests_for_longer_each_time() {
        let key = "ice-rest";
        assert!(admit_ice_call(key).is_ok());
        let mut rests = Vec::new();
        for _ in 0..6 {
            ice_call_ended(key, true);
            let start = Instant::now();
            while admit_ice_call(key).is_err() {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            rests.push(start.elapsed().as_secs());
        }
        assert_eq!(rests, [5, 10, 20, 40, 60, 60]);
        ice_call_ended(key, false);
        assert!(admit_ice_call(key).is_ok());
        ice_call_ended(key, true);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(admit_ice_call(key).is_ok());
    }
}
