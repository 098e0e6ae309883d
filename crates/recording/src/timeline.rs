//! Converts RTP timestamps to the recording's time, and synchronises the two tracks.
//!
//! RTP timestamps give the time between two frames; the least delay of arrival gives the rate. The
//! timeline follows a clock that agrees with it to the tick, regardless of jitter and of stalls of
//! the network or this machine. It corrects a drifting clock a little with each frame, and
//! replaces a clock that stands still, steps back, jumps or runs at another rate by arrival. Sender
//! reports show how far the two tracks are apart, as long as they agree with the media they
//! describe, and which clocks need no correction.

mod delay;
mod pace;
mod sync;
mod trust;

use std::collections::VecDeque;
use std::time::Duration;

use delay::{Arrival, Window};
use pace::Pace;
pub(crate) use sync::{can_synchronise, synchronise};
use trust::{FirstReport, TRUST_EXPIRY, Trusted};

/// The clocks of a stream, as an RTCP sender report gives them (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The SSRC of the stream that the report describes.
    pub ssrc: u32,
    /// The sender's wall clock: seconds since 1900 in the upper half, the fraction in the lower.
    pub ntp: u64,
    /// The same moment in the stream's RTP timestamps.
    pub rtp_timestamp: u32,
}

/// Two frames of a track are at least this far apart, so that they differ in milliseconds too.
const STEP_MIN_MS: i64 = 1;
/// A timestamp ahead of arrival by this much more than the one before it has jumped; the limit
/// rises with the variation of arrival.
const JUMP_MS: i64 = 300;
/// The maximum time by which a frame is placed ahead of its arrival.
const AHEAD_MAX_MS: i64 = 500;
/// A clock that stays behind arrival by more than this has stood still or jumped back.
const BEHIND_MAX_MS: i64 = 250;
/// B-frames step back by less than this.
const REORDER_MAX_MS: i64 = 3_000;
/// A deviation above the first of these is corrected, until it is below the second.
const DEVIATION_MS: (i64, i64) = (15, 3);
/// Pictures are corrected in one step, so that all others stay evenly spaced: when they are behind
/// by more than the first of these; when they are ahead by more than the second the first time,
/// since the path of a source may become quicker, and by more than the third after that. Audio is
/// corrected with each packet.
const PICTURE_RATE: i64 = 90_000;
const PICTURE_MS: (i64, i64, i64) = (20, 120, 25);
/// A correction of audio takes about half a second, and changes a step by a fifth at most.
const GAIN_PER_SECOND: i64 = 2;
const CORRECTION_MAX_DIVISOR: i64 = 5;
/// How fast the error of the clock's rate is learnt, and the largest error that is learnt, in
/// millionths.
const DRIFT_GAIN: i64 = 40_000;
const DRIFT_MAX: i64 = 50_000;
/// A clock runs at another rate if it is off by more than `FAR_MS` after a correction of `FAR_MAX`,
/// or if it was corrected by more than `FAR_PERCENT` of that time.
const FAR_MS: i64 = 30;
const FAR_PERCENT: i64 = 6;
const FAR_MAX: Duration = Duration::from_secs(5);
/// For this long after an irregular arrival the network may cause a lasting delay: it is corrected
/// with each frame, not at once.
const UNSETTLED: Duration = Duration::from_secs(20);
/// Arrival replaces the clock after this many faults within this time.
const FAULTS_MAX: u32 = 3;
const FAULTS_WITHIN: Duration = Duration::from_secs(10);
/// A clock that is off by more than a fifth in this many such periods in a row runs at another
/// rate: the first number for a new source, the second for one that was right before.
const RATE_PERIOD: Duration = Duration::from_millis(500);
const RATE_PERIODS: (u32, u32) = (2, 4);
/// The factor for the number of periods while arrival is irregular.
const RATE_PERIODS_IRREGULAR: u32 = 3;
/// A clock at another rate is off by more than this after such a period.
const RATE_DEVIATION_MS: i64 = 100;
/// A clock that agrees with arrival for this long is followed again.
const RECOVERY: Duration = Duration::from_secs(5);

/// The number of timestamps that are remembered, to recognise one that a report repeats.
const RECENT: usize = 32;
/// The clock of a source is sane if this many first frames over this time all arrive in time.
const SANE_FRAMES: usize = 5;
const SANE_SPAN: Duration = Duration::from_millis(250);

