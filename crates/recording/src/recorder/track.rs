//! One track of a recording: its frames' times and what waits to be written.

use std::collections::VecDeque;
use std::time::Duration;

use encoded_frames::{AssemblerConfig, Codec, Frame, FrameAssembler, VideoCodec};

use crate::mux::{Sample, TrackSpec};
use crate::picture_order::{Depth, Order, PictureOrder};
use crate::recorder::order::{Presentation, Timed};
use crate::timeline::TrackClock;

/// The clock of a new source is examined before its first frame gets its time: during the first
/// second and for at most `LOOK_FRAMES_MAX` frames, unless the clock looks sane earlier.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_FRAMES_MAX: usize = 256;

/// The maximum number of bytes of all frames that wait for their times.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The maximum time for which pictures wait for others that are presented before them.
const REORDER_WAIT: Duration = Duration::from_millis(1500);

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
    /// For how long the first frames of a source are looked at.
    look: Duration,
    pub(super) assembler: FrameAssembler,
    /// The source of the newest frame.
    source: Option<u32>,
    pub(super) clock: TrackClock,
    pictures: PictureOrder,
    presentation: Presentation<Frame>,
    last_arrival: Duration,
    /// The source with the examined clock, and the first frames of one with an unexamined clock.
    known_epoch: Option<u32>,
    unplaced: VecDeque<(Frame, Option<Order>)>,
    /// Whether another source began, and its first frames still wait.
    pub(super) source_changed: bool,
    /// The number of bytes of the frames that have no time yet.
    waiting_bytes: usize,
    /// The frames that have their times, until the file begins.
    pub(super) pending: VecDeque<Timed<Frame>>,
    /// The last frame; its duration is known when the next one arrives.
    pub(super) held: Option<Sample>,
    last_duration: u32,
    /// The earliest decoding time of the next frame, in ticks.
    earliest: i64,
    pub(super) written: u64,
}

impl Track {
    /// With `live` no frame waits for those that come after it, but by the order of showing.
    pub(super) fn new(codec: Codec, config: AssemblerConfig, live: bool) -> Self {
        let clock = TrackClock::new(codec.clock_rate());
        Self {
            codec,
            look: if live { Duration::ZERO } else { LOOK },
            assembler: FrameAssembler::with_config(codec, config),
            source: None,
            presentation: Presentation::new(clock.step_min()),
            clock,
            pictures: PictureOrder::new(),
            last_arrival: Duration::ZERO,
            known_epoch: None,
            unplaced: VecDeque::new(),
            source_changed: false,
            waiting_bytes: 0,
            pending: VecDeque::new(),
            held: None,
            last_duration: 0,
            earliest: i64::MIN,
            written: 0,
        }
    }

    /// Accepts the next frame in decoding order.
    pub(super) fn accept(&mut self, frame: Frame) {
        (self.last_arrival, self.source) = (frame.arrival, Some(frame.ssrc));
        if self.unplaced.front().is_some_and(|(first, _)| first.epoch != frame.epoch) {
            self.place_first();
        }
        let order = match self.codec {
            Codec::Video(VideoCodec::H264) => self.pictures.picture(&frame),
            Codec::Video(VideoCodec::Vp8 | VideoCodec::Vp9) | Codec::Audio(_) => None,
        };
        self.waiting_bytes += frame.data.len();
        if self.known_epoch == Some(frame.epoch) {
            self.place(frame, order);
        } else {
            self.source_changed |= self.unplaced.is_empty() && self.known_epoch.is_some();
            self.unplaced.push_back((frame, order));
            if self.look.is_zero() || self.clock.looks_sane(&self.in_order()) {
                self.place_first();
            }
        }
        let too_many = self.waiting_bytes > WAITING_BYTES_MAX;
        if too_many || self.unplaced.len() >= LOOK_FRAMES_MAX {
            self.place_first();
        }
        if too_many {
            self.presentation.release_all();
        }
    }

    /// The timestamps and arrivals of the frames that wait, without those that are sent later than
    /// shown: they do not describe the clock.
    fn in_order(&self) -> Vec<(u32, Duration)> {
        let mut first = Vec::with_capacity(self.unplaced.len());
        let mut latest = None;
        for (frame, order) in &self.unplaced {
            if order.is_none() || *order > latest {
                latest = *order;
                first.push((frame.rtp_timestamp, frame.arrival));
            }
        }
        first
    }

