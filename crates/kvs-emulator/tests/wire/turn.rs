//! The emulator's own STUN and TURN server, byte by byte (RFC 8489, RFC 8656).

use std::net::SocketAddr;

use kvs_emulator::{Emulator, TurnConfig};
use serde_json::{Value, json};
use stun_types::attribute::{Nonce, RawAttribute, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermCredentials, Message, MessageWrite as _, MessageWriteExt as _,
    MessageWriteVec, Method,
};
use tokio::net::UdpSocket;

use crate::lifecycle::Log;
use crate::support::{call, start, within};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

async fn relayed() -> Emulator {
    start(|config| config.relay = true).await
}

async fn servers(emulator: &Emulator) -> Value {
    let body = json!({ "ChannelARN": emulator.channel_arn("demo").unwrap() });
    call(emulator, "/v1/get-ice-server-config", body).await.body["IceServerList"].clone()
}

/// Sends a STUN request with these attributes, and returns the response.
async fn ask(socket: &UdpSocket, to: SocketAddr, method: u16, attributes: &[u8]) -> Vec<u8> {
    let mut request = Vec::from(method.to_be_bytes());
    request.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    request.extend(COOKIE);
    request.extend([7; 12]);
    request.extend(attributes);
    socket.send_to(&request, to).await.unwrap();
    let mut answer = vec![0; 1500];
    let (length, from) = within(socket.recv_from(&mut answer)).await.unwrap();
    assert_eq!(from, to);
    answer.truncate(length);
    assert_eq!((&answer[4..8], &answer[8..20]), (COOKIE.as_slice(), [7; 12].as_slice()));
    answer
}

/// The value of an attribute.
fn attribute(message: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = &message[20..];
    while rest.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if rest[..2] == kind.to_be_bytes() {
            return Some(&rest[4..4 + length]);
        }
        rest = &rest[4 + length.next_multiple_of(4)..];
    }
    None
}

#[tokio::test]
async fn binding_request_is_answered_with_the_client_address() {
    let emulator = relayed().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let answer = ask(&socket, emulator.relay_addr().unwrap(), 0x0001, &[]).await;
    assert_eq!(answer[..2], [0x01, 0x01]);
    let mapped = attribute(&answer, 0x0020).expect("XOR-MAPPED-ADDRESS");
    let port = u16::from_be_bytes([mapped[2] ^ COOKIE[0], mapped[3] ^ COOKIE[1]]);
    assert_eq!(port, socket.local_addr().unwrap().port());
}

#[tokio::test]
async fn allocation_requires_a_credential() {
    let emulator = relayed().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let udp = [0x00, 0x19, 0, 4, 17, 0, 0, 0];
    let mut named = udp.to_vec();
    named.extend([0x00, 0x06, 0, 4]);
    named.extend(b"1:xx");
    for attributes in [&udp[..], &named] {
        let answer = ask(&socket, emulator.relay_addr().unwrap(), 0x0003, attributes).await;
        assert_eq!(answer[..2], [0x01, 0x13], "an error");
        let code = attribute(&answer, 0x0009).expect("ERROR-CODE");
        assert_eq!(code[2..4], [4, 1], "401");
        assert!(attribute(&answer, 0x0014).is_some(), "REALM");
        assert!(attribute(&answer, 0x0015).is_some(), "NONCE");
    }
}

/// A signed Allocate request. Each has a transaction id of its own.
fn allocate(user: &str, password: &str, realm: &str, nonce: &str) -> Vec<u8> {
    let mut request = Message::builder_request(Method::new(3), MessageWriteVec::new());
    request.add_attribute(&RawAttribute::new(0x0019.into(), &[17, 0, 0, 0])).unwrap();
    request.add_attribute(&Username::new(user).unwrap()).unwrap();
    request.add_attribute(&Realm::new(realm).unwrap()).unwrap();
    request.add_attribute(&Nonce::new(nonce).unwrap()).unwrap();
    let credentials = LongTermCredentials::new(user.to_owned(), password.to_owned());
    let credentials = credentials.to_key(realm.to_owned()).into();
    request.add_message_integrity(&credentials, IntegrityAlgorithm::Sha1).unwrap();
    request.finish()
}

