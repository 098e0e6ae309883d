//! Measures statistics and the size of the recording outside the session's loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use peer_webrtc::{PeerMonitor, PeerStats};
use tokio::sync::watch as latest;
use tokio::time::sleep;

use super::STATS_EVERY;

/// The measurements that may hang, each made by its own task.
pub(super) struct Measured {
    peers: latest::Receiver<Vec<PeerStats>>,
    bytes: Option<Arc<AtomicU64>>,
    tasks: Vec<tokio::task::AbortHandle>,
}

impl Measured {
    pub(super) fn start(monitor: &PeerMonitor, record: Option<PathBuf>) -> Self {
        let (publish, peers) = latest::channel(Vec::new());
        let monitor = monitor.clone();
        let mut tasks = vec![];
        let requested = tokio::spawn(async move {
            loop {
                sleep(STATS_EVERY / 4).await;
                if publish.send(monitor.stats().await).is_err() {
                    return;
                }
            }
        });
        tasks.push(requested.abort_handle());
        let bytes = record.map(|path| {
            let bytes = Arc::<AtomicU64>::default();
            let publish = Arc::clone(&bytes);
            let looked = tokio::spawn(async move {
                loop {
                    let path = path.clone();
                    // A disk that hangs blocks only this thread.
                    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path));
                    if let Ok(Ok(file)) = size.await {
                        publish.store(file.len(), Ordering::Relaxed);
                    }
                    sleep(STATS_EVERY / 2).await;
                }
            });
            tasks.push(looked.abort_handle());
            bytes
        });
        Self { peers, bytes, tasks }
    }

    /// Returns the newest measurements.
    pub(super) fn now(&self) -> (Vec<PeerStats>, Option<u64>) {
        let bytes = self.bytes.as_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        (self.peers.borrow().clone(), bytes)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
