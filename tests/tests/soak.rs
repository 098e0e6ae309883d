//! Leak tests: many sessions in one process, and one session with a fault every ten seconds. They
//! count the memory, sockets, threads and tasks of this process (N23).
//!
//! `cargo test` runs a short version of each. These commands run the full versions:
//!
//! ```text
//! SOAK_CYCLES=1000 cargo test -p kvs-viewer-tests --test soak -- --nocapture cycles
//! SOAK_MINUTES=10 cargo test -p kvs-viewer-tests --test soak -- --nocapture streaming
//! ```

#[path = "soak/cycles.rs"]
mod cycles;
#[path = "soak/resources.rs"]
mod resources;
#[path = "soak/stage.rs"]
mod stage;
#[path = "soak/streaming.rs"]
mod streaming;

use std::alloc::System;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;

/// Counts what this process allocates; C libraries (the cryptography) appear in its resident size.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs a soak test as a task, like everything it counts. A lock prevents two at a time, because
/// they would count each other's resources.
fn run(soak: impl Future<Output = ()> + Send + 'static) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Threads for files and name resolution must end soon after their use.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(stage::ms(100))
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::spawn(soak).await.expect("the soak is over") });
}

/// Reads a number from the environment; an invalid one panics, so that no other test runs instead.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}
