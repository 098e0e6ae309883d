//! A live session that loses its connectivity to the camera: scenarios 22 to 27, 40 and 45.

use kvs_camera::{Behaviour, CameraEvent};
use kvs_emulator::{Action, Match, Point, Role};
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{Event, Timer};

use crate::stage::Stage;
use crate::viewer::Watching;
use crate::{scenario, secs, shown};

/// Starts a viewer that is live with a camera that answers ICE restarts on its existing connection.
async fn live_and_renegotiable(stage: &mut Stage, network: &Network) -> Watching {
    stage.camera_with(|camera| camera.behaviour = Behaviour::Renegotiate).await;
    let mut viewer = stage.plan_over(network).watch();
    viewer.live().await;
    viewer.more_pictures(5).await;
    viewer
}

fn is_attempt_2(event: &Event) -> bool {
    *event == Event::AttemptStarted { attempt: 2 }
}

#[test]
fn w22_ice_blip() {
    scenario(22, "", async |stage| {
        let network = Network::default();
        stage.camera_with(|camera| camera.behaviour = Behaviour::Renegotiate).await;
        let mut plan = stage.plan_over(&network);
        // On a busy machine a loss of two seconds may last four.
        plan.settings.disconnect_grace = secs(6);
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        network.block(&Kind::ALL);
        let lost = viewer.now();
        tokio::time::sleep(secs(2)).await;
        network.unblock();
        let back = viewer.now();
        let before = viewer.film.len();
        viewer.more_pictures(30).await;
        assert_eq!((viewer.offers(false), viewer.offers(true)), (1, 0), "no offer is sent");
        assert_eq!((viewer.links(), viewer.count(is_attempt_2)), (1, 0));
        let next = viewer.film.pictures()[before].at;
        assert_eq!(viewer.close().await.attempts_total, 1);
        let what = format!("no offer, pictures after {:.1?}", next.saturating_since(lost));
        shown(what, next.saturating_since(back))
    });
}

// Shows: N18.
#[test]
fn w23_ice_disconnected() {
    scenario(23, "", async |stage| {
        let network = Network::default();
        let mut viewer = live_and_renegotiable(stage, &network).await;
        // The viewer's present addresses stay unreachable; the restart brings new ones.
        network.viewer_moves();
        let lost = viewer.now();
        viewer.until("the loss", |event| *event == Event::Disconnected).await;
        viewer.until("the restart", |event| matches!(event, Event::Recovering(_))).await;
        let recovered = viewer.until("recovery", |event| *event == Event::Recovered).await;
        viewer.more_pictures(15).await;
        assert_eq!((viewer.offers(true), viewer.count(is_attempt_2)), (1, 0));
        assert_eq!(viewer.close().await.attempts_total, 1);
        shown("ICE restart, the same attempt", recovered.saturating_since(lost))
    });
}

#[test]
fn w24_ice_failed() {
    scenario(24, "", async |stage| {
        let network = Network::default();
        let mut viewer = live_and_renegotiable(stage, &network).await;
        network.block(&Kind::ALL);
        let lost = viewer.now();
        viewer.until("the restart", |event| matches!(event, Event::Recovering(_))).await;
        viewer.until("attempt 2", is_attempt_2).await;
        assert_eq!(viewer.offers(true), 1, "{}", viewer.log.story());
        network.unblock();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.close().await.attempts_total, 2);
        shown("a restart that brought nothing, attempt 2 live", live.saturating_since(lost))
    });
}

// Shows: N19.
#[test]
fn w25_restart_ignored() {
    scenario(25, "", async |stage| {
        let network = Network::default();
        stage.camera_with(|camera| camera.behaviour = Behaviour::IgnoreRepeated).await;
        let mut plan = stage.plan_over(&network);
        // The test waits for the restart's deadline, not for that of the media.
        plan.settings.media_give_up = secs(20);
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        network.viewer_moves();
        let lost = viewer.now();
        viewer.until("the restart", |event| matches!(event, Event::Recovering(_))).await;
        viewer.until("attempt 2", is_attempt_2).await;
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let fired = Event::DeadlineFired(Timer::Restart);
        assert_eq!(viewer.count(|event| *event == fired), 1, "{}", viewer.log.story());
        assert_eq!(viewer.count(|event| *event == Event::RestartRefused), 1);
        let ignored = |event: &CameraEvent| matches!(event, CameraEvent::OfferIgnored { .. });
        assert_eq!(stage.camera_told(ignored), 1);
        assert_eq!(viewer.close().await.attempts_total, 2);
        shown("one restart deadline, attempt 2 live", live.saturating_since(lost))
    });
}

