//! Datagrams from an unrelated socket to a UDP port of the viewer or the camera, and datagrams with
//! the peer's source address: unauthenticated ones cost neither memory nor the session.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kvs_viewer_tests::path::Path;
use negotiation_core::MediaKind;
use peer_webrtc::rtp;
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Authorities, Codec, IcePolicy, LocalTrack, Mdns, RtpArrival};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{interval, sleep, timeout};

use crate::{Cost, HEAP, costs};

/// The cost of two connections, on a busy machine.
const COST: Cost = Cost { time: Duration::from_secs(240), bytes: 48 << 20 };

/// The memory in bytes that may remain after an attack: buffers, and a few SRTP states.
const LEFT: usize = 2 << 20;

/// Returns random bytes without valid authentication, of the length of a small packet.
fn junk(kind: [u8; 2], random: &mut u64) -> [u8; 52] {
    let mut datagram = [0; 52];
    for chunk in datagram.chunks_mut(8) {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let bytes = random.to_be_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    datagram[..2].copy_from_slice(&kind);
    datagram
}

fn rtp_junk(random: &mut u64) -> [u8; 52] {
    junk([0x80, 102], random)
}

fn rtcp_junk(random: &mut u64) -> [u8; 52] {
    junk([0x80, 200], random)
}

/// Returns a fragment of the handshake message that a DTLS stack would expect next.
fn handshake_junk(random: &mut u64) -> [u8; 52] {
    let mut datagram = junk([22, 254], random);
    datagram[2..13].copy_from_slice(&[253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 39]);
    datagram[13..25].copy_from_slice(&[1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 27]);
    datagram
}

type Junk = fn(&mut u64) -> [u8; 52];

/// The kinds of datagram, and how many from an unrelated socket must be read at each port.
const KINDS: [(&str, Junk, u64); 3] = [
    ("RTP", rtp_junk, 1_000_000),
    ("RTCP", rtcp_junk, 1_000_000),
    ("DTLS fragments", handshake_junk, 200_000),
];

/// The number of datagrams with the peer's source address that are sent to each port.
const SPOOFED: u32 = 100_000;

/// A viewer and a camera that are connected by a path, with flowing media.
struct Scene {
    viewer: Arc<Stack>,
    camera: Arc<Stack>,
    media: mpsc::Receiver<RtpArrival>,
    path: Path,
    ports: [SocketAddr; 2],
    playing: JoinHandle<()>,
    _events: (StackEvents, StackEvents),
}

fn config(media_queue: usize) -> StackConfig {
    StackConfig {
        codecs: vec![Codec::H264, Codec::Opus],
        bind: vec!["127.0.0.1:0".to_owned()],
        policy: IcePolicy::All,
        mdns: Mdns::Ignore,
        authorities: Authorities::system(),
        detour: None,
        media_queue,
        rtx: true,
    }
}

async fn address(events: &mut StackEvents) -> (String, SocketAddr) {
    loop {
        if let Some(StackEvent::Candidate(text)) = events.events.recv().await {
            let words: Vec<&str> = text.split(' ').collect();
            let address = format!("{}:{}", words[4], words[5]).parse().expect("an address");
            return (text, address);
        }
    }
}

impl Scene {
    async fn open() -> Self {
        let (viewer, mut events) = Stack::build(&config(4096)).await.expect("builds");
        viewer.receive(MediaKind::Video).await.expect("receives");
        let offer = viewer.connection().create_offer(None).await.expect("offers");
        let text = offer.sdp.clone();
        viewer.set_local(offer).await.expect("sets");
        let (camera, mut queues) = Stack::build(&config(0)).await.expect("builds");
        let video = LocalTrack::with_rtx(Codec::H264, "s", "video");
        camera.add_track(&video).await.expect("attaches");
        let answer = camera.answer(&text).await.expect("answers");
        viewer.apply_answer(&answer).await.expect("applies");
        let (candidate, camera_address) = address(&mut queues).await;
        let (_, viewer_address) = address(&mut events).await;
        let path = Path::open(camera_address).await.expect("sockets");
        let port = path.address().expect("bound").port();
        let reported =
            candidate.replace(&format!(" {} ", camera_address.port()), &format!(" {port} "));
        viewer.add_candidate(&reported).await.expect("adds");
        let media = events.media.take().expect("a receiver has media");
        let playing = tokio::spawn(async move {
            let mut beat = interval(Duration::from_millis(10));
            for n in 0_u16.. {
                beat.tick().await;
                let header = rtp::Header {
                    version: 2,
                    marker: true,
                    sequence_number: n,
                    timestamp: u32::from(n) * 900,
                    ..rtp::Header::default()
                };
                let payload = vec![0x65, 0x88, 0x84].into();
                let _ = video.send(rtp::Packet { header, payload }).await;
            }
        });
        let ports = [viewer_address, camera_address];
        let _events = (events, queues);
        let (viewer, camera) = (Arc::new(viewer), Arc::new(camera));
        let mut scene = Self { viewer, camera, media, path, ports, playing, _events };
        scene.flows().await;
        scene
    }

    /// Waits for a hundred more packets.
    async fn flows(&mut self) {
        while self.media.try_recv().is_ok() {}
        for _ in 0..100 {
            let packet = timeout(Duration::from_secs(30), self.media.recv()).await;
            packet.expect("media goes on").expect("the connection lives");
        }
    }

    async fn close(self) {
        self.playing.abort();
        self.viewer.close().await.expect("closes");
        self.camera.close().await.expect("closes");
    }
}

/// Returns the number of datagrams for this port that the kernel dropped because its queue was
/// full.
fn overflowed(port: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("Linux");
    let wanted = format!(":{:04X}", port.port());
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut drops =
        lines.filter(|words| words.get(1).is_some_and(|local| local.ends_with(&wanted)));
    drops.next().and_then(|words| words.last()?.parse().ok()).unwrap_or_default()
}

/// Sends datagrams until this many were read at each port.
fn attack(ports: [SocketAddr; 2], make: Junk, count: u64, stop: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut random = 0x5eed;
    let before = ports.map(overflowed);
    let (mut sent, mut lost) = (0, 0);
    while sent - lost < count && !stop.load(Ordering::Relaxed) {
        for _ in 0..100 {
            for port in ports {
                let _ = socket.send_to(&make(&mut random), port);
            }
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
        if sent % 10_000 == 0 {
            let now = ports.map(overflowed);
            let over = (0..2).map(|n| now[n].saturating_sub(before[n])).max().unwrap_or_default();
            if over > lost {
                std::thread::sleep(Duration::from_millis(5));
            }
            lost = over;
        }
    }
}

/// Stops an attack when dropped, so that it also ends with a failed test.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn datagrams_of_an_unrelated_socket_cost_no_memory() {
    for (name, make, count) in KINDS {
        costs(COST, &format!("{count} strangers' {name}"), async || {
            let mut scene = Scene::open().await;
            let stop = Stop(Arc::default());
            let (ports, stopped) = (scene.ports, Arc::clone(&stop.0));
            let (before, spent) = (HEAP.current_usage(), crate::masters::cpu_time());
            let attacking = spawn_blocking(move || attack(ports, make, count, &stopped));
            while !attacking.is_finished() {
                scene.flows().await;
            }
            attacking.await.expect("it does not panic");
            scene.flows().await;
            let grown = HEAP.current_usage().saturating_sub(before);
            let spent = crate::masters::cpu_time().saturating_sub(spent);
            eprintln!("security: {name}: {} kB more, {spent:?} of processor time", grown / 1024);
            assert!(grown < LEFT, "{name}: {grown} bytes");
            scene.close().await;
        });
    }
}

/// Anyone who knows both addresses can spoof a source address.
#[test]
fn datagrams_with_the_peers_address_are_bounded() {
    for (name, make, _) in KINDS {
        costs(COST, &format!("spoofed {name}"), async || {
            let mut scene = Scene::open().await;
            let before = HEAP.current_usage();
            let mut random = 0x5eed;
            for n in 0..SPOOFED {
                scene.path.send_to_viewer(&make(&mut random)).await;
                scene.path.send_to_master(&make(&mut random)).await;
                if n % 64 == 63 {
                    sleep(Duration::from_millis(1)).await;
                }
                while scene.media.try_recv().is_ok() {}
            }
            scene.flows().await;
            let grown = HEAP.current_usage().saturating_sub(before);
            eprintln!("security: spoofed {name}: {} kB more", grown / 1024);
            assert!(grown < LEFT, "{name}: {grown} bytes");
            scene.close().await;
        });
    }
}
