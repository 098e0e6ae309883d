//! Fuzzes the service's refusals, and the endpoints it names.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::service(bytes));
