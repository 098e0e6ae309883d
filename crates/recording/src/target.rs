//! The output file of a recording. A failed write leaves the file unchanged.

use std::fmt::Debug;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::RecordError;

/// The output of a recorder.
pub(crate) trait Target: Debug + Send {
    /// Appends bytes, all of them or none.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Overwrites existing bytes.
    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Makes the operating system write all data to the disk.
    fn sync(&mut self) -> Result<()>;
    /// The length of the file in bytes.
    fn length(&self) -> u64;
    /// Removes the file.
    fn discard(&mut self);
    /// Whether nothing that was written can be changed any more.
    fn is_append_only(&self) -> bool {
        false
    }
    /// Opens the target, unless that means to wait for its reader. Whether it is open.
    fn open(&mut self) -> Result<bool> {
        Ok(true)
    }
    /// Whether the reader closed its end, so that a write would fail.
    fn is_closed(&self) -> bool {
        false
    }
}

/// A file of the operating system, created with its first byte and readable by its owner alone.
#[derive(Debug)]
pub(crate) struct FileTarget {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl FileTarget {
    /// Checks that the file can be created; does not change a file that has content.
    pub(crate) fn new(path: &Path) -> std::result::Result<Self, RecordError> {
        check_place(path)?;
        let is_there = path.symlink_metadata().is_ok();
        open(path).map_err(|error| RecordError::io(path, error))?;
        if !is_there {
            // The file is created again with its first byte, so that a recording that never began
            // leaves no file.
            std::fs::remove_file(path).map_err(|error| RecordError::io(path, error))?;
        }
        Ok(Self { path: path.to_owned(), file: None, length: 0 })
    }

    fn file(&mut self) -> Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

/// Creates the file, or opens an empty one, such as one that an earlier version left when it was
/// killed.
fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    let mut new = options.clone();
    new.create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut new, 0o600);
    match new.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        opened => return opened,
    }
    let named = path.symlink_metadata()?;
    if !is_empty_file(&named) {
        return Err(Error::from(ErrorKind::AlreadyExists));
    }
    let file = options.open(path)?;
    let opened = file.metadata()?;
    // Another file may have replaced it since the check.
    if is_empty_file(&opened) && is_same_file(&named, &opened) {
        Ok(file)
    } else {
        Err(Error::from(ErrorKind::AlreadyExists))
    }
}

fn is_empty_file(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() == 0
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same_file(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Checks that a file can be created at this path.
pub(crate) fn check_place(path: &Path) -> std::result::Result<(), RecordError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match std::fs::metadata(parent) {
        Ok(metadata) if !metadata.is_dir() => Err(RecordError::NotADirectory(parent.to_owned())),
        Ok(_) if path.symlink_metadata().is_ok_and(|there| !is_empty_file(&there)) => {
            Err(RecordError::AlreadyExists(path.to_owned()))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(RecordError::ParentMissing(parent.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(RecordError::NotADirectory(parent.to_owned()))
        }
        Err(error) => Err(RecordError::io(parent, error)),
    }
}

impl Target for FileTarget {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let length = self.length;
        let file = self.file()?;
        file.seek(SeekFrom::Start(length))?;
        match file.write_all(bytes).and_then(|()| file.flush()) {
            Ok(()) => {
                self.length += added;
                Ok(())
            }
            Err(error) => {
                // Players would treat a partial fragment as damage. Truncating needs no disk space.
                let _ = file.set_len(length);
                if length == 0 {
                    self.discard();
                }
                Err(error)
            }
        }
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.file()?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.file()?.sync_all()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn discard(&mut self) {
        if self.file.take().is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_created_with_first_byte_and_owner_only_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.mp4");
        let mut target = FileTarget::new(&path).unwrap();
        assert!(!path.exists());
        target.append(b"head").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"head");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        target.discard();
        assert!(!path.exists());
    }

    #[test]
    fn only_empty_existing_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.mp4");
        std::fs::write(&path, b"").unwrap();
        let mut target = FileTarget::new(&path).unwrap();
        // Another process writes the file in between.
        std::fs::write(&path, b"kept").unwrap();
        assert_eq!(target.append(b"head").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
        assert!(matches!(FileTarget::new(&path), Err(RecordError::AlreadyExists(_))));
        std::fs::write(&path, b"").unwrap();
        FileTarget::new(&path).unwrap().append(b"head").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"head");
    }

    #[cfg(unix)]
    #[test]
    fn link_to_an_empty_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (other, path) = (directory.path().join("other"), directory.path().join("r.mp4"));
        std::fs::write(&other, b"").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(matches!(FileTarget::new(&path), Err(RecordError::AlreadyExists(_))));
        assert_eq!(std::fs::read(&other).unwrap(), b"");
    }
}
