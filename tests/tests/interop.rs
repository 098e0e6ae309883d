//! Foreign peers on the emulator's channels: AWS's JavaScript SDK in headless Chromium, as master
//! and as viewer, AWS's Python SDK, and aiortc in both roles. Their code is in `tests/interop`.

#[path = "interop/cameras.rs"]
mod cameras;
#[path = "interop/players.rs"]
mod players;
#[path = "interop/recovery.rs"]
mod recovery;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::tools::{counters, finished, install, probe_uneven};
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kvs-viewer-under-test");

const BOTO3: &str = "boto3_control_plane.py";

/// Two browsers and a build may share the machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The length of the recording of the browser's camera, in seconds.
const RECORDED_SECS: f64 = 8.0;

#[test]
fn recording_of_the_javascript_master_plays_as_mp4() {
    records_the_javascript_master("browser.mp4", "h264");
}

#[test]
fn recording_of_the_javascript_master_plays_as_webm() {
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
    let seen = probe_uneven(&file);
    assert_eq!(seen.codecs, BTreeSet::from([video, "opus"].map(String::from)));
    // The recording begins with the first keyframe, which may arrive some time after the first
    // packet.
    assert!((RECORDED_SECS - 3.0..=RECORDED_SECS + 3.0).contains(&seen.duration), "{seen:?}");
    // Chromium's camera makes 20 pictures a second, and fewer on a busy machine.
    let rate = seen.pictures as f64 / seen.duration;
    assert!((5.0..=31.0).contains(&rate), "{rate} pictures a second: {seen:?}");
    eprintln!("recorded of the JavaScript master: {seen:?}");
}

#[test]
fn javascript_viewer_plays_the_camera_in_h264() {
    plays_the_camera("h264", "video/H264", &[]);
}

#[test]
fn javascript_viewer_plays_the_camera_in_vp8() {
    plays_the_camera("vp8", "video/VP8", &[]);
}

/// A page without camera permission puts no IP addresses into its candidates, but names that only
/// multicast DNS can resolve.
#[test]
fn javascript_viewer_with_mdns_candidates_plays_camera() {
    in_a_network_of_its_own("hidden_addresses");
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
    // Almost all counters must be readable and none may go back; otherwise the advance means
    // little.
    assert_eq!((number("unreadable"), number("backwards")), (0.0, 0.0), "{played}");
    assert!(number("pictures") >= 60.0 && number("blank") <= 5.0, "{played}");
    assert!(number("audio_packets") >= 100.0 && number("audio_energy") > 0.0, "{played}");
    let left = camera.event("viewer_left", PATIENCE);
    assert!(left["frames"].as_u64() >= Some(120), "{left}");
    eprintln!("played by the JavaScript viewer: {played}");
}

/// Both sides are foreign, so a failure here is the emulator's.
#[test]
fn javascript_master_and_viewer_connect_on_emulator() {
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

/// aiortc has no candidates on loopback.
#[test]
fn aiortc_master_and_viewer_interoperate() {
    in_a_network_of_its_own("aiortc");
}

#[test]
#[ignore = "run by the test above, in a network of its own"]
fn aiortc() {
    for codec in ["h264", "vp8"] {
        aiortc_plays_the_camera(codec);
        aiortc_is_recorded(codec);
    }
}

fn aiortc_plays_the_camera(codec: &str) {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let camera = stage.camera(["--codec", codec]);
    let mut viewer = stage.python("aiortc_viewer.py", &["--frames", "60"]);
    let played = viewer.event("played", PATIENCE);
    assert_eq!(viewer.ended(PATIENCE).code, Some(0), "{played} {}", viewer.transcript());
    assert_eq!(played["codec"].as_str().unwrap_or_default().to_lowercase(), codec);
    assert!(played["audio_frames"].as_u64() >= Some(100), "{played}");
    camera.event("viewer_left", PATIENCE);
    eprintln!("played by aiortc: {played}");
}

/// aiortc's pictures contain frame counters, as the bundled clips do.
fn aiortc_is_recorded(codec: &str) {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let file = stage.path("aiortc.mkv");
    let master = stage.python("aiortc_master.py", &["--codec", codec]);
    master.event("ready", PATIENCE);
    let args = ["--duration", "5", "--record"].map(OsStr::new);
    let mut watch = stage.watch(args.into_iter().chain([file.as_os_str()]));
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    let seen = probe_uneven(&file);
    assert_eq!(seen.codecs, BTreeSet::from([codec, "opus"].map(String::from)));
    let counters = counters(&file);
    assert!(counters.len() >= 100, "{seen:?} {counters:?}");
    let gaps: u32 = counters.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1)).sum();
    assert!(counters.is_sorted_by(|before, after| before < after), "{counters:?}");
    assert!(gaps * 100 <= counters.len() as u32, "{gaps} are missing: {counters:?}");
    eprintln!("recorded of aiortc: {seen:?}, {} counters, {gaps} missing", counters.len());
}

/// Runs an ignored test of this file in a network namespace with loopback and one interface that
/// leads nowhere, so no packet leaves the machine.
fn in_a_network_of_its_own(test: &str) {
    let script = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && \
                  ip link add kvs0 type veth peer name kvs1 && ip link set kvs1 up && \
                  ip addr add 10.77.0.1/24 dev kvs0 && ip link set kvs0 up && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", script]);
    command.arg(std::env::current_exe().expect("this test's program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    let hint = "Install it (Debian: apt-get install util-linux iproute2).";
    // The installation needs package registries, which that network does not reach.
    install();
    let ended = finished(test, &mut command, hint, 3 * PATIENCE);
    assert_eq!(ended.code, Some(0), "{:#?} {:#?}\n{hint}", ended.stdout, ended.stderr);
    assert!(ended.stdout.iter().any(|line| line.contains("1 passed")), "{:#?}", ended.stdout);
    for line in ended.stderr.iter().filter(|line| line.contains(" by ") || line.contains(" of ")) {
        eprintln!("{line}");
    }
}

#[test]
fn python_sdk_accepts_emulator_control_plane() {
    let stage = Stage::start(PROGRAM, Keys::session(), &["--turn-uri", "turn:127.0.0.1:3478"]);
    checks_out("boto3", stage.script(BOTO3).arg("--expect-turn"));
    let stage = Stage::start_tls(PROGRAM, Keys::plain());
    checks_out("boto3 over TLS", &mut stage.script(BOTO3));
}

fn checks_out(name: &str, script: &mut Command) {
    let ended = finished(name, script, "", PATIENCE);
    assert_eq!(ended.code, Some(0), "{:#?} {:?}", ended.stdout, ended.stderr);
    let checks = ended.stdout.iter().filter(|line| line.starts_with("ok ")).count();
    assert!(checks >= 15, "{:#?}", ended.stdout);
    eprintln!("{name}: {checks} checks");
}
