//! Tests the camera's behaviour as a master: repeated ids, no answer, late answers, lost signaling
//! connections.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Viewer, config, emulator, event, start};
use kvs_camera::{Behaviour, CameraConfig, CameraEvent, IgnoredOffer, LeaveReason, Trickle};
use kvs_emulator::{Emulator, Role, ServiceMessage};
use peer_webrtc::Codec;
use tokio::time::Instant;

/// Long enough to make another offer meanwhile on a busy machine.
const LINGER: Duration = Duration::from_secs(5);

fn left(session: u64, reason: LeaveReason) -> impl Fn(&CameraEvent) -> bool {
    move |event| {
        matches!(event, CameraEvent::ViewerLeft { session: s, reason: r, .. }
            if *s == session && *r == reason)
    }
}

fn ignored(why: IgnoredOffer) -> impl Fn(&CameraEvent) -> bool {
    move |event| matches!(event, CameraEvent::OfferIgnored { reason, .. } if *reason == why)
}

#[tokio::test]
async fn repeated_id_replaces_its_session() {
    let emulator = emulator().await;
    let (camera, mut events) = start(config(&emulator)).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    let old = viewer.begin_again().await;
    viewer.go_live().await;
    event(&mut events, "the old session's end", left(1, LeaveReason::Replaced)).await;
    assert!(viewer.picture().await.keyframe);
    assert_eq!(viewer.answers.len(), 2);
    old.close().await.expect("closes");
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn repeated_id_is_ignored_and_media_continues() {
    let emulator = emulator().await;
    let behaviour = Behaviour::IgnoreRepeated;
    let (camera, mut events) = start(CameraConfig { behaviour, ..config(&emulator) }).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    let offer = viewer.stack.connection().create_offer(None).await.expect("offers");
    viewer.send_offer(&offer.sdp);
    event(&mut events, "silence", ignored(IgnoredOffer::Repeated)).await;
    for _ in 0..10 {
        viewer.picture().await;
    }
    assert_eq!(viewer.answers.len(), 1);
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn id_of_vanished_viewer_lingers() {
    let emulator = Arc::new(emulator().await);
    let config = CameraConfig {
        behaviour: Behaviour::Linger(LINGER),
        connect_timeout: Duration::from_secs(4),
        disconnect_timeout: Duration::ZERO,
        ..config(&emulator)
    };
    let (camera, mut events) = start(config).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    // A session that is closed in order frees its id at once.
    viewer.go_live().await;
    viewer.begin_again().await.close().await.expect("closes");
    event(&mut events, "the end", left(1, LeaveReason::ClosedByViewer)).await;
    // A session that never connects is dropped, and frees its id.
    let offer = viewer.make_offer().await;
    let offer = without_candidates(&offer);
    viewer.send_offer(&offer);
    event(&mut events, "the drop", left(2, LeaveReason::NeverConnected)).await;
    viewer.begin_again().await.close().await.expect("closes");
    // A vanished viewer keeps its id for a while.
    let other = Arc::clone(&emulator);
    tokio::task::spawn_blocking(move || live_and_killed(other)).await.expect("killed");
    event(&mut events, "the vanishing", left(3, LeaveReason::Vanished)).await;
    let gone = Instant::now();
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.offer().await;
    event(&mut events, "silence", ignored(IgnoredOffer::Lingering)).await;
    tokio::time::sleep_until(gone + LINGER).await;
    viewer.begin_again().await.close().await.expect("closes");
    viewer.go_live().await;
    camera.shutdown().await;
}

#[tokio::test]
async fn full_camera_ignores_offer() {
    let emulator = emulator().await;
    let (camera, mut events) = start(CameraConfig { sessions_max: 1, ..config(&emulator) }).await;
    let mut first = Viewer::open(&emulator, "first", Codec::H264).await;
    first.go_live().await;
    let mut second = Viewer::open(&emulator, "second", Codec::H264).await;
    second.offer().await;
    event(&mut events, "silence", ignored(IgnoredOffer::Full)).await;
    first.stack.close().await.expect("closes");
    event(&mut events, "a place", left(1, LeaveReason::ClosedByViewer)).await;
    second.begin_again().await.close().await.expect("closes");
    second.go_live().await;
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn delayed_answer_without_trickle_contains_candidates() {
    let emulator = emulator().await;
    let config = CameraConfig {
        answer_delay: Duration::from_millis(700),
        trickle: Trickle::Never,
        ..config(&emulator)
    };
    let (camera, _events) = start(config).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    let began = Instant::now();
    viewer.go_live().await;
    assert!(began.elapsed() >= Duration::from_millis(700));
    let answer = &viewer.answers[0];
    assert!(answer.contains("a=candidate:") && answer.contains("127.0.0.1"), "{answer}");
    assert!(!answer.contains("a=ice-options"), "{answer}");
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn lost_signaling_connection_is_reopened_and_media_continues() {
    let emulator = emulator().await;
    let (camera, mut events) = start(config(&emulator)).await;
    let up = |e: &CameraEvent| matches!(e, CameraEvent::SignalingConnected);
    event(&mut events, "the first link", up).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    assert_eq!(emulator.disconnect("door", Some(Role::Master), None, None), 1);
    let lost = |e: &CameraEvent| matches!(e, CameraEvent::SignalingLost { .. });
    event(&mut events, "the loss", lost).await;
    event(&mut events, "the second link", up).await;
    assert_eq!(emulator.send("door", Some(Role::Master), None, ServiceMessage::GoAway), 1);
    event(&mut events, "the third link", up).await;
    assert_eq!(emulator.calls().get("ConnectAsMaster").map(|calls| calls.requests), Some(3));
    for _ in 0..15 {
        viewer.picture().await;
    }
    let mut second = Viewer::open(&emulator, "second", Codec::H264).await;
    second.go_live().await;
    camera.shutdown().await;
    emulator.shutdown().await;
}

/// Two cameras on the same channel displace each other, until one of them gives up.
#[tokio::test]
async fn one_of_two_cameras_on_a_channel_gives_up() {
    let emulator = emulator().await;
    let (first, mut first_events) = start(config(&emulator)).await;
    let (second, mut second_events) = start(config(&emulator)).await;
    let displaced = |e: &CameraEvent| matches!(e, CameraEvent::Displaced { times: 3 });
    tokio::select! {
        _ = event(&mut first_events, "the displacement", displaced) => {}
        _ = event(&mut second_events, "the displacement", displaced) => {}
    }
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    first.shutdown().await;
    second.shutdown().await;
    emulator.shutdown().await;
}

fn without_candidates(sdp: &str) -> String {
    sdp.lines()
        .filter(|line| !line.starts_with("a=candidate"))
        .map(|l| format!("{l}\r\n"))
        .collect()
}

/// Runs a viewer that goes live and is killed: its tasks and sockets end without a close.
fn live_and_killed(emulator: Arc<Emulator>) {
    let killed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
            viewer.go_live().await;
        });
        runtime.shutdown_background();
    });
    killed.join().expect("it was live");
}
