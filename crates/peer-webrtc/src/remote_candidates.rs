//! Limits which of the other side's candidates reach the stack, how many, and when.
//!
//! The stack checks every candidate pair at each of its ticks, and with each check searches all
//! checks of the last 4 s (rtc-ice, `ping_all_candidates`): its traffic grows with the number of
//! candidates, and its time with their square. Thousands would make this machine flood addresses
//! that the master chose (RFC 8445, 19.5.1), and hide the one pair that works. So a few are added
//! at once and others one by one, up to [`TRIED_MAX`] in all and [`PORTS_MAX`] of one IP address;
//! those still waiting when there is a connection are dropped. [`crate::pacing`] limits how often
//! the pairs are checked. Candidates that are not used do not count toward the limits: repetitions
//! (aiortc repeats each candidate in every section), TCP, and addresses that [`RemoteAddresses`]
//! refuses.
//!
//! A candidate is judged only by the result of the stack's own parser: with two parsers, one
//! reading would be validated and the other one used.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use rtc::ice::candidate::{Candidate, CandidateType, unmarshal_candidate};
use rtc::ice::tcp_type::TcpType;
use rtc::shared::ifaces::ifaces;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use webrtc::error::{Error, Result};
use webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit};

use crate::remote::RemoteAddresses;
use crate::resolver::Resolver;
use crate::sdp;
use crate::socket::Wake;
use crate::stack::config::Mdns;

/// The number of candidates that are added at once.
const AT_ONCE: usize = 16;
/// The most candidates of one generation. A camera has about ten: an address for each interface,
/// its server-reflexive one, and two or three relays.
const TRIED_MAX: usize = 40;
/// The most candidates of one IP address. A master behind one address has a port for each
/// interface and for each transport to a relay.
const PORTS_MAX: usize = 6;
/// The interval between candidates that are added one by one.
const TURN: Duration = Duration::from_millis(300);
/// The longest candidate line. One is usually well under 300 bytes.
const BYTES_MAX: usize = 1024;

/// The remote candidates of one ICE generation.
#[derive(Debug)]
pub(crate) struct RemoteCandidateLimiter {
    policy: RemoteAddresses,
    /// This machine's addresses, as of the last remote description.
    own: BTreeSet<IpAddr>,
    names: bool,
    local: Option<String>,
    remote: Option<String>,
    /// All admitted candidates, including waiting ones, with their addresses.
    known: Vec<(String, Option<IpAddr>)>,
    waiting: VecDeque<Waiting>,
    /// Whether a task adds the waiting candidates.
    is_draining: bool,
    refusal_told: bool,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    is_host: bool,
}

/// The decision about a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// It is added now.
    Now,
    /// It waits for its turn; `start` requests a task that adds the waiting ones.
    Later { start: bool },
    /// The candidate is known, or has a name that is not resolved.
    Unused,
    /// Its address is not permitted.
    Refused,
    /// There are too many candidates.
    TooMany,
}

impl RemoteCandidateLimiter {
    pub(crate) fn new(mdns: Mdns) -> Self {
        Self {
            policy: RemoteAddresses::Any,
            own: BTreeSet::new(),
            names: mdns == Mdns::Resolve,
            local: None,
            remote: None,
            known: Vec::new(),
            waiting: VecDeque::new(),
            is_draining: false,
            refusal_told: false,
        }
    }

    /// Drops the waiting candidates, because there is a connection.
    pub(crate) fn connected(&mut self) {
        self.waiting.clear();
    }

    /// Takes a local offer that was set. New credentials begin a new generation, for which the
    /// stack has dropped the earlier candidates.
    fn offered(&mut self, offer: &str) {
        let ufrag = sdp::first_value(offer, "ice-ufrag");
        if self.local.as_deref() != ufrag {
            self.local = ufrag.map(str::to_owned);
            self.begin();
        }
    }

