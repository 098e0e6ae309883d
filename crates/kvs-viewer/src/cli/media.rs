//! Received media on its way to the counters and the file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use negotiation_core::MediaKind;
use peer_webrtc::{Codec, EncodedFrame, MediaEvent, MediaReceiver, PeerMonitor};
use recording::{RecordError, RecorderConfig, RecorderHandle, SenderReport, Summary, TrackId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::status::Status;
use super::streams::Streams;

/// What became of a recording.
pub(crate) type Recorded = Result<Summary, RecordError>;

/// Runs beside the session and ends when the peer port is gone.
pub(crate) struct MediaPump {
    receiver: MediaReceiver,
    recorder: Option<RecorderHandle>,
    monitor: PeerMonitor,
    failures: mpsc::UnboundedSender<RecordError>,
    streams: Arc<Mutex<Streams>>,
    /// When a keyframe was last asked for because the recorder lost a picture.
    asked: Option<Instant>,
    /// The file's tracks; a later stream of the same codec goes on in them.
    tracks: BTreeMap<MediaKind, (TrackId, recording::Codec)>,
}

/// A disk may take so long for the rest of a file.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// After so long people are told what is waited for.
const ENDING_USUAL: Duration = Duration::from_secs(2);

/// A picture that the recorder lost asks for a keyframe at most this often.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl MediaPump {
    pub(crate) fn new(
        receiver: MediaReceiver,
        recorder: Option<RecorderHandle>,
        monitor: PeerMonitor,
        failures: mpsc::UnboundedSender<RecordError>,
        streams: Arc<Mutex<Streams>>,
    ) -> Self {
        lock(&streams).watch(monitor.clone());
        Self {
            receiver,
            recorder,
            monitor,
            failures,
            streams,
            asked: None,
            tracks: BTreeMap::new(),
        }
    }

    /// Takes media until there is no more, then ends the file.
    pub(crate) async fn run(mut self) -> Option<Recorded> {
        while let Some(event) = self.receiver.next().await {
            match event {
                MediaEvent::Track { kind, codec, .. } => self.on_track(kind, codec),
                MediaEvent::Frame { kind, codec, frame, at, .. } => {
                    self.on_frame(kind, codec, frame, at);
                }
                // They are not asked for.
                MediaEvent::Rtp { .. } => {}
                MediaEvent::SenderReport { ssrc, ntp, rtp, .. } => {
                    self.on_report(SenderReport { ssrc, ntp, rtp_timestamp: rtp })
                }
                MediaEvent::Ended { totals, .. } => lock(&self.streams).end_all(&totals),
            }
            let overflow = self.recorder.as_ref().map_or(0, RecorderHandle::overflow);
            lock(&self.streams).set_dropped(self.receiver.lost() + overflow);
        }
        let recorder = self.recorder.take()?;
        // Ending waits for the disk.
        let ended = tokio::task::spawn_blocking(move || recorder.finish()).await;
        Some(ended.unwrap_or(Err(RecordError::Ended)))
    }

    fn on_track(&mut self, kind: MediaKind, codec: Codec) {
        lock(&self.streams).begin(kind, codec);
        let (Some(recorder), Some(codec)) = (&self.recorder, codec.encoded()) else { return };
        let added = match codec {
            recording::Codec::Video(codec) => recorder.add_video(codec),
            recording::Codec::Audio(codec) => recorder.add_audio(codec),
        };
        match added {
            Ok(track) => {
                self.tracks.insert(kind, (track, codec));
            }
            Err(error) => {
                // The receiver is gone only when the command is ending anyway.
                let _ = self.failures.send(error);
            }
        }
    }

    fn on_frame(&mut self, kind: MediaKind, codec: Codec, frame: EncodedFrame, at: Instant) {
        lock(&self.streams).take(&frame);
        let Some((recorder, track)) = self.recorded(kind, codec) else { return };
        recorder.push_frame(track, frame);
        // The disk was too slow: the recording goes on at the next keyframe.
        let due = self.asked.is_none_or(|asked| at.duration_since(asked) >= ASK_EVERY);
        if recorder.needs_keyframe() && due {
            self.asked = Some(at);
            self.monitor.request_keyframe();
        }
    }

    /// The recorder ignores a report of another source than the track's.
    fn on_report(&self, report: SenderReport) {
        let Some(recorder) = &self.recorder else { return };
        for (track, _) in self.tracks.values() {
            recorder.push_sender_report(*track, report);
        }
    }

    /// Where a stream is recorded, if it is.
    fn recorded(&self, kind: MediaKind, codec: Codec) -> Option<(&RecorderHandle, TrackId)> {
        let (track, recorded) = self.tracks.get(&kind)?;
        let same = codec.encoded() == Some(*recorded);
        self.recorder.as_ref().filter(|_| same).map(|recorder| (recorder, *track))
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

/// The codecs to offer, so that the camera's choice fits the file.
pub(crate) fn codecs_for(record: Option<&Path>) -> Vec<Codec> {
    let extension = record.and_then(Path::extension).and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => vec![Codec::H264, Codec::Opus],
        "webm" => vec![Codec::Vp8, Codec::Vp9, Codec::Opus],
        _ => vec![Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Opus],
    }
}

/// Opens the file and its thread.
pub(crate) fn start_recorder(
    path: &Path,
    video: bool,
    failures: mpsc::UnboundedSender<RecordError>,
) -> Result<RecorderHandle, RecordError> {
    let config = RecorderConfig { video, ..RecorderConfig::default() };
    let hook = Box::new(move |error: &RecordError| {
        let _ = failures.send(error.clone());
    });
    RecorderHandle::spawn(path, config, hook)
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
    async fn a_disk_that_hangs_is_given_up_in_time() {
        let before = tokio::time::Instant::now();
        let told = of_a_disk_that_hangs(std::future::pending()).await;
        assert_eq!(told, "a.mp4 cannot be written: the disk did not take the rest in 30 s");
        assert_eq!(before.elapsed(), ENDING_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_gives_up_a_disk_that_hangs_and_no_other() {
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
    async fn a_recording_that_broke_is_no_success() {
        let broken = || tokio::spawn(async { panic!("the test breaks it") });
        let (status, wait) = (Status::start(Verbosity::Normal), std::future::pending::<()>);
        let ended = recorded(Some(Path::new("a.mp4")), broken(), wait(), &status).await;
        assert!(matches!(ended, Some(Err(RecordError::Ended))));
        assert!(recorded(None, broken(), wait(), &status).await.is_none());
    }

    #[test]
    fn the_offer_fits_the_file() {
        assert_eq!(codecs_for(Some(Path::new("a.MP4"))), [Codec::H264, Codec::Opus]);
        assert!(!codecs_for(Some(Path::new("a.webm"))).contains(&Codec::H264));
        assert!(codecs_for(None).contains(&Codec::Vp9));
    }
}
