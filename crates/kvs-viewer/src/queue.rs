//! The bounded queue of frames for the application, so that a slow application does not delay
//! media.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use negotiation_core::MediaKind;
use peer_webrtc::rtp;
use tokio::sync::mpsc;

use crate::frame::EncodedFrame;

/// The maximum number of waiting frames and packets, regardless of their size.
const ITEMS_MAX: usize = 8192;

/// An item that waits for the application.
#[derive(Debug)]
pub(crate) enum Item {
    Frame(EncodedFrame),
    Packet { kind: MediaKind, packet: rtp::Packet },
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    /// The number of frames and packets that were dropped and not reported yet.
    lost: AtomicU64,
    abandoned: AtomicBool,
}

/// The sending end of the queue.
#[derive(Debug)]
pub(crate) struct Sender {
    items: mpsc::Sender<Item>,
    shared: Arc<Shared>,
    bytes_max: usize,
    /// A video frame was dropped, so those until the next keyframe cannot be decoded.
    needs_keyframe: bool,
}

/// The application's end of the queue.
#[derive(Debug)]
pub(crate) struct Receiver {
    items: mpsc::Receiver<Item>,
    shared: Arc<Shared>,
}

/// Creates a queue for frames of at most `bytes_max` bytes in total; an empty queue accepts one
/// larger frame.
pub(crate) fn queue(bytes_max: usize) -> (Sender, Receiver) {
    let (sender, items) = mpsc::channel(ITEMS_MAX);
    let shared = Arc::<Shared>::default();
    let needs_keyframe = false;
    let sender = Sender { items: sender, shared: Arc::clone(&shared), bytes_max, needs_keyframe };
    (sender, Receiver { items, shared })
}

impl Sender {
    /// Queues a frame, or counts it as lost. Returns whether a keyframe should be requested, since
    /// video resumes only at a keyframe.
    pub(crate) fn frame(&mut self, frame: EncodedFrame) -> bool {
        let is_video = frame.kind() == MediaKind::Video;
        if is_video && self.needs_keyframe && !frame.is_keyframe {
            self.count_lost();
            return false;
        }
        let taken = self.put(frame.bytes.len(), Item::Frame(frame));
        let begins_to_miss = is_video && !taken && !self.needs_keyframe;
        if is_video {
            self.needs_keyframe = !taken;
        }
        begins_to_miss
    }

    pub(crate) fn packet(&self, kind: MediaKind, packet: rtp::Packet) {
        self.put(packet.payload.len(), Item::Packet { kind, packet });
    }

    fn put(&self, bytes: usize, item: Item) -> bool {
        if self.shared.abandoned.load(Ordering::Acquire) {
            return true;
        }
        let waiting = self.shared.bytes.load(Ordering::Acquire);
        if waiting > 0 && waiting.saturating_add(bytes) > self.bytes_max {
            self.count_lost();
            return false;
        }
        // The bytes are added before the receiver can take the item and subtract them.
        self.shared.bytes.fetch_add(bytes, Ordering::AcqRel);
        let taken = self.items.try_send(item).is_ok();
        if !taken {
            self.shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.count_lost();
        }
        taken
    }

    fn count_lost(&self) {
        self.shared.lost.fetch_add(1, Ordering::AcqRel);
    }
}

impl Receiver {
    /// Polls for the next item; `None` once the session's media has ended and every item was taken.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let item = self.items.poll_recv(cx);
        if let Poll::Ready(Some(item)) = &item {
            let bytes = match item {
                Item::Frame(frame) => frame.bytes.len(),
                Item::Packet { packet, .. } => packet.payload.len(),
            };
            self.shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        item
    }

    /// Returns how many items were lost since the last call.
    pub(crate) fn take_lost(&self) -> u64 {
        self.shared.lost.swap(0, Ordering::AcqRel)
    }

    /// Discards all items, and stops queueing and counting losses.
    pub(crate) fn abandon(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
        self.items.close();
        while self.items.try_recv().is_ok() {}
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::tests::{frame, now};
    use crate::frame::{H264Format, Timeline};

    fn video(is_keyframe: bool, bytes: usize) -> EncodedFrame {
        let mut timeline = Timeline::new(H264Format::AnnexB);
        let frame = timeline.place(MediaKind::Video, frame(1, 0, 0), now());
        EncodedFrame { is_keyframe, bytes: vec![0; bytes].into(), ..frame }
    }

    fn next(receiver: &mut Receiver) -> Option<usize> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match receiver.poll_next(&mut cx) {
            Poll::Ready(Some(Item::Frame(frame))) => Some(frame.bytes.len()),
            Poll::Ready(Some(Item::Packet { .. }) | None) | Poll::Pending => None,
        }
    }

    #[test]
    fn full_queue_drops_until_the_next_keyframe_and_counts() {
        let (mut sender, mut receiver) = queue(100);
        assert!(!sender.frame(video(true, 60)));
        assert!(!sender.frame(video(false, 30)));
        assert!(sender.frame(video(false, 20)), "a keyframe is to be requested");
        assert!(!sender.frame(video(false, 1)), "requested once");
        assert_eq!((next(&mut receiver), next(&mut receiver)), (Some(60), Some(30)));
        assert!(!sender.frame(video(false, 1)), "it depends on what was dropped");
        assert!(!sender.frame(video(true, 50)));
        assert!(!sender.frame(video(false, 7)));
        assert_eq!((next(&mut receiver), next(&mut receiver)), (Some(50), Some(7)));
        assert_eq!((receiver.take_lost(), receiver.take_lost()), (3, 0));
        assert!(!sender.frame(video(true, 1000)), "an empty queue takes a frame of any size");
        assert_eq!(next(&mut receiver), Some(1000));
    }

    #[test]
    fn abandoned_queue_discards_frames_without_counting_loss() {
        let (mut sender, mut receiver) = queue(100);
        sender.frame(video(true, 60));
        receiver.abandon();
        assert!(!sender.frame(video(true, 60)));
        assert_eq!(receiver.take_lost(), 0);
    }
}
