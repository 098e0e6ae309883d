//! Uses the library as an application does, against an emulator and a camera in this process.
#![expect(clippy::wildcard_enum_match_arm, reason = "an application needs few updates")]

use std::time::Duration;

use kvs_camera::{Camera, CameraConfig};
use kvs_emulator::{
    DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Role,
};
use kvs_viewer::prelude::*;
use kvs_viewer::record::{Container, RecordError};
use kvs_viewer::{Codec, H264Format, RecordingUpdate, RetryPreset, VideoCodec, ViewerBuilder};
use signaling_aws::SignalingConfig;
use tokio::time::timeout;

const CHANNEL: &str = "door";

/// A time limit that no operation should reach, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

struct Stage {
    emulator: Emulator,
    camera: Option<Camera>,
}

impl Stage {
    async fn with_camera() -> Self {
        let mut stage = Self::without_camera().await;
        let signaling = SignalingConfig::builder(CHANNEL)
            .region(stage.emulator.region())
            .endpoint_url(stage.emulator.endpoint())
            .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
            .build()
            .expect("valid");
        let camera = Camera::start(CameraConfig::new(signaling)).await.expect("a camera");
        stage.camera = Some(camera);
        stage
    }

    async fn without_camera() -> Self {
        let channels = vec![CHANNEL.to_owned()];
        let config = EmulatorConfig { channels, ..EmulatorConfig::default() };
        Self { emulator: Emulator::start(config).await.expect("an emulator"), camera: None }
    }

    fn watch(&self) -> ViewerBuilder {
        Viewer::watch(CHANNEL)
            .region(self.emulator.region())
            .endpoint_url(self.emulator.endpoint())
            .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
    }

