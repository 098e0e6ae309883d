//! Tests the product against AWS itself: this camera and this viewer on your channel.
//!
//! The test runs only if a channel name is given; otherwise it reports that it was skipped.
//!
//! ```sh
//! KVS_LIVE_CHANNEL=name-or-arn AWS_REGION=us-west-2 AWS_PROFILE=me \
//!     cargo test -p kvs-viewer-tests --test live -- --nocapture
//! ```
//!
//! The channel must exist, and no other master may be connected to it. AWS charges for signaling
//! messages, and for TURN minutes if a relay is used.
#![forbid(unsafe_code)]

use std::time::Duration;

use kvs_camera::{Camera, CameraConfig};
use kvs_viewer::{Session, SessionConfig};
use negotiation_core::{EndReason, Event, Settings};
use peer_webrtc::PeerConfig;
use signaling_aws::SignalingConfig;
use viewer_session::SessionUpdate;

#[tokio::test(flavor = "multi_thread")]
async fn viewer_is_live_through_aws() {
    let Ok(channel) = std::env::var("KVS_LIVE_CHANNEL") else {
        eprintln!("live: skipped, since KVS_LIVE_CHANNEL names no channel of AWS to run against");
        return;
    };
    let signaling = || SignalingConfig::builder(&channel).build().expect("a channel");
    let camera = Camera::start(CameraConfig::new(signaling())).await.expect("a camera");
    let session = Settings::one_retry().check().expect("the default");
    let patience = session.worst_case_duration();
    let (signaling, peer) = (signaling(), PeerConfig::new(false));
    let config = SessionConfig { session, signaling, peer, watch_network: true };
    let (mut viewer, mut media) = Session::start(config).expect("a viewer");
    let drain = tokio::spawn(async move { while media.next().await.is_some() {} });
    let watching = async {
        while let Some(reported) = viewer.handle.next_event().await {
            if let SessionUpdate::Event { at, event } = reported {
                eprintln!("live: {at} {event:?}");
                if event == Event::Live {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    viewer.handle.close();
                }
            }
        }
    };
    tokio::time::timeout(patience + Duration::from_secs(20), watching).await.expect("the end");
    let outcome = viewer.ended().await.expect("the session's task");
    drain.await.expect("the media's task");
    camera.shutdown().await;
    assert_eq!((outcome.reason, outcome.was_live), (EndReason::Closed, true), "{outcome:?}");
}
