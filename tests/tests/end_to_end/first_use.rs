//! The mistakes of a new user: each ends with its exit code and at most six lines that name the
//! mistake and its remedy, in words that need no knowledge of WebRTC.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use kvs_viewer_tests::stage::{self, Stage};
use kvs_viewer_tests::{Ended, Keys, Process};

use crate::{PATIENCE, PROGRAM};

/// The maximum number of lines that a failure prints.
const LINES_MAX: usize = 6;

/// Words that belong into the source or a log only.
const JARGON: [&str; 12] = [
    "verdict",
    "descriptors",
    "master",
    "awaiting-",
    "backing-off",
    "keyframe",
    "endpoint_url",
    "client_id",
    "Failure",
    "Some(",
    " WARN ",
    "{",
];

struct Mistake {
    name: &'static str,
    command: Command,
    code: i32,
    words: &'static [&'static str],
}

/// Describes a mistake in arguments or environment; `change` sets the environment.
fn mistake(
    stage: &Stage,
    name: &'static str,
    args: &[&str],
    change: impl FnOnce(&mut Command),
    code: i32,
    words: &'static [&'static str],
) -> Mistake {
    let mut command = stage.command(args[0]);
    command.args(&args[1..]);
    change(&mut command);
    Mistake { name, command, code, words }
}

fn as_it_is(_: &mut Command) {}

fn run(mut mistake: Mistake) -> Ended {
    let mut child = Process::start(mistake.name, &mut mistake.command, "Build kvs-viewer.");
    let ended = child.ended(PATIENCE);
    check(mistake.name, &ended, mistake.code, mistake.words);
    ended
}

/// Checks the exit code, the number of lines, the required words and the forbidden ones.
fn check(name: &str, ended: &Ended, code: i32, words: &[&str]) {
    let printed: Vec<&String> =
        ended.stderr.iter().chain(&ended.stdout).filter(|line| !line.trim().is_empty()).collect();
    let text = printed.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
    assert_eq!(ended.code, Some(code), "{name}:\n{text}");
    assert!(printed.len() <= LINES_MAX, "{name} takes {} lines:\n{text}", printed.len());
    for word in words {
        assert!(text.contains(word), "{name}: {word:?} is missing in:\n{text}");
    }
    for word in JARGON {
        assert!(!text.contains(word), "{name}: {word:?} is in:\n{text}");
    }
    assert!(!text.contains("..\n") && !text.contains(".. "), "{name}: a double full stop:\n{text}");
}

/// The mistakes run at the same time, because each spends its time waiting.
#[test]
fn user_mistake_is_explained_in_at_most_six_lines() {
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let kept = stage.path("kept.mp4");
    fs::write(&kept, b"kept").expect("written");
    let kept = kept.display().to_string();
    let folder = stage.path("no-such-folder/a.mp4").display().to_string();
    let config = stage.path("config");
    fs::write(&config, "[profile other]\nregion = us-west-2\n").expect("written");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let down = format!("http://{}", taken.local_addr().expect("bound"));
    drop(taken);
    let no_region = |command: &mut Command| {
        command.env_remove("AWS_REGION");
    };
    let no_keys = |command: &mut Command| {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        for name in names {
            command.env_remove(name);
        }
    };
    let hasty = ["watch", "porch", "--answer-timeout", "1s", "--retry-delay", "200ms"];
    let never = |endpoint| ["watch", "porch", "--retry", "never", "--endpoint-url", endpoint];
    let mistakes = vec![
        mistake(&stage, "misspelt command", &["wacth"], as_it_is, 2, &["wacth", "'watch'"]),
        mistake(&stage, "no channel", &["watch"], as_it_is, 2, &["KVS_VIEWER_CHANNEL"]),
        mistake(
            &stage,
            "channel that does not exist",
            &["watch", "prch"],
            as_it_is,
            6,
            &["prch", "does not exist", "Check the channel's name"],
        ),
        mistake(
            &stage,
            "no region",
            &["watch", "porch"],
            no_region,
            2,
            &["no region", "--region", "AWS_REGION"],
        ),
        mistake(
            &stage,
            "another region",
            &["watch", "porch", "--region", "eu-west-1"],
            as_it_is,
            5,
            &["region", "--region"],
        ),
        mistake(
            &stage,
            "no credentials",
            &["watch", "porch"],
            no_keys,
            5,
            &["credentials", "AWS_ACCESS_KEY_ID"],
        ),
        mistake(
            &stage,
            "wrong secret",
            &["watch", "porch"],
            |command| {
                command.env("AWS_SECRET_ACCESS_KEY", "wrong");
            },
            5,
            &["Check the access key and secret"],
        ),
        mistake(
            &stage,
            "unknown profile",
            &["watch", "porch", "--profile", "nosuch"],
            |command| {
                no_keys(command);
                command.env("AWS_CONFIG_FILE", &config);
            },
            5,
            &["profile"],
        ),
        mistake(
            &stage,
            "file exists",
            &["watch", "porch", "--record", &kept],
            as_it_is,
            12,
            &["kept.mp4", "exists"],
        ),
        mistake(
            &stage,
            "folder does not exist",
            &["watch", "porch", "--record", &folder],
            as_it_is,
            12,
            &["no-such-folder", "folder"],
        ),
        mistake(
            &stage,
            "container that is not known",
            &["watch", "porch", "--record", "a.avi"],
            as_it_is,
            2,
            &["a.avi", ".mp4"],
        ),
        mistake(
            &stage,
            "forgotten emulator",
            &never(&down),
            as_it_is,
            8,
            &["connection refused", "kvs-viewer emulator", "--endpoint-url"],
        ),
        mistake(
            &stage,
            "endpoint that is no URL",
            &never("localhost:4700"),
            as_it_is,
            2,
            &["--endpoint-url", "http"],
        ),
        mistake(
            &stage,
            "duration that is none",
            &["watch", "porch", "--duration", "20x"],
            as_it_is,
            2,
            &["--duration", "20s"],
        ),
        mistake(
            &stage,
            "client id that is none",
            &["watch", "porch", "--client-id", "a@b"],
            as_it_is,
            2,
            &["--client-id"],
        ),
        mistake(
            &stage,
            "camera that is off",
            &hasty,
            as_it_is,
            3,
            &["2 attempts", "did not answer within 1 s", "Check that the camera is on"],
        ),
    ];
    thread::scope(|scope| {
        for mistake in mistakes {
            scope.spawn(|| run(mistake));
        }
    });
    assert_eq!(fs::read(stage.path("kept.mp4")).expect("read"), b"kept");
}

