//! A simulated network between viewer and camera on loopback: a small NAT that can lose datagrams,
//! go away and change addresses.
//!
//! The network opens one socket for each address in a candidate, and replaces the address by that
//! socket's own. It forwards a datagram that arrives at the socket to the original address, from
//! the socket that represents the sender. So neither side ever reaches the other directly.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use negotiation_core::{Candidate, Message, SignalingCommand, SignalingEvent, Ticket};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use viewer_session::facts::read_description;
use viewer_session::{SignalingInput, SignalingPort};

/// The protocol of a datagram, by its first bytes (RFC 7983, and RFC 5761 for RTCP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// STUN.
    Stun,
    /// DTLS.
    Dtls,
    /// RTP.
    Rtp,
    /// RTCP.
    Rtcp,
    /// Any other protocol.
    Other,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Stun, Self::Dtls, Self::Rtp, Self::Rtcp, Self::Other];

    fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..=3, ..] => Self::Stun,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, ..] => Self::Rtp,
            _ => Self::Other,
        }
    }
}

/// The side that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Viewer,
    Camera,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Viewer => Self::Camera,
            Self::Camera => Self::Viewer,
        }
    }
}

/// The simulated network. Clones share its state; dropping the last one closes its sockets.
#[derive(Clone, Debug, Default)]
pub struct Network {
    nat: Arc<Mutex<Nat>>,
}

#[derive(Debug, Default)]
struct Nat {
    aliases: BTreeMap<SocketAddr, Alias>,
    dead: BTreeSet<SocketAddr>,
    blocked: BTreeSet<Kind>,
    /// The maximum length in bytes of an RTP packet; longer ones are dropped. 0 drops none.
    rtp_max: usize,
    /// One RTP packet of this many is dropped; 0 drops none.
    rtp_lost_of: u64,
    rtp_seen: u64,
}

#[derive(Debug)]
struct Alias {
    side: Side,
    reported: SocketAddr,
    socket: Arc<UdpSocket>,
    task: JoinHandle<()>,
    used: Instant,
}

impl Drop for Alias {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Network {
    /// Drops all datagrams of these kinds from now on, and none of the other kinds.
    pub fn block(&self, kinds: &[Kind]) {
        self.nat().blocked = kinds.iter().copied().collect();
    }

    /// Drops no kind of datagram any more.
    pub fn unblock(&self) {
        self.block(&[]);
    }

    /// Drops every RTP packet that is longer than this. In the bundled clip only keyframes have
    /// such packets.
    pub fn lose_longer_than(&self, bytes: usize) {
        self.nat().rtp_max = bytes;
    }

    /// Drops one RTP packet of this many, both directions counted together; 0 drops none.
    pub fn lose_one_of(&self, packets: u64) {
        self.nat().rtp_lost_of = packets;
    }

    /// Closes the sockets of addresses without traffic for this long: a network that runs for an
    /// hour would have thousands.
    pub fn forget_idle(&self, idle: Duration) {
        let mut nat = self.nat();
        let Nat { aliases, dead, .. } = &mut *nat;
        aliases.retain(|_, alias| alias.used.elapsed() < idle);
        dead.retain(|address| aliases.contains_key(address));
    }

    /// Drops all later datagrams to and from the viewer's present addresses, as if it had moved to
    /// another network.
    pub fn viewer_moves(&self) {
        let mut nat = self.nat();
        let gone: Vec<SocketAddr> = nat
            .aliases
            .iter()
            .filter(|(_, alias)| alias.side == Side::Viewer)
            .map(|(address, _)| *address)
            .collect();
        nat.dead.extend(gone);
    }

    /// Returns the address that replaces this one in candidates for the other side.
    fn stand_in(&self, address: SocketAddr, side: Side) -> std::io::Result<SocketAddr> {
        let mut nat = self.nat();
        nat.alias(address, side, &Arc::downgrade(&self.nat)).map(|alias| alias.reported)
    }

    /// Returns the candidate with the network's address in it, or `None` for a candidate that the
    /// network does not carry: anything but UDP on 127.0.0.1.
    fn rewritten(&self, candidate: &Candidate, side: Side) -> Option<Candidate> {
        // candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT ... (RFC 8839, 5.1)
        let mut words: Vec<&str> = candidate.text.split(' ').collect();
        let (transport, ip, port) = (words.get(2)?, words.get(4)?, words.get(5)?);
        if !transport.eq_ignore_ascii_case("udp") || *ip != "127.0.0.1" {
            return None;
        }
        let address = format!("{ip}:{port}").parse().ok()?;
        let port = self.stand_in(address, side).ok()?.port().to_string();
        words[5] = &port;
        Some(Candidate { text: words.join(" ").into(), ..candidate.clone() })
    }

