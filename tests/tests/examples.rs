//! Runs every example of the crates, and reads what it prints.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use kvs_camera::{Camera, CameraConfig};
use kvs_emulator::{DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig};
use signaling_aws::SignalingConfig;

const CHANNEL: &str = "door";

/// Longer than an example may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What an example printed.
struct Printed {
    stdout: Vec<u8>,
    stderr: String,
}

impl Printed {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn contains(&self, wanted: &str) {
        let text = self.text();
        assert!(text.contains(wanted), "{wanted:?} is not in:\n{text}\n{}", self.stderr);
    }
}

/// Runs a program to its end, which must be exit code 0.
#[expect(clippy::disallowed_methods, reason = "a child runs in real time")]
fn run(command: &mut Command) -> Printed {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name| folder.path().join(name);
    // Files and not pipes: a pipe that is not read stops its writer.
    let file = |name| File::create(path(name)).expect("a file");
    let mut child = command
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of this process") {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let stdout = fs::read(path("stdout")).expect("what it printed");
    let stderr = fs::read(path("stderr")).expect("what it printed");
    let printed = Printed { stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() };
    let is_well = status.is_some_and(|status| status.success());
    assert!(is_well, "{command:?}: {status:?}\n{}\n{}", printed.text(), printed.stderr);
    printed
}

/// Runs `examples` while an emulator with a camera is there for them.
async fn with_camera(examples: impl FnOnce(&dyn Fn(&str) -> Command) + Send + 'static) {
    let channels = vec![CHANNEL.to_owned()];
    let config = EmulatorConfig { channels, ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).await.expect("an emulator");
    let (region, endpoint) = (emulator.region().to_owned(), emulator.endpoint().to_owned());
    let signaling = SignalingConfig::builder(CHANNEL)
        .region(&region)
        .endpoint_url(&endpoint)
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
        .build()
        .expect("valid");
    let camera = Camera::start(CameraConfig::new(signaling)).await.expect("a camera");
    tokio::task::spawn_blocking(move || {
        examples(&|program| {
            let mut command = Command::new(program);
            kvs_viewer_tests::stage::clear(&mut command);
            command
                .env("AWS_REGION", &region)
                .env("AWS_ENDPOINT_URL", &endpoint)
                .env("AWS_ACCESS_KEY_ID", DEFAULT_ACCESS_KEY_ID)
                .env("AWS_SECRET_ACCESS_KEY", DEFAULT_SECRET_ACCESS_KEY);
            command
        });
    })
    .await
    .expect("the examples do what they show");
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_prints_the_keyframes_of_a_camera() {
    with_camera(|example| {
        let watch = env!("CARGO_BIN_EXE_example-watch");
        // The seconds begin with the program, so a slow start may leave no time for a picture.
        for seconds in ["3", "10", "60"] {
            let printed = run(example(watch).args([CHANNEL, seconds]));
            if !printed.stdout.is_empty() {
                return printed.contains("keyframe");
            }
        }
        panic!("no keyframe in a minute");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_writes_a_file_and_counts_its_frames() {
    with_camera(|example| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("door.mp4");
        let mut record = example(env!("CARGO_BIN_EXE_example-record"));
        run(record.arg(CHANNEL).arg(&file).arg("2")).contains("frames of video in");
        let bytes = fs::read(&file).expect("the recording");
        assert_eq!(bytes.get(4..8), Some(&b"ftyp"[..]), "an MP4 file");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_to_stdout_writes_h264_for_a_player() {
    with_camera(|example| {
        let frames = env!("CARGO_BIN_EXE_example-frames_to_stdout");
        let printed = run(example(frames).args([CHANNEL, "10"]));
        let start = printed.stdout.get(..5).expect("a frame");
        // A start code, and the sequence parameter set.
        assert_eq!((&start[..4], start[4] & 0x1f), (&[0, 0, 0, 1][..], 7));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_peer_prints_commands_and_goes_live() {
    with_camera(|example| {
        let printed = run(example(env!("CARGO_BIN_EXE_example-custom_peer")).arg(CHANNEL));
        printed.contains("CreateOffer");
        printed.contains("KeyframeReceived");
    })
    .await;
}

#[test]
fn custom_signaling_goes_live_after_a_lost_answer() {
    let printed = run(&mut Command::new(env!("CARGO_BIN_EXE_example-custom_signaling")));
    printed.contains("one lost answer: ");
    printed.contains("no answer: ");
}

#[test]
fn core_in_a_thread_loop_ends_all_three_sessions() {
    let printed = run(&mut Command::new(env!("CARGO_BIN_EXE_example-core_in_a_thread_loop")));
    printed.contains("closed once live: ");
    printed.contains("one lost answer: ");
    printed.contains("no answer: ");
}

#[test]
fn simulate_your_adapter_prints_each_promise() {
    let printed = run(&mut Command::new(env!("CARGO_BIN_EXE_example-simulate_your_adapter")));
    printed.contains("kept       dropping the port frees everything");
}
