//! The viewers that are compared, and how to start each of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{By, Sample};
use crate::bench::Options;
use crate::bench::process::{Process, cpu_time};
use crate::bench::service::{Scratch, Service, VIEWER_KEY, credentials};
use crate::step;

/// The label of the viewer with which the others are compared as ratios.
pub(super) const JAVASCRIPT: &str = "JavaScript SDK";
const AIORTC: &str = "aiortc";

/// A start that takes longer counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time within which a viewer must end, before it is killed.
const ENDING: Duration = Duration::from_secs(5);

const NODE_HINT: &str = "Install Node.js and Chromium (Debian: apt-get install nodejs npm chromium), \
    then `npm ci` in tests/interop; or leave it out with --without javascript.";
const PYTHON_HINT: &str = "Make target/interop-venv:\n  python3 -m venv target/interop-venv\n  \
    target/interop-venv/bin/python -m pip install -r tests/interop/requirements.txt\n\
    or leave it out with --without aiortc.";

/// A viewer to measure.
pub(super) enum Contender {
    /// A build of kvs-viewer, one process for each start: in an empty state directory, or in the
    /// one that earlier starts used, with `files` files of other channels.
    Ours { label: String, program: PathBuf, state_dir: PathBuf, files: usize },
    /// A page of a running browser.
    Browser(Process),
    /// One process for each start, measured after its modules are imported.
    Aiortc { python: PathBuf },
}

/// Returns all viewers that are installed, or what is missing.
pub(super) fn contenders(options: &Options, scratch: &Scratch) -> Result<Vec<Contender>, String> {
    let left_out = |name: &str| options.without.iter().any(|without| without == name);
    let mut found = Vec::new();
    for (label, program) in options.viewers("kvs-viewer")? {
        for (variant, files) in [("empty", 0), ("full", options.files)] {
            let state_dir = scratch.path(&format!("state-{label}-{variant}"));
            let label = match files {
                0 => label.clone(),
                _ => format!("{label}, started before"),
            };
            found.push(Contender::Ours { label, program: program.clone(), state_dir, files });
        }
    }
    if !left_out("javascript") {
        let modules = step::root().join("tests/interop/node_modules/.package-lock.json");
        if !modules.exists() {
            return Err(format!("the packages of the JavaScript SDK are missing. {NODE_HINT}"));
        }
        let mut node = step::tool("node");
        node.arg("tests/interop/start_bench.js");
        credentials(&mut node, VIEWER_KEY);
        let browser = Process::start("the browser", &mut node, NODE_HINT)?;
        browser.event("ready", PATIENCE).map_err(|why| format!("{why}\n{NODE_HINT}"))?;
        found.push(Contender::Browser(browser));
    }
    if !left_out("aiortc") {
        let python = step::root().join("target/interop-venv/bin/python");
        let mut check = Command::new(&python);
        if step::output(check.args(["-c", "import aiortc, boto3, websockets"])).is_none() {
            return Err(format!("aiortc is missing. {PYTHON_HINT}"));
        }
        found.push(Contender::Aiortc { python });
    }
    Ok(found)
}

impl Contender {
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Ours { label, .. } => label,
            Self::Browser(_) => JAVASCRIPT,
            Self::Aiortc { .. } => AIORTC,
        }
    }

    /// Fills the file system's cache and the browser's code caches.
    pub(super) fn warm_up(&mut self, services: &[(u64, Service)]) -> Result<(), String> {
        // The browser has a process for each service, whereas programs are read from the disk once.
        // A persistent state directory is filled by a start at each service, by the name and by the
        // ARN.
        let (count, names) = match self {
            Self::Browser(_) => (services.len(), &[By::Name][..]),
            Self::Ours { files, .. } if *files > 0 => (services.len(), &[By::Name, By::Arn][..]),
            Self::Ours { .. } | Self::Aiortc { .. } => (1, &[By::Name][..]),
        };
        for (_, service) in services.iter().take(count) {
            for by in names {
                self.start(service, *by).map_err(|why| format!("{}: {why}", self.label()))?;
            }
        }
        Ok(())
    }

    /// Starts a session, waits for its first picture, and ends it.
    pub(super) fn start(&mut self, service: &Service, by: By) -> Result<Sample, String> {
        let (name, arn) = service.channels.first().ok_or("there is no channel")?;
        let channel = match by {
            By::Name => name,
            By::Arn => arn,
        };
        match self {
            Self::Ours { program, state_dir, files, .. } => {
                fill(state_dir, *files)
                    .map_err(|error| format!("{}: {error}", state_dir.display()))?;
                ours(program, state_dir, service, channel)
            }
            Self::Browser(browser) => in_browser(browser, service, channel),
            Self::Aiortc { python } => aiortc(python, service, channel),
        }
    }

    pub(super) fn end(self) {
        match self {
            Self::Browser(browser) => browser.finish(ENDING),
            Self::Ours { .. } | Self::Aiortc { .. } => {}
        }
    }
}

