//! The addresses that a master can make this machine send ICE checks to, and their number.

use std::time::Duration;

use peer_webrtc::{PeerConfig, RemoteAddresses};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::masters::{Scene, honest_answer};
use crate::{Cost, costs};

const COST: Cost = Cost { time: Duration::from_secs(60), bytes: 48 << 20 };

/// The number of candidates, more than a session checks.
const DOORS: usize = 120;
/// The number of ports on each address.
const PORTS: usize = 4;

/// Runs a session under `policy` with a master that sends candidates for ports of this machine, as
/// messages or in the answer. Returns the number of ports that received a check.
async fn knocked(policy: RemoteAddresses, in_answer: bool) -> usize {
    let mut doors = Vec::new();
    for n in 0..DOORS {
        // A session checks only a few ports of one address, so the ports are spread over many
        // addresses.
        let address = format!("127.0.0.{}:0", 1 + n / PORTS);
        doors.push(UdpSocket::bind(address).await.expect("a port"));
    }
    let mut scene = Scene::open().await;
    let peer = PeerConfig { remote_addresses: policy, ..PeerConfig::new(true) };
    let viewer = scene.watch(peer);
    let (_, offer) = scene.offer().await;
    let (answer, stack, _queues) = honest_answer(&offer).await;
    stack.close().await.expect("closed");
    let candidate = |door: &UdpSocket| {
        let (ip, port) =
            (door.local_addr().expect("bound").ip(), door.local_addr().expect("bound").port());
        format!("candidate:{port} 1 udp {port} {ip} {port} typ host")
    };
    if in_answer {
        let lines: String = doors.iter().map(|door| format!("a={}\r\n", candidate(door))).collect();
        scene.answer(&(answer + &lines));
    } else {
        scene.answer(&answer);
        for door in &doors {
            scene.candidate(&candidate(door));
        }
    }
    let outcome = timeout(Duration::from_secs(20), viewer.ended()).await.expect("the end");
    assert!(!outcome.expect("no panic").was_live);
    // Datagrams may still be on their way.
    sleep(Duration::from_millis(50)).await;
    let mut buffer = [0; 2048];
    let reached = doors.iter().filter(|door| door.try_recv(&mut buffer).is_ok()).count();
    scene.close().await;
    reached
}

#[test]
fn local_services_get_no_checks_from_a_remote_service() {
    for (policy, in_answer) in [
        (RemoteAddresses::Network, false),
        (RemoteAddresses::Network, true),
        (RemoteAddresses::Public, false),
    ] {
        let reached = costs(COST, "closed doors", async || knocked(policy, in_answer).await);
        assert_eq!(reached, 0, "{policy:?}");
    }
    // The default depends on where the service is.
    assert_eq!(PeerConfig::new(false).remote_addresses, RemoteAddresses::Network);
    assert_eq!(PeerConfig::new(true).remote_addresses, RemoteAddresses::Any);
}

/// RFC 8445, 19.5.1: the other side must not be able to use this machine's checks for a flood.
#[test]
fn at_most_forty_remote_addresses_are_checked() {
    for in_answer in [false, true] {
        let any = RemoteAddresses::Any;
        let reached = costs(COST, "many doors", async || knocked(any, in_answer).await);
        // On a busy machine the session may end before it has checked all forty.
        assert!((10..=40).contains(&reached), "{reached}; in the answer: {in_answer}");
    }
}
