//! A recorder on a thread of its own, so that the disk never holds up media.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rtc_rtp::packet::Packet;

use crate::container::Container;
use crate::error::RecordError;
use crate::live::LiveOutput;
use crate::recorder::{Kind, Recorder, RecorderConfig, Summary, TrackId};
use crate::timeline::SenderReport;
use encoded_frames::{AudioCodec, Codec, Frame, VideoCodec};

/// The maximum number of queued frames and packets: about two seconds at 20 Mbps.
const QUEUE_MAX: usize = 4096;

/// The maximum number of queued frame bytes.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// If no command arrives for this long, the thread writes the incomplete fragment.
const IDLE: Duration = Duration::from_secs(1);

/// A named pipe without a reader is looked at so often.
const OPEN_EVERY: Duration = Duration::from_millis(50);

/// The callback that the thread invokes once, when the recording fails.
pub type FailureHook = Box<dyn FnOnce(&RecordError) + Send>;

/// Feeds a [`Recorder`] that runs on its own thread. Only [`Self::finish`] blocks: a packet that
/// does not fit into the queue is dropped and counted, and the video resumes at the next keyframe.
/// Dropping the handle also finalizes the file, without waiting.
#[derive(Debug)]
pub struct RecorderHandle {
    container: Container,
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Summary, RecordError>>,
}

#[derive(Debug, Default)]
struct Shared {
    overflow: AtomicU64,
    /// Bytes of frames in the queue.
    queued_bytes: AtomicUsize,
    /// A video frame was dropped because the queue was full; frames that refer to it cannot be
    /// decoded.
    skipping: AtomicBool,
    failure: Mutex<Option<RecordError>>,
    tracks: Mutex<Tracks>,
    sound_alone: AtomicBool,
}

#[derive(Debug, Default)]
struct Tracks {
    video: Option<Codec>,
    audio: Option<Codec>,
    /// The tracks that the thread adds before the next command; outside the queue, which may be
    /// full. At most one of each kind.
    added: Vec<Codec>,
}

#[derive(Debug)]
enum Command {
    Rtp(TrackId, Duration, Packet),
    Frame(TrackId, Box<Frame>),
    Report(TrackId, SenderReport),
    Finish,
}

impl RecorderHandle {
    /// Checks that the file can be created, and starts the thread, which calls `on_failure` when a
    /// write fails, for example because the disk is full.
    pub fn spawn(
        path: impl AsRef<Path>,
        config: RecorderConfig,
        on_failure: FailureHook,
    ) -> Result<Self, RecordError> {
        Self::run(Recorder::create(path, config)?, on_failure)
    }

    /// Starts the thread of a live stream; see [`Recorder::live`]. `on_failure` is called where the
    /// stream ends on the way, as when its reader is gone ([`RecordError::ReaderClosed`]).
    pub fn spawn_live(
        output: LiveOutput,
        container: Container,
        config: RecorderConfig,
        on_failure: FailureHook,
    ) -> Result<Self, RecordError> {
        Self::run(Recorder::live(output, container, config)?, on_failure)
    }

