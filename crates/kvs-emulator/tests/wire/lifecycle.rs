//! Starting, TLS, and a shutdown that leaves no socket open.

use std::sync::{Arc, Mutex};

use kvs_emulator::{Emulator, EmulatorConfig, EmulatorError, TlsConfig, TurnAuth};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::support::{
    SECRET, Signer, TOKEN, call_as, connect, connect_url, ended, offer, open, received, say, start,
    within,
};

/// Returns the number of sockets on the emulator's side of its port that a process still holds.
#[cfg(target_os = "linux")]
fn sockets_of(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // A socket in TIME_WAIT belongs to no process: its inode is 0.
            fields[1].ends_with(&wanted) && fields[9] != "0"
        })
        .count()
}

#[tokio::test]
async fn shutdown_closes_every_socket() {
    let emulator = start(|_| {}).await;
    let port = emulator.addr().port();
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    let idle = TcpStream::connect(emulator.addr()).await.unwrap();
    #[cfg(target_os = "linux")]
    assert!(sockets_of(port) >= 3);
    within(emulator.shutdown()).await;
    #[cfg(target_os = "linux")]
    assert_eq!(sockets_of(port), 0);
    assert_eq!((ended(&mut master).await, ended(&mut viewer).await), (None, None));
    drop(idle);
    // The port is free again.
    let config = EmulatorConfig { listen: ([127, 0, 0, 1], port).into(), ..Default::default() };
    let again = Emulator::start(config).await.unwrap();
    assert_eq!(again.addr().port(), port);
    drop(again);
}

#[tokio::test]
async fn port_in_use_is_reported() {
    let first = start(|_| {}).await;
    let config = EmulatorConfig { listen: first.addr(), ..Default::default() };
    let refused = Emulator::start(config).await;
    let Err(error @ EmulatorError::Listen { .. }) = refused else { panic!("{refused:?}") };
    assert!(error.to_string().ends_with("`--listen 127.0.0.1:0` takes any free port"), "{error}");
    let config = EmulatorConfig { channels: vec!["a b".into()], ..Default::default() };
    let refused = Emulator::start(config).await;
    assert!(matches!(refused, Err(EmulatorError::Setting { field: "channels", .. })));
}

/// The log output, kept in memory.
#[derive(Clone, Default)]
pub(crate) struct Log(pub(crate) Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_not_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        // The signer belongs to the test's client.
        .with_env_filter("trace,aws_sigv4=off")
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let turn = TurnAuth::SharedSecret("turn-canary".to_owned());
    let emulator = start(|config| config.turn.auth = turn).await;
    // Another test's thread may have been registering a callsite when this subscriber was set.
    tracing::callsite::rebuild_interest_cache();
    let arn = emulator.channel_arn("demo").unwrap();
    let wrong = Signer { secret: "wrong-canary".into(), ..Signer::default() };
    let body = json!({ "ChannelARN": arn });
    for signer in [&Signer::default(), &wrong] {
        call_as(signer, &emulator, "/v1/get-ice-server-config", body.clone()).await;
        let _ = connect(&emulator, signer, &arn, Some("v")).await;
    }
    let url = Signer::default().socket_url(&emulator, &arn, Some("w"));
    let signature = url.split("X-Amz-Signature=").nth(1).unwrap().to_owned();
    let mut socket = connect_url(&emulator, &url).await.unwrap();
    say(&mut socket, offer("payload-canary")).await;
    assert!(received(&mut socket).await.is_empty());
    within(emulator.shutdown()).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("client joined") && text.contains("call refused"), "{text}");
    let secrets = [SECRET, TOKEN, "turn-canary", "wrong-canary", "payload-canary", &signature];
    for secret in secrets.into_iter().chain(["to%2Bken", "Signature="]) {
        assert!(!text.contains(secret), "{secret} was logged");
    }
}

#[tokio::test]
async fn tls_certificate_is_trusted_only_with_its_ca() {
    let tls = TlsConfig { dir: None, extra_names: vec!["kvs.test".into()] };
    let emulator = start(|config| config.tls = Some(tls)).await;
    assert!(emulator.endpoint().starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(emulator.ca_pem().unwrap().as_bytes()).unwrap())
        .unwrap();
    for name in ["127.0.0.1", "localhost", "kvs.test"] {
        let answer = health(&emulator, roots.clone(), name).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(health(&emulator, roots, "elsewhere.test").await.is_err());
    assert!(health(&emulator, RootCertStore::empty(), "localhost").await.is_err());
}

async fn health(
    emulator: &Emulator,
    roots: RootCertStore,
    name: &'static str,
) -> std::io::Result<String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(emulator.addr()).await?;
    let name = ServerName::try_from(name).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let request = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
