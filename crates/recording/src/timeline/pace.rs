//! The pace at which the frames of a track arrive, for clocks that cannot be followed.

use std::collections::VecDeque;

/// The minimum number of frames for a pace, and the maximum number that is remembered.
const PACE_FRAMES: (usize, usize) = (8, 64);
/// An average deviation above the first is corrected; a single one above the second is a pause, and
/// ends the pace.
const PACE_DEVIATION_MS: (i64, i64) = (15, 500);
/// Above this deviation a step changes by at most half, below by at most a tenth.
const PACE_FAR_MS: i64 = 100;

/// The steady pace at which frames arrive, without the jitter of their arrival.
#[derive(Debug, Default)]
pub(super) struct Pace {
    arrivals: VecDeque<i64>,
    /// The average ticks by which arrival is later than the pace.
    late: i64,
    /// The last known ticks between two frames.
    interval: i64,
    /// Whether frames are placed at this pace already. If not, the next one is placed at its
    /// arrival, unless the pace gives nearly the same time.
    followed: bool,
    /// The number of next frames that the arrivals already contain.
    known: usize,
}

impl Pace {
    /// Creates the pace of a source from the arrivals of its first frames. With `followed`, the
    /// first of them is placed at its arrival and the others at the pace.
    pub(super) fn of(arrivals: VecDeque<i64>, followed: bool) -> Self {
        let known = arrivals.len().saturating_sub(1);
        let excess = arrivals.len().saturating_sub(PACE_FRAMES.1);
        let arrivals = arrivals.into_iter().skip(excess).collect();
        Self { arrivals, late: 0, interval: 0, followed, known }
    }

    /// The last known ticks between two frames; 0 before.
    pub(super) fn last_interval(&self) -> i64 {
        self.interval
    }

    /// Places the next frame at its arrival. With `anew`, the arrivals are discarded, since other
    /// frames than before will be counted.
    pub(super) fn leave(&mut self, anew: bool) {
        self.followed = false;
        if anew {
            self.arrivals.clear();
            self.known = 0;
        }
    }

    /// Adds the arrival of a frame.
    pub(super) fn arrived(&mut self, at: i64) {
        if self.known > 0 {
            self.known -= 1;
            return;
        }
        if self.arrivals.len() == PACE_FRAMES.1 {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back(at);
    }

    /// Returns the ticks between two frames, rounded to a whole number of frames a second if that
    /// is close.
    fn interval(&self, rate: i64) -> Option<i64> {
        let (first, last) = (self.arrivals.front()?, self.arrivals.back()?);
        let count = i64::try_from(self.arrivals.len()).ok()? - 1;
        if self.arrivals.len() < PACE_FRAMES.0 || last <= first {
            return None;
        }
        let interval = (last - first) / count;
        let per_second = (rate + interval / 2).checked_div(interval).filter(|count| *count > 0);
        let whole = per_second.map_or(interval, |count| rate / count);
        Some(if (whole - interval).abs() < interval / 25 { whole } else { interval })
    }

    /// Returns the step to a frame that arrived `elapsed` after the time of the one before it;
    /// `None` if there is no pace.
    pub(super) fn step(&mut self, elapsed: i64, rate: i64) -> Option<i64> {
        let interval = self.interval(rate)?;
        self.interval = interval;
        let late = elapsed - interval;
        if !std::mem::replace(&mut self.followed, true) {
            self.late = 0;
            // The arrival is close to the pace, so the frame is placed at the pace.
            return (late.abs() <= PACE_FAR_MS * rate / 1000).then_some(interval);
        }
        let (usual, most) = PACE_DEVIATION_MS;
        if late.abs() > (most * rate / 1000).max(2 * interval) {
            self.arrivals.drain(..self.arrivals.len() - 1);
            (self.late, self.followed) = (0, false);
            return None;
        }
        self.late += (late - self.late) / 8;
        let correction = if self.late.abs() > usual * rate / 1000 { self.late / 4 } else { 0 };
        let share = if late.abs() > PACE_FAR_MS * rate / 1000 { 2 } else { 10 };
        Some(interval + correction.clamp(-interval / share, interval / share))
    }
}
