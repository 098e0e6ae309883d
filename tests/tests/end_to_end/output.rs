//! Output and its readers: readers that stall, readers that exit, and signals.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kvs_viewer_tests::stage::{self, Stage, named};
use kvs_viewer_tests::tools::probe;
use kvs_viewer_tests::{Keys, Piped, Process};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

/// The size of a pipe that `stats` events fill before the test's time limit.
const PIPE_BYTES: usize = 4096;

/// Starts a viewer with a small pipe for standard output, and with `both` for standard error too.
/// The test may leave the pipe unread.
fn start(command: &mut Command, both: bool) -> (Piped, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).expect("a small pipe");
    let error = if both { Stdio::from(writer.try_clone().expect("a copy")) } else { Stdio::null() };
    command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(error);
    let viewer = Piped::start("watch", command, "Build kvs-viewer.");
    // The command would otherwise keep the write ends of the pipe open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    (viewer, reader)
}

/// Waits until the recording is longer than `past` bytes, so that the session is live and records.
fn recording_grows(file: &std::path::Path, past: u64) {
    #[expect(clippy::disallowed_methods, reason = "a test's patience with a real process")]
    let deadline = Instant::now() + PATIENCE;
    while fs::metadata(file).map_or(0, |file| file.len()) <= past {
        #[expect(clippy::disallowed_methods, reason = "a test's patience with a real process")]
        let now = Instant::now();
        assert!(now < deadline, "{} does not grow", file.display());
        thread::sleep(Duration::from_millis(50));
    }
}

fn watch(stage: &Stage, file: &std::path::Path, args: &[&str]) -> Command {
    let mut command = stage.command("watch");
    command.args([stage::CHANNEL, "--json", "--verbose", "--log", "trace", "--record"]).arg(file);
    command.args(args);
    command
}

/// Security M2: an unread pipe blocks neither signals nor `--duration`.
#[test]
fn unread_output_blocks_neither_signals_nor_duration() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let cases = [("duration", None), ("int", Some(Signal::INT)), ("term", Some(Signal::TERM))];
    for (name, signal) in cases {
        let file = stage.path(&format!("{name}.mkv"));
        let args: &[&str] = if signal.is_none() { &["--duration", "3s"] } else { &[] };
        // At trace level both pipes fill up at once.
        let (mut viewer, _unread) = start(&mut watch(&stage, &file, args), true);
        recording_grows(&file, 4000);
        if let Some(signal) = signal {
            viewer.signal(signal);
        }
        assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{name}");
        let seen = probe(&file);
        assert!(seen.pictures > 0, "{name}: {seen:?}");
    }
}

/// The fields that people look for come first in each line.
#[test]
fn json_lines_begin_with_event_and_time() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut viewer = stage.watch(["--answer-timeout", "1s", "--retry", "never"]);
    let ended = viewer.ended(PATIENCE);
    assert_eq!(ended.code, Some(3), "{}", viewer.transcript());
    for line in &ended.stdout {
        assert!(line.starts_with("{\"event\":\""), "{line}");
        let order = ["\"event\":", "\"t_ms\":", "\"attempt\":"].map(|key| line.find(key));
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{line}");
    }
    let last = viewer.event("ended", PATIENCE);
    assert_eq!(last["events_lost"], 0, "{last}");
}

/// `| head -1` reads a line and exits; the viewer continues, and exits with code 0.
#[test]
fn closed_output_pipe_does_not_end_session() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let file = stage.path("head.mkv");
    let (mut viewer, reader) = start(&mut watch(&stage, &file, &["--duration", "3s"]), true);
    let mut line = String::new();
    let mut reader = BufReader::new(fs::File::from(reader));
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    recording_grows(&file, 4000);
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0));
    assert!(probe(&file).duration >= 2.0);
}

/// Security M5, first use B6: a closed terminal or a lost ssh ends the session as SIGTERM does.
#[test]
fn sighup_closes_session_and_finishes_files() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera([""; 0]);
    let (file, journal) = (stage.path("hup.mkv"), stage.path("hup.journal"));
    let journal_option = ["--journal", journal.to_str().expect("UTF-8")];
    // The tests may run under `nohup`, which makes children ignore the signal.
    let mut command =
        through("env", &["--default-signal=HUP"], &watch(&stage, &file, &journal_option));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut viewer = Piped::start("watch", &mut command, "Build kvs-viewer.");
    let mut output = BufReader::new(viewer.stdout());
    recording_grows(&file, 4000);
    // The shell and the system both send SIGHUP.
    viewer.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(20));
    if viewer.is_running() {
        viewer.signal(Signal::HUP);
    }
    let mut lines = String::new();
    output.read_to_string(&mut lines).expect("text");
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0));
    assert!(lines.lines().last().is_some_and(|line| line.contains("\"event\":\"ended\"")));
    camera.event("viewer_left", PATIENCE);
    assert!(fs::read_to_string(&journal).expect("a journal").contains("\"Ended\""));
    assert!(probe(&file).pictures > 0);
}

