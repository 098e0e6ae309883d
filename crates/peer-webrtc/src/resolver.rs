//! Names of STUN and TURN servers, resolved concurrently and never in the stack's loop.
//!
//! The stack resolves a server's name inside the loop that carries ICE, DTLS and media, one name
//! after the other, so that a resolver which does not answer stops a connection for minutes and
//! keeps it from closing. Here all names of a connection are looked up at once, each for at most
//! [`LOOKUP_MAX`], and the stack gets the addresses known when it requests them: [`Hosts::answer`]
//! never waits. `docs/decisions/0027-answers.md` describes how late answers are used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// The longest lookup of one name. A resolver on the same network answers within milliseconds, and
/// one that queries others within a second.
pub(crate) const LOOKUP_MAX: Duration = Duration::from_millis(1500);
/// The most names of one connection that are looked up. The service uses three or four.
pub(crate) const NAMES_MAX: usize = 16;
/// The most addresses kept for one name.
const ADDRESSES_MAX: usize = 8;
/// The most running system lookups in this process: an abandoned one runs until the resolver's own
/// limit, which can be half a minute.
const SYSTEM_MAX: usize = 32;

/// A running lookup.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks up names of STUN and TURN servers.
pub trait Resolve: Send + Sync {
    /// Returns the addresses of a name, each with this port. Dropping the future cancels the
    /// lookup.
    fn resolve(&self, host: &str, port: u16) -> Lookup;
}

/// The resolver for names of STUN and TURN servers.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Resolve>);

impl Resolver {
    /// Creates the operating system's resolver.
    #[must_use]
    pub fn system() -> Self {
        Self::new(System)
    }

    /// Creates a resolver from an implementation.
    #[must_use]
    pub fn new(resolve: impl Resolve + 'static) -> Self {
        Self(Arc::new(resolve))
    }

