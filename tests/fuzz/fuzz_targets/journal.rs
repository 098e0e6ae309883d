//! Fuzzes journals of sessions, read and replayed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::journal(bytes));
