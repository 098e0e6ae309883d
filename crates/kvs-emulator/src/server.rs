//! The one port: accepting, TLS, and HTTP/1.1 connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Peer};
use crate::shared::Shared;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the next request's head may take; clients keep connections for a while.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// After an accept that failed, mostly for want of descriptors.
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
        let (connection, tls) = (shared.clone(), tls.clone());
        shared.spawn(async move {
            let peer = Peer { addr: peer, slot: Arc::new(slot) };
            serve(connection, stream, peer, tls).await;
        });
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: Peer, tls: Option<TlsAcceptor>) {
    let addr = peer.addr;
    // Small frames in both directions: waiting for more of them only delays answers.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve_http(shared, stream, peer).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_http(shared, stream, peer).await,
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
