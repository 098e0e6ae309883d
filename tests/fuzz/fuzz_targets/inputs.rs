//! Fuzzes sequences of inputs to the core.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::inputs(bytes));
