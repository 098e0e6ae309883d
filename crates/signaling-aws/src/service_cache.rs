//! The cache of channels: their endpoints, for hours, and their ICE servers, for as long as the
//! TURN credentials in them are fresh.
//!
//! A second session on a channel, and a connection that is opened again, request nothing that the
//! first received. An event that makes an entry doubtful (a refusal, an unknown channel, GO_AWAY,
//! RECONNECT_ICE_SERVER) removes it. Entries are not printed: they hold TURN passwords.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kvs_wire::ChannelArn;
use negotiation_core::IceServer;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::endpoint::Role;

/// How long endpoints are good: AWS documents no duration, and its C SDK uses ten hours
/// (docs/kvs-protocol.md 3.1).
pub(crate) const ENDPOINTS_FOR: Duration = Duration::from_secs(10 * 3600);

/// How long before the end of their credentials ICE servers are fetched again, as the C SDK does
/// (docs/kvs-protocol.md 1.5): a session that receives them still needs them for a moment.
const ICE_GRACE: Duration = Duration::from_secs(30);

/// How long the result that a channel is not in storage mode is good for a session's first attempt.
/// A later attempt requests it again sooner: an attempt failed, and storage mode may be the cause.
const PEER_TO_PEER_FOR: Duration = ENDPOINTS_FOR;

/// The same for a session's later attempts.
const PEER_TO_PEER_FOR_RETRIES: Duration = Duration::from_secs(600);

/// Maximum number of cached channels where no configuration sets another; the one that was learned
/// longest ago is removed first. One takes less than 2 kB.
const CHANNELS_MAX: usize = 4096;

/// The endpoints of the channel's data plane.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) arn: ChannelArn,
    pub(crate) wss: String,
    pub(crate) https: String,
    /// The endpoint for joining a storage session, requested at the first join.
    pub(crate) storage: Arc<OnceCell<String>>,
}

impl PartialEq for Endpoints {
    /// Ignores the storage endpoint, which is requested later and depends on the other fields.
    fn eq(&self, other: &Self) -> bool {
        (&self.arn, &self.wss, &self.https) == (&other.arn, &other.wss, &other.https)
    }
}

/// ICE servers and how long their credentials are valid.
#[derive(Clone)]
pub(crate) struct TurnServers {
    pub(crate) servers: Vec<IceServer>,
    pub(crate) ttl: Duration,
}

/// A channel for one caller. Callers do not share cached responses, since a response depends on the
/// caller's credentials, its region and its role.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The control plane, by its endpoint, region and kind.
    pub(crate) place: String,
    /// The channel's name or ARN, as configured.
    pub(crate) channel: String,
    pub(crate) role: Role,
    pub(crate) access_key_id: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.channel, self.place)
    }
}

/// The cached data, by channel.
pub(crate) struct ServiceCache {
    by_key: BTreeMap<Key, CachedChannel>,
    most: usize,
    /// Whether a configuration has set `most`; until then it is the default.
    is_configured: bool,
}

impl ServiceCache {
    pub(crate) fn new() -> Self {
        Self { by_key: BTreeMap::new(), most: CHANNELS_MAX, is_configured: false }
    }

    /// Sets the maximum number of channels, unless another configuration has set a larger one.
    pub(crate) fn keep_at_least(&mut self, channels: usize) {
        self.most = if self.is_configured { self.most.max(channels) } else { channels };
        self.is_configured = true;
        while self.by_key.len() > self.most {
            self.forget_oldest();
        }
    }

    /// Returns the endpoints, if they are known and still good.
    pub(crate) fn endpoints(&self, key: &Key) -> Option<Endpoints> {
        self.by_key.get(key)?.endpoints.as_ref()?.fresh().cloned()
    }

    /// Returns whether a file of an earlier process may be read for endpoints: once for each
    /// channel, and not after the cached endpoints were invalidated.
    pub(crate) fn may_recall(&mut self, key: &Key) -> bool {
        !std::mem::replace(&mut self.entry(key).recalled, true)
    }

    /// Stores endpoints that an earlier process learned at the time `then`.
    pub(crate) fn recall_endpoints(&mut self, key: &Key, endpoints: &Endpoints, then: SystemTime) {
        let reported = Cached { wall: then, ..Cached::new(endpoints.clone(), ENDPOINTS_FOR) };
        self.entry(key).endpoints = Some(reported);
    }

