//! Searches all output at the finest log level for secrets.

use kvs_viewer_tests::stage::{Stage, clear};
use kvs_viewer_tests::{Keys, Process};
use std::process::Command;

use crate::{PATIENCE, PROGRAM};

const TRACE: [&str; 2] = ["--log", "trace"];

// Shows: 55.
#[test]
fn viewer_camera_and_emulator_keep_secrets_at_trace_level() {
    let keys = Keys::unique();
    let password = Keys::unique().secret;
    let turn = ["--turn-uri", "turn:127.0.0.1:9?transport=udp"];
    let emulator_args = [&TRACE[..], &turn, &["--drop-answers", "1"]].concat();
    let stage = Stage::start_turn(PROGRAM, keys.clone(), &password, &emulator_args);
    let mut camera = stage.camera(TRACE);
    let patience = ["--duration", "4", "--answer-timeout", "3", "--retry-delay", "1"];
    let journal = stage.path("journal");
    let journal = journal.to_str().expect("a path of letters");
    let journaling = ["--journal", journal, "--journal-addresses"];
    let mut watch = stage.watch([&TRACE[..], &patience, &journaling].concat());
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    // The viewer must have fetched TURN servers, or their password could not appear anywhere.
    let with_turn = watch.event("ended", PATIENCE);
    assert_eq!(with_turn["attempts"][1]["evidence"]["turn_servers"], true, "{with_turn}");
    camera.interrupt();
    assert_eq!(camera.ended(PATIENCE).code, Some(0));
    let journal = std::fs::read_to_string(journal).expect("a journal");
    assert!(journal.contains("IceServers") && journal.contains("SetRemote"), "{journal}");
    holds_no_secret(&journal, &keys, Some(&password));
    for process in [&watch, &camera, &stage.emulator] {
        let text = process.transcript();
        assert!(text.contains(" INFO "), "nothing is logged at all: {text}");
        holds_no_secret(&text, &keys, Some(&password));
    }
}

// Shows: 55.
#[test]
fn demo_keeps_secrets_at_trace_level() {
    let keys = Keys::unique();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(PROGRAM);
    command.env("XDG_STATE_HOME", folder.path());
    clear(&mut command);
    keys.give_to(&mut command);
    command.args(["demo", "--json", "--duration", "3"]).args(TRACE);
    // A user may set this variable for the most detailed log.
    command.env("RUST_LOG", "trace");
    let mut demo = Process::start("demo", &mut command, "Build kvs-viewer.");
    assert_eq!(demo.ended(PATIENCE).code, Some(0), "{}", demo.transcript());
    holds_no_secret(&demo.transcript(), &keys, None);
}

// Shows: 55.
#[test]
fn refused_secret_is_not_repeated() {
    let stage = Stage::start(PROGRAM, Keys::plain(), &TRACE);
    let keys = Keys::unique();
    for subcommand in ["watch", "camera"] {
        let mut command = stage.command(subcommand);
        keys.give_to(&mut command);
        command.args(["--channel", "porch", "--json"]).args(TRACE);
        let mut refused = Process::start(subcommand, &mut command, "Build kvs-viewer.");
        assert_ne!(refused.ended(PATIENCE).code, Some(0));
        holds_no_secret(&refused.transcript(), &keys, None);
    }
    holds_no_secret(&stage.emulator.transcript(), &keys, None);
}

#[test]
#[should_panic(expected = "a secret is in")]
fn search_finds_percent_encoded_secret() {
    let keys = Keys::unique();
    let token = percent_encoded(keys.token.as_deref().unwrap_or_default());
    holds_no_secret(&format!("connecting to wss://x/?token={token}&y"), &keys, None);
}

#[test]
#[should_panic(expected = "a signature is in")]
fn search_finds_a_signature() {
    let text = format!("wss://x/?X-Amz-Signature={}", "0a".repeat(32));
    holds_no_secret(&text, &Keys::unique(), None);
}

/// Searches for each secret in plain and percent-encoded form, and for signatures and ICE
/// passwords.
fn holds_no_secret(text: &str, keys: &Keys, turn_password: Option<&str>) {
    let secrets = [Some(keys.secret.as_str()), keys.token.as_deref(), turn_password];
    for secret in secrets.into_iter().flatten() {
        for form in [secret.to_owned(), percent_encoded(secret)] {
            assert!(!text.contains(&form), "a secret is in: {}", around(text, &form));
        }
    }
    for mark in ["X-Amz-Signature=", "Signature=", "a=ice-pwd:"] {
        for (at, _) in text.match_indices(mark) {
            let value = &text[at + mark.len()..];
            let length = value.chars().take_while(|c| c.is_ascii_alphanumeric()).count();
            assert!(length < 16, "a signature is in: {}", around(text, &value[..length]));
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Returns the line that contains the secret, with the secret replaced.
fn around(text: &str, secret: &str) -> String {
    let line = text.lines().find(|line| line.contains(secret)).unwrap_or_default();
    line.replace(secret, "<HERE>").chars().take(600).collect()
}
