//! What generated runs did: how often each kind of input met each phase, and how often each kind
//! of fault struck. A cell that stays empty says that a part of the core was never tried.

mod excuses;
mod kinds;
mod named;
mod page;

use std::collections::BTreeMap;

use negotiation_core::Phase;

use crate::world::World;
pub use kinds::{ActKind, FaultKind, HandlingKind, Heard, OpFaultKind};
pub use named::Named;
pub(crate) use named::Struck;

/// How often each input met each phase, in one run.
#[derive(Clone, Debug)]
pub(crate) struct Cells(Box<[[u32; Heard::ALL.len()]; Phase::ALL.len()]>);

impl Cells {
    pub(crate) fn new() -> Self {
        Self(Box::new([[0; Heard::ALL.len()]; Phase::ALL.len()]))
    }

    /// An input of this kind comes in this phase.
    pub(crate) fn hit(&mut self, phase: Phase, heard: Heard) {
        self.0[phase as usize][heard as usize] += 1;
    }
}

/// What many runs did.
#[derive(Clone, Debug)]
pub struct Coverage {
    cells: [[u64; Heard::ALL.len()]; Phase::ALL.len()],
    faults: BTreeMap<FaultKind, u64>,
    struck: [u64; Named::ALL.len()],
}

impl Default for Coverage {
    fn default() -> Self {
        let cells = [[0; Heard::ALL.len()]; Phase::ALL.len()];
        Self { cells, faults: BTreeMap::new(), struck: [0; Named::ALL.len()] }
    }
}

impl Coverage {
    /// Adds what a run did.
    pub fn take(&mut self, world: &World) {
        for (sums, counts) in self.cells.iter_mut().zip(world.heard_in().0.iter()) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
        for (sum, count) in self.struck.iter_mut().zip(world.struck().0) {
            *sum += u64::from(count);
        }
        for (fault, hits) in world.plan().faults.iter().zip(world.fault_hits()) {
            if hits > 0 {
                *self.faults.entry(FaultKind::of(fault)).or_default() += u64::from(hits);
            }
        }
    }

    /// Adds what other runs did.
    pub fn join(&mut self, other: &Self) {
        for (sums, counts) in self.cells.iter_mut().zip(&other.cells) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        for (sum, count) in self.struck.iter_mut().zip(other.struck) {
            *sum += count;
        }
        for (kind, hits) in &other.faults {
            *self.faults.entry(*kind).or_default() += hits;
        }
    }

    /// How often an input of this kind came in this phase.
    pub fn cell(&self, phase: Phase, heard: Heard) -> u64 {
        self.cells[phase as usize][heard as usize]
    }

    /// The kinds of faults that struck, and how often.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        self.faults.iter().map(|(kind, times)| (*kind, *times))
    }

    /// How often a fault of this kind struck.
    pub fn fault(&self, kind: FaultKind) -> u64 {
        self.faults.get(&kind).copied().unwrap_or_default()
    }

    /// How often a fault that the contract names struck.
    pub fn named(&self, named: Named) -> u64 {
        let heard = named.heard().map(|(phase, heard)| self.cell(phase, heard));
        self.struck[named as usize] + heard.sum::<u64>()
    }

    /// What never happened and is not excused, and what did though it is said to be impossible.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let excuses: Vec<_> = excuses::all().collect();
        let mut judge = |what: &dyn Fn() -> String, hits, excuse: Option<usize>| match excuse {
            None if hits == 0 => gaps.push(format!("{}: never happened", what())),
            Some(excuse) if hits > 0 => {
                let why = excuses[excuse];
                gaps.push(format!("{}: happened {hits} times, yet: {why}", what()));
            }
            None | Some(_) => {}
        };
        for phase in Phase::ALL {
            for heard in Heard::ALL {
                let excuse = excuses::of_cell(phase, *heard);
                judge(&|| format!("{phase}, {heard}"), self.cell(phase, *heard), excuse);
            }
        }
        for kind in FaultKind::all() {
            judge(&|| format!("fault {kind}"), self.fault(kind), excuses::of_fault(kind));
        }
        gaps
    }

    /// How many cells and kinds of faults there are, and how many of them are excused.
    pub fn size(&self) -> (usize, usize) {
        let cells = Phase::ALL.len() * Heard::ALL.len() + FaultKind::all().count();
        let of_phase = |phase| Heard::ALL.iter().filter_map(move |h| excuses::of_cell(phase, *h));
        let of_cells = Phase::ALL.into_iter().flat_map(of_phase).count();
        (cells, of_cells + FaultKind::all().filter_map(excuses::of_fault).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answers, Plan};

    fn ran(plan: Plan) -> Coverage {
        let mut world = World::new(plan);
        world.open();
        world.run_until_quiet(core::time::Duration::from_secs(600));
        let mut coverage = Coverage::default();
        coverage.take(&world);
        coverage
    }

    #[test]
    fn a_phase_stands_at_its_place() {
        for (place, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, place, "{phase}");
        }
    }

    #[test]
    fn a_run_is_counted_where_it_was() {
        let coverage = ran(Plan::default());
        assert_eq!(coverage.cell(Phase::Idle, Heard::Open), 1);
        assert_eq!(coverage.cell(Phase::AwaitingAnswer, Heard::Answer), 1);
        assert_eq!(coverage.cell(Phase::Live, Heard::Answer), 0);
    }

    #[test]
    fn what_never_happened_is_named() {
        let mut plan = Plan::default();
        plan.master.answers = Answers::Never;
        let coverage = ran(plan);
        assert_eq!(coverage.named(Named::MasterSilent), 2);
        assert_eq!(coverage.named(Named::Closing), 0);
        let gaps = coverage.gaps();
        let gap = format!("{}, {}: never happened", Phase::Establishing, Heard::Connected);
        assert!(gaps.contains(&gap), "{gaps:?}");
    }
}
