//! `cargo xtask sim`: runs sessions in the simulator, each from its own seed, or repeats one of
//! them.
//!
//! A seed determines a whole run: the property tests' generator makes the plan from it, including
//! faults.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use negotiation_core::{Digest, EndReason, Phase};
use negotiation_sim::coverage::{Coverage, FaultName};
use negotiation_sim::{World, plan_of, replay, run_unrecorded};

/// The number of runs with broken rules after which the search stops.
const VIOLATIONS_MAX: usize = 5;

/// The command-line options.
struct Asked {
    runs: u64,
    seed: Option<u64>,
    jobs: u64,
    journal: bool,
    /// The file for the coverage table, which must be complete.
    coverage: Option<PathBuf>,
    /// The minimum number of times that each end reason and each fault of the contract must occur.
    require_hits: u64,
}

/// `--runs N`, `--seed S`, `--jobs N`, `--journal`, `--coverage FILE`, `--require-hits N`.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let requested = read(words)?;
    match requested.seed {
        Some(seed) if requested.runs == 0 => one(seed, requested.journal),
        first => {
            let all = many(first.unwrap_or(0), requested.runs, requested.jobs)?;
            all.require_hits(requested.require_hits)?;
            requested.coverage.map_or(Ok(()), |path| judge(&all.coverage, &path))
        }
    }
}

fn read(words: &[&str]) -> Result<Asked, String> {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let mut requested =
        Asked { runs: 0, seed: None, jobs: cores, journal: false, coverage: None, require_hits: 0 };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word} needs a number, not {text:?}"))
        };
        match *word {
            "--runs" => requested.runs = number()?,
            "--seed" => requested.seed = Some(number()?),
            "--jobs" => requested.jobs = number()?.clamp(1, 256),
            "--require-hits" => requested.require_hits = number()?,
            "--journal" => requested.journal = true,
            "--coverage" => {
                let path = words.next().ok_or("--coverage needs the name of a file")?;
                requested.coverage = Some(PathBuf::from(path));
            }
            other => return Err(format!("{other:?} is no option of this command")),
        }
    }
    if requested.runs == 0 && requested.seed.is_none() {
        return Err("say --runs N to search, or --seed S to run one again".into());
    }
    Ok(requested)
}

/// Repeats the run of one seed, and prints it in full.
fn one(seed: u64, journal: bool) -> Result<(), String> {
    let plan = plan_of(seed)?;
    eprintln!("{plan:#?}");
    let world = negotiation_sim::run(plan);
    if journal {
        eprintln!("{}", world.journal());
    }
    replay(world.journal()).map_err(|mismatch| format!("it does not replay: {mismatch:?}"))?;
    eprintln!("seed {seed}: {}, after {:?}", ending(&world), world.elapsed());
    match world.violations().as_slice() {
        [] => Ok(()),
        broken => Err(broken.join("\n")),
    }
}

/// The results of many runs.
#[derive(Default)]
struct Tally {
    runs: u64,
    endings: BTreeMap<String, u64>,
    coverage: Coverage,
    /// A digest of every run's end, in any order: two searches with the same digest had the same
    /// results.
    digest: u64,
    violations: Vec<(u64, String)>,
}

impl Tally {
    fn take(&mut self, seed: u64) {
        self.runs += 1;
        let taken = catch_unwind(AssertUnwindSafe(|| self.take_run(seed)));
        let broken = taken.unwrap_or_else(|_| Err("it panicked".into()));
        if let Err(broken) = broken {
            // Violations are printed at once, since a search may be long.
            eprintln!("seed {seed}: {broken}");
            self.violations.push((seed, broken));
        }
    }

    fn take_run(&mut self, seed: u64) -> Result<(), String> {
        let world = run_unrecorded(plan_of(seed)?);
        let ending = ending(&world);
        let run = format!("{seed} {ending} {} {}", world.now(), world.steps());
        self.digest = self.digest.wrapping_add(Digest::of(run.as_bytes()).0);
        *self.endings.entry(ending).or_default() += 1;
        self.coverage.take(&world);
        world.violations().first().map_or(Ok(()), |broken| Err(broken.clone()))
    }

