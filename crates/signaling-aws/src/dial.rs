//! TCP and TLS connections to the service, for calls and sockets alike.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::endpoint::is_loopback_name;
use crate::error::BoxError;
use crate::proxy::{Duplex, Route};
use crate::tls::Trust;

/// The next address is tried this long after the one before (RFC 8305).
const ADDRESS_STAGGER: Duration = Duration::from_millis(250);

/// Maximum number of addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Connects to the host of a URL, with TLS for `https` and `wss`, through the proxy of the route
/// where it has one. The caller limits the total time.
pub(crate) async fn connect(
    url: &Url,
    trust: &Trust,
    route: &Route,
) -> Result<Box<dyn Duplex>, BoxError> {
    let unusable = || io::Error::new(io::ErrorKind::InvalidInput, "the endpoint has no host");
    let host = url.host().ok_or_else(unusable)?;
    let port = url.port_or_known_default().ok_or_else(unusable)?;
    if !matches!(url.scheme(), "https" | "wss") {
        // A proxy is used for TLS only.
        return Ok(Box::new(tcp(&host, port).await?));
    }
    let tls = trust.client_config()?;
    let connection: Box<dyn Duplex> = match route.to(url) {
        Some(hop) => hop.tunnel(&tls).await?,
        None => Box::new(tcp(&host, port).await?),
    };
    secure(connection, &host, tls).await
}

async fn secure(
    connection: Box<dyn Duplex>,
    host: &Host<&str>,
    tls: Arc<ClientConfig>,
) -> Result<Box<dyn Duplex>, BoxError> {
    // The name that the certificate must contain.
    let name = match host {
        Host::Ipv4(ip) => ServerName::IpAddress((*ip).into()),
        Host::Ipv6(ip) => ServerName::IpAddress((*ip).into()),
        Host::Domain(name) => ServerName::try_from((*name).to_owned())?,
    };
    Ok(Box::new(TlsConnector::from(tls).connect(name, connection).await?))
}

/// Connects to the first address that accepts, and starts with a further address every
/// [`ADDRESS_STAGGER`]: an unreachable address family costs that delay, not the whole limit.
async fn tcp(host: &Host<&str>, port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses(host, port).await?;
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        if let Some(address) = waiting.pop_front() {
            running.push(TcpStream::connect(address));
        }
        tokio::select! {
            result = running.next(), if !running.is_empty() => match result {
                Some(Ok(stream)) => {
                    // Requests and messages are small, and each must leave without delay.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => last = Some(error),
                None => {}
            },
            () = sleep(ADDRESS_STAGGER), if !waiting.is_empty() => {}
            else => return Err(match last {
                Some(error) => error,
                None => unresolved(host),
            }),
        }
    }
}

async fn addresses(host: &Host<&str>, port: u16) -> io::Result<VecDeque<SocketAddr>> {
    let at = |ip| SocketAddr::new(ip, port);
    Ok(match host {
        Host::Ipv4(ip) => VecDeque::from([at((*ip).into())]),
        Host::Ipv6(ip) => VecDeque::from([at((*ip).into())]),
        // RFC 6761, 6.3: these names are this machine, whatever a resolver returns. Plain HTTP is
        // allowed there, so a resolver must not decide the address.
        Host::Domain(name) if is_loopback_name(name) => {
            VecDeque::from([at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())])
        }
        Host::Domain(name) => {
            let found = lookup_host((*name, port)).await.map_err(|_| unresolved(host))?;
            alternate(found)
        }
    })
}

/// Returns an error that [`crate::error::transport`] classifies as a resolver's.
fn unresolved(host: &Host<&str>) -> io::Error {
    io::Error::other(format!("dns error: {host} does not resolve"))
}

/// Orders addresses so that the families alternate, each in the resolver's order.
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

    // Shows: 53, 60.
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

    #[tokio::test]
    async fn loopback_names_are_not_looked_up() {
        for name in ["localhost", "LocalHost.", "no-such-host.localhost"] {
            let url = Url::parse(&format!("http://{name}:9")).expect("a URL");
            let found = addresses(&url.host().expect("a host"), 9).await.expect("no resolver");
            assert!(found.iter().all(|address| address.ip().is_loopback()), "{name}: {found:?}");
            assert_eq!(found.len(), 2, "{name}");
        }
    }
}
