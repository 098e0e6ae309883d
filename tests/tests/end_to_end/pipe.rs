//! Live media for another program: standard output, named pipes, readers that leave or stall.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use kvs_viewer_tests::stage::{CHANNEL, Stage, named};
use kvs_viewer_tests::tools::{compare_counters, probe, probe_uneven};
use kvs_viewer_tests::{Keys, Piped};
use rustix::process::Signal;
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

/// How every Matroska file begins (RFC 8794, section 11.2.1).
const MATROSKA: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

fn watch(stage: &Stage, args: &[&str]) -> Command {
    let mut command = stage.command("watch");
    command.arg(CHANNEL).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(command: &mut Command) -> Piped {
    Piped::start("watch", command, "Build kvs-viewer.")
}

#[test]
fn standard_output_has_media_alone_and_events_go_to_standard_error() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let file = stage.path("live.mkv");
    let mut command = watch(&stage, &["-o", "-", "--json", "--duration", "3s"]);
    let mut viewer = start(command.stdout(File::create(&file).expect("a file")));
    let events = viewer.standard_error();
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{events}");
    assert_eq!(fs::read(&file).expect("the stream")[..4], MATROSKA);
    assert!(probe_uneven(&file).pictures >= 40);
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not an event: {line}")))
        .collect();
    let last = named(&events, "ended").last().copied().expect("the last event").clone();
    assert!(last["output"]["video_frames"].as_u64() >= Some(40), "{last}");
    assert_eq!(last["recording"], Value::Null);
}

#[test]
fn events_go_to_a_descriptor_of_the_caller() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let (stream, events) = (stage.path("live.ts"), stage.path("events.jsonl"));
    fs::write(&events, "{\"event\":\"before\"}\n").expect("a file");
    let inner = watch(&stage, &["-o", "-", "--format", "ts", "--json-fd", "3", "-d", "2s"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" >\"$STREAM\" 3>>\"$EVENTS\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("STREAM", &stream).env("EVENTS", &events);
    let mut viewer = start(command.stderr(Stdio::piped()));
    let printed = viewer.standard_error();
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{printed}");
    assert!(printed.contains("Wrote 2 s"), "messages stay where they were: {printed}");
    let events = fs::read_to_string(&events).expect("events");
    let events: Vec<Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    assert_eq!(events[0]["event"], "before", "what the file held is kept");
    assert_eq!(named(&events, "ended").len(), 1);
    assert_eq!(fs::read(&stream).expect("the stream")[0], 0x47, "a transport stream");
    assert!(probe_uneven(&stream).pictures >= 25);
}

#[test]
fn reader_that_closes_ends_the_session_with_success() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera([""; 0]);
    let mut viewer = start(&mut watch(&stage, &["-o", "-"]));
    let mut begin = [0; 4];
    let mut reader = viewer.stdout();
    reader.read_exact(&mut begin).expect("the stream begins");
    assert_eq!(begin, MATROSKA);
    drop(reader);
    let printed = viewer.standard_error();
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{printed}");
    assert!(printed.contains("The reader of the output closed it."), "{printed}");
    camera.event("viewer_left", PATIENCE);
}

/// The reader leaves while the viewer still waits for a camera.
#[test]
fn reader_that_closes_before_there_is_media_ends_the_session_with_success() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut viewer = start(&mut watch(&stage, &["-o", "-"]));
    drop(viewer.stdout());
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{}", viewer.standard_error());
}

#[test]
fn reader_that_stalls_does_not_hold_up_the_end() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera([""; 0]);
    let mut command = watch(&stage, &["-o", "-", "--json"]);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    let mut viewer = start(command.stdout(Stdio::from(writer)));
    drop(command);
    let mut events = BufReader::new(viewer.stderr()).lines();
    // Long enough to fill the pipe, at some 5 kB a second.
    let stats = events.by_ref().map(|line| line.expect("text")).filter(|line| {
        let event: Value = serde_json::from_str(line).expect("an event");
        event["event"] == "stats" && event["frames"].as_u64() >= Some(45)
    });
    assert!(stats.take(1).count() == 1);
    viewer.signal(Signal::INT);
    let last = events.map(|line| line.expect("text")).last().expect("the last event");
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{last}");
    assert!(last.contains("\"reader\":\"stalled\""), "{last}");
    drop(reader);
    camera.event("viewer_left", PATIENCE);
}

