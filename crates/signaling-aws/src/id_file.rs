//! Client ids that other processes of this machine use or let rest, told by small files.
//!
//! A viewer that was killed says goodbye to nobody: the master holds its session for a minute, and
//! the next process, which knows nothing of it, would take the same id and get no answer. So an id
//! in use has a file with a lock on it, which the system takes away with the process, and an id
//! that rests has one that says since when. Wall time, because it is all that processes share.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use negotiation_core::{ClientId, ClientIdPool, Digest};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longest content of a file: a word and a number.
const CONTENT_MAX: u64 = 64;

/// Files that nobody touched for this long are removed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// How long a disk is waited for: an id that is not shared is better than no session.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// Most tasks that wait for a disk at a time; one that hangs, as a network's may, takes no more
/// threads than these.
const DISK_TASKS_MAX: usize = 4;

/// Most directories that are known to be tidied.
const DIRS_MAX: usize = 64;

/// Does something with files, away from the runtime's workers and within a limit. What comes too
/// late is dropped when it comes.
pub(crate) async fn on_disk<T: Send + 'static>(
    task: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    Disk::of_process().run(task).await
}

/// Those who wait for a disk.
struct Disk(Arc<Semaphore>);

impl Disk {
    fn of_process() -> &'static Self {
        static DISK: OnceLock<Disk> = OnceLock::new();
        DISK.get_or_init(Self::new)
    }

    fn new() -> Self {
        Self(Arc::new(Semaphore::new(DISK_TASKS_MAX)))
    }

    async fn run<T: Send + 'static>(
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

/// The file of an id that this process uses, locked for as long. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct IdFile {
    file: Arc<File>,
}

/// What the files say of an id.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is this process's now.
    Ours(IdFile),
    /// It rests for this long already.
    Rests(Duration),
    /// Another process uses it.
    Elsewhere,
}

impl IdFile {
    /// Takes an id, unless it rests or another process uses it; `hurry` takes one that rests.
    pub(crate) fn claim(dir: &Path, key: &str, id: &ClientId, hurry: bool) -> io::Result<Claim> {
        make_private(dir)?;
        let file = open(&path(dir, key, id), Missing::Made)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Claim::Elsewhere),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut content = String::new();
        (&file).take(CONTENT_MAX).read_to_string(&mut content)?;
        let now = unix_ms();
        let rests = match content.split_once(' ') {
            // Whoever wrote this is gone without a word. When is unknown: the rest begins now.
            Some(("leased", _)) => {
                write(&file, &format!("returned {now}"))?;
                Some(Duration::ZERO)
            }
            Some(("returned", at)) => {
                let at = at.trim().parse().unwrap_or(now);
                // A clock that was set back must not make an id rest for ever.
                Some(Duration::from_millis(now.checked_sub(at).unwrap_or(u64::MAX)))
            }
            Some(_) | None => None,
        };
        match rests {
            Some(rested) if rested < ClientIdPool::REST && !hurry => Ok(Claim::Rests(rested)),
            Some(_) | None => Ok(Claim::Ours(Self { file: Arc::new(file) })),
        }
    }

    /// An offer goes out: should this process be killed, the id has to rest.
    pub(crate) fn offered(&self) -> io::Result<()> {
        write(&self.file, &format!("leased {}", unix_ms()))
    }

    /// The id rests, for this long already; the lock ends with the last clone.
    pub(crate) fn give_back(self, rested: Duration) -> io::Result<()> {
        let rested = u64::try_from(rested.as_millis()).unwrap_or(u64::MAX);
        write(&self.file, &format!("returned {}", unix_ms().saturating_sub(rested)))
    }

    /// As [`give_back`](Self::give_back), and nothing is waited for where there is a runtime.
    pub(crate) fn give_back_later(self, rested: Duration) {
        let task = move || {
            if let Err(error) = self.give_back(rested) {
                tracing::warn!(%error, "other processes will not know of this client id");
            }
        };
        match (Handle::try_current(), Disk::of_process().0.clone().try_acquire_owned()) {
            (Ok(runtime), Ok(permit)) => {
                runtime.spawn_blocking(move || {
                    let _permit = permit;
                    task();
                });
            }
            // The disk hangs: whoever comes next sees that nobody gave the id back.
            (Ok(_), Err(_)) => {}
            (Err(_), _) => task(),
        }
    }
}

/// Removes what processes of days ago left in a directory: once in this process, and later, for
/// nothing waits for it. Best effort.
pub(crate) fn tidy_later(dir: &Path) {
    static TIDIED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let is_new = {
        let mut tidied = TIDIED.lock().unwrap_or_else(PoisonError::into_inner);
        tidied.len() < DIRS_MAX && tidied.insert(dir.to_owned())
    };
    if is_new {
        let dir = dir.to_owned();
        tokio::spawn(on_disk(move || {
            tidy(&dir);
            Ok(())
        }));
    }
}

