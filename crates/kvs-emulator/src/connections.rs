//! The log of TCP connections: a bounded, numbered list, and a file of it for scripts.
//!
//! With it, a benchmark or a test counts a client's TLS handshakes and its successive requests.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::EmulatorError;
use crate::sync::lock;

/// Most events that wait for the file.
const WAITING_MAX: usize = 4096;
/// Most characters of a client's text in an event.
const QUOTED_MAX: usize = 64;

/// An event on a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectionEvent {
    /// The event's number, from 1, without gaps.
    pub seq: u64,
    /// Microseconds since the emulator started.
    pub at_us: u64,
    /// The number of the TCP connection, from 1.
    pub tcp: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: OnConnection,
}

/// What happened on a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnConnection {
    /// The connection was accepted.
    Opened {
        /// The client's address.
        peer: SocketAddr,
        /// The round-trip time that was put on it, in milliseconds.
        rtt_ms: u64,
    },
    /// A TLS handshake was completed.
    Tls {
        /// Whether the handshake resumed an earlier session.
        resumed: bool,
    },
    /// The head of an HTTP request arrived.
    Request {
        /// The API's name; for a WebSocket `ConnectAsViewer` or `ConnectAsMaster`.
        call: String,
        /// The id of the access key that the request names, before the signature is checked.
        access_key: Option<String>,
    },
    /// The request was answered.
    Response {
        /// The HTTP status; none when the connection was reset by a fault.
        status: Option<u16>,
    },
    /// A message of the client arrived on the WebSocket. Candidates are left out.
    Received {
        /// Its type.
        message: &'static str,
    },
    /// A message was sent to the client on the WebSocket. Candidates are left out.
    Sent {
        /// Its type.
        message: &'static str,
    },
    /// The connection ended.
    Closed,
}

/// The list, and the file.
#[derive(Debug)]
pub(crate) struct Connections {
    begun: Instant,
    events_max: usize,
    last: AtomicU64,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    seq: u64,
    events: VecDeque<ConnectionEvent>,
    file: Option<SyncSender<ConnectionEvent>>,
    writer: Option<JoinHandle<()>>,
    lost: u64,
}

impl Connections {
    /// Keeps the last `events_max` events in memory.
    pub(crate) fn new(begun: Instant, events_max: usize) -> Self {
        Self { begun, events_max, last: AtomicU64::new(0), list: Mutex::default() }
    }

    /// Writes every event from now on to a file too, one JSON object a line.
    pub(crate) fn write_to(&self, path: &Path) -> Result<(), EmulatorError> {
        let failed = |source| EmulatorError::File { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        let (to, events) = sync_channel(WAITING_MAX);
        let shown = path.display().to_string();
        let writing = move || {
            if let Err(error) = write(file, &events) {
                tracing::warn!(%error, file = shown, "the connection log ends");
            }
        };
        let writer = std::thread::Builder::new().name("connection-log".into()).spawn(writing);
        let mut list = lock(&self.list);
        list.writer = Some(writer.map_err(failed)?);
        list.file = Some(to);
        Ok(())
    }

    /// The number of a new connection.
    pub(crate) fn open(&self, peer: SocketAddr, rtt_ms: u64) -> u64 {
        let tcp = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.note(tcp, OnConnection::Opened { peer, rtt_ms });
        tcp
    }

    pub(crate) fn note(&self, tcp: u64, what: OnConnection) {
        tracing::debug!(tcp, ?what, "connection");
        let mut list = lock(&self.list);
        list.seq += 1;
        let at_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let event = ConnectionEvent { seq: list.seq, at_us, tcp, what };
        if let Some(file) = &list.file
            && file.try_send(event.clone()).is_err()
        {
            list.lost += 1;
            if list.lost == 1 {
                tracing::warn!("the connection log is not whole: its file is too slow");
            }
        }
        if list.events.len() >= self.events_max {
            list.events.pop_front();
        }
        list.events.push_back(event);
    }

    /// Returns the kept events after the event number `after`.
    pub(crate) fn after(&self, after: u64) -> Vec<ConnectionEvent> {
        lock(&self.list).events.iter().filter(|event| event.seq > after).cloned().collect()
    }

    /// Waits until the file is whole. Blocks.
    pub(crate) fn finish(&self) {
        let writer = {
            let mut list = lock(&self.list);
            list.file = None;
            list.writer.take()
        };
        if let Some(writer) = writer {
            // The join fails only if the thread panicked, which has been reported.
            let _ = writer.join();
        }
    }
}

fn write(file: File, events: &Receiver<ConnectionEvent>) -> std::io::Result<()> {
    let mut file = BufWriter::new(file);
    while let Ok(event) = events.recv() {
        line(&mut file, &event)?;
        while let Ok(event) = events.try_recv() {
            line(&mut file, &event)?;
        }
        // A script may read the file while it grows, and a kill of the emulator loses no event.
        file.flush()?;
    }
    file.flush()
}

fn line(file: &mut impl std::io::Write, event: &ConnectionEvent) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, event)?;
    file.write_all(b"\n")
}

