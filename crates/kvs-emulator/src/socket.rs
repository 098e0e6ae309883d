//! One open signaling socket: frames in, frames out, idle and age limits, and its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::connection_guard::ConnectionGuard;
use crate::connections::{self, OnConnection};
use crate::fault::{Frame, Then};
use crate::presence::Why;
use crate::relay::{Connection, Outgoing};
use crate::routing::{self, SendQuota};
use crate::shared::Shared;
use crate::socket_actions;

/// API Gateway, which carries the real service, ends a socket at a larger message.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Most bytes that wait to be sent: a frame, and pongs for a client that pings and never reads.
const UNSENT_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
/// A client that takes no frame for this long is cut.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The action of a fault on the socket, and the delay before it.
pub(crate) type Scheduled = Option<(Duration, Then)>;

/// Serves the socket until it ends, and frees its connection.
pub(crate) async fn run<S>(
    mut guard: ConnectionGuard,
    connection: Connection,
    io: S,
    scheduled: Scheduled,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .max_write_buffer_size(UNSENT_BYTES_MAX);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (shared, kill) = (guard.shared().clone(), connection.kill.clone());
    let tcp = guard.tcp();
    guard.why = tokio::select! {
        () = kill.cancelled() => Why::Service,
        () = shared.stop.cancelled() => Why::Stopped,
        why = serve(&shared, tcp, connection, socket, scheduled) => why,
    };
}

async fn serve<S>(
    shared: &Arc<Shared>,
    tcp: Option<u64>,
    mut connection: Connection,
    mut socket: WebSocketStream<S>,
    scheduled: Scheduled,
) -> Why
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lifetimes = &shared.lifetimes;
    let unknowns = &shared.config.unknowns;
    let opened = Instant::now();
    let mut quota = SendQuota::new(&shared.config.quotas, opened);
    let mut received_at = opened;
    let mut age_limit = Some(opened + lifetimes.age);
    let mut gone_at: Option<Instant> = None;
    let mut fault = scheduled.map(|(after, then)| (opened + after, then));
    let mut injected = VecDeque::new();
    let mut injected_at = opened;
    loop {
        // The fault comes before queued commands: a timer fires only with its clock's next tick.
        if let Some((_, then)) = fault.take_if(|(when, _)| *when <= Instant::now()) {
            if matches!(then, Then::Stall) {
                return stall(&mut connection).await;
            }
            socket_actions::apply(shared, &connection.link, &then);
        }
        let idle_limit = received_at + lifetimes.idle;
        let close = |code, why| Next::Send(Some(Outgoing::Close(code, why)));
        let next = tokio::select! {
            frame = socket.next() => Next::Frame(frame),
            outgoing = connection.outgoing.recv(), if injected.is_empty() => Next::Send(outgoing),
            () = at(Some(injected_at)), if !injected.is_empty() => Next::Injected,
            () = at(Some(idle_limit)) => close(unknowns.idle_close_code, Why::Idle),
            () = at(gone_at) => close(unknowns.age_close_code, Why::Age),
            () = at(age_limit) => {
                age_limit = None;
                if unknowns.age_sends_go_away {
                    Next::Send(Some(Outgoing::GoAway))
                } else {
                    close(unknowns.age_close_code, Why::Age)
                }
            }
            () = at(fault.as_ref().map(|(when, _)| *when)) => Next::Fault,
        };
        let outgoing = match next {
            Next::Frame(Some(Ok(frame))) => {
                if unknowns.pings_reset_idle
                    || !matches!(frame, Message::Ping(_) | Message::Pong(_))
                {
                    received_at = Instant::now();
                }
                match frame {
                    Message::Text(text) => {
                        note(shared, tcp, text.as_str(), |message| OnConnection::Received {
                            message,
                        });
                        routing::handle_text(shared, &connection, &mut quota, text.as_str());
                    }
                    // No client uses binary frames (docs/kvs-protocol.md 2.3).
                    Message::Binary(_) => tracing::debug!("binary frame passed over"),
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    Message::Close(_) => {
                        finish(&mut socket).await;
                        return Why::Closed;
                    }
                }
                continue;
            }
            Next::Frame(Some(Err(error))) => {
                tracing::debug!(connection = connection.link.id, %error, "socket failed");
                return Why::Lost;
            }
            Next::Frame(None) | Next::Send(None) => return Why::Lost,
            Next::Fault => continue,
            Next::Injected => {
                if let Some(frame) = injected.pop_front()
                    && !send(&mut socket, wire_form(frame)).await
                {
                    return Why::Lost;
                }
                injected_at = Instant::now() + injected.front().map_or(Duration::ZERO, pause);
                continue;
            }
            Next::Send(Some(outgoing)) => outgoing,
        };
        let text = match outgoing {
            Outgoing::Text(text) => text,
            Outgoing::Injected(frames) => {
                injected.extend(frames);
                injected_at = Instant::now();
                continue;
            }
            Outgoing::GoAway => {
                gone_at = gone_at.or(Some(Instant::now() + lifetimes.go_away_grace));
                shared.go_away()
            }
            Outgoing::Close(code, why) => {
                close_with(&mut socket, code).await;
                return why;
            }
            Outgoing::Stall => return stall(&mut connection).await,
        };
        note(shared, tcp, &text, |message| OnConnection::Sent { message });
        if !send(&mut socket, Message::text(text)).await {
            return Why::Lost;
        }
    }
}

/// Adds an offer or an answer to the connection's log.
fn note(
    shared: &Shared,
    tcp: Option<u64>,
    frame: &str,
    what: impl FnOnce(&'static str) -> OnConnection,
) {
    if let Some(tcp) = tcp
        && let Some(message) = connections::description(frame)
    {
        shared.connections.note(tcp, what(message));
    }
}

enum Next {
    Frame(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Send(Option<Outgoing>),
    Injected,
    Fault,
}

/// Sends a message; `false` when the client does not accept it in time.
async fn send<S>(socket: &mut WebSocketStream<S>, message: Message) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    matches!(tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

fn wire_form(injected: Frame) -> Message {
    match injected {
        Frame::Text(text) => Message::text(text),
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Part { text, first, last, .. } => {
            use frame::coding::{Data, OpCode};
            let code = OpCode::Data(if first { Data::Text } else { Data::Continue });
            Message::Frame(frame::Frame::message(text, code, last))
        }
    }
}

/// The pause before a frame.
fn pause(injected: &Frame) -> Duration {
    match injected {
        Frame::Part { after, .. } => *after,
        Frame::Text(_) | Frame::Binary(_) => Duration::ZERO,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Keeps TCP open without reading or writing, until a close or a cut from outside.
async fn stall(connection: &mut Connection) -> Why {
    while let Some(outgoing) = connection.outgoing.recv().await {
        if let Outgoing::Close(_, why) = outgoing {
            return why;
        }
    }
    Why::Lost
}

async fn close_with<S>(socket: &mut WebSocketStream<S>, code: u16)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: code.into(), reason: "".into() };
    let closing = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            finish(socket).await;
        }
    };
    // A client that does not answer is cut.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

/// Reads to the end, so that the close handshake completes.
async fn finish<S>(socket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let draining = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, draining).await;
}
