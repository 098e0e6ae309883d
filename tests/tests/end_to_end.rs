//! Tests of the product's own programs on loopback, each in its own process: the demo, the three
//! commands together, how each failure ends, and that no output contains secrets.

#[path = "end_to_end/demo.rs"]
mod demo;
#[path = "end_to_end/endings.rs"]
mod endings;
#[path = "end_to_end/endpoints.rs"]
mod endpoints;
#[path = "end_to_end/first_use.rs"]
mod first_use;
#[path = "end_to_end/output.rs"]
mod output;
#[path = "end_to_end/pipe.rs"]
mod pipe;
#[path = "end_to_end/recovery.rs"]
mod recovery;
#[path = "end_to_end/relay.rs"]
mod relay;
#[path = "end_to_end/reopened.rs"]
mod reopened;
#[path = "end_to_end/secrets.rs"]
mod secrets;
#[path = "end_to_end/storage.rs"]
mod storage;

use std::time::Duration;

/// The `kvs-viewer` under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvs-viewer-under-test");

/// A time limit for any operation on a machine that builds and tests other things at the same time.
const PATIENCE: Duration = Duration::from_secs(90);
