//! Storage sessions: camera and viewer answer the service's offers, and the service's rules apply
//! (docs/kvs-protocol.md 1.6): three viewers, three minutes without a master, a slot reserved for a
//! minute. Contract: N8 and part 5's 64.

use std::time::Duration;

use kvs_viewer_tests::stage::{CHANNEL, Stage, named};
use kvs_viewer_tests::{Keys, Process, admin};
use serde_json::{Value, json};

use crate::{PATIENCE, PROGRAM};

const STORE: [&str; 2] = ["--storage-channel", CHANNEL];
const JOIN: &str = "--storage-session";
/// The interval between two queries of the events.
const LOOK: Duration = Duration::from_millis(20);

fn stage(emulator: &[&str]) -> Stage {
    Stage::start(PROGRAM, Keys::plain(), &[&STORE[..], emulator].concat())
}

fn watch(stage: &Stage, id: &str, args: &[&str]) -> Process {
    stage.watch([&[JOIN, "--client-id", id], args].concat())
}

/// Waits until the emulator has reported this event of a client of the session this many times.
fn reported(stage: &Stage, what: &str, id: Option<&str>, times: usize) -> Value {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        let events = admin::events(stage.endpoint());
        let fits = |event: &&Value| event["event"] == what && event["client_id"].as_str() == id;
        if let Some(event) = events.iter().filter(fits).nth(times - 1) {
            return event.clone();
        }
        std::thread::sleep(LOOK);
    }
    panic!("{what} of {id:?} is missing: {:#?}", admin::events(stage.endpoint()));
}

fn closed(mut watch: Process) -> Value {
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    last(&watch, "stats")
}

fn last(watch: &Process, event: &str) -> Value {
    let events = watch.events();
    let named = named(&events, event);
    (*named.last().expect("there was one")).clone()
}

#[test]
fn camera_media_arrives_through_the_storage_service() {
    let stage = stage(&[]);
    let camera = stage.camera([JOIN]);
    let viewer = watch(&stage, "hall", &[]);
    viewer.event("live", PATIENCE);
    let frames = |event: &Value| event["frames"].as_u64() >= Some(30);
    viewer.event_that("stats", PATIENCE, frames);
    assert_eq!(named(&viewer.events(), "attempt_started").len(), 1);
    let end = closed(viewer);
    assert_eq!((&end["lost"], &end["dropped"]), (&json!(0), &json!(0)), "{end}");
    let is_closed = |id| reported(&stage, "storage_left", Some(id), 1)["why"] == "closed";
    // The stack gives the close of DTLS 100 ms, which a busy machine may take for other processes
    // (docs/upstream/webrtc-close-gives-its-driver-100-ms.md). A second viewer may show it then.
    assert!(
        is_closed("hall") || {
            let again = watch(&stage, "porch", &[]);
            again.event("live", PATIENCE);
            closed(again);
            is_closed("porch")
        },
        "DTLS is closed"
    );
    assert!(named(&camera.events(), "offer_ignored").is_empty(), "{}", camera.transcript());
}

/// Each join call yields one offer; if none arrives, the call is repeated (contract, N8).
// Shows: N8.
#[test]
fn join_is_repeated_after_lost_offer() {
    let lost = r#"{"match":{"on":"message","type":"SDP_OFFER","from":"master","times":1},
                   "action":{"do":"drop"}}"#;
    let stage = stage(&["--fault", lost]);
    let _camera = stage.camera([JOIN]);
    let watch = watch(&stage, "hall", &[]);
    let live = watch.event("live", PATIENCE);
    assert!(live["t_ms"].as_u64() >= Some(5000), "{live}");
    let joins = &admin::calls(stage.endpoint())["JoinStorageSessionAsViewer"];
    assert_eq!(joins["requests"], 2, "{joins}");
    assert_eq!(named(&watch.events(), "attempt_started").len(), 1);
    closed(watch);
}

/// Scenario 64: a second offer with another fingerprint is answered on a new peer connection, in
/// the same attempt.
#[test]
fn s64_new_service_session_is_answered_in_same_attempt() {
    let stage = stage(&[]);
    let _camera = stage.camera([JOIN]);
    let watch = watch(&stage, "hall", &[]);
    watch.event("live", PATIENCE);
    let _ = admin::ask_channel(stage.endpoint(), "offer", &json!({ "client_id": "hall" }));
    reported(&stage, "storage_connected", Some("hall"), 2);
    let frames = |event: &Value| event["frames"].as_u64().unwrap_or_default();
    let before = named(&watch.events(), "stats").last().map_or(0, |event| frames(event));
    watch.event_that("stats", PATIENCE, |event| frames(event) > before + 30);
    assert_eq!(named(&watch.events(), "attempt_started").len(), 1, "{}", watch.transcript());
    closed(watch);
}

/// At most three viewers are admitted; a slot stays reserved for the same client id.
// Shows: 46.
#[test]
fn fourth_storage_viewer_is_refused() {
    let stage = stage(&[]);
    let _camera = stage.camera([JOIN]);
    let [one, _two, _three] = ["one", "two", "three"].map(|id| {
        let watch = watch(&stage, id, &[]);
        watch.event("live", PATIENCE);
        watch
    });
    let refused = |id: &str| {
        let mut watch = watch(&stage, id, &["--retry", "never"]);
        let ended = watch.ended(PATIENCE);
        assert_eq!(ended.code, Some(9), "{}", watch.transcript());
        let end = last(&watch, "ended");
        assert_eq!(end["reason"], "viewer-limit", "{end}");
    };
    refused("four");
    closed(one);
    reported(&stage, "storage_left", Some("one"), 1);
    refused("four");
    let again = watch(&stage, "one", &[]);
    again.event("live", PATIENCE);
}

/// One minute and three minutes, on a clock that runs 60 times faster.
#[test]
fn idle_storage_viewer_is_disconnected_and_frees_slot() {
    let stage = stage(&["--time-scale", "60", "--quotas", r#"{"storage_viewers_max":1}"#]);
    let alone = watch(&stage, "one", &["--retry", "never"]);
    reported(&stage, "storage_connected", Some("one"), 1);
    let left = reported(&stage, "storage_left", Some("one"), 1);
    let joined = reported(&stage, "storage_joined", Some("one"), 1);
    let stayed =
        left["at_ms"].as_u64().unwrap_or_default() - joined["at_ms"].as_u64().unwrap_or_default();
    assert_eq!(left["why"], "idle", "{left}");
    assert!((3000..8000).contains(&stayed), "three minutes are 3 s: {stayed} ms");
    drop(alone);
    std::thread::sleep(Duration::from_millis(1100));
    let _camera = stage.camera([JOIN]);
    let next = watch(&stage, "two", &[]);
    next.event("live", PATIENCE);
}

/// The service does not answer a peer-to-peer viewer of a storage channel; the viewer reports why.
#[test]
fn offer_to_storage_channel_ends_as_storage_mode() {
    let stage = stage(&[]);
    let _camera = stage.camera([JOIN]);
    let mut watch = stage.watch(["--retry", "never"]);
    assert_eq!(watch.ended(PATIENCE).code, Some(10), "{}", watch.transcript());
    let end = last(&watch, "ended");
    assert_eq!(end["reason"], "storage-mode", "{end}");
}
