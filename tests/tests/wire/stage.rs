//! The environment of a scenario: an emulator, a camera and viewers in one process, on a runtime of
//! its own, which must have no task left at the end.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kvs_camera::{Camera, CameraConfig, CameraEvent, FrameLog, FrameRecord};
use kvs_emulator::{
    Action, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Fault,
    Match, MessageType, Role, ServiceMessage,
};
use kvs_viewer_tests::nat::Network;
use kvs_viewer_tests::stage::clear;
use negotiation_core::{Event, RetryDelay, Settings};
use peer_webrtc::PeerConfig;
use signaling_aws::{SignalingConfig, SignalingConfigBuilder};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::film::{Picture, of_the_clip};
use crate::report::{Running, Shown};
use crate::viewer::{Plan, Watching};

/// A time limit that is longer than any scenario on a machine that builds and tests other things at
/// the same time.
pub(crate) const LONGEST: Duration = Duration::from_secs(150);

/// The maximum time until the last task of closed parts has ended.
const SETTLING: Duration = Duration::from_secs(10);

/// A placeholder for the stage's own channel in an emulator's configuration.
pub(crate) const STORAGE: &str = "the stage's";

/// The capacity of the queue of frame records.
const RECORDS_MAX: usize = 4096;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a scenario of part 5 with an emulator in its default configuration.
pub(crate) fn scenario(
    number: u32,
    case: &'static str,
    script: impl AsyncFnOnce(&mut Stage) -> Shown,
) {
    scenario_on(number, case, EmulatorConfig::default(), script);
}

/// Runs a scenario with another configuration of the emulator.
pub(crate) fn scenario_on(
    number: u32,
    case: &'static str,
    emulator: EmulatorConfig,
    script: impl AsyncFnOnce(&mut Stage) -> Shown,
) {
    let running = Running::begin(number, case);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let shown = runtime.block_on(async {
        let mut stage = Stage::open(number, emulator).await;
        let shown = timeout(LONGEST, script(&mut stage)).await.expect("it is over in time");
        stage.close().await;
        nothing_is_left().await;
        shown
    });
    running.end(shown);
}

/// Checks that no task is left. Every socket belongs to a task, so no socket is left either.
async fn nothing_is_left() {
    let left = || Handle::current().metrics().num_alive_tasks();
    let gone = timeout(SETTLING, async {
        while left() > 0 {
            sleep(ms(10)).await;
        }
    });
    assert!(gone.await.is_ok(), "{} tasks are left", left());
}

/// Returns deadlines that are short enough to pass all of them within a minute on a busy machine.
pub(crate) fn quick() -> Settings {
    Settings {
        answer_timeouts: vec![secs(3)],
        establish_timeout: secs(4),
        suspect_timeout: secs(1),
        first_media_timeout: secs(5),
        restart_timeout: secs(4),
        link_reopen: RetryDelay::FullJitter { base: ms(300), cap: secs(1) },
        go_away_spread: secs(1),
        retry_delay: RetryDelay::Fixed(ms(500)),
        disconnect_grace: secs(1),
        media_give_up: secs(4),
        refill_after: secs(2),
        ..Settings::one_retry()
    }
}

pub(crate) struct Stage {
    pub(crate) emulator: Emulator,
    pub(crate) channel: String,
    /// The events of the newest camera.
    pub(crate) camera_events: Option<broadcast::Receiver<CameraEvent>>,
    camera: Option<Camera>,
    sent: Arc<Mutex<Vec<FrameRecord>>>,
    records: mpsc::Sender<FrameRecord>,
    collector: JoinHandle<()>,
    folder: TempDir,
}