#[test]
fn named_pipe_is_read_while_the_same_session_is_recorded() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let sent = stage.path("sent.jsonl");
    let camera = stage.camera(["--frame-log".as_ref(), sent.as_os_str()]);
    let (pipe, copy, file) = (stage.path("live"), stage.path("copy.ts"), stage.path("r.mp4"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a named pipe");
    let args = ["-o", path(&pipe), "--format", "ts", "-r", path(&file), "--duration", "4s"];
    let mut viewer = start(&mut watch(&stage, &args));
    let reader = thread::spawn({
        let (pipe, copy) = (pipe.clone(), copy.clone());
        move || {
            let mut pipe = File::open(pipe).expect("the pipe opens once it is written");
            std::io::copy(&mut pipe, &mut File::create(copy).expect("a file")).expect("a copy")
        }
    });
    let printed = viewer.standard_error();
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{printed}");
    reader.join().expect("the reader ends with the stream");
    drop(camera);
    assert!(probe(&file).pictures >= 55);
    assert!(compare_counters(&copy, &sent)["found_in_order"].as_u64() >= Some(45));
}

#[test]
fn named_pipe_without_a_reader_is_reported() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let _camera = stage.camera([""; 0]);
    let pipe = stage.path("live");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a named pipe");
    let args = ["-o", path(&pipe), "--duration", "1s"];
    let mut viewer = start(&mut watch(&stage, &args));
    let printed = viewer.standard_error();
    assert_eq!(viewer.ended(PATIENCE).code(), Some(0), "{printed}");
    assert!(printed.contains("had no reader"), "{printed}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A camera that comes back goes on in the same stream, whose times never step back.
#[test]
fn stream_goes_on_after_the_camera_came_back() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera([""; 0]);
    let watches = ["mkv", "ts"].map(|format| {
        let file = stage.path("live").with_extension(format);
        let watch = stage.watch(["-o", path(&file), "--retry", "persistent"]);
        watch.event_that("stats", PATIENCE, |event| event["frames"].as_u64() >= Some(20));
        (file, watch)
    });
    camera.kill();
    drop(camera);
    let _camera = stage.camera([""; 0]);
    for (file, mut watch) in watches {
        watch.event_that("live", PATIENCE, |live| live["attempt"].as_u64() > Some(1));
        let frames = |event: &Value| event["frames"].as_u64().unwrap_or_default();
        let before = named(&watch.events(), "stats").last().map_or(0, |event| frames(event));
        watch.event_that("stats", PATIENCE, |event| frames(event) >= before + 20);
        watch.interrupt();
        assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
        let seen = probe_uneven(&file);
        assert!(seen.pictures >= before + 20, "{seen:?} after {before}");
    }
}

#[test]
fn outputs_that_cannot_work_are_refused_at_once() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let there = stage.path("there.mkv");
    fs::write(&there, "kept").expect("a file");
    let mp4 = stage.path("live.mp4");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["-o", path(&there)], 12, "exists already"),
        (&["-o", path(&mp4)], 2, "MP4 cannot be written live"),
        (&["-r", "-"], 2, "- is not a file: write live media there, with --output -"),
        (&["-r", "/dev/null"], 2, "with --output /dev/null"),
        (&["--format", "ts"], 2, "--output"),
        (&["--json-fd", "77"], 2, "--json-fd"),
    ];
    for (args, code, problem) in cases {
        let mut viewer = start(&mut watch(&stage, args));
        let printed = viewer.standard_error();
        assert_eq!(viewer.ended(PATIENCE).code(), Some(code), "{args:?}: {printed}");
        assert!(printed.contains(problem), "{args:?}: {printed}");
    }
    assert_eq!(fs::read_to_string(&there).expect("the file"), "kept");
}
