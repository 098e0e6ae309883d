//! The coverage as a Markdown page.

use core::fmt::{self, Display};

use negotiation_core::Phase;

use super::{Coverage, excuses};
use crate::faults::{CommandKind, MessageKind};
use crate::kinds::{ActionKind, CommandFaultKind, DeliveryKind, FaultKind, InputKind};

impl Display for Coverage {
    /// Writes the inputs by phase, the faults, and the numbered reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, excused) = self.size();
        writeln!(f, "A number in parentheses is an excuse of the list at the end.")?;
        writeln!(f, "{excused} of {all} cells are excused.\n\n## Inputs by phase\n")?;
        table(f, "input", InputKind::ALL, &Phase::ALL, |input_kind, phase| {
            (self.cell(*phase, *input_kind), excuses::of_cell(*phase, *input_kind))
        })?;
        let fault = |kind| (self.fault(kind), excuses::of_fault(kind));
        writeln!(f, "\n## Messages that went wrong\n")?;
        table(f, "message", &MessageKind::ALL, DeliveryKind::ALL, |message, how| {
            fault(FaultKind::Message(*message, *how))
        })?;
        writeln!(f, "\n## Commands that went wrong\n")?;
        table(f, "command", &CommandKind::ALL, CommandFaultKind::ALL, |command, how| {
            fault(FaultKind::Command(*command, *how))
        })?;
        writeln!(f, "\n## What happened besides\n")?;
        table(f, "what", ActionKind::ALL, &["times"], |action, _| {
            fault(FaultKind::Action(*action))
        })?;
        writeln!(f, "\n## What cannot happen\n")?;
        for (number, why) in (1..).zip(excuses::all()) {
            writeln!(f, "{number}. {why}")?;
        }
        Ok(())
    }
}

/// Writes one table of counts, or of the numbers of reasons.
fn table<R: Display, C: Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: &[R],
    columns: &[C],
    cell: impl Fn(&R, &C) -> (u64, Option<usize>),
) -> fmt::Result {
    write!(f, "| {title} |")?;
    columns.iter().try_for_each(|column| write!(f, " {column} |"))?;
    writeln!(f, "\n|---|{}", "---:|".repeat(columns.len()))?;
    for row in rows {
        write!(f, "| {row} |")?;
        for column in columns {
            match cell(row, column) {
                (0, Some(excuse)) => write!(f, " ({}) |", excuse + 1)?,
                (hits, _) => write!(f, " {hits} |")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}
