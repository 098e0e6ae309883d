//! A clip as an endless stream: seamless rounds, jumps to keyframes, one timeline.
//!
//! Pure: it computes which unit comes next and when, and never reads a clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use recording::{AudioCodec, Clip, ClipSample, VideoCodec};

/// A time in the stream, in units that both RTP clocks divide: 1/720000 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    const PER_SECOND: u64 = 720_000;

    /// Returns the time since the stream began.
    pub(crate) fn as_duration(self) -> Duration {
        let (seconds, rest) = (self.0 / Self::PER_SECOND, self.0 % Self::PER_SECOND);
        Duration::from_secs(seconds) + Duration::from_nanos(rest * 12_500 / 9)
    }

    /// Converts the time to ticks of an RTP clock, which wrap around.
    pub(crate) fn rtp_ticks(self, clock_rate: u32) -> u32 {
        let ticks = self.0 / (Self::PER_SECOND / u64::from(clock_rate));
        u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or_default()
    }
}

/// The kind of a media unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitKind {
    Video,
    Audio,
}

/// A video frame or an audio packet, and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) kind: UnitKind,
    /// The index in its track of the clip; the bundled clips show that of a frame in the picture.
    pub(crate) index: usize,
    pub(crate) keyframe: bool,
    pub(crate) at: Moment,
    pub(crate) data: Bytes,
}

/// The position in the endless stream of a clip.
pub(crate) struct Playback {
    clip: Arc<Clip>,
    /// The duration of one round, in units of [`Moment`].
    length: u64,
    video: Option<Cursor>,
    audio: Option<Cursor>,
    /// How far the clip's position is ahead of the stream's time: the sum of all jumps.
    ahead: u64,
    /// The earliest time of the next audio packet: the end of the last one sent.
    silent_until: u64,
}

impl Playback {
    /// Creates a playback that starts at the clip's beginning, which is a keyframe.
    pub(crate) fn new(clip: Arc<Clip>) -> Self {
        let video = Cursor::new(video_samples(&clip), VideoCodec::CLOCK_RATE);
        let audio = Cursor::new(audio_samples(&clip), AudioCodec::Opus.clock_rate());
        let length = match (&video, &audio) {
            (Some(_), _) => round_length(video_samples(&clip), VideoCodec::CLOCK_RATE),
            (None, _) => round_length(audio_samples(&clip), AudioCodec::Opus.clock_rate()),
        };
        Self { clip, length, video, audio, ahead: 0, silent_until: 0 }
    }

    /// Returns when the next unit is due; `None` for an empty clip.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.next_kind().map(|(_, at)| at)
    }

    /// Returns whether the next unit is a video frame, the only place where a jump is possible.
    pub(crate) fn video_is_next(&self) -> bool {
        matches!(self.next_kind(), Some((UnitKind::Video, _)))
    }

    /// Takes the next unit.
    pub(crate) fn take(&mut self) -> Option<Unit> {
        let (kind, at) = self.next_kind()?;
        let clip = Arc::clone(&self.clip);
        let (cursor, samples) = match kind {
            UnitKind::Video => (self.video.as_mut()?, video_samples(&clip)),
            UnitKind::Audio => (self.audio.as_mut()?, audio_samples(&clip)),
        };
        let index = cursor.index;
        let sample = samples.get(index)?;
        cursor.advance(samples.len());
        if kind == UnitKind::Audio {
            self.silent_until = at.0 + u64::from(sample.duration) * cursor.scale;
            self.drop_overlapping_sound();
        }
        Some(Unit { kind, index, keyframe: sample.keyframe, at, data: sample.data.clone() })
    }

    /// Skips the audio before the next video frame, so that the next unit is a video frame.
    pub(crate) fn begin_with_picture(&mut self) {
        let Some(video) = &self.video else { return };
        let picture = video.position(video_samples(&self.clip), self.length);
        self.silent_until = self.silent_until.max(picture.saturating_sub(self.ahead));
        self.drop_overlapping_sound();
    }

    /// Jumps to the next keyframe, which takes the time of the next frame: times continue evenly,
    /// frames are skipped. Audio is skipped equally, so that it stays in sync.
    pub(crate) fn skip_to_keyframe(&mut self) {
        let clip = Arc::clone(&self.clip);
        let samples = video_samples(&clip);
        let Some(video) = &mut self.video else { return };
        let before = video.position(samples, self.length);
        while samples.get(video.index).is_some_and(|sample| !sample.keyframe) {
            video.advance(samples.len());
        }
        self.ahead += video.position(samples, self.length) - before;
        self.drop_overlapping_sound();
    }

    fn next_kind(&self) -> Option<(UnitKind, Moment)> {
        let due = |cursor: &Option<Cursor>, samples: &[ClipSample]| {
            let position = cursor.as_ref()?.position(samples, self.length);
            Some(Moment(position.saturating_sub(self.ahead)))
        };
        let video = due(&self.video, video_samples(&self.clip));
        let audio = due(&self.audio, audio_samples(&self.clip));
        match (video, audio) {
            (Some(video), Some(audio)) if audio < video => Some((UnitKind::Audio, audio)),
            (Some(video), _) => Some((UnitKind::Video, video)),
            (None, Some(audio)) => Some((UnitKind::Audio, audio)),
            (None, None) => None,
        }
    }

    fn drop_overlapping_sound(&mut self) {
        let samples = audio_samples(&self.clip);
        let Some(audio) = &mut self.audio else { return };
        while audio.position(samples, self.length) < self.ahead + self.silent_until {
            audio.advance(samples.len());
        }
    }
}

