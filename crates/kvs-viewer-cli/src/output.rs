//! Prints to standard output and standard error, each with a bounded queue and a thread.
//!
//! A pipe that is not read blocks its writer. Here only the thread blocks: the session, its
//! deadlines, Ctrl-C and `--duration` continue. A line that does not fit into the queue is counted.
//! If a reader closes its end, that is no error, and later output is discarded.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// The maximum number of queued lines: a quarter of an hour of `stats`.
const LINES_MAX: usize = 1024;

/// How long the process waits for a reader when it ends.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Returns the queue of standard output.
pub(crate) fn stdout() -> &'static Lines {
    static STDOUT: OnceLock<Lines> = OnceLock::new();
    STDOUT.get_or_init(|| Lines::start("stdout", Plain::new(io::stdout())))
}

/// Returns the queue of standard error.
pub(crate) fn stderr() -> &'static Lines {
    static STDERR: OnceLock<Lines> = OnceLock::new();
    STDERR.get_or_init(|| Lines::start("stderr", Screen::new()))
}

/// Where events are printed as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    StandardOutput,
    StandardError,
    /// An open file descriptor of this process, by its number.
    Descriptor(u32),
}

static EVENTS: OnceLock<Lines> = OnceLock::new();

/// The queue of events. There is one in a process.
pub(crate) fn events(to: Events) -> io::Result<Lines> {
    let started = match to {
        Events::StandardOutput => return Ok(stdout().clone()),
        Events::StandardError => Lines::start("events", Plain::new(io::stderr())),
        Events::Descriptor(number) => Lines::start("events", Plain::new(descriptor(number)?)),
    };
    Ok(EVENTS.get_or_init(|| started).clone())
}

/// The open descriptor with this number, by the name that the system has for it.
fn descriptor(number: u32) -> io::Result<File> {
    // What a shell's `3>>` holds already is kept.
    OpenOptions::new().append(true).open(format!("/dev/fd/{number}"))
}

/// Whether a line can be redrawn on standard error.
pub(crate) fn is_terminal() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    io::stderr().is_terminal() && !is_dumb
}

/// Waits until everything is written, for a limited time.
pub(crate) async fn flush() {
    tokio::join!(stdout().flush(), stderr().flush());
    if let Some(events) = EVENTS.get() {
        events.flush().await;
    }
}

/// One queue. Only [`Lines::last`] and [`Lines::flush`] wait, for a limited time.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: mpsc::Sender<Item>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    /// A permanent line.
    Line(String),
    /// The line that is redrawn; `None` removes it.
    Status(Option<String>),
    /// Confirms that everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl Lines {
    fn start(name: &str, to: impl Sink) -> Self {
        let (queue, items) = mpsc::channel(LINES_MAX);
        let lost = Arc::<AtomicU64>::default();
        let count = Arc::clone(&lost);
        // If the thread cannot start, nothing is printed, and the lines are counted as lost.
        let _ = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_all(items, to, &count));
        Self { queue, lost }
    }

    /// Prints a line; one that does not fit into the queue is counted.
    pub(crate) fn line(&self, text: String) {
        if !self.try_line(text) {
            self.add_lost(1);
        }
    }

    /// Prints a line if there is room for it.
    pub(crate) fn try_line(&self, text: String) -> bool {
        self.queue.try_send(Item::Line(text)).is_ok()
    }

    /// Redraws the status line, on a terminal; a newer text replaces a waiting one.
    pub(crate) fn status(&self, text: Option<String>) {
        // A text that does not fit into the queue is dropped, since the next one replaces it.
        let _ = self.queue.try_send(Item::Status(text));
    }

    /// Returns how many lines were lost since the last call.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn add_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Prints an important line: waits for room in the queue, for a limited time.
    pub(crate) async fn last(&self, text: String) {
        if !matches!(timeout(FLUSH_MAX, self.queue.send(Item::Line(text))).await, Ok(Ok(()))) {
            self.add_lost(1);
        }
    }

    /// Waits until everything is written, for a limited time.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Item::Flush(done)).await.is_ok() {
                // A thread that has ended has nothing more to write.
                let _ = written.await;
            }
        };
        // Output that the reader does not accept in this time is discarded.
        let _ = timeout(FLUSH_MAX, flushed).await;
    }
}

