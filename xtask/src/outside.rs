//! Checks the crates of `tests/outside`, which use ours from outside the workspace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::service::{Plan, Scratch, Service, VIEWER_KEY, credentials};
use crate::{step, wasm};

/// Lints, builds and runs each of these crates; each exits with 0 if its assertions hold.
pub(crate) fn run() -> Result<(), String> {
    for manifest in manifests()? {
        if wasm::PROBES.iter().any(|probe| manifest.ends_with(probe)) {
            continue;
        }
        let cargo = |subcommand: &str| {
            let mut cargo = step::cargo();
            cargo.args([subcommand, "--quiet", "--manifest-path"]).arg(&manifest);
            cargo.arg("--target-dir").arg(step::root().join("target/outside"));
            cargo
        };
        if manifest.ends_with(TEN_LINES) {
            // Clippy would check every dependency of the library again.
            ten_lines(&manifest, &mut cargo("build"))?;
            continue;
        }
        step::run(
            cargo("clippy").args(["--", "-D", "warnings"]),
            "Fix the warning, or accept it on the spot with #[expect(lint, reason = \"...\")].",
        )?;
        step::run(
            &mut cargo("run"),
            "A crate that uses only our public API no longer works: mend the API, or, if the break \
             is meant, the crate, docs/ports.md and CHANGELOG.md.",
        )?;
    }
    examples()
}

/// The crate that prints a camera's first 30 frames with the library alone.
const TEN_LINES: &str = "ten-lines/Cargo.toml";

/// The maximum number of source lines, and of crates that it compiles, including itself.
const LINES: usize = 10;
const CRATES_MAX: usize = 290;

/// The number of frames that it prints.
const FRAMES: usize = 30;

/// Counts the crates of the ten lines, and runs them against an emulator with a camera.
fn ten_lines(manifest: &Path, build: &mut Command) -> Result<(), String> {
    let source = fs::read_to_string(manifest.with_file_name("src/main.rs"));
    let source = source.map_err(|error| error.to_string())?;
    let lines = source.lines().filter(|line| !line.starts_with("//!")).count();
    let mut tree = step::cargo();
    tree.args(["tree", "--edges", "normal,build", "--prefix", "none", "--manifest-path"]);
    let tree = step::output(tree.arg(manifest)).ok_or("`cargo tree` failed for ten-lines")?;
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    eprintln!("ten-lines: {lines} lines, {} crates", crates.len());
    if lines > LINES || crates.len() > CRATES_MAX {
        return Err(format!(
            "ten-lines has {lines} lines and {} crates; {LINES} and {CRATES_MAX} are allowed: \
             `cargo tree -p kvs-viewer` says what a user of the library compiles",
            crates.len()
        ));
    }
    step::run(build, "The library no longer compiles for a user: see CHANGELOG.md.")?;
    let (scratch, service) = local_service()?;
    let mut program = Command::new(step::root().join("target/outside/debug/ten-lines"));
    let printed = watching(&mut program, &service).output();
    service.end();
    drop(scratch);
    let printed = printed.map_err(|error| format!("ten-lines does not start: {error}"))?;
    let frames = String::from_utf8_lossy(&printed.stdout).lines().count();
    if printed.status.success() && frames == FRAMES {
        return Ok(());
    }
    Err(format!("ten-lines printed {frames} frames and ended with {}", printed.status))
}

/// Runs the library's examples: against an emulator with a camera, or alone if they need none.
fn examples() -> Result<(), String> {
    let mut build = step::cargo();
    build.args(["build", "--quiet", "--examples", "--features", "kvs-viewer/recording"]);
    build.args(["-p", "kvs-viewer", "-p", "negotiation-core", "-p", "session-testing"]);
    step::run(&mut build, "Mend the example, or the library.")?;
    let (scratch, service) = local_service()?;
    let file = scratch.path("example.mp4").to_string_lossy().into_owned();
    let runs: [(&str, &[&str]); 7] = [
        ("watch", &[CHANNEL, "2"]),
        ("record", &[CHANNEL, &file, "2"]),
        ("frames_to_stdout", &[CHANNEL, "30"]),
        ("custom_peer", &[CHANNEL]),
        ("custom_signaling", &[]),
        ("simulate_your_adapter", &[]),
        ("core_in_a_thread_loop", &[]),
    ];
    let ended = runs.iter().try_for_each(|(example, arguments)| {
        eprintln!("$ {example} {}", arguments.join(" "));
        let mut program = Command::new(step::root().join("target/debug/examples").join(example));
        match watching(program.args(*arguments), &service).output() {
            Ok(output) if output.status.success() && !output.stdout.is_empty() => Ok(()),
            Ok(output) => Err(format!(
                "the example {example} ended with {} after {} bytes:\n{}",
                output.status,
                output.stdout.len(),
                String::from_utf8_lossy(&output.stderr)
            )),
            Err(error) => Err(format!("the example {example} does not start: {error}")),
        }
    });
    service.end();
    ended
}

/// The channel that ten-lines watches.
const CHANNEL: &str = "front-door";

/// Starts an emulator with a camera, built as tests are.
fn local_service() -> Result<(Scratch, Service), String> {
    let build = &mut step::cargo();
    step::run(build.args(["build", "--quiet", "-p", "kvs-viewer-cli"]), "Mend the program.")?;
    let program = step::root().join("target/debug/kvs-viewer");
    let scratch = Scratch::new()?;
    let plan = Plan {
        name: "outside".to_owned(),
        service: &program,
        camera: &program,
        channels: vec![CHANNEL.to_owned()],
        tls: false,
        rtt_ms: 0,
    };
    let service = Service::start(&plan, &scratch)?;
    Ok((scratch, service))
}

/// Sets the credentials, region and endpoint of a service in a program's environment.
fn watching<'a>(program: &'a mut Command, service: &Service) -> &'a mut Command {
    credentials(program, VIEWER_KEY);
    program.env("AWS_REGION", &service.region).env("AWS_ENDPOINT_URL", &service.endpoint)
}

/// Returns the manifests of these crates, in order.
pub(crate) fn manifests() -> Result<Vec<PathBuf>, String> {
    let folder = step::root().join("tests/outside");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut manifests: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().join("Cargo.toml")))
        .filter(|manifest| manifest.is_file())
        .collect();
    manifests.sort();
    if manifests.is_empty() {
        return Err("tests/outside holds no crate: it proves nothing".into());
    }
    Ok(manifests)
}
