//! `cargo xtask statemap`: generates `docs/state-machine.md` from the core's transition table.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use negotiation_core::{ExchangeState, Phase};

use crate::step;

/// Writes the page.
pub(crate) fn write() -> Result<(), String> {
    let path = path();
    if check().is_ok() {
        eprintln!("statemap: {} is up to date", path.display());
        return Ok(());
    }
    fs::write(&path, page()).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("statemap: wrote {}", path.display());
    Ok(())
}

/// Checks that the page matches the table.
pub(crate) fn check() -> Result<(), String> {
    let path = path();
    let found =
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if let Some(line) = first_difference(&found, &page()) {
        return Err(format!(
            "docs/state-machine.md is not what the core's table says, from line {line} on: run \
             `cargo xtask statemap` and commit what it writes"
        ));
    }
    eprintln!("statemap: docs/state-machine.md is up to date");
    Ok(())
}

fn path() -> PathBuf {
    step::root().join("docs/state-machine.md")
}

/// The number of the first line that differs.
fn first_difference(left: &str, right: &str) -> Option<usize> {
    if left == right {
        return None;
    }
    let same = left.lines().zip(right.lines()).take_while(|(l, r)| l == r).count();
    Some(same + 1)
}

fn page() -> String {
    let mut page = String::from(
        "# The state machine\n\n\
         `cargo xtask statemap` writes this page from `phase.rs` and `attempt/exchange/map.rs` of \
         `crates/negotiation-core/src`, and `cargo xtask ci` checks it.\n\
         The core asserts that it takes no other edge.\n\n\
         ## Diagram\n\n\
         ```mermaid\nstateDiagram-v2\n    [*] --> idle\n",
    );
    // Mermaid ids cannot contain a hyphen.
    let id = |phase: Phase| phase.as_str().replace('-', "_");
    for phase in Phase::ALL.iter().filter(|phase| phase.as_str().contains('-')) {
        put(&mut page, format_args!("    state \"{phase}\" as {}\n", id(*phase)));
    }
    for (from, to) in Phase::EDGES {
        put(&mut page, format_args!("    {} --> {}\n", id(*from), id(*to)));
    }
    page.push_str("    ended --> [*]\n```\n\n");
    phases(&mut page);
    edges(&mut page);
    exchange(&mut page);
    page
}

fn phases(page: &mut String) {
    page.push_str(
        "## Phases\n\n\
         The deadline is the one that the session waits on in this phase (N12); every command in \
         flight has one of its own beside it.\n\
         Live waits for no other party: its deadlines (grace, media-give-up, link-reopen, go-away, \
         budget-refill) are armed when something happens.\n\n\
         | phase | what it is | deadline | attempt | from | to |\n|---|---|---|---|---|---|\n",
    );
    for phase in Phase::ALL {
        let names = |ends: Vec<Phase>| {
            let names: Vec<&str> = ends.into_iter().map(Phase::as_str).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(", ") }
        };
        let edges = Phase::EDGES;
        let from = edges.iter().filter(|(_, to)| *to == phase).map(|(from, _)| *from).collect();
        let to = edges.iter().filter(|(from, _)| *from == phase).map(|(_, to)| *to).collect();
        put(
            page,
            format_args!(
                "| `{phase}` | {} | {} | {} | {} | {} |\n",
                phase.meaning(),
                phase.deadline().map_or_else(|| "-".to_owned(), |timer| format!("`{timer}`")),
                if phase.has_attempt() { "yes" } else { "no" },
                names(from),
                names(to),
            ),
        );
    }
}

fn edges(page: &mut String) {
    let of = |from: Phase| Phase::EDGES.iter().filter(move |(other, _)| *other == from);
    put(page, format_args!("\n## Edges\n\n{} legal edges; a dot is one.\n\n", Phase::EDGES.len()));
    page.push_str("| from \\ to |");
    for to in Phase::ALL {
        put(page, format_args!(" {to} |"));
    }
    page.push_str(&format!("\n|---|{}\n", "---|".repeat(Phase::ALL.len())));
    for from in Phase::ALL {
        put(page, format_args!("| **{from}** |"));
        for to in Phase::ALL {
            let dot = if of(from).any(|(_, other)| *other == to) { " ● |" } else { " |" };
            page.push_str(dot);
        }
        page.push('\n');
    }
}

/// Adds the state machine of the exchanges within an attempt.
fn exchange(page: &mut String) {
    page.push_str(
        "\n## The offer/answer exchange\n\n\
         Inside of the phases of an attempt: one exchange after the other, each begun from stable.\n\
         The signaling state is the peer connection's (JSEP, RFC 8829, section 3.2); while a \
         description is being set, the one before it.\n\
         Where the stack would drop the working candidate pair, the offer of an ICE restart is sent \
         before it is set: the signaling state is stable then until `applying-offer` (contract, \
         N18).\n\n\
         | state | what it is | signaling state | to |\n|---|---|---|---|\n",
    );
    for state in ExchangeState::ALL {
        let edges = ExchangeState::EDGES.iter().filter(|(from, _)| *from == state);
        let to: Vec<&str> = edges.map(|(_, to)| to.as_str()).collect();
        let to = if to.is_empty() { "-".to_owned() } else { to.join(", ") };
        let (meaning, signaling) = (state.meaning(), state.signaling_state());
        put(page, format_args!("| `{state}` | {meaning} | {signaling} | {to} |\n"));
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_machine_page_is_up_to_date() {
        check().expect("run `cargo xtask statemap`");
    }

    #[test]
    fn every_phase_and_edge_is_on_the_page() {
        let page = page();
        assert_eq!(page.matches('●').count(), Phase::EDGES.len());
        for phase in Phase::ALL {
            assert!(page.contains(&format!("| `{phase}` |")), "{phase}");
        }
        for state in ExchangeState::ALL {
            assert!(page.contains(&format!("| `{state}` | {}", state.meaning())), "{state}");
        }
    }

    #[test]
    fn page_that_differs_is_named_with_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }
}
