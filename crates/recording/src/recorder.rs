//! One recording: packets in, a file that plays at any moment.
//!
//! This file decides when the file begins, which frames go into which fragment, and how the file
//! ends. Frames come from [`FrameAssembler`], their times from `timeline`, the bytes from `mux`.

mod fragment;
mod order;
mod track;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rtc_rtp::packet::Packet;

use crate::container::Container;
use crate::error::RecordError;
use crate::live::LiveOutput;
use crate::mux::FileInfo;
use crate::target::{FileTarget, Target, check_place};
use crate::timeline::{SenderReport, can_synchronise, synchronise};
use encoded_frames::{AssemblerConfig, AudioCodec, Codec, Frame, MediaStats, VideoCodec};

use fragment::{Writing, append, end_file};
pub(crate) use track::Kind;
use track::Track;
pub use track::TrackId;

/// What a recording waits for, how it is cut into fragments, and its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Whether a video track is expected: if so, the file begins with its first keyframe, and is
    /// removed if no keyframe arrives.
    pub video: bool,
    /// The time for which audio waits for a video keyframe; after that the file begins without
    /// video, and the video track is added at its first keyframe.
    pub video_wait: Duration,
    /// For how long a live stream waits for the first audio after its first keyframe; zero where
    /// none is wanted. The head of Matroska and WebM cannot be changed later, so audio that begins
    /// after that is left out there.
    pub audio_wait: Duration,
    /// The duration of a fragment: at most this much media is lost if the process is killed.
    pub fragment_duration: Duration,
    /// The maximum size of a fragment in bytes; a larger one is written early.
    pub fragment_bytes_max: usize,
    /// The limits of reordering and reassembly.
    pub assembler: AssemblerConfig,
    /// The title in the file's metadata, such as the camera's name.
    pub title: Option<String>,
    /// The name of the writing program in the file's metadata.
    pub encoder: String,
    /// When arrival times are zero, since the Unix epoch; the file then has the date at which it
    /// began.
    pub origin: Option<Duration>,
}

impl Default for RecorderConfig {
    fn default() -> Self {
        Self {
            video: true,
            video_wait: Duration::from_secs(10),
            audio_wait: Duration::from_millis(500),
            fragment_duration: Duration::from_secs(1),
            fragment_bytes_max: 16 << 20,
            assembler: AssemblerConfig::default(),
            title: None,
            encoder: concat!("kvs-viewer ", env!("CARGO_PKG_VERSION")).to_owned(),
            origin: None,
        }
    }
}

/// The result of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The time from the first frame to the end of the last one.
    pub duration: Duration,
    /// The number of video frames in the file.
    pub video_frames: u64,
    /// The number of audio packets in the file.
    pub audio_packets: u64,
    /// The number of fragments in the file.
    pub fragments: u64,
    /// The statistics of the received video.
    pub video: Option<MediaStats>,
    /// The statistics of the received audio.
    pub audio: Option<MediaStats>,
}

/// Writes one file. All calls are synchronous, and those that complete a fragment block until it is
/// written: use a recorder on its own thread, or use [`RecorderHandle`](crate::RecorderHandle),
/// which does that.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    container: Container,
    config: RecorderConfig,
    /// Each frame is written at once.
    live: bool,
    target: Box<dyn Target>,
    video: Option<Track>,
    audio: Option<Track>,
    synchronised: bool,
    stage: Stage,
    fragments: u64,
    failure: Option<RecordError>,
}

#[derive(Debug)]
enum Stage {
    /// The file has no content yet.
    Waiting,
    Writing(Writing),
}

/// The maximum number of audio packets that wait for a keyframe: ten seconds of packets of 10 ms.
const PENDING_MAX: usize = 1000;

/// Longer titles are truncated.
const TITLE_CHARS_MAX: usize = 256;

