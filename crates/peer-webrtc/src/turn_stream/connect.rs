//! Connects to a TURN server by TCP or TLS, directly or by a detour. Certificates are always
//! verified.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::resolver::Resolver;

/// The most bytes of a PEM file: a longer one holds something else.
const PEM_MAX: u64 = 4 * 1024 * 1024;

/// The certificate authorities to trust for TURN servers over TLS: the system's, and others.
#[derive(Clone, Default)]
pub struct Authorities {
    extra: Arc<[CertificateDer<'static>]>,
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Authorities {
    /// Returns the system's authorities only.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// Returns the system's authorities and the certificates of a PEM file. Blocks on the file.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate that can be an authority.
    pub fn with_pem_file(path: &Path) -> Result<Self, InvalidAuthorities> {
        let mut pem = Vec::new();
        let read = File::open(path).and_then(|file| file.take(PEM_MAX).read_to_end(&mut pem));
        read.map_err(|error| InvalidAuthorities(format!("{}: {error}", path.display())))?;
        Self::with_pem(&pem).ok_or_else(|| {
            let shown = path.display();
            InvalidAuthorities(format!("{shown} is no PEM file of certificate authorities"))
        })
    }

    fn with_pem(pem: &[u8]) -> Option<Self> {
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let extra = parsed.ok().filter(|extra| !extra.is_empty())?;
        let mut store = RootCertStore::empty();
        for certificate in &extra {
            store.add(certificate.clone()).ok()?;
        }
        Some(Self { extra: extra.into(), config: Arc::default() })
    }

    fn client_config(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(self.extra.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("extra", &self.extra.len()).finish_non_exhaustive()
    }
}

/// A file that holds no certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAuthorities(String);

impl fmt::Display for InvalidAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidAuthorities {}

/// An indirect route to TURN servers over TCP, such as a proxy.
#[derive(Clone)]
pub struct Detour(Arc<Dial>);

type Dial = dyn Fn(String, u16) -> Dialling + Send + Sync;
type Dialling = Pin<Box<dyn Future<Output = io::Result<Option<Box<dyn Stream>>>> + Send>>;

impl Detour {
    /// Creates a detour from a function that connects to a host and a port, or returns `None` if
    /// the route there is direct. The attempt is cancelled after some seconds; TLS with the server
    /// runs inside the returned stream.
    pub fn by<R, S>(dial: impl Fn(String, u16) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = io::Result<Option<S>>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |host, port| {
            let dialling = dial(host, port);
            Box::pin(async move { Ok(dialling.await?.map(|stream| Box::new(stream) as _)) })
        }))
    }
}

impl fmt::Debug for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detour")
    }
}

/// A TURN server that is reached over a stream.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// With TLS, the authorities to trust.
    pub(super) tls: Option<Authorities>,
    /// The indirect route, if one is configured.
    pub(super) detour: Option<Detour>,
    pub(super) resolver: Resolver,
}

/// A plain or TLS stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Server {
    /// Connects; the caller sets the time limit.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.dial().await?;
        let Some(authorities) = &self.tls else { return Ok(stream) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(authorities.client_config()?);
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        if let Some(Detour(dial)) = &self.detour
            && let Some(stream) = dial(self.host.clone(), self.port).await?
        {
            return Ok(stream);
        }
        let addresses = self.resolver.resolve(&self.host, self.port).await?;
        let stream = TcpStream::connect(&addresses[..]).await?;
        // Small media packets must not be delayed.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn detour_is_used_when_it_returns_a_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let port = listener.local_addr().expect("bound").port();
        let server = |host: &str, detour| {
            let resolver = Resolver::system();
            Server { host: host.into(), port, tls: None, detour, resolver }
        };
        // This detour knows one host, and fails for another.
        let detour = Detour::by(|host: String, port: u16| async move {
            let (mut near, far) = duplex(64);
            match host.as_str() {
                "far.test" => near.write_all(&port.to_be_bytes()).await.map(|()| Some(far)),
                "gone.test" => Err(io::Error::other("no way")),
                _ => Ok(None),
            }
        });
        let reach = |host| server(host, Some(detour.clone()));
        let mut stream = reach("far.test").connect().await.expect("by the detour");
        assert_eq!(stream.read_u16().await.expect("what it said"), port);
        assert!(reach("gone.test").connect().await.is_err(), "it is not tried directly then");
        reach("127.0.0.1").connect().await.expect("directly");
        server("127.0.0.1", None).connect().await.expect("directly");
    }

    #[test]
    fn pem_file_without_authorities_is_refused() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(Authorities::with_pem(text.as_bytes()).is_none(), "{text:?}");
        }
        let nowhere = Authorities::with_pem_file(Path::new("/nowhere/ca.pem"));
        assert!(nowhere.expect_err("no file").to_string().contains("/nowhere/ca.pem"));
    }
}
