//! Where live media is written as it arrives: standard output, a named pipe, a new file, any
//! writer.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, IsTerminal as _, Result, Write};
use std::path::{Path, PathBuf};

use crate::error::RecordError;
use crate::target::{FileTarget, Target};

/// Where a live stream is written; see [`Recorder::live`](crate::Recorder::live).
#[derive(Debug)]
pub struct LiveOutput {
    pub(crate) name: PathBuf,
    pub(crate) target: Box<dyn Target>,
}

impl LiveOutput {
    /// Opens what the name stands for: standard output for `-` and `/dev/stdout`, a named pipe or a
    /// device that is there, or else a new file, which is never overwritten. A named pipe may be
    /// without a reader at first; frames are dropped until there is one.
    ///
    /// # Errors
    /// Standard output is a terminal, or the file exists or cannot be created.
    pub fn open(path: impl AsRef<Path>) -> std::result::Result<Self, RecordError> {
        let path = path.as_ref();
        if Self::is_standard_output(path) {
            return Self::standard_output();
        }
        let target: Box<dyn Target> = if Self::is_stream(path) {
            Box::new(Stream { sink: Sink::Unopened(path.to_owned()), length: 0 })
        } else {
            Box::new(FileTarget::new(path)?)
        };
        Ok(Self { name: path.to_owned(), target })
    }

    /// Whether the name stands for standard output.
    #[must_use]
    pub fn is_standard_output(path: &Path) -> bool {
        [Path::new("-"), Path::new("/dev/stdout"), Path::new("/dev/fd/1")].contains(&path)
    }

    /// Whether what the name stands for is no file, so that nothing written can be changed.
    pub(crate) fn is_stream(path: &Path) -> bool {
        let is_there = || path.metadata().is_ok_and(|there| is_pipe_or_device(&there));
        Self::is_standard_output(path) || is_there()
    }

    /// The process's standard output. Nothing else may write to it.
    fn standard_output() -> std::result::Result<Self, RecordError> {
        let name = PathBuf::from("standard output");
        if std::io::stdout().is_terminal() {
            return Err(RecordError::Terminal);
        }
        let file = standard_output().map_err(|error| RecordError::io(&name, error))?;
        Ok(Self { name, target: Box::new(Stream { sink: Sink::File(file), length: 0 }) })
    }

    /// Writes to `to`, and flushes it after each frame; `name` stands for it in messages. A writer
    /// that fails with [`ErrorKind::BrokenPipe`] has lost its reader.
    pub fn writer(name: &str, to: impl Write + Send + 'static) -> Self {
        let sink = Sink::Writer(Box::new(to));
        Self { name: PathBuf::from(name), target: Box::new(Stream { sink, length: 0 }) }
    }
}

/// Bytes that cannot be taken back.
#[derive(Debug)]
struct Stream {
    sink: Sink,
    length: u64,
}

enum Sink {
    /// A named pipe or a device that is not open yet.
    Unopened(PathBuf),
    File(File),
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unopened(_) => "Unopened",
            Self::File(_) => "File",
            Self::Writer(_) => "Writer",
        })
    }
}

impl Target for Stream {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.open()?;
        let to: &mut dyn Write = match &mut self.sink {
            Sink::Unopened(_) => return Err(Error::from(ErrorKind::NotConnected)),
            Sink::File(file) => file,
            Sink::Writer(writer) => writer,
        };
        to.write_all(bytes)?;
        to.flush()?;
        self.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn patch(&mut self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::from(ErrorKind::NotSeekable))
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn discard(&mut self) {}

    fn is_append_only(&self) -> bool {
        true
    }

    fn open(&mut self) -> Result<bool> {
        if let Sink::Unopened(path) = &self.sink {
            let Some(file) = open_pipe(path)? else { return Ok(false) };
            self.sink = Sink::File(file);
        }
        Ok(true)
    }

    fn is_closed(&self) -> bool {
        match &self.sink {
            Sink::File(file) => is_closed(file),
            Sink::Unopened(_) | Sink::Writer(_) => false,
        }
    }
}

/// Another handle of standard output: that of the standard library keeps bytes back until a line
/// ends.
#[cfg(unix)]
fn standard_output() -> Result<File> {
    use std::os::fd::AsFd as _;
    Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn standard_output() -> Result<File> {
    use std::os::windows::io::AsHandle as _;
    Ok(std::io::stdout().as_handle().try_clone_to_owned()?.into())
}

#[cfg(unix)]
fn is_pipe_or_device(there: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    there.file_type().is_fifo() || there.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_pipe_or_device(_: &Metadata) -> bool {
    false
}

/// Opens a named pipe or a device for writing; `None` as long as a pipe has no reader.
#[cfg(unix)]
fn open_pipe(path: &Path) -> Result<Option<File>> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    use std::os::unix::fs::OpenOptionsExt as _;
    // Opening would wait for the reader otherwise.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(file) => {
            // From here on a reader that is slow is waited for.
            let flags = fcntl_getfl(&file)?;
            fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
            Ok(Some(file))
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn open_pipe(path: &Path) -> Result<Option<File>> {
    OpenOptions::new().write(true).open(path).map(Some)
}

/// Whether the other end of a pipe is closed.
#[cfg(unix)]
fn is_closed(file: &File) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(file, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok()
        && polled.iter().any(|file| file.revents().intersects(PollFlags::ERR | PollFlags::HUP))
}

#[cfg(not(unix))]
fn is_closed(_: &File) -> bool {
    false
}
