//! Replays the fuzzers' corpus: runs every stored file through the fuzz target that found it.
//!
//! A crash that a fuzzer found is stored as a file there.

#[expect(unreachable_pub, reason = "public for the fuzzers, which are another package")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus is committed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{}: {} files are no corpus", folder.display(), files.len());
    for file in &files {
        // The last name printed is that of the failing file.
        eprintln!("{}", file.display());
        target(&fs::read(file).expect("it can be read"));
    }
    eprintln!("corpus: {name}: {} files", files.len());
}

#[test]
fn envelopes() {
    replay("envelope", targets::envelope);
}

#[test]
fn descriptions() {
    replay("description", targets::description);
}

#[test]
fn candidates() {
    replay("candidate", targets::candidate);
}

#[test]
fn names() {
    replay("names", targets::names);
}

#[test]
fn inputs() {
    replay("inputs", targets::inputs);
}

#[test]
fn journals() {
    replay("journal", targets::journal);
}

#[test]
fn corpus_of_service_messages() {
    replay("service", targets::service);
}

#[test]
fn corpus_of_emulator_input() {
    replay("emulator", targets::emulator);
}
