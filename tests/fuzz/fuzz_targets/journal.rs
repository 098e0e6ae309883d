//! Fuzzes the reading and replaying of session journals.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::journal(bytes));
