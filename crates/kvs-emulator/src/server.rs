//! The emulator's port: accepting, TLS, and HTTP/1.1 connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::connections::OnConnection;
use crate::http;
use crate::peer::OpenConnection;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::wire_delay;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the next request's head may take; clients keep connections for a while.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after an accept that failed, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the emulator stops.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let slots = Arc::new(Semaphore::new(shared.config.connections_max));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small frames in both directions: waiting for more of them only delays answers.
        let _ = stream.set_nodelay(true);
        let rtt = shared.wire_rtt();
        let rtt_ms = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
        let tcp = shared.connections.open(peer, rtt_ms);
        let connection = Arc::new(OpenConnection { shared: shared.clone(), tcp });
        let peer = Peer { addr: peer, slot: Arc::new(slot), connection };
        let (serving, tls) = (shared.clone(), tls.clone());
        if rtt.is_zero() {
            shared.spawn(serve(serving, stream, peer, tls));
        } else {
            let (stream, carrying) = wire_delay::delayed(stream, rtt);
            // The slot stays in use until the last byte is delivered.
            let slot = peer.slot.clone();
            shared.spawn(async move {
                carrying.await;
                drop(slot);
            });
            shared.spawn(serve(serving, stream, peer, tls));
        }
    }
}

async fn serve<S>(shared: Arc<Shared>, stream: S, peer: Peer, tls: Option<TlsAcceptor>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr;
    match tls {
        None => serve_http(shared, stream, peer).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                shared.connections.note(peer.connection.tcp, OnConnection::Tls { resumed });
                serve_http(shared, stream, peer).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %addr, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(peer = %addr, "TLS handshake took too long"),
        },
    }
}

async fn serve_http<S>(shared: Arc<Shared>, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr;
    let service = service_fn(|request| http::handle(shared.clone(), peer.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(peer = %addr, %error, "connection ended");
    }
}
