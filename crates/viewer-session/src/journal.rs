//! The journal of a session: written as it runs, read and replayed after (contract, N26).
//!
//! One JSON object a line. The first is the header: version, configuration, seed. Then comes every
//! input and every output with its time, in the core's journal form, which holds no secret and no
//! address. An input that is repeated within a moment and changes nothing is written once, with a
//! count. In a journal that is full only events follow, with the number of entries left out before
//! each, so that the end is never missing. Nothing here knows files: a [`Recorder`] writes to any
//! [`Write`], a [`Reader`] reads from any [`std::io::BufRead`], a line at a time, within bounds.

mod reader;
mod replay;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use negotiation_core::{
    Candidate, CandidateMask, Config, Done, Event, Input, Output, PeerEvent, SignalingEvent,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::driver::Observer;
use crate::ports::MaybeSend;
use crate::redact::redact;

pub use reader::{JournalError, Reader};
pub use replay::{Comparison, Difference, Replayed, replay};

/// The version of the format. A reader takes this and every earlier one: version 1 has neither
/// repetitions nor entries left out, and digests of candidates instead of numbers.
pub const VERSION: u32 = 2;

/// Longest line that is written or read, in bytes.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Longest journal that is written or read, in bytes: days of a session that recovers every minute.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The end of a journal that is kept free for events once the rest is full.
const END_BYTES: u64 = 4 * 1024 * 1024;

/// The part of it that is kept free for the ends of attempts and of the session.
const LAST_BYTES: u64 = 1024 * 1024;

/// Longest time that one line's repetitions span. They are replayed evenly spread over it, so it is
/// shorter than any deadline that such an input may move.
const REPEATED_MAX: Duration = Duration::from_millis(100);

/// Most repetitions in one line.
pub const REPETITIONS_MAX: u64 = 100_000;

/// Addresses noted beside one input.
const ADDRESSES_MAX: usize = 16;

/// What a session was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the format.
    pub journal: u32,
    /// The version of the crate that wrote it.
    pub written_by: String,
    /// The session's configuration.
    pub config: Config,
    /// The session's seed.
    pub seed: u64,
    /// When the session was made.
    pub began: Timestamp,
}

/// One line after the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When; an output has the time of the input that brought it.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// How often an input came, and when for the last time; `None` for once.
    pub repeated: Option<Repeated>,
    /// The addresses of the input, where the journal was configured to have them. The replay needs
    /// none.
    pub addresses: Vec<String>,
}

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It went into the session.
    Input(Input),
    /// It came out of the session.
    Output(Output),
    /// The journal was full: entries are missing here.
    LeftOut(LeftOut),
}

/// An input that came several times in a row, and changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeated {
    /// How often.
    pub times: u64,
    /// When it came for the last time.
    pub until: Timestamp,
}

/// Entries that a full journal does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Inputs.
    pub inputs: u64,
    /// Outputs.
    pub outputs: u64,
}

impl LeftOut {
    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A line as it is written.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    input: Option<&'a Input>,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    output: Option<&'a Output>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<Repeated>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [String],
}

/// Writes a session's journal as it runs; the driver calls it.
///
/// A writer that fails ends the journal, not the session.
pub struct Recorder<W: Write> {
    to: Option<W>,
    line: Vec<u8>,
    written: u64,
    bytes_max: u64,
    addresses: bool,
    mask: CandidateMask,
    trouble: Arc<OnceLock<String>>,
    /// The newest input, if it has brought no output yet.
    newest: Option<Input>,
    /// Its repetitions that are not written yet.
    repetitions: Option<Repetitions>,
    /// Entries that did not fit, since the last line.
    left_out: LeftOut,
    is_full: bool,
}

struct Repetitions {
    first: Timestamp,
    /// The one before the newest: an output makes the newest a line of its own.
    before: Timestamp,
    newest: Timestamp,
    times: u64,
}

