//! The table as a page for people.

use core::fmt::{self, Display};

use negotiation_core::Phase;

use super::kinds::{ActKind, FaultKind, HandlingKind, Heard, OpFaultKind};
use super::{Coverage, excuses};
use crate::faults::{Mail, Op};

impl Display for Coverage {
    /// Markdown: inputs by phase, faults, and then the excuses by number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, excused) = self.size();
        writeln!(f, "A number in parentheses is an excuse of the list at the end.")?;
        writeln!(f, "{excused} of {all} cells are excused.\n\n## Inputs by phase\n")?;
        table(f, "input", Heard::ALL, &Phase::ALL, |heard, phase| {
            (self.cell(*phase, *heard), excuses::of_cell(*phase, *heard))
        })?;
        let fault = |kind| (self.fault(kind), excuses::of_fault(kind));
        writeln!(f, "\n## Messages that went wrong\n")?;
        table(f, "message", &Mail::ALL, HandlingKind::ALL, |mail, how| {
            fault(FaultKind::Mail(*mail, *how))
        })?;
        writeln!(f, "\n## Commands that went wrong\n")?;
        table(f, "command", &Op::ALL, OpFaultKind::ALL, |op, how| fault(FaultKind::Op(*op, *how)))?;
        writeln!(f, "\n## What happened besides\n")?;
        table(f, "what", ActKind::ALL, &["times"], |act, _| fault(FaultKind::Act(*act)))?;
        writeln!(f, "\n## What cannot happen\n")?;
        for (number, why) in (1..).zip(excuses::all()) {
            writeln!(f, "{number}. {why}")?;
        }
        Ok(())
    }
}

/// One table: how often it happened, or the number of the reason why it cannot.
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
