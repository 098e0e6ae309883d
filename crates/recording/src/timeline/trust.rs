//! Evaluates sender reports: which clocks need no correction, and how far a track is ahead of its
//! sender.

use std::time::Duration;

use super::{PICTURE_RATE, SenderReport, TrackClock, signed_step};

/// A report describes another clock than the media's if the two differ by this much since the first
/// report.
const REPORT_DEVIATION_MS: i64 = 40;
/// Reports over this time that give the sender's wall clock and the media the same rate, within
/// this fraction, make a comparison with arrival unnecessary.
const TRUST_SPAN: Duration = Duration::from_secs(20);
const TRUST_DIVISOR: i64 = 200;
/// The media may fall behind the timestamps of the reports by this much and one frame, plus this
/// fraction of the time.
const TRUST_LEAD_MS: i64 = 100;
const TRUST_LEAD_DIVISOR: i64 = 1000;
/// If no report arrives for this long, the clock is compared with arrival again.
pub(super) const TRUST_EXPIRY: Duration = Duration::from_secs(15);

/// The first report of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstReport {
    pub(super) report: SenderReport,
    /// The delay of the media at that time.
    pub(super) delay: i64,
    /// The ticks by which its timestamp was ahead of the media's.
    pub(super) lead: i64,
}

/// A clock that sender reports have confirmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trusted {
    /// When the last report arrived.
    pub(super) since: Duration,
    /// The delay of the path when reports first confirmed the clock.
    pub(super) delay: i64,
}

impl TrackClock {
    /// Evaluates a sender report; returns whether it agrees with the media that it describes.
    pub(crate) fn report(&mut self, report: SenderReport) -> bool {
        self.report = None;
        let (Some(last), Some(delay)) = (self.last, self.window.least_raw(&self.arrival)) else {
            return false;
        };
        let lead = signed_step(last.rtp_timestamp, report.rtp_timestamp);
        let FirstReport { report: first, delay: first_delay, lead: first_lead } =
            *self.first_report.get_or_insert(FirstReport { report, delay, lead });
        // A report that repeats the timestamp of the picture sent last gives the time of sending,
        // not of presentation.
        if self.is_reordered && self.recent.contains(&report.rtp_timestamp) {
            return false;
        }
        // The growth of the media's delay, and the advance of the RTP clock and of the wall clock
        // by the reports.
        let media = i128::from(delay - first_delay);
        let clock = i128::from(signed_step(first.rtp_timestamp, report.rtp_timestamp));
        let wall = ((i128::from(report.ntp) - i128::from(first.ntp)) * i128::from(self.rate)) >> 32;
        let agrees = !self.by_arrival
            && (clock - wall + media).abs() < i128::from(self.millis(REPORT_DEVIATION_MS));
        if agrees {
            self.report = Some(report);
        }
        // Reports that derive timestamps from the wall clock do not describe media with another
        // clock: such media falls behind the reports.
        let lead_max = i128::from(self.millis(TRUST_LEAD_MS) + self.usual_step)
            + wall / i128::from(TRUST_LEAD_DIVISOR);
        let is_right = !self.by_arrival
            && (clock - wall).abs() <= wall / i128::from(TRUST_DIVISOR)
            && i128::from((lead - first_lead).abs()) <= lead_max;
        let is_long = wall >= i128::from(self.ticks(TRUST_SPAN));
        self.trusted = (is_right && is_long).then(|| {
            let delay = self.trusted.map_or(self.offset - self.delay, |trusted| trusted.delay);
            Trusted { since: last.arrival, delay }
        });
        if self.trusted.is_some() {
            self.drift = 0;
        }
        agrees
    }

    /// Returns by how much this track's times are ahead of the sender's wall clock, in
    /// microseconds; `None` before its first report.
    pub(super) fn ahead_of_sender(&self) -> Option<i128> {
        let (last, report) = (self.last?, self.report?);
        // Audio is corrected gradually, so this uses the time to which the corrections lead.
        let target = match self.rate {
            PICTURE_RATE => last.time,
            _ => self.path_delay()? + self.delay + last.scaled,
        };
        let ticks = target + signed_step(last.rtp_timestamp, report.rtp_timestamp);
        let ours = i128::from(ticks) * 1_000_000 / i128::from(self.rate);
        let theirs = (i128::from(report.ntp) * 1_000_000) >> 32;
        Some(ours - theirs)
    }

    /// Sets the delay of the track, either at once or a little with each frame.
    pub(super) fn set_delay(&mut self, micros: i64, at_once: bool) {
        let delay = micros * self.rate / 1_000_000;
        let more = delay - self.delay;
        self.delay = delay;
        self.correcting |= more != 0;
        if at_once && more > 0 {
            self.offset += more;
            if let Some(last) = &mut self.last {
                last.time += more;
            }
        }
    }

    pub(super) fn delay_micros(&self) -> i64 {
        self.delay * 1_000_000 / self.rate
    }
}
