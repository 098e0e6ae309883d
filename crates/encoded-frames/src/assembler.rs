//! Assembles the packets of one track into complete frames, despite loss, reordering and
//! repetition.
//!
//! A frame that lacks a packet for good is dropped, as are all frames that may refer to it: the
//! next output frame is a keyframe. Audio frames are independent of each other; a lost packet is
//! only counted.

use std::time::Duration;

use bytes::Bytes;
use rtc_rtp::packet::Packet;

use crate::codec::{Codec, VideoCodec};
use crate::frame::{Delivery, Frame, MediaStats, Picture};
use crate::h264;
use crate::reorder::{Insertion, Released, ReorderBuffer};
use crate::vpx::{self, Vpx};

/// The limits of a [`FrameAssembler`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssemblerConfig {
    /// How long to wait for a missing packet: long enough for a few rounds of NACK (100 ms each).
    pub reorder_wait: Duration,
    /// The most packets that wait behind a missing one: about 2.5 MB, or half a second at 40
    /// Mbit/s.
    pub reorder_packets_max: usize,
    /// The largest frame; a longer one is dropped.
    pub frame_bytes_max: usize,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        Self {
            reorder_wait: Duration::from_millis(600),
            reorder_packets_max: 2048,
            frame_bytes_max: 8 << 20,
        }
    }
}

/// Reorders the packets of one track and assembles them into frames; see the module.
///
/// ```
/// use encoded_frames::{AudioCodec, Codec, FrameAssembler, rtp::Packet};
/// use std::time::Duration;
///
/// let mut assembler = FrameAssembler::new(Codec::Audio(AudioCodec::Opus));
/// let packet = Packet { payload: vec![0xf8, 1, 2].into(), ..Packet::default() };
/// assembler.push(Duration::ZERO, packet);
/// assert!(assembler.pop().is_some_and(|frame| frame.data[..] == [0xf8, 1, 2]));
/// ```
#[derive(Debug)]
pub struct FrameAssembler {
    reorder: ReorderBuffer<(Duration, Packet)>,
    source: Option<u32>,
    /// The previous source and when it was left: its late packets do not switch back to it.
    previous_source: Option<(u32, Duration)>,
    format: Format,
    delivery: Delivery,
}

/// The state that assembles the pictures of a codec.
#[derive(Debug)]
enum Format {
    H264(Box<h264::Assembly>),
    Vpx(vpx::Assembly),
    /// Each packet is a frame.
    Sound,
}

/// How long packets of the previous SSRC count as late; after that they switch back to it.
const SOURCE_LINGER: Duration = Duration::from_secs(2);

