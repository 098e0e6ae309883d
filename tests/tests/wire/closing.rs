//! Closing, and several sessions: scenarios 17, 49, 65 and 66.

use kvs_camera::{Behaviour, CameraEvent};
use kvs_emulator::{Action, Match, MessageType, Point, Role};
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{EndReason, Event, Phase, RetryDelay};

use crate::stage::{LONGEST, Stage};
use crate::viewer::Watching;
use crate::{ms, scenario, secs, shown};

/// Starts a session, brings it into a phase, and keeps it there.
async fn brought(stage: &Stage, network: &Network, phase: Phase) -> Watching {
    stage.emulator.faults().clear();
    network.unblock();
    let mut plan = stage.plan_over(network);
    plan.settings.establish_timeout = secs(60);
    plan.settings.answer_timeouts = vec![secs(60)];
    plan.settings.first_media_timeout = secs(60);
    plan.settings.restart_timeout = secs(60);
    let hang = Action::Hang { ms: None };
    match phase {
        Phase::Connecting => {
            let upgrade = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
            stage.fault(upgrade, hang);
        }
        Phase::Offering => {
            let call = Match { call: Some("GetIceServerConfig".into()), ..Match::on(Point::Call) };
            stage.fault(call, hang);
        }
        Phase::AwaitingAnswer | Phase::BackingOff => {
            stage.fault(Match::every(MessageType::SdpAnswer), Action::Drop);
        }
        Phase::Establishing => network.block(&Kind::ALL),
        Phase::AwaitingMedia => network.block(&[Kind::Rtp]),
        Phase::Idle
        | Phase::AwaitingOffer
        | Phase::Answering
        | Phase::Live
        | Phase::Recovering
        | Phase::Closing
        | Phase::Ended => {}
    }
    if phase == Phase::BackingOff {
        plan.settings.answer_timeouts = vec![ms(100)];
        plan.settings.retry_delay = RetryDelay::Fixed(secs(60));
    }
    let mut viewer = plan.watch();
    if phase == Phase::Recovering {
        viewer.live().await;
        stage.fault(Match::every(MessageType::SdpAnswer), Action::Drop);
        viewer.handle.control().restart();
    }
    let entered = |event: &Event| matches!(event, Event::PhaseChanged { to, .. } if *to == phase);
    viewer.until(phase.as_str(), entered).await;
    viewer
}

// Shows: N22.
#[test]
fn w49_close_in_any_phase_ends_session() {
    scenario(49, "", async |stage| {
        stage.camera_with(|camera| camera.behaviour = Behaviour::Renegotiate).await;
        let network = Network::default();
        let phases = [
            Phase::Connecting,
            Phase::Offering,
            Phase::AwaitingAnswer,
            Phase::Establishing,
            Phase::AwaitingMedia,
            Phase::Live,
            Phase::Recovering,
            Phase::BackingOff,
        ];
        let mut slowest = ms(0);
        for phase in phases {
            let viewer = brought(stage, &network, phase).await;
            let closed = tokio::time::Instant::now();
            viewer.handle.close();
            viewer.handle.close();
            let log = viewer.log.clone();
            let outcome = viewer.ended().await;
            assert_eq!(outcome.reason, EndReason::Closed, "{phase}");
            let took = closed.elapsed();
            // The close has its own deadline of 2 s; those of the phases are 60 s.
            assert!(took < secs(10), "{phase}: {took:?}");
            slowest = slowest.max(took);
            let ended = log.count(|entry| {
                use negotiation_core::Output;
                matches!(entry, crate::viewer::Entry::Output(Output::Event(Event::Ended(_))))
            });
            assert_eq!(ended, 1, "{phase}");
            assert_eq!(stage.gone().await, 0, "{phase}: the service has no viewer any more");
        }
        let what = format!("closed in {} phases, once each, nothing left", phases.len());
        shown(what, slowest)
    });
}

#[test]
fn w66_handle_dropped() {
    scenario(66, "", async |stage| {
        let viewer = stage.live().await;
        let log = viewer.log.clone();
        let dropped = tokio::time::Instant::now();
        let outcome = viewer.dropped().await;
        assert_eq!((outcome.reason, outcome.was_live), (EndReason::Closed, true));
        assert!(log.story().contains("AttemptEnded"), "{}", log.story());
        assert_eq!(stage.gone().await, 0);
        let took = dropped.elapsed();
        shown("closed in order, the camera saw it", took)
    });
}

#[test]
fn w65_two_viewers() {
    scenario(65, "", async |stage| {
        let mut one = stage.live().await;
        let before = stage.calls("ConnectAsViewer");
        let opened = tokio::time::Instant::now();
        let mut two = stage.watch();
        two.live().await;
        let took = opened.elapsed();
        let mut ids = stage.viewers();
        ids.sort();
        assert_eq!(ids, ["hall", "hall-2"], "of one pool");
        for viewer in [&mut one, &mut two] {
            viewer.more_pictures(30).await;
        }
        assert_eq!(stage.calls("ConnectAsViewer"), (before.0 + 1, 0));
        let pictures = stage.untouched(two).await;
        // The keyframe that the second viewer requested reaches the first one too; the first loses
        // no picture.
        let more = stage.untouched(one).await;
        let what = format!("hall and hall-2 live, {more} and {pictures} pictures, none lost");
        shown(what, took)
    });
}

// Shows: N3.
#[test]
fn w17_churn() {
    scenario(17, "", async |stage| {
        stage
            .camera_with(|camera| {
                camera.behaviour = Behaviour::Linger(secs(55));
                camera.sessions_max = 10;
            })
            .await;
        let begun = tokio::time::Instant::now();
        for n in 0..49_u64 {
            let viewer = stage.watch();
            // Some sessions are closed while they connect, some once they are live, some in
            // between.
            tokio::time::sleep(ms(40 * (n % 6))).await;
            viewer.close().await;
        }
        let churned = begun.elapsed();
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        let mut last = plan.watch();
        let live = tokio::time::timeout(LONGEST / 2, last.live()).await.expect("it goes live");
        last.more_pictures(15).await;
        let (connects, refused) = stage.calls("ConnectAsViewer");
        assert_eq!(refused, 0, "within the quota: {connects} connects");
        let joined = stage.camera_told(|event| matches!(event, CameraEvent::ViewerJoined { .. }));
        last.close().await;
        let what = format!(
            "50 in {churned:.1?}, {connects} connects, none refused, {joined} joined; the last is live"
        );
        shown(what, live.saturating_since(Default::default()))
    });
}
