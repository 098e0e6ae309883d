//! Events during a live session: the signaling connection is cut or ends, ICE servers change, the
//! camera is killed. The media must continue (contract, part 5: 30, 31, 32, 45 and 23).

use std::time::Duration;

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::{Keys, Process, admin};
use serde_json::{Value, json};

use crate::{PATIENCE, PROGRAM};

const VIEWER: [&str; 2] = ["--client-id", "hall"];

/// Starts a stage with a camera and a live viewer.
fn live(camera: &[&str], viewer: &[&str]) -> (Stage, Process, Process) {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera(camera);
    let watch = stage.watch([&VIEWER[..], viewer].concat());
    watch.event("live", PATIENCE);
    (stage, camera, watch)
}

/// Requests an action on the viewer's connection from the emulator's admin API.
fn viewer(stage: &Stage, what: &str, mut body: Value) -> Value {
    body["role"] = "viewer".into();
    admin::ask_channel(stage.endpoint(), what, &body)
}

fn viewers(stage: &Stage) -> Vec<String> {
    let all = admin::clients(stage.endpoint());
    let ids = all.iter().filter(|client| client["role"].as_str().is_some_and(is_viewer));
    ids.filter_map(|client| client["client_id"].as_str().map(str::to_owned)).collect()
}

fn is_viewer(role: &str) -> bool {
    role.eq_ignore_ascii_case("viewer")
}

/// Waits for this many more frames, which shows that media flows.
fn frames_go_on(watch: &Process, frames: u64) {
    let counted = |event: &Value| event["frames"].as_u64().unwrap_or_default();
    let before = named(&watch.events(), "stats").last().map_or(0, |event| counted(event));
    watch.event_that("stats", PATIENCE, |event| counted(event) >= before + frames);
}

/// Closes the viewer, and checks that it had one attempt, no stall and no lost frame.
fn ends_untouched(mut watch: Process) {
    watch.interrupt();
    let ended = watch.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", watch.transcript());
    let events = watch.events();
    for name in ["media_stalled", "disconnected", "retry_scheduled", "recovering"] {
        assert!(named(&events, name).is_empty(), "{name}: {}", watch.transcript());
    }
    assert_eq!(named(&events, "attempt_started").len(), 1);
    let stats = named(&events, "stats");
    let last = stats.last().expect("there were stats");
    assert_eq!((&last["lost"], &last["dropped"]), (&json!(0), &json!(0)), "{last}");
}

// Shows: N20, 30.
#[test]
fn cut_signaling_connection_keeps_media() {
    let (stage, _camera, watch) = live(&[], &[]);
    let cut = viewer(&stage, "disconnect", json!({}));
    assert_eq!(cut["disconnected"], 1, "{cut}");
    watch.event("link_lost", PATIENCE);
    let back = watch.event("link_reopened", PATIENCE);
    eprintln!("reopened at {} ms", back["t_ms"]);
    assert_eq!(viewers(&stage), ["hall"], "the same id");
    frames_go_on(&watch, 30);
    ends_untouched(watch);
}

// Shows: 31.
#[test]
fn go_away_loses_no_frame() {
    let (stage, _camera, watch) = live(&[], &[]);
    viewer(&stage, "send", json!({ "type": "GO_AWAY" }));
    let reported = watch.event("go_away", PATIENCE);
    // The reconnection is spread over half a minute, so that not all viewers connect at once.
    let back = watch.event("link_reopened", PATIENCE);
    let after =
        back["t_ms"].as_u64().unwrap_or_default() - reported["t_ms"].as_u64().unwrap_or_default();
    eprintln!("away and back after {after} ms");
    assert!(after < 45_000, "{after}");
    assert_eq!(viewers(&stage), ["hall"], "the same id, once");
    frames_go_on(&watch, 30);
    assert!(named(&watch.events(), "link_lost").is_empty(), "{}", watch.transcript());
    ends_untouched(watch);
}

// Shows: 32.
#[test]
fn reconnect_ice_server_refreshes_ice_servers() {
    let (stage, _camera, watch) = live(&[], &[]);
    viewer(&stage, "send", json!({ "type": "RECONNECT_ICE_SERVER" }));
    watch.event("ice_servers_refreshed", PATIENCE);
    frames_go_on(&watch, 30);
    ends_untouched(watch);
}

// Shows: 45.
#[test]
fn restarted_camera_is_watched_again() {
    let (stage, camera, mut watch) = live(&[], &["--retry", "persistent"]);
    camera.kill();
    let silent = watch.event("disconnected", PATIENCE);
    drop(camera);
    let _camera = stage.camera([""; 0]);
    watch.event("master_gone", PATIENCE);
    let live = watch.event_that("live", PATIENCE, |live| live["attempt"].as_u64() > Some(1));
    eprintln!("silent at {} ms, live again at {} ms", silent["t_ms"], live["t_ms"]);
    frames_go_on(&watch, 30);
    watch.interrupt();
    assert_eq!(watch.ended(Duration::from_secs(20)).code, Some(0), "{}", watch.transcript());
}
