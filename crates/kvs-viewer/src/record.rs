//! A session's media into a file: the tracks that come, and what the file cannot hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use encoded_frames::Frame;
use negotiation_core::MediaKind;
use peer_webrtc::Codec;
use recording::{FailureHook, RecorderConfig, RecorderHandle, TrackId};

pub use recording::{Container, LiveOutput, RecordError, SenderReport, Summary};

/// The minimum interval between keyframe requests because of a slow disk.
const REQUEST_EVERY: Duration = Duration::from_secs(1);

/// A recording on its own thread, behind a bounded queue, so that a slow disk does not delay media.
pub struct Recording {
    handle: RecorderHandle,
    /// Whether video is expected; if so, the recording continues without audio that the file cannot
    /// hold.
    video: bool,
    /// Whether the camera turned out to send no video.
    sound_alone: Arc<AtomicBool>,
    /// The file's tracks; a later stream of the same codec continues in them.
    tracks: BTreeMap<MediaKind, (TrackId, recording::Codec)>,
    /// The codecs that were reported as not recorded.
    not_recorded: BTreeSet<Codec>,
    /// When a keyframe was last requested because the disk was too slow.
    requested: Option<Instant>,
}

/// A stream that a recording cannot hold.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotRecorded {
    /// The recording continues without the stream. Reported once for each codec.
    Stream {
        /// Whether the stream is video or audio.
        kind: MediaKind,
        /// The codec of the stream.
        codec: Codec,
        /// Why the file cannot hold the stream.
        why: RecordError,
    },
    /// The recording cannot continue.
    Failed(RecordError),
}

impl Recording {
    /// Creates the file. `video` is whether a picture is wanted: without one no file is left
    /// behind, unless `sound_alone` is set before the end, because the camera turned out to send
    /// none. `failed` is called, once, where writing fails on the way.
    ///
    /// # Errors
    /// The file exists or cannot be created, or its extension does not identify a container.
    pub fn start(
        path: &Path,
        title: &str,
        video: bool,
        sound_alone: Arc<AtomicBool>,
        failed: FailureHook,
    ) -> Result<Self, RecordError> {
        let handle = RecorderHandle::spawn(path, configuration(title, video), failed)?;
        Ok(Self::over(handle, video, sound_alone))
    }

    /// Starts a live stream: each frame is written when it is whole. `video` and `audio` are what
    /// is wanted; `failed` is called, once, where the stream ends on the way, as when its reader is
    /// gone ([`RecordError::ReaderClosed`]).
    ///
    /// # Errors
    /// The container cannot be written live.
    pub fn live(
        output: LiveOutput,
        container: Container,
        title: &str,
        (video, audio): (bool, bool),
        failed: FailureHook,
    ) -> Result<Self, RecordError> {
        let mut config = configuration(title, video);
        if !audio {
            config.audio_wait = Duration::ZERO;
        }
        let handle = RecorderHandle::spawn_live(output, container, config, failed)?;
        // Nothing is left behind, so audio alone is as good as nothing.
        Ok(Self::over(handle, video, Arc::new(AtomicBool::new(true))))
    }

    fn over(handle: RecorderHandle, video: bool, sound_alone: Arc<AtomicBool>) -> Self {
        let (tracks, not_recorded) = (BTreeMap::new(), BTreeSet::new());
        Self { handle, video, sound_alone, tracks, not_recorded, requested: None }
    }

    /// Adds the track of a stream that began.
    ///
    /// # Errors
    /// The file cannot hold the stream.
    pub fn track(&mut self, kind: MediaKind, codec: Codec) -> Result<(), NotRecorded> {
        let encoded = codec.encoded();
        let added = match encoded {
            recording::Codec::Video(codec) => self.handle.add_video(codec),
            recording::Codec::Audio(codec) => self.handle.add_audio(codec),
        };
        match added {
            Ok(track) => {
                self.tracks.insert(kind, (track, encoded));
                Ok(())
            }
            Err(why @ (RecordError::CodecNotSupported { .. } | RecordError::CodecChanged(_)))
                if kind == MediaKind::Audio && self.video =>
            {
                match self.not_recorded.insert(codec) {
                    true => Err(NotRecorded::Stream { kind, codec, why }),
                    false => Ok(()),
                }
            }
            Err(error) => Err(NotRecorded::Failed(error)),
        }
    }

    /// Records a frame. Returns whether a keyframe should be requested, because the disk was too
    /// slow and the recording continues only at a keyframe.
    pub fn frame(&mut self, kind: MediaKind, frame: Frame, at: Instant) -> bool {
        let codec = frame.codec;
        let Some((track, _)) = self.tracks.get(&kind).filter(|(_, of)| *of == codec) else {
            return false;
        };
        self.handle.push_frame(*track, frame);
        let is_due = self.requested.is_none_or(|last| at.duration_since(last) >= REQUEST_EVERY);
        let requests = self.handle.needs_keyframe() && is_due;
        if requests {
            self.requested = Some(at);
        }
        requests
    }

    /// Passes on a sender report of any source; those of sources that are not recorded are ignored.
    pub fn report(&self, report: SenderReport) {
        for (track, _) in self.tracks.values() {
            self.handle.push_sender_report(*track, report);
        }
    }

    /// The number of frames that were dropped because the disk was too slow.
    pub fn lost(&self) -> u64 {
        self.handle.overflow()
    }

    /// Finalizes the file. Blocks until the remaining data is written.
    ///
    /// # Errors
    /// The disk failed, or none of the expected media arrived; then there is no file.
    pub fn finish(self) -> Result<Summary, RecordError> {
        if self.sound_alone.load(Ordering::Relaxed) {
            self.handle.accept_sound_alone();
        }
        self.handle.finish()
    }
}

fn configuration(title: &str, video: bool) -> RecorderConfig {
    RecorderConfig {
        video,
        title: Some(title.to_owned()),
        // Arrivals count from the start of the peer port, which is now.
        origin: SystemTime::now().duration_since(UNIX_EPOCH).ok(),
        ..RecorderConfig::default()
    }
}

/// The codecs to offer for files of these containers: all of them, those first that most of the
/// files can hold. A camera that has several takes an early one.
pub fn codecs_for(containers: &[Container]) -> Vec<Codec> {
    let mut codecs =
        vec![Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Opus, Codec::Pcmu, Codec::Pcma];
    codecs.sort_by_key(|codec| {
        containers.iter().filter(|container| container.check(codec.encoded()).is_err()).count()
    });
    codecs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_has_every_codec_and_prefers_what_the_file_holds() {
        let all = codecs_for(&[]);
        for container in [Container::Mp4, Container::WebM, Container::Matroska, Container::MpegTs] {
            let mut offered = codecs_for(&[container]);
            let first = offered.first().copied();
            let expected = if container == Container::WebM { Codec::Vp8 } else { Codec::H264 };
            assert_eq!(first, Some(expected));
            offered.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(offered, all, "{container}: nothing is left out");
        }
        let both = codecs_for(&[Container::WebM, Container::MpegTs]);
        let video = both.iter().find(|codec| matches!(codec.encoded(), recording::Codec::Video(_)));
        assert_eq!(video, Some(&Codec::H264), "the first of equals is preferred");
        assert!(all.contains(&Codec::Pcmu) && all.contains(&Codec::Pcma));
    }
}
