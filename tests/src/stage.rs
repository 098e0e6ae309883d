//! The environment of a test on loopback: an emulator with its own keys and port, a temporary
//! folder, and the programs that use them. Dropping it stops the emulator and removes the folder.

use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::tools;

/// The signaling channel of every stage.
pub const CHANNEL: &str = "porch";

/// The AWS region of every stage.
pub const REGION: &str = "us-west-2";

/// The maximum time for a process to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Credentials that the emulator accepts.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The session token, if any.
    pub token: Option<String>,
}

/// A running emulator, with the endpoint, folder and credentials that a test needs.
#[derive(Debug)]
pub struct Stage {
    /// The emulator's process.
    pub emulator: Process,
    program: PathBuf,
    folder: TempDir,
    endpoint: String,
    ca_file: Option<PathBuf>,
    keys: Keys,
}

impl Keys {
    /// Returns a key without a session token.
    #[must_use]
    pub fn plain() -> Self {
        Self { id: "AKIATEST".into(), secret: "stage/secret+key".into(), token: None }
    }

    /// Returns a key with a session token of characters that have a meaning in URLs and headers.
    #[must_use]
    pub fn session() -> Self {
        Self { token: Some("a+b/c==%2F%+=/end".into()), ..Self::plain() }
    }

    /// Returns random keys, with characters that URLs and headers must encode.
    #[must_use]
    pub fn unique() -> Self {
        let random = || format!("{:016x}", RandomState::new().hash_one(0));
        Self {
            id: format!("AKIA{}", random().to_uppercase()),
            secret: format!("S{}/+{}", random(), random()),
            token: Some(format!("T{}+/=%{}==", random(), random())),
        }
    }

    /// Sets the environment variables from which AWS's SDKs read credentials.
    pub fn give_to(&self, command: &mut Command) {
        command.env("AWS_ACCESS_KEY_ID", &self.id).env("AWS_SECRET_ACCESS_KEY", &self.secret);
        if let Some(token) = &self.token {
            command.env("AWS_SESSION_TOKEN", token);
        }
    }
}

impl Stage {
    /// Starts an emulator over plain HTTP. `program` is the `kvs-viewer` under test.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start(program: &str, keys: Keys, emulator_args: &[&str]) -> Self {
        Self::begin(program, keys, false, None, emulator_args)
    }

    /// Starts an emulator over TLS, with its own CA.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_tls(program: &str, keys: Keys) -> Self {
        Self::begin(program, keys, true, None, &[])
    }

    /// Starts an emulator over plain HTTP, with this password for its TURN user.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn start_turn(program: &str, keys: Keys, password: &str, emulator_args: &[&str]) -> Self {
        Self::begin(program, keys, false, Some(password), emulator_args)
    }

    fn begin(
        program: &str,
        keys: Keys,
        tls: bool,
        turn_password: Option<&str>,
        emulator_args: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(program);
        command.args(["emulator", "--listen", "127.0.0.1:0", "--json"]);
        command.args(["--region", REGION, "--channel", CHANNEL]).args(emulator_args);
        if tls {
            command.arg("--tls-dir").arg(folder.path().join("ca"));
        }
        clear(&mut command);
        command.env("KVS_EMULATOR_ACCESS_KEY_ID", &keys.id);
        command.env("KVS_EMULATOR_SECRET_ACCESS_KEY", &keys.secret);
        if let Some(token) = &keys.token {
            command.env("KVS_EMULATOR_SESSION_TOKEN", token);
        }
        if let Some(password) = turn_password {
            command.args(["--turn-user", "camera-user"]);
            command.env("KVS_EMULATOR_TURN_PASSWORD", password);
        }
        let emulator = Process::start("emulator", &mut command, "Build kvs-viewer.");
        let ready = emulator.event("ready", START);
        let endpoint = ready["endpoint"].as_str().expect("an endpoint").to_owned();
        let ca_file = ready["ca_file"].as_str().map(PathBuf::from);
        Self { emulator, program: program.into(), folder, endpoint, ca_file, keys }
    }

    /// Returns the endpoint of the control plane.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns a path in the stage's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a `kvs-viewer` command with this subcommand and the stage's endpoint, keys and CA.
    #[must_use]
    pub fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(subcommand);
        if let Some(ca_file) = &self.ca_file {
            command.arg("--ca-file").arg(ca_file);
        }
        self.credentials(&mut command);
        command.env("AWS_ENDPOINT_URL_KINESIS_VIDEO", &self.endpoint);
        command
    }

    /// Returns the keys that the emulator accepts.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Starts a camera and waits until it is connected to the channel.
    ///
    /// # Panics
    ///
    /// When it does not connect.
    #[must_use]
    pub fn camera<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        let mut command = self.command("camera");
        command.args(["--channel", CHANNEL, "--json"]).args(args);
        let camera = Process::start("camera", &mut command, "Build kvs-viewer.");
        camera.event("ready", START);
        camera
    }

    /// Starts a viewer.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn watch<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Process {
        self.watch_channel(CHANNEL, args)
    }

    /// Starts a viewer of another channel.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn watch_channel<A: AsRef<OsStr>>(
        &self,
        channel: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = self.command("watch");
        command.args(["--channel", channel, "--json"]).args(args);
        Process::start("watch", &mut command, "Build kvs-viewer.")
    }

    /// Starts AWS's JavaScript SDK in a browser, as `master` or `viewer`; the stage must speak TLS.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn browser(&self, role: &str, args: &[&str]) -> Process {
        let mut command = tools::node("browser.js");
        command.args([role, "--endpoint-url", &self.endpoint, "--region", REGION]);
        command.args(["--channel", CHANNEL, "--ca-file"]).arg(self.authority()).args(args);
        self.credentials(&mut command);
        let browser = Process::start(&format!("browser {role}"), &mut command, tools::NODE);
        browser.event("ready", START);
        browser
    }

    /// Starts a Python script of `tests/interop` that takes the endpoint and the channel.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[must_use]
    pub fn python(&self, script: &str, args: &[&str]) -> Process {
        let mut command = self.script(script);
        command.args(["--channel", CHANNEL]).args(args);
        Process::start(script, &mut command, tools::PYTHON)
    }

    /// Returns the command of a Python script of `tests/interop` that takes the endpoint.
    #[must_use]
    pub fn script(&self, script: &str) -> Command {
        let mut command = Command::new(tools::python());
        command.arg(tools::interop().join(script));
        command.args(["--endpoint-url", &self.endpoint, "--region", REGION]);
        if self.ca_file.is_some() {
            command.arg("--ca-file").arg(self.authority());
        }
        self.credentials(&mut command);
        command
    }

    /// Returns the file of the CA that signed the emulator's certificate, if there is one.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    fn authority(&self) -> &Path {
        self.ca_file().expect("the stage speaks TLS")
    }

    fn credentials(&self, command: &mut Command) {
        clear(command);
        self.keys.give_to(command);
        command.env("AWS_REGION", REGION);
        // Viewers store their client ids there, so each stage has its own folder.
        command.env("XDG_STATE_HOME", self.path("state"));
    }
}

/// Removes the environment variables of the test run that configure AWS access or proxies.
pub fn clear(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_proxy = text.to_ascii_uppercase().ends_with("_PROXY");
        if is_proxy || ["AWS_", "KVS_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
}

/// Returns the events with this name.
#[must_use]
pub fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}