impl Recorder {
    /// Begins a recording. The file is created with its first byte, and only its owner can read it.
    /// Fails if the file exists and has content, or if its extension does not identify a container.
    pub fn create(path: impl AsRef<Path>, config: RecorderConfig) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let container = Self::check(path)?;
        let target = FileTarget::new(path)?;
        Ok(Self::with_target(path, container, config, Box::new(target)))
    }

    /// Begins a live stream: each frame is written when it is whole, and nothing that was written
    /// is changed, so that a player can read it from a pipe. It starts at a keyframe, and H.264 has
    /// its parameter sets before each.
    ///
    /// # Errors
    /// The container is MP4, which cannot be written live.
    pub fn live(
        output: LiveOutput,
        container: Container,
        config: RecorderConfig,
    ) -> Result<Self, RecordError> {
        if !container.is_live() {
            return Err(RecordError::NotLive(container));
        }
        let recorder = Self::with_target(&output.name, container, config, output.target);
        Ok(Self { live: true, ..recorder })
    }

    /// Checks whether [`Self::create`] would currently succeed, without creating a file.
    pub fn check(path: impl AsRef<Path>) -> Result<Container, RecordError> {
        let path = path.as_ref();
        if LiveOutput::is_stream(path) {
            return Err(RecordError::NotAFile(path.to_owned()));
        }
        let container = Container::from_path(path)?;
        check_place(path)?;
        Ok(container)
    }

    pub(crate) fn with_target(
        path: &Path,
        container: Container,
        config: RecorderConfig,
        target: Box<dyn Target>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            container,
            config,
            live: false,
            target,
            video: None,
            audio: None,
            synchronised: false,
            stage: Stage::Waiting,
            fragments: 0,
            failure: None,
        }
    }

    /// The container that is written.
    #[must_use]
    pub fn container(&self) -> Container {
        self.container
    }

    /// Adds the video track when it appears. When another replaces it, for example after a
    /// reconnection, this returns the same track: the recording goes on at the new one's first
    /// keyframe.
    pub fn add_video(&mut self, codec: VideoCodec) -> Result<TrackId, RecordError> {
        self.add(Codec::Video(codec), Kind::Video)
    }

    /// Adds the audio track when it appears; as [`Self::add_video`].
    pub fn add_audio(&mut self, codec: AudioCodec) -> Result<TrackId, RecordError> {
        self.add(Codec::Audio(codec), Kind::Audio)
    }

    /// Accepts a packet of a track, in order of arrival. `arrival` counts from any fixed moment,
    /// the same for both tracks.
    pub fn push_rtp(
        &mut self,
        track: TrackId,
        arrival: Duration,
        packet: Packet,
    ) -> Result<(), RecordError> {
        self.check_failure()?;
        let track = self.track(track.0)?;
        track.assembler.push(arrival, packet);
        while let Some(frame) = track.assembler.pop() {
            track.accept(frame);
        }
        let done = self.take_frames(arrival);
        self.keep_failure(done)
    }

    /// Accepts a whole frame of a track, in decoding order; its arrival counts from any fixed
    /// moment, the same for both tracks. After a lost frame, the next one of the video track must
    /// be a keyframe.
    pub fn push_frame(&mut self, track: TrackId, frame: Frame) -> Result<(), RecordError> {
        self.check_failure()?;
        let now = frame.completed;
        self.track(track.0)?.accept(frame);
        let done = self.take_frames(now);
        self.keep_failure(done)
    }

    /// Accepts a recording of audio alone, because the camera sends no video.
    pub fn accept_sound_alone(&mut self) {
        self.config.video = false;
    }

    /// Accepts a sender report of a track; ignores one from another source than the track's.
    pub fn push_sender_report(
        &mut self,
        track: TrackId,
        report: SenderReport,
    ) -> Result<(), RecordError> {
        self.check_failure()?;
        let track = self.track(track.0)?;
        if track.source() == Some(report.ssrc) && !track.clock.report(report) {
            tracing::debug!(ssrc = report.ssrc, "a sender report does not fit its media");
        }
        if let (Some(video), Some(audio)) = (&mut self.video, &mut self.audio)
            && can_synchronise(&video.clock, &audio.clock)
        {
            let first = !self.synchronised;
            self.synchronised = true;
            if let Some(late) = synchronise(&mut video.clock, &mut audio.clock, first) {
                tracing::debug!(video_late_ms = late, "tracks brought into step by sender reports");
            }
        }
        Ok(())
    }

    /// Writes the incomplete fragment; to be called when no media arrived for a while.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.check_failure()?;
        let done = match self.target.is_closed() {
            true => Err(RecordError::ReaderClosed(self.path.clone())),
            false => self.write_waiting(Duration::MAX),
        };
        self.keep_failure(done)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the target, unless that means to wait for the reader of a named pipe. Whether it is
    /// open.
    pub(crate) fn open(&mut self) -> Result<bool, RecordError> {
        self.check_failure()?;
        let opened = self.target.open().map_err(|error| RecordError::io(&self.path, error));
        if let Err(error) = &opened {
            self.failure = Some(error.clone());
        }
        opened
    }

    /// The statistics of the media received on a track.
    #[must_use]
    pub fn stats(&self, track: TrackId) -> Option<&MediaStats> {
        let track = match track.0 {
            Kind::Video => self.video.as_ref(),
            Kind::Audio => self.audio.as_ref(),
        };
        track.map(|track| track.assembler.stats())
    }

    /// Finalizes the file: writes the remaining media, the durations and the index. After a failure
    /// it finalizes what was written, and returns the failure again.
    pub fn finish(mut self) -> Result<Summary, RecordError> {
        let rest = match self.check_failure() {
            Ok(()) => self.write_rest(),
            Err(failure) => Err(failure),
        };
        let no_picture = self.video.as_ref().is_none_or(|video| video.written == 0);
        let Stage::Writing(writing) = &mut self.stage else {
            return Err(rest.err().unwrap_or(RecordError::NothingRecorded));
        };
        if self.config.video && no_picture {
            self.target.discard();
            return Err(rest.err().unwrap_or(RecordError::NoPicture));
        }
        let path = &self.path;
        let ended = match self.target.is_append_only() {
            true => Ok(()),
            false => end_file(&mut *writing.muxer, &mut *self.target, path, writing.end)?,
        };
        rest.and(ended)?;
        let written = |track: &Option<Track>| track.as_ref().map_or(0, |track| track.written);
        let stats =
            |track: &Option<Track>| track.as_ref().map(|track| track.assembler.stats().clone());
        Ok(Summary {
            bytes: self.target.length(),
            duration: writing.end,
            video_frames: written(&self.video),
            audio_packets: written(&self.audio),
            fragments: self.fragments,
            video: stats(&self.video),
            audio: stats(&self.audio),
            path: self.path,
        })
    }

    fn add(&mut self, codec: Codec, kind: Kind) -> Result<TrackId, RecordError> {
        self.check_failure()?;
        self.container.check(codec)?;
        if let Some(track) = self.slot(kind) {
            let same = track.codec == codec;
            return same.then_some(TrackId(kind)).ok_or(RecordError::CodecChanged(codec));
        }
        let track = Track::new(codec, self.config.assembler.clone(), self.live);
        *self.slot(kind) = Some(track);
        Ok(TrackId(kind))
    }

    fn slot(&mut self, kind: Kind) -> &mut Option<Track> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    fn track(&mut self, kind: Kind) -> Result<&mut Track, RecordError> {
        self.slot(kind).as_mut().ok_or(RecordError::UnknownTrack)
    }

    fn check_failure(&self) -> Result<(), RecordError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn keep_failure(&mut self, done: Result<(), RecordError>) -> Result<(), RecordError> {
        if let Err(error) = &done {
            self.failure = Some(error.clone());
        }
        done
    }

    fn take_frames(&mut self, now: Duration) -> Result<(), RecordError> {
        for kind in [Kind::Video, Kind::Audio] {
            let track = self.slot(kind).as_mut();
            if track.is_some_and(|track| std::mem::take(&mut track.source_changed)) {
                // The new source's first frames wait for up to a second; write the media of the
                // previous source without waiting for them.
                self.write_fragment()?;
            }
            while let Some(timed) = self.slot(kind).as_mut().and_then(|track| track.next_frame(now))
            {
                match self.stage {
                    Stage::Waiting => {
                        let pending = &mut self.track(kind)?.pending;
                        if pending.len() >= PENDING_MAX {
                            pending.pop_front();
                        }
                        pending.push_back(timed);
                    }
                    Stage::Writing(_) => self.write_frame(kind, timed)?,
                }
            }
        }
        if matches!(self.stage, Stage::Waiting) && self.can_begin(now) {
            self.begin()?;
        }
        Ok(())
    }

    fn can_begin(&self, now: Duration) -> bool {
        let pending = |track: &Option<Track>| {
            track.as_ref().and_then(|track| track.pending.front()).map(|timed| timed.frame.arrival)
        };
        let awaits_audio = |since| {
            let holds_audio = self.container.check(Codec::Audio(AudioCodec::Opus)).is_ok();
            self.live && holds_audio && now.saturating_sub(since) < self.config.audio_wait
        };
        match (pending(&self.video), pending(&self.audio)) {
            (Some(since), None) => !awaits_audio(since),
            (Some(_), Some(_)) => true,
            (None, Some(_)) if !self.config.video && self.video.is_none() => true,
            (None, Some(since)) => now.saturating_sub(since) >= self.config.video_wait,
            (None, None) => false,
        }
    }

    /// Writes the header and the media that waited for it. A track without media so far is
    /// described when its first frame arrives.
    fn begin(&mut self) -> Result<(), RecordError> {
        let mut specs = Vec::new();
        let mut places = [None, None];
        let mut base_nanos = None;
        let mut began = None;
        for (track, place) in [&self.video, &self.audio].into_iter().zip(&mut places) {
            let Some(track) = track else { continue };
            let Some(first) = track.pending.front() else { continue };
            *place = Some(specs.len());
            specs.push(track.spec(first));
            base_nanos.get_or_insert(track.nanos(first.shown));
            began.get_or_insert(first.frame.arrival);
        }
        let info = FileInfo {
            title: self.config.title.as_ref().map(|t| t.chars().take(TITLE_CHARS_MAX).collect()),
            encoder: self.config.encoder.clone(),
            began: self.config.origin.zip(began).and_then(|(from, after)| from.checked_add(after)),
        };
        let mut muxer = self.container.muxer();
        let has_room = specs.len() < places.len() && !self.target.is_append_only();
        let head = muxer.head(&info, &specs, has_room)?;
        append(&mut *self.target, &self.path, &head)?;
        let [video, audio] = places;
        self.stage = Stage::Writing(Writing {
            muxer,
            video,
            audio,
            base_nanos: base_nanos.unwrap_or(0),
            fragment: vec![Vec::new(); specs.len()],
            fragment_bytes: 0,
            span: None,
            fragment_end: Duration::ZERO,
            end: Duration::ZERO,
        });
        for kind in [Kind::Video, Kind::Audio] {
            while let Some(timed) =
                self.slot(kind).as_mut().and_then(|track| track.pending.pop_front())
            {
                self.write_frame(kind, timed)?;
            }
        }
        Ok(())
    }

    /// Writes all media that waits for later media.
    fn write_rest(&mut self) -> Result<(), RecordError> {
        let mut last = Duration::ZERO;
        for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
            track.assembler.flush();
            while let Some(frame) = track.assembler.pop() {
                track.accept(frame);
            }
            let arrival = track.pending.back().map(|timed| timed.frame.arrival);
            last = last.max(arrival.unwrap_or_default());
        }
        self.write_waiting(last.saturating_add(self.config.video_wait))
    }

    /// Writes all waiting media, as if no more media arrived before `now`.
    fn write_waiting(&mut self, now: Duration) -> Result<(), RecordError> {
        for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
            track.release_all();
        }
        self.take_frames(now)?;
        self.release_held(Kind::Video, Duration::MAX)?;
        self.release_held(Kind::Audio, Duration::MAX)?;
        self.write_fragment()
    }
}

#[cfg(test)]
mod tests;
