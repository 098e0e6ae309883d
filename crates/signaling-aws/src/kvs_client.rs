//! [`KvsClient`]: what the sessions of one user of the service share.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::clock::{ServiceClocks, SigningClock};
use crate::lease::Leases;
use crate::quota::Quotas;
use crate::service_cache::ServiceCache;
use crate::state_dir::Disk;

/// What sessions share: endpoints and ICE servers that the service returned, the clocks of
/// services, the use of the service's quotas, and the client ids in use. Clones share it.
///
/// Sessions without a client of their own share that of the process ([`KvsClient::of_process`]),
/// which is right for a program that acts for one account: the quotas are the account's and the
/// channel's. A program that acts for several tenants gives each a client of its own
/// ([`SignalingConfigBuilder::client`](crate::SignalingConfigBuilder::client)), and so does a test
/// that counts calls.
///
/// Files in a shared directory, the roots of trust and the list of secrets that logs leave out
/// belong to the process and not to a client.
///
/// ```
/// use signaling_aws::{KvsClient, SignalingConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tenant = KvsClient::new();
/// let front = SignalingConfig::builder("front-door").client(tenant.clone()).build()?;
/// let garden = SignalingConfig::builder("garden").client(tenant).build()?;
/// # let _ = (front, garden);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KvsClient(Arc<Shared>);

struct Shared {
    cache: Mutex<ServiceCache>,
    clocks: Mutex<ServiceClocks>,
    /// The client ids in use, with the quotas and the disk.
    leases: Leases,
}

impl KvsClient {
    /// Creates a client that shares nothing with any other.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            cache: Mutex::new(ServiceCache::new()),
            clocks: Mutex::default(),
            leases: Leases::new(Arc::new(Quotas::new()), Disk::new()),
        }))
    }

    /// Returns the client of all sessions in this process that have no other.
    pub fn of_process() -> Self {
        static CLIENT: OnceLock<KvsClient> = OnceLock::new();
        CLIENT.get_or_init(Self::new).clone()
    }

    /// Reads or changes the cache of channels.
    pub(crate) fn cache<T>(&self, act: impl FnOnce(&mut ServiceCache) -> T) -> T {
        // No panic can leave a change half done, so a poisoned lock is usable.
        act(&mut self.0.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the clock of the service behind a control plane's endpoint; AWS's clock for `None`.
    pub(crate) fn clock(&self, control_endpoint: Option<&str>) -> SigningClock {
        let mut clocks = self.0.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.clock(control_endpoint.unwrap_or("aws"))
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        self.0.leases.quotas()
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.0.leases.disk()
    }
}

impl Default for KvsClient {
    /// Returns the client of the process: [`KvsClient::of_process`].
    fn default() -> Self {
        Self::of_process()
    }
}

impl fmt::Debug for KvsClient {
    /// Prints no content, since that includes TURN passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KvsClient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    use kvs_wire::ChannelArn;
    use negotiation_core::{ClientId, ClientIdPolicy};
    use tokio::time::Instant;

    use crate::config::{SignalingConfig, SignalingConfigBuilder};
    use crate::endpoint::Role;
    use crate::service_cache::{Endpoints, Key};

    fn key() -> Key {
        Key {
            place: "aws us-west-2".into(),
            channel: "door".into(),
            role: Role::Viewer,
            access_key_id: "AKID".into(),
        }
    }

    fn endpoints() -> Endpoints {
        let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1234567890123";
        Endpoints {
            arn: ChannelArn::parse(arn).expect("valid"),
            wss: "wss://door.example".into(),
            https: "https://door.example".into(),
            storage: Arc::default(),
        }
    }

    #[test]
    fn clones_share_the_cache_and_other_clients_do_not() {
        let (client, other) = (KvsClient::new(), KvsClient::new());
        client.cache(|cache| cache.learn_endpoints(&key(), &endpoints()));
        let cached = |client: &KvsClient| client.cache(|cache| cache.endpoints(&key()));
        assert_eq!(cached(&client.clone()), Some(endpoints()));
        assert_eq!(cached(&other), None);
    }

    #[test]
    fn clock_correction_is_per_client() {
        use aws_smithy_types::date_time::Format;
        let (client, other) = (KvsClient::new(), KvsClient::new());
        let ahead = aws_smithy_types::DateTime::from(SystemTime::now() + Duration::from_secs(3600));
        let clock = client.clock(None);
        assert!(clock.learn(ahead.fmt(Format::HttpDate).ok().as_deref(), clock.skew()));
        let is_ahead = |client: &KvsClient| {
            client.clock(None).now() > SystemTime::now() + Duration::from_secs(1800)
        };
        assert!(is_ahead(&client));
        assert!(!is_ahead(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn quotas_and_client_ids_of_two_clients_are_independent() {
        let (client, other) = (KvsClient::new(), KvsClient::new());
        let start = Instant::now();
        for _ in 0..3 {
            client.quotas().admit_connect("door").await;
        }
        other.quotas().admit_connect("door").await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        client.quotas().admit_connect("door").await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));

        let base = ClientId::new("cam").expect("valid");
        let lease = async |client: &KvsClient| {
            let policy = ClientIdPolicy::Pooled;
            client.leases().acquire("door", &base, policy, None).await.expect("free")
        };
        let (first, second) = (lease(&client).await, lease(&client).await);
        let of_other = lease(&other).await;
        let ids = [first.id(), second.id(), of_other.id()].map(ClientId::as_str);
        assert_eq!(ids, ["cam", "cam-2", "cam"]);
    }

    #[test]
    fn configuration_has_the_client_it_was_built_with() {
        let client = KvsClient::new();
        client.cache(|cache| cache.learn_endpoints(&key(), &endpoints()));
        let cached = |builder: SignalingConfigBuilder| {
            let config = builder.build().expect("valid");
            config.client.cache(|cache| cache.endpoints(&key()))
        };
        let builder = || SignalingConfig::builder("door").region("us-west-2");
        assert_eq!(cached(builder().client(client)), Some(endpoints()));
        assert_eq!(cached(builder().client(KvsClient::new())), None);
    }

    #[test]
    fn default_client_is_process_client() {
        KvsClient::default().cache(|cache| cache.learn_endpoints(&key(), &endpoints()));
        assert_eq!(
            KvsClient::of_process().cache(|cache| cache.endpoints(&key())),
            Some(endpoints())
        );
        KvsClient::of_process().cache(|cache| cache.forget(&key()));
    }
}