/// The position in one track.
struct Cursor {
    round: u64,
    index: usize,
    /// The units of [`Moment`] in a tick of the track's clock.
    scale: u64,
}

impl Cursor {
    fn new(samples: &[ClipSample], clock_rate: u32) -> Option<Self> {
        let scale = Moment::PER_SECOND / u64::from(clock_rate);
        (!samples.is_empty()).then_some(Self { round: 0, index: 0, scale })
    }

    fn position(&self, samples: &[ClipSample], length: u64) -> u64 {
        let pts = samples.get(self.index).map_or(0, |sample| sample.pts);
        self.round * length + pts * self.scale
    }

    fn advance(&mut self, count: usize) {
        self.index += 1;
        if self.index >= count {
            self.index = 0;
            self.round += 1;
        }
    }
}

fn video_samples(clip: &Clip) -> &[ClipSample] {
    clip.video().map_or(&[], |track| &track.samples)
}

fn audio_samples(clip: &Clip) -> &[ClipSample] {
    clip.audio().map_or(&[], |track| &track.samples)
}

fn round_length(samples: &[ClipSample], clock_rate: u32) -> u64 {
    let ticks = samples.last().map_or(1, |last| last.pts + u64::from(last.duration.max(1)));
    ticks * (Moment::PER_SECOND / u64::from(clock_rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use recording::ClipKind;

    fn bundled() -> Playback {
        Playback::new(Arc::new(Clip::bundled(ClipKind::H264Opus).expect("reads")))
    }

    fn units(playback: &mut Playback, count: usize) -> Vec<Unit> {
        (0..count).map(|_| playback.take().expect("endless")).collect()
    }

    fn of(kind: UnitKind, units: &[Unit]) -> Vec<&Unit> {
        units.iter().filter(|unit| unit.kind == kind).collect()
    }

    #[test]
    fn playback_rounds_continue_without_gap() {
        let mut playback = bundled();
        // Two and a half rounds of 900 frames and 3000 packets.
        let all = units(&mut playback, 9750);
        assert!(all.is_sorted_by_key(|unit| unit.at), "time goes on");
        let video = of(UnitKind::Video, &all);
        for (n, frame) in video.iter().enumerate() {
            assert_eq!(frame.index, n % 900);
            assert_eq!(frame.at.rtp_ticks(90_000), u32::try_from(n).expect("small") * 6000);
            assert_eq!(frame.keyframe, n % 30 == 0);
        }
        for pair in of(UnitKind::Audio, &all).windows(2) {
            let step = pair[1].at.rtp_ticks(48_000) - pair[0].at.rtp_ticks(48_000);
            assert!((960..1920).contains(&step), "{step} at {}", pair[0].index);
        }
    }

    #[test]
    fn jump_to_keyframe_keeps_frame_timing_and_audio_sync() {
        let mut playback = bundled();
        let before = units(&mut playback, 100);
        let last_sound = of(UnitKind::Audio, &before).last().map(|unit| unit.at).expect("sound");
        while !playback.video_is_next() {
            playback.take();
        }
        let due = playback.next_due().expect("endless");
        let last = of(UnitKind::Video, &before).last().map(|unit| unit.index).expect("frames");
        playback.skip_to_keyframe();
        assert_eq!(playback.next_due(), Some(due), "the keyframe takes the next frame's time");
        let after = units(&mut playback, 100);
        let video = of(UnitKind::Video, &after);
        assert!(video[0].keyframe);
        assert_eq!(video[0].index, (last / 30 + 1) * 30);
        let sound = of(UnitKind::Audio, &after);
        assert!(sound[0].at > last_sound);
        // Audio stays in sync with video: the clip position minus the time is the same for both.
        let video_lead = (video[0].index as u64 * 48_000).saturating_sub(due.0);
        let sound_lead = (sound[0].index as u64 * 14_400).saturating_sub(sound[0].at.0);
        assert_eq!(video_lead, sound_lead);
        assert!(after.is_sorted_by_key(|unit| unit.at));
    }

    #[test]
    fn jump_at_keyframe_does_not_move() {
        let mut playback = bundled();
        playback.skip_to_keyframe();
        let first = playback.take().expect("endless");
        assert_eq!((first.kind, first.index, first.at), (UnitKind::Video, 0, Moment(0)));
    }

    #[test]
    fn jump_past_last_keyframe_begins_next_round() {
        let mut playback = bundled();
        let mut seen = Vec::new();
        while seen.len() < 100 {
            if playback.video_is_next() {
                playback.skip_to_keyframe();
            }
            let unit = playback.take().expect("endless");
            if unit.kind == UnitKind::Video {
                seen.push((unit.index, unit.at.rtp_ticks(90_000)));
            }
        }
        for (n, (index, ticks)) in seen.iter().enumerate() {
            assert_eq!(*index, n * 30 % 900);
            assert_eq!(*ticks as usize, n * 6000);
        }
    }

    #[test]
    fn stream_times_convert_exactly() {
        assert_eq!(Moment(720_000 * 3 + 360_000).as_duration(), Duration::from_millis(3500));
        assert_eq!(Moment(8).rtp_ticks(90_000), 1);
        assert_eq!(Moment(8 * (1 << 32)).rtp_ticks(90_000), 0, "RTP time wraps");
    }
}