    fn join(&mut self, other: Self) {
        self.runs += other.runs;
        for (name, times) in other.endings {
            *self.endings.entry(name).or_default() += times;
        }
        self.coverage.join(&other.coverage);
        self.digest = self.digest.wrapping_add(other.digest);
        self.violations.extend(other.violations);
    }

    /// Returns how often each of the contract's faults occurred.
    fn fault_counts(&self) -> BTreeMap<String, u64> {
        let faults = FaultName::ALL.iter();
        faults.map(|name| (name.to_string(), self.coverage.fault_count(*name))).collect()
    }

    /// Checks that each end reason and each fault of the contract occurred at least `least` times.
    fn require_hits(&self, least: u64) -> Result<(), String> {
        let reasons = EndReason::ALL.into_iter().map(|reason| {
            let ending = ended(reason);
            let times = self.endings.get(&ending).copied().unwrap_or_default();
            (ending, times)
        });
        let rare: Vec<_> = reasons
            .chain(self.fault_counts())
            .filter(|(_, times)| *times < least)
            .map(|(name, times)| format!("{name}: {times} times, fewer than {least}"))
            .collect();
        if rare.is_empty() { Ok(()) } else { Err(rare.join("\n")) }
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast it was, for people")]
fn many(first: u64, runs: u64, jobs: u64) -> Result<Tally, String> {
    let began = Instant::now();
    let mut all = Tally::default();
    thread::scope(|scope| {
        let work = |job: u64| {
            move || {
                let mut tally = Tally::default();
                for number in (job..runs).step_by(usize::try_from(jobs).unwrap_or(1)) {
                    if tally.violations.len() < VIOLATIONS_MAX {
                        tally.take(first.wrapping_add(number));
                    }
                }
                tally
            }
        };
        let workers: Vec<_> = (0..jobs).map(|job| scope.spawn(work(job))).collect();
        for worker in workers {
            match worker.join() {
                Ok(tally) => all.join(tally),
                // A panic of a run is caught where it runs, so this one is a panic of the search
                // itself.
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    let took = began.elapsed().as_secs_f64();
    histogram("how sessions ended", &all.endings);
    let faults = all.coverage.faults().map(|(kind, times)| (kind.to_string(), times));
    histogram("faults met, by what they hit", &faults.collect());
    histogram("faults that struck, by the contract's names", &all.fault_counts());
    eprintln!(
        "{} sessions from seed {first} in {took:.1} s with {jobs} at a time: {:.0} a second, {} \
         with broken rules, digest {:016x}",
        all.runs,
        all.runs as f64 / took.max(0.001),
        all.violations.len(),
        all.digest,
    );
    if all.violations.is_empty() {
        return Ok(all);
    }
    all.violations.sort();
    let reported = all.violations.iter().take(VIOLATIONS_MAX).map(|(seed, broken)| {
        format!("seed {seed}: {broken}\n  again: cargo xtask sim --seed {seed} --journal")
    });
    Err(reported.collect::<Vec<_>>().join("\n"))
}

/// Writes the coverage table, and reports what is missing.
fn judge(coverage: &Coverage, path: &Path) -> Result<(), String> {
    let page = format!("# Coverage of behaviour\n\n{coverage}");
    fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    let (all, excused) = coverage.size();
    let gaps = coverage.gaps();
    if gaps.is_empty() {
        eprintln!(
            "coverage: {} of {all} cells hit, {excused} cannot be; {}",
            all - excused,
            path.display()
        );
        return Ok(());
    }
    Err(format!(
        "{} of {all} cells are not as they should be; {} has the table\n{}\nLet the plans of \
         crates/negotiation-sim/src/strategy.rs reach them, or say in coverage/excuses.rs why \
         nothing can.",
        gaps.len(),
        path.display(),
        gaps.join("\n"),
    ))
}

fn histogram(title: &str, counts: &BTreeMap<String, u64>) {
    eprintln!("{title}:");
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    for (name, times) in counts {
        eprintln!("  {times:>9} {name}");
    }
}

fn ending(world: &World) -> String {
    match world.outcome() {
        Some(outcome) => ended(outcome.reason),
        None if world.phase() == Phase::Live => "live".into(),
        None => format!("at rest: {}", world.phase()),
    }
}

fn ended(reason: EndReason) -> String {
    format!("ended: {reason}")
}
