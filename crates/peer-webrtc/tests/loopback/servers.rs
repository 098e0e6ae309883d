//! Tests STUN and TURN servers with names that are resolved late, or never.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use negotiation_core::{IceServer, MediaKind, Secret};
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Codec, IcePolicy, Lookup, Resolve, Resolver};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::common::{Master, config, within};

/// Ignores every query except those for `late`, which it answers with this address after a delay.
#[derive(Clone)]
struct Swallows {
    under_way: Arc<AtomicUsize>,
    late: SocketAddr,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Resolve for Swallows {
    fn resolve(&self, host: &str, _port: u16) -> Lookup {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let under_way = UnderWay(Arc::clone(&self.under_way));
        let late = (host == "late").then_some(self.late);
        Box::pin(async move {
            let _under_way = under_way;
            match late {
                Some(address) => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    io::Result::Ok(vec![address])
                }
                None => std::future::pending().await,
            }
        })
    }
}

fn servers(uris: &[&str]) -> Vec<IceServer> {
    let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
    vec![IceServer { uris, username: Some(Secret::new("u")), password: Some(Secret::new("p")) }]
}

const SWALLOWED: [&str; 4] = [
    "stun:a.example.org:443",
    "turn:b.example.org:443?transport=udp",
    "turn:c.example.org:443?transport=udp",
    "turns:d.example.org:443?transport=tcp",
];

async fn viewer(config: &StackConfig) -> (Stack, StackEvents, Swallows, UdpSocket) {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let late = server.local_addr().expect("bound");
    let swallows = Swallows { under_way: Arc::default(), late };
    let built = Stack::build_resolving(config, Resolver::new(swallows.clone())).await;
    let (stack, events) = built.expect("builds");
    stack.receive(MediaKind::Video).await.expect("receives");
    (stack, events, swallows, server)
}

async fn offer(stack: &Stack) -> String {
    let offer = stack.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    stack.set_local(offer).await.expect("sets");
    text
}

async fn event(events: &mut StackEvents, wanted: impl Fn(&StackEvent) -> bool) -> StackEvent {
    within("an event", async {
        loop {
            let event = events.events.recv().await.expect("the connection is open");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

#[tokio::test]
async fn unresolved_names_are_reported_without_delay() {
    let (stack, mut events, swallows, _server) = viewer(&config(&[Codec::H264], 0)).await;
    let began = Instant::now();
    stack.use_servers(&servers(&SWALLOWED)).await.expect("used");
    let text = offer(&stack).await;
    let mut master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(&text).await.expect("answers");
    stack.apply_answer(&answer).await.expect("applies");
    for candidate in master.candidates().await {
        stack.add_candidate(&candidate).await.expect("adds");
    }
    use peer_webrtc::stack::RTCPeerConnectionState::Connected;
    event(&mut events, |event| matches!(event, StackEvent::Connection(Connected))).await;
    let connected = began.elapsed();
    // Three servers use UDP: names of stream servers are resolved when a stream is opened.
    let unresolved = |event: &StackEvent| matches!(event, StackEvent::IceServersUnresolved(3));
    event(&mut events, unresolved).await;
    assert!(connected < began.elapsed(), "{connected:?}: it does not wait for names");
    stack.close().await.expect("closes");
    assert_eq!(swallows.under_way.load(Ordering::SeqCst), 0);
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn close_and_new_servers_stop_lookups() {
    let (stack, _events, swallows, _server) = viewer(&config(&[Codec::H264], 0)).await;
    stack.use_servers(&servers(&SWALLOWED)).await.expect("used");
    offer(&stack).await;
    assert_eq!(swallows.under_way.load(Ordering::SeqCst), 3);
    stack.close().await.expect("closes");
    assert_eq!(swallows.under_way.load(Ordering::SeqCst), 0);
    // New servers replace the previous ones.
    let (stack, _events, swallows, _server) = viewer(&config(&[Codec::H264], 0)).await;
    for _ in 0..20 {
        stack.use_servers(&servers(&SWALLOWED)).await.expect("used");
        assert_eq!(swallows.under_way.load(Ordering::SeqCst), 3);
    }
    stack.close().await.expect("closes");
}

/// A relay gets an allocation request, while the offer is pending and after it was answered.
#[tokio::test]
async fn late_resolved_name_is_still_used() {
    for answered in [false, true] {
        let (stack, _events, _swallows, server) = viewer(&config(&[Codec::H264], 0)).await;
        let uris = ["turn:late:443?transport=udp", "turn:never:443?transport=udp"];
        stack.use_servers(&servers(&uris)).await.expect("used");
        let text = offer(&stack).await;
        let master = Master::new(Codec::H264).await;
        if answered {
            // The answer has no candidate, so there is no connection yet.
            let answer = master.stack.answer(&text).await.expect("answers");
            stack.apply_answer(&answer).await.expect("applies");
        }
        let mut buffer = [0; 1500];
        let (length, _) =
            within("an allocation", server.recv_from(&mut buffer)).await.expect("one");
        assert_eq!(buffer[..2], [0, 3], "an Allocate request of {length} bytes");
        // The exchange is unchanged.
        match answered {
            true => {
                let state = stack.connection().pending_local_description().await;
                assert!(state.is_none(), "it is stable");
                offer(&stack).await;
            }
            false => {
                let answer = master.stack.answer(&text).await.expect("answers");
                stack.apply_answer(&answer).await.expect("applies");
            }
        }
        stack.close().await.expect("closes");
        master.stack.close().await.expect("closes");
    }
}

#[tokio::test]
async fn relay_only_reports_when_there_is_no_relay() {
    let relayed = StackConfig { policy: IcePolicy::Relay, ..config(&[Codec::H264], 0) };
    let (stack, _events, _swallows, server) = viewer(&relayed).await;
    stack.use_servers(&servers(&["turn:late:443?transport=udp"])).await.expect("used");
    offer(&stack).await;
    let mut buffer = [0; 1500];
    within("an allocation", server.recv_from(&mut buffer)).await.expect("one");
    stack.close().await.expect("closes");

    let (stack, _events, _swallows, _server) = viewer(&relayed).await;
    let refused = stack.use_servers(&servers(&["turn:never:443?transport=udp"])).await;
    let complaint = refused.expect_err("nothing is left").to_string();
    assert!(complaint.contains("no TURN server's name is resolved"), "{complaint}");
    stack.close().await.expect("closes");
}
