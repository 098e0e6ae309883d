//! Hostile peers: services, masters and certificates that are hostile, on
//! real sockets of loopback. `docs/security.md` lists what each of them may and may not do.
//!
//! What is promised is a typed end, in bounded time and memory. The heap is measured, so each test
//! runs alone, and prints what it took.

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

/// The heap is the process's, and so is what is measured of it: also the text of a panic, whose
/// backtrace takes a hundred megabytes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an attack may cost, the attacker's own part in this process included.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    bytes: usize,
}

/// A few buffers.
const LITTLE: Cost = Cost { time: Duration::from_secs(10), bytes: 8 << 20 };

/// Runs an attack, and checks that it costs at most its budget.
fn costs<T>(at_most: Cost, name: &str, attack: impl AsyncFnOnce() -> T) -> T {
    let _alone = alone();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (seen, took, grown) = runtime.block_on(async {
        // What is made once for the process is made before.
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

/// The system's authorities, which are read once.
fn warm_up() {
    let _ = signaling_aws::SignalingConfig::builder("door").build();
}
