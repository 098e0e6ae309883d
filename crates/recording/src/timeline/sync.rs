//! Synchronizes two tracks by their sender reports, which share one clock.

use super::TrackClock;

/// The first correction from sender reports corrects anything above this.
const FIRST_SKEW_MS: i64 = 15;
/// Later ones leave alone what may be jitter of the sender's clocks.
const LATER_SKEW_MS: i64 = 30;
/// Clocks this far apart are not of one sender; arrival times are the better guess.
const SKEW_MAX_MS: i64 = 5_000;

/// Brings two tracks into step by their sender reports. Says by how many milliseconds the video was late; `None` if
/// nothing was to be done.
pub(crate) fn synchronise(
    video: &mut TrackClock,
    audio: &mut TrackClock,
    first: bool,
) -> Option<i64> {
    let skew = i64::try_from(video.ahead_of_sender()? - audio.ahead_of_sender()?).ok()?;
    let threshold = if first { FIRST_SKEW_MS } else { LATER_SKEW_MS };
    if skew.abs() < threshold * 1000 || skew.abs() > SKEW_MAX_MS * 1000 {
        return None;
    }
    // The track that is ahead waits for the other, and neither waits for nothing.
    let (video_delay, audio_delay) = (video.delay_micros(), audio.delay_micros() + skew);
    let least = video_delay.min(audio_delay);
    video.set_delay(video_delay - least, first);
    audio.set_delay(audio_delay - least, first);
    Some(skew / 1000)
}

/// Whether both tracks have a report to be synchronised by.
pub(crate) fn can_synchronise(video: &TrackClock, audio: &TrackClock) -> bool {
    video.ahead_of_sender().is_some() && audio.ahead_of_sender().is_some()
}