    fn run(recorder: Recorder, on_failure: FailureHook) -> Result<Self, RecordError> {
        let container = recorder.container();
        let (commands, queue) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || record(recorder, &queue, &shared, on_failure)
            })
            .map_err(|error| RecordError::io(Path::new("the recorder's thread"), error))?;
        Ok(Self { container, commands, shared, thread })
    }

    /// Adds the video track; see [`Recorder::add_video`]. Never blocks.
    pub fn add_video(&self, codec: VideoCodec) -> Result<TrackId, RecordError> {
        self.add(Codec::Video(codec), Kind::Video)
    }

    /// Adds the audio track; see [`Recorder::add_audio`]. Never blocks.
    pub fn add_audio(&self, codec: AudioCodec) -> Result<TrackId, RecordError> {
        self.add(Codec::Audio(codec), Kind::Audio)
    }

    /// Queues a packet; see [`Recorder::push_rtp`]. Never blocks.
    pub fn push_rtp(&self, track: TrackId, arrival: Duration, packet: Packet) {
        self.hand_over(Command::Rtp(track, arrival, packet));
    }

    /// Queues a frame; see [`Recorder::push_frame`]. Never blocks. A video frame that does not fit
    /// into the queue is dropped together with all that follow up to the next keyframe.
    pub fn push_frame(&self, track: TrackId, frame: Frame) {
        let (video, keyframe, bytes) = (track.is_video(), frame.keyframe, frame.data.len());
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        let skipped = video && !keyframe && self.needs_keyframe();
        let mut taken = !skipped && queued.saturating_add(bytes) <= QUEUE_BYTES_MAX;
        if taken {
            self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            taken = self.commands.try_send(Command::Frame(track, Box::new(frame))).is_ok();
            if !taken {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        if !taken {
            self.shared.overflow.fetch_add(1, Ordering::Relaxed);
        }
        if video {
            self.shared.skipping.store(!taken, Ordering::Relaxed);
        }
    }

    /// Whether pictures were dropped, so that none is taken before a keyframe: the moment to
    /// request one from the camera.
    #[must_use]
    pub fn needs_keyframe(&self) -> bool {
        self.shared.skipping.load(Ordering::Relaxed)
    }

    /// Queues a sender report; see [`Recorder::push_sender_report`]. Never blocks.
    pub fn push_sender_report(&self, track: TrackId, report: SenderReport) {
        self.hand_over(Command::Report(track, report));
    }

    /// Accepts a recording without video; see [`Recorder::accept_sound_alone`]. Never blocks.
    pub fn accept_sound_alone(&self) {
        self.shared.sound_alone.store(true, Ordering::Relaxed);
    }

    /// The number of frames, packets and reports that were dropped because the queue was full.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.shared.overflow.load(Ordering::Relaxed)
    }

    /// The error with which the recording failed, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<RecordError> {
        lock(&self.shared.failure).clone()
    }

    /// Finalizes the file after all queued media is written. Blocks for as long as the disk does,
    /// which may be forever; async code must call it where blocking is allowed, and wait for it
    /// with a timeout.
    pub fn finish(self) -> Result<Summary, RecordError> {
        // The thread is gone only if it panicked, which joining reports.
        let _ = self.commands.send(Command::Finish);
        self.thread.join().unwrap_or(Err(RecordError::Ended))
    }

    fn add(&self, codec: Codec, kind: Kind) -> Result<TrackId, RecordError> {
        self.failure().map_or(Ok(()), Err)?;
        self.container.check(codec)?;
        let mut tracks = lock(&self.shared.tracks);
        let slot = match kind {
            Kind::Video => &mut tracks.video,
            Kind::Audio => &mut tracks.audio,
        };
        match *slot {
            Some(before) if before != codec => return Err(RecordError::CodecChanged(codec)),
            Some(_) => {}
            None => {
                *slot = Some(codec);
                tracks.added.push(codec);
            }
        }
        Ok(TrackId(kind))
    }

    fn hand_over(&self, command: Command) {
        match self.commands.try_send(command) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.overflow.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Runs until the finish command, or until the handle is dropped, which finishes too.
fn record(
    mut recorder: Recorder,
    queue: &Receiver<Command>,
    shared: &Shared,
    on_failure: FailureHook,
) -> Result<Summary, RecordError> {
    let mut on_failure = Some(on_failure);
    let mut gate = Gate::default();
    loop {
        let command = queue.recv_timeout(if gate.is_open { IDLE } else { OPEN_EVERY });
        for codec in std::mem::take(&mut lock(&shared.tracks).added) {
            let added = match codec {
                Codec::Video(codec) => recorder.add_video(codec),
                Codec::Audio(codec) => recorder.add_audio(codec),
            };
            if let Err(error) = added {
                tracing::warn!(%error, "a track is left out of the recording");
            }
        }
        if shared.sound_alone.load(Ordering::Relaxed) {
            recorder.accept_sound_alone();
        }
        if let Ok(Command::Frame(_, frame)) = &command {
            shared.queued_bytes.fetch_sub(frame.data.len(), Ordering::Relaxed);
        }
        let done = match (gate.pass(&mut recorder, &command, shared), command) {
            (Ok(false), Ok(Command::Finish) | Err(RecvTimeoutError::Disconnected))
                if !gate.is_open =>
            {
                return Err(RecordError::NoReader(recorder.path().to_owned()));
            }
            (_, Ok(Command::Finish) | Err(RecvTimeoutError::Disconnected)) => {
                return recorder.finish();
            }
            (Ok(false), _) => continue,
            (Err(error), _) => Err(error),
            (Ok(true), Ok(Command::Rtp(track, arrival, packet))) => {
                recorder.push_rtp(track, arrival, packet)
            }
            (Ok(true), Ok(Command::Frame(track, frame))) => recorder.push_frame(track, *frame),
            (Ok(true), Ok(Command::Report(track, report))) => {
                recorder.push_sender_report(track, report)
            }
            (Ok(true), Err(RecvTimeoutError::Timeout)) => recorder.flush(),
        };
        if let Err(error) = done
            && !matches!(error, RecordError::UnknownTrack)
            && let Some(hook) = on_failure.take()
        {
            if matches!(error, RecordError::ReaderClosed(_)) {
                tracing::debug!(%error, "the live stream ends");
            } else {
                tracing::warn!(%error, "the recording failed");
            }
            *lock(&shared.failure) = Some(error.clone());
            hook(&error);
        }
    }
}

/// Keeps frames from a target that is not open yet: a reader that comes late starts at a keyframe
/// of then.
#[derive(Debug, Default)]
struct Gate {
    is_open: bool,
    /// Pictures were dropped, so the next one has to be a keyframe.
    skips: bool,
}

impl Gate {
    /// Whether the recorder can take the command.
    fn pass(
        &mut self,
        recorder: &mut Recorder,
        command: &Result<Command, RecvTimeoutError>,
        shared: &Shared,
    ) -> Result<bool, RecordError> {
        if !self.is_open {
            self.is_open = recorder.open()?;
            self.skips |= !self.is_open;
            if self.skips {
                shared.skipping.store(true, Ordering::Relaxed);
            }
        }
        if let Ok(Command::Frame(track, frame)) = command
            && track.is_video()
            && self.skips
        {
            self.skips = !(self.is_open && frame.keyframe);
            return Ok(!self.skips);
        }
        Ok(self.is_open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TrackId {
    /// Whether it is the video track.
    #[must_use]
    pub fn is_video(self) -> bool {
        self.0 == Kind::Video
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind, Result};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::clip::{Clip, ClipKind};
    use crate::packetizer::{Packetizer, PacketizerConfig};
    use crate::target::Target;

    /// A disk that blocks until the test releases it, and is full afterwards.
    #[derive(Debug)]
    struct HangingDisk(Mutex<Receiver<()>>);

    impl Target for HangingDisk {
        fn append(&mut self, _bytes: &[u8]) -> Result<()> {
            lock(&self.0).recv().unwrap();
            Err(Error::from(ErrorKind::StorageFull))
        }

        fn patch(&mut self, _offset: u64, _bytes: &[u8]) -> Result<()> {
            Ok(())
        }

        fn sync(&mut self) -> Result<()> {
            Ok(())
        }

        fn length(&self) -> u64 {
            0
        }

        fn discard(&mut self) {}
    }

    #[test]
    fn track_of_another_codec_is_refused() {
        let (_release, hang) = channel();
        let disk = Box::new(HangingDisk(Mutex::new(hang)));
        let path = Path::new("/nowhere/r.mkv");
        let config = RecorderConfig::default();
        let recorder = Recorder::with_target(path, Container::Matroska, config, disk);
        let handle = RecorderHandle::run(recorder, Box::new(|_| {})).unwrap();
        let track = handle.add_video(VideoCodec::H264).unwrap();
        let refused = handle.add_video(VideoCodec::Vp8);
        let vp8 = Codec::Video(VideoCodec::Vp8);
        assert!(matches!(refused, Err(RecordError::CodecChanged(codec)) if codec == vp8));
        assert_eq!(handle.add_video(VideoCodec::H264).unwrap(), track);
        assert_ne!(handle.add_audio(AudioCodec::Opus).unwrap(), track);
    }

    #[test]
    fn hanging_disk_blocks_no_push_and_failure_is_reported_once() {
        let (release, hang) = channel();
        let disk = Box::new(HangingDisk(Mutex::new(hang)));
        let path = Path::new("/nowhere/r.webm");
        let config = RecorderConfig::default();
        let recorder = Recorder::with_target(path, Container::WebM, config, disk);
        let (reported, failures) = channel();
        let hook = Box::new(move |error: &RecordError| reported.send(error.clone()).unwrap());
        let handle = RecorderHandle::run(recorder, hook).unwrap();
        assert!(handle.add_video(VideoCodec::H264).is_err());
        let track = handle.add_video(VideoCodec::Vp8).unwrap();
        let clip = Clip::bundled(ClipKind::Vp8Opus).unwrap();
        let samples = &clip.video().unwrap().samples;
        let codec = Codec::Video(VideoCodec::Vp8);
        let mut packetizer = Packetizer::new(codec, PacketizerConfig::new(1, 96, 0));
        let mut pushed = 0;
        for round in 0..6 {
            for sample in samples {
                let timestamp = u32::try_from(sample.pts).unwrap() + round * 5_400_000;
                for packet in packetizer.packetize(&sample.data, timestamp).unwrap() {
                    handle.push_rtp(track, Duration::from_millis(pushed), packet);
                    pushed += 1;
                }
            }
        }
        // The thread blocks in the first write, which follows the check of the first frames; then
        // the queue holds at most `QUEUE_MAX` commands.
        let queued = pushed - handle.overflow();
        assert!(queued <= u64::try_from(QUEUE_MAX).unwrap() + 258, "{queued} of {pushed}");
        assert!(handle.overflow() > 0);
        release.send(()).unwrap();
        drop(release);
        let failure = failures.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(failure, RecordError::DiskFull(_)));
        assert!(matches!(handle.failure(), Some(RecordError::DiskFull(_))));
        assert!(matches!(handle.add_video(VideoCodec::Vp8), Err(RecordError::DiskFull(_))));
        assert!(matches!(handle.finish(), Err(RecordError::DiskFull(_))));
        assert!(failures.recv().is_err(), "told once");
    }
}