    /// Stores endpoints.
    pub(crate) fn learn_endpoints(&mut self, key: &Key, endpoints: &Endpoints) {
        self.entry(key).endpoints = Some(Cached::new(endpoints.clone(), ENDPOINTS_FOR));
    }

    /// Returns the ICE servers, if their credentials are fresh.
    pub(crate) fn turn_servers(&self, key: &Key) -> Option<Vec<IceServer>> {
        self.by_key.get(key)?.turn.as_ref()?.fresh().cloned()
    }

    /// Stores ICE servers, if their credentials are valid long enough to be used twice.
    pub(crate) fn learn_turn_servers(&mut self, key: &Key, turn: &TurnServers) {
        let life = turn.ttl.checked_sub(ICE_GRACE).filter(|life| !life.is_zero());
        self.entry(key).turn = life.map(|life| Cached::new(turn.servers.clone(), life));
    }

    /// Removes the ICE servers.
    pub(crate) fn forget_turn_servers(&mut self, key: &Key) {
        if let Some(known) = self.by_key.get_mut(key) {
            known.turn = None;
        }
    }

    /// Removes all cached data of the channel.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some(known) = self.by_key.get_mut(key) {
            *known = CachedChannel { recalled: true, ..CachedChannel::default() };
        }
    }

    /// Whether it is known that the channel is not in storage mode. `retries` marks an attempt
    /// after a failed one.
    pub(crate) fn is_peer_to_peer(&self, key: &Key, retries: bool) -> bool {
        let life = if retries { PEER_TO_PEER_FOR_RETRIES } else { PEER_TO_PEER_FOR };
        let reported = self.by_key.get(key).and_then(|known| known.peer_to_peer.as_ref());
        reported.is_some_and(|reported| reported.is_younger_than(life))
    }

    /// Stores that the channel is not in storage mode, or that these credentials may not read it.
    pub(crate) fn learn_peer_to_peer(&mut self, key: &Key) {
        self.entry(key).peer_to_peer = Some(Cached::new((), PEER_TO_PEER_FOR));
    }

    fn entry(&mut self, key: &Key) -> &mut CachedChannel {
        if self.by_key.len() >= self.most && !self.by_key.contains_key(key) {
            self.forget_oldest();
        }
        self.by_key.entry(key.clone()).or_default()
    }

    fn forget_oldest(&mut self) {
        let oldest = self.by_key.iter().min_by_key(|(_, known)| known.at());
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.by_key.remove(&oldest);
        }
    }
}

#[derive(Default)]
struct CachedChannel {
    endpoints: Option<Cached<Endpoints>>,
    turn: Option<Cached<Vec<IceServer>>>,
    peer_to_peer: Option<Cached<()>>,
    /// Whether the file of an earlier process was read already, or must not be read.
    recalled: bool,
}

impl CachedChannel {
    /// When the newest data was learned.
    fn at(&self) -> Option<Instant> {
        let endpoints = self.endpoints.as_ref().map(|reported| reported.at);
        let turn = self.turn.as_ref().map(|reported| reported.at);
        endpoints.max(turn).max(self.peer_to_peer.as_ref().map(|reported| reported.at))
    }
}

/// A value that is good for a limited time.
struct Cached<T> {
    what: T,
    at: Instant,
    /// The wall time when the value was learned: the other clock stops while the machine sleeps,
    /// and TURN passwords expire during that time.
    wall: SystemTime,
    life: Duration,
}

impl<T> Cached<T> {
    fn new(what: T, life: Duration) -> Self {
        Self { what, at: Instant::now(), wall: SystemTime::now(), life }
    }

    fn fresh(&self) -> Option<&T> {
        self.is_younger_than(self.life).then_some(&self.what)
    }

    fn is_younger_than(&self, life: Duration) -> bool {
        // A wall clock that was set back gives no age.
        let slept = self.wall.elapsed().unwrap_or_default();
        self.at.elapsed().max(slept) < life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::Secret;

    const ARN: &str = "arn:aws:kinesisvideo:us-west-2:1:channel/door/1";

    fn key(channel: &str, access_key_id: &str) -> Key {
        Key {
            place: "known-tests".into(),
            channel: channel.into(),
            role: Role::Viewer,
            access_key_id: access_key_id.into(),
        }
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            arn: ChannelArn::parse(ARN).expect("valid"),
            wss: "wss://v".into(),
            https: "https://r".into(),
            storage: Arc::default(),
        }
    }

