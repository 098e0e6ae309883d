//! The trusted authorities, for HTTPS and WSS alike: the system's and those of one extra file.
//!
//! Certificates are always verified; there is no switch to turn that off. The process has one TLS
//! configuration for each set of authorities: they are read once, and TLS sessions are resumed
//! across calls, sockets and viewer sessions.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Maximum size of a CA file.
const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Maximum number of TLS configurations that are kept; each CA file needs one.
const TRUSTS_MAX: usize = 8;

/// Maximum number of hosts for which TLS sessions are cached: a channel has two of its own.
const TLS_SESSIONS_MAX: usize = 1024;

/// The authorities that are trusted. Clones share their TLS configuration.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// The authorities in addition to the system's.
    extra: Arc<Vec<CertificateDer<'static>>>,
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Trust {
    pub(crate) fn system() -> Self {
        Self::shared(Vec::new())
    }

    /// Trusts the certificates of a PEM file as well.
    pub(crate) fn with_ca_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let unreadable = |error| format!("{shown} cannot be read: {error}");
        let mut pem = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        // The length of a pipe or a device is unknown, so the read itself is limited.
        file.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut pem).map_err(unreadable)?;
        if pem.len() as u64 > CA_FILE_BYTES_MAX {
            return Err(format!("{shown} is too big to be a PEM file of certificates"));
        }
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
        Ok(Self::shared(certificates))
    }

    /// Returns the process's shared instance for these authorities.
    fn shared(extra: Vec<CertificateDer<'static>>) -> Self {
        static TRUSTS: Mutex<Vec<Trust>> = Mutex::new(Vec::new());
        let mut trusts = TRUSTS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = trusts.iter().position(|trust| *trust.extra == extra);
        // The list is ordered by the time of the last request.
        let trust = match known {
            Some(at) => trusts.remove(at),
            None => Self { extra: Arc::new(extra), config: Arc::default() },
        };
        if trusts.len() >= TRUSTS_MAX {
            trusts.remove(0);
        }
        trusts.push(trust.clone());
        trust
    }

    /// Returns the TLS configuration for calls and sockets.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system_roots().iter().cloned());
        roots.add_parsable_certificates(self.extra.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // The socket's upgrade is HTTP/1.1, and calls are few and one after the other.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_MAX);
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

/// Reads the system's authorities and draws the first random number of the process on two threads,
/// so that the first connection does not wait for either: together they take some 40 ms where
/// AWS-LC gathers entropy from the CPU's jitter, as in a build without this workspace's settings.
/// Call it in the first line of `main`; it returns at once.
pub fn warm_up() -> WarmUp {
    // If a thread cannot start, the first connection does this work instead.
    let start =
        |name: &str, task: fn()| thread::Builder::new().name(name.to_owned()).spawn(task).ok();
    let random = start("random", || {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        // The next connection tries again and reports the failure.
        let _ = provider.secure_random.fill(&mut [0; 1]);
    });
    let authorities = start("authorities", || {
        let _ = Trust::system().client_config();
    });
    WarmUp([random, authorities])
}

/// The threads of [`warm_up`]. Dropping this does not stop them.
#[derive(Debug)]
pub struct WarmUp([Option<thread::JoinHandle<()>>; 2]);

impl WarmUp {
    /// Blocks until both are done, for a program that counts its descriptors next.
    pub fn wait(self) {
        for thread in self.0.into_iter().flatten() {
            // A panic has been printed, and the first connection does what is missing.
            let _ = thread.join();
        }
    }
}

/// Returns the system's authorities, read once: a system may have hundreds of such files.
fn system_roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = read_system_roots();
        if found.is_empty() {
            tracing::warn!("the system has no certificate authorities: only a CA file is trusted");
        }
        found
    })
}

/// Reads only the bundle file where there is one: its directory contains the same certificates, one
/// in each file. Other directories, which the user named, are read as well.
#[cfg(all(unix, not(target_os = "macos")))]
fn read_system_roots() -> Vec<CertificateDer<'static>> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (file, dirs) = (named("SSL_CERT_FILE"), named("SSL_CERT_DIR"));
    // If neither variable is set, this is the system's own file.
    let file = match (file, &dirs) {
        (Some(file), _) => Some(std::path::PathBuf::from(file)),
        (None, None) => openssl_probe::probe().cert_file,
        (None, Some(_)) => None,
    };
    let beside = file.as_deref().and_then(Path::parent);
    let mut dirs = dirs.iter().flat_map(std::env::split_paths);
    if dirs.all(|dir| Some(dir.as_path()) == beside) {
        let bundle = rustls_native_certs::load_certs_from_paths(file.as_deref(), None);
        if !bundle.certs.is_empty() {
            return bundle.certs;
        }
    }
    rustls_native_certs::load_native_certs().certs
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn read_system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusts_with_the_same_authorities_share_their_configuration() {
        let (one, other) = (Trust::system(), Trust::system());
        let config = one.client_config().expect("made");
        assert!(Arc::ptr_eq(&config, &other.client_config().expect("made")));
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn endless_ca_file_is_read_up_to_limit() {
        let refused = Trust::with_ca_file(Path::new("/dev/zero")).expect_err("no certificates");
        assert!(refused.contains("too big"), "{refused}");
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn bundle_has_the_certificates_of_the_directory() {
        let all = rustls_native_certs::load_native_certs().certs;
        let bundle = read_system_roots();
        assert_eq!(all.is_empty(), bundle.is_empty());
        assert!(bundle.iter().all(|certificate| all.contains(certificate)));
    }
}
