//! Tests a master that sends thousands of addresses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use negotiation_core::{Connectivity, PeerCommand, PeerEvent};
use peer_webrtc::Codec;
use tokio::net::UdpSocket;

use crate::common::Master;
use crate::viewer::{PEER, Viewer, peer_config};

/// Returns how many checks to all addresses are allowed in this time: 200 a second, and at first
/// one to each.
fn checks_within(elapsed: Duration) -> usize {
    usize::try_from(elapsed.as_millis() / 5).expect("a short time") + 2 * TRIED_MAX
}

/// The most remote addresses that are checked.
const TRIED_MAX: usize = 40;

#[tokio::test]
async fn candidate_flood_causes_limited_checks() {
    // This socket receives at every address of the loopback network.
    let victim = UdpSocket::bind("0.0.0.0:0").await.expect("a socket");
    let port = victim.local_addr().expect("an address").port();
    let hits = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&hits);
    let victim = tokio::spawn(async move {
        while victim.recv(&mut [0; 1500]).await.is_ok() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });

    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    let began = tokio::time::Instant::now();
    let offer = viewer.offered().await;
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    let real = master.candidates().await;
    let flood = |n: usize| format!("candidate:{n} 1 udp {n} 127.0.2.{n} {port} typ host");
    // Some candidates are in the answer, the others come after it.
    let bomb: String = (1..=20).map(|n| format!("a={}\r\n", flood(n))).collect();
    viewer.apply(&format!("{answer}{bomb}")).await.expect("applies");
    for n in 21..=30 {
        viewer.add(&flood(n)).await.expect("takes it");
    }
    // The real candidates are still checked, in their turn.
    for text in real {
        viewer.add(&text).await.expect("takes it");
    }
    let mut refused = 0;
    for n in 31..=250 {
        refused += usize::from(viewer.add(&flood(n)).await.is_err());
    }
    assert!(refused > 0, "what is too much is reported");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let hits = hits.load(Ordering::Relaxed);
    let elapsed = began.elapsed();
    let most = checks_within(elapsed);
    assert!(hits > 0 && hits < most, "{hits} datagrams in {elapsed:?}");
    viewer.run(PeerCommand::RequestKeyframe { peer: PEER }).await.expect("nothing is held up");
    viewer.event(|event| *event == PeerEvent::ConnectivityChanged(Connectivity::Connected)).await;
    victim.abort();
    viewer.close().await;
    master.stack.close().await.expect("closes");
}
