//! TURN over TCP and TLS, which the stack does not support: for networks that block UDP.
//!
//! A bridge on this machine takes the stack's TURN datagrams on loopback and carries the same
//! messages over one stream for each allocation (RFC 8656, 3.1). The stack is configured with a
//! TURN server on loopback; login and relaying are between the stack and the real server, so no
//! secret passes here in the clear that would not pass through a UDP socket.
//!
//! What belongs here: which bridges a connection has, and when they may be used. The framing is in
//! [`framing`], the sockets in [`bridge`], TCP and TLS in [`connect`].

mod bridge;
mod connect;
mod framing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use negotiation_core::IceServer;
use rtc::ice::url::{ProtoType, SchemeType, Url};
use tokio::sync::Mutex;

pub use connect::{Authorities, Detour, InvalidAuthorities};

use bridge::Bridge;
use connect::Server;

use crate::resolver::Resolver;

/// The most servers over streams that one connection uses. KVS provides two.
const BRIDGES_MAX: usize = 8;

/// The bridges of one connection.
pub(crate) struct TurnStreams {
    authorities: Authorities,
    detour: Option<Detour>,
    resolver: Resolver,
    /// Whether the stack has IPv6 sockets only.
    ipv6: bool,
    gate: Arc<Gate>,
    bridges: Mutex<BTreeMap<String, Bridge>>,
}

/// Decides whether streams may be used. They are the last resort, because one lost packet delays
/// all that follow: they are used only if no relay was reached over UDP, which gets a head start.
#[derive(Default)]
pub(crate) struct Gate {
    udp_offered: AtomicBool,
    udp_works: AtomicBool,
}

impl Gate {
    /// Records that a relay was reached, by the server's URI; relays over bridges do not count.
    pub(crate) fn relay_found(&self, uri: &str) {
        if !is_bridge(uri) {
            self.udp_works.store(true, Ordering::Release);
        }
    }

    /// Resets the result for a new gathering, which may be on another network.
    pub(crate) fn gathering(&self) {
        self.udp_works.store(false, Ordering::Release);
    }

    fn udp_is_tried_first(&self) -> bool {
        self.udp_offered.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.udp_works.load(Ordering::Acquire)
    }
}

impl TurnStreams {
    /// Creates the set of bridges. `bind` lists the addresses of the stack's sockets.
    pub(crate) fn new(authorities: Authorities, detour: Option<Detour>, bind: &[String]) -> Self {
        let ipv6 = !bind.is_empty() && bind.iter().all(|address| address.starts_with('['));
        Self {
            authorities,
            detour,
            resolver: Resolver::system(),
            ipv6,
            gate: Arc::default(),
            bridges: Mutex::default(),
        }
    }

