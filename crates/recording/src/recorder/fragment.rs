//! The fragments of a file: which frame goes into which, and how the file ends.

use std::path::Path;
use std::time::Duration;

use encoded_frames::Frame;

use super::order::Timed;
use super::track::{Kind, Track, time};
use super::{Recorder, Stage};
use crate::error::RecordError;
use crate::mux::{Finished, Muxer, Sample};
use crate::target::Target;

/// A frame waits so long for the next one of its track while the other track goes on.
const HELD_MAX: Duration = Duration::from_millis(1500);

/// Times in a cluster of Matroska reach 32.767 s beyond its beginning.
const SPAN_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Writing {
    pub(super) muxer: Box<dyn Muxer>,
    /// The place of each kind in the file's head.
    pub(super) video: Option<usize>,
    pub(super) audio: Option<usize>,
    /// The recording's time, in nanoseconds, at which the file's time is zero.
    pub(super) base_nanos: i128,
    pub(super) fragment: Vec<Vec<Sample>>,
    pub(super) fragment_bytes: usize,
    /// The earliest and the latest beginning of the fragment's samples.
    pub(super) span: Option<(Duration, Duration)>,
    /// When the last sample ends: of the fragment, and of what is in the file.
    pub(super) fragment_end: Duration,
    pub(super) end: Duration,
}

impl Writing {
    pub(super) fn place(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
        }
    }
}

impl Recorder {
    /// Puts a frame after the one before it, which can now go into the fragment.
    pub(super) fn write_frame(
        &mut self,
        kind: Kind,
        timed: Timed<Frame>,
    ) -> Result<(), RecordError> {
        self.describe_late_track(kind, &timed)?;
        let Stage::Writing(writing) = &self.stage else { return Ok(()) };
        if writing.place(kind).is_none() {
            return Ok(());
        }
        let (base_nanos, live) = (writing.base_nanos, self.live);
        let track = self.track(kind)?;
        // Nothing is shown or sounds before the first picture.
        let Some(sample) = track.sample(base_nanos, timed) else { return Ok(()) };
        if live {
            let sample = track.without_waiting(sample);
            self.store(kind, sample)?;
            return self.write_fragment();
        }
        let Some(held) = track.hold(sample) else { return Ok(()) };
        self.write_sample(kind, held)
    }

