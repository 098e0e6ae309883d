//! The failures that a user can meet: each ends with the right exit code, in time, and with a
//! helpful message.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::tools::probe;
use kvs_viewer_tests::{Ended, Keys, Process};
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

/// Short deadlines, so that no test waits for the defaults.
const HASTE: [&str; 4] = ["--answer-timeout", "3", "--retry-delay", "1"];

/// Waits for the end, and checks the exit code, the words on standard error, and that there was no
/// panic.
fn ends(mut watch: Process, code: i32, words: &[&str]) -> Ended {
    let ended = watch.ended(Duration::from_secs(60));
    let text = ended.stderr.join("\n");
    assert_eq!(ended.code, Some(code), "{}", watch.transcript());
    for word in words {
        assert!(text.to_lowercase().contains(word), "{word:?} is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    ended
}

// Shows: 1.
#[test]
fn missing_camera_ends_as_no_answer() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let watch = stage.watch(HASTE);
    let last = watch.event("ended", PATIENCE);
    assert_eq!(last["exit_code"], 3, "{last}");
    assert_eq!(last["attempts_total"], 2, "{last}");
    for field in ["sentence", "likely_cause", "next_step"] {
        assert!(last[field].as_str().is_some_and(|text| text.len() > 10), "{field}: {last}");
    }
    // Two answer deadlines and the retry delay, plus time for opening and closing.
    assert!((7000..25_000).contains(&last["t_ms"].as_u64().unwrap_or_default()), "{last}");
    ends(watch, 3, &["did not answer", "camera"]);
}

#[test]
fn unreachable_service_ends_with_exit_code_8() {
    let mut stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    stage.emulator.interrupt();
    assert_eq!(stage.emulator.ended(PATIENCE).code, Some(0), "the emulator closes well");
    ends(stage.watch(HASTE), 8, &["service"]);
}

#[test]
fn silent_service_ends_with_exit_code_8() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let args = ["--endpoint-url", &endpoint, "--retry", "never"];
    ends(stage.watch(args), 8, &["service"]);
}

// Shows: 43.
#[test]
fn wrong_secret_key_is_reported() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut command = stage.command("watch");
    command.args(["--channel", "porch"]).env("AWS_SECRET_ACCESS_KEY", "wrong");
    let watch = Process::start("watch", &mut command, "Build kvs-viewer.");
    ends(watch, 5, &["credential"]);
}

#[test]
fn wrong_session_token_is_reported() {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let mut command = stage.command("watch");
    command.args(["--channel", "porch"]).env("AWS_SESSION_TOKEN", "a+b/c==");
    let watch = Process::start("watch", &mut command, "Build kvs-viewer.");
    ends(watch, 5, &["credential"]);
}

#[test]
fn missing_credentials_are_reported() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut command = stage.command("watch");
    command.args(["--channel", "porch"]);
    command.env_remove("AWS_SECRET_ACCESS_KEY").env_remove("AWS_ACCESS_KEY_ID");
    let watch = Process::start("watch", &mut command, "Build kvs-viewer.");
    ends(watch, 5, &["credential"]);
}

// Shows: 43.
#[test]
fn unknown_channel_is_reported() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    ends(stage.watch_channel("nowhere", HASTE), 6, &["channel"]);
}

#[test]
fn certificate_of_unknown_ca_is_reported() {
    let stage = Stage::start_tls(PROGRAM, Keys::plain());
    let mut command = stage.command("watch");
    let other = Stage::start_tls(PROGRAM, Keys::plain());
    command.args(["--channel", "porch", "--endpoint-url", other.endpoint(), "--retry", "never"]);
    let watch = Process::start("watch", &mut command, "Build kvs-viewer.");
    ends(watch, 8, &["certificate"]);
}

// Shows: 19.
#[test]
fn invalid_arguments_are_refused_before_any_call() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let long = "x".repeat(257);
    let cases: [(&[&str], &str); 9] = [
        (&["--client-id", "AWS_x"], "client"),
        (&["--client-id", "a@b"], "client"),
        (&["--client-id", &long], "client"),
        (&["--region", "Mars?"], "region"),
        (&["--endpoint-url", "ftp://127.0.0.1"], "endpoint"),
        (&["--duration=-3"], "duration"),
        (&["--record", "/no/such/folder/and.txt"], "container"),
        (&["--ca-file", "/no/such/file.pem"], "ca"),
        (&["--retries", "100000"], "retries"),
    ];
    for (args, word) in cases {
        let ended = ends(stage.watch(args), 2, &[word]);
        assert!(named_events(&ended).is_empty(), "{args:?}: {:?}", ended.stdout);
    }
    ends(stage.watch_channel("arn:aws:kinesisvideo:nowhere", [""; 0]), 2, &["channel"]);
}