    /// Takes a remote description that was set. New credentials begin a new generation.
    fn described(&mut self, description: &str) {
        let ufrag = sdp::first_value(description, "ice-ufrag");
        if self.remote.as_deref() != ufrag {
            self.remote = ufrag.map(str::to_owned);
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.known.clear();
        self.waiting.clear();
    }

    fn admit(&mut self, text: &str, candidate: &Candidate) -> Admission {
        // The stack reads IP addresses, and names that end in `.local`.
        let address = candidate.address().parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        match address {
            Some(address) if self.is_refused(address) => return Admission::Refused,
            None if !self.names => return Admission::Unused,
            Some(_) | None => {}
        }
        if self.known.iter().any(|(known, _)| known == text) {
            return Admission::Unused;
        }
        let ports = self.known.iter().filter(|(_, known)| *known == address).count();
        if self.known.len() >= TRIED_MAX || (address.is_some() && ports >= PORTS_MAX) {
            return Admission::TooMany;
        }
        let given = self.known.len() - self.waiting.len();
        self.known.push((text.to_owned(), address));
        if given < AT_ONCE {
            return Admission::Now;
        }
        // Other candidates go before host ones: a machine has a host address for each of its
        // bridges, and few are reachable from elsewhere.
        let is_host = candidate.candidate_type() == CandidateType::Host;
        let place = match is_host {
            true => self.waiting.len(),
            false => self.waiting.partition_point(|waiting| !waiting.is_host),
        };
        self.waiting.insert(place, Waiting { text: text.to_owned(), is_host });
        Admission::Later { start: !std::mem::replace(&mut self.is_draining, true) }
    }

    /// Returns the next waiting candidate. Without one, the task that adds them ends.
    fn next(&mut self) -> Option<String> {
        let next = self.waiting.pop_front();
        self.is_draining = next.is_some();
        next.map(|waiting| waiting.text)
    }

    /// Removes a candidate that the stack refused.
    fn forget(&mut self, candidate: &str) {
        self.known.retain(|(known, _)| known != candidate);
    }

    fn is_refused(&mut self, address: IpAddr) -> bool {
        let is_own = self.policy != RemoteAddresses::Any && self.own.contains(&address);
        if self.policy.admits(address) && !is_own {
            return false;
        }
        // Report this once, so that the other side cannot make the log grow.
        if !std::mem::replace(&mut self.refusal_told, true) {
            tracing::warn!(policy = ?self.policy, "a candidate's address is refused");
        }
        true
    }
}

/// The reason why a candidate is not used.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// [`RemoteAddresses`] does not admit its address.
    Address,
    /// It cannot be parsed, there are too many, or the stack refuses it.
    Stack(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Stack(error)
    }
}

/// Parses a candidate with the stack's parser. Returns `None` for the end of candidates and for
/// TCP candidates.
fn read(candidate: &str) -> Result<Option<(&str, Candidate)>> {
    let text = candidate.trim();
    let text = text.strip_prefix("a=").unwrap_or(text);
    let value = text.strip_prefix("candidate:").unwrap_or(text);
    if value.is_empty() || value == "end-of-candidates" {
        return Ok(None);
    }
    if text.len() > BYTES_MAX {
        return Err(Error::Other("it is too long".to_owned()));
    }
    let read = unmarshal_candidate(value)?;
    // The network type of a name is known only once it is resolved.
    let is_tcp = read.network_type().is_tcp() || read.tcp_type() != TcpType::Unspecified;
    Ok((!is_tcp).then_some((text, read)))
}

/// Adds the other side's candidates to a connection.
pub(crate) struct RemoteCandidateSender {
    connection: Arc<dyn PeerConnection>,
    wake: Wake,
    limiter: Arc<Mutex<RemoteCandidateLimiter>>,
    drain: AsyncMutex<JoinSet<()>>,
    /// Becomes true when the lookup of the service's address is done.
    located: AsyncMutex<watch::Receiver<bool>>,
}

impl RemoteCandidateSender {
    pub(crate) fn new(
        connection: Arc<dyn PeerConnection>,
        wake: Wake,
        limiter: Arc<Mutex<RemoteCandidateLimiter>>,
    ) -> Self {
        let located = AsyncMutex::new(watch::channel(true).1);
        Self { connection, wake, limiter, drain: AsyncMutex::default(), located }
    }

