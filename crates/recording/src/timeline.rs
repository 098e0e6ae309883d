//! From RTP timestamps to the recording's time, and the two tracks into step.
//!
//! Within a source, time goes by the RTP timestamps alone. Where a source begins, it goes by the moment of arrival, and as
//! soon as both tracks have a sender report, by the sender's own clock: a track that is ahead is held back by the
//! difference. It is only ever held back, so times never run backwards in the file.

use std::time::Duration;

/// What an RTCP sender report says of its stream's clocks (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream that it is about.
    pub ssrc: u32,
    /// The sender's wall clock: seconds since 1900 in the upper half, the fraction in the lower.
    pub ntp: u64,
    /// The same moment in the stream's RTP timestamps.
    pub rtp_timestamp: u32,
}

/// A stream whose timestamps and arrivals differ by more than this has jumped.
const JUMP_SECONDS: i64 = 5;

/// The first correction from sender reports corrects anything above this.
const FIRST_SKEW_MS: i64 = 15;
/// Later ones leave alone what may be jitter of the sender's clocks.
const LATER_SKEW_MS: i64 = 40;
/// Clocks this far apart are not of one sender; arrival times are the better guess.
const SKEW_MAX_MS: i64 = 5_000;

/// The time of one track, in ticks of its RTP clock. Arrival times are taken as given by the caller.
#[derive(Debug)]
pub(crate) struct TrackClock {
    rate: i64,
    anchor: Option<Anchor>,
    /// All that this track was held back by so far.
    delay: i64,
    report: Option<SenderReport>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    epoch: u32,
    rtp_timestamp: u32,
    arrival: Duration,
    ticks: i64,
}

impl TrackClock {
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: i64::from(rate.max(1)), anchor: None, delay: 0, report: None }
    }

    /// When the frame with this timestamp is shown.
    pub(crate) fn place(&mut self, epoch: u32, rtp_timestamp: u32, arrival: Duration) -> i64 {
        let by_arrival = self.ticks(arrival) + self.delay;
        let ticks = match self.anchor {
            Some(anchor) if anchor.epoch == epoch => {
                let step = signed_step(anchor.rtp_timestamp, rtp_timestamp);
                let elapsed = self.ticks(arrival) - self.ticks(anchor.arrival);
                if (step - elapsed).abs() > JUMP_SECONDS * self.rate {
                    self.report = None;
                    by_arrival.max(anchor.ticks + 1)
                } else {
                    anchor.ticks + step
                }
            }
            Some(anchor) => {
                self.report = None;
                by_arrival.max(anchor.ticks + 1)
            }
            None => by_arrival,
        };
        // An older frame must not become what later ones are counted from: its arrival is late too.
        if self.anchor.is_none_or(|anchor| anchor.epoch != epoch || ticks > anchor.ticks) {
            self.anchor = Some(Anchor { epoch, rtp_timestamp, arrival, ticks });
        }
        ticks
    }

    pub(crate) fn report(&mut self, report: SenderReport) {
        self.report = Some(report);
    }

    /// By how much this track's times are ahead of the sender's wall clock, in microseconds; `None` before
    /// its first report.
    fn offset(&self) -> Option<i128> {
        let (anchor, report) = (self.anchor?, self.report?);
        let ticks = anchor.ticks + signed_step(anchor.rtp_timestamp, report.rtp_timestamp);
        let ours = i128::from(ticks) * 1_000_000 / i128::from(self.rate);
        let theirs = (i128::from(report.ntp) * 1_000_000) >> 32;
        Some(ours - theirs)
    }

    fn hold_back(&mut self, micros: i64) {
        let ticks = micros * self.rate / 1_000_000;
        self.delay += ticks;
        if let Some(anchor) = &mut self.anchor {
            anchor.ticks += ticks;
        }
    }

    fn ticks(&self, time: Duration) -> i64 {
        let ticks = time.as_nanos() * self.rate.unsigned_abs() as u128 / 1_000_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX / 4)
    }
}

/// How far ahead the second timestamp is, across a wrap.
fn signed_step(from: u32, to: u32) -> i64 {
    i64::from(to.wrapping_sub(from).cast_signed())
}

/// Brings two tracks into step by their sender reports. Says by how many milliseconds the video was late; `None` if
/// nothing was to be done.
pub(crate) fn synchronise(
    video: &mut TrackClock,
    audio: &mut TrackClock,
    first: bool,
) -> Option<i64> {
    let skew = i64::try_from(video.offset()? - audio.offset()?).ok()?;
    let threshold = if first { FIRST_SKEW_MS } else { LATER_SKEW_MS };
    if skew.abs() < threshold * 1000 || skew.abs() > SKEW_MAX_MS * 1000 {
        return None;
    }
    if skew > 0 {
        audio.hold_back(skew);
    } else {
        video.hold_back(-skew);
    }
    Some(skew / 1000)
}

/// Whether both tracks have a report to be synchronised by.
pub(crate) fn can_synchronise(video: &TrackClock, audio: &TrackClock) -> bool {
    video.offset().is_some() && audio.offset().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn timestamps_wrap_and_arrival_jitter_does_not_matter() {
        let mut clock = TrackClock::new(90_000);
        let start = u32::MAX - 2999;
        assert_eq!(clock.place(0, start, ms(1000)), 90_000);
        assert_eq!(clock.place(0, start.wrapping_add(6000), ms(1300)), 96_000);
        assert_eq!(clock.place(0, start.wrapping_add(3000), ms(1310)), 93_000);
        assert_eq!(clock.place(0, start.wrapping_add(9000), ms(1320)), 99_000);
    }

    #[test]
    fn another_source_goes_on_where_its_arrival_says() {
        let mut clock = TrackClock::new(48_000);
        clock.place(0, 100, ms(0));
        assert_eq!(clock.place(1, 4_000_000_000, ms(500)), 24_000);
        assert_eq!(clock.place(1, 4_000_000_960, ms(999)), 24_960);
        // A jump of the same source's timestamps is like another source.
        assert_eq!(clock.place(1, 960, ms(1500)), 72_000);
    }

    #[test]
    fn the_track_that_is_ahead_is_held_back() {
        let (mut video, mut audio) = (TrackClock::new(90_000), TrackClock::new(48_000));
        // Both were captured at the same moment; the video needed 200 ms longer to get here.
        video.place(0, 9_000, ms(1200));
        audio.place(0, 4_800, ms(1000));
        let ntp = 3_900_000_000u64 << 32;
        video.report(SenderReport { ssrc: 1, ntp, rtp_timestamp: 9_000 });
        assert!(!can_synchronise(&video, &audio));
        audio.report(SenderReport { ssrc: 2, ntp, rtp_timestamp: 4_800 });
        assert_eq!(synchronise(&mut video, &mut audio, true), Some(200));
        assert_eq!(audio.place(0, 4_800 + 960, ms(1020)), (1000 + 200 + 20) * 48);
        assert_eq!(video.place(0, 9_000 + 1800, ms(1220)), 1220 * 90);
        assert_eq!(synchronise(&mut video, &mut audio, false), None);
    }

    #[test]
    fn clocks_of_two_senders_are_left_alone() {
        let (mut video, mut audio) = (TrackClock::new(90_000), TrackClock::new(48_000));
        video.place(0, 0, ms(0));
        audio.place(0, 0, ms(0));
        video.report(SenderReport { ssrc: 1, ntp: 0, rtp_timestamp: 0 });
        audio.report(SenderReport { ssrc: 2, ntp: u64::MAX, rtp_timestamp: 0 });
        assert_eq!(synchronise(&mut video, &mut audio, true), None);
    }
}