impl<W: Write> Recorder<W> {
    /// A journal that goes to `to`, one whole line with each call of [`Write::write_all`].
    pub fn new(to: W) -> Self {
        Self {
            to: Some(to),
            line: Vec::new(),
            written: 0,
            bytes_max: JOURNAL_BYTES_MAX,
            addresses: false,
            mask: CandidateMask::default(),
            trouble: Arc::default(),
            newest: None,
            repetitions: None,
            left_out: LeftOut::default(),
            is_full: false,
        }
    }

    /// Notes the addresses of candidates as well.
    #[must_use]
    pub fn with_addresses(mut self, addresses: bool) -> Self {
        self.addresses = addresses;
        self
    }

    /// A journal that is full sooner.
    #[cfg(test)]
    fn with_bytes_max(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Where the reason goes if the journal ends before the session, or is full.
    pub fn trouble(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.trouble)
    }

    /// Writes a line if it stays within `bytes_max`. Whether it fitted.
    fn write(&mut self, line: &impl Serialize, bytes_max: u64) -> bool {
        let Some(to) = &mut self.to else { return true };
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, line).map_err(io::Error::from);
        self.line.push(b'\n');
        redact_details(&mut self.line);
        let length = self.line.len() as u64;
        if self.line.len() > LINE_BYTES_MAX || self.written + length > bytes_max {
            return false;
        }
        self.written += length;
        if let Err(error) = written.and_then(|()| to.write_all(&self.line)) {
            tracing::warn!(%error, "the journal ends here; the session goes on");
            // It is set once: the first trouble is the one that matters.
            let _ = self.trouble.set(error.to_string());
            self.to = None;
        }
        true
    }

    fn write_input(&mut self, at: Timestamp, input: &Input, repeated: Option<Repeated>) {
        let addresses = if self.addresses { addresses_in(input) } else { Vec::new() };
        let masked = self.mask.masked_input(input);
        let line = Line {
            at,
            input: Some(masked.as_ref().unwrap_or(input)),
            output: None,
            left_out: None,
            repeated,
            addresses: &addresses,
        };
        if self.is_full || !self.write(&line, self.bytes_max.saturating_sub(END_BYTES)) {
            self.left_out.inputs += repeated.map_or(1, |repeated| repeated.times);
            self.fill();
        }
    }

    fn write_output(&mut self, at: Timestamp, output: &Output) {
        let masked = self.mask.masked_output(output);
        let output = masked.as_ref().unwrap_or(output);
        let line = |output, left_out| Line {
            at,
            input: None,
            output,
            left_out,
            repeated: None,
            addresses: &[],
        };
        if !self.is_full {
            let bytes_max = self.bytes_max.saturating_sub(END_BYTES);
            if self.write(&line(Some(output), None), bytes_max) {
                return;
            }
            self.fill();
        }
        let bytes_max = match output {
            Output::Event(Event::AttemptEnded(_) | Event::Ended(_)) => self.bytes_max,
            // Of the rest a person reads the events.
            Output::Event(_) => self.bytes_max.saturating_sub(LAST_BYTES),
            Output::Signaling(..) | Output::Peer(..) => 0,
        };
        let left_out = self.left_out;
        if bytes_max > 0
            && !left_out.is_nothing()
            && self.write(&line(None, Some(left_out)), bytes_max)
        {
            self.left_out = LeftOut::default();
        }
        if !self.left_out.is_nothing() || !self.write(&line(Some(output), None), bytes_max) {
            self.left_out.outputs += 1;
        }
    }

    /// From here on only events are written.
    fn fill(&mut self) {
        self.is_full = true;
        let reported = "it is as long as it may be; inputs and commands are left out from there on";
        if self.trouble.set(reported.to_owned()).is_ok() {
            tracing::warn!("the journal is full: only events follow");
        }
    }

    /// Writes the repetitions that are waiting; with `split`, the newest as a line of its own.
    fn write_repetitions(&mut self, split: bool) {
        let Some((waiting, input)) = self.repetitions.take().zip(self.newest.take()) else {
            return;
        };
        let Repetitions { first, before, newest, times } = waiting;
        let (grouped, until) = if split { (times - 1, before) } else { (times, newest) };
        match grouped {
            0 => {}
            1 => self.write_input(until, &input, None),
            times => self.write_input(first, &input, Some(Repeated { times, until })),
        }
        if split {
            self.write_input(newest, &input, None);
        }
        self.newest = Some(input);
    }
}

