//! A CA of the emulator's own and the certificate it serves, made at the start.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::clock::WallClock;
use crate::config::TlsConfig;
use crate::error::EmulatorError;

/// The TLS acceptor and its CA.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_pem: String,
    /// The path of the CA's certificate, when a directory was given.
    pub(crate) ca_path: Option<PathBuf>,
}

/// Creates a CA, or loads the one in the directory, and issues the server's certificate.
pub(crate) fn prepare(config: &TlsConfig) -> Result<Tls, EmulatorError> {
    let (ca_pem, ca_key, ca_path) = match &config.dir {
        None => {
            let key = KeyPair::generate().map_err(tls)?;
            (ca_params().self_signed(&key).map_err(tls)?.pem(), key, None)
        }
        Some(dir) => {
            let (pem, key) = stored_ca(dir)?;
            (pem, key, Some(dir.join(CA_FILE)))
        }
    };
    // An issuer consists of its name and key, which are the same for every start, so the stored
    // certificate itself is not read.
    let params = ca_params();
    let issuer = Issuer::from_params(&params, ca_key);
    let leaf_key = KeyPair::generate().map_err(tls)?;
    let leaf = leaf_params(&config.extra_names)?.signed_by(&leaf_key, &issuer).map_err(tls)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .map_err(tls)?;
    // AWS's channel endpoints and the C SDK have only HTTP/1.1 in common
    // (docs/kvs-protocol.md 1.4).
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(server)), ca_pem, ca_path })
}

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";

fn stored_ca(dir: &Path) -> Result<(String, KeyPair), EmulatorError> {
    let (cert_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    let there = |path: &Path| path.try_exists().map_err(file(path));
    match (there(&cert_path)?, there(&key_path)?) {
        (true, true) => {
            let pem = fs::read_to_string(&cert_path).map_err(file(&cert_path))?;
            let key = fs::read_to_string(&key_path).map_err(file(&key_path))?;
            return Ok((pem, KeyPair::from_pem(&key).map_err(tls)?));
        }
        (false, false) => {}
        // An incomplete CA may contain a file of the user, so it is not overwritten.
        (cert_there, _) => {
            let missing = if cert_there { &key_path } else { &cert_path };
            let dir = dir.display();
            return Err(tls(format!("{} is missing: {dir} has half a CA", missing.display())));
        }
    }
    fs::create_dir_all(dir).map_err(file(dir))?;
    let key = KeyPair::generate().map_err(tls)?;
    let pem = ca_params().self_signed(&key).map_err(tls)?.pem();
    write_new(&key_path, &key.serialize_pem(), 0o600).map_err(file(&key_path))?;
    write_new(&cert_path, &pem, 0o644).map_err(file(&cert_path))?;
    Ok((pem, key))
}

/// Creates a file that must not exist yet: a link that another user put in its place is not
/// followed.
fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    std::io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kvs-emulator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let year = year_now();
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 10, 1, 1);
    params
}

fn leaf_params(extra_names: &[String]) -> Result<CertificateParams, EmulatorError> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for name in extra_names {
        let plain = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.*_".contains(&b))
        };
        if name.parse::<IpAddr>().is_err() && !plain(name) {
            let reason = format!("{name:?} is neither a host name nor an address");
            return Err(EmulatorError::Setting { field: "tls.extra_names", reason });
        }
        names.push(name.clone());
    }
    let mut params = CertificateParams::new(names).map_err(tls)?;
    params.distinguished_name.push(DnType::CommonName, "kvs-emulator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    // Browsers refuse certificates that live much longer than a year.
    let year = year_now();
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year + 1, 1, 15);
    Ok(params)
}

fn year_now() -> i32 {
    let year = WallClock::new(0).now().amz();
    year.get(..4).and_then(|year| year.parse().ok()).unwrap_or(2026)
}

fn tls(error: impl std::fmt::Display) -> EmulatorError {
    EmulatorError::Tls(error.to_string())
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> EmulatorError {
    let path = path.to_owned();
    move |source| EmulatorError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_ca_is_reused() {
        let dir = tempfile::tempdir().unwrap();
        let config = TlsConfig { dir: Some(dir.path().join("tls")), extra_names: Vec::new() };
        let first = prepare(&config).unwrap();
        let second = prepare(&config).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(fs::read_to_string(first.ca_path.unwrap()).unwrap(), first.ca_pem);
        assert_ne!(prepare(&TlsConfig::default()).unwrap().ca_pem, first.ca_pem);
    }

    #[test]
    fn incomplete_ca_is_not_overwritten() {
        for (found, missing) in [(CA_FILE, CA_KEY_FILE), (CA_KEY_FILE, CA_FILE)] {
            let dir = tempfile::tempdir().unwrap();
            let found = dir.path().join(found);
            fs::write(&found, "the user's").unwrap();
            let config = TlsConfig { dir: Some(dir.path().into()), extra_names: Vec::new() };
            let error = prepare(&config).err().map(|error| error.to_string());
            let missing = dir.path().join(missing);
            assert!(error.is_some_and(|error| error.contains(missing.to_str().unwrap())));
            assert_eq!(fs::read_to_string(&found).unwrap(), "the user's");
            assert!(!missing.exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_link_in_place_of_a_ca_is_not_followed() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        for name in [CA_FILE, CA_KEY_FILE] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("elsewhere");
            symlink(&target, dir.path().join(name)).unwrap();
            let config = TlsConfig { dir: Some(dir.path().into()), extra_names: Vec::new() };
            let error = prepare(&config).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains(name)), "{name}");
            assert!(!target.exists(), "{name} was written through a link");
        }
        let dir = tempfile::tempdir().unwrap();
        let config = TlsConfig { dir: Some(dir.path().into()), extra_names: Vec::new() };
        prepare(&config).unwrap();
        let mode = fs::metadata(dir.path().join(CA_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn invalid_certificate_name_is_refused() {
        let config = TlsConfig { dir: None, extra_names: vec!["a b".into()] };
        assert!(matches!(prepare(&config), Err(EmulatorError::Setting { .. })));
    }
}
