//! What generated runs covered: how often each kind of input was handled in each phase, and how
//! often each kind of fault happened. An empty cell is a part of the core that was never tried.

mod excuses;
mod page;

use std::collections::BTreeMap;

use negotiation_core::Phase;

pub use crate::kinds::{ActionKind, CommandFaultKind, DeliveryKind, FaultKind, InputKind};
pub use crate::tally::FaultName;
use crate::world::World;

/// The coverage of many runs.
#[derive(Clone, Debug)]
pub struct Coverage {
    cells: [[u64; InputKind::ALL.len()]; Phase::ALL.len()],
    faults: BTreeMap<FaultKind, u64>,
    fault_counts: [u64; FaultName::ALL.len()],
}

impl Default for Coverage {
    fn default() -> Self {
        let cells = [[0; InputKind::ALL.len()]; Phase::ALL.len()];
        Self { cells, faults: BTreeMap::new(), fault_counts: [0; FaultName::ALL.len()] }
    }
}

impl Coverage {
    /// Adds one run.
    pub fn take(&mut self, world: &World) {
        for (sums, counts) in self.cells.iter_mut().zip(world.input_counts().0.iter()) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
        for (sum, count) in self.fault_counts.iter_mut().zip(world.fault_counts().0) {
            *sum += u64::from(count);
        }
        for (fault, hits) in world.plan().faults.iter().zip(world.fault_hits()) {
            if hits > 0 {
                *self.faults.entry(FaultKind::of(fault)).or_default() += u64::from(hits);
            }
        }
    }

    /// Adds the coverage of other runs.
    pub fn join(&mut self, other: &Self) {
        for (sums, counts) in self.cells.iter_mut().zip(&other.cells) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        for (sum, count) in self.fault_counts.iter_mut().zip(other.fault_counts) {
            *sum += count;
        }
        for (kind, hits) in &other.faults {
            *self.faults.entry(*kind).or_default() += hits;
        }
    }

    /// How often an input of this kind was handled in this phase.
    pub fn cell(&self, phase: Phase, input_kind: InputKind) -> u64 {
        self.cells[phase as usize][input_kind as usize]
    }

    /// The kinds of faults that happened, with their counts.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        self.faults.iter().map(|(kind, times)| (*kind, *times))
    }

    /// How often a fault of this kind happened.
    pub fn fault(&self, kind: FaultKind) -> u64 {
        self.faults.get(&kind).copied().unwrap_or_default()
    }

    /// How often a fault that the contract names happened.
    pub fn fault_count(&self, named: FaultName) -> u64 {
        let input_kind = named.input_kind().map(|(phase, input_kind)| self.cell(phase, input_kind));
        self.fault_counts[named as usize] + input_kind.sum::<u64>()
    }

    /// The cells that are empty and not excused, and those that were hit although they are excused.
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
            for input_kind in InputKind::ALL {
                let excuse = excuses::of_cell(phase, *input_kind);
                judge(&|| format!("{phase}, {input_kind}"), self.cell(phase, *input_kind), excuse);
            }
        }
        for kind in FaultKind::all() {
            judge(&|| format!("fault {kind}"), self.fault(kind), excuses::of_fault(kind));
        }
        gaps
    }

    /// The number of cells and kinds of faults, and how many of them are excused.
    pub fn size(&self) -> (usize, usize) {
        let cells = Phase::ALL.len() * InputKind::ALL.len() + FaultKind::all().count();
        let of_phase =
            |phase| InputKind::ALL.iter().filter_map(move |h| excuses::of_cell(phase, *h));
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
    fn phase_number_is_its_index() {
        for (place, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, place, "{phase}");
        }
    }

    #[test]
    fn inputs_are_counted_in_their_phases() {
        let coverage = ran(Plan::default());
        assert_eq!(coverage.cell(Phase::Idle, InputKind::Open), 1);
        assert_eq!(coverage.cell(Phase::AwaitingAnswer, InputKind::Answer), 1);
        assert_eq!(coverage.cell(Phase::Live, InputKind::Answer), 0);
    }

    #[test]
    fn empty_cell_is_reported() {
        let mut plan = Plan::default();
        plan.master.answers = Answers::Never;
        let coverage = ran(plan);
        assert_eq!(coverage.fault_count(FaultName::MasterSilent), 2);
        assert_eq!(coverage.fault_count(FaultName::Closing), 0);
        let gaps = coverage.gaps();
        let gap = format!("{}, {}: never happened", Phase::Establishing, InputKind::Connected);
        assert!(gaps.contains(&gap), "{gaps:?}");
    }
}