    async fn end(self) {
        if let Some(camera) = self.camera {
            camera.shutdown().await;
        }
        self.emulator.shutdown().await;
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_decodable_and_end_is_reported_once() {
    let stage = Stage::with_camera().await;
    let mut viewer = stage.watch().await.expect("valid");
    let (mut pictures, mut sound, mut live) = (Vec::new(), 0, false);
    in_time("frames", async {
        while pictures.len() < 30 || sound < 30 || !live {
            match viewer.next().await.expect("the session runs") {
                Update::Frame(frame) if frame.kind() == MediaKind::Video => pictures.push(frame),
                Update::Frame(_) => sound += 1,
                Update::Event(Event::Live) => live = true,
                Update::FramesLost(count) => panic!("{count} frames lost"),
                _ => {}
            }
        }
    })
    .await;
    let first = &pictures[0];
    assert_eq!(first.codec, Codec::Video(VideoCodec::H264));
    assert!(first.is_keyframe && first.size == Some((320, 240)), "{first}");
    // A start code, then the sequence parameter set.
    assert_eq!((&first.bytes[..4], first.bytes[4] & 0x1f), (&[0, 0, 0, 1][..], 7));
    let step = pictures[1].timestamp - pictures[0].timestamp;
    assert_eq!((first.timestamp, step.as_millis()), (Duration::ZERO, 66), "15 frames a second");
    assert!(pictures.is_sorted_by_key(|frame| frame.wall_clock));

    viewer.close();
    let mut ended = 0;
    in_time("the end", async {
        while let Some(update) = viewer.next().await {
            ended += usize::from(matches!(update, Update::Event(Event::Ended(_))));
        }
    })
    .await;
    assert_eq!(ended, 1);
    let outcome = in_time("the outcome", viewer.closed()).await;
    assert_eq!((outcome.reason, outcome.was_live), (EndReason::Closed, true));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_is_finished_before_the_session_is_over() {
    let stage = Stage::with_camera().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("door.mp4");
    let mut viewer = stage
        .watch()
        .record_to(&file)
        .h264_format(H264Format::LengthPrefixed)
        .await
        .expect("valid");
    let mut pictures = 0;
    let mut finished = None;
    in_time("the recording", async {
        while let Some(update) = viewer.next().await {
            match update {
                Update::Frame(frame) if frame.kind() == MediaKind::Video => {
                    let (length, _) = frame.bytes.split_first_chunk::<4>().expect("a NAL unit");
                    assert!(u32::from_be_bytes(*length) as usize <= frame.bytes.len() - 4);
                    pictures += 1;
                    if pictures == 45 {
                        viewer.close();
                    }
                }
                Update::Recording(RecordingUpdate::Finished(summary)) => finished = Some(summary),
                Update::Recording(other) => panic!("{other:?}"),
                _ => {}
            }
        }
    })
    .await;
    let summary = finished.expect("the file is complete");
    assert!(summary.video_frames >= 45, "{summary:?}");
    assert_eq!(kvs_viewer_tests::tools::probe(&file).pictures, summary.video_frames);
    assert_eq!(in_time("the outcome", viewer.closed()).await.reason, EndReason::Closed);
    let again = stage.watch().record_to(&file).await.expect_err("the file exists");
    assert_eq!(again.option, "record_to", "{again}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_media_is_written_as_it_arrives_and_its_reader_may_leave() {
    let stage = Stage::with_camera().await;
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("live");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("a named pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut begin = vec![0; 188 * 20];
            let mut pipe = std::fs::File::open(pipe).expect("it opens with the stream");
            std::io::Read::read_exact(&mut pipe, &mut begin).expect("media");
            begin
        }
    });
    let mut viewer = stage.watch().write_live(&pipe, Container::MpegTs).await.expect("valid");
    let mut left = None;
    in_time("the reader leaves", async {
        while left.is_none() {
            match viewer.next().await.expect("the session goes on") {
                Update::Live(RecordingUpdate::Failed(error)) => left = Some(error),
                Update::Live(other) => panic!("{other:?}"),
                _ => {}
            }
        }
    })
    .await;
    assert!(matches!(left, Some(RecordError::ReaderClosed(_))), "{left:?}");
    let begin = reader.join().expect("it read");
    assert!(begin.chunks(188).all(|packet| packet[0] == 0x47), "transport packets");
    viewer.close();
    assert_eq!(in_time("the outcome", viewer.closed()).await.reason, EndReason::Closed);
    let refused = stage.watch().write_live("a.mp4", Container::Mp4).await.expect_err("MP4");
    assert_eq!(refused.option, "write_live", "{refused}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_application_resumes_at_keyframe_after_loss() {
    let stage = Stage::with_camera().await;
    // The queue has room for little more than one keyframe.
    let viewer = stage.watch().queue_bytes(3_000).await.expect("valid");
    let monitor = viewer.monitor().clone();
    let (control, mut events, mut frames) = viewer.split();
    in_time("live", async {
        while !matches!(events.next().await.expect("runs"), Update::Event(Event::Live)) {}
    })
    .await;
    // The test reads no frame until far more than the queue holds has arrived.
    in_time("a hundred frames", async {
        while monitor.stats().await.iter().map(|stats| stats.totals.frames).sum::<u64>() < 100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let Some(Update::FramesLost(lost)) = in_time("the loss", frames.next()).await else {
        panic!("the loss is reported first");
    };
    assert!(lost > 0);
    in_time("a keyframe after the loss", async {
        let mut previous = None;
        loop {
            match frames.next().await.expect("runs") {
                Update::Frame(frame) if frame.kind() == MediaKind::Video => {
                    let gap = previous.is_some_and(|before: Duration| {
                        frame.timestamp.saturating_sub(before) > Duration::from_millis(100)
                    });
                    assert!(!gap || frame.is_keyframe, "{frame} follows a gap");
                    if gap {
                        return;
                    }
                    previous = Some(frame.timestamp);
                }
                _ => {}
            }
        }
    })
    .await;
    control.close();
    in_time("the end", async { while events.next().await.is_some() {} }).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_without_a_camera_ends_with_a_reason() {
    let stage = Stage::without_camera().await;
    let viewer = stage
        .watch()
        .retry(RetryPreset::Never)
        .answer_timeout(Duration::from_millis(300))
        .await
        .expect("valid");
    let outcome = in_time("the end", viewer.closed()).await;
    assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::NoAnswer, 1));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_viewer_closes_its_session() {
    let stage = Stage::with_camera().await;
    let mut viewer = stage.watch().await.expect("valid");
    in_time("a frame", viewer.next_frame()).await.expect("the session runs");
    drop(viewer);
    in_time("the viewer is gone at the service", async {
        while stage.emulator.clients().iter().any(|client| client.role == Role::Viewer) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    stage.end().await;
}

#[tokio::test]
async fn invalid_option_is_named_before_anything_is_opened() {
    let refused = Viewer::watch("door").region("us-west-2").endpoint_url("kvs").await;
    assert_eq!(refused.expect_err("no URL").option, "endpoint_url");
}
