//! The exploration of all states with troubles.

use negotiation_core::Mode;
use negotiation_sim::explore::{Bounds, Trouble};

use super::{exhaust, walk};

/// The troubles that the project promises to survive: each once, beside hangs, delays and a close.
const NETWORK: [Trouble; 4] =
    [Trouble::Duplicate, Trouble::Reorder, Trouble::Drop, Trouble::MasterRestart];

/// The maximum number of these troubles in one session.
const NETWORK_TROUBLES: u8 = 2;

fn is_large() -> bool {
    std::env::var("EXHAUSTIVE").is_ok_and(|size| size == "large")
}

fn troubles(most: u8, kinds: &[Trouble]) -> Bounds {
    Bounds::quiet().with(most + u8::from(is_large()), kinds)
}

#[test]
fn session_with_network_troubles_breaks_no_rule() {
    exhaust("network", &troubles(NETWORK_TROUBLES, &NETWORK));
}

#[test]
fn session_with_any_one_trouble_breaks_no_rule() {
    exhaust("anything", &troubles(1, &Trouble::ALL));
}

#[test]
fn storage_session_with_any_one_trouble_breaks_no_rule() {
    let storage = Bounds { mode: Mode::Answerer, ..troubles(1, &Trouble::ALL) };
    exhaust("storage session", &storage);
}

/// Without the normal form the same exploration does not end soon.
#[test]
fn exploration_without_normal_form_does_not_end_soon() {
    let quiet = Bounds::quiet();
    let normalised = exhaust("with the normal form", &quiet);
    let raw = Bounds { normalised: false, states_max: 20 * normalised.states, ..quiet };
    let raw = walk("without the normal form", &raw);
    assert!(raw.states > 2 * normalised.states, "{} and {}", raw.states, normalised.states);
}
