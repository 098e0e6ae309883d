//! Measures the delay of the path, and whether frames arrive regularly.
//!
//! A frame can be late for many reasons, but never early, so the least delay within a window
//! counts. While frames arrive regularly, a window of a second suffices. After a stall or with much
//! jitter it must be several seconds.

use std::collections::VecDeque;
use std::time::Duration;

/// A frame interval that differs from the timestamps by at most this may be jitter.
pub(super) const TOLERANCE_MS: i64 = 12;
/// The length of the window: while frames arrive regularly, and while they do not.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOW_IRREGULAR: Duration = Duration::from_secs(5);
/// The minimum and the maximum number of frames in the window.
const WINDOW_FRAMES: (usize, usize) = (8, 1024);
/// A delay that decreases by this much within the window has not settled.
const SETTLED_MS: i64 = 4;

/// Tracks whether frames arrive regularly.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// The usual ticks between two frames.
    usual: Option<i64>,
    /// When a frame last arrived irregularly.
    irregular: Option<Duration>,
}

impl Arrival {
    /// Resets the usual interval for another source; keeps the irregularity, since the path may be
    /// the same.
    pub(super) fn begin(&mut self) {
        self.usual = None;
    }

    /// Updates the usual interval with the ticks between the next frame and the one before it.
    pub(super) fn next(&mut self, elapsed: i64) {
        let usual = self.usual.unwrap_or(elapsed);
        self.usual = Some(usual + (elapsed.min(2 * usual.max(1)) - usual) / 8);
    }

    /// The usual ticks between two frames; `None` before there were two.
    pub(super) fn usual(&self) -> Option<i64> {
        self.usual
    }

    /// Records that a frame arrived irregularly.
    pub(super) fn irregular(&mut self, now: Duration) {
        self.irregular = Some(now);
    }

    /// Whether a frame arrived irregularly so recently that a short window is unreliable.
    pub(super) fn is_irregular(&self, now: Duration) -> bool {
        self.was_irregular(now, WINDOW_IRREGULAR)
    }

    /// Whether a frame arrived irregularly within this time.
    pub(super) fn was_irregular(&self, now: Duration, within: Duration) -> bool {
        self.irregular.is_some_and(|at| now.saturating_sub(at) <= within)
    }
}

#[derive(Debug, Clone, Copy)]
struct Observed {
    arrival: Duration,
    /// Arrival less the timestamp, and less the timestamp at the learnt rate.
    raw: i64,
    scaled: i64,
}

/// The delay of the path by the last frames, in ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delay {
    /// The least delay.
    pub(super) least: i64,
    /// The average by which the other delays are above it, measured in each quarter of the window.
    pub(super) spread: i64,
    /// Whether the delay is known for long enough, and no frames that a stall held back are still
    /// arriving.
    pub(super) settled: bool,
    /// Whether frames arrived irregularly.
    pub(super) irregular: bool,
}

/// The delays of the last frames, in ticks.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Observed>);

impl Window {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, arrival: Duration, raw: i64, scaled: i64) {
        self.0.push_back(Observed { arrival, raw, scaled });
        let old = |seen: &Observed| arrival.saturating_sub(seen.arrival) > WINDOW_IRREGULAR;
        while self.0.len() > WINDOW_FRAMES.1
            || (self.0.len() > WINDOW_FRAMES.0 && self.0.front().is_some_and(old))
        {
            self.0.pop_front();
        }
    }

    /// Returns the delay of the last frame, by the timestamp at the learnt rate.
    pub(super) fn latest(&self) -> Option<i64> {
        self.0.back().map(|seen| seen.scaled)
    }

    /// Returns the least delay, by the original timestamps.
    pub(super) fn least_raw(&self, arrival: &Arrival) -> Option<i64> {
        self.part(arrival).0.map(|seen| seen.raw).min()
    }

    /// Returns the delay by the timestamps at the learnt rate.
    pub(super) fn delay(&self, arrival: &Arrival, jitter: i64, rate: i64) -> Option<Delay> {
        let (part, irregular) = self.part(arrival);
        let count = part.len();
        let (first, last) = (part.clone().next()?, part.clone().next_back()?);
        let least = |seen: &Observed| seen.scaled;
        let before = part.clone().take(count / 2).map(least).min().unwrap_or(first.scaled);
        let after = part.clone().skip(count / 2).map(least).min()?;
        let span = last.arrival.saturating_sub(first.arrival);
        let long = if irregular { WINDOW_IRREGULAR * 3 / 4 } else { WINDOW / 2 };
        let ticks = i64::try_from(span.as_millis()).unwrap_or(i64::MAX / rate) * rate / 1000;
        let catches_up = first.scaled - last.scaled > ticks / 10 && !irregular
            || before - after > SETTLED_MS * rate / 1000 + jitter / 4;
        let settled = span >= long && count >= 3 && !catches_up;
        let least = before.min(after);
        let spread = self.spread(self.0.len() - count);
        Some(Delay { least, spread, settled, irregular })
    }

    /// Returns the average by which the delays from this frame on are above the least one, quarter
    /// by quarter, so that a drifting clock has little influence.
    fn spread(&self, from: usize) -> i64 {
        let count = self.0.len() - from;
        let quarter =
            |index: usize| self.0.range(from + count * index / 4..from + count * (index + 1) / 4);
        let above = (0..4).map(|index| {
            let least = quarter(index).map(|seen| seen.scaled).min().unwrap_or(0);
            quarter(index).map(|seen| i128::from(seen.scaled - least)).sum::<i128>()
        });
        let spread = above.sum::<i128>() / i128::try_from(count).unwrap_or(1).max(1);
        i64::try_from(spread).unwrap_or(i64::MAX / 4)
    }

    /// Returns the frames in the window, and whether they arrived irregularly.
    fn part(
        &self,
        arrival: &Arrival,
    ) -> (impl DoubleEndedIterator<Item = &Observed> + ExactSizeIterator + Clone, bool) {
        let now = self.0.back().map_or(Duration::ZERO, |seen| seen.arrival);
        let irregular = arrival.is_irregular(now);
        let window = if irregular { WINDOW_IRREGULAR } else { WINDOW };
        let old = |seen: &Observed| now.saturating_sub(seen.arrival) > window;
        let from = self.0.iter().rposition(old).map_or(0, |at| at + 1);
        (self.0.range(from.min(self.0.len().saturating_sub(WINDOW_FRAMES.0))..), irregular)
    }
}