/// Returns the access key's id that a request names in its header or its presigned URL.
pub(crate) fn access_key(authorization: Option<&str>, query: &str) -> Option<String> {
    let in_header = authorization.and_then(|text| text.split_once("Credential="));
    let in_query = || query.split_once("X-Amz-Credential=");
    let (_, credential) = in_header.or_else(in_query)?;
    let id: String =
        credential.chars().take_while(char::is_ascii_alphanumeric).take(QUOTED_MAX).collect();
    (!id.is_empty()).then_some(id)
}

/// The type of a WebSocket message in either direction, where it is an offer or an answer.
pub(crate) fn description(frame: &str) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(rename = "messageType", alias = "action", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let typed: Typed<'_> = serde_json::from_str(frame).ok()?;
    ["SDP_OFFER", "SDP_ANSWER"].into_iter().find(|kind| *kind == typed.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const EVENTS: usize = 4096;

    #[tokio::test]
    async fn connection_events_are_numbered_bounded_and_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connections.jsonl");
        let connections = Connections::new(Instant::now() - Duration::from_secs(1), EVENTS);
        connections.write_to(&path).unwrap();
        let tcp = connections.open("127.0.0.1:9".parse().unwrap(), 50);
        let rest = 2 * EVENTS as u64;
        for n in 0..rest {
            connections.note(tcp, OnConnection::Tls { resumed: false });
            if n.is_multiple_of(512) {
                // The file's thread has a bounded queue too.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(connections.after(0).len(), EVENTS);
        assert_eq!(connections.after(rest).len(), 1, "only what came after");
        connections.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(
            (&first["seq"], &first["tcp"], &first["rtt_ms"]),
            (&1.into(), &1.into(), &50.into())
        );
        assert_eq!((&first["event"], &first["peer"]), (&"opened".into(), &"127.0.0.1:9".into()));
        assert!(first["at_us"].as_u64() >= Some(1_000_000), "{first}");
    }

    #[test]
    fn access_key_is_read_from_header_and_url() {
        let header = "AWS4-HMAC-SHA256 Credential=AKIA1/20260101/us-west-2/x/aws4_request, Signed";
        assert_eq!(access_key(Some(header), "").as_deref(), Some("AKIA1"));
        let query = "X-Amz-Algorithm=A&X-Amz-Credential=AKIA2%2F2026&X-Amz-Date=1";
        assert_eq!(access_key(None, query).as_deref(), Some("AKIA2"));
        assert_eq!(access_key(None, "X-Amz-Credential=%2F"), None);
        assert_eq!(access_key(Some("Basic x"), "").as_deref(), None);
        let long = format!("Credential={}", "A".repeat(1000));
        assert_eq!(access_key(Some(&long), "").map(|id| id.len()), Some(QUOTED_MAX));
    }

    #[test]
    fn only_session_descriptions_are_logged() {
        assert_eq!(
            description(r#"{"messageType":"SDP_ANSWER","messagePayload":""}"#),
            Some("SDP_ANSWER")
        );
        assert_eq!(description(r#"{"messageType":"ICE_CANDIDATE"}"#), None);
        assert_eq!(description("SDP_ANSWER"), None);
    }
}
