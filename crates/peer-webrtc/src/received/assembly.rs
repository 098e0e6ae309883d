//! The frames of one kind of media, on the timeline that all connections of a port share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use encoded_frames::{Frame, FrameAssembler};

use crate::codec::Codec;

/// The timeline that all peer connections of a port share.
#[derive(Clone, Debug)]
pub(crate) struct MediaClock {
    /// The zero point of arrival times.
    pub(super) origin: Instant,
    /// The next epoch of a frame: no two sources share one.
    epochs: Arc<AtomicU32>,
}

impl MediaClock {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, epochs: Arc::default() }
    }

    pub(super) fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.origin)
    }
}

/// The frames of one kind of media.
pub(super) struct Assembly {
    pub(super) codec: Codec,
    pub(super) assembler: FrameAssembler,
    /// The assembler's epoch, and the port's epoch that replaces it.
    epoch: Option<(u32, u32)>,
    /// Whether the application missed a frame, so that frames which refer to it are useless.
    pub(super) skipping: bool,
    /// The assembler's lost packets that are already counted.
    pub(super) lost: u64,
    pub(super) dropped: u64,
}

impl Assembly {
    pub(super) fn new(
        codec: Codec,
        encoded: encoded_frames::Codec,
        parameter_sets: &[Bytes],
    ) -> Self {
        let mut assembler = FrameAssembler::new(encoded);
        assembler.add_parameter_sets(parameter_sets);
        Self { codec, assembler, epoch: None, skipping: false, lost: 0, dropped: 0 }
    }

    /// Returns the next frame, with the port's epoch.
    pub(super) fn pop(&mut self, clock: &MediaClock) -> Option<Frame> {
        let mut frame = self.assembler.pop()?;
        let epoch = match self.epoch {
            Some((local, epoch)) if local == frame.epoch => epoch,
            Some(_) | None => {
                let epoch = clock.epochs.fetch_add(1, Ordering::Relaxed);
                self.epoch = Some((frame.epoch, epoch));
                epoch
            }
        };
        frame.epoch = epoch;
        Some(frame)
    }
}
