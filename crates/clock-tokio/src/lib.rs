//! The clock port over tokio's timer.