    fn nat(&self) -> MutexGuard<'_, Nat> {
        lock(&self.nat)
    }
}

impl Nat {
    fn alias(
        &mut self,
        address: SocketAddr,
        side: Side,
        network: &Weak<Mutex<Self>>,
    ) -> std::io::Result<&Alias> {
        let used = Instant::now();
        match self.aliases.entry(address) {
            Entry::Occupied(occupied) => {
                let alias = occupied.into_mut();
                alias.used = used;
                Ok(alias)
            }
            Entry::Vacant(vacant) => {
                let socket = StdSocket::bind("127.0.0.1:0")?;
                socket.set_nonblocking(true)?;
                let socket = Arc::new(UdpSocket::from_std(socket)?);
                let reported = socket.local_addr()?;
                let forwarding = forward(network.clone(), address, side, Arc::clone(&socket));
                let task = tokio::spawn(forwarding);
                Ok(vacant.insert(Alias { side, reported, socket, task, used }))
            }
        }
    }

    /// Returns the socket that represents the sender, or `None` if the datagram is dropped.
    fn passes(
        &mut self,
        datagram: &[u8],
        (from, to): (SocketAddr, SocketAddr),
        side: Side,
        network: &Weak<Mutex<Self>>,
    ) -> Option<Arc<UdpSocket>> {
        let kind = Kind::of(datagram);
        if self.dead.contains(&from) || self.dead.contains(&to) || self.blocked.contains(&kind) {
            return None;
        }
        if kind == Kind::Rtp && self.rtp_max > 0 && datagram.len() > self.rtp_max {
            return None;
        }
        if kind == Kind::Rtp && self.rtp_lost_of > 0 {
            self.rtp_seen += 1;
            if self.rtp_seen.is_multiple_of(self.rtp_lost_of) {
                return None;
            }
        }
        if let Some(to) = self.aliases.get_mut(&to) {
            to.used = Instant::now();
        }
        let alias = self.alias(from, side.other(), network).ok()?;
        Some(Arc::clone(&alias.socket))
    }
}

/// Forwards the datagrams that arrive at `socket` to `address`.
async fn forward(
    network: Weak<Mutex<Nat>>,
    address: SocketAddr,
    side: Side,
    socket: Arc<UdpSocket>,
) {
    let mut datagram = [0; 2048];
    loop {
        // The error belongs to an earlier datagram, for which the receiver had no open port.
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else { continue };
        let Some(nat) = network.upgrade() else { return };
        let passes = lock(&nat).passes(&datagram[..length], (from, address), side, &network);
        drop(nat);
        if let Some(out) = passes {
            let _ = out.send_to(&datagram[..length], address).await;
        }
    }
}

fn lock(nat: &Mutex<Nat>) -> MutexGuard<'_, Nat> {
    nat.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes the text of an answer.
pub type Tamper = fn(&str) -> String;

/// A signaling port that replaces the addresses in candidates by those of a network, if there is
/// one.
#[derive(Debug)]
pub struct Detour<S> {
    /// The real port.
    pub port: S,
    /// The simulated network.
    pub network: Option<Network>,
    /// A change to the master's answers, which simulates a master with such answers.
    pub tamper: Option<Tamper>,
}

#[async_trait]
impl<S: SignalingPort> SignalingPort for Detour<S> {
    fn submit(&mut self, ticket: Ticket, mut command: SignalingCommand) {
        if let Some(network) = &self.network
            && let SignalingCommand::Send { message: Message::Candidate(candidate), .. } =
                &mut command
            && let Some(rewritten) = network.rewritten(candidate, Side::Viewer)
        {
            *candidate = rewritten;
        }
        self.port.submit(ticket, command);
    }

    async fn next(&mut self) -> SignalingInput {
        loop {
            let mut input = self.port.next().await;
            if let Some(network) = &self.network
                && let SignalingInput::Event(_, SignalingEvent::Candidate { body: Ok(body), .. }) =
                    &mut input
            {
                match network.rewritten(body, Side::Camera) {
                    Some(rewritten) => *body = rewritten,
                    None => continue,
                }
            }
            if let Some(tamper) = self.tamper
                && let SignalingInput::Event(_, SignalingEvent::Answer { body, .. }) = &mut input
            {
                *body =
                    body.clone().and_then(|answer| read_description(&tamper(answer.sdp.as_str())));
            }
            return input;
        }
    }
}
