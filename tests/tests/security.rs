//! Tests with hostile services, masters and certificates, on real loopback sockets.
//! `docs/security.md` states what each of them may and may not do.
//!
//! Every session must end with a typed reason, in bounded time and memory. The tests measure the
//! heap, so each runs alone and prints what it used.

#[path = "security/certificates.rs"]
mod certificates;
#[path = "security/control_plane.rs"]
mod control_plane;
#[path = "security/doors.rs"]
mod doors;
#[path = "security/masters.rs"]
mod masters;
#[path = "security/secrets.rs"]
mod secrets;
#[path = "security/service.rs"]
mod service;
#[path = "security/sockets.rs"]
mod sockets;
#[path = "security/strangers.rs"]
mod strangers;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peak_alloc::PeakAlloc;
use tokio::runtime::Builder;
use tokio::time::{Instant, timeout};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Locks out the other tests, because the measured heap belongs to the whole process. A panic in
/// another test would count too: its backtrace takes a hundred megabytes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The maximum cost of an attack, including the attacker's own part in this process.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    bytes: usize,
}

/// A cost of ten seconds and a few buffers.
const LITTLE: Cost = Cost { time: Duration::from_secs(10), bytes: 8 << 20 };

/// Runs an attack, and checks that it stays within its maximum cost.
fn costs<T>(at_most: Cost, name: &str, attack: impl AsyncFnOnce() -> T) -> T {
    let _alone = alone();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (seen, took, grown) = runtime.block_on(async {
        // Data that the process creates only once must not count.
        warm_up();
        let before = HEAP.current_usage();
        HEAP.reset_peak_usage();
        let began = Instant::now();
        let seen = timeout(at_most.time, attack()).await;
        let seen = seen.unwrap_or_else(|_| panic!("{name}: not over in {:?}", at_most.time));
        (seen, began.elapsed(), HEAP.peak_usage().saturating_sub(before))
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    eprintln!("security: {name}: {} kB at most, {took:?}", grown / 1024);
    assert!(grown <= at_most.bytes, "{name}: {grown} bytes, {} allowed", at_most.bytes);
    seen
}

/// Loads the system's CA certificates, which the process reads only once.
fn warm_up() {
    let _ = signaling_aws::SignalingConfig::builder("door").build();
}
