//! The emulator's own STUN and TURN server, over UDP, which GetIceServerConfig returns when no
//! other relay is configured. The crate `turn-server-proto` implements the protocol; this module
//! has its sockets, its users and AWS's quotas.

mod retransmitted;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::subscriber::NoSubscriber;
use turn_server_proto::api::{SocketAllocateError, Transmit, TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::types::{AddressFamily, Instant as ProtoInstant, TransportType};

use crate::shared::Shared;
use crate::turn_auth::{Admission, Authenticator};
use retransmitted::Responses;

const REALM: &str = "kvs-emulator";
/// Bytes of the receive buffer: larger than any datagram.
const DATAGRAM_MAX: usize = 65_536;
/// Most datagrams of peers that wait to be relayed.
const WAITING_MAX: usize = 1024;
/// Most allocations at a time, over all channels, independent of quotas.
const RELAYS_MAX: usize = 1024;

/// A TURN server that is bound and not yet running.
pub(crate) struct Turn {
    socket: Arc<UdpSocket>,
    addr: SocketAddr,
}

/// An allocation's socket.
struct Relay {
    socket: Arc<UdpSocket>,
    arn: String,
    budget: Budget,
    reader: CancellationToken,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.reader.cancel();
    }
}

/// A datagram that a peer sent to a relayed address.
struct Arrived {
    relay: SocketAddr,
    from: SocketAddr,
    data: Vec<u8>,
}

impl Turn {
    pub(crate) async fn bind(ip: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0)).await?;
        let addr = socket.local_addr()?;
        Ok(Self { socket: Arc::new(socket), addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the emulator stops.
    pub(crate) async fn run(self, shared: Arc<Shared>) {
        let (arrivals, mut arrived) = mpsc::channel(WAITING_MAX);
        let mut house = House {
            shared,
            socket: self.socket.clone(),
            addr: self.addr,
            server: quietly(|| TurnServer::new(TransportType::Udp, self.addr, REALM.to_owned())),
            authenticator: Authenticator::default(),
            relays: BTreeMap::new(),
            responses: Responses::default(),
            arrivals,
            began: Instant::now(),
        };
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let wait = house.drive().await;
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => {
                        let data = buffer.get(..length).unwrap_or_default();
                        house.on_client(from, data).await;
                    }
                    // This is an ICMP error for an earlier datagram.
                    Err(error) => tracing::debug!(%error, "TURN: not received"),
                },
                Some(arrived) = arrived.recv() => house.on_peer(arrived).await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

struct House {
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    addr: SocketAddr,
    server: TurnServer,
    authenticator: Authenticator,
    relays: BTreeMap<SocketAddr, Relay>,
    responses: Responses,
    arrivals: mpsc::Sender<Arrived>,
    began: Instant,
}

impl House {
    fn now(&self) -> ProtoInstant {
        let nanos = self.began.elapsed().as_nanos();
        ProtoInstant::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    async fn on_client(&mut self, from: SocketAddr, data: &[u8]) {
        if let Some(response) = self.responses.find(from, data, Instant::now()) {
            tracing::debug!(client = %from, "TURN: an Allocate request came again");
            if let Err(error) = self.socket.send_to(response, from).await {
                tracing::debug!(%error, "TURN: not sent");
            }
            return;
        }
        let wall = self.shared.clock.now();
        let data = match self.authenticator.admit(&self.shared.turn_users, from, data, wall) {
            Admission::AsItIs => data.to_vec(),
            Admission::User { name, password } => {
                quietly(|| self.server.add_user(name, password));
                data.to_vec()
            }
            Admission::Instead(request) => request,
        };
        self.handle(Transmit::new(data, TransportType::Udp, from, self.addr)).await;
    }

    async fn on_peer(&mut self, arrived: Arrived) {
        let Arrived { relay, from, data } = arrived;
        if self.may_carry(relay, data.len()) {
            self.handle(Transmit::new(data, TransportType::Udp, from, relay)).await;
        }
    }

    async fn handle(&mut self, incoming: Transmit<Vec<u8>>) {
        let (now, client) = (self.now(), incoming.from);
        let answered = quietly(|| self.server.recv(incoming, now).map(|built| built.build()));
        if let Some(mut outgoing) = answered {
            // The server (0.7.3) addresses its response to a Binding request to itself.
            if outgoing.to == self.addr {
                outgoing.to = client;
            }
            self.send(outgoing).await;
        }
    }

    async fn send(&mut self, outgoing: Transmit<Vec<u8>>) {
        let Transmit { data, from, to, .. } = outgoing;
        let sent = if from == self.addr {
            self.responses.keep(to, &data, Instant::now());
            self.socket.send_to(&data, to).await
        } else if self.may_carry(from, data.len())
            && let Some(relay) = self.relays.get(&from)
        {
            relay.socket.send_to(&data, to).await
        } else {
            return;
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "TURN: not sent");
        }
    }

    /// Whether an allocation may carry more bytes: AWS relays 5 Mbit/s and drops the rest.
    fn may_carry(&mut self, relay: SocketAddr, bytes: usize) -> bool {
        let quotas = &self.shared.config.quotas;
        match self.relays.get_mut(&relay) {
            Some(relay) => !quotas.enabled || relay.budget.take(bytes, quotas.turn_bits_per_second),
            None => false,
        }
    }

    /// Carries out what the protocol requests, and returns the time until its next timer.
    async fn drive(&mut self) -> Duration {
        let wait = loop {
            let now = self.now();
            match quietly(|| self.server.poll(now)) {
                TurnServerPollRet::WaitUntil(until) => break until.saturating_duration_since(now),
                TurnServerPollRet::AllocateSocket {
                    transport,
                    listen_addr,
                    client_addr,
                    allocation_transport,
                    family,
                } => {
                    let allocated = self.allocate(client_addr, allocation_transport, family).await;
                    let now = self.now();
                    quietly(|| {
                        self.server.allocated_socket(
                            transport,
                            listen_addr,
                            client_addr,
                            allocation_transport,
                            family,
                            allocated,
                            now,
                        );
                    });
                }
                TurnServerPollRet::SocketClose { listen_addr, .. } => {
                    if self.relays.remove(&listen_addr).is_some() {
                        tracing::info!(relay = %listen_addr, "TURN: allocation ended");
                    }
                }
                // These belong to TCP allocations, which are never made.
                TurnServerPollRet::TcpConnect { .. } | TurnServerPollRet::TcpClose { .. } => {}
            }
        };
        let now = self.now();
        while let Some(outgoing) = quietly(|| self.server.poll_transmit(now)) {
            self.send(outgoing).await;
        }
        wait
    }

    async fn allocate(
        &mut self,
        client: SocketAddr,
        transport: TransportType,
        family: AddressFamily,
    ) -> Result<SocketAddr, SocketAllocateError> {
        let same_family = match family {
            AddressFamily::IPV4 => client.is_ipv4(),
            AddressFamily::IPV6 => client.is_ipv6(),
        };
        if !same_family || transport != TransportType::Udp {
            return Err(SocketAllocateError::AddressFamilyNotSupported);
        }
        let arn = self.authenticator.arn_of(client).unwrap_or_default().to_owned();
        let quotas = &self.shared.config.quotas;
        let of_channel = self.relays.values().filter(|relay| relay.arn == arn).count();
        if self.relays.len() >= RELAYS_MAX
            || quotas.enabled && of_channel >= quotas.turn_allocations_max
        {
            tracing::info!(arn, "TURN: too many allocations");
            return Err(SocketAllocateError::InsufficientCapacity);
        }
        let opened = open(client).await;
        let (socket, addr) = opened.map_err(|error| {
            tracing::warn!(%error, "TURN: no socket");
            SocketAllocateError::InsufficientCapacity
        })?;
        let (socket, reader) = (Arc::new(socket), self.shared.stop.child_token());
        tokio::spawn(read(socket.clone(), addr, self.arrivals.clone(), reader.clone()));
        tracing::info!(relay = %addr, arn, "TURN: allocated");
        let budget = Budget { left: 0.0, at: None };
        self.relays.insert(addr, Relay { socket, arn, budget, reader });
        Ok(addr)
    }
}

/// Runs without a log: the protocol's crates log passwords and keys at trace level.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(NoSubscriber::default(), work)
}

/// Binds a relay socket on the address that this client reached.
async fn open(client: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let any: IpAddr = match client {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).await?;
    probe.connect(client).await?;
    let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0)).await?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}

