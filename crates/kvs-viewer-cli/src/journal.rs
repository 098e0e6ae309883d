//! `--journal FILE`: writes the journal that the session's recorder produces, on its own thread.
//!
//! The session never waits for a disk: lines go through a bounded queue. If the queue or the disk
//! is full, the journal ends, the command reports that, and the session continues.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use viewer_session::Observer;
use viewer_session::journal::Recorder;

/// The maximum number of lines that wait for the disk.
const LINES_MAX: usize = 4096;

/// How long the end of a session waits for a slow disk.
const FLUSH: Duration = Duration::from_secs(2);

/// Where the journal goes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct JournalArgs {
    /// Write a journal of the session to this file, for `replay` and bug reports; never overwrites
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Include the addresses of candidates and TURN servers in the journal
    #[arg(long, requires = "journal")]
    pub journal_addresses: bool,
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    /// The reason why the recorder stopped before the session did.
    trouble: Arc<OnceLock<String>>,
    /// The result of the thread, which ends when the recorder is dropped.
    ended: oneshot::Receiver<io::Result<()>>,
}

/// The journal file, and the observer that records the session.
pub(crate) type Started = (JournalFile, Box<dyn Observer>);

impl JournalArgs {
    /// Creates the file and its recorder; `None` without `--journal`.
    ///
    /// # Errors
    /// The file exists, or cannot be created.
    pub(crate) fn start(&self) -> Result<Option<Started>, String> {
        let Some(path) = &self.journal else { return Ok(None) };
        let refused = |error: io::Error| format!("the journal {}: {error}", path.display());
        let file = create(path).map_err(refused)?;
        let (lines, waiting) = sync_channel(LINES_MAX);
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                // The receiver may have been dropped.
                let _ = tell.send(write_all(file, &waiting));
            })
            .map_err(refused)?;
        let recorder = Recorder::new(Lines(lines)).with_addresses(self.journal_addresses);
        let file = JournalFile { path: path.clone(), trouble: recorder.trouble(), ended };
        Ok(Some((file, Box::new(recorder))))
    }
}

impl JournalFile {
    /// Waits until all lines are written, after the recorder is dropped; returns a message for the
    /// user if the journal is incomplete.
    pub(crate) async fn finish(self) -> Option<String> {
        let sentence = |why: &dyn std::fmt::Display| {
            Some(format!("The journal {} is incomplete: {why}.", self.path.display()))
        };
        match tokio::time::timeout(FLUSH, self.ended).await {
            Ok(Ok(Ok(()))) => self.trouble.get().and_then(|why| sentence(why)),
            Ok(Ok(Err(error))) => sentence(&error),
            Ok(Err(_)) => sentence(&"its thread is gone"),
            Err(_) => sentence(&"the disk is too slow"),
        }
    }
}

/// Creates a new file that only its owner may read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write_all(file: impl Write, lines: &Receiver<Vec<u8>>) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    while let Ok(line) = lines.recv() {
        file.write_all(&line)?;
        while let Ok(line) = lines.try_recv() {
            file.write_all(&line)?;
        }
        // The lines are flushed to the system, so that they survive a crash of this process.
        file.flush()?;
    }
    Ok(())
}

/// The recorder's end of the queue. Each call writes one line, and never waits.
struct Lines(SyncSender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.try_send(line.to_vec()) {
            Ok(()) => Ok(line.len()),
            Err(TrySendError::Full(_)) => Err(io::Error::other("the disk does not keep up")),
            Err(TrySendError::Disconnected(_)) => Err(io::Error::other("the disk refused it")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::{Input, Settings, Timestamp};
    use std::collections::BTreeSet;

    fn args(path: &Path) -> JournalArgs {
        JournalArgs { journal: Some(path.to_owned()), journal_addresses: false }
    }

    fn began(observer: &mut Box<dyn Observer>) {
        let config = Settings::never().check().expect("valid");
        observer.began(&config, 1, Timestamp::ZERO);
    }

    #[tokio::test]
    async fn journal_file_has_the_session_and_no_other_file_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("session.journal");
        let (file, mut observer) = args(&path).start().expect("started").expect("asked for");
        began(&mut observer);
        for second in 0..100 {
            observer.input(Timestamp::from_millis(1000 * second), &Input::Timeout);
        }
        drop(observer);
        assert_eq!(file.finish().await, None);
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text.lines().count(), 101);
        assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), 101);
        assert!(args(&path).start().is_err(), "an existing file is not overwritten");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), text);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn full_disk_ends_journal_but_not_session() {
        let (lines, waiting) = sync_channel(4);
        let (tell, ended) = oneshot::channel();
        let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let thread = std::thread::spawn(move || tell.send(write_all(full, &waiting)));
        let recorder = Recorder::new(Lines(lines));
        let (path, trouble) = (PathBuf::from("/dev/full"), recorder.trouble());
        let file = JournalFile { path, trouble, ended };
        let mut observer: Box<dyn Observer> = Box::new(recorder);
        began(&mut observer);
        thread.join().expect("no panic").expect("received");
        for second in 0..100 {
            observer.input(Timestamp::from_millis(1000 * second), &Input::Timeout);
        }
        drop(observer);
        let reported = file.finish().await.expect("a problem");
        assert!(reported.contains("No space left"), "{reported}");
    }
}
