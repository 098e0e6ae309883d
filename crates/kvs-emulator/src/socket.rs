//! One open signaling socket: frames in, frames out, idle and age limits, and its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::courier::{self, SendQuota};
use crate::fault::Then;
use crate::relay::{Outgoing, Seat};
use crate::shared::Shared;
use crate::sync::lock;

/// API Gateway, which carries the real service, ends a socket at a larger message.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// A client that takes no frame for this long is cut.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client has to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that happens to the socket by fault.
pub(crate) type Scheduled = Option<(Duration, Then)>;

/// Serves the socket until it ends, and frees its seat.
pub(crate) async fn run<S>(leaving: Leaving, seat: Seat, io: S, scheduled: Scheduled)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (shared, kill) = (&leaving.shared, seat.kill.clone());
    tracing::info!(connection = seat.link.id, channel = seat.channel, role = ?seat.role,
        client_id = seat.client_id, "client joined");
    tokio::select! {
        () = kill.cancelled() => {}
        () = shared.stop.cancelled() => {}
        () = serve(shared, seat, socket, scheduled) => {}
    }
}

/// Frees the seat however the socket's task ends, also when it never ran.
pub(crate) struct Leaving {
    pub(crate) shared: Arc<Shared>,
    pub(crate) arn: String,
    pub(crate) id: u64,
    pub(crate) _slot: Arc<OwnedSemaphorePermit>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        lock(&self.shared.relay).leave(&self.arn, self.id, Instant::now());
        tracing::info!(connection = self.id, "client left");
    }
}

async fn serve<S>(
    shared: &Arc<Shared>,
    mut seat: Seat,
    mut socket: WebSocketStream<S>,
    scheduled: Scheduled,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lifetimes = &shared.config.lifetimes;
    let unknowns = &shared.config.unknowns;
    let opened = Instant::now();
    let mut quota = SendQuota::new(&shared.config.quotas, opened);
    let mut heard = opened;
    let mut age_limit = Some(opened + lifetimes.age);
    let mut gone_at: Option<Instant> = None;
    let mut fault = scheduled.map(|(after, then)| (opened + after, then));
    loop {
        let idle_limit = heard + lifetimes.idle;
        let next = tokio::select! {
            frame = socket.next() => Next::Frame(frame),
            outgoing = seat.outgoing.recv() => Next::Send(outgoing),
            () = at(Some(idle_limit)) => Next::Send(Some(Outgoing::Close(unknowns.idle_close_code))),
            () = at(gone_at) => Next::Send(Some(Outgoing::Close(unknowns.age_close_code))),
            () = at(age_limit) => {
                age_limit = None;
                Next::Send(Some(if unknowns.age_sends_go_away {
                    Outgoing::GoAway
                } else {
                    Outgoing::Close(unknowns.age_close_code)
                }))
            }
            () = at(fault.map(|(when, _)| when)) => Next::Fault(fault.take().map(|(_, then)| then)),
        };
        let outgoing = match next {
            Next::Frame(Some(Ok(frame))) => {
                if unknowns.pings_reset_idle
                    || !matches!(frame, Message::Ping(_) | Message::Pong(_))
                {
                    heard = Instant::now();
                }
                match frame {
                    Message::Text(text) => {
                        courier::handle_text(shared, &seat, &mut quota, text.as_str());
                    }
                    // Not used by any client (kvs.md 2.3).
                    Message::Binary(_) => tracing::debug!("binary frame passed over"),
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    Message::Close(_) => {
                        finish(&mut socket).await;
                        return;
                    }
                }
                continue;
            }
            Next::Frame(Some(Err(error))) => {
                tracing::debug!(connection = seat.link.id, %error, "socket failed");
                return;
            }
            Next::Frame(None) | Next::Send(None) => return,
            Next::Send(Some(outgoing)) => outgoing,
            Next::Fault(None) => continue,
            Next::Fault(Some(then)) => match then {
                Then::Close => Outgoing::Close(1001),
                Then::Cut => return,
                Then::Stall => Outgoing::Stall,
                Then::GoAway => Outgoing::GoAway,
                Then::ReconnectIceServer => Outgoing::Text(shared.reconnect_ice_server()),
            },
        };
        let text = match outgoing {
            Outgoing::Text(text) => text,
            Outgoing::GoAway => {
                gone_at = gone_at.or(Some(Instant::now() + lifetimes.go_away_grace));
                shared.go_away()
            }
            Outgoing::Close(code) => {
                close(&mut socket, code).await;
                return;
            }
            Outgoing::Stall => {
                stall(&mut seat).await;
                return;
            }
        };
        match tokio::time::timeout(WRITE_TIMEOUT, socket.send(Message::text(text))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

enum Next {
    Frame(Option<Result<Message, tokio_tungstenite::tungstenite::Error>>),
    Send(Option<Outgoing>),
    Fault(Option<Then>),
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Half-open: TCP stays up and nothing moves. A close or a cut from outside ends it.
async fn stall(seat: &mut Seat) {
    while let Some(outgoing) = seat.outgoing.recv().await {
        match outgoing {
            Outgoing::Close(_) => return,
            Outgoing::Text(_) | Outgoing::GoAway | Outgoing::Stall => {}
        }
    }
}

async fn close<S>(socket: &mut WebSocketStream<S>, code: u16)
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

/// Reads to the end, so that the close handshake is whole.
async fn finish<S>(socket: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let draining = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, draining).await;
}