    /// Looks up the service's address: if it is on this machine, every address is permitted.
    pub(crate) async fn admit_as_service(&self, (host, port): (String, u16), resolver: Resolver) {
        let (done, located) = watch::channel(false);
        *self.located.lock().await = located;
        let limiter = Arc::clone(&self.limiter);
        self.drain.lock().await.spawn(async move {
            let found = resolver.resolve(&host, port).await.unwrap_or_default();
            if !found.is_empty() && found.iter().all(|address| address.ip().is_loopback()) {
                tracing::info!("the service is on this machine: its addresses are tried");
                lock(&limiter).policy = RemoteAddresses::Any;
            }
            done.send_replace(true);
        });
    }

    pub(crate) fn restrict(&self, policy: RemoteAddresses) {
        lock(&self.limiter).policy = policy;
    }

    /// Takes a local offer that was set.
    pub(crate) fn offered(&self, offer: &str) {
        lock(&self.limiter).offered(offer);
    }

    /// Takes a remote description that was set, and adds its candidates. An unreadable one does
    /// not affect the others.
    pub(crate) async fn described(&self, description: &str, candidates: &[String]) {
        {
            let mut limiter = lock(&self.limiter);
            limiter.own = own_addresses();
            limiter.described(description);
        }
        let mut problems = 0;
        let mut first = None;
        for candidate in candidates {
            match self.add(candidate).await {
                Ok(()) | Err(Refusal::Address) => {}
                Err(Refusal::Stack(error)) => {
                    problems += 1;
                    first.get_or_insert_with(|| sdp::complaint(&error));
                }
            }
        }
        if let Some(first) = first {
            tracing::warn!(problems, first, "candidates of a description are not tried");
        }
    }

    /// Adds a candidate of the other side.
    ///
    /// # Errors
    /// Its address is not permitted, it cannot be parsed, there are too many, or no remote
    /// description is set.
    pub(crate) async fn add(&self, candidate: &str) -> std::result::Result<(), Refusal> {
        let Some((candidate, read)) = read(candidate)? else { return Ok(()) };
        // Closing ends the lookup, and with it this wait.
        let _ = self.located.lock().await.wait_for(|located| *located).await;
        let admission = lock(&self.limiter).admit(candidate, &read);
        match admission {
            Admission::Now => {
                let given = give(&self.connection, &self.wake, candidate).await;
                if given.is_err() {
                    lock(&self.limiter).forget(candidate);
                }
                Ok(given?)
            }
            Admission::Later { start: true } => {
                let mut drain = self.drain.lock().await;
                while drain.try_join_next().is_some() {}
                let (connection, limiter) =
                    (Arc::clone(&self.connection), Arc::clone(&self.limiter));
                drain.spawn(take_turns(connection, self.wake.clone(), limiter));
                Ok(())
            }
            Admission::Later { start: false } | Admission::Unused => Ok(()),
            Admission::Refused => Err(Refusal::Address),
            Admission::TooMany => {
                Err(Refusal::Stack(Error::Other("there are candidates enough".to_owned())))
            }
        }
    }

    /// Stops the tasks that add waiting candidates.
    pub(crate) async fn close(&self) {
        self.drain.lock().await.shutdown().await;
    }
}

async fn take_turns(
    connection: Arc<dyn PeerConnection>,
    wake: Wake,
    limiter: Arc<Mutex<RemoteCandidateLimiter>>,
) {
    let mut turns = interval_at(Instant::now() + TURN, TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(candidate) = lock(&limiter).next() else { return };
        // The session already counts this candidate as accepted, so an error or a panic of the
        // stack must not affect the others.
        let given = AssertUnwindSafe(give(&connection, &wake, &candidate)).catch_unwind().await;
        if !matches!(given, Ok(Ok(()))) {
            lock(&limiter).forget(&candidate);
            tracing::debug!("a candidate that waited is not taken");
        }
    }
}

/// Returns this machine's addresses except loopback: the services on them are this machine's own.
fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = ifaces().unwrap_or_default();
    let addresses = interfaces.iter().filter_map(|interface| interface.addr.as_ref());
    addresses.map(|address| address.ip().to_canonical()).filter(|ip| !ip.is_loopback()).collect()
}

