//! A round-trip time on a TCP connection: its bytes arrive half of it later in each direction, and
//! connecting costs one round trip too.
//!
//! On loopback a client's `connect` returns at once. On a network it returns one round trip later,
//! and everything that follows is later as well: the bytes that a client sends before it received
//! any are therefore delayed by one more round trip.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// Most bytes per read.
const CHUNK_BYTES: usize = 16 * 1024;
/// Maximum number of chunks in transit in one direction. A faster sender waits, as with a full TCP
/// window.
const CHUNKS_MAX: usize = 64;
/// A client that accepts no bytes for this long is cut; so is one that has not accepted the last
/// bytes this long after the service closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Tokio's timers fire at the first full millisecond after a deadline: half of one late on average.
const TIMER_LATE: Duration = Duration::from_micros(500);

/// The service's end of a connection with a round-trip time, and the task that carries its bytes.
pub(crate) fn delayed<S>(stream: S, rtt: Duration) -> (DuplexStream, impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite,
{
    let (service, near) = duplex(CHUNK_BYTES);
    (service, carry(stream, near, rtt))
}

/// Completes when the service has closed its end and all of its bytes have been delivered.
async fn carry<S>(client: S, service: DuplexStream, rtt: Duration)
where
    S: AsyncRead + AsyncWrite,
{
    let half = rtt / 2;
    let is_answered = AtomicBool::new(false);
    let (from_client, to_client) = split(client);
    let (from_service, to_service) = split(service);
    let (up, down) = (Direction::new(half), Direction::new(half));
    let (up_queue, up_arrived) = mpsc::channel(CHUNKS_MAX);
    let (down_queue, down_arrived) = mpsc::channel(CHUNKS_MAX);

    let upward = async {
        let connect = || if is_answered.load(Ordering::Relaxed) { Duration::ZERO } else { rtt };
        tokio::join!(
            up.receive(from_client, up_queue, connect),
            // No write timeout here: a fault may stall the service for any time.
            up.deliver(to_service, up_arrived, None, || {}),
        );
        // The client may have closed only its side: the service decides on the end.
        std::future::pending::<()>().await;
    };
    let downward = async {
        let deliver = down.deliver(to_client, down_arrived, Some(WRITE_TIMEOUT), || {
            is_answered.store(true, Ordering::Relaxed);
        });
        let mut deliver = std::pin::pin!(deliver);
        tokio::select! {
            () = down.receive(from_service, down_queue, || Duration::ZERO) => {}
            // The client accepts no more bytes.
            () = &mut deliver => return,
        }
        // A client that does not read must not keep the connection.
        let _ = timeout(WRITE_TIMEOUT, deliver).await;
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
    }
}

/// One direction of a connection.
struct Direction {
    delay: Duration,
    closed_at: OnceLock<Instant>,
}

impl Direction {
    fn new(delay: Duration) -> Self {
        Self { delay, closed_at: OnceLock::new() }
    }

    /// Reads the sent bytes, and queues each chunk with the time at which it is due at the other
    /// end.
    async fn receive(
        &self,
        mut from: impl AsyncRead + Unpin,
        queue: mpsc::Sender<(Instant, Bytes)>,
        extra: impl Fn() -> Duration,
    ) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut due = Instant::now();
        // An error is the end of the stream for the other side.
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            // `max` keeps the order of sending, also when `extra` becomes zero.
            due = due.max(Instant::now() + self.delay + extra());
            let chunk = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
            if queue.send((due, chunk)).await.is_err() {
                return;
            }
        }
        self.closed_at.get_or_init(|| due.max(Instant::now() + self.delay));
    }

    /// Writes each chunk when it is due, and then the end of the stream.
    async fn deliver(
        &self,
        mut to: impl AsyncWrite + Unpin,
        mut arrived: mpsc::Receiver<(Instant, Bytes)>,
        patience: Option<Duration>,
        delivered: impl Fn(),
    ) {
        while let Some((due, chunk)) = arrived.recv().await {
            sleep_until(due.checked_sub(TIMER_LATE).unwrap_or(due)).await;
            let writing = async {
                to.write_all(&chunk).await?;
                to.flush().await
            };
            let written = match patience {
                Some(patience) => {
                    timeout(patience, writing).await.unwrap_or_else(|late| Err(late.into()))
                }
                None => writing.await,
            };
            if written.is_err() {
                return;
            }
            delivered();
        }
        if let Some(due) = self.closed_at.get() {
            sleep_until(*due).await;
        }
        // The shutdown fails if the other side has closed already.
        let _ = to.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// A client, the service's end, and the task between them.
    fn connected() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, accepted) = duplex(4 * CHUNK_BYTES);
        let (service, carrying) = delayed(accepted, RTT);
        (client, service, tokio::spawn(carrying))
    }

    async fn exchange(client: &mut DuplexStream, service: &mut DuplexStream) -> Duration {
        let begun = Instant::now();
        client.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        service.read_exact(&mut buffer).await.unwrap();
        service.write_all(&buffer).await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
        begun.elapsed()
    }

    fn close_to(found: Duration, expected: Duration) -> bool {
        found.abs_diff(expected) <= Duration::from_millis(2)
    }

    #[tokio::test(start_paused = true)]
    async fn first_exchange_takes_two_round_trips_further_ones_one() {
        let (mut client, mut service, _task) = connected();
        let first = exchange(&mut client, &mut service).await;
        assert!(close_to(first, 2 * RTT), "connecting and an exchange: {first:?}");
        for _ in 0..3 {
            let next = exchange(&mut client, &mut service).await;
            assert!(close_to(next, RTT), "{next:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_bytes_arrive_complete_in_order_and_on_time() {
        let (client, mut service, _task) = connected();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = split(client);
        let copy = sent.clone();
        let begun = Instant::now();
        let writing = tokio::spawn(async move {
            write.write_all(&copy).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        service.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), sent.len());
        assert!(received == sent, "the bytes differ");
        assert!(begun.elapsed() >= RTT, "{:?}", begun.elapsed());
        writing.await.unwrap();
        // The other direction is still open.
        service.write_all(b"bye").await.unwrap();
        drop(service);
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"bye");
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_bytes_of_a_client_that_does_not_read_are_bounded() {
        let (client, mut service, task) = connected();
        let mut written = 0;
        let chunk = vec![7; CHUNK_BYTES];
        while timeout(Duration::from_secs(5), service.write_all(&chunk)).await.is_ok() {
            written += chunk.len();
            assert!(written <= 2 * CHUNKS_MAX * CHUNK_BYTES, "{written} bytes are held");
        }
        drop(service);
        let ended = timeout(2 * WRITE_TIMEOUT, task).await;
        assert!(ended.is_ok(), "the connection outlives the service's end");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_connection_ends_after_its_bytes() {
        let (mut client, mut service, task) = connected();
        exchange(&mut client, &mut service).await;
        let begun = Instant::now();
        drop(client);
        assert_eq!(service.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(close_to(begun.elapsed(), RTT / 2), "{:?}", begun.elapsed());
        drop(service);
        task.await.unwrap();
    }
}
