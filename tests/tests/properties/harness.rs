//! Runs a property over many seeds, shrinks a failing case, and prints how to run it again.
//!
//! Every case has its own seed, so one number replays it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use negotiation_core::EndReason;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::cases::scaled;

/// The properties of this binary; the last one to finish prints the end reasons.
const PROPERTIES: usize = 12;

static REACHED: Mutex<Tally> = Mutex::new(Tally { finished: 0, reasons: BTreeMap::new() });

struct Tally {
    finished: usize,
    reasons: BTreeMap<EndReason, u64>,
}

/// Counts how a session ended.
pub(crate) fn reached(reason: EndReason) {
    if let Ok(mut tally) = REACHED.lock() {
        *tally.reasons.entry(reason).or_default() += 1;
    }
}

/// Prints to stderr directly, because the test harness hides the output of tests that pass.
pub(crate) fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints that a property holds, and the end reasons after the last one.
pub(crate) fn finished(name: &str, cases: u64, note: &str) {
    let text = name.replace('_', " ");
    print_line(&format!("simulator: {text}: {cases} cases{note}"));
    let Ok(mut tally) = REACHED.lock() else { return };
    tally.finished += 1;
    if tally.finished == PROPERTIES {
        for reason in EndReason::ALL {
            let count = tally.reasons.get(&reason).copied().unwrap_or_default();
            print_line(&format!("simulator: ended {:<20} {count:>7} times", reason.code()));
        }
    }
}

/// Runs `holds` on `cases` generated values.
///
/// `SIM_SEED` runs one case alone; `SIM_CASES` multiplies the number of cases (`10`), or divides it
/// (`1/40`). With a fraction, which is for mutants, a failing case is not shrunk.
pub(crate) fn check<S: Strategy>(
    name: &str,
    cases: u64,
    strategy: S,
    holds: impl Fn(S::Value) -> Result<(), String>,
) -> u64
where
    S::Value: Clone + Debug,
{
    let number = |key: &str| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..scaled(cases),
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&(name.len() as u64).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut tree = strategy.new_tree(&mut runner).expect("a value");
        let Err(mut why) = attempt(&holds, tree.current()) else { continue };
        let mut smallest = tree.current();
        let simplifications = if count < cases && count > 1 { 0 } else { 2000 };
        for _ in 0..simplifications {
            if !tree.simplify() {
                break;
            }
            match attempt(&holds, tree.current()) {
                Err(reason) => (why, smallest) = (reason, tree.current()),
                Ok(()) => {
                    if !tree.complicate() {
                        break;
                    }
                }
            }
        }
        panic!(
            "{name} does not hold, seed {seed}: {why}\nsmallest case: {smallest:#?}\nagain: \
             SIM_SEED={seed} cargo test -p kvs-viewer-tests --test properties -- --exact {name}"
        );
    }
    count
}

fn attempt<V>(holds: &impl Fn(V) -> Result<(), String>, value: V) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| holds(value))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