impl Stage {
    async fn open(number: u32, mut config: EmulatorConfig) -> Self {
        // Quotas and client ids are per process and channel, so each stage has its own channel.
        let channel = format!("wire-{number}-{:x}", rand());
        config.channels = vec![channel.clone()];
        for storage in &mut config.storage_channels {
            storage.clone_from(&channel);
        }
        let emulator = Emulator::start(config).await.expect("the emulator starts");
        let (records, mut taken) = mpsc::channel(RECORDS_MAX);
        let sent = Arc::<Mutex<Vec<FrameRecord>>>::default();
        let into = Arc::clone(&sent);
        let collector = tokio::spawn(async move {
            while let Some(record) = taken.recv().await {
                lock(&into).push(record);
            }
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (camera, camera_events) = (None, None);
        Self { emulator, channel, camera_events, camera, sent, records, collector, folder }
    }

    async fn close(mut self) {
        self.camera_off().await;
        self.emulator.shutdown().await;
        drop(self.records);
        self.collector.await.expect("the collector ends");
    }

    /// Returns a configuration with which viewers and masters connect to the channel.
    pub(crate) fn signaling(&self) -> SignalingConfigBuilder {
        SignalingConfig::builder(&self.channel)
            .region(self.emulator.region())
            .endpoint_url(self.emulator.endpoint())
            .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
    }

    /// Returns the default configuration of a camera.
    pub(crate) fn camera_config(&self) -> CameraConfig {
        let signaling = self.signaling().build().expect("valid");
        let frame_log = FrameLog::Channel(self.records.clone());
        CameraConfig { frame_log, ..CameraConfig::new(signaling) }
    }

    /// Starts a camera.
    pub(crate) async fn camera(&mut self) {
        self.camera_with(|_| {}).await;
    }

    /// Starts a camera with a changed configuration.
    pub(crate) async fn camera_with(&mut self, change: impl FnOnce(&mut CameraConfig)) {
        let mut config = self.camera_config();
        change(&mut config);
        let mut camera = Camera::start(config).await.expect("the camera starts");
        self.camera_events = Some(camera.events());
        self.camera = Some(camera);
    }

    /// Shuts the camera down.
    pub(crate) async fn camera_off(&mut self) {
        if let Some(camera) = self.camera.take() {
            camera.shutdown().await;
        }
    }

    /// Returns the number of new camera events that match.
    pub(crate) fn camera_told(&mut self, like: impl Fn(&CameraEvent) -> bool) -> usize {
        let events = self.camera_events.as_mut().expect("a camera was started");
        std::iter::from_fn(|| events.try_recv().ok()).filter(|event| like(event)).count()
    }

    /// Returns the sender for frame records of a master that is not the test camera.
    pub(crate) fn records(&self) -> mpsc::Sender<FrameRecord> {
        self.records.clone()
    }

    /// Returns a path in the stage's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command that runs the program with this subcommand on this stage's channel.
    pub(crate) fn program(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvs-viewer-under-test"));
        clear(&mut command);
        command.args([subcommand, "--channel", &self.channel]);
        command.env("AWS_ENDPOINT_URL_KINESIS_VIDEO", self.emulator.endpoint());
        command.env("AWS_REGION", self.emulator.region());
        command.env("AWS_ACCESS_KEY_ID", DEFAULT_ACCESS_KEY_ID);
        command.env("AWS_SECRET_ACCESS_KEY", DEFAULT_SECRET_ACCESS_KEY);
        command.env("XDG_STATE_HOME", self.folder.path());
        command
    }

    /// Returns the plan of a viewer with short deadlines.
    pub(crate) fn plan(&self) -> Plan {
        // A busy machine may stall for seconds, which must not count as a media stall.
        let peer = PeerConfig { stall_after: secs(4), ..PeerConfig::new(true) };
        Plan {
            settings: quick(),
            signaling: self.signaling().client_id("hall"),
            peer,
            network: None,
            tamper: None,
        }
    }

    /// Returns the plan of a viewer whose media passes the simulated network.
    pub(crate) fn plan_over(&self, network: &Network) -> Plan {
        let mut plan = self.plan();
        plan.peer.bind = vec!["127.0.0.1:0".to_owned()];
        plan.network = Some(network.clone());
        plan
    }

    /// Starts a viewer with quick deadlines.
    pub(crate) fn watch(&self) -> Watching {
        self.plan().watch()
    }

    /// Starts a camera and a viewer, and waits until the viewer is live and has received five
    /// pictures.
    pub(crate) async fn live(&mut self) -> Watching {
        self.camera().await;
        let mut viewer = self.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        viewer
    }

    /// Adds a fault to the service, and returns its id.
    pub(crate) fn fault(&self, matches: Match, action: Action) -> u64 {
        self.emulator.faults().add(Fault::new(matches, action)).expect("it can strike")
    }

    /// Adds a fault for the camera's first messages of a type, and returns its id.
    pub(crate) fn fault_from_camera(&self, kind: MessageType, times: u64, action: Action) -> u64 {
        let matches = Match { from: Some(Role::Master), ..Match::first(kind, times) };
        self.fault(matches, action)
    }

    /// Returns the number of times a fault was applied.
    pub(crate) fn hits(&self, fault: u64) -> u64 {
        self.emulator.faults().hits(fault)
    }

    /// Sends a text frame to every viewer of the channel as the service, and returns the number of
    /// recipients.
    pub(crate) fn tell_viewers(&self, frame: impl Into<String>) -> usize {
        let message = ServiceMessage::Raw(frame.into());
        self.emulator.send(&self.channel, Some(Role::Viewer), None, message)
    }

    /// Cuts the viewers' signaling connections, and returns their number.
    pub(crate) fn cut_viewers(&self, code: Option<u16>) -> usize {
        self.emulator.disconnect(&self.channel, Some(Role::Viewer), None, code)
    }

    /// Returns the client ids of the viewers that are connected to the service.
    pub(crate) fn viewers(&self) -> Vec<String> {
        self.emulator.clients().into_iter().filter_map(|client| client.client_id).collect()
    }

    /// Waits until no viewer is connected, and returns the number that still are.
    pub(crate) async fn gone(&self) -> usize {
        // The service notices a closed socket a moment later.
        let _ = timeout(SETTLING, async {
            while !self.viewers().is_empty() {
                sleep(ms(5)).await;
            }
        })
        .await;
        self.viewers().len()
    }

    /// Returns the number of requests of an API operation, and how many of them were refused.
    pub(crate) fn calls(&self, name: &str) -> (u64, u64) {
        let calls = self.emulator.calls();
        calls.get(name).map_or((0, 0), |count| (count.requests, count.refused))
    }

    /// Does the same as [`Stage::live`] over the simulated network.
    pub(crate) async fn live_over(&mut self, network: &Network) -> Watching {
        self.camera().await;
        let mut viewer = self.plan_over(network).watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        viewer
    }

    /// Closes a viewer, and checks that its media was not affected: it had one attempt and no
    /// stall, and received every picture since the first one, by content. Returns the number of
    /// pictures.
    pub(crate) async fn untouched(&self, viewer: Watching) -> usize {
        // Only recovery counts: a loss that is shorter than the grace happens when the machine
        // stalls.
        let touched = |e: &Event| matches!(e, Event::MediaStalled | Event::Recovering(_));
        assert_eq!(viewer.count(touched), 0, "{}", viewer.log.story());
        assert_eq!(viewer.count(|event| matches!(event, Event::AttemptStarted { .. })), 1);
        let film = viewer.film.clone();
        viewer.close().await;
        let pictures = film.pictures().clone();
        self.none_lost(&pictures)
    }

    /// Checks that these pictures are those that the camera sent, without a gap, and returns their
    /// number.
    pub(crate) fn none_lost(&self, pictures: &[Picture]) -> usize {
        let first = pictures.first().expect("pictures came");
        let sent = lock(&self.sent);
        let begins = sent.iter().find(|record| record.rtp_ts == first.rtp).expect("it was sent");
        let session: Vec<(u32, Option<u64>)> = sent
            .iter()
            .filter(|record| record.session == begins.session)
            .map(|record| (record.rtp_ts, of_the_clip(record.frame)))
            .skip_while(|(rtp, _)| *rtp != first.rtp)
            .collect();
        let seen: Vec<(u32, Option<u64>)> =
            pictures.iter().map(|picture| (picture.rtp, Some(picture.content))).collect();
        assert_eq!(seen[..], session[..seen.len().min(session.len())], "sent and seen differ");
        seen.len()
    }
}

fn lock(sent: &Mutex<Vec<FrameRecord>>) -> MutexGuard<'_, Vec<FrameRecord>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a random number, so that two scenarios with one number do not share a channel.
fn rand() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}
