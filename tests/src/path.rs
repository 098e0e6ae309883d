//! One network path between two peers on loopback. It can lose and delay datagrams, and a test can
//! send its own datagrams from either end, as an attacker on the path or one who spoofs its
//! addresses.
//!
//! Tests of single crates include this file by its path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A network path; dropping it stops all forwarding.
#[derive(Debug)]
pub struct Path {
    near: Arc<UdpSocket>,
    far: Arc<UdpSocket>,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    viewer: Option<SocketAddr>,
    loss: f64,
    delay: Duration,
    random: u64,
    seen: Seen,
}

/// The RTP that the master sent to the viewer.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Sent packets by payload type, including the lost ones.
    pub sent: BTreeMap<u8, usize>,
    /// Lost packets by payload type.
    pub lost: BTreeMap<u8, usize>,
    /// The SSRCs of the packets.
    pub ssrcs: BTreeSet<u32>,
}

impl Path {
    /// Opens a path to the master's address.
    ///
    /// # Errors
    /// No socket can be opened.
    pub async fn open(master: SocketAddr) -> std::io::Result<Self> {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        far.connect(master).await?;
        let state = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        let (there, queue) = mpsc::unbounded_channel();
        tasks.spawn(deliver(queue, Arc::clone(&far), None));
        tasks.spawn(carry(Arc::clone(&near), there, Arc::clone(&state), false));
        let (back, queue) = mpsc::unbounded_channel();
        tasks.spawn(deliver(queue, Arc::clone(&near), Some(Arc::clone(&state))));
        tasks.spawn(carry(Arc::clone(&far), back, Arc::clone(&state), true));
        Ok(Self { near, far, state, _tasks: tasks })
    }

    /// Returns the address that the viewer must use instead of the master's.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.near.local_addr()
    }

    /// Loses this share of all RTP and RTCP packets from now on, chosen by a generator with this
    /// seed, and delays the others.
    pub fn impair(&self, loss: f64, delay: Duration, seed: u64) {
        let mut state = lock(&self.state);
        (state.loss, state.delay, state.random) = (loss, delay, seed);
    }

    /// Returns the traffic so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.state).seen.clone()
    }

    /// Sends a datagram to the viewer from the address that the viewer knows as the master's.
    pub async fn send_to_viewer(&self, datagram: &[u8]) {
        let viewer = lock(&self.state).viewer;
        if let Some(viewer) = viewer {
            let _ = self.near.send_to(datagram, viewer).await;
        }
    }

    /// Sends a datagram to the master from the address that the master knows as the viewer's.
    pub async fn send_to_master(&self, datagram: &[u8]) {
        let _ = self.far.send(datagram).await;
    }
}

type Queued = (Instant, Vec<u8>);

/// Reads the datagrams that arrive at one end, and queues those that are not lost.
async fn carry(
    from: Arc<UdpSocket>,
    to: mpsc::UnboundedSender<Queued>,
    state: Arc<Mutex<State>>,
    is_masters: bool,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        // A failed delivery appears as an error of the next read.
        let Ok((len, sender)) = from.recv_from(&mut buffer).await else { continue };
        let Some(datagram) = buffer.get(..len) else { continue };
        let mut state = lock(&state);
        if !is_masters {
            state.viewer = Some(sender);
        }
        if state.is_lost(datagram, is_masters) {
            continue;
        }
        let due = Instant::now() + state.delay;
        if to.send((due, datagram.to_vec())).is_err() {
            return;
        }
    }
}

async fn deliver(
    mut queue: mpsc::UnboundedReceiver<Queued>,
    out: Arc<UdpSocket>,
    to_viewer: Option<Arc<Mutex<State>>>,
) {
    while let Some((due, datagram)) = queue.recv().await {
        sleep_until(due).await;
        // The receiver may have closed its port; the path stays open.
        let _ = match &to_viewer {
            None => out.send(&datagram).await,
            Some(state) => {
                let viewer = lock(state).viewer;
                let Some(viewer) = viewer else { continue };
                out.send_to(&datagram, viewer).await
            }
        };
    }
}

impl State {
    fn is_lost(&mut self, datagram: &[u8], is_masters: bool) -> bool {
        let [128..=191, second, _, _, _, _, _, _, ssrc @ ..] = datagram else { return false };
        // The SplitMix64 generator.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let lost = (z >> 11) as f64 / (1_u64 << 53) as f64 <= self.loss && self.loss > 0.0;
        if is_masters && !(192..=223).contains(second) {
            let payload_type = second & 0x7f;
            *self.seen.sent.entry(payload_type).or_default() += 1;
            *self.seen.lost.entry(payload_type).or_default() += usize::from(lost);
            if let [a, b, c, d, ..] = ssrc {
                self.seen.ssrcs.insert(u32::from_be_bytes([*a, *b, *c, *d]));
            }
        }
        lost
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
