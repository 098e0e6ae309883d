//! Received media on its way to the counters and the file.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kvs_viewer::record::{NotRecorded, Recording};
use negotiation_core::MediaKind;
use peer_webrtc::{Codec, EncodedFrame, MediaEvent, MediaReceiver, PeerMonitor};
use recording::{FailureHook, LiveOutput, RecordError, SenderReport, Summary};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::args::OutputArgs;
use super::status::Status;
use super::streams::Streams;

/// What became of a file.
pub(crate) type Recorded = Result<Summary, RecordError>;

/// Where media is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The file of `--record`.
    Recording,
    /// The live stream of `--output`.
    Live,
}

/// What becomes known of a file while it is written.
#[derive(Debug)]
pub(crate) enum FileNews {
    /// The recording cannot continue.
    Failed(Destination, RecordError),
    /// It cannot hold some media, and goes on without it. Sent once for each codec.
    NotWritten { to: Destination, kind: MediaKind, codec: Codec, why: RecordError },
}

/// What became of the files.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) recorded: Option<Recorded>,
    pub(crate) live: Option<LiveEnd>,
}

/// How a live stream ended.
pub(crate) type LiveEnd = Result<Recorded, Stalled>;

/// The reader of a live stream did not take the rest in time.
#[derive(Debug)]
pub(crate) struct Stalled;

/// Where media is written, as far as anything is wanted.
#[derive(Default)]
pub(crate) struct Files {
    pub(crate) recording: Option<Recording>,
    pub(crate) live: Option<Recording>,
}

impl Files {
    fn each(&mut self) -> impl Iterator<Item = (Destination, &mut Recording)> {
        let recording = self.recording.as_mut().map(|file| (Destination::Recording, file));
        let live = self.live.as_mut().map(|file| (Destination::Live, file));
        recording.into_iter().chain(live)
    }

    /// Ends both side by side, since either may wait for a disk or a reader.
    async fn finish(self) -> Ended {
        let finish = |file: Recording| tokio::task::spawn_blocking(move || file.finish());
        let (recording, live) = (self.recording.map(finish), self.live.map(finish));
        let live = match live {
            None => None,
            Some(live) => Some(match timeout(LIVE_ENDING_MAX, live).await {
                Ok(ended) => Ok(ended.unwrap_or(Err(RecordError::Ended))),
                Err(_) => Err(Stalled),
            }),
        };
        let recorded = match recording {
            None => None,
            Some(recording) => Some(recording.await.unwrap_or(Err(RecordError::Ended))),
        };
        Ended { recorded, live }
    }
}

/// Passes on media in a task beside the session, and ends when the peer port is dropped.
pub(crate) struct MediaPump {
    receiver: MediaReceiver,
    files: Files,
    monitor: PeerMonitor,
    news: mpsc::UnboundedSender<FileNews>,
    streams: Arc<Mutex<Streams>>,
}

/// The time within which a disk must accept the rest of a file.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// A reader of a live stream may take so long for the rest of it.
const LIVE_ENDING_MAX: Duration = Duration::from_millis(500);

/// After this time the terminal shows that the command waits for the disk.
pub(crate) const ENDING_USUAL: Duration = Duration::from_secs(2);

impl MediaPump {
    pub(crate) fn new(
        receiver: MediaReceiver,
        files: Files,
        monitor: PeerMonitor,
        news: mpsc::UnboundedSender<FileNews>,
        streams: Arc<Mutex<Streams>>,
    ) -> Self {
        lock(&streams).watch(monitor.clone());
        Self { receiver, files, monitor, news, streams }
    }

    /// Takes media until there is no more, then ends the files.
    pub(crate) async fn run(mut self) -> Ended {
        while let Some(event) = self.receiver.next().await {
            match event {
                MediaEvent::Track { kind, codec, .. } => self.on_track(kind, codec),
                MediaEvent::Frame { kind, frame, at, .. } => {
                    self.on_frame(kind, frame, at);
                }
                // They were not requested.
                MediaEvent::Rtp { .. } => {}
                MediaEvent::SenderReport { ssrc, ntp, rtp, .. } => {
                    self.on_report(SenderReport { ssrc, ntp, rtp_timestamp: rtp })
                }
                MediaEvent::Ended { totals, .. } => lock(&self.streams).end_all(&totals),
            }
            let overflow: u64 = self.files.each().map(|(_, file)| file.lost()).sum();
            lock(&self.streams).set_dropped(self.receiver.lost() + overflow);
        }
        self.files.finish().await
    }

    fn on_track(&mut self, kind: MediaKind, codec: Codec) {
        lock(&self.streams).begin(kind, codec);
        for (to, file) in self.files.each() {
            let news = match file.track(kind, codec) {
                Ok(()) => continue,
                Err(NotRecorded::Stream { kind, codec, why }) => {
                    FileNews::NotWritten { to, kind, codec, why }
                }
                Err(NotRecorded::Failed(error)) => FileNews::Failed(to, error),
                Err(_) => continue,
            };
            // The receiver is gone only when the command is ending anyway.
            let _ = self.news.send(news);
        }
    }

