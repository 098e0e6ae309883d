//! The program itself, in its own process: scenarios 54 to 56.

use std::path::Path;

use kvs_camera::Source;
use kvs_emulator::{Action, MessageType};
use kvs_viewer_tests::tools::{compare_counters, probe};
use kvs_viewer_tests::{Keys, Process};
use recording::ClipKind;

use crate::{ms, scenario, secs, shown};

/// The time limit of a program on a busy machine.
const PATIENCE: std::time::Duration = secs(90);

#[test]
fn w54_interrupted() {
    scenario(54, "SIGINT", async |stage| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, list) = (folder.path().join("cut.mp4"), folder.path().join("list.jsonl"));
        stage
            .camera_with(|camera| camera.frame_log = kvs_camera::FrameLog::File(list.clone()))
            .await;
        let mut watch = stage.program("watch");
        watch.args(["--json", "--record"]).arg(&file);
        let ran = tokio::task::spawn_blocking(move || {
            let mut watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
            let frames = |event: &serde_json::Value| event["frames"].as_u64() > Some(45);
            watch.event_that("stats", PATIENCE, frames);
            watch.interrupt();
            let interrupted = tokio::time::Instant::now();
            let ended = watch.ended(PATIENCE);
            assert_eq!(ended.code, Some(0), "{}", watch.transcript());
            interrupted.elapsed()
        });
        let took = ran.await.expect("it ends");
        stage.camera_off().await;
        let compared = tokio::task::spawn_blocking(move || compare(&file, &list));
        shown(format!("exit code 0; {}", compared.await.expect("it plays")), took)
    });
}

/// Checks that the file plays and contains what the camera sent, by the frame counters in its
/// pictures.
fn compare(file: &Path, list: &Path) -> String {
    let (seen, counters) = (probe(file), compare_counters(file, list));
    format!("{:.1} s play, counters: {counters}", seen.duration)
}

#[test]
fn w54_disk_full() {
    scenario(54, "disk full", async |stage| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("full.mp4");
        stage.camera().await;
        let mut shell = std::process::Command::new("sh");
        let program = stage.program("watch");
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        // No file may grow beyond 20 kB (512 bytes a block); without the trap a signal would end
        // the process instead.
        shell.args(["-c", r#"ulimit -f 40; trap '' XFSZ; exec "$@""#, "sh"]);
        shell.arg(program.get_program()).args(program.get_args());
        shell.args(["--json", "--record"]).arg(&file);
        let begun = tokio::time::Instant::now();
        let ran = tokio::task::spawn_blocking(move || {
            let mut watch = Process::start("watch", &mut shell, "Build kvs-viewer.");
            let ended = watch.ended(PATIENCE);
            assert_eq!(ended.code, Some(11), "{}", watch.transcript());
            let reported = ended.stderr.join(" ");
            assert!(reported.contains("The recording failed"), "{reported}");
            probe(&file)
        });
        let seen = ran.await.expect("it plays");
        assert!(seen.pictures > 0);
        let what = format!("exit code 11; {} pictures play", seen.pictures);
        shown(what, begun.elapsed())
    });
}

#[test]
fn w54_unsupported_codec_in_file_ends_recording() {
    scenario(54, "a file that cannot hold the codec", async |stage| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begun = tokio::time::Instant::now();
        for (clip, name, reported) in [
            (ClipKind::H264Opus, "r.webm", "the camera sends H.264: record to .mp4 or .mkv"),
            (ClipKind::Vp8Opus, "r.mp4", "the camera sends VP8: record to .webm or .mkv"),
        ] {
            stage.camera_with(|camera| camera.source = Source::Bundled(clip)).await;
            let file = folder.path().join(name);
            // An empty file, as a killed run may leave behind, may be overwritten.
            std::fs::write(&file, b"").expect("the file is created");
            let mut watch = stage.program("watch");
            watch.args(["--json", "--record"]).arg(&file);
            let ran = tokio::task::spawn_blocking(move || {
                let mut watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
                let ended = watch.ended(PATIENCE);
                assert_eq!(ended.code, Some(11), "{}", watch.transcript());
                let text = ended.stderr.join(" ");
                assert!(text.contains(reported), "{text}");
                // The first track decides it, without waiting for a deadline.
                let attempts = watch.transcript().matches("attempt_started").count();
                assert_eq!(attempts, 1, "{}", watch.transcript());
                let left = std::fs::metadata(&file).map_or(0, |file| file.len());
                assert_eq!(left, 0, "nothing is left behind");
            });
            ran.await.expect("it ends");
            stage.camera_off().await;
        }
        shown("exit code 11, no file".to_owned(), begun.elapsed())
    });
}

