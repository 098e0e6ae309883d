//! A recorder on a thread of its own, so that the disk never holds up media.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rtc_rtp::packet::Packet;

use crate::codec::{AudioCodec, VideoCodec};
use crate::error::RecordError;
use crate::recorder::{Kind, Recorder, RecorderConfig, Summary, TrackId};
use crate::timeline::SenderReport;

/// Packets that wait for the disk: about two seconds at 20 Mbps.
const QUEUE_MAX: usize = 4096;

/// With nothing coming in for so long, what there is of the fragment is written.
const IDLE: Duration = Duration::from_secs(1);

/// What the thread calls when the recording fails, once.
pub type FailureHook = Box<dyn FnOnce(&RecordError) + Send>;

/// Feeds a [`Recorder`] that runs on its own thread. No call but [`Self::finish`] blocks: a packet that finds the queue full is
/// dropped and counted, and the picture resumes at the next keyframe.
#[derive(Debug)]
pub struct RecorderHandle {
    commands: SyncSender<Command>,
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Summary, RecordError>>,
}

#[derive(Debug, Default)]
struct Shared {
    overflow: AtomicU64,
    failure: Mutex<Option<RecordError>>,
}

#[derive(Debug)]
enum Command {
    Add(SyncSender<Result<TrackId, RecordError>>, Added),
    Rtp(TrackId, Duration, Packet),
    Report(TrackId, SenderReport),
    Finish,
}

#[derive(Debug, Clone, Copy)]
enum Added {
    Video(VideoCodec),
    Audio(AudioCodec),
}

impl RecorderHandle {
    /// Creates the file, at once, and starts the thread. `on_failure` hears of a full disk or the like while it goes on.
    pub fn spawn(
        path: impl AsRef<Path>,
        config: RecorderConfig,
        on_failure: FailureHook,
    ) -> Result<Self, RecordError> {
        Self::run(Recorder::create(path, config)?, on_failure)
    }

    fn run(recorder: Recorder, on_failure: FailureHook) -> Result<Self, RecordError> {
        let (commands, queue) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || record(recorder, &queue, &shared, on_failure)
            })
            .map_err(|error| RecordError::io(Path::new("the recorder's thread"), error))?;
        Ok(Self { commands, shared, thread })
    }

    /// Adds the video track. Waits for the thread to answer, which is soon unless the disk hangs.
    pub fn add_video(&self, codec: VideoCodec) -> Result<TrackId, RecordError> {
        self.add(Added::Video(codec))
    }

    /// Adds the audio track; as [`Self::add_video`].
    pub fn add_audio(&self, codec: AudioCodec) -> Result<TrackId, RecordError> {
        self.add(Added::Audio(codec))
    }

    /// Hands a packet over; see [`Recorder::push_rtp`]. Never blocks.
    pub fn push_rtp(&self, track: TrackId, arrival: Duration, packet: Packet) {
        self.hand_over(Command::Rtp(track, arrival, packet));
    }

    /// Hands a sender report over; see [`Recorder::push_sender_report`]. Never blocks.
    pub fn push_sender_report(&self, track: TrackId, report: SenderReport) {
        self.hand_over(Command::Report(track, report));
    }

    /// How many packets and reports found the queue full.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.shared.overflow.load(Ordering::Relaxed)
    }

    /// Why the recording has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<RecordError> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the file once all that was handed over is in it. Blocks; on an async runtime call it where blocking is allowed.
    pub fn finish(self) -> Result<Summary, RecordError> {
        // The thread is gone only if it panicked, and joining says so.
        let _ = self.commands.send(Command::Finish);
        self.thread.join().unwrap_or(Err(RecordError::Ended))
    }

    fn add(&self, added: Added) -> Result<TrackId, RecordError> {
        let (answer, answered) = sync_channel(1);
        self.commands.send(Command::Add(answer, added)).map_err(|_| RecordError::Ended)?;
        answered.recv().unwrap_or(Err(RecordError::Ended))
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

/// The thread: until told to finish, or the handle is dropped, which finishes too.
fn record(
    mut recorder: Recorder,
    queue: &Receiver<Command>,
    shared: &Shared,
    on_failure: FailureHook,
) -> Result<Summary, RecordError> {
    let mut on_failure = Some(on_failure);
    loop {
        let done = match queue.recv_timeout(IDLE) {
            Ok(Command::Add(answer, added)) => {
                let track = match added {
                    Added::Video(codec) => recorder.add_video(codec),
                    Added::Audio(codec) => recorder.add_audio(codec),
                };
                // Nobody waits for the answer of a handle that is gone.
                let _ = answer.send(track);
                Ok(())
            }
            Ok(Command::Rtp(track, arrival, packet)) => recorder.push_rtp(track, arrival, packet),
            Ok(Command::Report(track, report)) => recorder.push_sender_report(track, report),
            Ok(Command::Finish) | Err(RecvTimeoutError::Disconnected) => return recorder.finish(),
            Err(RecvTimeoutError::Timeout) => recorder.flush(),
        };
        if let Err(error) = done
            && let Some(hook) = on_failure.take()
        {
            tracing::warn!(%error, "the recording failed");
            *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            hook(&error);
        }
    }
}

impl TrackId {
    /// Whether it is the video track.
    #[must_use]
    pub fn is_video(self) -> bool {
        self.0 == Kind::Video
    }
}
