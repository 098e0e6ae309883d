//! Fuzzes SDP texts and the summary that is read from them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::description(bytes));