#[test]
fn w55_secrets() {
    let keys = Keys::unique();
    let credential = kvs_emulator::Credential::new(&keys.id, &keys.secret, keys.token.clone());
    let turn = kvs_emulator::TurnConfig {
        servers: vec![vec!["turn:127.0.0.1:9?transport=udp".to_owned()]],
        ..kvs_emulator::TurnConfig::default()
    };
    let service = kvs_emulator::EmulatorConfig {
        credentials: vec![credential],
        turn,
        ..kvs_emulator::EmulatorConfig::default()
    };
    crate::scenario_on(55, "", service, async |stage| {
        let signed = stage.signaling().credentials(&keys.id, &keys.secret, keys.token.clone());
        stage.camera_with(|camera| camera.signaling = signed.build().expect("valid")).await;
        // One answer is corrupted, one is lost, and then a connection is cut.
        let broken = Action::Corrupt { how: kvs_emulator::Corruption::Sdp };
        stage.fault_from_camera(MessageType::SdpAnswer, 1, broken);
        stage.fault_from_camera(MessageType::SdpAnswer, 1, Action::Drop);
        let journal = stage.path("journal");
        let mut watch = stage.program("watch");
        keys.give_to(&mut watch);
        watch.env("RUST_LOG", "trace").args(["--json", "--log", "trace", "--retry", "persistent"]);
        watch.args(["--answer-timeout", "2", "--journal"]).arg(&journal);
        let begun = tokio::time::Instant::now();
        let watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
        let live = tokio::task::spawn_blocking(move || {
            watch.event("live", PATIENCE);
            watch
        });
        let watch = live.await.expect("live");
        let took = begun.elapsed();
        stage.cut_viewers(None);
        for frame in ["", "{", r#"{"message":"Forbidden"}"#] {
            stage.tell_viewers(frame);
        }
        let ended = tokio::task::spawn_blocking(move || {
            let mut watch = watch;
            watch.event("link_reopened", PATIENCE);
            watch.interrupt();
            assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
            watch.transcript()
        });
        let log = ended.await.expect("it ends");
        let journal = std::fs::read_to_string(journal).expect("a journal");
        assert!(log.contains(" INFO "), "nothing is logged at all");
        let secrets = [Some(keys.secret.as_str()), keys.token.as_deref()];
        for (name, text) in [("log", &log), ("journal", &journal)] {
            for secret in secrets.into_iter().flatten() {
                assert!(!text.contains(secret), "a key is in the {name}");
            }
            // The first letters of both keys are the same in percent-encoded form.
            for part in [&keys.secret[..16], &keys.token.as_deref().unwrap_or_default()[..16]] {
                assert!(!text.contains(part), "half a key is in the {name}");
            }
            assert!(!text.contains("a=ice-pwd:"), "an ICE password is in the {name}");
        }
        assert!(!journal.contains("X-Amz-"), "a signed URL is in the journal");
        let lines = log.lines().count() + journal.lines().count();
        shown(format!("{lines} lines at trace level through 4 faults, no secret"), took)
    });
}

/// The closest that one process can come to device sleep: the program is stopped for longer than a
/// busy machine explains, its sockets stay open, and no platform event reports it.
// Shows: N13.
#[test]
fn w56_stopped() {
    scenario(56, "stopped for 12 s", async |stage| {
        stage.camera().await;
        let mut watch = stage.program("watch");
        watch.args(["--json", "--no-network-watch"]);
        let ran = tokio::task::spawn_blocking(move || {
            let mut watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
            let frames =
                |more: u64| move |event: &serde_json::Value| event["frames"].as_u64() > Some(more);
            watch.event_that("stats", PATIENCE, frames(30));
            watch.freeze();
            std::thread::sleep(secs(12));
            watch.thaw();
            let resumed = |event: &serde_json::Value| event["cause"] == "resumed";
            let ended = watch.event_that("attempt_ended", PATIENCE, resumed);
            let again = |event: &serde_json::Value| event["attempt"] == 2;
            let live = watch.event_that("live", PATIENCE, again);
            let at_live = watch.events().iter().filter_map(|e| e["frames"].as_u64()).max();
            watch.event_that("stats", PATIENCE, frames(at_live.unwrap_or_default() + 30));
            watch.interrupt();
            let last = watch.ended(PATIENCE);
            assert_eq!(last.code, Some(0), "{}", watch.transcript());
            let summary = watch.event("ended", secs(1));
            assert_eq!(summary["attempts_total"], 2, "{summary}");
            let millis = |event: &serde_json::Value| event["t_ms"].as_u64().unwrap_or_default();
            millis(&live).saturating_sub(millis(&ended))
        });
        let took = ms(ran.await.expect("it recovers"));
        shown("found by the clock, attempt 2 at once, live; exit code 0", took)
    });
}