/// Prepares the state directory, with the files that viewers of other channels left in it.
fn fill(dir: &Path, files: usize) -> std::io::Result<()> {
    if files == 0 {
        // The previous start's client id would still be reserved, so the viewer would use another.
        let _ = fs::remove_dir_all(dir);
        return fs::create_dir_all(dir);
    }
    if dir.exists() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    for number in 0..files {
        fs::write(dir.join(format!("{number:016x}.client-id")), "returned 1796000000000")?;
    }
    Ok(())
}

/// Measures kvs-viewer, from the start of the process.
fn ours(program: &Path, state: &Path, service: &Service, channel: &str) -> Result<Sample, String> {
    let mut command = Command::new(program);
    command.args(["watch", "--channel", channel, "--region", &service.region, "--json"]);
    command.args(["--endpoint-url", &service.endpoint, "--log", "error"]);
    command.arg("--state-dir").arg(state);
    if let Some(ca) = &service.ca_file {
        command.arg("--ca-file").arg(ca);
    }
    credentials(&mut command, VIEWER_KEY);
    command.stderr(Stdio::null());
    let viewer = Process::start("the viewer", &mut command, "")?;
    let since = |at: Instant| at.saturating_duration_since(viewer.started).as_secs_f64() * 1000.0;
    let (offer, _) = viewer.event("offer_sent", PATIENCE)?;
    let (answer, _) = viewer.event("answer_received", PATIENCE)?;
    let (picture, _) = viewer.event("first_frame", PATIENCE)?;
    let cpu = cpu_time(viewer.pid()).as_secs_f64() * 1000.0;
    let sample = Sample {
        offer: since(offer),
        answer: since(answer),
        picture: since(picture),
        navigation: None,
        cpu,
    };
    viewer.end(ENDING);
    Ok(sample)
}

/// Measures a page, from the call that starts the session.
fn in_browser(browser: &mut Process, service: &Service, channel: &str) -> Result<Sample, String> {
    browser.tell(&json!({
        "endpointUrl": service.endpoint,
        "region": service.region,
        "channel": channel,
        "caFile": service.ca_file,
    }))?;
    browser.event("begin", PATIENCE)?;
    let before = cpu_time(browser.pid());
    let (_, played) = browser.event("picture", PATIENCE)?;
    let cpu = cpu_time(browser.pid()).saturating_sub(before).as_secs_f64() * 1000.0;
    browser.event("closed", PATIENCE)?;
    Ok(Sample {
        offer: number(&played, "offer_ms")?,
        answer: number(&played, "answer_ms")?,
        picture: number(&played, "picture_ms")?,
        navigation: Some(number(&played, "navigation_ms")?),
        cpu,
    })
}

/// Measures aiortc, after its modules are imported.
fn aiortc(python: &Path, service: &Service, channel: &str) -> Result<Sample, String> {
    let mut command = Command::new(python);
    command.arg(step::root().join("tests/interop/aiortc_viewer.py"));
    command.args(["--channel", channel, "--region", &service.region, "--frames", "1"]);
    command.args(["--endpoint-url", &service.endpoint, "--codec", "h264"]);
    if let Some(ca) = &service.ca_file {
        command.arg("--ca-file").arg(ca);
    }
    credentials(&mut command, VIEWER_KEY);
    command.stderr(Stdio::null());
    let viewer = Process::start("aiortc", &mut command, PYTHON_HINT)?;
    viewer.event("begin", PATIENCE)?;
    let before = cpu_time(viewer.pid());
    let (_, offered) = viewer.event("offered", PATIENCE)?;
    let (_, answered) = viewer.event("answered", PATIENCE)?;
    let (_, picture) = viewer.event("picture", PATIENCE)?;
    let cpu = cpu_time(viewer.pid()).saturating_sub(before).as_secs_f64() * 1000.0;
    let sample = Sample {
        offer: number(&offered, "since_begin_ms")?,
        answer: number(&answered, "since_begin_ms")?,
        picture: number(&picture, "since_begin_ms")?,
        navigation: None,
        cpu,
    };
    // The viewer closes its connection and ends by itself.
    viewer.finish(ENDING);
    Ok(sample)
}

fn number(event: &Value, field: &str) -> Result<f64, String> {
    event[field].as_f64().ok_or_else(|| format!("no {field} in {event}"))
}
