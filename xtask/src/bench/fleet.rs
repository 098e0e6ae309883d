//! `cargo xtask bench fleet`: measures many sessions in one process.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::Options;
use super::process::{Process, cpu_time, load, size};
use super::service::{Plan, Scratch, Service, VIEWER_KEY, credentials};
use super::table::markdown;

/// The maximum number of viewers of a channel: AWS's quota.
const PER_CHANNEL: usize = 10;
/// The time within which all sessions must be live.
const OPENING: Duration = Duration::from_secs(130);
/// The delay between the last session's start and the measurement.
const SETTLING: Duration = Duration::from_secs(2);

pub(super) fn run(options: &Options) -> Result<(), String> {
    let numbers =
        if options.numbers.is_empty() { vec![1, 10, 100] } else { options.numbers.clone() };
    let most = numbers.iter().copied().max().unwrap_or(1).max(1);
    let (service, camera) = options.service()?;
    let programs = options.viewers("examples/fleet")?;
    let scratch = Scratch::new()?;
    let mut rows_file = match &options.json {
        Some(path) => Some(File::create(path).map_err(|error| format!("--json: {error}"))?),
        None => None,
    };
    let plan = Plan {
        name: "fleet".to_owned(),
        service: &service,
        camera: &camera,
        channels: (0..most.div_ceil(PER_CHANNEL)).map(|n| format!("bench-{n}")).collect(),
        tls: false,
        rtt_ms: 0,
    };
    let service = Service::start(&plan, &scratch)?;
    let mut rows = Vec::new();
    for sessions in numbers {
        for (label, program) in &programs {
            let seen = measure(program, &service, sessions, options.seconds)?;
            eprintln!("{label}: {sessions} sessions, {:.1} % of a core", seen.cpu_percent);
            if let Some(file) = &mut rows_file {
                let row = json!({
                    "viewer": label, "sessions": sessions, "cpu_percent": seen.cpu_percent,
                    "opening_ms": seen.opening_ms, "opening_cpu_ms": seen.opening_cpu_ms,
                    "rss_kb": seen.rss_kb, "threads": seen.threads, "descriptors": seen.descriptors,
                });
                writeln!(file, "{row}").map_err(|error| format!("--json: {error}"))?;
            }
            rows.push(vec![
                sessions.to_string(),
                label.clone(),
                format!("{:.1}", seen.cpu_percent),
                format!("{:.2}", seen.cpu_percent / sessions as f64),
                format!("{:.1}", seen.rss_kb as f64 / 1024.0),
                seen.descriptors.to_string(),
                seen.threads.to_string(),
                format!("{:.0}", seen.opening_ms),
                format!("{:.0}", seen.opening_cpu_ms / sessions as f64),
            ]);
        }
    }
    service.end();
    let header = [
        "sessions",
        "viewer",
        "CPU, % of a core",
        "per session",
        "RSS, MiB",
        "descriptors",
        "threads",
        "all live after, ms",
        "CPU to open one, ms",
    ];
    let table = markdown(&header, &rows);
    let note = format!("CPU over {} s; load {} at the end.\n", options.seconds, load());
    write!(std::io::stdout(), "{note}\n{table}").map_err(|error| error.to_string())
}

struct Seen {
    cpu_percent: f64,
    opening_ms: f64,
    opening_cpu_ms: f64,
    rss_kb: u64,
    threads: u64,
    descriptors: usize,
}

fn measure(
    program: &Path,
    service: &Service,
    sessions: usize,
    seconds: u64,
) -> Result<Seen, String> {
    let mut command = Command::new(program);
    command.args([&service.endpoint, &service.region, &sessions.to_string()]);
    command.args(service.channels.iter().map(|(name, _)| name));
    credentials(&mut command, VIEWER_KEY);
    let fleet = Process::start("fleet", &mut command, "")?;
    let (live, _) = fleet.event("live", OPENING)?;
    let opening_cpu = cpu_time(fleet.pid());
    std::thread::sleep(SETTLING);
    let (begun, before) = (super::process::now(), cpu_time(fleet.pid()));
    std::thread::sleep(Duration::from_secs(seconds));
    let used = cpu_time(fleet.pid()).saturating_sub(before).as_secs_f64();
    let cpu_percent = 100.0 * used / begun.elapsed().as_secs_f64();
    let (rss_kb, threads, descriptors) = size(fleet.pid()).ok_or("the process is gone")?;
    let seen = Seen {
        cpu_percent,
        opening_ms: live.saturating_duration_since(fleet.started).as_secs_f64() * 1000.0,
        opening_cpu_ms: opening_cpu.as_secs_f64() * 1000.0,
        rss_kb,
        threads,
        descriptors,
    };
    fleet.finish(Duration::from_secs(20));
    Ok(seen)
}
