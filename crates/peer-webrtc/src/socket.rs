//! The stack's runtime: UDP sockets that filter input by an [`Ingress`] and output by a [`Pacer`],
//! and names that are answered without waiting ([`Hosts`]).

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::ingress::Ingress;
use crate::pacing::Pacer;
use crate::resolver::Hosts;

/// The port of multicast DNS, whose socket carries no media.
const MDNS_PORT: u16 = 5353;
/// The most consecutive reads with nothing admitted before other tasks run.
const EMPTY_READS_MAX: usize = 64;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Ends the sleep of the connection's task, which then handles its timers and sends what is
/// waiting.
///
/// The stack sends some packets only when a timer fires
/// (docs/upstream/rtc-dtls-first-flight-waits-for-a-timer.md,
/// docs/upstream/webrtc-add-ice-candidate-does-not-wake.md).
#[derive(Clone, Debug, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes the task, or ends its next sleep at once.
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    /// Returns whether the next sleep would end at once, and clears that.
    #[cfg(test)]
    pub(crate) fn is_pending(&self) -> bool {
        use futures_util::FutureExt as _;
        self.0.notified().now_or_never().is_some()
    }
}

/// The Tokio runtime, with filtered UDP sockets and sleeps that can be ended.
#[derive(Debug)]
pub(crate) struct FilteredRuntime {
    tokio: TokioRuntime,
    wake: Wake,
    ingress: Arc<Mutex<Ingress>>,
    pacer: Arc<Mutex<Pacer>>,
    hosts: Arc<Hosts>,
}

impl FilteredRuntime {
    pub(crate) fn new(ingress: Arc<Mutex<Ingress>>, hosts: Arc<Hosts>, wake: Wake) -> Self {
        Self { tokio: TokioRuntime, wake, ingress, pacer: Arc::default(), hosts }
    }
}

impl Runtime for FilteredRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn spawn_reactor(
        &self,
        size: usize,
        future: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Box<dyn JoinHandle> {
        self.tokio.spawn_reactor(size, future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let is_mdns = socket.local_addr()?.port() == MDNS_PORT;
        let socket = self.tokio.wrap_udp_socket(socket)?;
        if is_mdns {
            return Ok(socket);
        }
        let (ingress, pacer) = (Arc::clone(&self.ingress), Arc::clone(&self.pacer));
        let local = socket.local_addr()?;
        Ok(Arc::new(FilteredSocket { socket, local, ingress, pacer }))
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.tokio.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.tokio.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        let answer = self.hosts.answer(host);
        Box::pin(async move { answer })
    }

    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let (sleep, wake) = (self.tokio.sleep(duration), self.wake.clone());
        Box::pin(async move {
            tokio::select! {
                () = sleep => {}
                () = wake.0.notified() => {}
            }
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.tokio.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.tokio.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        self.tokio.yield_now()
    }

    fn name(&self) -> &'static str {
        self.tokio.name()
    }
}

#[derive(Debug)]
struct FilteredSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    local: SocketAddr,
    ingress: Arc<Mutex<Ingress>>,
    pacer: Arc<Mutex<Pacer>>,
}

