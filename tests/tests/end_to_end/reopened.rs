//! Opens and closes a viewer repeatedly under one client id. The camera keeps the id of a viewer
//! that vanished.

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

const TIMES: usize = 5;

const LINGERING: [&str; 4] = ["--behaviour", "linger", "--linger-seconds", "55"];

const VIEWER: [&str; 6] = ["--client-id", "hall", "--answer-timeout", "15", "--retry-delay", "1"];

// Shows: N23, 17.
#[test]
fn closed_viewer_is_live_again_under_same_id() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera(LINGERING);
    for time in 1..=TIMES {
        let mut watch = stage.watch(VIEWER);
        let live = sees_a_picture(&watch);
        eprintln!("closed {time}: live in attempt {} after {} ms", live["attempt"], live["t_ms"]);
        watch.interrupt();
        assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    }
}

// Shows: 17.
#[test]
fn killed_viewer_is_live_again_under_pooled_id() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera(LINGERING);
    for time in 1..=TIMES {
        let watch = stage.watch(VIEWER);
        let live = sees_a_picture(&watch);
        eprintln!("killed {time}: live in attempt {} after {} ms", live["attempt"], live["t_ms"]);
        watch.kill();
    }
    // With the first id no answer arrives, which shows that the camera kept that id.
    let stubborn = ["--answer-timeout", "3", "--fixed-client-id", "--retry", "never"];
    let mut watch = stage.watch([&VIEWER[..2], &stubborn].concat());
    assert_eq!(watch.ended(PATIENCE).code, Some(3), "{}", watch.transcript());
    assert_eq!(named(&camera.events(), "offer_ignored").len(), 1, "{}", camera.transcript());
}

/// Waits until the viewer is live, and then for ten frames: the service allows three connections
/// per second (docs/kvs-protocol.md 1.6), so faster restarts would be refused and fail the first
/// attempt.
fn sees_a_picture(watch: &Process) -> Value {
    let live = watch.event("live", PATIENCE);
    watch.event_that("stats", PATIENCE, |stats| stats["frames"].as_u64() >= Some(10));
    assert_eq!(live["attempt"], 1, "{}", watch.transcript());
    live
}
