//! One WebSocket: dialling, the upgrade, pings, bounded reads and writes, closing.

use futures_util::{SinkExt as _, StreamExt as _};
use kvs_wire::{FRAME_BYTES_MAX, Incoming, decode};
use negotiation_core::{Failure, FailureCode};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use crate::dial;
use crate::error;
use crate::limits::Limits;
use crate::presign::SignedUrl;
use crate::proxy::{Duplex, Route};
use crate::tls::Trust;
use crate::upgrade::{Refusal, upgrade};

/// The size above which a message ends the connection; up to it, a message that is too long counts
/// as garbage.
const MESSAGE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Maximum number of unsent bytes: every ping requires a pong, also if the other end never reads.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Bytes that one read from the connection takes. Messages of the service have up to 10 kB of
/// payload; a longer one is assembled in a buffer of its own.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    limits: Limits,
    received_at: Instant,
    ping_at: Instant,
}

impl Socket {
    /// Opens a connection. The caller limits the total time.
    pub(crate) async fn open(
        url: &SignedUrl,
        trust: &Trust,
        route: &Route,
        limits: Limits,
    ) -> Result<Self, Refusal> {
        let unusable =
            || Refusal::Transport(Failure::new(FailureCode::Service, "the endpoint has no host"));
        let parsed = Url::parse(url.expose()).map_err(|_| unusable())?;
        let connection = dial::connect(&parsed, trust, route).await.map_err(|error| {
            Refusal::Transport(error::transport("the signaling socket", error.as_ref()))
        })?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(UNSENT_BYTES_MAX);
        let stream = upgrade(connection, url, config).await?;
        let now = Instant::now();
        Ok(Self { stream, limits, received_at: now, ping_at: now + limits.ping })
    }

    /// Waits for the next message and sends pings meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// The reason why the connection is over.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Failure> {
        let now = Instant::now();
        if now > self.received_at + self.limits.silence && now > self.ping_at {
            // The caller did not read for a while, so the service was not necessarily silent.
            self.received_at = now;
        }
        loop {
            let silent_at = self.received_at + self.limits.silence;
            tokio::select! {
                // Received frames come before an expired time limit.
                biased;
                frame = self.stream.next() => {
                    let message = match frame {
                        None => return Err(error::closed(None)),
                        Some(Err(error)) => return Err(error::socket(&error)),
                        Some(Ok(message)) => message,
                    };
                    self.received_at = Instant::now();
                    match message {
                        Message::Text(text) => return Ok(decode(&text)),
                        Message::Binary(_) => return Ok(Incoming::Garbage),
                        Message::Close(frame) => {
                            return Err(error::closed(frame.map(|f| f.code.into())));
                        }
                        // The library sends the pong with the next read.
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                () = sleep_until(silent_at) => {
                    return Err(Failure::new(
                        FailureCode::TimedOut,
                        format!(
                            "nothing came on the signaling socket for {} s, no pong either",
                            self.limits.silence.as_secs_f32()
                        ),
                    ));
                }
                () = sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + self.limits.ping;
                    self.write(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    /// Sends a text. After an error the connection is over.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), Failure> {
        self.write(Message::text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Failure> {
        match timeout(self.limits.write, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error::socket(&error)),
            Err(_) => Err(Failure::new(
                FailureCode::TimedOut,
                "the signaling socket took no data in time",
            )),
        }
    }

    /// Closes, waits for the other end's close within the limit, and frees the descriptor.
    pub(crate) async fn close(mut self) {
        let handshake = async {
            // The library refuses a close if the other end closed first; then the queued reply
            // goes out with the next read.
            let _ = self.stream.close(None).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        // After the timeout or the handshake, dropping the socket closes it.
        let _ = timeout(self.limits.close, handshake).await;
    }
}
