//! External programs that check the product's output: ffprobe, ffmpeg, Python, Node.js.
//!
//! A test fails with an installation hint when a program is missing: a check that is skipped
//! silently looks like one that passed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Ended, Process};

const FFMPEG: &str = "Install it (Debian: apt-get install ffmpeg).";

/// Returns the folder `tests/interop`, which holds the foreign peers.
#[must_use]
pub fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// The properties of a media file that ffprobe reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The names of its streams' codecs.
    pub codecs: BTreeSet<String>,
    /// Its length in seconds; 0 if the container does not state it.
    pub duration: f64,
    /// The number of its pictures, counted by decoding.
    pub pictures: u64,
}

/// Reads a file with ffprobe, and decodes all of it with ffmpeg.
///
/// # Panics
///
/// When either program reports an error.
#[must_use]
pub fn probe(file: &Path) -> Probe {
    probe_with(file, &[])
}

/// Does the same for a camera with uneven frame times. By default ffmpeg rounds times to the usual
/// frame rate, where two pictures close together get the same time; here it keeps the file's own
/// times, which must still increase.
///
/// # Panics
///
/// When either program reports an error.
#[must_use]
pub fn probe_uneven(file: &Path) -> Probe {
    probe_with(file, &["-enc_time_base", "-1"])
}

fn probe_with(file: &Path, output: &[&str]) -> Probe {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-count_frames", "-of", "json"]).arg("-show_entries");
    ffprobe.arg("stream=codec_name,codec_type,nb_read_frames:format=duration").arg(file);
    let seen = finished("ffprobe", &mut ffprobe, FFMPEG, Duration::from_secs(60));
    assert!(seen.code == Some(0) && seen.stderr.is_empty(), "ffprobe: {:?}", seen.stderr);
    let seen: Value = serde_json::from_str(&seen.stdout.concat()).expect("ffprobe prints JSON");

    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(file).args(output);
    ffmpeg.args(["-f", "null", "-"]);
    let decoded = finished("ffmpeg", &mut ffmpeg, FFMPEG, Duration::from_secs(120));
    assert_eq!(decoded.code, Some(0), "ffmpeg: {:?}", decoded.stderr);
    assert_eq!(decoded.stderr, Vec::<String>::new(), "ffmpeg has nothing to say of a good file");

    let streams = seen["streams"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let codecs = streams.iter().map(|stream| text(&stream["codec_name"])).collect();
    let video = streams.iter().find(|stream| stream["codec_type"] == "video");
    let pictures = video.and_then(|video| text(&video["nb_read_frames"]).parse().ok());
    let duration = text(&seen["format"]["duration"]).parse().unwrap_or_default();
    Probe { codecs, duration, pictures: pictures.unwrap_or_default() }
}

/// Compares the frame counters in a recording with the camera's list, and returns the output of
/// `read_counter.py`.
///
/// # Panics
///
/// When fewer than 99 % are present in order, or one is present twice.
#[must_use]
pub fn compare_counters(file: &Path, list: &Path) -> Value {
    compare(file, list, &[])
}

/// The same with what the camera sent to this client id alone.
///
/// # Panics
///
/// When fewer than 99 % are there in order, or any is there twice.
#[must_use]
pub fn compare_counters_of(file: &Path, list: &Path, client_id: &str) -> Value {
    compare(file, list, &["--client", client_id])
}

fn compare(file: &Path, list: &Path, options: &[&str]) -> Value {
    let mut script = Command::new("python3");
    script.arg(interop().join("read_counter.py")).arg(file).arg("--compare").arg(list);
    script.args(options);
    let seen = finished("read_counter.py", &mut script, PYTHON, Duration::from_secs(120));
    assert_eq!(seen.code, Some(0), "{:?} {:?}", seen.stdout, seen.stderr);
    serde_json::from_str(&seen.stdout.concat()).expect("it prints JSON")
}

/// Returns the frame counters of a recording, in the order of the file.
///
/// # Panics
///
/// When a counter cannot be read.
#[must_use]
pub fn counters(file: &Path) -> Vec<u32> {
    let mut script = Command::new("python3");
    script.arg(interop().join("read_counter.py")).arg(file);
    let seen = finished("read_counter.py", &mut script, PYTHON, Duration::from_secs(120));
    assert_eq!(seen.code, Some(0), "{:?}", seen.stderr);
    let number = |line: &String| line.parse().unwrap_or_else(|_| panic!("{:?}", seen.stdout));
    seen.stdout.iter().map(number).collect()
}

/// Installs the packages that the foreign peers need, unless they are installed.
///
/// # Panics
///
/// When an installation fails.
pub fn install() {
    let _ = (python(), node("browser.js"));
}

/// Returns a Python interpreter with the packages of `requirements.txt`, which are installed under
/// `target/` on first use.
///
/// # Panics
///
/// When it cannot be set up.
#[must_use]
pub fn python() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(make_venv).clone()
}

fn make_venv() -> PathBuf {
    let venv = target().join("interop-venv");
    let python = venv.join("bin/python");
    let _alone = lock("interop-venv");
    let wanted = interop().join("requirements.txt");
    let stamp = venv.join("installed");
    if !is_newer(&stamp, &wanted) {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&venv);
        succeed("python3 -m venv", &mut make, PYTHON);
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        succeed("pip install", install.arg(wanted), PYTHON);
        fs::write(stamp, "").expect("the stamp");
    }
    python
}

/// Returns a command that runs `script` in Node.js with the packages of `package-lock.json`, which
/// are installed on first use.
///
/// # Panics
///
/// When the packages cannot be installed.
#[must_use]
pub fn node(script: &str) -> Command {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let _alone = lock("interop-node");
        // npm writes this file last, so an interrupted installation is repeated.
        let installed = interop().join("node_modules/.package-lock.json");
        if !is_newer(&installed, &interop().join("package-lock.json")) {
            let mut install = Command::new("npm");
            install.arg("ci").current_dir(interop());
            succeed("npm ci in tests/interop", &mut install, NODE);
        }
    });
    let mut node = Command::new("node");
    node.arg(interop().join(script)).current_dir(interop());
    node
}

/// How to install Python.
pub(crate) const PYTHON: &str = "Install it (Debian: apt-get install python3 python3-venv).";

/// How to install Node.js.
pub const NODE: &str = "Install it (Debian: apt-get install nodejs npm).";

/// Runs a program until it ends.
///
/// # Panics
///
/// When it does not start or does not end in time.
pub fn finished(name: &str, command: &mut Command, hint: &str, within: Duration) -> Ended {
    let mut process = Process::start(name, command, hint);
    process.close_stdin();
    process.ended(within)
}

fn succeed(name: &str, command: &mut Command, hint: &str) {
    let ended = finished(name, command, hint, Duration::from_secs(300));
    assert_eq!(ended.code, Some(0), "{name}: {:?} {:?}. {hint}", ended.stdout, ended.stderr);
}

/// Whether `made` exists and is not older than its source `from`.
fn is_newer(made: &Path, from: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    match (changed(made), changed(from)) {
        (Ok(made), Ok(from)) => made >= from,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn target() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join("target")
}

/// Takes a file lock, so that only one of several test binaries installs.
fn lock(name: &str) -> File {
    let path = target().join(format!("{name}.lock"));
    fs::create_dir_all(target()).expect("the target folder");
    let file = File::create(&path).expect("the lock's file");
    file.lock().expect("locked");
    file
}