fn tidy(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // Of the entry itself: a link is none of ours.
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > FORGOTTEN));
        let ours = path.extension().is_some_and(|extension| extension == "client-id");
        if old && ours && open(&path, Missing::Refused).is_ok_and(|file| file.try_lock().is_ok()) {
            // Somebody else may have been quicker.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Makes a directory that is not there; what is in it is nobody else's to read.
fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// What is done about a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Made,
    Refused,
}

/// Opens a file of ours: whoever may write to the directory could have put something else in its
/// place, for names are no secret.
#[cfg(unix)]
fn open(path: &Path, missing: Missing) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW
        // A pipe would be waited for.
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
    // Who can read it can lock it.
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open(path: &Path, missing: Missing) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(missing == Missing::Made).truncate(false).open(path)
}

fn path(dir: &Path, key: &str, id: &ClientId) -> PathBuf {
    let digest = Digest::of(format!("{key}\n{id}").as_bytes());
    dir.join(format!("{:016x}.client-id", digest.0))
}

fn write(mut file: &File, content: &str) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ClientId {
        ClientId::new("cam").expect("valid")
    }

    fn claim(dir: &Path) -> Claim {
        IdFile::claim(dir, "channel", &id(), false).expect("a writable directory")
    }

    fn ours(claim: Claim) -> IdFile {
        match claim {
            Claim::Ours(file) => file,
            Claim::Rests(_) | Claim::Elsewhere => panic!("not free: {claim:?}"),
        }
    }

    #[test]
    fn an_id_in_use_is_not_taken_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let _held = ours(claim(dir.path()));
        assert!(matches!(claim(dir.path()), Claim::Elsewhere));
    }

    #[test]
    fn an_id_that_was_given_back_rests() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = ours(claim(dir.path()));
        held.offered().expect("written");
        held.give_back(Duration::ZERO).expect("written");
        assert!(matches!(claim(dir.path()), Claim::Rests(_)));
        let hurried = IdFile::claim(dir.path(), "channel", &id(), true).expect("writable");
        assert!(matches!(hurried, Claim::Ours(_)));
    }

    #[test]
    fn the_id_of_a_killed_process_rests_from_its_discovery() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = ours(claim(dir.path()));
        held.offered().expect("written");
        // What a kill does: the lock goes, nothing is written.
        drop(held);
        assert!(matches!(claim(dir.path()), Claim::Rests(Duration::ZERO)));
        assert!(matches!(claim(dir.path()), Claim::Rests(_)));
    }

    #[test]
    fn an_id_on_which_nothing_was_offered_is_free_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(ours(claim(dir.path())));
        assert!(matches!(claim(dir.path()), Claim::Ours(_)));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("a/state");
        drop(ours(claim(&state)));
        let file = path(&state, "channel", &id());
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));

        // An older version made files that everybody may read, and so lock.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changed");
        drop(ours(claim(&state)));
        assert_eq!(mode(&file), 0o600);

        let precious = dir.path().join("precious");
        fs::write(&precious, "precious").expect("written");
        fs::remove_file(&file).expect("removed");
        symlink(&precious, &file).expect("linked");
        assert!(IdFile::claim(&state, "channel", &id(), true).is_err(), "a symbolic link");
        fs::remove_file(&file).expect("removed");
        fs::hard_link(&precious, &file).expect("linked");
        assert!(IdFile::claim(&state, "channel", &id(), true).is_err(), "a second name");
        assert_eq!(fs::read_to_string(&precious).expect("there"), "precious");

        fs::remove_file(&file).expect("removed");
        let pipe = rustix::fs::FileType::Fifo;
        let everybody = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, everybody, 0).expect("a pipe");
        assert!(IdFile::claim(&state, "channel", &id(), true).is_err(), "a pipe");
        tidy(&state);
    }

    /// As a network's disk does that is not there any more.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_takes_a_second_and_few_threads() {
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
    async fn a_directory_is_tidied_once_in_a_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = |name: &str| {
            let path = dir.path().join(name);
            let file = File::create(&path).expect("made");
            let days_ago = SystemTime::now() - 2 * FORGOTTEN;
            file.set_modified(days_ago).expect("set");
            path
        };
        let (first, other) = (old("a.client-id"), old("a.txt"));
        tidy_later(dir.path());
        while first.exists() {
            tokio::task::yield_now().await;
        }
        assert!(other.exists());
        let second = old("b.client-id");
        tidy_later(dir.path());
        on_disk(|| Ok(())).await.expect("done");
        assert!(second.exists(), "no second look");
    }

    #[test]
    fn nonsense_in_a_file_is_no_reason_to_fail() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in ["returned x", "leased", "", "returned 99999999999999", "\u{7f} \u{7f}"] {
            fs::write(path(dir.path(), "channel", &id()), content).expect("written");
            assert!(IdFile::claim(dir.path(), "channel", &id(), true).is_ok(), "{content:?}");
        }
    }
}