    /// Uses this resolver for names.
    pub(crate) fn resolving(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Sets whether the servers about to be used include TURN over UDP.
    pub(crate) fn expect_udp(&self, offered: bool) {
        self.gate.udp_offered.store(offered, Ordering::Release);
    }

    /// Closes the idle bridges to all servers but these: the service returns other servers with
    /// each response.
    pub(crate) async fn keep(&self, servers: &[IceServer]) {
        let is_named = |uri: &String| servers.iter().any(|server| server.uris.contains(uri));
        let mut bridges = self.bridges.lock().await;
        for (_, bridge) in bridges.extract_if(.., |uri, bridge| bridge.is_idle() && !is_named(uri))
        {
            bridge.close().await;
        }
    }

    /// Returns the URI by which the stack reaches this server; `None` if it cannot be bridged.
    pub(crate) async fn bridge(&self, uri: &str) -> Option<String> {
        let server = self.server(uri)?;
        let mut bridges = self.bridges.lock().await;
        if !bridges.contains_key(uri) {
            if bridges.len() >= BRIDGES_MAX {
                tracing::debug!("too many TURN servers over streams");
                return None;
            }
            match Bridge::open(server, self.ipv6, self.gate()).await {
                Ok(bridge) => bridges.insert(uri.to_owned(), bridge),
                Err(error) => {
                    tracing::debug!(%error, "no socket on loopback for a TURN server");
                    return None;
                }
            };
        }
        bridges.get(uri).map(Bridge::uri)
    }

    fn server(&self, uri: &str) -> Option<Server> {
        let Url { scheme, host, port, .. } = parse(uri)?;
        let tls = (scheme == SchemeType::Turns).then(|| self.authorities.clone());
        let (detour, resolver) = (self.detour.clone(), self.resolver.clone());
        Some(Server { host, port, tls, detour, resolver })
    }

    /// Closes every stream; tasks and sockets are gone on return.
    pub(crate) async fn close(&self) {
        let bridges = std::mem::take(&mut *self.bridges.lock().await);
        for bridge in bridges.into_values() {
            bridge.close().await;
        }
    }
}

/// Returns whether the URI is of TURN over a stream: `turn:` with `transport=tcp`, or `turns:`
/// except over DTLS (RFC 7065).
pub(crate) fn is_turn_stream(uri: &str) -> bool {
    parse(uri).is_some()
}

fn parse(uri: &str) -> Option<Url> {
    let url = Url::parse_url(uri).ok()?;
    let is_turn = matches!(url.scheme, SchemeType::Turn | SchemeType::Turns);
    (is_turn && url.proto == ProtoType::Tcp).then_some(url)
}

/// Returns whether a candidate came through one of our bridges: a service has no TURN server on
/// loopback, and a local one needs no head start.
fn is_bridge(uri: &str) -> bool {
    uri.contains("127.0.0.1") || uri.contains("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_turn_is_distinguished_from_udp() {
        for stream in [
            "turn:turn.example.org:443?transport=tcp",
            "turns:turn.example.org:443?transport=tcp",
            "turns:turn.example.org",
            "turns:[2001:db8::1]:443?transport=tcp",
        ] {
            assert!(is_turn_stream(stream), "{stream}");
        }
        for other in [
            "turn:turn.example.org:443?transport=udp",
            "turn:turn.example.org",
            "turns:turn.example.org:443?transport=udp",
            "stun:stun.example.org:443",
            "https://example.org",
            "turns:",
            "",
        ] {
            assert!(!is_turn_stream(other), "{other}");
        }
    }

    #[test]
    fn gate_closes_after_udp_relay_until_next_gathering() {
        let gate = Gate::default();
        gate.relay_found("turn:127.0.0.1:4000?transport=udp");
        assert!(!gate.is_closed());
        gate.relay_found("turn:turn.example.org:443?transport=udp");
        assert!(gate.is_closed());
        gate.gathering();
        assert!(!gate.is_closed());
    }

    #[tokio::test]
    async fn each_server_has_one_bridge_and_bridges_are_limited() {
        let streams = TurnStreams::new(Authorities::system(), None, &["0.0.0.0:0".to_owned()]);
        let uri = |n: usize| format!("turns:turn{n}.example.org:443?transport=tcp");
        let first = streams.bridge(&uri(0)).await.expect("bridged");
        assert_eq!(streams.bridge(&uri(0)).await.as_ref(), Some(&first));
        assert!(first.starts_with("turn:127.0.0.1:"), "{first}");
        for n in 1..BRIDGES_MAX {
            assert!(streams.bridge(&uri(n)).await.is_some());
        }
        assert_eq!(streams.bridge(&uri(BRIDGES_MAX)).await, None);
        streams.close().await;
        assert!(streams.bridges.lock().await.is_empty());
    }

    /// Returns a socket that has requested an allocation from this bridge.
    async fn ask(bridge: &str) -> tokio::net::UdpSocket {
        let stack = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let to = bridge.trim_start_matches("turn:").trim_end_matches("?transport=udp");
        stack.send_to(&bridge::ALLOCATE, to).await.expect("sent");
        stack
    }

    #[tokio::test]
    async fn idle_bridges_of_replaced_servers_are_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("bound").port();
        let streams = TurnStreams::new(Authorities::system(), None, &["0.0.0.0:0".to_owned()]);
        let busy = format!("turn:127.0.0.1:{port}?transport=tcp");
        let carrying = streams.bridge(&busy).await.expect("bridged");
        let _stack = ask(&carrying).await;
        let _stream = listener.accept().await.expect("reached");
        for n in 0..20 {
            let uri = format!("turns:turn{n}.example.org:443?transport=tcp");
            let server = IceServer { uris: vec![uri.clone()], username: None, password: None };
            let bridge = streams.bridge(&uri).await;
            assert!(bridge.is_some(), "{n}");
            streams.keep(&[server]).await;
            assert_eq!(streams.bridge(&uri).await, bridge, "one that is named stays");
            assert!(streams.bridges.lock().await.keys().eq([&busy, &uri]), "{n}");
        }
        streams.close().await;
    }

    /// An ICE restart within UDP's head start may have other servers.
    #[tokio::test]
    async fn bridge_waiting_for_udp_head_start_is_not_idle() {
        let streams = TurnStreams::new(Authorities::system(), None, &["0.0.0.0:0".to_owned()]);
        streams.expect_udp(true);
        let bridge = streams.bridge("turn:127.0.0.1:9?transport=tcp").await.expect("bridged");
        let _stack = ask(&bridge).await;
        let waits_for = async |idle| {
            let is_idle = async || streams.bridges.lock().await.values().all(Bridge::is_idle);
            let change = async {
                while is_idle().await != idle {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            };
            let limit = std::time::Duration::from_secs(10);
            tokio::time::timeout(limit, change).await.expect("in time");
        };
        waits_for(false).await;
        streams.keep(&[]).await;
        assert_eq!(streams.bridges.lock().await.len(), 1);
        // Nothing listens at that port.
        waits_for(true).await;
        streams.keep(&[]).await;
        assert!(streams.bridges.lock().await.is_empty());
    }
}
