//! Endpoints that one process stores in the state directory for the next process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kvs_viewer_tests::stage::Stage;
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;

use crate::{PATIENCE, PROGRAM};

/// The numbers of requests to the emulator so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    describe: usize,
    endpoints: usize,
    viewers: usize,
}

#[test]
fn second_process_starts_without_requesting_endpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, state) = (folder.path().join("connections.jsonl"), folder.path().join("state"));
    // Four viewers start within a second here; the service's quota is three per channel.
    let quotas = ["--quotas", r#"{"connects_per_second":100}"#];
    let options = ["--connection-log", log.to_str().expect("UTF-8"), quotas[0], quotas[1]];
    let stage = Stage::start(PROGRAM, Keys::plain(), &options);
    let _camera = stage.camera::<&str>([]);

    let first = started(&stage, &state, &log, 1);
    assert_ne!(first.endpoints, 0);
    let second = started(&stage, &state, &log, 2);
    let unchanged = Calls { viewers: 2, ..first };
    assert_eq!(second, unchanged, "the second process requested endpoints");

    // The service has moved: nothing listens at the stored endpoint, and the first attempt
    // recovers.
    let file = only_file(&state);
    let text = fs::read_to_string(&file).expect("readable");
    let port = stage.endpoint().rsplit_once(':').expect("a port").1.trim_end_matches('/');
    assert!(text.contains(port), "{text}");
    fs::write(&file, text.replace(port, "9")).expect("written");
    let third = started(&stage, &state, &log, 3);
    let (describe, endpoints) = (unchanged.describe + 1, unchanged.endpoints + 1);
    assert_eq!(third, Calls { describe, endpoints, viewers: 3 });

    // A damaged file is ignored, and replaced.
    fs::write(only_file(&state), "{").expect("written");
    let fourth = started(&stage, &state, &log, 4);
    assert_eq!(fourth.endpoints, endpoints + 1);
    until("the damaged file is replaced", || {
        (fs::read_to_string(only_file(&state)).ok()? != "{").then_some(())
    });
}

/// Starts a viewer, waits until it is live in its first attempt, closes it, and returns the numbers
/// of requests, which include `viewers` connections.
fn started(stage: &Stage, state: &Path, log: &Path, viewers: usize) -> Calls {
    let mut watch: Process = stage.watch(["--state-dir", state.to_str().expect("UTF-8")]);
    let live = watch.event("live", PATIENCE);
    assert_eq!(live["attempt"], 1, "{}", watch.transcript());
    // The emulator writes the log in order, a moment later.
    let calls = until("the viewer's connection is in the log", || {
        Some(calls(log)).filter(|calls| calls.viewers >= viewers)
    });
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    calls
}

fn calls(log: &Path) -> Calls {
    let text = fs::read_to_string(log).expect("readable");
    let mut calls = Calls::default();
    for line in text.lines() {
        // The last line may be incomplete.
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        match event["call"].as_str() {
            Some("DescribeSignalingChannel") => calls.describe += 1,
            Some("GetSignalingChannelEndpoint") => calls.endpoints += 1,
            Some("ConnectAsViewer") => calls.viewers += 1,
            Some(_) | None => {}
        }
    }
    calls
}

/// Waits for the only endpoints file in a state directory.
fn only_file(state: &Path) -> PathBuf {
    until("there is one file of endpoints", || {
        let entries = fs::read_dir(state).into_iter().flatten().flatten();
        let files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "endpoints"))
            .collect();
        match files.as_slice() {
            [file] => Some(file.clone()),
            _ => None,
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "how long a test waits")]
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
