//! Runs child processes that report by lines of JSON, and reads their resource usage.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    events: Receiver<(Instant, Value)>,
    pub(crate) started: Instant,
}

/// Returns the time on the clock that all measurements use.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

impl Process {
    /// Starts a command that prints one JSON object a line on standard output.
    pub(crate) fn start(name: &str, command: &mut Command, hint: &str) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = now();
        let mut child = command.spawn().map_err(|error| {
            format!("{name}: {} does not start: {error}\n{hint}", command.get_program().display())
        })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let (to, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let at = now();
                if let Ok(event) = serde_json::from_str(&line)
                    && to.send((at, event)).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, stdin, events, started })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status of the process, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Writes a line to the process.
    pub(crate) fn tell(&mut self, line: &Value) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("standard input is closed")?;
        writeln!(stdin, "{line}").map_err(|error| format!("{}: {error}", self.name))
    }

    /// Waits for the next event with this name, and returns it with the time of its arrival.
    pub(crate) fn event(&self, name: &str, within: Duration) -> Result<(Instant, Value), String> {
        let until = now() + within;
        loop {
            let left = until.saturating_duration_since(now());
            match self.events.recv_timeout(left) {
                Ok((at, event)) if event["event"] == name => return Ok((at, event)),
                Ok((_, event)) if event["event"] == "error" || event["event"] == "ended" => {
                    return Err(format!("{}: {event}", self.name));
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{}: no {name} within {within:?}", self.name));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("{} ended without {name}", self.name));
                }
            }
        }
    }

    /// Terminates the process by SIGTERM, and waits.
    pub(crate) fn end(self, within: Duration) {
        // `kill` fails if the process has ended already.
        let _ = Command::new("kill").arg(self.pid().to_string()).stderr(Stdio::null()).status();
        self.finish(within);
    }

    /// Closes the standard input of a process, which ends it, and waits.
    pub(crate) fn finish(mut self, within: Duration) {
        drop(self.stdin.take());
        let until = now() + within;
        while now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls fail if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of a process so far, including its descendants: the sum over their threads,
/// without threads that have ended.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    tree(pid).into_iter().map(own_cpu_time).sum()
}

fn own_cpu_time(pid: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let nanos = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Returns a process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        at += 1;
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name before the field is in parentheses, and may contain any character.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the resident memory in kB, the threads, and the open descriptors of a process.
pub(crate) fn size(pid: u32) -> Option<(u64, u64, usize)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((field("VmRSS:")?, field("Threads:")?, descriptors))
}

/// Returns the machine's load over the last minute, to be printed with a table.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_counted_with_its_children() {
        let mut shell = Command::new("sh");
        let process =
            Process::start("sh", shell.args(["-c", "sleep 30 & echo {\\\"event\\\":1}; wait"]), "");
        let process = process.unwrap();
        let until = now() + Duration::from_secs(20);
        while tree(process.pid()).len() < 2 {
            assert!(now() < until, "the child of the shell is not found");
        }
        assert_eq!(parent(process.pid()), Some(std::process::id()));
        assert!(
            size(std::process::id())
                .is_some_and(|(rss, threads, fds)| rss > 0 && threads > 0 && fds > 2)
        );
        for child in tree(process.pid()).into_iter().skip(1) {
            let _ = Command::new("kill").arg(child.to_string()).status();
        }
    }
}
