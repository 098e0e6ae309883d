//! Fuzzes what the emulator's clients send.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::emulator(bytes));
