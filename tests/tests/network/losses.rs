//! Lost connectivity between camera and viewer while signaling works (contract, 22, 23, 24), and a
//! narrow path that loses and reorders packets.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use kvs_viewer_tests::Process;
use kvs_viewer_tests::stage::named;

use crate::PATIENCE;
use crate::lab::{BETWEEN, Family};
use crate::scene::{CAMERA, Scene, Seen, ends_well, frames_go_on, since, time_of};

#[test]
fn s22_ice_blip() {
    let scene = Scene::set(Family::V4, &[]);
    let camera = scene.camera(["--behaviour", "renegotiate"]);
    let watch = scene.live([""; 0]);
    let before = Seen::last(&watch);
    scene.cut_direct_paths();
    sleep(Duration::from_secs(2));
    scene.lab.heal();
    frames_go_on(&watch, 60);
    let lost = Seen::last(&watch).lost_since(&before);
    eprintln!("22: two seconds of nothing, {lost} frames lost");
    // The camera resends some of the lost packets from its buffer on request.
    assert!(lost > 0, "the hole was there");
    assert_eq!(named(&camera.events(), "offer").len(), 1, "no offer: {}", watch.transcript());
    assert_eq!(since(&watch, "recovering", 0).len(), 0, "{}", watch.transcript());
    ends_well(watch);
}

#[test]
fn s23_ice_disconnected() {
    let scene = Scene::set(Family::V4, &[]);
    let camera = scene.camera(["--behaviour", "renegotiate"]);
    let watch = scene.live([""; 0]);
    scene.cut_direct_paths();
    let recovering = watch.event("recovering", PATIENCE);
    assert_eq!(recovering["cause"], "disconnected");
    // The answer to the restart arrives over signaling; from now on its connectivity checks
    // succeed.
    watch.event_that("answer_received", PATIENCE, |answer| time_of(answer) > time_of(&recovering));
    scene.lab.heal();
    let recovered = watch.event("recovered", PATIENCE);
    frames_go_on(&watch, 30);
    eprintln!("23: recovered {} ms after the grace", time_of(&recovered) - time_of(&recovering));
    assert_eq!(named(&camera.events(), "offer").len(), 2, "the first, and the restart");
    assert_eq!(since(&watch, "attempt_started", 0).len(), 1, "{}", watch.transcript());
    ends_well(watch);
}

#[test]
fn s24_ice_failed() {
    let scene = Scene::set(Family::V4, &[]);
    let _camera = scene.camera(["--behaviour", "renegotiate"]);
    let watch = scene.live([""; 0]);
    scene.cut_direct_paths();
    let recovering = watch.event("recovering", PATIENCE);
    // The restart fails within its deadline, so a full attempt begins.
    let second = watch.event_that("attempt_started", PATIENCE, |event| event["attempt"] == 2);
    scene.lab.heal();
    let live = watch.event_that("live", PATIENCE, |event| event["attempt"] == 2);
    frames_go_on(&watch, 30);
    let (fruitless, set_up) =
        (time_of(&second) - time_of(&recovering), time_of(&live) - time_of(&second));
    eprintln!("24: the restart was given up after {fruitless} ms, live {set_up} ms later");
    assert!(fruitless < 15_000, "{}", watch.transcript());
    ends_well(watch);
}

/// Over a path of 2 Mbit/s that loses, delays, duplicates and reorders packets, the session is live
/// and its recording plays (contract, 67).
#[test]
fn s67_path_that_loses_delays_repeats_and_reorders() {
    let mut scene = Scene::set(Family::V4, &[]);
    let _impairer = impair(&mut scene, CAMERA, &POOR);
    scene.lab.tc(CAMERA, "qdisc add dev up0 root tbf rate 2mbit burst 16kb latency 100ms");
    let _camera = scene.camera([""; 0]);
    let file = scene.path("impaired.mp4");
    let watch = scene.watch(["--record".as_ref(), file.as_os_str()]);
    watch.event("live", PATIENCE);
    let before = Seen::last(&watch);
    frames_go_on(&watch, 150);
    let after = Seen::last(&watch);
    let stats = watch.events();
    let last = named(&stats, "stats").last().map(|stats| (*stats).clone()).unwrap_or_default();
    let path = &last["path"];
    eprintln!(
        "an impaired path: {} frames of {} lost, {} packets missing, round trip {} ms",
        after.lost_since(&before),
        after.frames - before.frames + after.lost_since(&before),
        last["lost"],
        path["round_trip_ms"]
    );
    ends_well(watch);
    let seen = kvs_viewer_tests::tools::probe(&file);
    assert!(seen.pictures > 60, "{seen:?}");
}

/// The impairments of a path, in both directions: in percent of packets, and in milliseconds.
pub(crate) struct Poor {
    pub(crate) lost: u8,
    pub(crate) repeated: u8,
    pub(crate) reordered: u8,
    pub(crate) delay: u8,
    pub(crate) jitter: u8,
}

const POOR: Poor = Poor { lost: 2, repeated: 1, reordered: 2, delay: 40, jitter: 5 };

/// Impairs the path between the router and `name`: by the kernel's netem if there is one, and
/// otherwise by the returned process, which must be kept alive.
pub(crate) fn impair(scene: &mut Scene, name: &str, poor: &Poor) -> Option<Process> {
    let Poor { lost, repeated, reordered, delay, jitter } = poor;
    scene.lab.interpose(name, 20);
    let netem = format!(
        "netem delay {delay}ms {jitter}ms loss {lost}% duplicate {repeated}% reorder {reordered}%"
    );
    if scene.lab.bridge_with(&netem) {
        eprintln!("the path is impaired by the kernel: {netem}");
        return None;
    }
    eprintln!("the path is impaired by impair.py, as this kernel has no netem");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/impair.py");
    let mut command: Command = scene.lab.command(BETWEEN, "python3".as_ref());
    command.args([script, "near", "far", "--seed", "7"]);
    for (option, percent) in [("--loss", lost), ("--repeat", repeated), ("--reorder", reordered)] {
        command.arg(option).arg((f64::from(*percent) / 100.0).to_string());
    }
    command.arg("--delay-ms").arg(delay.to_string()).arg("--jitter-ms").arg(jitter.to_string());
    let hint = "Install it (Debian: apt-get install python3).";
    let impairer = Process::start("impair.py", &mut command, hint);
    impairer.event("ready", PATIENCE);
    Some(impairer)
}
