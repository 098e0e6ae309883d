//! Tests the start of a camera: what is refused, in which order, and channels that are created.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::{Viewer, config, emulator, signaling, start};
use kvs_camera::{Camera, CameraConfig, CameraError, Source};
use kvs_emulator::{Action, Emulator, EmulatorConfig, Fault, Match, Point};
use negotiation_core::FailureCode;
use peer_webrtc::Codec;
use signaling_aws::SignalingConfig;

#[tokio::test]
async fn bad_file_is_refused_before_the_network_is_touched() {
    let emulator = emulator().await;
    let source = Source::File("/nowhere/clip.mp4".into());
    let refused = Camera::start(CameraConfig { source, ..config(&emulator) }).await;
    assert!(matches!(refused, Err(CameraError::Clip(_))), "{refused:?}");
    let refused = Camera::start(CameraConfig { sessions_max: 0, ..config(&emulator) }).await;
    assert!(matches!(refused, Err(CameraError::Setting { field: "sessions_max", .. })));
    assert!(emulator.calls().is_empty(), "{:?}", emulator.calls());
}

#[tokio::test]
async fn service_refusal_is_reported_at_start() {
    let emulator = emulator().await;
    let code = |result: Result<Camera, CameraError>| match result {
        Err(CameraError::Connect(failure)) => failure.code,
        other => panic!("{other:?}"),
    };
    let elsewhere = |channel: &str, secret: &str| {
        let signaling = SignalingConfig::builder(channel)
            .region(emulator.region())
            .endpoint_url(emulator.endpoint())
            .credentials(kvs_emulator::DEFAULT_ACCESS_KEY_ID, secret, None)
            .build();
        CameraConfig::new(signaling.expect("valid"))
    };
    let secret = kvs_emulator::DEFAULT_SECRET_ACCESS_KEY;
    assert_eq!(code(Camera::start(elsewhere("window", secret)).await), FailureCode::NoChannel);
    assert_eq!(code(Camera::start(elsewhere("door", "wrong")).await), FailureCode::AccessDenied);
}

#[tokio::test]
async fn brief_service_failure_at_start_is_retried() {
    let failed =
        || Action::Refuse { status: 500, error: "InternalFailure".into(), message: String::new() };
    for (point, action) in
        [(Point::Call, failed()), (Point::Call, Action::Reset), (Point::Upgrade, failed())]
    {
        // Each case has its own service, because the responses of one are cached.
        let emulator = emulator().await;
        let fault = Fault::new(Match { times: Some(2), ..Match::on(point) }, action);
        let id = emulator.faults().add(fault).expect("fits");
        let (camera, _events) = start(config(&emulator)).await;
        assert_eq!(emulator.faults().hits(id), 2);
        camera.shutdown().await;
    }
}

#[tokio::test]
async fn unavailable_service_at_start_is_reported_once() {
    let emulator = emulator().await;
    let refused =
        Action::Refuse { status: 500, error: "InternalFailure".into(), message: String::new() };
    let fault = Fault::new(Match { times: Some(6), ..Match::on(Point::Upgrade) }, refused);
    let id = emulator.faults().add(fault).expect("fits");
    let reported = AtomicU32::new(0);
    let waiting = |_: &_| {
        reported.fetch_add(1, Ordering::Relaxed);
    };
    let camera = Camera::start_noting(config(&emulator), waiting).await.expect("starts");
    assert_eq!(emulator.faults().hits(id), 6);
    assert_eq!(reported.load(Ordering::Relaxed), 1, "however often it failed");
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn missing_channel_is_created() {
    // AWS takes a moment to create a channel, and so does this emulator.
    let mut settings = EmulatorConfig::default();
    settings.lifetimes.creating = std::time::Duration::from_millis(700);
    let emulator = Emulator::start(settings).await.expect("starts");
    let config =
        CameraConfig { create_channel: true, ..CameraConfig::new(signaling(&emulator, "unused")) };
    let (camera, _events) = start(config.clone()).await;
    assert!(emulator.channel_arn("door").is_some());
    camera.shutdown().await;
    // The second time the channel exists already.
    let (camera, _events) = start(config).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    camera.shutdown().await;
    emulator.shutdown().await;
}
