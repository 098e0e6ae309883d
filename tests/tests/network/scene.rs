//! The parties in the small internet: the emulator on link 10, the camera on 20, a TURN server on
//! 30, and the viewer on 1 and perhaps 2. Each is one process of the product, or coturn.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use kvs_viewer_tests::stage::{CHANNEL, REGION, clear, named};
use kvs_viewer_tests::{Keys, Process};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Family, Lab};
use crate::{PATIENCE, PROGRAM};

pub(crate) const VIEWER: &str = "viewer";
pub(crate) const CAMERA: &str = "camera";
pub(crate) const SERVICE: &str = "service";
pub(crate) const TURN: &str = "turn";

/// The frame rate of the camera's clip.
pub(crate) const FPS: f64 = 15.0;

/// An emulator and the network around it. The processes must end before their namespaces are
/// removed.
pub(crate) struct Scene {
    _emulator: Process,
    endpoint: String,
    folder: TempDir,
    keys: Keys,
    pub(crate) lab: Lab,
}

impl Scene {
    /// Creates the network with a running service, without a camera and a viewer.
    pub(crate) fn set(family: Family, emulator_args: &[&str]) -> Self {
        let host = if family == Family::V6 { "fd77:0:0:10::2" } else { "10.77.10.2" };
        Self::begin(family, host, emulator_args)
    }

    /// As [`Scene::set`], but the service has a host name with an IPv4 and an IPv6 address.
    pub(crate) fn set_named(family: Family, emulator_args: &[&str]) -> Self {
        Self::begin(family, "service.test", emulator_args)
    }

    fn begin(family: Family, host: &str, emulator_args: &[&str]) -> Self {
        let mut lab = Lab::new();
        for (name, number) in [(VIEWER, 1), (SERVICE, 10), (CAMERA, 20), (TURN, 30)] {
            lab.space(name);
            lab.link(name, "up0", number, family);
            // The IPv6 address comes first, as in a resolver's order.
            lab.hosts(
                name,
                "127.0.0.1 localhost\nfd77:0:0:10::2 service.test\n10.77.10.2 service.test\n\
                 10.77.30.2 turn.test\n",
            );
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = Keys::plain();
        let listen = if family == Family::V4 { "0.0.0.0:4700" } else { "[::]:4700" };
        let mut command = lab.command(SERVICE, PROGRAM.as_ref());
        // The emulator's own relay would bypass the cuts between camera and viewer.
        command.args(["emulator", "--json", "--no-relay", "--listen", listen, "--tls-name", host]);
        command.args(["--region", REGION, "--channel", CHANNEL]).args(emulator_args);
        command.arg("--tls-dir").arg(folder.path().join("ca"));
        clear(&mut command);
        command.env("KVS_EMULATOR_ACCESS_KEY_ID", &keys.id);
        command.env("KVS_EMULATOR_SECRET_ACCESS_KEY", &keys.secret);
        let emulator = Process::start("emulator", &mut command, "Build kvs-viewer.");
        emulator.event("ready", PATIENCE);
        let brackets = host.contains(':');
        let endpoint = if brackets {
            format!("https://[{host}]:4700")
        } else {
            format!("https://{host}:4700")
        };
        let scene = Self { _emulator: emulator, endpoint, folder, keys, lab };
        std::fs::copy(scene.path("ca/ca.pem"), scene.trusted()).expect("the emulator's CA");
        scene
    }

    /// Returns a path in the scene's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the file of the CAs that viewer and camera trust in addition to the system's.
    pub(crate) fn trusted(&self) -> PathBuf {
        self.path("trusted.pem")
    }

    /// Starts a camera and waits until it is connected to the channel.
    pub(crate) fn camera<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let mut command = self.command(CAMERA, "camera");
        command.args(args);
        let camera = Process::start("camera", &mut command, "Build kvs-viewer.");
        camera.event("ready", PATIENCE);
        camera
    }

    /// Starts a viewer.
    pub(crate) fn watch<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let mut command = self.command(VIEWER, "watch");
        command.args(args);
        Process::start("watch", &mut command, "Build kvs-viewer.")
    }

    /// Drops all packets between camera and viewer; signaling and relays still work.
    pub(crate) fn cut_direct_paths(&self) {
        self.lab.drop_on_router("iifname r1 oifname r20");
        self.lab.drop_on_router("iifname r20 oifname r1");
    }

    /// Starts a viewer, and waits until it is live and has received 30 frames.
    pub(crate) fn live<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let watch = self.watch(args);
        watch.event("live", PATIENCE);
        frames_go_on(&watch, 30);
        watch
    }

    /// Returns the endpoint of the control plane.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sets the environment variables from which AWS's SDKs read credentials.
    pub(crate) fn give_keys_to(&self, command: &mut Command) {
        self.keys.give_to(command);
    }

    /// Returns a command that runs the product's program with a subcommand in a namespace.
    pub(crate) fn command(&self, name: &str, subcommand: &str) -> Command {
        let mut command = self.lab.command(name, PROGRAM.as_ref());
        command.args([subcommand, "--json", "--channel", CHANNEL]);
        command.arg("--ca-file").arg(self.trusted());
        clear(&mut command);
        self.keys.give_to(&mut command);
        command.env("AWS_REGION", REGION);
        command.env("AWS_ENDPOINT_URL_KINESIS_VIDEO", &self.endpoint);
        command.env("XDG_STATE_HOME", self.path("state"));
        command
    }
}

/// Waits for this many more frames, which shows that media flows.
pub(crate) fn frames_go_on(watch: &Process, frames: u64) {
    let before = Seen::last(watch).frames;
    watch.event_that("stats", PATIENCE, |event| frames_of(event) >= before + frames);
}

/// Sends Ctrl-C and checks that the viewer exits with code 0.
pub(crate) fn ends_well(mut watch: Process) {
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
}

/// The number of frames that a viewer had received at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) t_ms: u64,
    pub(crate) frames: u64,
}

impl Seen {
    /// Returns the values of the newest statistics.
    pub(crate) fn last(watch: &Process) -> Self {
        named(&watch.events(), "stats").last().map_or(Self { t_ms: 0, frames: 0 }, |s| Self::of(s))
    }

    pub(crate) fn of(stats: &Value) -> Self {
        Self { t_ms: time_of(stats), frames: frames_of(stats) }
    }

    /// Returns the number of frames that the camera made since `before` and the viewer did not
    /// receive.
    pub(crate) fn lost_since(&self, before: &Self) -> u64 {
        let seconds = (self.t_ms - before.t_ms) as f64 / 1000.0;
        (seconds * FPS).round() as u64 - (self.frames - before.frames).min((seconds * FPS) as u64)
    }
}

fn frames_of(stats: &Value) -> u64 {
    stats["frames"].as_u64().unwrap_or_default()
}

/// Returns the time of an event on the viewer's clock, in milliseconds.
pub(crate) fn time_of(event: &Value) -> u64 {
    event["t_ms"].as_u64().expect("every event has its time")
}

/// Returns the events of this name at or after a time.
pub(crate) fn since(watch: &Process, name: &str, t_ms: u64) -> Vec<Value> {
    let events = watch.events();
    named(&events, name).into_iter().filter(|event| time_of(event) >= t_ms).cloned().collect()
}
