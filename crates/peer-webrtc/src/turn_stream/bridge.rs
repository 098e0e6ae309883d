//! The bridge to one TURN server: a socket on loopback, and a stream for each of the stack's
//! sockets.
//!
//! One task serves both, so that ending it ends everything.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Gate;
use super::connect::{Server, Stream};
use super::framing::{DATAGRAM_MAX, is_allocate, measure, to_stream};

/// The most streams of one bridge: a machine has few interfaces, and an ICE restart doubles them
/// for a while.
const STREAMS_MAX: usize = 8;
/// The most datagrams that wait for a slow stream; further ones are lost, as on any network.
const WAITING_MAX: usize = 256;
/// The head start of UDP if both are offered: an allocation takes two round trips.
const HEAD_START: Duration = Duration::from_millis(500);
/// The time limit to connect, including TCP, TLS and any proxy.
const CONNECT_MAX: Duration = Duration::from_secs(8);
/// Longer than an allocation lives without a refresh (RFC 8656, 3.2: ten minutes).
const IDLE_MAX: Duration = Duration::from_secs(660);
/// The number of bytes read from a stream at once.
const CHUNK: usize = 16 * 1024;

/// A connection to one TURN server. Dropping it ends it at once.
pub(super) struct Bridge {
    local: SocketAddr,
    /// The number of streams that are open, or wait for UDP's head start to end.
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Bridge {
    /// Opens a socket on loopback. The bridge connects to the server at the stack's first
    /// allocation request.
    pub(super) async fn open(server: Server, ipv6: bool, gate: Arc<Gate>) -> io::Result<Self> {
        let loopback = match ipv6 {
            true => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            false => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let socket = UdpSocket::bind(loopback).await?;
        let local = socket.local_addr()?;
        let open = Arc::default();
        let task = tokio::spawn(serve(Arc::new(socket), Arc::new(server), gate, Arc::clone(&open)));
        Ok(Self { local, open, task })
    }

    /// Returns the URI of the loopback socket. The stack cannot read an IPv6 address in a URI.
    pub(super) fn uri(&self) -> String {
        let host = if self.local.is_ipv6() { "localhost" } else { "127.0.0.1" };
        format!("turn:{host}:{}?transport=udp", self.local.port())
    }

    /// Returns whether the bridge has no stream.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Ends the bridge; its sockets are gone on return.
    pub(super) async fn close(mut self) {
        self.task.abort();
        // The task ends with a cancellation error, which is expected.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Carrying = Pin<Box<dyn Future<Output = SocketAddr> + Send>>;

async fn serve(
    socket: Arc<UdpSocket>,
    server: Arc<Server>,
    gate: Arc<Gate>,
    count: Arc<AtomicUsize>,
) {
    let mut streams: FuturesUnordered<Carrying> = FuturesUnordered::new();
    let mut open: BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>> = BTreeMap::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let (length, from) = tokio::select! {
            biased;
            Some(ended) = streams.next(), if !streams.is_empty() => {
                open.remove(&ended);
                count.store(open.len(), Ordering::Release);
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // Some systems report a closed port of the stack as an error here.
                Err(_) => {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let datagram = &buffer[..length];
        if let Some(stream) = open.get(&from) {
            // A full or closing stream loses the datagram.
            let _ = stream.try_send(datagram.to_vec());
            continue;
        }
        // Other datagrams belong to an allocation that is gone.
        if !is_allocate(datagram) || gate.is_closed() || open.len() >= STREAMS_MAX {
            continue;
        }
        let (to_stream, from_stack) = mpsc::channel(WAITING_MAX);
        let _ = to_stream.try_send(datagram.to_vec());
        open.insert(from, to_stream);
        count.store(open.len(), Ordering::Release);
        let (socket, server, gate) = (Arc::clone(&socket), Arc::clone(&server), Arc::clone(&gate));
        streams.push(Box::pin(async move {
            if gate.udp_is_tried_first() {
                sleep(HEAD_START).await;
            }
            if !gate.is_closed() {
                carry(&socket, from, &server, from_stack).await;
            }
            from
        }));
    }
}

/// Carries one allocation's messages both ways until either side ends.
async fn carry(
    socket: &UdpSocket,
    stack: SocketAddr,
    server: &Server,
    from_stack: mpsc::Receiver<Vec<u8>>,
) {
    let tls = server.tls.is_some();
    match timeout(CONNECT_MAX, server.connect()).await {
        Ok(Ok(stream)) => {
            tracing::debug!(tls, "a TURN server is reached over a stream");
            let (read, write) = split(stream);
            let ended = tokio::select! {
                ended = up(write, from_stack) => ended,
                ended = down(read, socket, stack) => ended,
            };
            tracing::debug!(tls, ?ended, "a stream to a TURN server ended");
        }
        Ok(Err(error)) => tracing::debug!(tls, %error, "a TURN server is not reached"),
        Err(_) => tracing::debug!(tls, "a TURN server is not reached in time"),
    }
}

async fn up(
    mut stream: WriteHalf<Box<dyn Stream>>,
    mut from_stack: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let Ok(Some(datagram)) = timeout(IDLE_MAX, from_stack.recv()).await else {
            return Ok(());
        };
        if let Some((message, padding)) = to_stream(&datagram) {
            stream.write_all(message).await?;
            stream.write_all(&[0; 3][..padding]).await?;
            if from_stack.is_empty() {
                stream.flush().await?;
            }
        }
    }
}

async fn down(
    mut stream: ReadHalf<Box<dyn Stream>>,
    socket: &UdpSocket,
    stack: SocketAddr,
) -> io::Result<()> {
    let mut bytes: Vec<u8> = Vec::with_capacity(CHUNK);
    loop {
        // The loop is bounded because `measure` allows no message longer than a datagram.
        while let Some(message) =
            measure(&bytes).map_err(|_| io::Error::other("the server does not speak TURN"))?
        {
            if bytes.len() < message.in_stream {
                break;
            }
            if let Some(datagram) = bytes.get(..message.datagram) {
                // If sending fails, the datagram is lost, as on any network.
                let _ = socket.send_to(datagram, stack).await;
            }
            bytes.drain(..message.in_stream);
        }
        bytes.reserve(CHUNK);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// An allocate request without attributes.
#[cfg(test)]
pub(super) const ALLOCATE: [u8; 20] = {
    let mut message = [7; 20];
    (message[0], message[1], message[2], message[3]) = (0, 3, 0, 0);
    (message[4], message[5], message[6], message[7]) = (0x21, 0x12, 0xa4, 0x42);
    message
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Resolver;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    const LIMIT: Duration = Duration::from_secs(10);
    /// Returns a server that only listens, a bridge to it, and a socket in the role of the stack.
    async fn bridged(gate: Arc<Gate>) -> (TcpListener, Bridge, UdpSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("bound").port();
        let resolver = Resolver::system();
        let server = Server { host: "127.0.0.1".into(), port, tls: None, detour: None, resolver };
        let bridge = Bridge::open(server, false, gate).await.expect("opens");
        let stack = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        stack.connect(bridge.local).await.expect("connected");
        (listener, bridge, stack)
    }

    async fn accepted(listener: &TcpListener) -> TcpStream {
        let accepted = timeout(LIMIT, listener.accept()).await.expect("in time");
        accepted.expect("a stream").0
    }

    async fn received(stack: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let received = timeout(LIMIT, stack.recv(&mut buffer)).await.expect("in time");
        buffer[..received.expect("a datagram")].to_vec()
    }

    async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(LIMIT, stream.read_exact(&mut bytes)).await.expect("in time").expect("bytes");
        bytes
    }

    #[tokio::test]
    async fn messages_split_by_stream_are_carried_whole() {
        let (listener, bridge, stack) = bridged(Arc::default()).await;
        stack.send(&ALLOCATE).await.expect("sent");
        let mut stream = accepted(&listener).await;
        assert_eq!(read(&mut stream, 20).await, ALLOCATE);
        // ChannelData of three bytes is padded, and an invalid message is dropped.
        stack.send(&[0x40, 1, 0, 3, 9, 9, 9]).await.expect("sent");
        stack.send(b"SSH-2.0-hello").await.expect("sent");
        stack.send(&[0x40, 1, 0, 0]).await.expect("sent");
        assert_eq!(read(&mut stream, 12).await, [0x40, 1, 0, 3, 9, 9, 9, 0, 0x40, 1, 0, 0]);

        let down = [&[0x40, 1, 0, 1, 5, 0, 0, 0][..], &ALLOCATE].concat();
        for byte in down {
            stream.write_all(&[byte]).await.expect("written");
            tokio::task::yield_now().await;
        }
        assert_eq!(received(&stack).await, [0x40, 1, 0, 1, 5]);
        assert_eq!(received(&stack).await, ALLOCATE);

        bridge.close().await;
        assert_eq!(stream.read(&mut [0; 1]).await.expect("an orderly end"), 0);
    }

    /// Requests an allocation repeatedly, as the stack does, for up to this long.
    async fn ask(stack: &UdpSocket, listener: &TcpListener, within: Duration) -> Option<TcpStream> {
        let asking = async {
            loop {
                stack.send(&ALLOCATE).await.expect("sent");
                let soon = Duration::from_millis(20);
                if let Ok(accepted) = timeout(soon, listener.accept()).await {
                    return accepted.expect("a stream").0;
                }
            }
        };
        timeout(within, asking).await.ok()
    }

    #[tokio::test]
    async fn server_with_another_protocol_is_closed_and_may_be_retried() {
        let (listener, _bridge, stack) = bridged(Arc::default()).await;
        let mut stream = ask(&stack, &listener, LIMIT).await.expect("a stream");
        stream.write_all(b"SSH-2.0-hello").await.expect("written");
        // The server has unread data, so the end may be a reset.
        let mut rest = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("closed");
        ask(&stack, &listener, LIMIT).await.expect("another stream");
    }

    #[tokio::test]
    async fn stream_opens_only_if_udp_fails_within_head_start() {
        let gate = Arc::new(Gate::default());
        gate.udp_offered.store(true, Ordering::Release);
        gate.relay_found("turn:turn.example.org:3478?transport=udp");
        let (listener, _bridge, stack) = bridged(Arc::clone(&gate)).await;
        assert!(ask(&stack, &listener, HEAD_START * 2).await.is_none(), "UDP works");
        gate.gathering();
        let began = Instant::now();
        ask(&stack, &listener, LIMIT).await.expect("UDP had its chance");
        assert!(began.elapsed() >= HEAD_START, "{:?}", began.elapsed());
        // A datagram that belongs to no allocation opens no stream.
        let other = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let bridge_at = stack.peer_addr().expect("connected");
        other.send_to(&[0x40, 1, 0, 0], bridge_at).await.expect("sent");
        let opened = timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(opened.is_err(), "{opened:?}");
    }
}