/// Forwards the datagrams of peers; those beyond the queue are dropped, as on a network.
async fn read(
    socket: Arc<UdpSocket>,
    relay: SocketAddr,
    arrivals: mpsc::Sender<Arrived>,
    stop: CancellationToken,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, from)) = received else { continue };
        let data = buffer.get(..length).unwrap_or_default().to_vec();
        let _ = arrivals.try_send(Arrived { relay, from, data });
    }
}

/// A bit rate with a burst of one second.
struct Budget {
    left: f64,
    at: Option<Instant>,
}

impl Budget {
    fn take(&mut self, bytes: usize, bits_per_second: u32) -> bool {
        let now = Instant::now();
        let rate = f64::from(bits_per_second);
        let passed = self.at.map_or(1.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.left = (self.left + passed * rate).min(rate);
        self.at = Some(now);
        let bits = bytes as f64 * 8.0;
        let granted = bits <= self.left;
        if granted {
            self.left -= bits;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn relayed_bytes_above_the_bit_rate_are_dropped() {
        let mut budget = Budget { left: 0.0, at: None };
        let granted = (0..2000).filter(|_| budget.take(1250, 5_000_000)).count();
        assert_eq!(granted, 500, "a burst of one second");
        tokio::time::advance(Duration::from_millis(100)).await;
        let granted = (0..2000).filter(|_| budget.take(1250, 5_000_000)).count();
        assert!((49..=51).contains(&granted), "{granted}");
    }
}
