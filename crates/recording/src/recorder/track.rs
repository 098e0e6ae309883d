//! One track of a recording: its frames' times and what waits to be written.

use std::collections::VecDeque;
use std::time::Duration;

use crate::mux::Sample;
use crate::timeline::TrackClock;
use encoded_frames::{
    AssemblerConfig, AudioCodec, Codec, Frame, FrameAssembler, VideoCodec, opus_packet_ticks,
};

/// A track of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackId(pub(crate) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Video,
    Audio,
}

#[derive(Debug)]
pub(super) struct Track {
    pub(super) codec: Codec,
    pub(super) assembler: FrameAssembler,
    /// Frames that were given whole.
    pub(super) incoming: VecDeque<Frame>,
    /// The source of the newest of them.
    source: Option<u32>,
    pub(super) clock: TrackClock,
    /// Frames with their times, until the file begins.
    pub(super) pending: VecDeque<(i64, Frame)>,
    /// The last frame: how long it lasts is known when the next one comes.
    pub(super) held: Option<Sample>,
    pub(super) last_duration: u32,
    /// The next frame begins no earlier.
    pub(super) earliest: u64,
    pub(super) written: u64,
}

impl Track {
    pub(super) fn new(codec: Codec, config: AssemblerConfig) -> Self {
        Self {
            codec,
            assembler: FrameAssembler::with_config(codec, config),
            incoming: VecDeque::new(),
            source: None,
            clock: TrackClock::new(codec.clock_rate()),
            pending: VecDeque::new(),
            held: None,
            last_duration: 0,
            earliest: 0,
            written: 0,
        }
    }

    pub(super) fn next_frame(&mut self) -> Option<(i64, Frame)> {
        let frame = self.incoming.pop_front().or_else(|| self.assembler.pop())?;
        self.source = Some(frame.ssrc);
        let ticks = self.clock.place(frame.epoch, frame.rtp_timestamp, frame.arrival);
        Some((ticks, frame))
    }

    /// The source whose media the track holds.
    pub(super) fn source(&self) -> Option<u32> {
        self.source.or_else(|| self.assembler.ssrc())
    }

    pub(super) fn nanos(&self, ticks: i64) -> i128 {
        i128::from(ticks) * 1_000_000_000 / i128::from(self.codec.clock_rate())
    }

    /// The file's ticks; `None` if the file begins later.
    pub(super) fn ticks_after(&self, base_nanos: i128, ticks: i64) -> Option<u64> {
        let base = base_nanos * i128::from(self.codec.clock_rate()) / 1_000_000_000;
        u64::try_from(i128::from(ticks) - base).ok()
    }

    pub(super) fn time_of(kind: Kind, ticks: u64) -> Duration {
        time(ticks, kind.clock_rate())
    }

    /// How long the last sample lasts: what a packet of sound says, or as long as the picture before.
    pub(super) fn final_duration(&self, sample: &Sample) -> u32 {
        match self.codec {
            Codec::Audio(_) => opus_packet_ticks(&sample.data).unwrap_or(960),
            Codec::Video(_) if self.last_duration > 0 => self.last_duration,
            Codec::Video(_) => VideoCodec::CLOCK_RATE / 30,
        }
    }
}

impl Kind {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Video => Self::Audio,
            Self::Audio => Self::Video,
        }
    }

    pub(super) const fn clock_rate(self) -> u32 {
        match self {
            Self::Video => VideoCodec::CLOCK_RATE,
            Self::Audio => AudioCodec::CLOCK_RATE,
        }
    }
}

pub(super) fn time(ticks: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    Duration::from_secs(ticks / rate) + Duration::from_nanos(ticks % rate * 1_000_000_000 / rate)
}
