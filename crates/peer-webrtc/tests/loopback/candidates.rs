//! Tests masters that send more addresses than work, with the working one last.

use std::net::SocketAddr;

use negotiation_core::FailureCode;
use peer_webrtc::{Codec, Lookup, PeerConfig, RemoteAddresses, Resolve, Resolver};

use crate::common::Master;
use crate::port::connected;
use crate::viewer::{Viewer, peer_config};

/// Returns a candidate at which nothing listens.
fn dead(n: usize) -> String {
    format!("candidate:{n} 1 udp {n} 127.0.2.{n} 9 typ host")
}

/// Returns a viewer with an answered offer, the master, the answer, and the master's real
/// candidates.
async fn answered() -> (Viewer, Master, String, Vec<String>) {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    let offer = viewer.offered().await;
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    let real = master.candidates().await;
    assert!(!real.is_empty());
    (viewer, master, answer, real)
}

async fn connects(mut viewer: Viewer, master: Master) {
    viewer.event(connected).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn candidate_after_many_addresses_in_an_answer_is_checked() {
    let (mut viewer, master, answer, real) = answered().await;
    let named = (1..=20).map(dead).chain(real);
    let lines: String = named.map(|text| format!("a={text}\r\n")).collect();
    viewer.apply(&format!("{answer}{lines}")).await.expect("applies");
    connects(viewer, master).await;
}

/// Like aiortc, which repeats each candidate in every section.
#[tokio::test]
async fn repeated_candidate_counts_once() {
    let (mut viewer, master, answer, real) = answered().await;
    viewer.apply(&answer).await.expect("applies");
    for text in (1..=14).map(dead).flat_map(|text| [text.clone(), text.clone(), text]) {
        viewer.add(&text).await.expect("takes it");
    }
    for text in real {
        viewer.add(&text).await.expect("takes it");
    }
    connects(viewer, master).await;
}

/// Contract, N9: the session holds candidates back until then, so the port need not.
// Shows: 11.
#[tokio::test]
async fn candidate_before_answer_is_refused_and_can_be_resent() {
    let (mut viewer, master, answer, real) = answered().await;
    for text in &real {
        let refused = viewer.add(text).await.expect_err("too early");
        assert_eq!(refused.code, FailureCode::NotOpen, "{refused}");
    }
    viewer.apply(&answer).await.expect("applies");
    for text in &real {
        viewer.add(text).await.expect("takes it");
    }
    connects(viewer, master).await;
}

/// A resolver that knows one address.
struct At([u8; 4]);

impl Resolve for At {
    fn resolve(&self, _host: &str, port: u16) -> Lookup {
        let address = SocketAddr::from((self.0, port));
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn own_addresses_are_tried_when_service_name_is_local() {
    for (address, expected) in
        [([127, 0, 0, 1], Ok(())), ([192, 0, 2, 1], Err(FailureCode::AddressPolicy))]
    {
        let config = PeerConfig {
            remote_addresses: RemoteAddresses::Network,
            service: Some(("service.example.org".to_owned(), 443)),
            resolver: Resolver::new(At(address)),
            ..peer_config()
        };
        let mut viewer = Viewer::new(config);
        let master = Master::new(Codec::H264).await;
        let offer = viewer.offered().await;
        let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
        viewer.apply(&answer).await.expect("applies");
        let taken = viewer.add(&dead(1)).await.map(|_| ()).map_err(|failure| failure.code);
        assert_eq!(taken, expected, "{address:?}");
        viewer.close().await;
        master.stack.close().await.expect("closes");
    }
}
