//! `cargo xtask bench start`: measures the time to the first picture, compared with other viewers.

mod contenders;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::Options;
use super::analysis::{Exchanges, exchanges};
use super::process::{load, now};
use super::service::{Plan, Scratch, Service};
use super::table::{markdown, median, shown, with_range};
use crate::step;
use contenders::{Contender, contenders};

/// One start, in milliseconds of the contender's own clock.
#[derive(Clone, Copy, Debug)]
struct Sample {
    offer: f64,
    answer: f64,
    picture: f64,
    /// For a page, the time from the beginning of navigation to the picture.
    navigation: Option<f64>,
    cpu: f64,
}

/// How the viewer identifies the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Name,
    Arn,
}

impl By {
    fn text(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Arn => "ARN",
        }
    }
}

/// One cell of the table.
type Case = (By, u64, String);

#[derive(Default)]
struct Results {
    samples: BTreeMap<Case, Vec<Sample>>,
    exchanges: BTreeMap<Case, Vec<Exchanges>>,
    failures: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<(), String> {
    let (service, camera) = options.service()?;
    let scratch = Scratch::new()?;
    let mut rows = options.json.as_deref().map(create).transpose()?;
    let began = now();
    let load_before = load();
    let mut contenders = contenders(options, &scratch)?;
    let mut services = Vec::new();
    for rtt_ms in &options.rtts {
        let name = format!("rtt-{rtt_ms}");
        let (service, camera, rtt_ms) = (&service, &camera, *rtt_ms);
        let channels = vec!["bench-0".to_owned()];
        let plan = Plan { name, service, camera, channels, tls: true, rtt_ms };
        services.push((rtt_ms, Service::start(&plan, &scratch)?));
    }
    for contender in &mut contenders {
        contender.warm_up(&services)?;
    }
    let mut results = Results::default();
    for run in 0..options.runs {
        eprintln!(
            "run {} of {}, {} s after the start",
            run + 1,
            options.runs,
            began.elapsed().as_secs()
        );
        for (rtt_ms, service) in &services {
            for by in [By::Name, By::Arn] {
                // Rotated, so that a viewer does not always follow the same other viewer.
                contenders.rotate_left(1);
                for contender in &mut contenders {
                    let case = (by, *rtt_ms, contender.label().to_owned());
                    measure(contender, service, case, &mut results, rows.as_mut())?;
                }
            }
        }
    }
    for contender in contenders {
        contender.end();
    }
    for (_, service) in services {
        service.end();
    }
    report(options, &results, &format!("{load_before} before, {} after", load()))
}

fn measure(
    contender: &mut Contender,
    service: &Service,
    case: Case,
    results: &mut Results,
    rows: Option<&mut File>,
) -> Result<(), String> {
    let mark = service.mark();
    let (by, rtt_ms, label) = &case;
    let sample = match contender.start(service, *by) {
        Ok(sample) => sample,
        Err(why) => {
            eprintln!("{label} by {} at {rtt_ms} ms: {why}", by.text());
            results.failures.push(format!("{label} by {} at {rtt_ms} ms: {why}", by.text()));
            return Ok(());
        }
    };
    // The emulator writes the last lines of the log asynchronously.
    std::thread::sleep(Duration::from_millis(30));
    let counted = exchanges(&service.since(mark)?, *rtt_ms);
    if let Some(rows) = rows {
        let row = json!({
            "viewer": label, "by": by.text(), "rtt_ms": rtt_ms,
            "offer_ms": sample.offer, "answer_ms": sample.answer, "picture_ms": sample.picture,
            "navigation_ms": sample.navigation, "cpu_ms": sample.cpu,
            "tls_handshakes": counted.handshakes, "requests": counted.requests,
            "round_trips_to_offer": counted.in_sequence,
        });
        writeln!(rows, "{row}").map_err(|error| format!("--json: {error}"))?;
    }
    results.samples.entry(case.clone()).or_default().push(sample);
    results.exchanges.entry(case).or_default().push(counted);
    Ok(())
}

fn create(path: &Path) -> Result<File, String> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn report(options: &Options, results: &Results, load: &str) -> Result<(), String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut git = step::tool("git");
    let commit = step::output(git.args(["describe", "--always", "--dirty"])).unwrap_or_default();
    let mut text = format!(
        "Medians of {} runs, in milliseconds; tree {}, {cores} cores, load {load}.\n",
        options.runs,
        commit.trim(),
    );
    for by in [By::Name, By::Arn] {
        text.push_str(&format!("\nBy {}:\n\n", by.text()));
        text.push_str(&times(results, by));
    }
    text.push_str("\nExchanges with the service:\n\n");
    text.push_str(&counts(results));
    for failure in &results.failures {
        text.push_str(&format!("\nfailed: {failure}"));
    }
    write!(std::io::stdout(), "{text}").map_err(|error| error.to_string())?;
    match results.failures.len() {
        0 => Ok(()),
        failures => Err(format!("{failures} starts failed")),
    }
}

fn times(results: &Results, by: By) -> String {
    let header = [
        "RTT",
        "viewer",
        "to offer",
        "to answer",
        "to first picture (range)",
        "answer to picture",
        "of JavaScript",
        "CPU",
    ];
    let of = |rtt: u64, label: &str| {
        results.samples.get(&(by, rtt, label.to_owned())).map(Vec::as_slice).unwrap_or_default()
    };
    let column = |samples: &[Sample], what: fn(&Sample) -> f64| -> Vec<f64> {
        samples.iter().map(what).collect()
    };
    let mut rows = Vec::new();
    for (case_by, rtt, label) in results.samples.keys().filter(|case| case.0 == by) {
        let samples = of(*rtt, label);
        debug_assert_eq!(*case_by, by);
        let pictures = column(samples, |s| s.picture);
        let javascript = median(&column(of(*rtt, contenders::JAVASCRIPT), |s| s.picture));
        let ratio = median(&pictures).zip(javascript).map(|(ours, theirs)| ours / theirs);
        rows.push(vec![
            rtt.to_string(),
            label.clone(),
            shown(&column(samples, |s| s.offer)),
            shown(&column(samples, |s| s.answer)),
            with_range(&pictures),
            shown(&column(samples, |s| s.picture - s.answer)),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            shown(&column(samples, |s| s.cpu)),
        ]);
        let navigation: Vec<f64> = samples.iter().filter_map(|s| s.navigation).collect();
        if !navigation.is_empty() {
            rows.push(vec![
                rtt.to_string(),
                format!("{label}, from navigation"),
                "-".to_owned(),
                "-".to_owned(),
                with_range(&navigation),
                "-".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
            ]);
        }
    }
    markdown(&header, &rows)
}

/// Formats the counts for the longest round-trip time, at which parallel steps can be distinguished
/// best.
fn counts(results: &Results) -> String {
    let header =
        ["viewer", "by", "round trips in sequence to the offer", "TLS handshakes", "requests"];
    let longest = results.exchanges.keys().map(|case| case.1).max().unwrap_or_default();
    let mut rows = Vec::new();
    for ((by, _, label), counted) in results.exchanges.iter().filter(|(case, _)| case.1 == longest)
    {
        let column = |what: fn(&Exchanges) -> Option<usize>| -> Vec<f64> {
            counted.iter().filter_map(what).map(|count| count as f64).collect()
        };
        rows.push(vec![
            label.clone(),
            by.text().to_owned(),
            shown(&column(|c| c.in_sequence)),
            shown(&column(|c| Some(c.handshakes))),
            shown(&column(|c| Some(c.requests))),
        ]);
    }
    markdown(&header, &rows)
}
