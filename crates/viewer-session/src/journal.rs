//! The journal of a session: written as it runs, read and replayed after (contract, N26).
//!
//! One JSON object a line. The first is the header: version, configuration, seed. Then comes every
//! input and every output with its time, in the core's journal form, which holds no secret and no
//! address. Nothing here knows files: a [`Recorder`] writes to any [`Write`], a [`Reader`] reads
//! from any [`std::io::BufRead`], a line at a time, within bounds.

mod reader;
mod replay;

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use negotiation_core::{
    Candidate, Config, Done, Input, Output, PeerEvent, SignalingEvent, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::driver::Observer;
use crate::ports::MaybeSend;

pub use reader::{JournalError, Reader};
pub use replay::{Difference, Replayed, Verdict, replay};

/// The version of the format. A reader takes no other.
pub const VERSION: u32 = 1;

/// Longest line that is written or read, in bytes.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Longest journal that is written or read, in bytes: days of a session that recovers every minute.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
    /// The addresses that the input brought, where they were asked for. The replay needs none.
    pub addresses: Vec<String>,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It went into the session.
    Input(Input),
    /// It came out of the session.
    Output(Output),
}

/// A line as it is written.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    input: Option<&'a Input>,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    output: Option<&'a Output>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    addresses: &'a [String],
}

/// Writes a session's journal as it runs; the driver calls it.
///
/// A writer that fails ends the journal, not the session.
pub struct Recorder<W> {
    to: Option<W>,
    line: Vec<u8>,
    written: u64,
    addresses: bool,
    trouble: Arc<OnceLock<String>>,
}

impl<W: Write> Recorder<W> {
    /// A journal that goes to `to`, one whole line with each call of [`Write::write_all`].
    pub fn new(to: W) -> Self {
        Self {
            to: Some(to),
            line: Vec::new(),
            written: 0,
            addresses: false,
            trouble: Arc::default(),
        }
    }

    /// Notes the addresses of candidates as well.
    #[must_use]
    pub fn with_addresses(mut self, addresses: bool) -> Self {
        self.addresses = addresses;
        self
    }

    /// Where it will say why the journal ended before the session did.
    pub fn trouble(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.trouble)
    }

    fn write(&mut self, line: &impl Serialize) {
        let Some(to) = &mut self.to else { return };
        self.line.clear();
        let written = serde_json::to_writer(&mut self.line, line).map_err(io::Error::from);
        self.line.push(b'\n');
        let length = self.line.len() as u64;
        let result = written.and_then(|()| {
            if self.line.len() > LINE_BYTES_MAX || self.written + length > JOURNAL_BYTES_MAX {
                return Err(io::Error::other("the journal is as long as it may be"));
            }
            to.write_all(&self.line)
        });
        self.written += length;
        if let Err(error) = result {
            tracing::warn!(%error, "the journal ends here; the session goes on");
            // It is set once: nothing is written after.
            let _ = self.trouble.set(error.to_string());
            self.to = None;
        }
    }
}

impl<W: Write + MaybeSend> Observer for Recorder<W> {
    fn began(&mut self, config: &Config, seed: u64, at: Timestamp) {
        let written_by = env!("CARGO_PKG_VERSION").to_owned();
        self.write(&Header {
            journal: VERSION,
            written_by,
            config: config.clone(),
            seed,
            began: at,
        });
    }

    fn input(&mut self, at: Timestamp, input: &Input) {
        let addresses = if self.addresses { addresses_in(input) } else { Vec::new() };
        self.write(&Line { at, input: Some(input), output: None, addresses: &addresses });
    }

    fn output(&mut self, at: Timestamp, output: &Output) {
        self.write(&Line { at, input: None, output: Some(output), addresses: &[] });
    }
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
