//! One WebSocket: dialling, the upgrade, pings, bounded reads and writes, closing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use negotiation_core::{Failure, FailureCode};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::{Host, Url};

use crate::config::Limits;
use crate::error;
use crate::presign::SignedUrl;
use crate::proxy::{Duplex, Route};
use crate::upgrade::{Refusal, upgrade};
use crate::wire::{self, FRAME_BYTES_MAX, Incoming};

/// Above this a message ends the link; up to it, one that is too long is garbage.
const MESSAGE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Most that waits to be sent. Each ping is owed a pong, also to one who pings and never reads.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// The next address is tried this long after the one before (RFC 8305).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What it is called when it fails.
const WHAT: &str = "the signaling socket";

/// An open link.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Box<dyn Duplex>>,
    limits: Limits,
    heard: Instant,
    ping_at: Instant,
}

impl Socket {
    /// Opens a link. The limit of the whole is the caller's.
    pub(crate) async fn open(
        url: &SignedUrl,
        tls: Option<&Arc<rustls::ClientConfig>>,
        route: &Route,
        limits: Limits,
    ) -> Result<Self, Refusal> {
        let unusable =
            || Refusal::Transport(Failure::new(FailureCode::Service, "the endpoint has no host"));
        let parsed = Url::parse(url.expose()).map_err(|_| unusable())?;
        let host = parsed.host().ok_or_else(unusable)?;
        let connection: Box<dyn Duplex> = match (route.to(&parsed), tls) {
            (Some(hop), Some(tls)) => hop.connect(WHAT, tls).await.map_err(Refusal::Transport)?,
            (Some(_) | None, _) => {
                let port = parsed.port_or_known_default().ok_or_else(unusable)?;
                let tcp = dial(&host, port).await.map_err(Refusal::Transport)?;
                // Messages are small and each one is waited for.
                let _ = tcp.set_nodelay(true);
                Box::new(tcp)
            }
        };
        let connection: Box<dyn Duplex> = match tls {
            None => connection,
            Some(tls) => {
                let name = server_name(&host).ok_or_else(unusable)?;
                let secured = TlsConnector::from(tls.clone()).connect(name, connection).await;
                let failed = |error| Refusal::Transport(error::transport(WHAT, &error));
                Box::new(secured.map_err(failed)?)
            }
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(UNSENT_BYTES_MAX);
        let stream = upgrade(connection, url, config).await?;
        let now = Instant::now();
        Ok(Self { stream, limits, heard: now, ping_at: now + limits.ping })
    }

    /// The next message; pings meanwhile. Cancel-safe.
    ///
    /// # Errors
    /// The link is over, and why.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Failure> {
        let now = Instant::now();
        if now > self.heard + self.limits.silence && now > self.ping_at {
            // Nobody listened for a while, so the silence was ours.
            self.heard = now;
        }
        loop {
            let silent_at = self.heard + self.limits.silence;
            tokio::select! {
                // What has come counts before the time that has passed.
                biased;
                frame = self.stream.next() => {
                    let message = match frame {
                        None => return Err(error::closed(None)),
                        Some(Err(error)) => return Err(error::socket(&error)),
                        Some(Ok(message)) => message,
                    };
                    self.heard = Instant::now();
                    match message {
                        Message::Text(text) => return Ok(wire::decode(&text)),
                        Message::Binary(_) => return Ok(Incoming::Garbage),
                        Message::Close(frame) => {
                            return Err(error::closed(frame.map(|f| f.code.into())));
                        }
                        // Answered by the library, with the next read.
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

    /// Sends a text. After an error the link is over.
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

    /// Says goodbye, waits for the other end's within the limit, and frees the descriptor.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            // Refused where the other end said goodbye first; then the answer to it, which is
            // queued, goes out with the next read.
            let _ = self.stream.close(None).await;
            while let Some(Ok(_)) = self.stream.next().await {}
        };
        // Out of patience or done: dropping the socket closes it either way.
        let _ = timeout(self.limits.close, goodbye).await;
    }
}

/// Whom the certificate has to name.
fn server_name(host: &Host<&str>) -> Option<ServerName<'static>> {
    match host {
        Host::Ipv4(ip) => Some(ServerName::IpAddress((*ip).into())),
        Host::Ipv6(ip) => Some(ServerName::IpAddress((*ip).into())),
        Host::Domain(name) => ServerName::try_from((*name).to_owned()).ok(),
    }
}

/// Connects to the first address that answers, beginning a next one every moment: one address
/// family that leads nowhere costs a quarter of a second, not the whole limit.
async fn dial(host: &Host<&str>, port: u16) -> Result<TcpStream, Failure> {
    let mut waiting: VecDeque<SocketAddr> = match host {
        Host::Ipv4(ip) => VecDeque::from([SocketAddr::from((*ip, port))]),
        Host::Ipv6(ip) => VecDeque::from([SocketAddr::from((*ip, port))]),
        Host::Domain(name) => {
            let found = lookup_host((*name, port)).await.map_err(|_| {
                Failure::new(FailureCode::Dns, format!("the host name {name} does not resolve"))
            })?;
            alternate(found)
        }
    };
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(TcpStream::connect(address));
        }
        tokio::select! {
            result = running.next(), if !running.is_empty() => match result {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = Some(error),
                None => {}
            },
            () = sleep(ADDRESS_STAGGER), if !waiting.is_empty() => {}
            else => return Err(match last {
                Some(error) => error::transport(WHAT, &error),
                None => Failure::new(FailureCode::Dns, "the host name has no address"),
            }),
        }
    }
}

/// One address of each family in turn, in the resolver's order.
fn alternate(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = (VecDeque::new(), VecDeque::new());
    for address in found {
        let same = first.front().is_none_or(|f: &SocketAddr| f.is_ipv4() == address.is_ipv4());
        if same { first.push_back(address) } else { second.push_back(address) }
    }
    let mut out = VecDeque::new();
    while out.len() < ADDRESSES_MAX && !(first.is_empty() && second.is_empty()) {
        out.extend(first.pop_front());
        out.extend(second.pop_front());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_alternate() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|t| t.parse().expect("address")).collect()
        };
        let found = parse(&["[::1]:1", "[::2]:1", "1.1.1.1:1"]);
        assert_eq!(
            Vec::from(alternate(found.into_iter())),
            parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1"])
        );
    }
}
