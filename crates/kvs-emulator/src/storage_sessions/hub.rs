//! The media path of a storage session: the master's packets to the viewers, and keyframe requests
//! back to the master.

use rtc::rtp::Packet;
use tokio::sync::{Notify, broadcast, watch};

/// Maximum number of packets that a viewer may be behind: two seconds of 5 Mbit/s.
const BEHIND_MAX: usize = 1024;

/// The media of one session.
#[derive(Debug)]
pub(crate) struct Hub {
    media: broadcast::Sender<Media>,
    keyframe: Notify,
    /// The number of the master that is connected.
    master: watch::Sender<Option<u64>>,
}

/// A packet of the master's.
#[derive(Debug, Clone)]
pub(crate) enum Media {
    Video(Packet),
    Audio(Packet),
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            media: broadcast::Sender::new(BEHIND_MAX),
            keyframe: Notify::new(),
            master: watch::Sender::new(None),
        }
    }

    pub(crate) fn forward(&self, media: Media) {
        // The send fails if there is no receiver.
        let _ = self.media.send(media);
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Media> {
        self.media.subscribe()
    }

    pub(crate) fn ask_for_keyframe(&self) {
        self.keyframe.notify_one();
    }

    pub(crate) async fn keyframe_asked_for(&self) {
        self.keyframe.notified().await;
    }

    pub(crate) fn master_came(&self, number: u64) {
        self.master.send_replace(Some(number));
    }

    /// Removes the master, unless another one has joined meanwhile.
    pub(crate) fn master_left(&self, number: u64) {
        self.master.send_if_modified(|master| master.take_if(|is| *is == number).is_some());
    }

    pub(crate) fn master(&self) -> watch::Receiver<Option<u64>> {
        self.master.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_of_replaced_master_is_ignored() {
        let hub = Hub::new();
        hub.master_came(1);
        hub.master_came(2);
        hub.master_left(1);
        assert_eq!(*hub.master().borrow(), Some(2));
        hub.master_left(2);
        assert_eq!(*hub.master().borrow(), None);
    }
}
