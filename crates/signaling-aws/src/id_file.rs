//! Client ids that other processes of this machine use or let rest, told by small files.
//!
//! A viewer that was killed says goodbye to nobody: the master holds its session for a minute, and
//! the next process, which knows nothing of it, would take the same id and get no answer. So an id
//! in use has a file with a lock on it, which the system takes away with the process, and an id
//! that rests has one that says since when. Wall time, because it is all that processes share.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use negotiation_core::{ClientId, ClientIdPool, Digest};

/// Longest content of a file: a word and a number.
const CONTENT_MAX: u64 = 64;

/// Files that nobody touched for this long are removed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// The file of an id that this process uses, locked for as long.
#[derive(Debug)]
pub(crate) struct IdFile {
    file: File,
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
        fs::create_dir_all(dir)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path(dir, key, id))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Claim::Elsewhere),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut content = String::new();
        io::Read::by_ref(&mut file).take(CONTENT_MAX).read_to_string(&mut content)?;
        let now = unix_ms();
        let rests = match content.split_once(' ') {
            // Whoever wrote this is gone without a word. When is unknown: the rest begins now.
            Some(("leased", _)) => {
                write(&mut file, &format!("returned {now}"))?;
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
            Some(_) | None => Ok(Claim::Ours(Self { file })),
        }
    }

    /// An offer goes out: should this process be killed, the id has to rest.
    pub(crate) fn offered(&mut self) -> io::Result<()> {
        write(&mut self.file, &format!("leased {}", unix_ms()))
    }

    /// The id rests, for this long already; the lock ends with the file.
    pub(crate) fn give_back(mut self, rested: Duration) -> io::Result<()> {
        let rested = u64::try_from(rested.as_millis()).unwrap_or(u64::MAX);
        write(&mut self.file, &format!("returned {}", unix_ms().saturating_sub(rested)))
    }
}

/// Removes what processes of days ago left. Best effort.
pub(crate) fn tidy(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > FORGOTTEN));
        let ours = path.extension().is_some_and(|extension| extension == "client-id");
        if old && ours && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            // Somebody else may have been quicker.
            let _ = fs::remove_file(&path);
        }
    }
}

fn path(dir: &Path, key: &str, id: &ClientId) -> PathBuf {
    let digest = Digest::of(format!("{key}\n{id}").as_bytes());
    dir.join(format!("{:016x}.client-id", digest.0))
}

fn write(file: &mut File, content: &str) -> io::Result<()> {
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
        let mut held = ours(claim(dir.path()));
        held.offered().expect("written");
        held.give_back(Duration::ZERO).expect("written");
        assert!(matches!(claim(dir.path()), Claim::Rests(_)));
        let hurried = IdFile::claim(dir.path(), "channel", &id(), true).expect("writable");
        assert!(matches!(hurried, Claim::Ours(_)));
    }

    #[test]
    fn the_id_of_a_killed_process_rests_from_its_discovery() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut held = ours(claim(dir.path()));
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

    #[test]
    fn nonsense_in_a_file_is_no_reason_to_fail() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in ["returned x", "leased", "", "returned 99999999999999", "\u{7f} \u{7f}"] {
            fs::write(path(dir.path(), "channel", &id()), content).expect("written");
            assert!(IdFile::claim(dir.path(), "channel", &id(), true).is_ok(), "{content:?}");
        }
    }
}
