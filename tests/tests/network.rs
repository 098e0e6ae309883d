//! Sessions over networks that change, fail and block traffic. Every party runs in its own network
//! namespace, which is created for one test and removed afterwards. Needs root and Linux.

#[path = "network/families.rs"]
mod families;
#[path = "network/lab.rs"]
mod lab;
#[path = "network/losses.rs"]
mod losses;
#[path = "network/lossy.rs"]
mod lossy;
#[path = "network/proxied.rs"]
mod proxied;
#[path = "network/relayed.rs"]
mod relayed;
#[path = "network/scene.rs"]
mod scene;
#[path = "network/switched.rs"]
mod switched;

use std::time::Duration;

/// The `kvs-viewer` under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvs-viewer-under-test");

/// A time limit for any operation on a machine that builds and tests other things at the same time.
const PATIENCE: Duration = Duration::from_secs(90);