impl<W: Write + MaybeSend> Observer for Recorder<W> {
    fn began(&mut self, config: &Config, seed: u64, at: Timestamp) {
        let written_by = env!("CARGO_PKG_VERSION").to_owned();
        let header =
            Header { journal: VERSION, written_by, config: config.clone(), seed, began: at };
        // A header is far shorter than what there is room for.
        self.write(&header, self.bytes_max);
    }

    fn input(&mut self, at: Timestamp, input: &Input) {
        if self.newest.as_ref() == Some(input) {
            let waiting = self.repetitions.get_or_insert(Repetitions {
                first: at,
                before: at,
                newest: at,
                times: 0,
            });
            if at.saturating_since(waiting.first) <= REPEATED_MAX && waiting.times < REPETITIONS_MAX
            {
                (waiting.before, waiting.newest) = (waiting.newest, at);
                waiting.times += 1;
                return;
            }
        }
        self.write_repetitions(false);
        self.write_input(at, input, None);
        self.newest = Some(input.clone());
    }

    fn output(&mut self, at: Timestamp, output: &Output) {
        self.write_repetitions(true);
        self.newest = None;
        self.write_output(at, output);
    }
}

impl<W: Write> Drop for Recorder<W> {
    fn drop(&mut self) {
        self.write_repetitions(false);
    }
}

/// Blanks secrets in the texts of failures. Ports blank what comes from outside before they report
/// it; this is for the ones that do not. The rest of a line is the core's own, and holds none.
fn redact_details(line: &mut Vec<u8>) {
    const DETAIL: &str = "\"detail\":\"";
    let Ok(text) = str::from_utf8(line) else { return };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(DETAIL) {
        let (before, after) = rest.split_at(at + DETAIL.len());
        let end = end_of_string(after);
        out.push_str(before);
        out.push_str(&redact(&after[..end]));
        rest = &after[end..];
    }
    if !out.is_empty() {
        out.push_str(rest);
        *line = out.into_bytes();
    }
}

/// Where a string of JSON ends whose beginning is before the text.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.unwrap_or(text.len())
}

/// Address and port of the candidate that an input brings, and of what it was mapped from.
fn addresses_in(input: &Input) -> Vec<String> {
    match input {
        Input::Signaling(_, SignalingEvent::Candidate { body: Ok(candidate), .. })
        | Input::Peer(_, PeerEvent::CandidateGathered(candidate)) => addresses_of(candidate),
        Input::Completed(completion) => match &completion.outcome {
            Ok(Done::IceServers(servers)) => {
                let uris = servers.iter().flat_map(|server| &server.uris);
                uris.take(ADDRESSES_MAX).cloned().collect()
            }
            Ok(Done::Ok | Done::Connected(_) | Done::Created(_) | Done::Description(_))
            | Err(_) => Vec::new(),
        },
        Input::Open
        | Input::Close
        | Input::Timeout
        | Input::Resumed
        | Input::NetworkChanged
        | Input::LocalAddressGone
        | Input::MasterKnown(_)
        | Input::Online(_)
        | Input::Restart
        | Input::Renegotiate
        | Input::Signaling(..)
        | Input::Peer(..) => Vec::new(),
    }
}

fn addresses_of(candidate: &Candidate) -> Vec<String> {
    // RFC 8839, 5.1: ... address port typ TYPE [raddr ADDRESS] [rport PORT] ...
    let words: Vec<&str> = candidate.text.split_whitespace().take(64).collect();
    let own = words.get(4).zip(words.get(5)).map(|(address, port)| format!("{address} {port}"));
    let related = words.iter().position(|word| *word == "raddr").and_then(|i| words.get(i + 1));
    own.into_iter().chain(related.map(|word| (*word).to_owned())).collect()
}
