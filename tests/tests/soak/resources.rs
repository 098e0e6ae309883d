//! The resources that this process holds.

use std::fmt;
use std::fs;
use std::time::Duration;

use stats_alloc::Stats;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::ALLOCATOR;

/// The maximum time until closed resources are released.
const SETTLING: Duration = Duration::from_secs(30);

/// Resources that are counted exactly, so none may be left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    pub(crate) tasks: usize,
}

impl Held {
    pub(crate) fn now() -> Self {
        let entries = |path| fs::read_dir(path).expect("Linux").count();
        Self {
            // Listing the folder opens a descriptor itself.
            descriptors: entries("/proc/self/fd") - 1,
            threads: entries("/proc/self/task"),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }

    fn is_within(self, baseline: Self) -> bool {
        self.descriptors <= baseline.descriptors
            && self.threads <= baseline.threads
            && self.tasks <= baseline.tasks
    }

    /// Waits until the process holds no more than at the baseline.
    pub(crate) async fn settle(baseline: Self) -> Self {
        let deadline = Instant::now() + SETTLING;
        loop {
            let held = Self::now();
            if held.is_within(baseline) {
                return held;
            }
            assert!(Instant::now() < deadline, "left behind: {held} above {baseline}\n{}", open());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, tasks } = self;
        write!(f, "{descriptors} descriptors, {threads} threads, {tasks} tasks")
    }
}

/// Lists the open descriptors, for a failure's message.
fn open() -> String {
    let entries = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    let mut open: Vec<_> =
        entries.filter_map(target).map(|path| path.display().to_string()).collect();
    open.sort();
    open.join("\n")
}

/// Returns the number of bytes that are allocated now.
pub(crate) fn live_bytes() -> i64 {
    let Stats { bytes_allocated, bytes_deallocated, .. } = ALLOCATOR.stats();
    let bytes = |count: usize| i64::try_from(count).expect("no such machine");
    bytes(bytes_allocated) - bytes(bytes_deallocated)
}

/// Returns the resident size in kilobytes, which includes C allocations and the allocator's
/// reserve.
pub(crate) fn resident_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Returns the slope of the least squares line through the points.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let over = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    over / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}
