//! The report of the scenarios: a line when one has ended, and all lines as a table at the end and
//! in `target/wire.md`.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::table::Number;

/// The result of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    what: String,
    time: Duration,
}

/// Creates a result: what happened, and the time from the stimulus to recovery or the end.
pub(crate) fn shown(what: impl Into<String>, time: Duration) -> Shown {
    Shown { what: what.into(), time }
}

/// The table rows so far, by number and case.
static ROWS: Mutex<BTreeMap<(u32, &str), String>> = Mutex::new(BTreeMap::new());

/// A running scenario. If it is dropped without an end, it counts as failed.
pub(crate) struct Running {
    row: Number,
    case: &'static str,
    shown: Option<Shown>,
}

impl Running {
    pub(crate) fn begin(number: u32, case: &'static str) -> Self {
        Self { row: Number::of(number), case, shown: None }
    }

    pub(crate) fn end(mut self, shown: Shown) {
        self.shown = Some(shown);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Number { number, name, stimulus, required } = self.row;
        let (what, time) = match self.shown.take() {
            Some(Shown { what, time }) => (what, format!("{:.2} s", time.as_secs_f64())),
            None => ("FAILED".to_owned(), "-".to_owned()),
        };
        let case = if self.case.is_empty() { String::new() } else { format!(" ({})", self.case) };
        let line =
            format!("| {number} | {name}{case} | {stimulus} | {required} | {what} | {time} |");
        // A single write keeps the lines of scenarios that end together whole.
        eprintln!("{line}");
        let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
        rows.insert((number, self.case), line);
        let table = table(rows.values());
        if rows.len() == expected() {
            eprintln!("\n{table}");
        }
        write(&table);
    }
}

/// Returns the number of scenarios in this run: the same program lists them for the same filters.
fn expected() -> usize {
    static EXPECTED: OnceLock<usize> = OnceLock::new();
    *EXPECTED.get_or_init(|| {
        let listed = env::current_exe().and_then(|program| {
            Command::new(program).args(env::args().skip(1)).arg("--list").output()
        });
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&listed).lines().filter(|line| line.ends_with(": test")).count()
    })
}

fn table<'a>(rows: impl Iterator<Item = &'a String>) -> String {
    let mut text = String::from(
        "| # | name | stimulus | required | what happened | time |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

/// Writes the table so far, also in a run of one scenario.
fn write(table: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = here.parent().unwrap_or(here).join("target");
    // A failed write is ignored, because each line was printed.
    let _ = fs::create_dir_all(&target).and_then(|()| fs::write(target.join("wire.md"), table));
}