    fn on_frame(&mut self, kind: MediaKind, frame: EncodedFrame, at: Instant) {
        lock(&self.streams).take(&frame);
        let mut requests_keyframe = false;
        for (_, file) in self.files.each() {
            requests_keyframe |= file.frame(kind, frame.clone(), at);
        }
        if requests_keyframe {
            self.monitor.request_keyframe();
        }
    }

    fn on_report(&mut self, report: SenderReport) {
        for (_, file) in self.files.each() {
            file.report(report);
        }
    }
}

/// What became of the recording in `path`. A disk that hangs is waited for neither without a limit
/// nor against the person's will.
pub(crate) async fn recorded(
    path: Option<&Path>,
    pump: JoinHandle<Ended>,
    interrupted: impl Future<Output = ()>,
    status: &Status,
) -> Ended {
    let patience = async {
        sleep(ENDING_USUAL).await;
        status.error("Waiting for the disk to take the rest of the recording; Ctrl-C gives it up.");
        sleep(ENDING_MAX - ENDING_USUAL).await;
    };
    let why = tokio::select! {
        biased;
        ended = pump => {
            let recorded = path.map(|_| Err(RecordError::Ended));
            return ended.unwrap_or(Ended { recorded, live: None });
        }
        () = interrupted => "interrupted before the disk took the rest".to_owned(),
        () = patience => format!("the disk did not take the rest in {} s", ENDING_MAX.as_secs()),
    };
    let source = Arc::new(io::Error::new(io::ErrorKind::TimedOut, why));
    let recorded = path.map(|path| Err(RecordError::Io { path: path.to_owned(), source }));
    Ended { recorded, live: None }
}

/// Locks the counters. The media pump holds the lock for one frame, the statistics for one sum a
/// second.
pub(crate) fn lock(streams: &Mutex<Streams>) -> MutexGuard<'_, Streams> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the files that the arguments name. The camera turns out to send no picture when
/// `sound_alone` is set.
pub(crate) fn start_files(
    output: &OutputArgs,
    title: &str,
    (video, audio): (bool, bool),
    sound_alone: Arc<AtomicBool>,
    news: &mpsc::UnboundedSender<FileNews>,
) -> Result<Files, RecordError> {
    let hook = |to| -> FailureHook {
        let news = news.clone();
        Box::new(move |error| {
            // The receiver is gone only when the command is ending anyway.
            let _ = news.send(FileNews::Failed(to, error.clone()));
        })
    };
    let mut files = Files::default();
    if let Some(path) = &output.record {
        let hook = hook(Destination::Recording);
        files.recording = Some(Recording::start(path, title, video, sound_alone, hook)?);
    }
    if let Some((path, container)) = output.live() {
        let to = LiveOutput::open(path)?;
        let hook = hook(Destination::Live);
        files.live = Some(Recording::live(to, container, title, (video, audio), hook)?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::status::Verbosity;
    use super::*;

    /// Simulates a disk, and therefore a pump, that never finishes.
    async fn of_a_disk_that_hangs(interrupted: impl Future<Output = ()>) -> String {
        let pump = tokio::spawn(std::future::pending());
        let path = Path::new("a.mp4");
        let ended =
            recorded(Some(path), pump, interrupted, &Status::start(Verbosity::Normal)).await;
        ended.recorded.expect("there is a recording").expect_err("it is not whole").to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn wait_for_hanging_disk_times_out() {
        let before = tokio::time::Instant::now();
        let reported = of_a_disk_that_hangs(std::future::pending()).await;
        assert_eq!(reported, "a.mp4 cannot be written: the disk did not take the rest in 30 s");
        assert_eq!(before.elapsed(), ENDING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn interrupt_ends_wait_only_for_hanging_disk() {
        let before = tokio::time::Instant::now();
        let reported = of_a_disk_that_hangs(sleep(Duration::from_secs(5))).await;
        assert_eq!(reported, "a.mp4 cannot be written: interrupted before the disk took the rest");
        assert_eq!(before.elapsed(), Duration::from_secs(5));

        let nothing = || Some(Err(RecordError::NothingRecorded));
        let pump = tokio::spawn(async move { Ended { recorded: nothing(), live: None } });
        let ended =
            recorded(None, pump, sleep(Duration::from_secs(5)), &Status::start(Verbosity::Normal))
                .await;
        assert!(matches!(ended.recorded, Some(Err(RecordError::NothingRecorded))));
    }

    #[tokio::test]
    async fn failed_recording_is_not_success() {
        let broken = || tokio::spawn(async { panic!("the test breaks it") });
        let (status, wait) = (Status::start(Verbosity::Normal), std::future::pending::<()>);
        let ended = recorded(Some(Path::new("a.mp4")), broken(), wait(), &status).await;
        assert!(matches!(ended.recorded, Some(Err(RecordError::Ended))));
        assert!(recorded(None, broken(), wait(), &status).await.recorded.is_none());
    }
}
