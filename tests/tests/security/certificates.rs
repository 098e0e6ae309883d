//! A service without a valid certificate receives nothing: no call, no upgrade, no signed URL.

use std::sync::Arc;

use negotiation_core::{Done, Failure, FailureCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::service::{Script, Service, Viewer};
use crate::{LITTLE, costs};

/// A certificate authority that the test creates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The contents of a test certificate.
#[derive(Clone)]
pub(crate) struct Says {
    pub(crate) host: &'static str,
    /// The validity: from the first day of one year to the first day of another.
    pub(crate) valid: (i32, i32),
    pub(crate) usage: ExtendedKeyUsagePurpose,
}

pub(crate) const GOOD: Says =
    Says { host: "localhost", valid: (2020, 2090), usage: ExtendedKeyUsagePurpose::ServerAuth };

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Returns the TLS acceptor of a service with a certificate of this authority.
    pub(crate) fn acceptor(&self, says: &Says) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![says.host.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(says.valid.0, 1, 1);
        params.not_after = date_time_ymd(says.valid.1, 1, 1);
        params.extended_key_usages = vec![says.usage.clone()];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        let chain = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects a viewer that trusts this authority to a service.
    async fn connect(&self, service: &Service) -> Result<Done, Failure> {
        self.connect_at(service, &service.url).await
    }

    /// Does the same with another URL of the service.
    pub(crate) async fn connect_at(&self, service: &Service, url: &str) -> Result<Done, Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, self.0.pem()).expect("written");
        Viewer::new(service.reach().endpoint_url(url).ca_file(&file)).connect().await
    }
}

/// Returns TLS acceptors with wrong certificates, each with a name for its fault.
fn wrongs(trusted: &Authority) -> Vec<(&'static str, TlsAcceptor)> {
    let stranger = Authority::new("a stranger");
    // This authority has the same name as the trusted one, and another key.
    let namesake = Authority::new("security test");
    vec![
        ("wrong host", trusted.acceptor(&Says { host: "other.example", ..GOOD })),
        ("an address's name", trusted.acceptor(&Says { host: "127.0.0.1", ..GOOD })),
        ("expired", trusted.acceptor(&Says { valid: (2020, 2024), ..GOOD })),
        ("not yet valid", trusted.acceptor(&Says { valid: (2080, 2090), ..GOOD })),
        ("of an unknown authority", stranger.acceptor(&GOOD)),
        ("of a namesake", namesake.acceptor(&GOOD)),
        (
            "of a client",
            trusted.acceptor(&Says { usage: ExtendedKeyUsagePurpose::ClientAuth, ..GOOD }),
        ),
    ]
}

#[test]
fn valid_certificate_is_accepted() {
    costs(LITTLE, "a good certificate", async || {
        let authority = Authority::new("security test");
        let service = Service::start_tls(Script::default(), authority.acceptor(&GOOD)).await;
        authority.connect(&service).await.expect("connected");
    });
}

#[test]
fn call_with_wrong_certificate_is_refused() {
    costs(LITTLE, "wrong certificates of calls", async || {
        let authority = Authority::new("security test");
        for (wrong, acceptor) in wrongs(&authority) {
            let service = Service::start_tls(Script::default(), acceptor).await;
            let failure = authority.connect(&service).await.expect_err(wrong);
            assert_eq!(failure.code, FailureCode::Tls, "{wrong}: {failure}");
            assert_eq!(service.requests(), 0, "{wrong}: asked all the same");
        }
    });
}

#[test]
fn upgrade_with_wrong_certificate_is_refused() {
    costs(LITTLE, "wrong certificates of sockets", async || {
        let authority = Authority::new("security test");
        for (wrong, acceptor) in wrongs(&authority) {
            let socket = Service::start_tls(Script::default(), acceptor).await;
            let place = Some(socket.url.replacen("https", "wss", 1));
            let script = Script { socket: place, ..Script::default() };
            let service = Service::start_tls(script, authority.acceptor(&GOOD)).await;
            let failure = authority.connect(&service).await.expect_err(wrong);
            assert_eq!(failure.code, FailureCode::Tls, "{wrong}: {failure}");
            assert_eq!(socket.requests(), 0, "{wrong}: it was shown the signed URL");
            assert!(service.requests() > 0, "{wrong}: the calls are good");
        }
    });
}

/// The system does not trust the test's authority, so without its file the connection fails.
#[test]
fn ca_is_trusted_only_if_configured() {
    costs(LITTLE, "an authority that was not given", async || {
        let authority = Authority::new("security test");
        let service = Service::start_tls(Script::default(), authority.acceptor(&GOOD)).await;
        let failure = Viewer::new(service.reach()).connect().await.expect_err("not trusted");
        assert_eq!(failure.code, FailureCode::Tls, "{failure}");
        assert_eq!(service.requests(), 0);
    });
}
