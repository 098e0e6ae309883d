//! Networks that disappear while others appear (contract, 26 and 27).

use std::time::Duration;

use kvs_viewer_tests::Process;

use crate::PATIENCE;
use crate::lab::Family;
use crate::scene::{Scene, Seen, VIEWER, ends_well, frames_go_on, since, time_of};

/// The cost of a network switch.
#[derive(Debug)]
struct Cost {
    /// The time from the detection of the switch until the session is live again.
    after: Duration,
    /// The frames that the camera made and the viewer did not receive.
    frames_lost: u64,
    attempts: usize,
}

/// Switches the network, as from Wi-Fi to LTE: one link disappears, and another appears with
/// another address.
fn switch(camera: &str) -> Cost {
    let scene = Scene::set(Family::Both, &[]);
    let _camera = scene.camera(["--behaviour", camera]);
    let watch = scene.live([""; 0]);
    let before = Seen::last(&watch);
    scene.lab.unplug(VIEWER, "up0");
    scene.lab.link(VIEWER, "up1", 2, Family::Both);
    let noticed = time_of(&watch.event("recovering", PATIENCE));
    let up = live_after(&watch, noticed);
    frames_go_on(&watch, 45);
    let cost = Cost {
        after: Duration::from_millis(up - noticed),
        frames_lost: Seen::last(&watch).lost_since(&before),
        attempts: since(&watch, "attempt_started", 0).len(),
    };
    eprintln!("26, camera that does `{camera}`: {cost:?}");
    let reported = since(&watch, "recovering", 0);
    assert_eq!(reported[0]["cause"], "network-changed", "{}", watch.transcript());
    ends_well(watch);
    cost
}

/// Waits until the session is live again, and returns the time of that.
fn live_after(watch: &Process, noticed: u64) -> u64 {
    let is_up = |event: &serde_json::Value| time_of(event) > noticed;
    let phase = watch.event_that("phase", PATIENCE, |event| event["to"] == "live" && is_up(event));
    time_of(&phase)
}

/// The session recovers by an ICE restart. It opens a new signaling connection first, because the
/// old one belongs to the lost network.
#[test]
fn s26_switch_is_recovered_by_restart() {
    let cost = switch("renegotiate");
    assert_eq!(cost.attempts, 1, "the same attempt");
    assert!(cost.after < Duration::from_secs(10), "within the restart's deadline: {cost:?}");
    assert!(cost.frames_lost < 150, "{cost:?}");
}

/// The session recovers by a full attempt, because the master answers the restart with another peer
/// connection.
#[test]
fn s26_switch_with_replacing_master_takes_new_attempt() {
    let cost = switch("replace");
    assert_eq!(cost.attempts, 2);
    assert!(cost.after < Duration::from_secs(10), "no deadline is waited for: {cost:?}");
}

/// The master ignores the restart: because the address is gone, the restart has only 2.5 s, and
/// from the second switch on the session tries none (contract, N19).
#[test]
fn s26_switch_with_ignored_restart_is_bounded() {
    let scene = Scene::set(Family::Both, &[]);
    let _camera = scene.camera(["--behaviour", "ignore-repeated"]);
    let watch = scene.live([""; 0]);
    let before = Seen::last(&watch);
    scene.lab.unplug(VIEWER, "up0");
    scene.lab.link(VIEWER, "up1", 2, Family::Both);
    let noticed = time_of(&watch.event("recovering", PATIENCE));
    let up = live_after(&watch, noticed);
    frames_go_on(&watch, 45);
    let lost = Seen::last(&watch).lost_since(&before);
    eprintln!(
        "26, restart ignored: live {} ms after it was noticed, {lost} frames lost",
        up - noticed
    );
    let learned = since(&watch, "master_learned", 0);
    assert_eq!(learned[0]["answers_restarts"], false, "{}", watch.transcript());
    assert_eq!(since(&watch, "attempt_started", 0).len(), 2);
    // The short deadline and one set-up, with time to spare for a busy machine.
    assert!(up - noticed < 2_500 + 7_000, "{}", watch.transcript());

    scene.lab.unplug(VIEWER, "up1");
    scene.lab.link(VIEWER, "up2", 3, Family::Both);
    let again = watch.event_that("attempt_ended", PATIENCE, |event| event["attempt"] == 2);
    assert_eq!(again["cause"], "network-changed", "{}", watch.transcript());
    let ended = time_of(&again);
    let up = live_after(&watch, ended);
    frames_go_on(&watch, 45);
    eprintln!("26, the second time: live {} ms after the attempt was ended", up - ended);
    assert_eq!(since(&watch, "recovering", 0).len(), 1, "no restart is tried again");
    ends_well(watch);
}

/// Without a network the session tries nothing; it recovers as soon as the network is back.
#[test]
fn s27_offline_session_recovers_in_same_attempt() {
    let scene = Scene::set(Family::V4, &[]);
    let _camera = scene.camera(["--behaviour", "renegotiate"]);
    let watch = scene.live([""; 0]);
    scene.lab.unplug(VIEWER, "up0");
    let gone = time_of(&watch.event("offline", PATIENCE));
    // Longer than the grace and the restart's deadline together: both are suspended.
    std::thread::sleep(Duration::from_secs(16));
    scene.lab.plug(VIEWER, "up0", 1);
    let back = time_of(&watch.event("online", PATIENCE));
    let up = live_after(&watch, back);
    frames_go_on(&watch, 30);
    eprintln!("27: offline for {} ms, live again {} ms after", back - gone, up - back);
    assert_eq!(since(&watch, "attempt_started", 0).len(), 1, "{}", watch.transcript());
    assert!(up - back < 10_000, "at once when it is reported");
    ends_well(watch);
}

/// The session does not watch the network: ICE detects the loss, and the time limit is longer by
/// the grace.
#[test]
fn s26_unreported_switch_is_detected_by_ice() {
    let scene = Scene::set(Family::V4, &[]);
    let _camera = scene.camera(["--behaviour", "replace"]);
    let watch = scene.live(["--no-network-watch"]);
    let before = Seen::last(&watch);
    scene.lab.unplug(VIEWER, "up0");
    scene.lab.link(VIEWER, "up1", 2, Family::V4);
    let noticed = time_of(&watch.event("disconnected", PATIENCE));
    let up = live_after(&watch, noticed);
    frames_go_on(&watch, 45);
    let lost = Seen::last(&watch).lost_since(&before);
    eprintln!(
        "26, not reported: live {} ms after the loss was seen, {lost} frames lost",
        up - noticed
    );
    // The grace, the restart's deadline on a signaling connection that receives nothing, and one
    // set-up.
    assert!(up - noticed < 3_000 + 10_000 + 10_000, "{}", watch.transcript());
    ends_well(watch);
}