    /// Adds a track whose first frame came after the file began.
    fn describe_late_track(&mut self, kind: Kind, first: &Timed<Frame>) -> Result<(), RecordError> {
        let track = match kind {
            Kind::Video => &self.video,
            Kind::Audio => &self.audio,
        };
        let (Some(track), Stage::Writing(writing)) = (track, &mut self.stage) else {
            return Ok(());
        };
        if writing.place(kind).is_some() || !first.frame.keyframe {
            return Ok(());
        }
        let patches = match writing.muxer.add_track(&track.spec(first)) {
            Ok(patches) => patches,
            Err(RecordError::TrackTooLate(codec)) => {
                tracing::debug!(%codec, "no room for a track in the recording's head");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for patch in patches {
            self.target
                .patch(patch.offset, &patch.bytes)
                .map_err(|error| RecordError::io(&self.path, error))?;
        }
        let added = writing.fragment.len();
        writing.fragment.push(Vec::new());
        match kind {
            Kind::Video => writing.video = Some(added),
            Kind::Audio => writing.audio = Some(added),
        }
        Ok(())
    }

    fn write_sample(&mut self, kind: Kind, sample: Sample) -> Result<(), RecordError> {
        let begin = self.time_of(kind, sample.shown);
        self.release_held(kind.other(), begin.saturating_sub(HELD_MAX))?;
        self.store(kind, sample)
    }

    /// Whether a sample is one too many: by the fragment's bytes, by the length of its own track in
    /// it, or because it is too far from the other track's.
    fn is_fragment_full(&self, kind: Kind, begin: Duration, bytes: usize) -> bool {
        let Stage::Writing(writing) = &self.stage else { return false };
        let Some((earliest, latest)) = writing.span else { return false };
        let own = writing.place(kind).and_then(|at| writing.fragment.get(at)?.first());
        let own = own.map_or(begin, |sample| self.time_of(kind, sample.shown));
        begin.saturating_sub(own) >= self.config.fragment_duration
            || writing.fragment_bytes + bytes > self.config.fragment_bytes_max
            || latest.max(begin).saturating_sub(earliest.min(begin)) > SPAN_MAX
    }

    /// Puts a sample into the fragment, or into the next one if it does not fit.
    fn store(&mut self, kind: Kind, sample: Sample) -> Result<(), RecordError> {
        let begin = self.time_of(kind, sample.shown);
        let end = self.time_of(kind, sample.shown + u64::from(sample.duration));
        if self.is_fragment_full(kind, begin, sample.data.len()) {
            self.write_fragment()?;
        }
        let Stage::Writing(writing) = &mut self.stage else { return Ok(()) };
        let Some(samples) = writing.place(kind).and_then(|at| writing.fragment.get_mut(at)) else {
            return Ok(());
        };
        writing.fragment_bytes += sample.data.len();
        samples.push(sample);
        let (earliest, latest) = writing.span.unwrap_or((begin, begin));
        writing.span = Some((earliest.min(begin), latest.max(begin)));
        writing.fragment_end = writing.fragment_end.max(end);
        if let Some(track) = self.slot(kind) {
            track.written += 1;
        }
        Ok(())
    }

    /// Does not let a frame wait for the next one of its track any longer if it is older than
    /// `before`: the track may have paused.
    pub(super) fn release_held(&mut self, kind: Kind, before: Duration) -> Result<(), RecordError> {
        let shown = self.slot(kind).as_ref().and_then(|track| Some(track.held.as_ref()?.shown));
        let is_old = shown.is_some_and(|shown| self.time_of(kind, shown) < before);
        let sample = self.slot(kind).as_mut().filter(|_| is_old).and_then(Track::release);
        sample.map_or(Ok(()), |sample| self.store(kind, sample))
    }

    fn time_of(&self, kind: Kind, ticks: u64) -> Duration {
        let track = match kind {
            Kind::Video => &self.video,
            Kind::Audio => &self.audio,
        };
        track.as_ref().map_or(Duration::ZERO, |track| time(ticks, track.codec.clock_rate()))
    }

    pub(super) fn write_fragment(&mut self) -> Result<(), RecordError> {
        let offset = self.target.length();
        let Stage::Writing(writing) = &mut self.stage else { return Ok(()) };
        if writing.fragment.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let bytes = writing.muxer.fragment(offset, &writing.fragment)?;
        for samples in &mut writing.fragment {
            samples.clear();
        }
        writing.fragment_bytes = 0;
        writing.span = None;
        append(&mut *self.target, &self.path, &bytes)?;
        writing.end = writing.fragment_end;
        self.fragments += 1;
        Ok(())
    }
}

/// Adds the index and the durations. What is answered is whether there was room for the index;
/// without it the file plays too.
pub(super) fn end_file(
    muxer: &mut dyn Muxer,
    target: &mut dyn Target,
    path: &Path,
    duration: Duration,
) -> Result<Result<(), RecordError>, RecordError> {
    let io = |error| RecordError::io(path, error);
    let end = target.length();
    let index = muxer.index(end)?;
    let indexed = append(target, path, &index);
    let finished = Finished {
        length: target.length(),
        index_at: (indexed.is_ok() && !index.is_empty()).then_some(end),
        duration,
    };
    for patch in muxer.patches(&finished)? {
        target.patch(patch.offset, &patch.bytes).map_err(io)?;
    }
    target.sync().map_err(io)?;
    Ok(indexed)
}

pub(super) fn append(
    target: &mut dyn Target,
    path: &Path,
    bytes: &[u8],
) -> Result<(), RecordError> {
    target.append(bytes).map_err(|error| RecordError::io(path, error))
}
