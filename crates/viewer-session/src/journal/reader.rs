//! Reading a journal: a line at a time, within bounds, whatever the bytes are.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use negotiation_core::{Input, Output, Timestamp};
use serde::Deserialize;

use super::{
    Entry, Header, JOURNAL_BYTES_MAX, LINE_BYTES_MAX, LeftOut, REPETITIONS_MAX, Repeated, VERSION,
    What,
};

/// Why a journal cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The file or stream failed.
    Io(io::Error),
    /// There is nothing in it.
    Empty,
    /// Its first line is no header of a journal.
    NoJournal(serde_json::Error),
    /// Another version of the format.
    Version(u32),
    /// A line is longer than [`LINE_BYTES_MAX`].
    LongLine(u64),
    /// It is longer than [`JOURNAL_BYTES_MAX`].
    TooLong,
    /// A line cannot be read.
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A line holds not exactly one of an input, an output and a number of entries left out, or
    /// repeats something else than an input, or too often.
    Neither {
        /// Its number, from 1.
        line: u64,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Empty => f.write_str("it is empty"),
            Self::NoJournal(error) => {
                write!(f, "its first line is no journal's header: {}", plain(error))
            }
            Self::Version(found) => {
                write!(
                    f,
                    "it has version {found} of the format, and this program reads 1 to {VERSION}"
                )
            }
            Self::LongLine(line) => write!(f, "line {line} is longer than {LINE_BYTES_MAX} bytes"),
            Self::TooLong => write!(f, "it is longer than {JOURNAL_BYTES_MAX} bytes"),
            Self::Line { line, error } => write!(f, "line {line} cannot be read: {}", plain(error)),
            Self::Neither { line } => {
                write!(f, "line {line} cannot be read: expected one of `in`, `out` and `left_out`")
            }
        }
    }
}

impl std::error::Error for JournalError {}

/// A complaint quotes the journal, which may be a stranger's, and goes to a terminal: without
/// control characters, and short.
fn plain(error: &serde_json::Error) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    error.to_string().chars().map(plain).take(QUOTED_MAX).collect()
}

/// Longest complaint, in characters.
const QUOTED_MAX: usize = 300;

/// A journal that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    header: Header,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is no journal, or one of another version.
    pub fn new(from: R) -> Result<Self, JournalError> {
        let mut lines = Lines { from, line: Vec::new(), number: 0, read: 0, is_cut: false };
        let line = match lines.next()? {
            Some(line) if !line.is_empty() => line,
            Some(_) | None => return Err(JournalError::Empty),
        };
        // Of a header of another version only the version is known.
        let Version { journal } = serde_json::from_slice(line).map_err(JournalError::NoJournal)?;
        if !(1..=VERSION).contains(&journal) {
            return Err(JournalError::Version(journal));
        }
        let header = serde_json::from_slice(line).map_err(JournalError::NoJournal)?;
        Ok(Self { lines, header })
    }

    /// What the session was made from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The number of the line that was read last, from 1.
    pub fn line(&self) -> u64 {
        self.lines.number
    }

    /// Whether the last line was cut off, as by a process that was killed. It is left out.
    pub fn is_cut(&self) -> bool {
        self.lines.is_cut
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    /// The line is not one of a journal, or something is longer than it may be.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        let line = self.lines.number + 1;
        let Some(text) = self.lines.next()? else { return Ok(None) };
        let Read { at, input, output, left_out, repeated, addresses } =
            serde_json::from_slice(text).map_err(|error| JournalError::Line { line, error })?;
        let neither = Err(JournalError::Neither { line });
        let what = match (input, output, left_out) {
            (Some(input), None, None) => What::Input(input),
            (None, Some(output), None) => What::Output(output),
            (None, None, Some(left_out)) => What::LeftOut(left_out),
            (Some(_) | None, Some(_) | None, Some(_) | None) => return neither,
        };
        if let Some(Repeated { times, until }) = repeated {
            let is_input = matches!(what, What::Input(_));
            if !is_input || !(1..=REPETITIONS_MAX).contains(&times) || until < at {
                return neither;
            }
        }
        Ok(Some(Entry { at, what, repeated, addresses }))
    }
}

/// The part of a header that every version has.
#[derive(Deserialize)]
struct Version {
    journal: u32,
}

/// A line as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    at: Timestamp,
    #[serde(default, rename = "in")]
    input: Option<Input>,
    #[serde(default, rename = "out")]
    output: Option<Output>,
    #[serde(default)]
    left_out: Option<LeftOut>,
    #[serde(default)]
    repeated: Option<Repeated>,
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Debug)]
struct Lines<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
    read: u64,
    is_cut: bool,
}

impl<R: BufRead> Lines<R> {
    /// The next whole line, without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, JournalError> {
        self.line.clear();
        let most = LINE_BYTES_MAX as u64 + 1;
        let mut from = self.from.by_ref().take(most);
        let length = from.read_until(b'\n', &mut self.line).map_err(JournalError::Io)? as u64;
        self.read += length;
        if length == 0 {
            return Ok(None);
        }
        if length == most {
            return Err(JournalError::LongLine(self.number + 1));
        }
        if self.read > JOURNAL_BYTES_MAX {
            return Err(JournalError::TooLong);
        }
        if self.line.pop_if(|last| *last == b'\n').is_none() {
            self.is_cut = true;
            // Without its end a header is no header: it is read, and refused for what it lacks.
            return Ok((self.number == 0).then_some(&self.line));
        }
        self.number += 1;
        Ok(Some(&self.line))
    }
}
