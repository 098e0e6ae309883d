//! Journals, which come with bug reports from anyone.

use negotiation_core::Session;
use serde_json::json;
use viewer_session::journal::{Comparison, Reader, What, replay};

/// Most outputs of one input. A candidate that comes is one; a description frees what was held.
const OUTPUTS_MAX: usize = 10_000;

/// A journal: reading it ends, the core takes whatever it contains, and the comparison is one of the text.
pub fn journal(bytes: &[u8]) {
    let mut again = Vec::new();
    let comparison = run(bytes, &mut again);
    assert_eq!(comparison, run(bytes, &mut Vec::new()), "the same journal has two verdicts");
    match comparison {
        Ok(Comparison::Identical(replayed)) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(replayed.inputs + replayed.outputs, lines - 1, "lines were passed over");
            // What was read and is written again is read as the same.
            let written = run(&again, &mut Vec::new());
            let mut whole = replayed;
            whole.is_cut = false;
            assert_eq!(written, Ok(Comparison::Identical(whole)));
        }
        Ok(Comparison::Differs(_)) => {}
        Err(refusal) => shown(&refusal),
    }
    obeyed(bytes);
}

/// The same inputs without a judge, who stops at the first difference.
fn obeyed(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let header = reader.header();
    let mut session = Session::new(header.config.clone(), header.seed, header.began);
    while let Ok(Some(entry)) = reader.next_entry() {
        let What::Input(input) = entry.what else { continue };
        session.handle_input(entry.at, input);
        let outputs = std::iter::from_fn(|| session.poll_output()).take(OUTPUTS_MAX).count();
        assert!(outputs < OUTPUTS_MAX, "one input brings outputs without end");
    }
}

/// Runs it, and writes down what was read of it.
fn run(bytes: &[u8], again: &mut Vec<u8>) -> Result<Comparison, String> {
    let reader = Reader::new(bytes).map_err(|error| error.to_string())?;
    let mut line = |value: serde_json::Value| {
        again.extend_from_slice(value.to_string().as_bytes());
        again.push(b'\n');
    };
    line(json!(reader.header()));
    replay(reader, |entry| {
        let at = entry.at;
        line(match (&entry.what, entry.repeated) {
            (What::Input(input), None) => json!({"at": at, "in": input}),
            (What::Input(input), Some(repeated)) => {
                json!({"at": at, "in": input, "repeated": repeated})
            }
            (What::Output(output), _) => json!({"at": at, "out": output}),
            (What::LeftOut(left_out), _) => json!({"at": at, "left_out": left_out}),
        });
    })
    .map_err(|error| error.to_string())
}

/// Why a journal is refused goes to a terminal.
fn shown(refusal: &str) {
    assert!(!refusal.contains(char::is_control), "a terminal would obey {refusal:?}");
    assert!(refusal.len() < 2000, "{} bytes are said of a journal", refusal.len());
}
