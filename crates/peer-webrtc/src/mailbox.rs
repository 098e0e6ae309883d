//! A queue that limits the items which may be lost, and never drops the others.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    changed: Notify,
    lost: AtomicU64,
    limit: usize,
    bytes_max: usize,
}

struct Inner<T> {
    /// The items, each with the bytes that count toward `bytes_max`.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// Creates a queue that holds up to `limit` items that may be lost.
    pub(crate) fn new(limit: usize) -> Self {
        Self::with_bytes(limit, usize::MAX)
    }

    /// Creates a queue that holds up to `limit` such items, and up to `bytes_max` bytes of the
    /// sized ones.
    pub(crate) fn with_bytes(limit: usize, bytes_max: usize) -> Self {
        let inner = Inner { items: VecDeque::new(), bytes: 0, closed: false };
        Self {
            inner: Mutex::new(inner),
            changed: Notify::new(),
            lost: AtomicU64::new(0),
            limit,
            bytes_max,
        }
    }

    /// Queues an item without a limit; its number is bounded elsewhere.
    pub(crate) fn push(&self, item: T) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        inner.items.push_back((item, 0));
        drop(inner);
        self.changed.notify_one();
    }

    /// Queues an item unless the queue is full; otherwise counts it as lost. Returns false only if
    /// it was lost: a closed queue accepts and drops it.
    pub(crate) fn offer(&self, item: T) -> bool {
        self.offer_sized(item, 0)
    }

    /// Works as [`Mailbox::offer`], for an item of `bytes` bytes.
    pub(crate) fn offer_sized(&self, item: T, bytes: usize) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return true;
        }
        let is_full = inner.items.len() >= self.limit
            || (bytes > 0 && inner.bytes.saturating_add(bytes) > self.bytes_max);
        if is_full {
            drop(inner);
            self.count_lost();
            return false;
        }
        inner.bytes += bytes;
        inner.items.push_back((item, bytes));
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// Returns the next item, or `None` once the mailbox is closed and empty. Cancel-safe; for one
    /// reader.
    pub(crate) async fn next(&self) -> Option<T> {
        loop {
            {
                let mut inner = self.lock();
                if let Some((item, bytes)) = inner.items.pop_front() {
                    inner.bytes -= bytes;
                    return Some(item);
                }
                if inner.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Accepts no more items; the queued ones can still be read.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Closes the mailbox and drops the queued items, because the reader is gone.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.items = VecDeque::new();
        inner.bytes = 0;
    }

    /// Counts an item that was lost before it was offered.
    pub(crate) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn full_mailbox_drops_only_droppable_items() {
        let mailbox = Mailbox::new(1);
        assert!(mailbox.offer(1));
        assert!(!mailbox.offer(2));
        mailbox.push(3);
        mailbox.close();
        mailbox.push(4);
        assert_eq!(mailbox.lost(), 1);
        assert_eq!(mailbox.next().await, Some(1));
        assert_eq!(mailbox.next().await, Some(3));
        assert_eq!(mailbox.next().await, None);
    }

    #[tokio::test]
    async fn items_over_the_byte_limit_are_lost() {
        let mailbox = Mailbox::with_bytes(10, 100);
        assert!(mailbox.offer_sized(1, 60));
        assert!(!mailbox.offer_sized(2, 41));
        assert!(mailbox.offer(3));
        assert!(mailbox.offer_sized(4, 40));
        assert_eq!(mailbox.next().await, Some(1));
        assert!(mailbox.offer_sized(5, 60));
        assert_eq!(mailbox.lost(), 1);
    }
}
