//! HTTPS and the socket through a test proxy that supports CONNECT, and through proxies that
//! refuse, send garbage or send nothing.

use std::time::Duration;

use kvs_emulator::{Emulator, EmulatorConfig};
use negotiation_core::{Failure, FailureCode};
use signaling_aws::{Limits, Proxy, SignalingConfigBuilder};
use tempfile::TempDir;

use crate::connect_proxy::{ConnectProxy, LOGIN, Manner};
use crate::support::{Port, emulator, reach};

fn proxy(manner: Manner) -> ConnectProxy {
    ConnectProxy::start("127.0.0.1:0", manner, &[])
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
async fn calls_and_socket_use_proxy_without_logging_password() {
    let (emulator, dir) = over_tls().await;
    let config = || reach(&emulator, "proxied").ca_file(dir.path().join("ca.pem"));
    let proxy = proxy(Manner::Ask);
    let known = format!("http://{LOGIN}@{}", proxy.authority());
    let mut port = Port::new(via(config(), known.clone(), "example.com"));
    port.connect(1, None).await;
    port.disconnect(1).await;
    // At least the control plane and the socket used the proxy, and all targets are the emulator.
    let targets = proxy.targets();
    assert!(targets.len() >= 2, "{targets:?}");
    assert!(targets.iter().all(|target| *target == emulator.addr().to_string()), "{targets:?}");

    let wrong = via(config(), format!("http://user:nope-canary@{}", proxy.authority()), "");
    let failure = Port::new(wrong).open(1).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::Network, "{failure}");
    assert!(failure.detail.contains("requires a user name"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"));
    let printed = format!("{:?}", via(config(), known, "").build().expect("valid"));
    assert!(!printed.contains("canary"), "{printed}");
    emulator.shutdown().await;
}

/// Other streams, such as TURN over TCP, can use the proxy of calls and socket.
#[tokio::test]
async fn detour_uses_proxy_only_for_proxied_hosts() {
    let (emulator, dir) = over_tls().await;
    let proxy = proxy(Manner::Ask);
    let (host, port) = (emulator.addr().ip().to_string(), emulator.addr().port());
    let detour = |login: &str, no_proxy: &str| {
        let config = reach(&emulator, "detour").ca_file(dir.path().join("ca.pem"));
        let url = format!("http://{login}@{}", proxy.authority());
        let detour = via(config, url, no_proxy).build().expect("valid").detour();
        detour(host.clone(), port)
    };
    assert!(detour(LOGIN, "").await.expect("connected").is_some());
    assert_eq!(proxy.targets(), [emulator.addr().to_string()]);
    let refused = detour("user:nope-canary", "").await.expect_err("refused").to_string();
    assert!(refused.contains("requires a user name") && !refused.contains("canary"), "{refused}");
    assert!(detour(LOGIN, &host).await.expect("direct").is_none());
    assert_eq!(proxy.targets().len(), 2, "{:?}", proxy.targets());
    emulator.shutdown().await;
}

#[tokio::test]
async fn host_without_a_proxy_is_reached_directly() {
    let (emulator, dir) = over_tls().await;
    let proxy = proxy(Manner::Connect);
    let config = reach(&emulator, "direct").ca_file(dir.path().join("ca.pem"));
    let url = format!("http://{}", proxy.authority());
    let mut port = Port::new(via(config, url, "127.0.0.0/8"));
    port.connect(1, None).await;
    port.disconnect(1).await;
    assert_eq!(proxy.targets(), Vec::<String>::new());
    emulator.shutdown().await;
}

/// Opens a connection with cached endpoints, so that only the socket uses the proxy.
async fn socket_through(manner: Manner) -> Failure {
    let (emulator, dir) = over_tls().await;
    // Of all manners, only a silent proxy reaches this limit.
    let limits = Limits { connection_open: Duration::from_secs(3), ..Limits::default() };
    let config = || reach(&emulator, "viewer").ca_file(dir.path().join("ca.pem")).limits(limits);
    let mut port = Port::new(config());
    port.connect(1, None).await;
    port.disconnect(1).await;
    let proxy = proxy(manner);
    let mut port = Port::new(via(config(), format!("http://{}", proxy.authority()), ""));
    let failure = port.open(1).await.expect_err("no way");
    assert!(!proxy.targets().is_empty());
    emulator.shutdown().await;
    failure
}

#[tokio::test]
async fn bad_proxy_fails_within_open_timeout() {
    let refused = socket_through(Manner::Say("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    assert_eq!(refused.code, FailureCode::Network, "{refused}");
    assert!(refused.detail.contains("the proxy refuses"), "{refused}");
    for manner in [Manner::Babble, Manner::Say("what\r\n\r\n"), Manner::Say("")] {
        assert_eq!(socket_through(manner).await.code, FailureCode::Network);
    }
    assert_eq!(socket_through(Manner::Hang).await.code, FailureCode::TimedOut);
}
