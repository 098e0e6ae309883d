//! A hostile service that controls every byte of its responses and of its signaling connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use negotiation_core::{
    Completion, ConnectionId, Done, Failure, SignalingCommand, SignalingEvent, Ticket,
};
use signaling_aws::{AwsSignaling, Limits, SignalingConfig, SignalingConfigBuilder};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use viewer_session::{SignalingInput, SignalingPort as _};

/// A time limit for operations without one of their own.
const PATIENCE: Duration = Duration::from_secs(30);

/// The number of bytes that are written at once.
const CHUNK: usize = 64 * 1024;

/// More bytes than any limit allows, and few enough to write: it stands for "without end".
pub(crate) const ENDLESS: usize = 512 << 20;

/// The response to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The two endpoints, both on this service, in a valid response.
    Endpoints,
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// The bytes of `head`, and then `again` repeatedly, up to this many bytes.
    Repeated { head: Vec<u8>, again: Vec<u8>, bytes: usize },
    /// The bytes of `head`, and then one byte at this interval.
    Dripping { head: Vec<u8>, every: Duration },
}

/// The behaviour of a service.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The response to a call for endpoints.
    pub(crate) call: Answer,
    /// The response to an upgrade.
    pub(crate) upgrade: Answer,
    /// Whether the upgrade is accepted before its answer is written.
    pub(crate) accepts: bool,
    /// The URL of the signaling connection, if it is on another service.
    pub(crate) socket: Option<String>,
}

impl Default for Script {
    fn default() -> Self {
        let upgrade = Answer::Bytes(Vec::new());
        Self { call: Answer::Endpoints, upgrade, accepts: true, socket: None }
    }
}

/// A running service. It stops with its runtime.
pub(crate) struct Service {
    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    pub(crate) url: String,
    requests: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Service {
    pub(crate) async fn start(script: Script) -> Self {
        Self::listen(script, None).await
    }

    pub(crate) async fn start_tls(script: Script, tls: TlsAcceptor) -> Self {
        Self::listen(script, Some(tls)).await
    }

    async fn listen(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let url = match &tls {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        };
        let (requests, written) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let seat = Seat { script, url: url.clone(), requests, written };
        let service = Self { url, requests: seat.requests.clone(), written: seat.written.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seat, tls) = (seat.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => seat.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                seat.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        service
    }

    /// Returns a configuration with which a viewer connects to this service.
    pub(crate) fn reach(&self) -> SignalingConfigBuilder {
        SignalingConfig::builder("arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1")
            .endpoint_url(&self.url)
            .credentials("AKID", "secret", None)
            .client_id("viewer")
    }

    /// Returns the number of requests so far, calls and upgrades.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes that clients have accepted so far.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Seat {
    script: Script,
    url: String,
    requests: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

impl Seat {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Some(head) = read_request(&mut stream).await {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let lower = head.to_ascii_lowercase();
            let answer = if let Some(key) = lower.find("sec-websocket-key:") {
                if self.script.accepts {
                    let key = head[key..].lines().next().and_then(|line| line.split_once(':'));
                    let key = derive_accept_key(key.expect("a key").1.trim().as_bytes());
                    let accept = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                         upgrade: websocket\r\nsec-websocket-accept: {key}\r\n\r\n"
                    );
                    if stream.write_all(accept.as_bytes()).await.is_err() {
                        return;
                    }
                }
                self.script.upgrade.clone()
            } else if lower.contains("getsignalingchannelendpoint") {
                self.script.call.clone()
            } else {
                Answer::Bytes(ok("{}"))
            };
            let more = matches!(answer, Answer::Endpoints | Answer::Bytes(_))
                && !lower.contains("upgrade:");
            if self.say(&mut stream, answer).await.is_err() {
                return;
            }
            if !more {
                // The connection stays open and silent, so the viewer's own timeout must end the
                // wait.
                return std::future::pending().await;
            }
        }
    }

    async fn say(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        answer: Answer,
    ) -> std::io::Result<()> {
        match answer {
            Answer::Endpoints => {
                let socket = self.script.socket.clone();
                let socket = socket.unwrap_or_else(|| self.url.replacen("http", "ws", 1));
                self.write(stream, &ok(&endpoints(&self.url, &socket))).await
            }
            Answer::Bytes(bytes) => self.write(stream, &bytes).await,
            Answer::Repeated { head, again, bytes } => {
                self.write(stream, &head).await?;
                let chunk = again.repeat((CHUNK / again.len()).max(1));
                for _ in 0..bytes / chunk.len() {
                    self.write(stream, &chunk).await?;
                }
                Ok(())
            }
            Answer::Dripping { head, every } => {
                self.write(stream, &head).await?;
                loop {
                    self.write(stream, b" ").await?;
                    sleep(every).await;
                }
            }
        }
    }

    async fn write(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> std::io::Result<()> {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }
}

/// Returns a response body with these endpoints.
pub(crate) fn endpoints(https: &str, wss: &str) -> String {
    format!(
        r#"{{"ResourceEndpointList":[{{"Protocol":"HTTPS","ResourceEndpoint":"{https}"}},{{"Protocol":"WSS","ResourceEndpoint":"{wss}"}}]}}"#
    )
}

/// Returns a complete response with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

/// The viewer's signaling port.
pub(crate) struct Viewer {
    port: AwsSignaling,
}

pub(crate) const LINK: ConnectionId = ConnectionId(1);

impl Viewer {
    /// Creates a viewer with short limits.
    pub(crate) fn new(reach: SignalingConfigBuilder) -> Self {
        let limits = Limits {
            call: Duration::from_secs(2),
            connection_open: Duration::from_secs(3),
            ping: Duration::from_millis(50),
            silence: Duration::from_millis(400),
            write: Duration::from_secs(1),
            ..Limits::default()
        };
        Self { port: AwsSignaling::new(reach.limits(limits).build().expect("it can work")) }
    }

    pub(crate) async fn connect(&mut self) -> Result<Done, Failure> {
        let ticket = Ticket { attempt: 1, seq: 1 };
        let command = SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None };
        self.port.submit(ticket, command);
        loop {
            if let SignalingInput::Completed(Completion { outcome, .. }) = self.next().await {
                return outcome;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> SignalingInput {
        timeout(PATIENCE, self.port.next()).await.expect("the port has something to say")
    }

    /// Waits for the next event of the connection.
    pub(crate) async fn event(&mut self) -> SignalingEvent {
        loop {
            if let SignalingInput::Event(LINK, event) = self.next().await {
                return event;
            }
        }
    }

    /// Waits until the connection ends, and returns the reason.
    pub(crate) async fn end(&mut self) -> Failure {
        loop {
            if let SignalingEvent::Disconnected(failure) = self.event().await {
                return failure;
            }
        }
    }
}
