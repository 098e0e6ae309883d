//! Foreign peers on the emulator's channels: AWS's JavaScript SDK in headless Chromium, as master
//! and as viewer, and AWS's Python SDK. They live in `tests/interop`.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::tools::{finished, probe};
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kvs-viewer-under-test");

/// Two browsers and a build may share the machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How much of the browser's camera is recorded.
const RECORDED_SECS: f64 = 8.0;

#[test]
fn a_recording_of_the_javascript_master_plays_as_mp4() {
    records_the_javascript_master("browser.mp4", "h264");
}

#[test]
fn a_recording_of_the_javascript_master_plays_as_webm() {
    records_the_javascript_master("browser.webm", "vp8");
}

fn records_the_javascript_master(file: &str, video: &str) {
    let stage = Stage::start_tls(PROGRAM, Keys::session());
    let file = stage.path(file);
    let _master = stage.browser("master", &[]);
    let duration = RECORDED_SECS.to_string();
    let mut watch = stage.watch([
        "--duration".as_ref(),
        duration.as_ref(),
        "--record".as_ref(),
        file.as_os_str(),
    ]);
    watch.event("live", PATIENCE);
    let ended = watch.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", watch.transcript());
    let seen = probe(&file);
    assert_eq!(seen.codecs, BTreeSet::from([video, "opus"].map(String::from)));
    // It begins with the first keyframe, which may come some time after the first packet.
    assert!((RECORDED_SECS - 3.0..=RECORDED_SECS + 3.0).contains(&seen.duration), "{seen:?}");
    // Chromium's camera makes 20 pictures a second, and fewer on a busy machine.
    let rate = seen.pictures as f64 / seen.duration;
    assert!((5.0..=31.0).contains(&rate), "{rate} pictures a second: {seen:?}");
    eprintln!("recorded of the JavaScript master: {seen:?}");
}

#[test]
fn the_javascript_viewer_plays_the_camera_in_h264() {
    plays_the_camera("h264", "video/H264", &[]);
}

#[test]
fn the_javascript_viewer_plays_the_camera_in_vp8() {
    plays_the_camera("vp8", "video/VP8", &[]);
}

/// A page that was given no camera tells no addresses, but names that only multicast DNS resolves.
/// Those are asked for in a network of their own: nothing of it leaves this machine.
#[test]
fn the_javascript_viewer_plays_the_camera_with_its_addresses_hidden() {
    let script =
        "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", script]);
    command.arg(std::env::current_exe().expect("this test's program"));
    command.args(["--exact", "hidden_addresses", "--ignored", "--nocapture"]);
    let hint = "Install it (Debian: apt-get install util-linux iproute2).";
    let ended = finished("hidden_addresses", &mut command, hint, 2 * PATIENCE);
    assert_eq!(ended.code, Some(0), "{:#?} {:#?}\n{hint}", ended.stdout, ended.stderr);
    assert!(ended.stdout.iter().any(|line| line.contains("1 passed")), "{:#?}", ended.stdout);
}

#[test]
#[ignore = "run by the test above, in a network of its own"]
fn hidden_addresses() {
    plays_the_camera("vp8", "video/VP8", &["--hide-addresses"]);
}

fn plays_the_camera(codec: &str, mime: &str, browser_args: &[&str]) {
    let stage = Stage::start_tls(PROGRAM, Keys::session());
    let camera = stage.camera(["--codec", codec]);
    let viewer = stage.browser("viewer", &[&["--advance", "120"], browser_args].concat());
    let played = finish(viewer);
    assert_eq!(played["video_codec"], mime);
    assert_eq!(played["audio_codec"], "audio/opus");
    let number = |field: &str| played[field].as_f64().unwrap_or_default();
    assert!(number("advanced") >= 120.0, "{played}");
    // Most of the counters were read, or the advance would mean little; none went back.
    assert_eq!((number("unreadable"), number("backwards")), (0.0, 0.0), "{played}");
    assert!(number("pictures") >= 60.0 && number("blank") <= 5.0, "{played}");
    assert!(number("audio_packets") >= 100.0 && number("audio_energy") > 0.0, "{played}");
    let left = camera.event("viewer_left", PATIENCE);
    assert!(left["frames"].as_u64() >= Some(120), "{left}");
    eprintln!("played by the JavaScript viewer: {played}");
}

/// Neither side is ours, so what fails here is the emulator's.
#[test]
fn the_javascript_master_and_viewer_meet_on_the_emulator() {
    let stage = Stage::start_tls(PROGRAM, Keys::plain());
    let _master = stage.browser("master", &[]);
    let played = finish(stage.browser("viewer", &["--no-counter", "--advance", "40"]));
    assert!(played["frames_decoded"].as_u64() >= Some(40), "{played}");
}

fn finish(mut browser: Process) -> Value {
    let played = browser.event("played", PATIENCE);
    let ended = browser.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", browser.transcript());
    assert_eq!(named(&browser.events(), "error"), Vec::<&Value>::new());
    played
}

#[test]
fn the_python_sdk_finds_the_control_plane_as_aws_has_it() {
    let stage = Stage::start(PROGRAM, Keys::session(), &["--turn-uri", "turn:127.0.0.1:3478"]);
    checks_out("boto3", &mut stage.boto3(&["--expect-turn"]));
    let stage = Stage::start_tls(PROGRAM, Keys::plain());
    checks_out("boto3 over TLS", &mut stage.boto3(&[]));
}

fn checks_out(name: &str, script: &mut Command) {
    let ended = finished(name, script, "", PATIENCE);
    assert_eq!(ended.code, Some(0), "{:#?} {:?}", ended.stdout, ended.stderr);
    let checks = ended.stdout.iter().filter(|line| line.starts_with("ok ")).count();
    assert!(checks >= 15, "{:#?}", ended.stdout);
    eprintln!("{name}: {checks} checks");
}
