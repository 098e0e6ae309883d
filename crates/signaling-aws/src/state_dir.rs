//! The directory in which the processes of one user on one machine leave small files for each
//! other: client ids in use ([`crate::id_file`]) and endpoints of channels
//! ([`crate::endpoint_file`]).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The extension of files of client ids.
pub(crate) const CLIENT_ID: &str = "client-id";

/// The extension of files of endpoints.
pub(crate) const ENDPOINTS: &str = "endpoints";

/// Maximum number of endpoint files that are kept; the oldest are removed first.
const ENDPOINTS_MAX: usize = 4096;

/// The age since the last change at which files are removed.
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// How long a session waits for a disk: an id that is not shared is better than no session.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// Maximum number of tasks that wait for a disk at a time; a disk that hangs, such as a network
/// file system, occupies no more threads than these.
const DISK_TASKS_MAX: usize = 4;

/// Maximum number of directories that this process remembers as tidied.
const DIRS_MAX: usize = 64;

/// Works on files away from the runtime's workers, within a limit of time and of threads. Clones
/// share the threads.
#[derive(Clone, Debug)]
pub(crate) struct Disk(pub(crate) Arc<Semaphore>);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(DISK_TASKS_MAX)))
    }

    /// Runs a task and waits for it; a result that comes too late is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let done = async {
            let permit = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
            let task = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                task()
            });
            task.await.map_err(io::Error::other)?
        };
        timeout(DISK_PATIENCE, done).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Removes old files from a directory, once per process, since all processes of the machine share
/// the directory, and in the background, since no caller needs the result. Best effort.
pub(crate) fn tidy_later(disk: &Disk, dir: &Path) {
    static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let is_new = {
        let mut tidied = TIDIED.lock().unwrap_or_else(PoisonError::into_inner);
        tidied.len() < DIRS_MAX && tidied.insert(dir.to_owned())
    };
    if is_new {
        let (disk, dir) = (disk.clone(), dir.to_owned());
        tokio::spawn(async move {
            let tidied = disk.run(move || {
                tidy(&dir);
                Ok(())
            });
            tidied.await
        });
    }
}

pub(crate) fn tidy(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut endpoints = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_client_id = extension == Some(CLIENT_ID);
        if !is_client_id && extension != Some(ENDPOINTS) {
            continue;
        }
        // These are the metadata of the entry itself: a symbolic link is not followed.
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if SystemTime::now().duration_since(modified).is_ok_and(|age| age > FORGOTTEN) {
            remove(&path);
        } else if !is_client_id {
            endpoints.push((modified, path));
        }
    }
    if let Some(surplus) = endpoints.len().checked_sub(ENDPOINTS_MAX) {
        endpoints.sort();
        endpoints.iter().take(surplus).for_each(|(_, path)| remove(path));
    }
}

/// Removes a file that this user made and that no process holds a lock on.
fn remove(path: &Path) {
    if open(path, Missing::Refused).is_ok_and(|file| file.try_lock().is_ok()) {
        // Another process may have removed it already.
        let _ = fs::remove_file(path);
    }
}

/// Creates the directory if it does not exist, for this user alone.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Whether a missing file is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Made,
    Refused,
}

/// Opens a file of this directory for reading and writing.
///
/// # Errors
/// It is not a regular file with one name that this user made: another user who can write to the
/// directory could have put something else in its place, since names are predictable.
#[cfg(unix)]
pub(crate) fn open(path: &Path, missing: Missing) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW
        // Without this flag, opening a pipe would block.
        | OFlags::NONBLOCK;
    let flags = if missing == Missing::Made { flags | OFlags::CREATE } else { flags };
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let metadata = file.metadata()?;
    let is_ours = metadata.is_file()
        && metadata.nlink() == 1
        && metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_ours {
        let shown = path.display();
        return Err(io::Error::other(format!("{shown} is no file that this user made")));
    }
    // A process that can read the file can lock it.
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn open(path: &Path, missing: Missing) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(missing == Missing::Made).truncate(false).open(path)
}

/// Replaces the whole content of a file.
pub(crate) fn write(mut file: &File, content: &str) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a network file system that is unavailable.
    #[tokio::test(start_paused = true)]
    async fn hanging_disk_is_bounded_in_time_and_threads() {
        let disk = Disk::new();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..3 * DISK_TASKS_MAX {
            let held = held.clone();
            let hangs = disk.run(move || {
                let held = held.lock().expect("whole");
                held.recv().map_err(io::Error::other)
            });
            // Time does not pass by itself while a blocking task runs.
            let passes = tokio::time::advance(DISK_PATIENCE + Duration::from_millis(1));
            let (outcome, ()) = futures_util::future::join(hangs, passes).await;
            assert_eq!(outcome.expect_err("no answer").kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(disk.0.available_permits(), 0);
        drop(release);
        let permits = disk.0.acquire_many(DISK_TASKS_MAX as u32).await.expect("open");
        drop(permits);
        assert_eq!(disk.run(|| Ok(7)).await.expect("done"), 7);
    }

    #[tokio::test]
    async fn directory_is_tidied_once_in_a_process() {
        let disk = Disk::new();
        let dir = tempfile::tempdir().expect("a directory");
        let (first, other) = (old(dir.path(), "a.client-id"), old(dir.path(), "a.txt"));
        tidy_later(&disk, dir.path());
        while first.exists() {
            tokio::task::yield_now().await;
        }
        assert!(other.exists());
        let second = old(dir.path(), "b.client-id");
        tidy_later(&disk, dir.path());
        disk.run(|| Ok(())).await.expect("done");
        assert!(second.exists(), "the directory was searched again");
    }

    #[test]
    fn oldest_endpoint_files_are_removed_beyond_limit() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in 0..ENDPOINTS_MAX + 2 {
            let file = File::create(dir.path().join(format!("{number:04}.endpoints")));
            let at = SystemTime::now() - Duration::from_secs(3600)
                + Duration::from_millis(number as u64);
            file.expect("made").set_modified(at).expect("set");
        }
        let id = dir.path().join("a.client-id");
        File::create(&id).expect("made");
        let expired = old(dir.path(), "old.endpoints");
        tidy(dir.path());
        assert!(id.exists());
        assert!(!expired.exists());
        let left = |number: usize| dir.path().join(format!("{number:04}.endpoints")).exists();
        assert_eq!((left(0), left(1), left(2)), (false, false, true));
    }

    /// A file that was changed two days ago.
    fn old(dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        let file = File::create(&path).expect("made");
        file.set_modified(SystemTime::now() - 2 * FORGOTTEN).expect("set");
        path
    }
}
