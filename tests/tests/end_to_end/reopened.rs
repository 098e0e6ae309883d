//! Opened and closed again and again under one client id, on a camera that holds on to the id of
//! a viewer that vanished.

use kvs_viewer_tests::Keys;
use kvs_viewer_tests::stage::{Stage, named};

use crate::{PATIENCE, PROGRAM};

const TIMES: usize = 5;

const LINGERING: [&str; 4] = ["--behaviour", "linger", "--linger-seconds", "55"];

const VIEWER: [&str; 6] = ["--client-id", "hall", "--answer-timeout", "3", "--retry-delay", "1"];

#[test]
fn five_times_closed() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera(LINGERING);
    for time in 1..=TIMES {
        let mut watch = stage.watch(VIEWER);
        let live = watch.event("live", PATIENCE);
        eprintln!("closed {time}: live in attempt {} after {} ms", live["attempt"], live["t_ms"]);
        watch.interrupt();
        assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    }
}

#[test]
fn five_times_killed() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera(LINGERING);
    for time in 1..=TIMES {
        let watch = stage.watch(VIEWER);
        let live = watch.event("live", PATIENCE);
        eprintln!("killed {time}: live in attempt {} after {} ms", live["attempt"], live["t_ms"]);
        watch.kill();
    }
    // Without another id there is no answer: the camera did hold on to the first.
    let stubborn = ["--fixed-client-id", "--retry", "never"];
    let mut watch = stage.watch([&VIEWER[..4], &stubborn].concat());
    assert_eq!(watch.ended(PATIENCE).code, Some(3), "{}", watch.transcript());
    assert_eq!(named(&camera.events(), "offer_ignored").len(), 1, "{}", camera.transcript());
}