async fn give(connection: &Arc<dyn PeerConnection>, wake: &Wake, candidate: &str) -> Result<()> {
    let candidate = candidate.to_owned();
    let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
    connection.add_ice_candidate(init).await?;
    // Without this, the first check waits for the task's next timer
    // (docs/upstream/webrtc-add-ice-candidate-does-not-wake.md).
    wake.wake();
    Ok(())
}

pub(crate) fn lock(
    limiter: &Mutex<RemoteCandidateLimiter>,
) -> MutexGuard<'_, RemoteCandidateLimiter> {
    limiter.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> String {
        format!("candidate:{n} 1 udp 9 10.0.{}.{} 4242 typ host", n / 250, n % 250)
    }

    fn limiter() -> RemoteCandidateLimiter {
        RemoteCandidateLimiter::new(Mdns::Ignore)
    }

    fn admit(limiter: &mut RemoteCandidateLimiter, candidate: &str) -> Admission {
        let (text, read) = read(candidate).expect("readable").expect("one to be tried");
        limiter.admit(text, &read)
    }

    fn admitted(limiter: &mut RemoteCandidateLimiter, count: usize) -> usize {
        let is_taken = |admission| matches!(admission, Admission::Now | Admission::Later { .. });
        (0..count).filter(|n| is_taken(admit(limiter, &host(*n)))).count()
    }

    #[test]
    fn first_candidates_pass_at_once_and_others_in_turn() {
        let mut limiter = limiter();
        for n in 0..TRIED_MAX - 2 {
            let later = Admission::Later { start: n == AT_ONCE };
            let expected = if n < AT_ONCE { Admission::Now } else { later };
            assert_eq!(admit(&mut limiter, &host(n)), expected, "{n}");
        }
        // Candidates reachable from elsewhere do not wait behind the host addresses of the
        // machine's bridges.
        let others = ["srflx", "relay"].map(|kind| host(0).replace("host", kind));
        for other in &others {
            assert_eq!(admit(&mut limiter, other), Admission::Later { start: false });
        }
        let later: Vec<String> = std::iter::from_fn(|| limiter.next()).collect();
        let hosts = (AT_ONCE..TRIED_MAX - 2).map(host);
        assert_eq!(later, others.into_iter().chain(hosts).collect::<Vec<_>>());
        assert!(!limiter.is_draining, "who took them is gone");
    }

    #[test]
    fn candidates_of_one_generation_are_limited() {
        let mut limiter = limiter();
        limiter.offered("a=ice-ufrag:ours\r\n");
        limiter.described("a=ice-ufrag:one\r\n");
        assert_eq!(admitted(&mut limiter, 10_000), TRIED_MAX);
        assert_eq!(admit(&mut limiter, &host(TRIED_MAX)), Admission::TooMany);
        // Setting the same descriptions again begins no new generation.
        limiter.offered("a=ice-ufrag:ours\r\n");
        limiter.described("a=ice-ufrag:one\r\n");
        assert_eq!(admitted(&mut limiter, 10_000), 0);
        limiter.described("a=ice-ufrag:two\r\n");
        assert_eq!(admitted(&mut limiter, 10_000), TRIED_MAX);
        limiter.offered("a=ice-ufrag:ours, restarted\r\n");
        assert_eq!(admitted(&mut limiter, 10_000), TRIED_MAX);
        limiter.connected();
        assert_eq!(limiter.next(), None);
    }

    #[test]
    fn unused_candidates_do_not_count_toward_the_limit() {
        let mut limiter = limiter();
        limiter.policy = RemoteAddresses::Network;
        for n in 0..100 {
            let own = format!("candidate:{n} 1 udp 9 127.0.0.1 {n} typ host");
            assert_eq!(admit(&mut limiter, &own), Admission::Refused);
            let name = format!("candidate:{n} 1 udp 9 a3c4.local {n} typ host");
            assert_eq!(admit(&mut limiter, &name), Admission::Unused, "it is not looked up");
            let again = if n == 0 { Admission::Now } else { Admission::Unused };
            assert_eq!(admit(&mut limiter, &host(0)), again);
        }
        // A candidate that the stack refused can be added later, when the stack is ready for it.
        limiter.forget(&host(0));
        assert_eq!(admit(&mut limiter, &host(0)), Admission::Now);
        assert_eq!(limiter.known.len(), 1);
        let mut limiter = RemoteCandidateLimiter::new(Mdns::Resolve);
        assert_eq!(
            admit(&mut limiter, "candidate:1 1 udp 9 a3c4.local 9 typ host"),
            Admission::Now
        );
    }

    #[test]
    fn candidates_of_one_address_are_limited() {
        let mut limiter = limiter();
        let port = |n: usize| format!("candidate:{n} 1 udp 9 10.0.0.1 {n} typ host");
        let mapped = |n: usize| format!("candidate:{n} 1 udp 9 ::ffff:10.0.0.1 {n} typ host");
        for n in 1..100 {
            let expected = if n <= PORTS_MAX { Admission::Now } else { Admission::TooMany };
            assert_eq!(admit(&mut limiter, &port(n)), expected, "{n}");
        }
        assert_eq!(admit(&mut limiter, &mapped(100)), Admission::TooMany);
        assert_eq!(admit(&mut limiter, &host(7)), Admission::Now, "another address");
    }

    #[test]
    fn own_addresses_are_admitted_only_with_local_service() {
        let own = "candidate:1 1 udp 9 10.0.0.7 4242 typ host";
        for (policy, expected) in
            [(RemoteAddresses::Any, Admission::Now), (RemoteAddresses::Network, Admission::Refused)]
        {
            let mut limiter = RemoteCandidateLimiter { policy, ..limiter() };
            limiter.own = BTreeSet::from([IpAddr::from([10, 0, 0, 7])]);
            assert_eq!(admit(&mut limiter, own), expected, "{policy:?}");
            assert_eq!(admit(&mut limiter, &host(3)), Admission::Now);
        }
        assert!(own_addresses().iter().all(|address| !address.is_loopback()));
    }

    #[test]
    fn candidates_are_read_in_every_form() {
        for none in [
            "",
            " ",
            "candidate:",
            "a=end-of-candidates",
            "candidate:1 1 TCP 1 10.0.0.1 9 typ host tcptype passive",
        ] {
            assert!(matches!(read(none), Ok(None)), "{none:?}");
        }
        for bad in ["nonsense", "candidate:1 1 udp x 10.0.0.1 9 typ host", &host(1).repeat(100)] {
            assert!(read(bad).is_err(), "{bad:.40}");
        }
        let line = format!("a={}\r\n", host(7));
        assert!(matches!(read(&line), Ok(Some((text, _))) if text == host(7)));
    }

    /// The stack splits words at any Unicode white space, and does not require the word "typ".
    #[test]
    fn no_candidate_spelling_evades_address_policy() {
        for line in [
            "candidate:1\u{b}1\u{b}udp 9 127.0.0.1 4242 10.0.0.1 host",
            "candidate:1\u{a0}1\u{a0}udp 9 127.0.0.1 4242 10.0.0.1 host",
            "candidate:1\u{2003}1 udp\u{85}9 127.0.0.1 4242 typ host",
            "candidate: 1 1 udp 9 127.0.0.1 4242 typ host",
            "1 1 udp 9 ::ffff:127.0.0.1 4242 10.0.0.1 srflx raddr 10.0.0.1 rport 9",
        ] {
            for mdns in [Mdns::Ignore, Mdns::Resolve] {
                let mut limiter = RemoteCandidateLimiter {
                    policy: RemoteAddresses::Network,
                    ..RemoteCandidateLimiter::new(mdns)
                };
                assert_eq!(admit(&mut limiter, line), Admission::Refused, "{line:?} {mdns:?}");
            }
        }
        for tcp in [
            "candidate:1\u{b}1\u{b}tcp 9 10.0.0.1 4242 udp host tcptype passive",
            "candidate: 1 1 TCP 9 10.0.0.1 4242 typ host tcptype passive",
            "candidate:1 1 tcpx 9 10.0.0.1 4242 typ srflx",
            "candidate:1 1 tcp 9 a3c4.local 4242 typ host tcptype passive",
        ] {
            assert!(matches!(read(tcp), Ok(None)), "{tcp:?}");
        }
    }
}