impl FrameAssembler {
    /// Creates an assembler with the default limits.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self::with_config(codec, AssemblerConfig::default())
    }

    /// Creates an assembler with other limits.
    #[must_use]
    pub fn with_config(codec: Codec, config: AssemblerConfig) -> Self {
        let limit = config.frame_bytes_max;
        let format = match codec {
            Codec::Video(VideoCodec::H264) => Format::H264(Box::new(h264::Assembly::new(limit))),
            Codec::Video(VideoCodec::Vp8) => Format::Vpx(vpx::Assembly::new(Vpx::Vp8, limit)),
            Codec::Video(VideoCodec::Vp9) => Format::Vpx(vpx::Assembly::new(Vpx::Vp9, limit)),
            Codec::Audio(_) => Format::Sound,
        };
        Self {
            reorder: ReorderBuffer::new(config.reorder_wait, config.reorder_packets_max),
            source: None,
            previous_source: None,
            format,
            delivery: Delivery::new(codec),
        }
    }

    /// Adds H.264 parameter sets that the sender announced outside the stream, such as in the
    /// SDP's `sprop-parameter-sets`. Those in the stream take precedence.
    pub fn add_parameter_sets(&mut self, sets: &[Bytes]) {
        match &mut self.format {
            Format::H264(assembly) => assembly.add_parameter_sets(sets),
            Format::Vpx(_) | Format::Sound => {}
        }
    }

    /// Adds a packet that arrived at `arrival`. Times must not decrease; call [`Self::pop`] after
    /// each packet to take the frames.
    pub fn push(&mut self, arrival: Duration, packet: Packet) {
        let stats = &mut self.delivery.stats;
        stats.packets += 1;
        stats.bytes += u64::try_from(packet.payload.len()).unwrap_or(u64::MAX);
        if !self.accept_source(packet.header.ssrc, arrival) {
            self.delivery.stats.late += 1;
            return;
        }
        let sequence = packet.header.sequence_number;
        if self.reorder.is_restart(sequence) {
            self.flush();
            self.begin_epoch();
        }
        let can_begin = self.can_begin(&packet.payload);
        match self.reorder.insert(sequence, arrival, (arrival, packet)) {
            Insertion::Accepted | Insertion::Restarted => {
                if can_begin {
                    self.reorder.start();
                }
            }
            Insertion::Duplicate => self.delivery.stats.duplicate += 1,
            Insertion::Late | Insertion::Suspicious => self.delivery.stats.late += 1,
        }
        self.release(arrival);
    }

    /// Advances time without a packet: gives up packets that were awaited too long. Call this
    /// regularly; every tenth of a second is often enough.
    pub fn advance(&mut self, now: Duration) {
        self.release(now);
        match &mut self.format {
            Format::H264(assembly) => assembly.advance(now, &mut self.delivery),
            Format::Vpx(assembly) => assembly.advance(now, &mut self.delivery),
            Format::Sound => {}
        }
    }

    /// Returns the next complete frame.
    pub fn pop(&mut self) -> Option<Frame> {
        self.delivery.pop()
    }

    /// Gives up all missing packets, so that every complete frame can be taken.
    pub fn flush(&mut self) {
        while let Some(released) = self.reorder.drain() {
            self.take(released);
        }
        match &mut self.format {
            Format::H264(assembly) => assembly.flush(&mut self.delivery),
            Format::Vpx(assembly) => assembly.flush(&mut self.delivery),
            Format::Sound => {}
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> &MediaStats {
        &self.delivery.stats
    }

    /// Returns whether nothing can be decoded before the next keyframe, so that one should be
    /// requested.
    #[must_use]
    pub fn needs_keyframe(&self) -> bool {
        self.delivery.lacks_keyframe()
    }

    /// Returns the SSRC of the current source.
    #[must_use]
    pub fn ssrc(&self) -> Option<u32> {
        self.source
    }

    /// Returns the number of bytes held for the incomplete frame.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        match &self.format {
            Format::H264(assembly) => assembly.bytes(),
            Format::Vpx(assembly) => assembly.bytes(),
            Format::Sound => 0,
        }
    }

    fn can_begin(&self, payload: &Bytes) -> bool {
        match &self.format {
            Format::H264(assembly) => assembly.can_begin(payload),
            Format::Vpx(assembly) => assembly.can_begin(payload),
            Format::Sound => true,
        }
    }

    fn accept_source(&mut self, ssrc: u32, arrival: Duration) -> bool {
        match self.source {
            Some(current) if current == ssrc => return true,
            Some(current) => {
                let straggler = self.previous_source.is_some_and(|(previous, left)| {
                    previous == ssrc && arrival.saturating_sub(left) < SOURCE_LINGER
                });
                if straggler {
                    return false;
                }
                self.flush();
                self.begin_epoch();
                self.previous_source = Some((current, arrival));
                self.delivery.stats.source_changes += 1;
            }
            None => {}
        }
        self.source = Some(ssrc);
        self.delivery.ssrc = ssrc;
        true
    }

    /// Begins a new epoch: the following packets are unrelated to the earlier ones, which were
    /// flushed.
    fn begin_epoch(&mut self) {
        match &mut self.format {
            Format::H264(assembly) => assembly.reset(),
            Format::Vpx(assembly) => assembly.reset(),
            Format::Sound => {}
        }
        self.reorder.reset();
        self.delivery.epoch = self.delivery.epoch.wrapping_add(1);
        self.delivery.need_keyframe();
    }

    fn release(&mut self, now: Duration) {
        while let Some(released) = self.reorder.release(now) {
            self.take(released);
        }
    }

    fn take(&mut self, released: Released<(Duration, Packet)>) {
        match released {
            Released::Gap(lost) => {
                self.delivery.stats.lost += lost;
                match &mut self.format {
                    Format::H264(assembly) => assembly.gap(&mut self.delivery),
                    Format::Vpx(assembly) => assembly.gap(&mut self.delivery),
                    Format::Sound => {}
                }
            }
            // A packet with only padding is a bandwidth probe that belongs to no frame.
            Released::Packet((_, packet)) if packet.payload.is_empty() => {}
            Released::Packet((arrival, packet)) => match &mut self.format {
                Format::H264(assembly) => assembly.packet(&packet, arrival, &mut self.delivery),
                Format::Vpx(assembly) => assembly.packet(&packet, arrival, &mut self.delivery),
                Format::Sound => self.delivery.sound(Picture {
                    rtp_timestamp: packet.header.timestamp,
                    arrival,
                    completed: arrival,
                    data: packet.payload,
                }),
            },
        }
    }
}
