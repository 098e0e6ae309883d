//! Round-trip times on connections, and the events of each.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use kvs_emulator::{ConnectionEvent, Emulator, OnConnection, TlsConfig};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::support::{KEY, call, hear, offer, open, plain, say, start, within};

const RTT: Duration = Duration::from_millis(80);

/// A client that trusts the emulator. It resumes TLS sessions.
fn connector(emulator: &Emulator) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(emulator.ca_pem().unwrap().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(std::sync::Arc::new(config))
}

/// Returns how long connecting and one request take.
async fn cold_request(emulator: &Emulator, tls: &TlsConnector) -> Duration {
    let begun = Instant::now();
    let stream = TcpStream::connect(emulator.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = within(tls.connect(name, stream)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/health")
        .header("host", "localhost")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 200);
    within(response.into_body().collect()).await.unwrap();
    let took = begun.elapsed();
    drop(sender);
    let _ = within(connection).await;
    took
}

fn kinds(events: &[ConnectionEvent], tcp: u64) -> Vec<&OnConnection> {
    events.iter().filter(|event| event.tcp == tcp).map(|event| &event.what).collect()
}

/// On a network: a round trip for TCP, one for TLS 1.3, and one for the request.
#[tokio::test]
async fn connect_tls_and_request_take_three_round_trips() {
    let emulator = start(|config| {
        config.tls = Some(TlsConfig::default());
        config.wire_rtt = RTT;
    })
    .await;
    let tls = connector(&emulator);
    let took = cold_request(&emulator, &tls).await;
    // Timers may be a millisecond early for each of the six one-way delays.
    assert!(took >= 3 * RTT - Duration::from_millis(6), "{took:?}");
    emulator.set_wire_rtt(Duration::ZERO);
    cold_request(&emulator, &tls).await;
    let events = emulator.connection_events(0);
    for (tcp, rtt, again) in [(1, 80, false), (2, 0, true)] {
        let seen = kinds(&events, tcp);
        assert!(
            matches!(
                seen.as_slice(),
                [
                    OnConnection::Opened { rtt_ms, .. },
                    OnConnection::Tls { resumed },
                    OnConnection::Request { call, access_key: None },
                    OnConnection::Response { status: Some(200) },
                    ..
                ] if *rtt_ms == rtt && *resumed == again && call == "health"
            ),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn connection_log_has_requests_and_descriptions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("connections.jsonl");
    let log = file.clone();
    let emulator = start(move |config| {
        config.connection_log = Some(log);
        config.wire_rtt = Duration::from_millis(20);
    })
    .await;
    call(&emulator, "/describeSignalingChannel", json!({ "ChannelName": "demo" })).await;
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, offer("v=0")).await;
    assert_eq!(hear(&mut master).await["messageType"], "SDP_OFFER");
    drop((master, viewer));
    within(emulator.shutdown()).await;
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let named = |event: &str, field: &str, value: &str| {
        let found: Vec<&Value> =
            lines.iter().filter(|l| l["event"] == event && l[field] == value).collect();
        assert_eq!(found.len(), 1, "{event} {value}: {lines:#?}");
        found[0]["tcp"].as_u64().unwrap()
    };
    let described = named("request", "call", "DescribeSignalingChannel");
    let (up, down) =
        (named("request", "call", "ConnectAsViewer"), named("request", "call", "ConnectAsMaster"));
    assert!(described != up && up != down);
    assert_eq!(named("received", "message", "SDP_OFFER"), up);
    assert_eq!(named("sent", "message", "SDP_OFFER"), down);
    let keys = lines.iter().filter(|l| l["event"] == "request");
    assert!(keys.clone().count() >= 3);
    for line in keys {
        assert_eq!(line["access_key"], KEY, "{line}");
    }
    for tcp in [described, up, down] {
        let ends = lines.iter().filter(|l| l["tcp"] == tcp && l["event"] == "closed").count();
        assert_eq!(ends, 1, "connection {tcp}");
    }
    let times: Vec<u64> = lines.iter().map(|l| l["at_us"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn admin_api_lists_connections_and_sets_round_trip_time() {
    let emulator = start(|_| {}).await;
    assert_eq!(plain(&emulator, "POST", "/admin/wire", r#"{"rtt_ms":30}"#).await.status, 200);
    assert_eq!(plain(&emulator, "POST", "/admin/wire", r#"{"rtt_ms":10001}"#).await.status, 400);
    let begun = Instant::now();
    let shown = plain(&emulator, "GET", "/admin/connections", "").await;
    let least = Duration::from_millis(58);
    assert!(begun.elapsed() >= least, "connecting and a request: {:?}", begun.elapsed());
    let events = shown.body["events"].as_array().unwrap().clone();
    assert_eq!(events[0]["event"], "opened");
    let delayed = events.iter().find(|event| event["rtt_ms"] == 30);
    assert!(delayed.is_some(), "{events:?}");
    let last = events.last().unwrap()["seq"].as_u64().unwrap();
    let path = format!("/admin/connections?after={last}");
    let later = plain(&emulator, "GET", &path, "").await;
    assert!(
        later.body["events"].as_array().unwrap().iter().all(|e| e["seq"].as_u64() > Some(last))
    );
}
