//! Runs emulator and camera as processes, for one round-trip time.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::analysis::CAMERA_KEY;
use super::process::{Process, now};
use crate::step;

/// The access key of every viewer.
pub(crate) const VIEWER_KEY: &str = "AKIABENCHVIEWER00000";
/// The secret of both keys, which are valid only for emulators on loopback during a benchmark.
const SECRET: &str = "benchmark-on-loopback";
/// The time within which emulator and camera must start.
const STARTING: Duration = Duration::from_secs(30);

/// A directory that is removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("kvs-viewer-bench-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that cannot be removed stays in the system's temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running emulator with its cameras.
pub(crate) struct Service {
    pub(crate) endpoint: String,
    pub(crate) region: String,
    /// The channels' names and ARNs.
    pub(crate) channels: Vec<(String, String)>,
    pub(crate) ca_file: Option<PathBuf>,
    log: PathBuf,
    cameras: Vec<Process>,
    emulator: Process,
}

/// The configuration of a service.
pub(crate) struct Plan<'a> {
    pub(crate) name: String,
    pub(crate) service: &'a Path,
    pub(crate) camera: &'a Path,
    /// The channels' names; each gets a camera.
    pub(crate) channels: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) rtt_ms: u64,
}

impl Service {
    /// Starts an emulator, and a camera on each of its channels.
    pub(crate) fn start(plan: &Plan<'_>, scratch: &Scratch) -> Result<Self, String> {
        let dir = scratch.path(&plan.name);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let (ready, log) = (dir.join("emulator.json"), dir.join("connections.jsonl"));
        let mut command = Command::new(plan.service);
        command.args(["emulator", "--listen", "127.0.0.1:0", "--no-quotas", "--json"]);
        for key in [VIEWER_KEY, CAMERA_KEY] {
            command.args(["--access-key", key, "--secret-key", SECRET]);
        }
        for channel in &plan.channels {
            command.args(["--channel", channel]);
        }
        if plan.tls {
            command.arg("--tls-dir").arg(dir.join("tls"));
        }
        if plan.rtt_ms > 0 {
            command.args(["--wire-rtt", &format!("{}ms", plan.rtt_ms)]);
        }
        command.arg("--ready-file").arg(&ready).arg("--connection-log").arg(&log);
        let hint =
            "The emulator needs --wire-rtt and --connection-log: give a newer one with --service.";
        let mut emulator = Process::start("emulator", &mut command, hint)?;
        let reported = wait_for(&ready, &mut emulator)
            .map_err(|error| format!("emulator: {error}\n{hint}"))?;
        let text = |name: &str| reported[name].as_str().map(str::to_owned);
        let channels = reported["channels"].as_object().into_iter().flatten();
        let channels =
            channels.map(|(name, arn)| (name.clone(), arn.as_str().unwrap_or_default().to_owned()));
        let mut started = Self {
            endpoint: text("endpoint").ok_or("the emulator names no endpoint")?,
            region: text("region").ok_or("the emulator names no region")?,
            channels: channels.collect(),
            ca_file: text("ca_file").map(PathBuf::from),
            log,
            cameras: Vec::new(),
            emulator,
        };
        for (number, (channel, _)) in started.channels.clone().iter().enumerate() {
            let ready = dir.join(format!("camera-{number}.json"));
            let mut command = Command::new(plan.camera);
            command.args(["camera", "--channel", channel, "--region", &started.region]);
            command.args(["--endpoint-url", &started.endpoint]).arg("--ready-file").arg(&ready);
            if let Some(ca) = &started.ca_file {
                command.arg("--ca-file").arg(ca);
            }
            credentials(&mut command, CAMERA_KEY);
            command.stderr(Stdio::null());
            let mut camera = Process::start("camera", &mut command, "")?;
            wait_for(&ready, &mut camera).map_err(|error| format!("camera: {error}"))?;
            started.cameras.push(camera);
        }
        Ok(started)
    }

    /// Returns the current length of the connection log.
    pub(crate) fn mark(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Returns the events that were logged after `mark`.
    pub(crate) fn since(&self, mark: u64) -> Result<Vec<Value>, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", self.log.display());
        let mut file = File::open(&self.log).map_err(failed)?;
        file.seek(SeekFrom::Start(mark)).map_err(failed)?;
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        Ok(lines.filter_map(|line| serde_json::from_str(&line).ok()).collect())
    }

    pub(crate) fn end(self) {
        for camera in self.cameras {
            camera.end(Duration::from_secs(5));
        }
        self.emulator.end(Duration::from_secs(5));
    }
}

/// Sets the credentials, and removes all other AWS variables from the environment.
pub(crate) fn credentials(command: &mut Command, key: &str) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
    }
    command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env("AWS_EC2_METADATA_DISABLED", "true").current_dir(step::root());
}

/// Waits for the line of JSON that a process writes into a file when it is ready.
fn wait_for(path: &Path, process: &mut Process) -> Result<Value, String> {
    let until = now() + STARTING;
    while now() < until {
        if let Ok(text) = fs::read_to_string(path) {
            return serde_json::from_str(&text).map_err(|error| error.to_string());
        }
        if let Some(status) = process.ended() {
            return Err(format!("it ended at once ({status})"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("it did not start within {STARTING:?}"))
}