#[test]
fn w26_network_switch_by_restart() {
    scenario(26, "restart", async |stage| {
        let network = Network::default();
        let mut viewer = live_and_renegotiable(stage, &network).await;
        let last = viewer.film.len() - 1;
        network.viewer_moves();
        stage.cut_viewers(None);
        let switched = viewer.now();
        viewer.handle.control().network_changed();
        let recovered = viewer.until("recovery", |event| *event == Event::Recovered).await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.count(is_attempt_2), 0);
        let lost = viewer.longest_gap(last);
        let took = recovered.saturating_since(switched);
        // Less than the restart's deadline; the session does not wait for the grace after a report
        // of the platform.
        assert!(took < secs(4), "{took:?}");
        assert_eq!(viewer.close().await.attempts_total, 1);
        shown(format!("ICE restart over a new link; no picture for {lost:.2?}"), took)
    });
}

#[test]
fn w26_network_switch_by_attempt() {
    scenario(26, "full attempt", async |stage| {
        let network = Network::default();
        // A master that replaces the session of a repeated client id cannot be restarted.
        let mut viewer = stage.live_over(&network).await;
        network.viewer_moves();
        stage.cut_viewers(None);
        let switched = viewer.now();
        viewer.handle.control().network_changed();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let took = live.saturating_since(switched);
        // The grace, the restart's deadline and one set-up.
        assert!(took < secs(1 + 4 + 4), "{took:?}");
        assert_eq!(viewer.close().await.attempts_total, 2);
        shown("attempt 2 live", took)
    });
}

#[test]
fn w27_offline() {
    scenario(27, "", async |stage| {
        let network = Network::default();
        stage.camera().await;
        let mut plan = stage.plan_over(&network);
        plan.settings.offline_limit = secs(60);
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        let down = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
        let down = stage.fault(down, Action::Reset);
        network.block(&Kind::ALL);
        stage.cut_viewers(None);
        viewer.handle.control().online(false);
        let off = viewer.until("offline", |event| *event == Event::Offline).await;
        // Longer than all deadlines of set-up, recovery and retry together.
        tokio::time::sleep(secs(20)).await;
        assert_eq!(viewer.count(is_attempt_2), 0, "no attempt starts: {}", viewer.log.story());
        assert!(stage.emulator.faults().remove(down));
        network.unblock();
        network.viewer_moves();
        viewer.handle.control().online(true);
        let back = viewer.until("online", |event| *event == Event::Online).await;
        viewer.next_picture(back).await;
        let pictures = viewer.film.pictures().clone();
        let first = pictures.iter().find(|picture| picture.at > back).expect("it came");
        viewer.more_pictures(15).await;
        let outcome = viewer.close().await;
        let away = back.saturating_since(off);
        let what =
            format!("away for {away:.0?}, tried at once; {} attempts", outcome.attempts_total);
        shown(what, first.at.saturating_since(back))
    });
}

#[test]
fn w40_turn_expire() {
    scenario(40, "", async |stage| {
        let network = Network::default();
        let mut viewer = live_and_renegotiable(stage, &network).await;
        let before = stage.calls("GetIceServerConfig").0;
        network.viewer_moves();
        let lost = viewer.now();
        let recovered = viewer.until("recovery", |event| *event == Event::Recovered).await;
        assert_eq!(stage.calls("GetIceServerConfig").0, before + 1, "for the restart");
        assert_eq!(viewer.close().await.attempts_total, 1);
        shown("servers fetched again for the restart", recovered.saturating_since(lost))
    });
}

#[test]
fn w45_master_restart() {
    scenario(45, "", async |stage| {
        let network = Network::default();
        let mut viewer = stage.live_over(&network).await;
        // The camera loses its power, so it closes nothing.
        network.block(&Kind::ALL);
        let gone = viewer.now();
        stage.camera_off().await;
        stage.camera().await;
        viewer.until("the loss", |event| *event == Event::Disconnected).await;
        network.unblock();
        viewer.until("attempt 2", is_attempt_2).await;
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.close().await.attempts_total, 2);
        shown("found by ICE, attempt 2 live", live.saturating_since(gone))
    });
}

// Shows: N28.
#[test]
fn w45_master_closes_with_close_notify() {
    scenario(45, "goodbye", async |stage| {
        let mut viewer = stage.live().await;
        let gone = viewer.now();
        stage.camera_off().await;
        let reported = viewer.until("the end", |event| matches!(event, Event::MasterGone(_))).await;
        stage.camera().await;
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        assert_eq!(viewer.close().await.attempts_total, 2);
        let what = format!("told after {:.1?}, attempt 2 live", reported.saturating_since(gone));
        shown(what, live.saturating_since(gone))
    });
}
