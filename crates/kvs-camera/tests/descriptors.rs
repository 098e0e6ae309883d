//! Tests that a camera closes everything it opens, by counting the process's sockets and the
//! runtime's tasks.
//!
//! This test has its own binary, because other tests would open descriptors meanwhile.
#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Viewer, config, descriptors, emulator, event, start, within};
use kvs_camera::{CameraConfig, CameraEvent, FrameLog, LeaveReason};
use peer_webrtc::Codec;

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_camera_leave_no_descriptors_or_tasks() {
    let emulator = emulator().await;
    let dir = tempfile::tempdir().expect("temp dir");
    let log = dir.path().join("frames.jsonl");
    let (sockets, alive) = (descriptors(), tasks());
    for round in 0..4 {
        let config = CameraConfig {
            frame_log: FrameLog::File(log.clone()),
            connect_timeout: Duration::from_secs(4),
            ..config(&emulator)
        };
        let (camera, mut events) = start(config).await;
        let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
        let idle = descriptors().len();
        viewer.go_live().await;
        assert!(descriptors().len() > idle, "the count sees a session");

        // A session that never connects frees what it opened.
        let mut stranger = Viewer::open(&emulator, "stranger", Codec::H264).await;
        let offer = stranger.make_offer().await;
        stranger.stack.close().await.expect("closes");
        let before = descriptors();
        stranger.send_offer(&offer);
        event(&mut events, "the drop", |event| {
            let reason = LeaveReason::NeverConnected;
            matches!(event, CameraEvent::ViewerLeft { reason: r, .. } if *r == reason)
        })
        .await;
        // Connections of earlier calls may close meanwhile, but no descriptor opened since
        // remains.
        let left: Vec<_> = descriptors().difference(&before).cloned().collect();
        assert_eq!(left, [""; 0], "round {round}");

        if round % 2 == 0 {
            viewer.stack.close().await.expect("closes");
            drop((viewer, stranger));
            camera.shutdown().await;
        } else {
            // The camera is closed first.
            camera.shutdown().await;
            viewer.stack.close().await.expect("closes");
            drop((viewer, stranger));
        }
        let lines = std::fs::read_to_string(&log).expect("written").lines().count();
        assert!(lines > 0, "the frame log is whole once the camera is shut down");
        // The viewers' signaling connections close after their drop, and the emulator's side after
        // them.
        within("everything to be closed", async {
            while descriptors() != sockets || tasks() > alive {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    emulator.shutdown().await;
}
