//! Tests that a trickled candidate is checked at once.

use std::time::Duration;

use negotiation_core::MediaKind;
use peer_webrtc::Codec;
use peer_webrtc::stack::Stack;
use tokio::net::UdpSocket;
use tokio::select;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::common::{Master, config, within};

/// The number of candidates that are added at once.
const CANDIDATES: u32 = 15;

/// A fraction of the agent's tick of 20 ms, in [`STEP`]s.
const SOON: u32 = 3;
const STEP: Duration = Duration::from_millis(2);

/// Returns how many steps `future` takes. Missed steps are not made up for, so that time in which
/// this process did not run does not count.
async fn steps(future: impl Future<Output = ()>) -> u32 {
    let mut steps = interval_at(Instant::now() + STEP, STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0;
    let mut future = std::pin::pin!(future);
    loop {
        select! {
            biased;
            () = &mut future => return count,
            _ = steps.tick() => count += 1,
        }
    }
}

/// Returns how many candidates were checked within [`SOON`].
async fn checked_soon() -> usize {
    let (viewer, _events) =
        Stack::build(&config(&[Codec::H264, Codec::Opus], 1)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.receive(MediaKind::Audio).await.expect("receives");
    let offer = viewer.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    viewer.set_local(offer).await.expect("sets");
    let master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(&text).await.expect("answers");
    viewer.apply_answer(&answer).await.expect("applies");
    let mut soon = 0;
    for n in 0..CANDIDATES {
        // Start at varying points within a tick.
        sleep(Duration::from_millis(u64::from(n * 7 % 20))).await;
        let socket =
            UdpSocket::bind((format!("127.0.1.{}", n + 1).as_str(), 0)).await.expect("a socket");
        let port = socket.local_addr().expect("bound").port();
        let text = format!("candidate:{n} 1 udp {} 127.0.1.{} {port} typ host", 1000 + n, n + 1);
        let checked = steps(async {
            viewer.add_candidate(&text).await.expect("adds");
            within("a check", socket.recv(&mut [0; 1500])).await.expect("received");
        });
        soon += usize::from(checked.await < SOON);
    }
    viewer.close().await.expect("closes");
    master.stack.close().await.expect("closes");
    soon
}

/// By chance three of ten are checked in time, as the next tick may be near. The test repeats,
/// because a busy machine delays some checks.
#[tokio::test]
async fn candidate_is_checked_before_the_next_tick() {
    let mut best = 0;
    for _ in 0..30 {
        best = best.max(checked_soon().await);
        if best >= 13 {
            return;
        }
    }
    panic!("of {CANDIDATES} only {best} were checked at once");
}
