//! Fuzzes SDP and the facts read out of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::description(bytes));
