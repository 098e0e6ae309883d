//! The walks with troubles, to the end.

use negotiation_core::Mode;
use negotiation_sim::explore::{Bounds, Trouble};

use super::{exhaust, walk};

/// The troubles of the project's promise: each once, beside hangs, delays and a close.
const NETWORK: [Trouble; 4] =
    [Trouble::Duplicate, Trouble::Reorder, Trouble::Drop, Trouble::MasterRestart];

/// The most of them in one session.
const NETWORK_TROUBLES: u8 = 2;

fn is_large() -> bool {
    std::env::var("EXHAUSTIVE").is_ok_and(|size| size == "large")
}

fn troubles(most: u8, kinds: &[Trouble]) -> Bounds {
    Bounds::quiet().with(most + u8::from(is_large()), kinds)
}

#[test]
fn every_interleaving_of_network_troubles_is_sound() {
    exhaust("network", &troubles(NETWORK_TROUBLES, &NETWORK));
}

#[test]
fn every_interleaving_with_any_one_trouble_is_sound() {
    exhaust("anything", &troubles(1, &Trouble::ALL));
}

#[test]
fn every_interleaving_of_a_storage_session_is_sound() {
    let storage = Bounds { mode: Mode::Answerer, ..troubles(1, &Trouble::ALL) };
    exhaust("storage session", &storage);
}

/// Without the normal form the same walk does not end soon.
#[test]
fn the_normal_form_makes_it_end() {
    let quiet = Bounds::quiet();
    let normalised = exhaust("with the normal form", &quiet);
    let raw = Bounds { normalised: false, states_max: 20 * normalised.states, ..quiet };
    let raw = walk("without the normal form", &raw);
    assert!(raw.states > 2 * normalised.states, "{} and {}", raw.states, normalised.states);
}