    /// Assigns times to the first frames of a source, now that its clock was examined.
    fn place_first(&mut self) {
        let first = self.in_order();
        let arrivals: Vec<Duration> =
            self.unplaced.iter().map(|(frame, _)| frame.arrival).collect();
        let Some((begin, _)) = self.unplaced.front() else { return };
        self.known_epoch = Some(begin.epoch);
        self.clock.prepare(&arrivals, &first);
        for (frame, order) in std::mem::take(&mut self.unplaced) {
            self.place(frame, order);
        }
    }

    fn place(&mut self, frame: Frame, order: Option<Order>) {
        let (epoch, timestamp) = (frame.epoch, frame.rtp_timestamp);
        let depth = if order.is_some() { self.pictures.depth() } else { Depth::Known(0) };
        let reordered = if self.presentation.is_reordered(order) {
            self.clock.place_reordered(epoch, timestamp)
        } else {
            None
        };
        let time = reordered.unwrap_or_else(|| {
            let allowance = self.presentation.allowance();
            self.clock.place(epoch, timestamp, frame.arrival, allowance)
        });
        self.presentation.push(frame, order, depth, time);
    }

    /// Returns the next frame, once its times are known.
    pub(super) fn next_frame(&mut self, now: Duration) -> Option<Timed<Frame>> {
        if self.unplaced.front().is_some_and(|(f, _)| now.saturating_sub(f.arrival) >= self.look) {
            self.place_first();
        }
        if now.saturating_sub(self.last_arrival) > REORDER_WAIT {
            self.presentation.release_all();
        }
        let timed = self.presentation.pop()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(timed.frame.data.len());
        Some(timed)
    }

    /// Assigns times to all frames without waiting for further pictures.
    pub(super) fn release_all(&mut self) {
        self.place_first();
        self.presentation.release_all();
    }

    /// The description of this track for the head of a file, by its first frame.
    pub(super) fn spec(&self, first: &Timed<Frame>) -> TrackSpec {
        TrackSpec {
            codec: self.codec,
            size: first.frame.size,
            parameter_sets: first.frame.parameter_sets.clone(),
            colour: self.pictures.colour(),
            lead: u32::try_from(first.shown - first.decoded).unwrap_or(0),
        }
    }

    /// Converts the frame to a sample of the file, which begins at `base_nanos`; `None` if the
    /// frame is presented before that.
    pub(super) fn sample(&mut self, base_nanos: i128, timed: Timed<Frame>) -> Option<Sample> {
        let rate = i128::from(self.codec.clock_rate());
        let base = i64::try_from((base_nanos * rate).div_euclid(1_000_000_000)).ok()?;
        let shown = u64::try_from(timed.shown - base).ok()?;
        // Decoding times in a file must rise, and none may precede that of the first frame.
        let decoded = (timed.decoded - base).max(self.earliest);
        self.earliest = decoded + 1;
        let Frame { keyframe, data, .. } = timed.frame;
        Some(Sample { shown, decoded, duration: 0, keyframe, data })
    }

    /// Holds a sample, and returns the one held before, with its duration.
    pub(super) fn hold(&mut self, sample: Sample) -> Option<Sample> {
        let decoded = sample.decoded;
        let mut before = self.held.replace(sample)?;
        before.duration = u32::try_from(decoded - before.decoded).unwrap_or(u32::MAX);
        self.last_duration = before.duration;
        Some(before)
    }

    /// A sample whose duration is a guess, so that it waits for no other.
    pub(super) fn without_waiting(&self, sample: Sample) -> Sample {
        Sample { duration: self.final_duration(&sample), ..sample }
    }

    /// Returns the held sample, which no other follows.
    pub(super) fn release(&mut self) -> Option<Sample> {
        let mut sample = self.held.take()?;
        sample.duration = self.final_duration(&sample);
        Some(sample)
    }

    /// The SSRC of the track's newest frame.
    pub(super) fn source(&self) -> Option<u32> {
        self.source
    }

    pub(super) fn nanos(&self, ticks: i64) -> i128 {
        (i128::from(ticks) * 1_000_000_000).div_euclid(i128::from(self.codec.clock_rate()))
    }

    /// How long the last sample lasts: the duration of an audio packet, or that of the previous
    /// picture.
    fn final_duration(&self, sample: &Sample) -> u32 {
        match self.codec {
            Codec::Audio(codec) => {
                codec.packet_ticks(&sample.data).unwrap_or(codec.clock_rate() / 50)
            }
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
}

pub(super) fn time(ticks: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    Duration::from_secs(ticks / rate) + Duration::from_nanos(ticks % rate * 1_000_000_000 / rate)
}