/// The channel can be given in three ways, and one of them is enough.
#[test]
fn channel_is_taken_from_argument_option_or_variable() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let nowhere = |args: &[&str], variable: &str| {
        let mut command = stage.command("watch");
        command.args(args).env("KVS_VIEWER_CHANNEL", variable);
        let mut watch = Process::start("watch", &mut command, "Build kvs-viewer.");
        let ended = watch.ended(PATIENCE);
        assert_eq!(ended.code, Some(6), "{}", watch.transcript());
        ended.stderr.join("\n")
    };
    assert!(nowhere(&["one"], "").contains("Connecting to one;"));
    assert!(nowhere(&["--channel", "two"], "").contains("Connecting to two;"));
    assert!(nowhere(&[], "three").contains("Connecting to three;"));
    assert!(nowhere(&["one"], "three").contains("Connecting to one;"));
}

/// After Ctrl-C before the session is live, the output names what it waited for, and no empty
/// advice.
#[test]
fn ctrl_c_before_live_reports_what_was_missing() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let mut watch = stage.watch([""; 0]);
    watch.event_that("phase", PATIENCE, |phase| phase["to"] == "awaiting-answer");
    watch.interrupt();
    let ended = watch.ended(PATIENCE);
    assert_eq!(ended.code, Some(14), "{}", watch.transcript());
    let text = ended.stderr.join("\n");
    assert!(text.contains("Closed before it was live, while waiting for the camera"), "{text}");
    assert!(ended.stderr.len() <= LINES_MAX && !text.contains("Nothing"), "{text}");
}

/// The reboot of a camera is reported once and in plain words, and the session continues.
#[test]
fn camera_reboot_is_reported_in_plain_words() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &[]);
    let camera = stage.camera([""; 0]);
    let mut command = stage.command("watch");
    command.args([stage::CHANNEL, "--retry", "persistent"]);
    let mut watch = Process::start("watch", &mut command, "Build kvs-viewer.");
    watch.printed("Live after", PATIENCE);
    camera.kill();
    drop(camera);
    watch.printed("The connection is lost", PATIENCE);
    let _camera = stage.camera([""; 0]);
    watch.printed("Live again.", PATIENCE);
    watch.interrupt();
    let ended = watch.ended(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", watch.transcript());
    assert!(ended.stderr.len() <= LINES_MAX, "{:?}", ended.stderr);
    let text = ended.stderr.join("\n");
    for word in ["ICE", "restart connections", "refused", "descriptors"] {
        assert!(!text.contains(word), "{word:?} is in:\n{text}");
    }
}
