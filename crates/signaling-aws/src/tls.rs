//! Whom to trust: the system's authorities and one extra file, for HTTPS and WSS alike.
//!
//! Certificates are always verified; there is no switch to turn that off.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use negotiation_core::{Failure, FailureCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::bounded::bounded;
use crate::proxy::Route;

/// A CA file bigger than this is none.
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The authorities that are trusted.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    extra: Option<Arc<Extra>>,
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

#[derive(Debug)]
struct Extra {
    pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Trust {
    pub(crate) fn system() -> Self {
        Self { extra: None, config: Arc::default() }
    }

    /// Trusts the certificates of a PEM file as well.
    pub(crate) fn with_ca_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let size = std::fs::metadata(path)
            .map_err(|error| format!("{shown} cannot be read: {error}"))?
            .len();
        if size > CA_FILE_BYTES_MAX {
            return Err(format!("{shown} is too big to be a PEM file of certificates"));
        }
        let pem =
            std::fs::read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| format!("{shown} is no valid PEM file"))?;
        if certificates.is_empty() {
            return Err(format!("{shown} holds no certificate; it needs a PEM CERTIFICATE block"));
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store
                .add(certificate.clone())
                .map_err(|_| format!("{shown} holds a certificate that cannot be an authority"))?;
        }
        Ok(Self { extra: Some(Arc::new(Extra { pem, certificates })), config: Arc::default() })
    }

    /// For sockets.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system_roots().iter().cloned());
        if let Some(extra) = &self.extra {
            roots.add_parsable_certificates(extra.certificates.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::new(FailureCode::Tls, error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }

    /// For calls. Every call for one link has a client of its own, so that with the call its
    /// pooled sockets are gone as well.
    pub(crate) fn http_client(
        &self,
        plain: bool,
        route: &Route,
    ) -> Result<SharedHttpClient, Failure> {
        if plain {
            return Ok(bounded(Builder::new().build_http()));
        }
        self.https(route, None)
    }

    /// For credentials, which may be asked for again at any time: nothing stays open between.
    pub(crate) fn unpooled_http_client(&self, route: &Route) -> Result<SharedHttpClient, Failure> {
        self.https(route, Some(0))
    }

    fn https(&self, route: &Route, pool_max: Option<usize>) -> Result<SharedHttpClient, Failure> {
        let mut store = TrustStore::empty().with_native_roots(!system_roots().is_empty());
        if let Some(extra) = &self.extra {
            store.add_pem_certificate(extra.pem.as_slice());
        }
        let context = TlsContext::builder()
            .with_trust_store(store)
            .build()
            .map_err(|error| Failure::new(FailureCode::Tls, error.to_string()))?;
        let proxy = route.config();
        Ok(bounded(Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(context.clone());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.set_pool_max_idle_per_host(pool_max);
            connector.set_proxy_config(proxy.clone());
            connector.build()
        })))
    }
}

/// Read once: a system may have hundreds of files of them.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            tracing::warn!("the system has no certificate authorities: only a CA file is trusted");
        }
        found.certs
    })
}
