//! A child process whose pipes the test reads itself, hands to another program, or leaves unread.

use std::io::Read as _;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// The child. Dropping it kills it.
#[derive(Debug)]
pub struct Piped {
    name: String,
    child: Child,
}

impl Piped {
    /// Starts a child with the pipes of `command`; the failure message ends with `hint`, which
    /// names what to install.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, hint: &str) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}. {hint}"));
        Self { name: name.to_owned(), child }
    }

    /// Takes the reading end of standard output.
    ///
    /// # Panics
    ///
    /// When it is no pipe, or was taken before.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("standard output is a pipe")
    }

    /// Takes the reading end of standard error.
    ///
    /// # Panics
    ///
    /// When it is no pipe, or was taken before.
    pub fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("standard error is a pipe")
    }

    /// Reads standard error until the child closes it.
    ///
    /// # Panics
    ///
    /// When it is no pipe, was taken before, or is no text.
    pub fn standard_error(&mut self) -> String {
        let mut text = String::new();
        self.stderr().read_to_string(&mut text).expect("text");
        text
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// When the child has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Whether the child still runs.
    ///
    /// # Panics
    ///
    /// When that cannot be known.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits until the child ends.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = now() + within;
        loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => return status,
                None if now() < deadline => thread::sleep(Duration::from_millis(20)),
                None => panic!("{}: still running after {within:?}", self.name),
            }
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Killing a child that has ended fails, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's patience with a real process")]
fn now() -> Instant {
    Instant::now()
}
