//! Runs the demo, from the lost answer to a file that plays and contains everything the camera
//! sent.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use kvs_viewer_tests::stage::{self, Stage, named};
use kvs_viewer_tests::tools::{compare_counters, probe};
use kvs_viewer_tests::{Ended, Keys, Process};
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

#[test]
fn demo_loses_an_answer_and_records_h264() {
    runs_the_demo("demo.mp4", "h264", 20.0);
}

#[test]
fn demo_loses_an_answer_and_records_vp8() {
    runs_the_demo("demo.webm", "vp8", 12.0);
}

/// The journal contains the demo's lost answer, its retry and its live session, and replays the
/// same.
#[test]
fn n26_demo_journal_replays_and_contains_no_secret() {
    const CANARY: &str = "CANARY7jW0SecretAccessKey+/=";
    const TOKEN: &str = "CANARY7jW0SessionToken+/=";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = folder.path().join("demo.journal");
    let mut command = Command::new(PROGRAM);
    stage::clear(&mut command);
    command.env("XDG_STATE_HOME", folder.path().join("state"));
    command.env("AWS_ACCESS_KEY_ID", "AKIDCANARY7JW0");
    command.env("AWS_SECRET_ACCESS_KEY", CANARY).env("AWS_SESSION_TOKEN", TOKEN);
    command.args(["demo", "--json", "--duration", "2", "--journal"]).arg(&journal);
    let mut demo = Process::start("demo", &mut command, "Build kvs-viewer.");
    assert_eq!(demo.ended(PATIENCE).code, Some(0), "{}", demo.transcript());

    let text = std::fs::read_to_string(&journal).expect("a journal");
    for secret in ["CANARY7", "X-Amz-", "ice-pwd", "a=candidate", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} is in the journal");
    }
    assert!(text.contains("\"Ended\""), "it goes on to the end");

    let replayed = Command::new(PROGRAM).arg("replay").arg(&journal).output().expect("it runs");
    let printed = String::from_utf8_lossy(&replayed.stdout);
    assert_eq!(replayed.status.code(), Some(0), "{printed}");
    for line in ["The answer deadline passed.", "Phase: awaiting-media -> live.", "are the same."] {
        assert!(printed.contains(line), "{line:?} is missing in\n{printed}");
    }
    eprintln!("{}", printed.lines().last().unwrap_or_default());

    // A changed journal must be reported as different.
    let forged = text.replacen("\"to\":\"Offering\"", "\"to\":\"Closing\"", 1);
    assert_ne!(forged, text);
    std::fs::write(&journal, forged).expect("written");
    let replayed = Command::new(PROGRAM).arg("replay").arg(&journal).output().expect("it runs");
    assert_eq!(replayed.status.code(), Some(1), "{replayed:?}");
}

#[test]
fn three_processes_record_h264() {
    plays_together("three.mp4", "h264");
}

#[test]
fn three_processes_record_vp8() {
    plays_together("three.webm", "vp8");
}

fn runs_the_demo(name: &str, video: &str, seconds: f64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, list) = (folder.path().join(name), folder.path().join("list.jsonl"));
    let mut command = Command::new(PROGRAM);
    stage::clear(&mut command);
    command.env("XDG_STATE_HOME", folder.path().join("state"));
    // The demo's own service must ignore the settings for AWS's other endpoints.
    command.env("AWS_USE_FIPS_ENDPOINT", "true").env("AWS_USE_DUALSTACK_ENDPOINT", "true");
    command.args(["demo", "--json", "--duration", &seconds.to_string(), "--record"]).arg(&file);
    command.arg("--frame-log").arg(&list);
    let mut demo = Process::start("demo", &mut command, "Build kvs-viewer.");
    let ended = demo.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", demo.transcript());
    let events = demo.events();
    let attempts = named(&events, "attempt_ended");
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert_eq!(attempts[0]["deadline"], "answer");
    assert_eq!(attempts[1]["cause"], "closed");
    closed_all(attempts[0]);
    let live = named(&events, "live");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0]["attempt"], 2);
    is_whole(&file, &list, video, seconds);
}

/// Checks that an attempt closed all descriptors and sockets that it opened, as the process itself
/// reports them.
fn closed_all(attempt: &Value) {
    for kind in ["descriptors", "sockets"] {
        let open = &attempt[kind];
        assert!(open["before"].as_u64() > Some(0), "{attempt}");
        assert_eq!(open["before"], open["after"], "{kind}: {attempt}");
    }
}

fn plays_together(name: &str, codec: &str) {
    let seconds = 8.0;
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let (file, list) = (stage.path(name), stage.path("list.jsonl"));
    let camera = stage.camera([
        "--codec".as_ref(),
        codec.as_ref(),
        "--frame-log".as_ref(),
        list.as_os_str(),
    ]);
    let duration = seconds.to_string();
    let mut watch = stage.watch([
        "--duration".as_ref(),
        duration.as_ref(),
        "--record".as_ref(),
        file.as_os_str(),
    ]);
    let ended = watch.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", watch.transcript());
    camera.event("viewer_left", PATIENCE);
    stops(camera);
    is_whole(&file, &list, codec, seconds);
}

/// Sends Ctrl-C to a server and checks that it exits with code 0.
fn stops(mut server: Process) -> Ended {
    server.interrupt();
    let ended = server.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", server.transcript());
    ended
}

fn is_whole(file: &Path, list: &Path, video: &str, seconds: f64) {
    let seen = probe(file);
    assert_eq!(seen.codecs, BTreeSet::from([video, "opus"].map(String::from)));
    assert!((seconds - 1.0..=seconds + 2.0).contains(&seen.duration), "{seen:?}");
    // The clip has 15 pictures a second.
    assert!(seen.pictures as f64 >= seconds * 15.0 * 0.9, "{seen:?}");
    let compared = compare_counters(file, list);
    assert!(compared["found_in_order"].as_f64() >= Some(seconds * 15.0 * 0.9), "{compared}");
    eprintln!("{video}: {seen:?} {compared}");
}
