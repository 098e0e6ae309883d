//! Runs the `session-testing` checks on the ports of this workspace.

#[path = "conformance/peer.rs"]
mod peer;
#[path = "conformance/signaling.rs"]
mod signaling;

use clock_tokio::TokioClock;
use session_testing::{check_clock, check_peer, check_signaling};

#[tokio::test]
async fn clock_tokio() {
    let report = check_clock(&TokioClock::start()).await;
    report.assert_kept();
    eprintln!("clock-tokio\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signaling_aws() {
    let report = check_signaling(&mut signaling::Stage::start().await).await;
    report.assert_kept();
    assert_eq!(report.not_shown(), Vec::<&str>::new());
    eprintln!("signaling-aws\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_webrtc() {
    let report = check_peer(&mut peer::Stage::new()).await;
    report.assert_kept();
    assert_eq!(report.not_shown(), Vec::<&str>::new());
    eprintln!("peer-webrtc\n{report}");
}