impl AsyncUdpSocket for FilteredSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let (to, datagram) = (transmit.destination, transmit.contents);
        let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
        if !pacer.admits(now(), self.local, to, datagram) {
            // The check is dropped like a lost packet: the agent repeats it.
            return Poll::Ready(Ok(datagram.len()));
        }
        drop(pacer);
        // Record the datagram before sending it, because the answer may come at once.
        lock(&self.ingress).sent(transmit.destination, transmit.contents);
        self.socket.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..EMPTY_READS_MAX {
            let count = ready!(self.socket.poll_recv(cx, buffers, meta))?;
            let left = filter(&mut lock(&self.ingress), now(), buffers, meta, count);
            if left > 0 {
                return Poll::Ready(Ok(left));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn max_gso_segments(&self) -> usize {
        self.socket.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.socket.max_gro_segments()
    }
}

/// Keeps the admitted datagrams of `count` messages, each of which may hold several datagrams of
/// one sender, and moves them to the front. Returns how many messages are left.
fn filter(
    ingress: &mut Ingress,
    now: Instant,
    buffers: &mut [IoSliceMut<'_>],
    meta: &mut [RecvMeta],
    count: usize,
) -> usize {
    let mut left = 0;
    for index in 0..count {
        let Some(&RecvMeta { len, stride, addr, .. }) = meta.get(index) else { break };
        let Some(buffer) = buffers.get_mut(index) else { break };
        let mut kept = 0;
        let mut begin = 0;
        while begin < len {
            let end = (begin + stride.max(1)).min(len);
            if buffer.get(begin..end).is_some_and(|datagram| ingress.admits(now, addr, datagram)) {
                if kept != begin {
                    buffer.copy_within(begin..end, kept);
                }
                kept += end - begin;
            }
            begin = end;
        }
        // Datagrams that the kernel coalesced must keep their sizes, so they are not rewritten.
        if stride >= len
            && let Some(rewritten) = ingress.join_fragments(&buffer[..kept])
        {
            kept = rewritten.len();
            buffer[..kept].copy_from_slice(&rewritten);
        }
        if kept == 0 {
            continue;
        }
        if left != index {
            if let Ok([to, from]) = buffers.get_disjoint_mut([left, index]) {
                to[..kept].copy_from_slice(&from[..kept]);
            }
            meta.swap(left, index);
        }
        if let Some(meta) = meta.get_mut(left) {
            meta.len = kept;
        }
        left += 1;
    }
    left
}

pub(crate) fn lock(ingress: &Mutex<Ingress>) -> MutexGuard<'_, Ingress> {
    ingress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "192.0.2.1:5000";
    const STRANGER: &str = "192.0.2.9:5000";

    fn message(from: &str, len: usize, stride: usize) -> RecvMeta {
        let mut meta = RecvMeta::default();
        (meta.addr, meta.len, meta.stride) = (from.parse().expect("an address"), len, stride);
        meta
    }

    #[tokio::test(start_paused = true)]
    async fn wake_ends_the_current_or_the_next_sleep_at_once() {
        let wake = Wake::default();
        let hosts = Arc::new(Hosts::new(crate::resolver::Resolver::system()));
        let runtime =
            FilteredRuntime::new(Arc::new(Mutex::new(Ingress::new())), hosts, wake.clone());
        let hour = Duration::from_secs(3600);
        let begun = tokio::time::Instant::now();
        wake.wake();
        runtime.sleep(hour).await;
        let sleeping = tokio::spawn(runtime.sleep(hour));
        tokio::task::yield_now().await;
        wake.wake();
        sleeping.await.expect("it does not panic");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        runtime.sleep(hour).await;
        assert_eq!(begun.elapsed(), hour, "one wake ends one sleep");
    }

    /// One message with several datagrams of known and unknown SSRCs.
    #[test]
    fn admitted_datagrams_move_to_front() {
        let mut ingress = Ingress::new();
        ingress.sent(PEER.parse().expect("an address"), &[23]);
        let record = |fill: u8, len: usize| {
            let mut record = vec![fill; len];
            record[0] = 23;
            record
        };
        let (first, junk, last) = (record(1, 20), vec![255; 20], record(2, 9));
        let mut coalesced = [first.clone(), junk, last.clone()].concat();
        let mut of_a_stranger = record(3, 20);
        let mut single = record(4, 20);
        let mut meta = [message(STRANGER, 20, 20), message(PEER, 49, 20), message(PEER, 20, 20)];
        let mut buffers = [&mut of_a_stranger, &mut coalesced, &mut single].map(|buffer| {
            buffer.resize(64, 0);
            IoSliceMut::new(buffer)
        });
        assert_eq!(filter(&mut ingress, now(), &mut buffers, &mut meta, 3), 2);
        assert_eq!((meta[0].len, meta[0].stride), (29, 20));
        assert_eq!(buffers[0][..29], [first, last].concat());
        assert_eq!((meta[1].len, &buffers[1][..20]), (20, &record(4, 20)[..]));
        // An empty datagram counts as none.
        let mut meta = [message(PEER, 0, 1)];
        assert_eq!(filter(&mut ingress, now(), &mut buffers, &mut meta, 1), 0);
    }
}
