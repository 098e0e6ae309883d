//! Fuzz target for journals, which arrive with bug reports from untrusted sources.

use negotiation_core::Session;
use serde_json::json;
use viewer_session::journal::{Comparison, Reader, What, replay};

/// The maximum number of outputs for one input. A remote candidate is one input; a description
/// releases all candidates that were held back.
const OUTPUTS_MAX: usize = 10_000;

/// Checks that reading a journal ends, that the core accepts any inputs in it, and that the
/// comparison covers every line.
pub fn journal(bytes: &[u8]) {
    let mut again = Vec::new();
    let comparison = run(bytes, &mut again);
    assert_eq!(comparison, run(bytes, &mut Vec::new()), "the same journal has two verdicts");
    match comparison {
        Ok(Comparison::Identical(replayed)) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(replayed.inputs + replayed.outputs, lines - 1, "lines were passed over");
            // A journal that was read and written again must be read as the same one.
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

/// Feeds the journal's inputs to a session without the comparison, which would stop at the first
/// difference.
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

/// Replays the journal, and writes the entries that were read to `again`.
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

/// Checks the text of a refusal, which is printed to a terminal.
fn shown(refusal: &str) {
    assert!(!refusal.contains(char::is_control), "a terminal would obey {refusal:?}");
    assert!(refusal.len() < 2000, "{} bytes are said of a journal", refusal.len());
}