/// Computes the time of one track, in ticks of its RTP clock. The caller supplies arrival times.
#[derive(Debug)]
pub(crate) struct TrackClock {
    rate: i64,
    last: Option<Last>,
    /// The ticks by which this track is delayed beyond its arrival, to be synchronised with the
    /// other.
    delay: i64,
    /// The time of a frame is its timestamp, unwrapped and at the learnt rate, plus this.
    offset: i64,
    /// The error of the clock's rate, in millionths: positive for a slow clock.
    drift: i64,
    correcting: bool,
    /// Since when the clock was off by too much, or since when it was corrected by `corrected`.
    far_since: Option<Duration>,
    corrected: i64,
    /// Whether pictures were ahead of arrival, and were corrected.
    was_ahead: bool,
    /// How much the difference of timestamps and arrival varies from frame to frame.
    jitter: i64,
    window: Window,
    arrival: Arrival,
    /// The usual ticks between two frames, by their timestamps.
    usual_step: i64,
    by_arrival: bool,
    pace: Pace,
    /// The start of the next source.
    start: Option<Start>,
    faults: (u32, Duration),
    period: Period,
    /// The number of periods in which the rate was right.
    right: u32,
    /// The last timestamps, and whether pictures were sent in another order than they are
    /// presented.
    recent: VecDeque<u32>,
    is_reordered: bool,
    report: Option<SenderReport>,
    first_report: Option<FirstReport>,
    trusted: Option<Trusted>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    epoch: u32,
    rtp_timestamp: u32,
    arrival: Duration,
    /// The timestamp, unwrapped.
    ticks: i64,
    /// The same at the learnt rate.
    scaled: i64,
    time: i64,
}

/// The period over which the clock's rate is checked, and the number of consecutive wrong ones
/// before it.
#[derive(Debug, Clone, Copy, Default)]
struct Period {
    began: Duration,
    ticks: i64,
    wrong: u32,
}

/// The properties of a source's clock that its first frames show.
#[derive(Debug)]
struct Start {
    /// The ticks by which the first frame was later than the others.
    late: i64,
    by_arrival: bool,
    arrivals: VecDeque<i64>,
}

