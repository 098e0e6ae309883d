//! Received media on its way to the counters and the file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use negotiation_core::MediaKind;
use peer_webrtc::{Codec, EncodedFrame, MediaEvent, MediaReceiver, PeerMonitor};
use recording::{
    Container, RecordError, RecorderConfig, RecorderHandle, SenderReport, Summary, TrackId,
    VideoCodec,
};
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
    /// Media comes that the file does not hold; the recording goes on without it. Told once for each codec.
    NotRecorded {
        /// What comes.
        kind: MediaKind,
        /// How it is encoded.
        codec: Codec,
        /// Why the file does not hold it.
        why: RecordError,
    },
}

/// A recording, for the pump to feed.
pub(crate) struct Recording {
    handle: RecorderHandle,
    /// A picture is wanted, so the recording goes on without sound that the file cannot hold.
    video: bool,
    /// The camera turned out to send no picture.
    sound_alone: Arc<AtomicBool>,
}

/// Runs beside the session and ends when the peer port is gone.
pub(crate) struct MediaPump {
    receiver: MediaReceiver,
    recording: Option<Recording>,
    monitor: PeerMonitor,
    news: mpsc::UnboundedSender<RecordingNews>,
    streams: Arc<Mutex<Streams>>,
    /// When a keyframe was last asked for because the recorder lost a picture.
    asked: Option<Instant>,
    /// The file's tracks; a later stream of the same codec goes on in them.
    tracks: BTreeMap<MediaKind, (TrackId, recording::Codec)>,
    /// What was said not to be recorded.
    not_recorded: BTreeSet<Codec>,
}

/// A disk may take so long for the rest of a file.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// After so long people are told what is waited for.
pub(crate) const ENDING_USUAL: Duration = Duration::from_secs(2);

/// A picture that the recorder lost asks for a keyframe at most this often.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl MediaPump {
    pub(crate) fn new(
        receiver: MediaReceiver,
        recording: Option<Recording>,
        monitor: PeerMonitor,
        news: mpsc::UnboundedSender<RecordingNews>,
        streams: Arc<Mutex<Streams>>,
    ) -> Self {
        lock(&streams).watch(monitor.clone());
        Self {
            receiver,
            recording,
            monitor,
            news,
            streams,
            asked: None,
            tracks: BTreeMap::new(),
            not_recorded: BTreeSet::new(),
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
            let overflow =
                self.recording.as_ref().map_or(0, |recording| recording.handle.overflow());
            lock(&self.streams).set_dropped(self.receiver.lost() + overflow);
        }
        let Recording { handle: recorder, sound_alone, .. } = self.recording.take()?;
        if sound_alone.load(Ordering::Relaxed) {
            recorder.accept_sound_alone();
        }
        // Ending waits for the disk.
        let ended = tokio::task::spawn_blocking(move || recorder.finish()).await;
        Some(ended.unwrap_or(Err(RecordError::Ended)))
    }

    fn on_track(&mut self, kind: MediaKind, codec: Codec) {
        lock(&self.streams).begin(kind, codec);
        let Some(recording) = &self.recording else { return };
        let encoded = codec.encoded();
        let added = match encoded {
            recording::Codec::Video(codec) => recording.handle.add_video(codec),
            recording::Codec::Audio(codec) => recording.handle.add_audio(codec),
        };
        let news = match added {
            Ok(track) => {
                self.tracks.insert(kind, (track, encoded));
                return;
            }
            Err(why @ (RecordError::CodecNotSupported { .. } | RecordError::CodecChanged(_)))
                if kind == MediaKind::Audio && recording.video =>
            {
                if !self.not_recorded.insert(codec) {
                    return;
                }
                RecordingNews::NotRecorded { kind, codec, why }
            }
            Err(error) => RecordingNews::Failed(error),
        };
        // The receiver is gone only when the command is ending anyway.
        let _ = self.news.send(news);
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
        let Some(recording) = &self.recording else { return };
        for (track, _) in self.tracks.values() {
            recording.handle.push_sender_report(*track, report);
        }
    }

    /// Where a stream is recorded, if it is.
    fn recorded(&self, kind: MediaKind, codec: Codec) -> Option<(&RecorderHandle, TrackId)> {
        let (track, recorded) = self.tracks.get(&kind)?;
        let same = codec.encoded() == *recorded;
        self.recording.as_ref().filter(|_| same).map(|recording| (&recording.handle, *track))
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

/// The codecs to offer: all of them, those first that the file can hold. A camera that has several takes an early one; what the
/// file cannot hold is reported when it comes.
pub(crate) fn codecs_for(record: Option<&Path>) -> Vec<Codec> {
    let mut codecs =
        vec![Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Opus, Codec::Pcmu, Codec::Pcma];
    if let Some(Ok(container)) = record.map(Container::from_path) {
        codecs.sort_by_key(|codec| container.check(codec.encoded()).is_err());
    }
    codecs
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
    let config = RecorderConfig {
        video,
        title: Some(title.to_owned()),
        // Arrivals count from the start of the peer port, which is now.
        origin: SystemTime::now().duration_since(UNIX_EPOCH).ok(),
        ..RecorderConfig::default()
    };
    let hook = Box::new(move |error: &RecordError| {
        let _ = news.send(RecordingNews::Failed(error.clone()));
    });
    let handle = RecorderHandle::spawn(path, config, hook)?;
    Ok(Recording { handle, video, sound_alone })
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
    fn offer_has_every_codec_and_prefers_what_the_file_holds() {
        let all = codecs_for(None);
        for name in ["a.MP4", "a.webm", "a.mkv"] {
            let mut offered = codecs_for(Some(Path::new(name)));
            let first = offered.first().copied();
            assert_eq!(first, Some(if name == "a.webm" { Codec::Vp8 } else { Codec::H264 }));
            assert!(holds_h264(Some(Path::new(name))) == (name != "a.webm"));
            offered.sort();
            let mut all = all.clone();
            all.sort();
            assert_eq!(offered, all, "{name}: nothing is left out");
        }
        assert!(all.contains(&Codec::Pcmu) && all.contains(&Codec::Pcma));
    }
}
