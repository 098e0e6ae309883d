//! Every interleaving within bounds: the real core against an adversarial network, master and
//! clock. The frontier is empty at the end; nothing is sampled and nothing is random.
//!
//! `EXHAUSTIVE=large` walks further: minutes to hours, gigabytes.

#[path = "exhaustive/normal.rs"]
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no name is the same for both")]
mod normal;

use std::io::Write;
use std::time::Instant;

use negotiation_core::Mode;
use negotiation_sim::explore::{Bounds, Explored, Trouble, explore};

/// The bounds that the project promises: each of these once, beside hangs, delays and a close.
const NETWORK: [Trouble; 4] =
    [Trouble::Duplicate, Trouble::Reorder, Trouble::Drop, Trouble::MasterRestart];

/// Of them so many in one session.
const NETWORK_TROUBLES: u8 = 2;

fn is_large() -> bool {
    std::env::var("EXHAUSTIVE").is_ok_and(|size| size == "large")
}

#[expect(clippy::disallowed_methods, reason = "how long the exploration took, for people")]
fn walk(name: &str, bounds: &Bounds) -> Explored {
    let began = Instant::now();
    let found = explore(bounds);
    assert!(found.violations.is_empty(), "{bounds}\n{}", found.violations.join("\n"));
    let states = if bounds.normalised { "normalised states" } else { "states as they are" };
    // Past the test harness, which swallows the output of tests that pass.
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

/// To the end: the frontier is empty, and both ends were met.
fn exhaust(name: &str, bounds: &Bounds) -> Explored {
    let found = walk(name, bounds);
    assert_eq!(found.left, 0, "the frontier is not empty");
    assert!(found.live > 0 && found.ended > 0, "one of the two ends was never met");
    found
}

/// One after the other: each is as much as one core and some memory can do.
#[test]
fn every_interleaving_within_bounds_is_sound() {
    let large = u8::from(is_large());
    let network = Bounds::quiet().with(NETWORK_TROUBLES + large, &NETWORK);
    let anything = Bounds::quiet().with(1 + large, &Trouble::ALL);
    let mut storage = anything.clone();
    storage.mode = Mode::Answerer;
    let found = [
        exhaust("network", &network),
        exhaust("anything", &anything),
        exhaust("storage session", &storage),
    ];
    let states: usize = found.iter().map(|found| found.states).sum();
    let _ = writeln!(std::io::stderr(), "exhaustive: {states} normalised states in all");
}

/// What the normal form is worth: the same walk without it does not end soon.
#[test]
fn the_normal_form_makes_it_end() {
    let quiet = Bounds::quiet();
    let normalised = exhaust("with the normal form", &quiet);
    let raw = Bounds { normalised: false, states_max: 20 * normalised.states, ..quiet };
    let raw = walk("without the normal form", &raw);
    assert!(raw.states > 2 * normalised.states, "{} and {}", raw.states, normalised.states);
}
