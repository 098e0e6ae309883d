//! Tests the stack's own logging at trace level: no secret is outside the known targets.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use crate::common::{Master, until};
use crate::port::in_a_process_of_its_own;
use crate::viewer::{PEER, Viewer, peer_config};
use negotiation_core::{Connectivity, IceServer, PeerCommand, PeerEvent, SdpKind, Secret};
use peer_webrtc::{Codec, LEAKY_LOG_TARGETS};
use tokio::net::UdpSocket;

const USER: &str = "turn-user-canary";
const PASSWORD: &str = "turn-password-canary";

/// Keeps every log record by target.
struct Keep;

static KEPT: OnceLock<Mutex<BTreeMap<String, Vec<String>>>> = OnceLock::new();

fn kept() -> &'static Mutex<BTreeMap<String, Vec<String>>> {
    KEPT.get_or_init(Mutex::default)
}

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut kept = kept().lock().expect("no panic while it is held");
        kept.entry(record.target().to_owned()).or_default().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Runs a TURN server that always requests credentials, and counts the requests that have some.
async fn refuse(socket: UdpSocket, requested: tokio::sync::watch::Sender<usize>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let request = &buffer[..length];
        if length < 20 || request[..2] != [0x00, 0x03] {
            continue;
        }
        if request.windows(USER.len()).any(|window| window == USER.as_bytes()) {
            requested.send_modify(|n| *n += 1);
        }
        // RFC 8489: an Allocate error with 401, REALM "r..." and NONCE "n...".
        let attributes: &[u8] = &[
            0x00, 0x09, 0, 4, 0, 0, 4, 1, 0x00, 0x14, 0, 4, b'r', b'e', b'a', b'l', 0x00, 0x15, 0,
            4, b'n', b'o', b'n', b'c',
        ];
        let mut response = vec![0x01, 0x13, 0, 24];
        response.extend_from_slice(&request[4..20]);
        response.extend_from_slice(attributes);
        let _ = socket.send_to(&response, from).await;
    }
}

fn pwd(sdp: &str) -> String {
    let found = sdp.lines().find_map(|line| line.trim().strip_prefix("a=ice-pwd:"));
    found.expect("a password").to_owned()
}

// Shows: 55.
#[tokio::test]
#[ignore = "run by `secrets_are_logged_only_where_known` in a process of its own"]
async fn secrets_at_trace_level() {
    log::set_logger(&Keep).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
    let port = socket.local_addr().expect("bound").port();
    let (asked_tx, requested) = tokio::sync::watch::channel(0);
    let server = tokio::spawn(refuse(socket, asked_tx));

    let mut viewer = Viewer::new(peer_config());
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    let servers = vec![IceServer {
        uris: vec![format!("turn:127.0.0.1:{port}?transport=udp")],
        username: Some(Secret::new(USER)),
        password: Some(Secret::new(PASSWORD)),
    }];
    viewer.run(PeerCommand::SetIceServers { peer: PEER, servers }).await.expect("takes");
    let description = viewer.offer().await;
    let offer = description.sdp.as_str().to_owned();
    viewer
        .run(PeerCommand::SetLocal { peer: PEER, kind: SdpKind::Offer, description })
        .await
        .expect("sets");
    let mut master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(&offer).await.expect("answers");
    viewer.apply(&answer).await.expect("applies");
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(|e| *e == PeerEvent::ConnectivityChanged(Connectivity::Connected)).await;
    until("a request with credentials", || *requested.borrow() > 0).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
    server.abort();

    let secrets = [pwd(&offer), pwd(&answer), USER.to_owned(), PASSWORD.to_owned()];
    let kept = kept().lock().expect("no panic while it is held");
    assert!(kept.values().map(Vec::len).sum::<usize>() > 100, "the stack logs by `log`");
    for (target, lines) in kept.iter() {
        let known = LEAKY_LOG_TARGETS.iter().any(|known| {
            target.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        for (name, secret) in ["offer pwd", "answer pwd", "user", "password"].iter().zip(&secrets) {
            let leak = lines.iter().find(|line| line.contains(secret));
            if let Some(line) = leak {
                assert!(known, "{target} logs {name}: {line:.300}");
            }
        }
    }
}

#[test]
fn secrets_are_logged_only_where_known() {
    in_a_process_of_its_own("secrets::secrets_at_trace_level");
}
