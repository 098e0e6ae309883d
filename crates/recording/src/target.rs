//! The file under a recording. A write that fails leaves the file as it was before it.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{Result, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::RecordError;

/// What a recorder writes to.
pub(crate) trait Target: Debug + Send {
    /// Adds bytes at the end, all of them or none.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Writes over bytes that are there.
    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Has the system put everything on the disk.
    fn sync(&mut self) -> Result<()>;
    /// How long the file is.
    fn length(&self) -> u64;
}

/// A file of the operating system.
#[derive(Debug)]
pub(crate) struct FileTarget {
    file: File,
    length: u64,
}

impl FileTarget {
    /// Creates the file; one that is there is not touched.
    pub(crate) fn create(path: &Path) -> std::result::Result<Self, RecordError> {
        check_place(path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| RecordError::io(path, error))?;
        Ok(Self { file, length: 0 })
    }
}

/// Whether a file can be begun there.
pub(crate) fn check_place(path: &Path) -> std::result::Result<(), RecordError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match std::fs::metadata(parent) {
        Ok(metadata) if !metadata.is_dir() => Err(RecordError::NotADirectory(parent.to_owned())),
        Ok(_) if path.symlink_metadata().is_ok() => {
            Err(RecordError::AlreadyExists(path.to_owned()))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(RecordError::ParentMissing(parent.to_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(RecordError::NotADirectory(parent.to_owned()))
        }
        Err(error) => Err(RecordError::io(parent, error)),
    }
}

impl Target for FileTarget {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.file.seek(SeekFrom::Start(self.length))?;
        match self.file.write_all(bytes).and_then(|()| self.file.flush()) {
            Ok(()) => {
                self.length += added;
                Ok(())
            }
            Err(error) => {
                // Half a fragment would be taken for damage by players. Shortening needs no space.
                let _ = self.file.set_len(self.length);
                Err(error)
            }
        }
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_all()
    }

    fn length(&self) -> u64 {
        self.length
    }
}
