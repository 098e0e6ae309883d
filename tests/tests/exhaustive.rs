//! Explores every interleaving within bounds: the real core against an adversarial network, master
//! and clock. No unexplored state is left at the end; nothing is sampled or random.
//!
//! `EXHAUSTIVE=large` allows one more trouble: minutes to hours, gigabytes.

#[path = "properties/cases.rs"]
mod cases;
#[path = "exhaustive/normal.rs"]
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no name is the same for both")]
mod normal;
// Mutation testing excludes these walks, because they take too long.
#[cfg(feature = "product")]
#[path = "exhaustive/walks.rs"]
mod walks;

use std::io::Write;
use std::time::Instant;

use negotiation_core::Mode;
use negotiation_sim::explore::{Bounds, Explored, Trouble, check_normal_form, explore};

/// The number of states of the walk without any trouble. Another number means that the session has
/// more or fewer states than before, as with a new deadline, or that the normal form distinguishes
/// others: name the cause in the commit.
const QUIET_STATES: usize = 1779;

#[expect(clippy::disallowed_methods, reason = "how long the exploration took, for people")]
fn walk(name: &str, bounds: &Bounds) -> Explored {
    let began = Instant::now();
    let found = explore(bounds);
    assert!(found.violations.is_empty(), "{bounds}\n{}", found.violations.join("\n"));
    let states = if bounds.normalised { "normalised states" } else { "states as they are" };
    // Written to stderr directly, because the test harness hides the output of tests that pass.
    let _ = writeln!(
        std::io::stderr(),
        "exhaustive: {name}: {bounds}: {} {states} ({} live, {} ended), {} transitions, depth {}, \
         at rest after at most {} steps without trouble, frontier {}, {:.1} s",
        found.states,
        found.live,
        found.ended,
        found.transitions,
        found.depth,
        found.rest_after,
        found.left,
        began.elapsed().as_secs_f64(),
    );
    found
}

/// Explores to the end, and requires that live and ended sessions were reached.
fn exhaust(name: &str, bounds: &Bounds) -> Explored {
    let found = walk(name, bounds);
    assert_eq!(found.left, 0, "the frontier is not empty");
    assert!(found.live > 0 && found.ended > 0, "one of the two ends was never met");
    found
}

#[test]
fn quiet_exploration_has_the_expected_number_of_states() {
    let states = exhaust("no trouble", &Bounds::quiet()).states;
    assert_eq!(
        states, QUIET_STATES,
        "put this number into QUIET_STATES, if its doc comment allows"
    );
}

/// States that the normal form merges have the same future, from the start and from states on the
/// way to a live session.
#[test]
fn normal_form_merges_only_states_with_the_same_future() {
    let quiet = Bounds::quiet();
    let any = quiet.clone().with(1, &Trouble::ALL);
    let storage = Bounds { mode: Mode::Answerer, ..any.clone() };
    let mut states =
        check_normal_form(&quiet, 0, 15).unwrap_or_else(|why| panic!("{quiet}: {why}"));
    for bounds in [any, storage] {
        // Mutation testing has no time for all of them.
        let leads: &[u32] = if cfg!(feature = "product") { &[0, 6, 9, 12, 16, 20] } else { &[9] };
        for lead in leads {
            states +=
                check_normal_form(&bounds, *lead, if cfg!(feature = "product") { 6 } else { 4 })
                    .unwrap_or_else(|why| panic!("{bounds}, after {lead} steps: {why}"));
        }
    }
    assert!(states > 1_000, "{states} states");
    eprintln!("{states} states have the same future as their normal forms");
}
