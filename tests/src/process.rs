//! Children of a test: their lines as they come, their end, and none that outlives its test.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Lines that are kept of one output; a child that prints more is broken.
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
    /// What it printed.
    pub stdout: Vec<String>,
    /// Its messages for people.
    pub stderr: Vec<String>,
}

/// The lines of one pipe so far.
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
    /// Starts a child; `hint` names what to install when the program is missing.
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

    /// The JSON events printed so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.stdout.snapshot().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a JSON event of this name.
    ///
    /// # Panics
    ///
    /// When it does not come in time, or the output ends without it.
    pub fn event(&self, event: &str, within: Duration) -> Value {
        self.event_that(event, within, |_| true)
    }

    /// Waits for a JSON event of this name that fits.
    ///
    /// # Panics
    ///
    /// When it does not come in time, or the output ends without it.
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

    /// Waits until it prints a line with this text for people.
    ///
    /// # Panics
    ///
    /// When it does not come in time, or the output ends without it.
    pub fn printed(&self, text: &str, within: Duration) {
        let found = self.stderr.find(within, |line| line.contains(text).then_some(()));
        if found.is_none() {
            panic!("{text:?} is not printed within {within:?}\n{}", self.transcript());
        }
    }

    /// Waits until it ends.
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
        // The pipes end with the child, but for what it left to children of its own.
        let rest = Duration::from_secs(5);
        self.stdout.closed(rest);
        self.stderr.closed(rest);
        Ended {
            code: status.code(),
            stdout: self.stdout.snapshot(),
            stderr: self.stderr.snapshot(),
        }
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        self.send(Signal::INT);
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        self.send(Signal::KILL);
    }

    /// Stops it, as a system stops what is in the background: nothing of it runs.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// All that it printed so far, for a failure's message or a search.
    #[must_use]
    pub fn transcript(&self) -> String {
        let mut text = String::new();
        for (pipe, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            for line in output.snapshot() {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{} {pipe}: {line}", self.name);
            }
        }
        text
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A child that has ended already needs no signal; it is not reaped before we drop it.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", tail(&self.transcript(), 150));
        }
        // A runner with a browser of its own ends it with its input; the rest is killed.
        if self.stdin.take().is_some() && self.name.starts_with("browser") {
            let deadline = now() + Duration::from_secs(10);
            while matches!(self.child.try_wait(), Ok(None)) && now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
        }
        // It may have ended; then there is nothing to kill.
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

/// The last lines of a long text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[expect(clippy::disallowed_methods, reason = "a test's patience with a real process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
