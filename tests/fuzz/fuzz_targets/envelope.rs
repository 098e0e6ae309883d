//! Fuzzes the signaling socket's envelope.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::envelope(bytes));
