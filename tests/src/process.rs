//! Child processes of a test: their output while they run, their end, and a guarantee that none
//! outlives its test.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// The maximum number of lines that are kept of one output; a child that prints more is broken.
const LINES_MAX: usize = 500_000;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, by line.
    pub stdout: Vec<String>,
    /// Its standard error, by line.
    pub stderr: Vec<String>,
}

/// The lines of one pipe so far, and whether the pipe was closed.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<String>,
    is_closed: bool,
}

impl Process {
    /// Starts a child; the failure message ends with `hint`, which names what to install.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, hint: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                let program = command.get_program().to_string_lossy();
                panic!("{name}: `{program}` does not start: {error}. {hint}")
            });
        let stdout = Output::read(child.stdout.take());
        let stderr = Output::read(child.stderr.take());
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, stdout, stderr }
    }

    /// Returns the JSON events that the child printed so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout.snapshot().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a JSON event of this name.
    ///
    /// # Panics
    ///
    /// When it does not arrive in time, or the output ends without it.
    pub fn event(&self, event: &str, within: Duration) -> Value {
        self.event_that(event, within, |_| true)
    }

    /// Waits for a JSON event of this name that `fits` accepts.
    ///
    /// # Panics
    ///
    /// When it does not arrive in time, or the output ends without it.
    pub fn event_that(
        &self,
        event: &str,
        within: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = self.stdout.find(within, |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == event && fits(&value)).then_some(value)
        });
        found.unwrap_or_else(|| {
            panic!("no event `{event}` within {within:?}\n{}", self.transcript())
        })
    }

    /// Waits for a line with this text on standard error.
    ///
    /// # Panics
    ///
    /// When it does not arrive in time, or the output ends without it.
    pub fn printed(&self, text: &str, within: Duration) {
        let found = self.stderr.find(within, |line| line.contains(text).then_some(()));
        if found.is_none() {
            panic!("{text:?} is not printed within {within:?}\n{}", self.transcript());
        }
    }

    /// Waits until the child ends.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub fn ended(&mut self, within: Duration) -> Ended {
        let deadline = now() + within;
        let status: ExitStatus = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if now() < deadline => thread::sleep(Duration::from_millis(20)),
                Ok(None) => panic!("still running after {within:?}\n{}", self.transcript()),
                Err(error) => panic!("{}: {error}", self.name),
            }
        };
        // The pipes usually close with the child, unless its own children still hold them open.
        let rest = Duration::from_secs(5);
        self.stdout.closed(rest);
        self.stderr.closed(rest);
        Ended {
            code: status.code(),
            stdout: self.stdout.snapshot(),
            stderr: self.stderr.snapshot(),
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.send(Signal::INT);
    }

    /// Sends SIGKILL, so the child cannot close anything.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    /// Sends SIGSTOP: no thread of the child runs, as in an app that the system suspends.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// Sends SIGCONT: a stopped child runs again.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// Closes the child's standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Returns all output so far, for failure messages and searches.
    #[must_use]
    pub fn transcript(&self) -> String {
        let mut text = String::new();
        for (pipe, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in output.snapshot() {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} {pipe}: {line}", self.name);
            }
        }
        text
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A child that has ended needs no signal. Until it is waited for, here or by `ended`,
            // its process id is not given to another process.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", tail(&self.transcript(), 150));
        }
        // A browser runner closes its browser when its input ends; other children are killed.
        if self.stdin.take().is_some() && self.name.starts_with("browser") {
            let deadline = now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // Killing a child that has ended fails, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn read(pipe: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let reader = Arc::clone(&output);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe.into_iter().next().expect("the pipe was asked for"));
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                reader.change(|lines| {
                    if lines.text.len() < LINES_MAX {
                        lines.text.push(text);
                    }
                });
                line.clear();
            }
            reader.change(|lines| lines.is_closed = true);
        });
        output
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn snapshot(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    fn find<T>(&self, within: Duration, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut checked = 0;
        let mut found = None;
        self.wait(within, |lines| {
            found = lines.text[checked..].iter().find_map(|line| pick(line));
            checked = lines.text.len();
            found.is_some() || lines.is_closed
        });
        found
    }

    fn closed(&self, within: Duration) {
        self.wait(within, |lines| lines.is_closed);
    }

    fn wait(&self, within: Duration, mut is_done: impl FnMut(&Lines) -> bool) {
        let deadline = now() + within;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while !is_done(&lines) {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Returns the last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[expect(clippy::disallowed_methods, reason = "a test's patience with a real process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
