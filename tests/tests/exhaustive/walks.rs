//! The walks with trouble in them, to the end.

use std::io::Write;

use negotiation_core::Mode;
use negotiation_sim::explore::{Bounds, Trouble};

use super::{exhaust, walk};

/// The bounds that the project promises: each of these once, beside hangs, delays and a close.
const NETWORK: [Trouble; 4] =
    [Trouble::Duplicate, Trouble::Reorder, Trouble::Drop, Trouble::MasterRestart];

/// Of them so many in one session.
const NETWORK_TROUBLES: u8 = 2;

fn is_large() -> bool {
    std::env::var("EXHAUSTIVE").is_ok_and(|size| size == "large")
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
