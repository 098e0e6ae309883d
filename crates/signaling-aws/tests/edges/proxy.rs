//! HTTPS and the socket through a proxy of ours that speaks CONNECT, and through proxies that
//! refuse, babble or say nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kvs_emulator::{Emulator, EmulatorConfig};
use negotiation_core::{Failure, FailureCode};
use signaling_aws::{Limits, Proxy, SignalingConfigBuilder};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Port, emulator, reach};

/// `user:pass-canary`, as a proxy is told.
const BASIC: &str = "proxy-authorization: Basic dXNlcjpwYXNzLWNhbmFyeQ==";

/// What a proxy does with a CONNECT.
#[derive(Clone, Copy)]
enum Manner {
    Connect,
    /// As [`Manner::Connect`], for who knows the password.
    Ask,
    /// Answers with this and no more.
    Say(&'static str),
    /// Answers with headers that never end.
    Babble,
    /// Says nothing.
    Hang,
}

struct TestProxy {
    authority: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TestProxy {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let authority = listener.local_addr().expect("bound").to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let seen = asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, manner, seen.clone()));
            }
        });
        Self { authority, asked }
    }

    /// Whereto it was asked to connect.
    fn targets(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("whole");
        asked.iter().filter_map(|head| head.split(' ').nth(1).map(str::to_owned)).collect()
    }
}

async fn serve(mut client: TcpStream, manner: Manner, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("CONNECT "), "nothing else goes to a proxy: {head}");
    let target = head.split(' ').nth(1).expect("a target").to_owned();
    let knows = head.to_ascii_lowercase().contains(&BASIC.to_ascii_lowercase());
    asked.lock().expect("whole").push(head);
    let answer = match manner {
        Manner::Ask if !knows => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        Manner::Connect | Manner::Ask => {
            let mut server = TcpStream::connect(&target).await.expect("the emulator listens");
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("sent");
            // Whoever closes first.
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
        Manner::Say(answer) => answer,
        Manner::Babble => {
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while client.write_all(b"x-more: of the same\r\n").await.is_ok() {}
            return;
        }
        Manner::Hang => return std::future::pending().await,
    };
    let _ = client.write_all(answer.as_bytes()).await;
}

async fn over_tls() -> (Emulator, TempDir) {
    let config = EmulatorConfig { tls: Some(Default::default()), ..Default::default() };
    let emulator = emulator(config).await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ca.pem"), emulator.ca_pem().expect("a CA")).expect("written");
    (emulator, dir)
}

fn via(config: SignalingConfigBuilder, url: String, no_proxy: &str) -> SignalingConfigBuilder {
    config.proxy(Proxy::Via { url, no_proxy: no_proxy.to_owned() })
}

#[tokio::test]
async fn calls_and_socket_go_through_the_proxy_and_its_password_stays_unsaid() {
    let (emulator, dir) = over_tls().await;
    let config = || reach(&emulator, "proxied").ca_file(dir.path().join("ca.pem"));
    let proxy = TestProxy::start(Manner::Ask).await;
    let known = format!("http://user:pass-canary@{}", proxy.authority);
    let mut port = Port::new(via(config(), known.clone(), "example.com"));
    port.connect(1, None).await;
    port.disconnect(1).await;
    // The control plane and the socket at least, and nothing but the emulator.
    let targets = proxy.targets();
    assert!(targets.len() >= 2, "{targets:?}");
    assert!(targets.iter().all(|target| *target == emulator.addr().to_string()), "{targets:?}");

    let wrong = via(config(), format!("http://user:nope-canary@{}", proxy.authority), "");
    let failure = Port::new(wrong).open(1).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::Network, "{failure}");
    assert!(failure.detail.contains("asks for a user name"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"));
    let printed = format!("{:?}", via(config(), known, "").build().expect("valid"));
    assert!(!printed.contains("canary"), "{printed}");
    emulator.shutdown().await;
}

#[tokio::test]
async fn what_no_proxy_names_goes_direct() {
    let (emulator, dir) = over_tls().await;
    let proxy = TestProxy::start(Manner::Connect).await;
    let config = reach(&emulator, "direct").ca_file(dir.path().join("ca.pem"));
    let url = format!("http://{}", proxy.authority);
    let mut port = Port::new(via(config, url, "127.0.0.0/8"));
    port.connect(1, None).await;
    port.disconnect(1).await;
    assert_eq!(proxy.targets(), Vec::<String>::new());
    emulator.shutdown().await;
}

/// Opens a link whose endpoints are known, so that the socket alone goes through the proxy.
async fn socket_through(manner: Manner) -> Failure {
    let (emulator, dir) = over_tls().await;
    let limits = Limits { link_open: Duration::from_millis(400), ..Limits::default() };
    let config = || reach(&emulator, "viewer").ca_file(dir.path().join("ca.pem")).limits(limits);
    let mut port = Port::new(config());
    port.connect(1, None).await;
    port.disconnect(1).await;
    let proxy = TestProxy::start(manner).await;
    let mut port = Port::new(via(config(), format!("http://{}", proxy.authority), ""));
    let failure = port.open(1).await.expect_err("no way");
    assert!(!proxy.targets().is_empty());
    emulator.shutdown().await;
    failure
}

#[tokio::test]
async fn a_proxy_that_refuses_babbles_or_hangs_costs_its_bound() {
    let refused = socket_through(Manner::Say("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    assert_eq!(refused.code, FailureCode::Network, "{refused}");
    assert!(refused.detail.contains("the proxy refuses"), "{refused}");
    for manner in [Manner::Babble, Manner::Say("what\r\n\r\n"), Manner::Say("")] {
        assert_eq!(socket_through(manner).await.code, FailureCode::Network);
    }
    assert_eq!(socket_through(Manner::Hang).await.code, FailureCode::TimedOut);
}
