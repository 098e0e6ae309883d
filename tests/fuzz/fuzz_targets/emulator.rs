//! Fuzzes the input that clients send to the emulator.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::emulator(bytes));
