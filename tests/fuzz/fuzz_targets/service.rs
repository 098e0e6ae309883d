//! Fuzzes the service's error responses and the endpoints that it returns.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvs_viewer_fuzz::service(bytes));
