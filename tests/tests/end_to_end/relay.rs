//! The emulator's TURN server: media through it alone with valid credentials (contract, part 5:
//! 41), and no route with expired ones (40).

use std::time::Duration;

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

const RELAY_ONLY: &str = "--relay-only";

fn last(watch: &Process, event: &str) -> Value {
    let events = watch.events();
    let named = named(&events, event);
    (*named.last().expect("there was one")).clone()
}

#[test]
fn s41_media_arrives_over_emulator_relay() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let mut watch = stage.watch([RELAY_ONLY]);
    watch.event("live", PATIENCE);
    watch.event_that("stats", PATIENCE, |event| event["frames"].as_u64() >= Some(30));
    let stats = last(&watch, "stats");
    assert_eq!(stats["path"]["local"], "relay", "{stats}");
    assert_eq!(stats["lost"], 0, "{stats}");
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
}

#[test]
fn s41_expired_turn_credentials_end_as_no_route() {
    let old = r#"{"match":{"on":"call","call":"GetIceServerConfig"},
                  "action":{"do":"turn_age","secs":3600}}"#;
    let stage = Stage::start(PROGRAM, Keys::plain(), &["--fault", old]);
    let _camera = stage.camera([""; 0]);
    let mut watch = stage.watch([RELAY_ONLY, "--retry", "never"]);
    let ended = watch.ended(Duration::from_secs(60));
    assert_eq!(ended.code, Some(7), "{}", watch.transcript());
    let end = last(&watch, "ended");
    assert_eq!(end["reason"], "no-route", "{end}");
}