fn named_events(ended: &Ended) -> Vec<&String> {
    ended.stdout.iter().filter(|line| line.contains("attempt_started")).collect()
}

#[test]
fn existing_file_is_not_overwritten() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let file = stage.path("kept.mp4");
    fs::write(&file, b"kept").expect("written");
    ends(stage.watch(["--record".as_ref(), file.as_os_str()]), 12, &["exists"]);
    assert_eq!(fs::read(&file).expect("read"), b"kept");
    let nowhere = stage.path("no-such-folder/new.mp4");
    ends(stage.watch(["--record".as_ref(), nowhere.as_os_str()]), 12, &["folder"]);
}

/// A limit on the file size has the effect of a full disk on the process that writes.
#[test]
fn recording_plays_after_disk_is_full() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    for name in ["full.mp4", "full.mkv"] {
        let file = stage.path(name);
        let watch = stage.command("watch");
        let mut limited = Command::new("sh");
        // 80 blocks of 512 bytes hold a few seconds of the clip.
        limited.args(["-c", "trap '' XFSZ; ulimit -f 80; exec \"$0\" \"$@\""]);
        limited.arg(watch.get_program()).args(watch.get_args());
        limited.args(["--channel", "porch", "--json", "--record"]).arg(&file);
        for (name, value) in watch.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let watch = Process::start("watch", &mut limited, "Build kvs-viewer.");
        ends(watch, 11, &["recording failed"]);
        let seen = probe(&file);
        assert!(seen.duration >= 2.0 && seen.pictures >= 30, "{seen:?}");
    }
}

#[test]
fn recording_of_killed_viewer_plays() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    for name in ["killed.mp4", "killed.mkv"] {
        let file = stage.path(name);
        let mut watch = stage.watch(["--record".as_ref(), file.as_os_str()]);
        let many = |stats: &Value| stats["frames"].as_u64() >= Some(90);
        let stats = watch.event_that("stats", PATIENCE, many);
        watch.kill();
        assert_eq!(watch.ended(PATIENCE).code, None);
        let seen = probe(&file);
        // At most the last fragment is lost, and one fragment spans the 2 s between keyframes of
        // the clip.
        let received = stats["frames"].as_u64().unwrap_or_default();
        assert!(seen.pictures + 35 >= received, "{received} frames received: {seen:?}");
        eprintln!("killed after {received} frames: {seen:?}");
    }
}

// Shows: 49.
#[test]
fn ctrl_c_before_live_ends_with_exit_code_14() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut watch = stage.watch([""; 0]);
    watch.event("offer_sent", PATIENCE);
    watch.interrupt();
    let ended = watch.ended(Duration::from_secs(15));
    assert_eq!(ended.code, Some(14), "{}", watch.transcript());
    assert_eq!(named(&watch.events(), "ended").len(), 1);
}

#[test]
fn unusable_file_or_address_is_named_in_error() {
    let start = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        kvs_viewer_tests::stage::clear(&mut command);
        Process::start(args[0], command.args(args), "Build kvs-viewer.")
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    ends(start(&["emulator", "--credentials-file", "/there/is/none"]), 2, &["/there/is/none"]);
    ends(start(&["emulator", "--listen", &taken]), 2, &[&taken]);
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    fs::write(stage.path("ca.pem"), b"half a CA").expect("written");
    let half = stage.path("").display().to_string();
    ends(start(&["emulator", "--listen", "127.0.0.1:0", "--tls-dir", &half]), 2, &["ca-key.pem"]);
    let mut camera = stage.command("camera");
    camera.args(["--channel", "porch", "--ready-file", "/there/is/none"]);
    let camera = Process::start("camera", &mut camera, "Build kvs-viewer.");
    ends(camera, 2, &["/there/is/none"]);
}
