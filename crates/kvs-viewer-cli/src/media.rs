//! Received media on its way to the counters and the file.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kvs_viewer::record::{NotRecorded, Recording};
use negotiation_core::MediaKind;
use peer_webrtc::{Codec, EncodedFrame, MediaEvent, MediaReceiver, PeerMonitor};
use recording::{Container, RecordError, SenderReport, Summary, VideoCodec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::status::Status;
use super::streams::Streams;

/// What became of a recording.
pub(crate) type Recorded = Result<Summary, RecordError>;

/// What becomes known of a recording while it runs.
#[derive(Debug)]
pub(crate) enum RecordingNews {
    /// It cannot go on.
    Failed(RecordError),
    /// Media comes that the file does not hold; the recording goes on without it. SessionUpdate once for each codec.
    NotRecorded {
        /// What comes.
        kind: MediaKind,
        /// How it is encoded.
        codec: Codec,
        /// Why the file does not hold it.
        why: RecordError,
    },
}

/// Runs beside the session and ends when the peer port is gone.
pub(crate) struct MediaPump {
    receiver: MediaReceiver,
    recording: Option<Recording>,
    monitor: PeerMonitor,
    news: mpsc::UnboundedSender<RecordingNews>,
    streams: Arc<Mutex<Streams>>,
}

/// A disk may take so long for the rest of a file.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// After so long the terminal shows what is waited for.
pub(crate) const ENDING_USUAL: Duration = Duration::from_secs(2);

impl MediaPump {
    pub(crate) fn new(
        receiver: MediaReceiver,
        recording: Option<Recording>,
        monitor: PeerMonitor,
        news: mpsc::UnboundedSender<RecordingNews>,
        streams: Arc<Mutex<Streams>>,
    ) -> Self {
        lock(&streams).watch(monitor.clone());
        Self { receiver, recording, monitor, news, streams }
    }

    /// Takes media until there is no more, then ends the file.
    pub(crate) async fn run(mut self) -> Option<Recorded> {
        while let Some(event) = self.receiver.next().await {
            match event {
                MediaEvent::Track { kind, codec, .. } => self.on_track(kind, codec),
                MediaEvent::Frame { kind, frame, at, .. } => {
                    self.on_frame(kind, frame, at);
                }
                // They are not asked for.
                MediaEvent::Rtp { .. } => {}
                MediaEvent::SenderReport { ssrc, ntp, rtp, .. } => {
                    self.on_report(SenderReport { ssrc, ntp, rtp_timestamp: rtp })
                }
                MediaEvent::Ended { totals, .. } => lock(&self.streams).end_all(&totals),
            }
            let overflow = self.recording.as_ref().map_or(0, Recording::lost);
            lock(&self.streams).set_dropped(self.receiver.lost() + overflow);
        }
        let recording = self.recording.take()?;
        // Ending waits for the disk.
        let ended = tokio::task::spawn_blocking(move || recording.finish()).await;
        Some(ended.unwrap_or(Err(RecordError::Ended)))
    }

    fn on_track(&mut self, kind: MediaKind, codec: Codec) {
        lock(&self.streams).begin(kind, codec);
        let Some(recording) = &mut self.recording else { return };
        let news = match recording.track(kind, codec) {
            Ok(()) => return,
            Err(NotRecorded::Stream { kind, codec, why }) => {
                RecordingNews::NotRecorded { kind, codec, why }
            }
            Err(NotRecorded::Failed(error)) => RecordingNews::Failed(error),
            Err(_) => return,
        };
        // The receiver is gone only when the command is ending anyway.
        let _ = self.news.send(news);
    }

    fn on_frame(&mut self, kind: MediaKind, frame: EncodedFrame, at: Instant) {
        lock(&self.streams).take(&frame);
        let Some(recording) = &mut self.recording else { return };
        if recording.frame(kind, frame, at) {
            self.monitor.request_keyframe();
        }
    }

    fn on_report(&self, report: SenderReport) {
        if let Some(recording) = &self.recording {
            recording.report(report);
        }
    }
}

/// What became of the recording in `path`. A disk that hangs is waited for neither without a limit nor against
/// the person's will.
pub(crate) async fn recorded(
    path: Option<&Path>,
    pump: JoinHandle<Option<Recorded>>,
    interrupted: impl Future<Output = ()>,
    status: &Status,
) -> Option<Recorded> {
    let patience = async {
        sleep(ENDING_USUAL).await;
        status.error("Waiting for the disk to take the rest of the recording; Ctrl-C gives it up.");
        sleep(ENDING_MAX - ENDING_USUAL).await;
    };
    let why = tokio::select! {
        biased;
        ended = pump => {
            return ended.unwrap_or_else(|_| path.map(|_| Err(RecordError::Ended)));
        }
        () = interrupted => "interrupted before the disk took the rest".to_owned(),
        () = patience => format!("the disk did not take the rest in {} s", ENDING_MAX.as_secs()),
    };
    let source = Arc::new(io::Error::new(io::ErrorKind::TimedOut, why));
    Some(Err(RecordError::Io { path: path?.to_owned(), source }))
}

/// The lock is held for a packet by the one side, for a sum each second by the other.
pub(crate) fn lock(streams: &Mutex<Streams>) -> MutexGuard<'_, Streams> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file of that name can hold H.264.
pub(crate) fn holds_h264(record: Option<&Path>) -> bool {
    let h264 = recording::Codec::Video(VideoCodec::H264);
    record.is_none_or(|path| Container::from_path(path).is_ok_and(|c| c.check(h264).is_ok()))
}

/// Starts a recording and its thread. The camera turns out to send no picture when `sound_alone` is set.
pub(crate) fn start_recorder(
    path: &Path,
    title: &str,
    video: bool,
    sound_alone: Arc<AtomicBool>,
    news: mpsc::UnboundedSender<RecordingNews>,
) -> Result<Recording, RecordError> {
    let hook = Box::new(move |error: &RecordError| {
        let _ = news.send(RecordingNews::Failed(error.clone()));
    });
    Recording::start(path, title, video, sound_alone, hook)
}

#[cfg(test)]
mod tests {
    use super::super::status::Verbosity;
    use super::*;

    /// The disk never answers, and neither does what writes to it.
    async fn of_a_disk_that_hangs(interrupted: impl Future<Output = ()>) -> String {
        let pump = tokio::spawn(std::future::pending());
        let path = Path::new("a.mp4");
        let ended =
            recorded(Some(path), pump, interrupted, &Status::start(Verbosity::Normal)).await;
        ended.expect("there is a recording").expect_err("it is not whole").to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn disk_that_hangs_is_given_up_in_time() {
        let before = tokio::time::Instant::now();
        let told = of_a_disk_that_hangs(std::future::pending()).await;
        assert_eq!(told, "a.mp4 cannot be written: the disk did not take the rest in 30 s");
        assert_eq!(before.elapsed(), ENDING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn interrupt_gives_up_a_disk_that_hangs_and_no_other() {
        let before = tokio::time::Instant::now();
        let told = of_a_disk_that_hangs(sleep(Duration::from_secs(5))).await;
        assert_eq!(told, "a.mp4 cannot be written: interrupted before the disk took the rest");
        assert_eq!(before.elapsed(), Duration::from_secs(5));

        let pump = tokio::spawn(async { Some(Err(RecordError::NothingRecorded)) });
        let ended =
            recorded(None, pump, sleep(Duration::from_secs(5)), &Status::start(Verbosity::Normal))
                .await;
        assert!(matches!(ended, Some(Err(RecordError::NothingRecorded))));
    }

    #[tokio::test]
    async fn recording_that_broke_is_no_success() {
        let broken = || tokio::spawn(async { panic!("the test breaks it") });
        let (status, wait) = (Status::start(Verbosity::Normal), std::future::pending::<()>);
        let ended = recorded(Some(Path::new("a.mp4")), broken(), wait(), &status).await;
        assert!(matches!(ended, Some(Err(RecordError::Ended))));
        assert!(recorded(None, broken(), wait(), &status).await.is_none());
    }

    #[test]
    fn webm_holds_no_h264() {
        for name in ["a.MP4", "a.webm", "a.mkv"] {
            assert!(holds_h264(Some(Path::new(name))) == (name != "a.webm"));
        }
    }
}
