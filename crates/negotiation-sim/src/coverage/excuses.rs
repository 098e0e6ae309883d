//! The cells that stay empty, and why. An excused cell that is hit fails the check as well, so that
//! each excuse stays true.

use negotiation_core::Phase;

use super::kinds::{FaultKind, Heard};

/// Why some cells are never hit.
struct Excuse {
    phases: &'static [Phase],
    heard: &'static [Heard],
    why: &'static str,
}

/// Why some kinds of faults never strike.
struct FaultExcuse {
    faults: &'static [FaultKind],
    why: &'static str,
}

/// The whole table.
const CELLS: &[Excuse] = &[];

/// The same for faults.
const FAULTS: &[FaultExcuse] = &[];

/// Why this cell is never hit: the number of the excuse in [`all`].
pub(super) fn of_cell(phase: Phase, heard: Heard) -> Option<usize> {
    CELLS.iter().position(|excuse| excuse.phases.contains(&phase) && excuse.heard.contains(&heard))
}

/// Why faults of this kind never strike: the number of the excuse in [`all`].
pub(super) fn of_fault(kind: FaultKind) -> Option<usize> {
    let place = FAULTS.iter().position(|excuse| excuse.faults.contains(&kind));
    place.map(|place| CELLS.len() + place)
}

/// Every excuse, in order.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    CELLS.iter().map(|excuse| excuse.why).chain(FAULTS.iter().map(|excuse| excuse.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_excused_twice() {
        for phase in Phase::ALL {
            for heard in Heard::ALL {
                let covers = |excuse: &&Excuse| {
                    excuse.phases.contains(&phase) && excuse.heard.contains(heard)
                };
                assert!(CELLS.iter().filter(covers).count() <= 1, "{phase}, {heard}");
            }
        }
    }

    #[test]
    fn every_excuse_is_a_sentence() {
        for why in all() {
            assert!(why.ends_with('.') && why.starts_with(char::is_uppercase), "{why}");
        }
    }
}