    /// Resolves a name within [`LOOKUP_MAX`]; an IP address is returned as it is.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = literal(host) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match timeout(LOOKUP_MAX, self.0.resolve(host, port)).await {
            Ok(Ok(mut addresses)) => {
                addresses.truncate(ADDRESSES_MAX);
                match addresses.is_empty() {
                    true => Err(io::Error::other("the name has no address")),
                    false => Ok(addresses),
                }
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Parses an IP address, with or without brackets.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The operating system's resolver, on separate threads: the runtime waits for its blocking tasks
/// when it ends, and must not wait for a resolver that does not answer. Concurrent lookups of one
/// name share one query.
struct System;

type Answer = Option<Result<Vec<SocketAddr>, String>>;

static SYSTEM: Semaphore = Semaphore::const_new(SYSTEM_MAX);
static UNDER_WAY: Mutex<BTreeMap<(String, u16), watch::Receiver<Answer>>> =
    Mutex::new(BTreeMap::new());

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> Lookup {
        let name = (host.to_owned(), port);
        Box::pin(async move {
            let mut answer = match known(&name) {
                Some(answer) => answer,
                None => {
                    let permit = SYSTEM.acquire().await.map_err(io::Error::other)?;
                    look_up(name, permit)?
                }
            };
            let answered = answer.wait_for(Option::is_some).await.map_err(io::Error::other)?;
            match &*answered {
                Some(Ok(addresses)) => Ok(addresses.clone()),
                Some(Err(error)) => Err(io::Error::other(error.clone())),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }
}

fn known(name: &(String, u16)) -> Option<watch::Receiver<Answer>> {
    under_way().get(name).cloned()
}

/// Starts a lookup, which keeps its permit until it is done.
fn look_up(
    name: (String, u16),
    permit: tokio::sync::SemaphorePermit<'static>,
) -> io::Result<watch::Receiver<Answer>> {
    let mut all = under_way();
    if let Some(answer) = all.get(&name) {
        return Ok(answer.clone());
    }
    let (tell, answer) = watch::channel(None);
    let requested = name.clone();
    let thread = std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let found = (requested.0.as_str(), requested.1).to_socket_addrs();
        under_way().remove(&requested);
        tell.send_replace(Some(found.map(Iterator::collect).map_err(|error| error.to_string())));
        drop(permit);
    });
    thread?;
    all.insert(name, answer.clone());
    Ok(answer)
}

fn under_way() -> MutexGuard<'static, BTreeMap<(String, u16), watch::Receiver<Answer>>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of one connection's servers, and their known addresses.
#[derive(Debug)]
pub(crate) struct Hosts {
    resolver: Resolver,
    known: Mutex<BTreeMap<(String, u16), Vec<SocketAddr>>>,
}

impl Hosts {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { resolver, known: Mutex::default() }
    }

    /// Returns the addresses of `host:port` without waiting; an unresolved name is an error.
    pub(crate) fn answer(&self, host_and_port: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = host_and_port
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or(io::ErrorKind::InvalidInput)?;
        if let Some(address) = literal(host) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if host == "localhost" {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|address| SocketAddr::new(address, port)).into());
        }
        self.known(host, port).ok_or_else(|| io::Error::other("the name is not resolved"))
    }

    /// Returns the addresses of a name, if they are known.
    pub(crate) fn known(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        self.lock().get(&(host.to_owned(), port)).cloned()
    }

    /// Looks up these names concurrently and removes all others. Returns how many are unresolved.
    pub(crate) async fn resolve(&self, names: BTreeSet<(String, u16)>) -> u32 {
        self.lock().retain(|name, _| names.contains(name));
        let left_out = names.len().saturating_sub(NAMES_MAX);
        let mut lookups: FuturesUnordered<_> = names
            .into_iter()
            .take(NAMES_MAX)
            .map(|(host, port)| async move {
                let found = self.resolver.resolve(&host, port).await;
                ((host, port), found)
            })
            .collect();
        let mut unresolved = left_out;
        while let Some((name, found)) = lookups.next().await {
            match found {
                Ok(addresses) => {
                    self.lock().insert(name, addresses);
                }
                // Earlier addresses of this name remain in use.
                Err(_) if self.lock().contains_key(&name) => {}
                Err(error) => {
                    unresolved += 1;
                    let (host, _) = name;
                    tracing::warn!(host, %error, "an ICE server's name is not resolved, so it is not used");
                }
            }
        }
        u32::try_from(unresolved).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u16), Vec<SocketAddr>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::Instant;

    /// Answers names that begin with `good`, and never answers others.
    #[derive(Default)]
    struct Swallows {
        requested: Arc<AtomicUsize>,
    }

    impl Resolve for Swallows {
        fn resolve(&self, host: &str, port: u16) -> Lookup {
            self.requested.fetch_add(1, Ordering::SeqCst);
            let is_good = host.starts_with("good");
            Box::pin(async move {
                match is_good {
                    true => Ok(vec![SocketAddr::from(([192, 0, 2, 1], port))]),
                    false => std::future::pending().await,
                }
            })
        }
    }

    fn names(all: &[&str]) -> BTreeSet<(String, u16)> {
        all.iter().map(|name| ((*name).to_owned(), 3478)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_resolved_concurrently_with_time_limit() {
        let hosts = Hosts::new(Resolver::new(Swallows::default()));
        let began = Instant::now();
        let unresolved = hosts.resolve(names(&["bad", "worse", "good", "192.0.2.7"])).await;
        assert_eq!((unresolved, began.elapsed()), (2, LOOKUP_MAX));
        assert_eq!(hosts.answer("good:3478").expect("known").len(), 1);
        assert!(hosts.answer("bad:3478").is_err());
        assert!(hosts.answer("other:3478").is_err() && hosts.answer("good").is_err());
        // Resolving the names of new servers removes the old ones.
        assert_eq!(hosts.resolve(names(&["good2"])).await, 0);
        assert!(hosts.answer("good:3478").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn resolved_names_are_limited() {
        let swallows = Swallows::default();
        let requested = Arc::clone(&swallows.requested);
        let hosts = Hosts::new(Resolver::new(swallows));
        let many: BTreeSet<_> = (0..256).map(|n| (format!("name{n}"), 3478)).collect();
        let began = Instant::now();
        assert_eq!(hosts.resolve(many).await, 256);
        assert_eq!((requested.load(Ordering::SeqCst), began.elapsed()), (NAMES_MAX, LOOKUP_MAX));
    }

    #[test]
    fn ip_addresses_resolve_without_lookup() {
        let hosts = Hosts::new(Resolver::system());
        for (requested, expected) in [
            ("127.0.0.1:3478", "127.0.0.1:3478"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::1:443", "[2001:db8::1]:443"),
        ] {
            let expected: SocketAddr = expected.parse().expect("an address");
            assert_eq!(hosts.answer(requested).expect("an address"), [expected]);
        }
    }

    #[tokio::test]
    async fn system_resolves_this_machine() {
        let found = Resolver::system().resolve("localhost", 9).await.expect("it is known");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 9));
    }
}
