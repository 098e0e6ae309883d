//! The HTTP client of all calls. It opens connections as the signaling socket does: with the same
//! authorities, TLS sessions, proxy and resolver.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;
use tower_service::Service;
use url::Url;

use crate::bounded::bounded;
use crate::dial;
use crate::error::BoxError;
use crate::proxy::{Duplex, Route};
use crate::tls::Trust;

/// A client for calls, which can drop its pooled connections. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Arc<Mutex<SharedHttpClient>>,
    trust: Trust,
    route: Route,
}

impl Http {
    pub(crate) fn new(trust: &Trust, route: &Route) -> Self {
        let client = pooled(trust, route);
        Self { client: Arc::new(Mutex::new(client)), trust: trust.clone(), route: route.clone() }
    }

    pub(crate) fn client(&self) -> SharedHttpClient {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses new connections from now on: a service may close the one on which it refused a request.
    pub(crate) fn renew(&self) {
        let fresh = pooled(&self.trust, &self.route);
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}

/// Creates a client that keeps connections for as long as it lives.
fn pooled(trust: &Trust, route: &Route) -> SharedHttpClient {
    client(trust, route, usize::MAX)
}

/// Creates a client without a pool, for credentials: no connection stays open between requests,
/// which may be far apart.
pub(crate) fn unpooled(trust: &Trust, route: &Route) -> SharedHttpClient {
    client(trust, route, 0)
}

fn client(trust: &Trust, route: &Route, idle_max: usize) -> SharedHttpClient {
    let (trust, route) = (trust.clone(), route.clone());
    bounded(SharedHttpClient::new(Calls { trust, route, idle_max, made: Mutex::default() }))
}

/// Creates a connector for each kind of settings and keeps it, since it holds the connections.
struct Calls {
    trust: Trust,
    route: Route,
    idle_max: usize,
    made: Mutex<Vec<(Timeouts, SharedHttpConnector)>>,
}

type Timeouts = (Option<Duration>, Option<Duration>);

/// Maximum number of kinds that are kept; clients of one configuration have one or two.
const KINDS_MAX: usize = 8;

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

impl HttpClient for Calls {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = made.iter().find(|(kind, _)| *kind == timeouts) {
            return connector.clone();
        }
        let dialer =
            Dialer { trust: self.trust.clone(), route: self.route.clone(), limit: timeouts.0 };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.idle_max)
            .build(dialer);
        let connector = SharedHttpConnector::new(Connector { client, read_limit: timeouts.1 });
        if made.len() >= KINDS_MAX {
            made.remove(0);
        }
        made.push((timeouts, connector.clone()));
        connector
    }
}

struct Connector {
    client: Client<Dialer, SdkBody>,
    read_limit: Option<Duration>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let (response, read_limit) = (self.client.request(request), self.read_limit);
        HttpConnectorFuture::new(async move {
            let response = match read_limit {
                None => response.await,
                Some(limit) => match timeout(limit, response).await {
                    Ok(response) => response,
                    Err(elapsed) => return Err(ConnectorError::timeout(elapsed.into())),
                },
            };
            let response = response.map_err(connector_error)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// Classifies an error as the SDK's own client does.
fn connector_error(error: hyper_util::client::legacy::Error) -> ConnectorError {
    let timed_out = causes(&error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
    });
    let user = causes(&error)
        .any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user));
    match () {
        () if timed_out => ConnectorError::timeout(error.into()),
        () if user => ConnectorError::user(error.into()),
        () => ConnectorError::io(error.into()),
    }
}

/// Whether a connection ended before any byte of a response arrived: then the request may be sent
/// again on another connection.
pub(crate) fn was_cut(error: &ConnectorError) -> bool {
    causes(error).any(|cause| {
        let cut = cause.downcast_ref::<io::Error>().is_some_and(|io| {
            use io::ErrorKind as Kind;
            matches!(io.kind(), Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted)
        });
        let unanswered = cause.downcast_ref::<hyper::Error>().is_some_and(|error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed()
        });
        cut || unanswered
    }) && !causes(error).any(|cause| {
        cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |&cause| match cause.downcast_ref::<io::Error>() {
        // An I/O error's source is its payload's source, so the payload would be skipped.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
        None => cause.source(),
    })
}

/// Opens connections for hyper.
#[derive(Clone)]
struct Dialer {
    trust: Trust,
    route: Route,
    limit: Option<Duration>,
}

impl Service<http::Uri> for Dialer {
    type Response = Dialled;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialled, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let Self { trust, route, limit } = self.clone();
        Box::pin(async move {
            let url = Url::parse(&uri.to_string())?;
            let connection = dial::connect(&url, &trust, &route);
            let connection = match limit {
                None => connection.await?,
                Some(limit) => timeout(limit, connection)
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
            };
            Ok(Dialled(TokioIo::new(connection)))
        })
    }
}

/// A connection with the traits that hyper requires.
struct Dialled(TokioIo<Box<dyn Duplex>>);

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }
}