/// The destination of a thread's output.
trait Sink: Send + 'static {
    fn line(&mut self, text: &str);
    fn status(&mut self, text: Option<String>);
    /// Prints how many lines were lost, unless the program that produces them reports it.
    fn lost(&mut self, lost: &AtomicU64);
}

fn write_all(mut items: mpsc::Receiver<Item>, mut to: impl Sink, lost: &AtomicU64) {
    while let Some(first) = items.blocking_recv() {
        let (mut next, mut status) = (Some(first), None);
        while let Some(item) = next {
            match item {
                Item::Line(text) => {
                    to.line(&text);
                    to.lost(lost);
                }
                // Only the newest status is drawn.
                Item::Status(text) => status = Some(text),
                Item::Flush(done) => {
                    if let Some(text) = status.take() {
                        to.status(text);
                    }
                    // The waiting task may have timed out.
                    let _ = done.send(());
                }
            }
            next = items.try_recv().ok();
        }
        if let Some(text) = status {
            to.status(text);
        }
    }
}

/// Output for programs.
struct Plain<W> {
    to: W,
    is_closed: bool,
}

impl<W: Write> Plain<W> {
    fn new(to: W) -> Self {
        Self { to, is_closed: false }
    }
}

impl<W: Write + Send + 'static> Sink for Plain<W> {
    fn line(&mut self, text: &str) {
        if !self.is_closed {
            let written = writeln!(self.to, "{text}").and_then(|()| self.to.flush());
            self.is_closed = written.is_err();
        }
    }

    fn status(&mut self, _text: Option<String>) {}

    /// The program that produces the lines reports their loss in its own format.
    fn lost(&mut self, _lost: &AtomicU64) {}
}

/// Output for people, with a status line below it on a terminal.
struct Screen {
    is_terminal: bool,
    bar: Option<ProgressBar>,
}

impl Screen {
    fn new() -> Self {
        Self { is_terminal: is_terminal(), bar: None }
    }
}

impl Sink for Screen {
    fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // If standard error is closed, only the exit code reports the result.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    fn status(&mut self, text: Option<String>) {
        let Some(text) = text else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        };
        if self.bar.is_none() && self.is_terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_msg}");
            let bar = style.map(|style| bar.clone().with_style(style)).unwrap_or(bar);
            self.bar = Some(bar).filter(|bar| !bar.is_hidden());
        }
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            bar.force_draw();
        }
    }

    fn lost(&mut self, lost: &AtomicU64) {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            self.line(&format!("({count} lines left out: standard error was not read)"));
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::{Lines, Plain, Write, io};

    /// A pipe with a reader that accepts a line only when the test requests one.
    struct Stalled(Vec<u8>, SyncSender<String>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.0)).trim_end().to_owned();
            self.1.send(line).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        }
    }

    /// Creates a queue, and the reader of its lines.
    pub(crate) fn stalled() -> (Lines, Receiver<String>) {
        let (pipe, reader) = sync_channel(0);
        (Lines::start("test", Plain::new(Stalled(Vec::new(), pipe))), reader)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::stalled;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stalled_reader_blocks_no_caller_and_losses_are_counted() {
        let (lines, reader) = stalled();
        for i in 0..3 * LINES_MAX {
            lines.line(i.to_string());
        }
        let lost = lines.take_lost();
        // The thread holds at most one line.
        assert!((2 * LINES_MAX - 1..=2 * LINES_MAX).contains(&(lost as usize)), "{lost}");
        let before = tokio::time::Instant::now();
        lines.last("the end".to_owned()).await;
        lines.flush().await;
        assert_eq!(before.elapsed(), 2 * FLUSH_MAX, "a reader that never comes is not waited for");
        assert_eq!(lines.take_lost(), 1, "the last line");
        let read = [reader.recv().expect("a line"), reader.recv().expect("a line")];
        assert_eq!(read, ["0", "1"], "the first lines are kept, in order");
    }

    #[tokio::test]
    async fn closed_reader_is_no_error_and_counts_no_loss() {
        let (lines, reader) = stalled();
        lines.line("one".to_owned());
        assert_eq!(reader.recv().expect("a line"), "one");
        drop(reader);
        for i in 0..10 {
            lines.line(i.to_string());
        }
        lines.flush().await;
        for i in 0..LINES_MAX / 2 {
            lines.line(i.to_string());
        }
        lines.flush().await;
        assert_eq!(lines.take_lost(), 0);
    }
}