async fn exchange(socket: &UdpSocket, to: SocketAddr, request: &[u8]) -> Vec<u8> {
    socket.send_to(request, to).await.unwrap();
    let mut answer = vec![0; 1500];
    let (length, _) = within(socket.recv_from(&mut answer)).await.unwrap();
    answer.truncate(length);
    answer
}

/// RFC 8656, 7.2: a retransmitted request gets the stored response; the C SDK retransmits within a
/// millisecond.
#[tokio::test]
async fn retransmitted_allocate_gets_same_response_and_new_one_437() {
    let emulator = relayed().await;
    let relay = emulator.relay_addr().unwrap();
    let list = servers(&emulator).await;
    let (user, password) = (list[0]["Username"].as_str(), list[0]["Password"].as_str());
    let (user, password) = (user.unwrap(), password.unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let refused = ask(&socket, relay, 0x0003, &[0x00, 0x19, 0, 4, 17, 0, 0, 0]).await;
    let text = |kind| std::str::from_utf8(attribute(&refused, kind).unwrap()).unwrap();
    let (realm, nonce) = (text(0x0014), text(0x0015));
    let request = allocate(user, password, realm, nonce);
    let first = exchange(&socket, relay, &request).await;
    assert_eq!(first[..2], [0x01, 0x03], "an allocation: {first:?}");
    for _ in 0..3 {
        assert_eq!(exchange(&socket, relay, &request).await, first, "retransmitted");
    }
    let another = exchange(&socket, relay, &allocate(user, password, realm, nonce)).await;
    assert_eq!(another[..2], [0x01, 0x13], "an error");
    assert_eq!(attribute(&another, 0x0009).unwrap()[2..4], [4, 37]);
    let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let answer = exchange(&elsewhere, relay, &request).await;
    assert_ne!(answer, first, "the response is for the client that was given the allocation");
}

#[tokio::test]
async fn ice_server_list_has_own_relay_unless_configured() {
    let emulator = relayed().await;
    let port = emulator.relay_addr().unwrap().port();
    let list = servers(&emulator).await;
    assert_eq!(list[0]["Uris"], json!([format!("turn:127.0.0.1:{port}?transport=udp")]));
    assert!(list[0]["Username"].as_str().unwrap().contains(":djE6"));
    let coturn = vec!["turn:relay.test:3478?transport=udp".to_owned()];
    let elsewhere = start(|config| {
        config.relay = true;
        config.turn = TurnConfig { servers: vec![coturn.clone()], ..TurnConfig::default() };
    })
    .await;
    assert_eq!(servers(&elsewhere).await[0]["Uris"], json!(coturn));
    assert_eq!(servers(&start(|_| {}).await).await, json!([]), "there is none unless asked for");
}

/// An Allocate request with a valid user name, but without proof of the password.
#[tokio::test]
async fn turn_password_is_not_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace,aws_sigv4=off")
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let emulator = relayed().await;
    let list = servers(&emulator).await;
    let (name, password) = (list[0]["Username"].as_str(), list[0]["Password"].as_str());
    let (name, password) = (name.unwrap(), password.unwrap());
    let mut attributes = vec![0x00, 0x19, 0, 4, 17, 0, 0, 0, 0x00, 0x06];
    attributes.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
    attributes.extend(name.as_bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let answer = ask(&socket, emulator.relay_addr().unwrap(), 0x0003, &attributes).await;
    assert_eq!(answer[..2], [0x01, 0x13], "an error");
    within(emulator.shutdown()).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("kvs_emulator"), "{text}");
    // The protocol's crates log keys at trace level, so none of their lines may appear.
    for secret in [password, "turn_server_proto", "turn_types", "stun_proto", "stun_types"] {
        assert!(!text.contains(secret), "{secret} was logged");
    }
}