    fn turn(ttl_secs: u64) -> TurnServers {
        let server = IceServer {
            uris: vec!["turn:a".into()],
            username: Some(Secret::new("user-canary")),
            password: Some(Secret::new("password-canary")),
        };
        TurnServers { servers: vec![server], ttl: Duration::from_secs(ttl_secs) }
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_are_good_for_ten_hours() {
        let (mut channels, door) = (ServiceCache::new(), key("door", "AK"));
        assert_eq!(channels.endpoints(&door), None);
        channels.learn_endpoints(&door, &endpoints());
        tokio::time::advance(Duration::from_secs(36_000 - 1)).await;
        assert_eq!(channels.endpoints(&door), Some(endpoints()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(channels.endpoints(&door), None);
    }

    /// Scenario 40: credentials are not used for as long as they live.
    // Shows: 40.
    #[tokio::test(start_paused = true)]
    async fn turn_credentials_expire_30_s_before_their_end() {
        let (mut channels, door) = (ServiceCache::new(), key("door", "AK"));
        channels.learn_turn_servers(&door, &turn(300));
        tokio::time::advance(Duration::from_secs(269)).await;
        assert_eq!(channels.turn_servers(&door), Some(turn(300).servers));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(channels.turn_servers(&door), None);
        for never in [0, 30] {
            channels.learn_turn_servers(&door, &turn(never));
            assert_eq!(channels.turn_servers(&door), None, "{never}");
        }
        channels.learn_turn_servers(&door, &turn(300));
        channels.learn_endpoints(&door, &endpoints());
        channels.forget_turn_servers(&door);
        assert_eq!(channels.turn_servers(&door), None);
        assert_eq!(channels.endpoints(&door), Some(endpoints()));
        channels.forget(&door);
        assert_eq!(channels.endpoints(&door), None);
    }

    #[test]
    fn cache_is_separate_for_each_credential() {
        let mut channels = ServiceCache::new();
        channels.learn_endpoints(&key("door", "AK"), &endpoints());
        assert_eq!(channels.endpoints(&key("door", "AK2")), None);
        let master = Key { role: Role::Master, ..key("door", "AK") };
        assert_eq!(channels.endpoints(&master), None);
        assert!(!format!("{:?}", key("door", "AK-canary")).contains("canary"));
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_channel_is_removed_from_full_cache() {
        let mut channels = ServiceCache::new();
        assert_eq!(channels.most, CHANNELS_MAX);
        channels.keep_at_least(100);
        channels.keep_at_least(64);
        for n in 0..=100 {
            channels.learn_endpoints(&key(&format!("door{n}"), "AK"), &endpoints());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(channels.by_key.len(), 100);
        assert_eq!(channels.endpoints(&key("door0", "AK")), None);
        assert!(channels.endpoints(&key("door1", "AK")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn recalled_endpoints_expire_by_the_time_they_were_learned() {
        let (mut channels, door) = (ServiceCache::new(), key("door", "AK"));
        assert!(channels.may_recall(&door));
        assert!(!channels.may_recall(&door), "the file is read once");
        let age = |secs| SystemTime::now() - Duration::from_secs(secs);
        channels.recall_endpoints(&door, &endpoints(), age(36_001));
        assert_eq!(channels.endpoints(&door), None);
        channels.recall_endpoints(&door, &endpoints(), age(35_000));
        assert_eq!(channels.endpoints(&door), Some(endpoints()));
        channels.forget(&door);
        assert_eq!(channels.endpoints(&door), None);
        assert!(!channels.may_recall(&door), "doubt was cast on it");
    }

    #[tokio::test(start_paused = true)]
    async fn storage_mode_result_expires_sooner_for_retries() {
        let (mut channels, door) = (ServiceCache::new(), key("door", "AK"));
        assert!(!channels.is_peer_to_peer(&door, false));
        channels.learn_peer_to_peer(&door);
        tokio::time::advance(Duration::from_secs(599)).await;
        assert!(channels.is_peer_to_peer(&door, true));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!channels.is_peer_to_peer(&door, true));
        assert!(channels.is_peer_to_peer(&door, false));
        tokio::time::advance(ENDPOINTS_FOR).await;
        assert!(!channels.is_peer_to_peer(&door, false));
    }
}