/// Returns a command that starts another program with this command as its last arguments.
fn through(program: &str, args: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// `nohup` starts a program with SIGHUP ignored, and the program must keep ignoring it.
#[test]
fn sighup_under_nohup_is_ignored() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let file = stage.path("nohup.mkv");
    let ignoring = ["-c", "trap '' HUP; exec \"$0\" \"$@\""];
    let mut command = through("sh", &ignoring, &watch(&stage, &file, &[]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut viewer = Piped::start("watch", &mut command, "Build kvs-viewer.");
    recording_grows(&file, 4000);
    viewer.signal(Signal::HUP);
    let size = fs::metadata(&file).expect("a file").len();
    recording_grows(&file, size + 4000);
    assert!(viewer.is_running());
    viewer.signal(Signal::TERM);
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0));
}

/// First use B2: the next attempt starts at once after a live one, and the descriptor count of the
/// ended attempt does not include those of the next one.
#[test]
fn descriptor_counts_exclude_the_next_attempt() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut camera = stage.camera([""; 0]);
    let mut viewer = stage.watch(["--retry", "persistent"]);
    viewer.event_that("stats", PATIENCE, |stats| stats["frames"].as_u64() >= Some(15));
    camera.interrupt();
    camera.ended(PATIENCE);
    let ended = viewer.event("attempt_ended", PATIENCE);
    let _camera = stage.camera([""; 0]);
    viewer.event_that("live", PATIENCE, |event| event["attempt"].as_u64() > Some(1));
    viewer.interrupt();
    assert_eq!(viewer.ended(PATIENCE).code, Some(0), "{}", viewer.transcript());
    for kind in ["descriptors", "sockets"] {
        let (before, after) = (ended[kind]["before"].as_u64(), ended[kind]["after"].as_u64());
        // A socket pair may close a moment later; the next attempt would add six descriptors.
        assert!(after <= before.map(|before| before + 1), "{kind}: {ended}");
    }
    assert_eq!(named(&viewer.events(), "ended").len(), 1);
}

/// A successful run prints at most four lines without `--verbose`, and nothing with `--quiet`.
#[test]
fn verbosity_options_limit_human_output() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let printed = |args: &[&str]| {
        let mut command = stage.command("watch");
        command.args([stage::CHANNEL, "--duration", "1s"]).args(args);
        let mut watch = Process::start("watch", &mut command, "Build kvs-viewer.");
        let ended = watch.ended(PATIENCE);
        assert_eq!(ended.code, Some(0), "{}", watch.transcript());
        ended.stderr
    };
    assert_eq!(printed(&["--quiet"]), [""; 0]);
    let normal = printed(&[]);
    assert!(normal.len() <= 4, "{normal:?}");
    for word in ["descriptors", "deadline", "verdict", "kvs_viewer"] {
        assert!(!normal.join(" ").contains(word), "{word} is in {normal:?}");
    }
    let verbose = printed(&["--verbose"]).join("\n");
    for words in ["connects or fails within", "Open descriptors before and after attempt 1"] {
        assert!(verbose.contains(words), "{words:?} is missing in {verbose}");
    }
}

/// The statistics of each second contain the values that people look for first.
#[test]
fn statistics_contain_resolution_jitter_and_keyframes() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let viewer = stage.watch(["--record".as_ref(), stage.path("s.mkv").as_os_str()]);
    let is_full = |stats: &Value| {
        let positive = |key: &str| stats[key].as_u64() > Some(0);
        ["bytes", "keyframes", "frames", "recorded_bytes"].into_iter().all(positive)
            && stats["resolution"] == serde_json::json!({ "width": 320, "height": 240 })
            && stats["jitter_ms"]["video"].is_number()
            && stats["path"]["round_trip_ms"].is_number()
    };
    viewer.event_that("stats", PATIENCE, is_full);
}