impl TrackClock {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: i64::from(rate.max(1)),
            last: None,
            delay: 0,
            offset: 0,
            drift: 0,
            correcting: false,
            far_since: None,
            corrected: 0,
            was_ahead: false,
            jitter: 0,
            window: Window::default(),
            arrival: Arrival::default(),
            usual_step: 0,
            by_arrival: false,
            pace: Pace::default(),
            start: None,
            faults: (0, Duration::ZERO),
            period: Period::default(),
            right: 0,
            recent: VecDeque::new(),
            is_reordered: false,
            report: None,
            first_report: None,
            trusted: None,
        }
    }

    /// Whether the first frames of a source, in sending order, all arrived at the intervals of
    /// their timestamps, so that its clock needs no further examination.
    pub(crate) fn looks_sane(&self, first: &[(u32, Duration)]) -> bool {
        let (Some(begin), Some(end)) = (first.first(), first.last()) else { return false };
        let tolerance = self.millis(delay::TOLERANCE_MS);
        // After irregular arrival, all of them may be late by the same time.
        !self.arrival.is_irregular(end.1)
            && first.len() >= SANE_FRAMES
            && end.1.saturating_sub(begin.1) >= SANE_SPAN
            && first.windows(2).all(|pair| {
                let step = signed_step(pair[0].0, pair[1].0);
                let elapsed = self.ticks(pair[1].1) - self.ticks(pair[0].1);
                step > 0 && (step - elapsed).abs() <= tolerance.min(step / 2)
            })
            && {
                let steps = signed_step(begin.0, end.0);
                let elapsed = self.ticks(end.1) - self.ticks(begin.1);
                (steps - elapsed).abs() <= tolerance + elapsed / 20
            }
    }

    /// Examines the first frames of a source, in sending order, before the first of them is placed:
    /// the arrivals of all, and the timestamps of those that are not sent later than presented.
    pub(crate) fn prepare(&mut self, arrivals: &[Duration], first: &[(u32, Duration)]) {
        let Some(&(begin, _)) = first.first() else { return };
        let mut ticks = 0;
        let mut last = begin;
        let mut frames = Vec::with_capacity(first.len());
        let mut faults = 0;
        for &(timestamp, arrival) in first {
            let step = signed_step(last, timestamp);
            let elapsed = frames.last().map_or(0, |&(_, at): &(i64, i64)| self.ticks(arrival) - at);
            let jumps = step - elapsed > self.rate * 2;
            faults += u32::from(!frames.is_empty() && (step <= 0 || jumps));
            ticks += step;
            last = timestamp;
            frames.push((ticks, self.ticks(arrival)));
        }
        // Another rate shows in all parts, and only while frames arrive regularly: frames that the
        // network or this machine held back arrive irregularly.
        let intervals = || frames.windows(2).map(|pair| pair[1].1 - pair[0].1);
        let count = i64::try_from(frames.len()).unwrap_or(i64::MAX) - 1;
        let usual = intervals().sum::<i64>() / count.max(1);
        let is_regular = intervals().all(|interval| self.is_regular(interval, usual));
        let begin_at = frames.first().map_or(0, |(_, at)| *at);
        let span = frames.last().map_or(0, |(_, at)| at - begin_at);
        // The rate is checked in each half, or in each quarter if there are enough frames.
        let parts: i64 = if frames.len() < 12 { 2 } else { 4 };
        let upto =
            |part: i64| frames.partition_point(|(_, at)| at - begin_at <= span * part / parts);
        let part =
            |index: i64| frames.get(upto(index).saturating_sub(1)..upto(index + 1)).unwrap_or(&[]);
        let is_wrong = |part: &[(i64, i64)]| {
            let (Some(from), Some(to)) = (part.first(), part.last()) else { return 0 };
            let error = (to.1 - from.1) - (to.0 - from.0);
            let limit = ((to.1 - from.1) / 5).max(self.millis(RATE_DEVIATION_MS) / 2);
            if error.abs() > limit { error.signum() } else { 0 }
        };
        let sign = is_wrong(part(0));
        let other_rate = sign != 0 && (1..parts).all(|index| is_wrong(part(index)) == sign);
        let by_arrival = faults >= FAULTS_MAX || (faults == 0 && is_regular && other_rate);
        let late = frames.iter().map(|(ticks, at)| at - ticks).min().unwrap_or(0);
        let late = frames.first().map_or(0, |(ticks, at)| at - ticks) - late;
        self.start = Some(Start {
            late: if by_arrival || faults > 0 { 0 } else { late },
            by_arrival,
            arrivals: arrivals.iter().map(|at| self.ticks(*at)).collect(),
        });
    }

    /// Returns when the frame with this timestamp is presented. `allowance` is how far arrival and
    /// timestamps of an intact clock may differ because pictures are sent in another order than
    /// presented; 0 for all other media.
    pub(crate) fn place(
        &mut self,
        epoch: u32,
        rtp_timestamp: u32,
        arrival: Duration,
        allowance: i64,
    ) -> i64 {
        self.remember(rtp_timestamp);
        let Some(last) = self.last.filter(|last| last.epoch == epoch) else {
            return self.begin(epoch, rtp_timestamp, arrival);
        };
        let step = signed_step(last.rtp_timestamp, rtp_timestamp);
        let elapsed = (self.ticks(arrival) - self.ticks(last.arrival)).max(0);
        let scaled_step = step + step * self.drift / 1_000_000;
        self.pace.arrived(self.ticks(arrival));
        let next = Last {
            epoch,
            rtp_timestamp,
            arrival,
            ticks: last.ticks + step,
            scaled: last.scaled + scaled_step,
            time: last.time,
        };
        if self.by_arrival {
            self.check_recovery(&last, &next);
            return self.go_on_by_arrival(next, elapsed);
        }
        let expected = next.scaled + self.offset;
        let ahead = expected - (self.ticks(arrival) + self.delay);
        let mismatch = (step - elapsed).abs();
        let is_late = mismatch > self.millis(delay::TOLERANCE_MS) + allowance;
        if is_late && self.arrival.usual().is_some_and(|usual| !self.is_regular(elapsed, usual)) {
            self.arrival.irregular(arrival);
        }
        self.arrival.next(elapsed);
        if self.trusted.is_some_and(|trusted| arrival.saturating_sub(trusted.since) > TRUST_EXPIRY)
        {
            self.trusted = None;
        }
        let jump = self.millis(JUMP_MS).max(6 * self.jitter) + allowance;
        let stands = step <= 0;
        let jumps = ahead > jump && step - elapsed > jump;
        // After a stall a frame may appear ahead only because the first frame was late.
        let is_ahead = ahead > self.millis(AHEAD_MAX_MS) + allowance
            && self.trusted.is_none()
            && !self.arrival.is_irregular(arrival);
        if stands || jumps || is_ahead {
            return self.fault(next, elapsed, None);
        }
        self.jitter += (mismatch.min(self.millis(JUMP_MS)) - self.jitter) / 16;
        let usual = if self.usual_step == 0 { step } else { self.usual_step };
        self.usual_step = usual + (step.min(2 * usual) - usual) / 8;
        self.observe(&next);
        if let Some(behind) = self.behind(arrival, allowance) {
            return self.fault(next, elapsed, Some(expected + behind));
        }
        let is_wrong = self.runs_at_another_rate(&next);
        if !is_wrong {
            self.correct(step, allowance);
        }
        if (is_wrong || self.is_far_for_long(arrival, allowance)) && self.trusted.is_none() {
            self.give_up_timestamps();
            self.period = Period { began: arrival, ticks: next.ticks, wrong: 0 };
            return self.go_on_by_arrival(next, elapsed);
        }
        let time = (next.scaled + self.offset).max(last.time + self.step_min());
        self.last = Some(Last { time, ..next });
        time
    }

    /// Returns when a picture is presented that was sent after pictures it precedes; `None` if its
    /// timestamp does not precede theirs.
    pub(crate) fn place_reordered(&mut self, epoch: u32, rtp_timestamp: u32) -> Option<i64> {
        let last = self.last.filter(|last| last.epoch == epoch && !self.by_arrival)?;
        let step = signed_step(last.rtp_timestamp, rtp_timestamp);
        let is_credible = step < 0 && -step <= self.millis(REORDER_MAX_MS);
        if !is_credible {
            return None;
        }
        self.is_reordered = true;
        self.remember(rtp_timestamp);
        Some(last.time + step)
    }

    fn remember(&mut self, rtp_timestamp: u32) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(rtp_timestamp);
    }

    fn begin(&mut self, epoch: u32, rtp_timestamp: u32, arrival: Duration) -> i64 {
        if self.last.is_some() {
            // The other track's reports describe a source that has ended too, or the delay will be
            // measured again.
            self.delay = 0;
        }
        let start = self.start.take();
        let late = start.as_ref().map_or(0, |start| start.late);
        let by_arrival = self.ticks(arrival) + self.delay - late;
        // The first picture is at least half a step after the last one of the previous source.
        let step_min = if self.rate == PICTURE_RATE { self.usual_step / 2 } else { 0 };
        let step_min = step_min.max(self.step_min());
        let time = self.last.map_or(by_arrival, |last| by_arrival.max(last.time + step_min));
        self.last = Some(Last { epoch, rtp_timestamp, arrival, ticks: 0, scaled: 0, time });
        self.offset = time;
        (self.drift, self.correcting, self.jitter) = (0, false, 0);
        (self.far_since, self.corrected, self.was_ahead) = (None, 0, false);
        self.window.clear();
        self.arrival.begin();
        (self.usual_step, self.trusted) = (0, None);
        (self.by_arrival, self.faults) = (false, (0, Duration::ZERO));
        if let Some(start) = start {
            self.by_arrival = start.by_arrival;
            self.pace = Pace::of(start.arrivals, start.by_arrival);
        } else {
            self.pace = Pace::of(VecDeque::from([self.ticks(arrival)]), false);
        }
        (self.period, self.right) = (Period { began: arrival, ticks: 0, wrong: 0 }, 0);
        (self.report, self.first_report) = (None, None);
        if let Some(last) = self.last {
            self.observe(&last);
        }
        time
    }

    /// Handles a frame with an unusable timestamp: places it at `time`, or by its arrival.
    fn fault(&mut self, next: Last, elapsed: i64, time: Option<i64>) -> i64 {
        let (count, since) = self.faults;
        let recent = next.arrival.saturating_sub(since) < FAULTS_WITHIN;
        self.faults = if count > 0 && recent { (count + 1, since) } else { (1, next.arrival) };
        if self.faults.0 >= FAULTS_MAX {
            self.give_up_timestamps();
        }
        match time {
            Some(time) => self.go_on_at(next, time),
            None => {
                self.period = Period { began: next.arrival, ticks: next.ticks, wrong: 0 };
                let time = self.go_on_by_arrival(next, elapsed);
                if !self.by_arrival {
                    self.pace.leave(false);
                }
                time
            }
        }
    }

    fn give_up_timestamps(&mut self) {
        self.by_arrival = true;
        // Reordered pictures were not counted so far, so the pace starts again if there are any.
        self.pace.leave(self.is_reordered);
    }

    fn go_on_by_arrival(&mut self, next: Last, elapsed: i64) -> i64 {
        let by_arrival = self.ticks(next.arrival) + self.delay;
        // If the track is ahead of arrival, it advances at half speed until it no longer is.
        let slow = next.time + (elapsed.max(self.pace.last_interval()) / 2).max(self.step_min());
        let time = match self.pace.step(by_arrival - next.time, self.rate) {
            Some(step) => next.time + step,
            None => by_arrival.max(slow),
        };
        self.go_on_at(next, time)
    }

    fn go_on_at(&mut self, next: Last, time: i64) -> i64 {
        let time = time.max(next.time + self.step_min());
        self.offset = time - next.scaled;
        (self.correcting, self.far_since, self.corrected) = (false, None, 0);
        self.window.clear();
        (self.report, self.first_report, self.trusted) = (None, None, None);
        let last = Last { time, ..next };
        self.last = Some(last);
        self.observe(&last);
        time
    }

    fn observe(&mut self, frame: &Last) {
        let arrival = self.ticks(frame.arrival);
        self.window.push(frame.arrival, arrival - frame.ticks, arrival - frame.scaled);
    }

    /// Returns how far the clock is behind arrival; negative if it is ahead. If sender reports
    /// confirm the clock, returns how much delay is still to be applied.
    fn deviation(&self) -> Option<i64> {
        if let Some(trusted) = self.trusted {
            return Some(trusted.delay + self.delay - self.offset);
        }
        let delay = self.window.delay(&self.arrival, self.jitter, self.rate)?;
        let deviation = delay.least + self.delay - self.offset;
        (deviation <= 0 || delay.settled).then_some(deviation)
    }

    /// Returns the delay of the path, by the timestamps at the learnt rate.
    fn path_delay(&self) -> Option<i64> {
        let seen = || self.window.delay(&self.arrival, self.jitter, self.rate);
        self.trusted.map(|trusted| trusted.delay).or_else(|| seen().map(|delay| delay.least))
    }

    /// Returns how far the clock is behind arrival, if that is too much for a gradual correction.
    fn behind(&self, now: Duration, allowance: i64) -> Option<i64> {
        if self.trusted.is_some() || self.arrival.was_irregular(now, UNSETTLED) {
            return None;
        }
        self.deviation().filter(|&behind| behind > self.millis(BEHIND_MAX_MS) + allowance)
    }

    /// Whether the time since the previous frame is about as long as usual.
    fn is_regular(&self, elapsed: i64, usual: i64) -> bool {
        (elapsed - usual).abs() <= self.millis(delay::TOLERANCE_MS) + usual / 4
    }

    /// Returns the deviation that is not corrected; it rises with the variation of arrival.
    fn tolerated(&self, millis: i64, allowance: i64) -> i64 {
        let jitter = match self.window.delay(&self.arrival, self.jitter, self.rate) {
            Some(delay) if delay.irregular => 2 * delay.spread,
            Some(_) | None => self.jitter / 2,
        };
        self.millis(millis).max(jitter) + allowance
    }

    /// Corrects the clock by the delays in the window, a little with each step.
    fn correct(&mut self, step: i64, allowance: i64) {
        let Some(deviation) = self.deviation() else { return };
        if self.rate == PICTURE_RATE {
            let limit = match (deviation < 0, self.was_ahead) {
                (false, _) => PICTURE_MS.0,
                (true, false) => PICTURE_MS.1,
                (true, true) => PICTURE_MS.2,
            };
            if deviation.abs() > self.tolerated(limit, allowance) {
                self.was_ahead |= deviation < 0;
                let correction = deviation.clamp(-step / 2, step);
                self.offset += correction;
                self.corrected += correction;
            }
            return;
        }
        let limit = if self.correcting { DEVIATION_MS.1 } else { DEVIATION_MS.0 };
        self.correcting = deviation.abs() > self.tolerated(limit, allowance);
        if !self.correcting {
            return;
        }
        let most = step / CORRECTION_MAX_DIVISOR;
        let correction = (deviation * GAIN_PER_SECOND * step / self.rate).clamp(-most, most);
        self.offset += correction;
        let learnt = i128::from(deviation) * i128::from(step) * i128::from(DRIFT_GAIN)
            / (i128::from(self.rate) * i128::from(self.rate));
        let learnt = i64::try_from(learnt).unwrap_or(0).clamp(-DRIFT_MAX, DRIFT_MAX);
        self.drift = (self.drift + learnt).clamp(-DRIFT_MAX, DRIFT_MAX);
    }

    /// Whether corrections have failed for too long to bring the clock in line with arrival.
    fn is_far_for_long(&mut self, now: Duration, allowance: i64) -> bool {
        let irregular = self.arrival.was_irregular(now, UNSETTLED);
        let far_max = if irregular { UNSETTLED } else { FAR_MAX };
        if self.rate == PICTURE_RATE {
            let elapsed = now.saturating_sub(*self.far_since.get_or_insert(now));
            if elapsed <= far_max {
                return false;
            }
            self.far_since = Some(now);
            let corrected = std::mem::take(&mut self.corrected);
            return corrected.abs() > self.ticks(elapsed) * FAR_PERCENT / 100 + allowance;
        }
        let far = self.tolerated(FAR_MS, allowance);
        if self.deviation().is_none_or(|deviation| deviation.abs() <= far) {
            self.far_since = None;
            return false;
        }
        now.saturating_sub(*self.far_since.get_or_insert(now)) > far_max
    }

    fn runs_at_another_rate(&mut self, next: &Last) -> bool {
        let elapsed = next.arrival.saturating_sub(self.period.began);
        if elapsed < RATE_PERIOD {
            return false;
        }
        let Some(latest) = self.window.latest() else { return false };
        // Frames that arrive faster after a stall make up for the lost time; they are not ahead.
        let behind = latest + self.delay - self.offset;
        let (elapsed, advance) = (self.ticks(elapsed), next.ticks - self.period.ticks);
        let error = elapsed - advance;
        // After a pause the rate is unknown.
        let is_known = elapsed < 6 * self.ticks(RATE_PERIOD);
        let is_wrong = is_known
            && error.abs() > elapsed / 5
            && behind.abs() > self.millis(RATE_DEVIATION_MS)
            && error.signum() == behind.signum();
        let wrong = if is_wrong { self.period.wrong + 1 } else { 0 };
        self.right = if is_wrong { self.right } else { self.right.saturating_add(1) };
        self.period = Period { began: next.arrival, ticks: next.ticks, wrong };
        let is_new = self.right < 2 * RATE_PERIODS.1;
        let irregular = self.arrival.is_irregular(next.arrival);
        wrong
            >= if is_new { RATE_PERIODS.0 } else { RATE_PERIODS.1 }
                * if irregular { RATE_PERIODS_IRREGULAR } else { 1 }
    }

    /// Follows the timestamps again after they have agreed with arrival for a while.
    fn check_recovery(&mut self, last: &Last, next: &Last) {
        let step = next.ticks - last.ticks;
        let elapsed = next.arrival.saturating_sub(self.period.began);
        let advance = next.ticks - self.period.ticks;
        let deviation = (advance - self.ticks(elapsed)).abs();
        if step <= 0 || deviation > self.millis(JUMP_MS) {
            self.period = Period { began: next.arrival, ticks: next.ticks, wrong: 0 };
        } else if elapsed >= RECOVERY {
            self.by_arrival = deviation > self.ticks(elapsed) / 50;
            if !self.by_arrival {
                self.pace.leave(false);
            }
            self.faults = (0, next.arrival);
            self.period = Period { began: next.arrival, ticks: next.ticks, wrong: 0 };
        }
    }

    pub(crate) fn step_min(&self) -> i64 {
        self.millis(STEP_MIN_MS).max(1)
    }

    fn millis(&self, millis: i64) -> i64 {
        millis * self.rate / 1000
    }

    fn ticks(&self, time: Duration) -> i64 {
        let ticks = time.as_nanos() * self.rate.unsigned_abs() as u128 / 1_000_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX / 4)
    }
}

/// Returns how far the second timestamp is ahead, across a wrap.
fn signed_step(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

#[cfg(test)]
mod tests;
