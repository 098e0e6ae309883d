//! Connections through a proxy, by CONNECT, for networks without direct connections: HTTPS, the
//! signaling socket and TURN over streams. Plain HTTP and WS are on loopback and never use the
//! proxy.

use std::env;
use std::fmt;
use std::sync::Arc;

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use negotiation_core::Failure;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service as _;
use url::Url;
use viewer_session::redact::{self, Origin};

use crate::error::{self, BoxError};
use crate::tls::Trust;

/// The hosts of this machine: a proxy for the network does not apply to an emulator on loopback.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

/// Selects the proxy for HTTPS, the signaling socket and streams of [`SignalingConfig::detour`].
///
/// [`SignalingConfig::detour`]: crate::SignalingConfig::detour
#[derive(Clone, Default)]
pub enum Proxy {
    /// `HTTPS_PROXY`, but not for the hosts of `NO_PROXY` nor for this machine; both names may be
    /// in lower case.
    #[default]
    Environment,
    /// None, even if the environment names one.
    Off,
    /// This one.
    Via {
        /// `http://[USER:PASSWORD@]HOST:PORT`, or `https://` for TLS with the proxy itself.
        url: String,
        /// Hosts that are reached without it: names with their subdomains, addresses, networks
        /// (`10.0.0.0/8`), separated by commas; `*` is all.
        no_proxy: String,
    },
}

impl fmt::Debug for Proxy {
    /// Leaves out the URL, since that may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::Off => "Off",
            Self::Via { .. } => "Via(..)",
        })
    }
}

impl Proxy {
    /// Checks the setting and returns the route. An error message never repeats the URL.
    pub(crate) fn route(&self) -> Result<Route, String> {
        match self {
            Self::Off => Ok(Route::default()),
            Self::Via { url, no_proxy } => Route::through(url, no_proxy),
            Self::Environment => match variable(["HTTPS_PROXY", "https_proxy"]) {
                None => Ok(Route::default()),
                Some(url) => {
                    let no_proxy = variable(["NO_PROXY", "no_proxy"]).unwrap_or_default();
                    Route::through(&url, &format!("{no_proxy},{THIS_MACHINE}"))
                        .map_err(|problem| format!("{problem} (from HTTPS_PROXY)"))
                }
            },
        }
    }
}

fn variable(names: [&str; 2]) -> Option<String> {
    names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

/// The route to a host: direct, or through a proxy.
#[derive(Clone, Default)]
pub(crate) struct Route(Option<Arc<Matcher>>);

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Route(proxy)" } else { "Route(direct)" })
    }
}

impl Route {
    fn through(url: &str, no_proxy: &str) -> Result<Self, String> {
        // As in curl, a proxy without a scheme is used over plain HTTP.
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let parsed = Url::parse(&url).ok().filter(|parsed| {
            matches!(parsed.scheme(), "http" | "https") && parsed.host().is_some()
        });
        let parsed = parsed.ok_or("is no proxy; one looks like http://HOST:PORT")?;
        if let Some(password) = parsed.password() {
            redact::remember(Origin::Account, password);
        }
        // The matcher drops a proxy that it cannot use, and traffic would bypass the proxy.
        let anywhere = http::Uri::from_static("https://example.com/");
        if Matcher::builder().https(url.clone()).build().intercept(&anywhere).is_none() {
            return Err("is no proxy; one looks like http://HOST:PORT".to_owned());
        }
        let matcher = Matcher::builder().https(url).no(no_proxy.to_owned()).build();
        Ok(Self(Some(Arc::new(matcher))))
    }

    /// Returns the proxy for an `https://` or `wss://` endpoint, if there is one.
    pub(crate) fn to(&self, endpoint: &Url) -> Option<ProxyTunnel> {
        if !matches!(endpoint.scheme(), "https" | "wss") {
            return None;
        }
        self.hop(endpoint.authority())
    }

    /// Connects other streams; see [`crate::SignalingConfig::detour`].
    pub(crate) async fn around(
        self,
        trust: Trust,
        host: String,
        port: u16,
    ) -> Result<Option<Box<dyn Duplex>>, Failure> {
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let host = if is_bare_ipv6 { format!("[{host}]") } else { host };
        let Some(hop) = self.hop(&format!("{host}:{port}")) else { return Ok(None) };
        let tunnel = async { hop.tunnel(&trust.client_config()?).await };
        let tunnel = tunnel
            .await
            .map_err(|error| error::transport("a host behind the proxy", error.as_ref()))?;
        Ok(Some(tunnel))
    }

    /// Returns the proxy for `HOST:PORT`, if there is one.
    fn hop(&self, authority: &str) -> Option<ProxyTunnel> {
        let target: http::Uri = format!("https://{authority}/").parse().ok()?;
        let intercept = self.0.as_ref()?.intercept(&target)?;
        Some(ProxyTunnel { intercept, target })
    }
}

/// A proxy and the host behind it.
pub(crate) struct ProxyTunnel {
    intercept: Intercept,
    target: http::Uri,
}

/// A connection, direct or through a proxy.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Duplex for T {}

impl ProxyTunnel {
    /// Requests a connection to the host from the proxy. Reads at most 8 KiB of its response.
    pub(crate) async fn tunnel(self, tls: &Arc<ClientConfig>) -> Result<Box<dyn Duplex>, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // This TLS is with a proxy that requires it; TLS with the service runs inside the tunnel.
        let proxy = HttpsConnector::from((tcp, tls.clone()));
        let mut tunnel = Tunnel::new(self.intercept.uri().clone(), proxy);
        if let Some(credentials) = self.intercept.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let connection = tunnel.call(self.target).await?;
        Ok(Box::new(TokioIo::new(connection)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(no_proxy: &str) -> Route {
        Route::through("http://user:pass-canary@127.0.0.1:3128", no_proxy).expect("valid")
    }

    fn is_proxied(route: &Route, endpoint: &str) -> bool {
        route.to(&Url::parse(endpoint).expect("a URL")).is_some()
    }

    #[test]
    fn hosts_of_no_proxy_and_plain_sockets_go_direct() {
        let some = route("example.com, 10.0.0.0/8,::1");
        for direct in
            ["wss://example.com/x", "wss://a.example.com", "wss://10.1.2.3:8443", "wss://[::1]:1"]
        {
            assert!(!is_proxied(&some, direct), "{direct}");
        }
        for proxied in ["wss://v.kinesisvideo.us-west-2.amazonaws.com", "wss://notexample.com:1"] {
            assert!(is_proxied(&some, proxied), "{proxied}");
        }
        assert!(!is_proxied(&route(""), "ws://127.0.0.1:1"));
        assert!(!is_proxied(&route("*"), "wss://example.com"));
        assert!(!is_proxied(&Proxy::Off.route().expect("valid"), "wss://example.com"));
    }

    #[test]
    fn invalid_proxy_is_refused_without_password_in_error() {
        for bad in ["", "http://", "socks5://user:pass-canary@x:1", "ftp://user:pass-canary@x"] {
            let proxy = Proxy::Via { url: bad.into(), no_proxy: String::new() };
            let problem = proxy.route().expect_err(bad);
            assert!(!format!("{problem}{proxy:?}").contains("canary"), "{problem}");
        }
        let route = Route::through("user:pass-canary@proxy.example:3128", "").expect("plain HTTP");
        assert!(is_proxied(&route, "wss://example.com"));
        assert!(!format!("{route:?}").contains("canary"));
    }
}
