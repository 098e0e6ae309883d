//! Synchronises two tracks by the sender reports of one clock.

use super::TrackClock;

/// The first correction from sender reports is made for a skew above this.
const FIRST_SKEW_MS: i64 = 15;
/// Later corrections ignore a skew below this, which may be jitter of the sender's clocks.
const LATER_SKEW_MS: i64 = 30;
/// Clocks further apart than this do not belong to one sender; arrival times are the better
/// estimate.
const SKEW_MAX_MS: i64 = 5_000;

/// Synchronises two tracks by their sender reports. Returns by how many milliseconds the video was
/// late; `None` if no correction was needed.
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
    // Only the track that is ahead is delayed, so that the recording has no unnecessary delay.
    let (video_delay, audio_delay) = (video.delay_micros(), audio.delay_micros() + skew);
    let least = video_delay.min(audio_delay);
    video.set_delay(video_delay - least, first);
    audio.set_delay(audio_delay - least, first);
    Some(skew / 1000)
}

/// Whether both tracks have a usable sender report.
pub(crate) fn can_synchronise(video: &TrackClock, audio: &TrackClock) -> bool {
    video.ahead_of_sender().is_some() && audio.ahead_of_sender().is_some()
}
