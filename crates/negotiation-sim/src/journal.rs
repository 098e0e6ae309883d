//! The journal of a run: a header, then every input and output with its time; and a replay that
//! proves that the same inputs give the same outputs.
//!
//! It prints digests instead of descriptions and candidates, and no secret (contract, N26).

use core::fmt;

use negotiation_core::{Config, Digest, Input, Output, Session, Timestamp};

/// The version of the text form.
const VERSION: u32 = 1;

/// Everything that went into a session and came out of it.
#[derive(Clone, Debug)]
pub struct Journal {
    config: Config,
    seed: u64,
    began: Timestamp,
    entries: Vec<(Timestamp, Entry)>,
    /// The journal is off.
    blank: bool,
}

#[derive(Clone, Debug)]
enum Entry {
    Input(Input),
    Output(Output),
}

impl Journal {
    pub(crate) fn new(config: Config, seed: u64, began: Timestamp) -> Self {
        Self { config, seed, began, entries: Vec::new(), blank: false }
    }

    /// Turns the journal off.
    pub(crate) fn leave_blank(&mut self) {
        self.blank = true;
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.blank
    }

    pub(crate) fn input(&mut self, at: Timestamp, input: &Input) {
        if !self.blank {
            self.entries.push((at, Entry::Input(input.clone())));
        }
    }

    pub(crate) fn output(&mut self, at: Timestamp, output: &Output) {
        if !self.blank {
            self.entries.push((at, Entry::Output(output.clone())));
        }
    }

    /// The number of lines after the header.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no lines after the header.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The inputs with their times.
    pub fn inputs(&self) -> impl Iterator<Item = (Timestamp, &Input)> {
        self.entries.iter().filter_map(|(at, entry)| match entry {
            Entry::Input(input) => Some((*at, input)),
            Entry::Output(_) => None,
        })
    }

    /// The outputs with their times.
    pub fn outputs(&self) -> impl Iterator<Item = (Timestamp, &Output)> {
        self.entries.iter().filter_map(|(at, entry)| match entry {
            Entry::Input(_) => None,
            Entry::Output(output) => Some((*at, output)),
        })
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = Digest::of(format!("{:?}", self.config).as_bytes());
        writeln!(f, "journal {VERSION} config {digest:?} seed {} began {}", self.seed, self.began)?;
        for (at, entry) in &self.entries {
            match entry {
                Entry::Input(input) => writeln!(f, "{at} > {input:?}")?,
                Entry::Output(output) => writeln!(f, "{at} < {output:?}")?,
            }
        }
        Ok(())
    }
}

/// The first difference between a journal and its replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The line of the journal's text, from 1.
    pub line: usize,
    /// The line of the journal.
    pub recorded: String,
    /// The line of the replay.
    pub replayed: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: recorded {:?}, replayed {:?}", self.line, self.recorded, self.replayed)
    }
}

/// Gives the recorded inputs to a new session and compares the two texts, byte for byte.
///
/// # Errors
/// The first line that differs.
pub fn replay(journal: &Journal) -> Result<(), Mismatch> {
    let mut session = Session::new(journal.config.clone(), journal.seed, journal.began);
    let mut again = Journal::new(journal.config.clone(), journal.seed, journal.began);
    for (at, input) in journal.inputs() {
        again.input(at, input);
        session.handle_input(at, input.clone());
        while let Some(output) = session.poll_output() {
            again.output(at, &output);
        }
    }
    compare(&journal.to_string(), &again.to_string())
}

fn compare(recorded: &str, replayed: &str) -> Result<(), Mismatch> {
    if recorded == replayed {
        return Ok(());
    }
    let (mut left, mut right) = (recorded.lines(), replayed.lines());
    for line in 1.. {
        let (a, b) = (left.next(), right.next());
        if a != b || (a.is_none() && b.is_none()) {
            let text = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
            return Err(Mismatch { line, recorded: text(a), replayed: text(b) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::Settings;

    fn recorded() -> Journal {
        let config = Settings::never().check().expect("valid");
        let began = Timestamp::from_millis(5);
        let mut journal = Journal::new(config.clone(), 3, began);
        let mut session = Session::new(config, 3, began);
        for input in [Input::Open, Input::Close] {
            journal.input(began, &input);
            session.handle_input(began, input);
            while let Some(output) = session.poll_output() {
                journal.output(began, &output);
            }
        }
        journal
    }

    #[test]
    fn unchanged_journal_replays() {
        assert_eq!(replay(&recorded()), Ok(()));
    }

    #[test]
    fn journal_with_a_missing_line_does_not_replay() {
        let mut journal = recorded();
        let last = journal.entries.len() - 1;
        journal.entries.remove(last);
        let mismatch = replay(&journal).expect_err("a line is missing");
        assert_eq!(mismatch.recorded, "(the end)");
    }
}
