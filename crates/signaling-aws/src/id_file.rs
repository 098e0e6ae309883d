//! Files that record which client ids other processes of this machine use or let rest.
//!
//! A viewer that was killed closes nothing: the master keeps its session for a minute, and the next
//! process, which does not know about it, would take the same id and get no answer. So an id in use
//! has a file with a lock, which the system releases with the process, and an id that rests has a
//! file with the time since when. It is wall time, the only clock that processes share.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{ClientId, ClientIdPool, Digest};
use tokio::runtime::Handle;

use crate::state_dir::{CLIENT_ID, Disk, Missing, make_private, open, unix_ms, write};

/// Maximum length of a file's content, in bytes: a word and a number.
const CONTENT_MAX: u64 = 64;

/// The file of an id that this process uses, locked until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct IdFile {
    file: Arc<File>,
}

/// The state of an id according to its file.
#[derive(Debug)]
pub(crate) enum Claim {
    /// This process now holds the id.
    Acquired(IdFile),
    /// The id has rested for this long.
    Resting(Duration),
    /// Another process uses the id.
    InUse,
}

impl IdFile {
    /// Claims an id, unless it rests or another process uses it; with `allow_resting`, also a
    /// resting one.
    pub(crate) fn claim(
        dir: &Path,
        key: &str,
        id: &ClientId,
        allow_resting: bool,
    ) -> io::Result<Claim> {
        make_private(dir)?;
        let file = open(&path(dir, key, id), Missing::Made)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Claim::InUse),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut content = String::new();
        (&file).take(CONTENT_MAX).read_to_string(&mut content)?;
        let now = unix_ms();
        let rests = match content.split_once(' ') {
            // The process that wrote this was killed at an unknown time, so the rest begins now.
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
            Some(rested) if rested < ClientIdPool::REST && !allow_resting => {
                Ok(Claim::Resting(rested))
            }
            Some(_) | None => Ok(Claim::Acquired(Self { file: Arc::new(file) })),
        }
    }

    /// Records that an offer is about to be sent: if this process is killed, the id must rest.
    pub(crate) fn offered(&self) -> io::Result<()> {
        write(&self.file, &format!("leased {}", unix_ms()))
    }

    /// Records that the id has rested for `rested`; the lock ends with the last clone.
    pub(crate) fn give_back(self, rested: Duration) -> io::Result<()> {
        let rested = u64::try_from(rested.as_millis()).unwrap_or(u64::MAX);
        write(&self.file, &format!("returned {}", unix_ms().saturating_sub(rested)))
    }

    /// Calls [`give_back`](Self::give_back), in the background where there is a runtime.
    pub(crate) fn give_back_later(self, disk: &Disk, rested: Duration) {
        let task = move || {
            if let Err(error) = self.give_back(rested) {
                tracing::warn!(%error, "other processes will not know of this client id");
            }
        };
        match (Handle::try_current(), disk.0.clone().try_acquire_owned()) {
            (Ok(runtime), Ok(permit)) => {
                runtime.spawn_blocking(move || {
                    let _permit = permit;
                    task();
                });
            }
            // The disk hangs: the next process sees that the id was not given back.
            (Ok(_), Err(_)) => {}
            (Err(_), _) => task(),
        }
    }
}

fn path(dir: &Path, key: &str, id: &ClientId) -> PathBuf {
    let digest = Digest::of(format!("{key}\n{id}").as_bytes());
    dir.join(format!("{:016x}.{CLIENT_ID}", digest.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_dir::tidy;
    use std::fs;

    fn id() -> ClientId {
        ClientId::new("cam").expect("valid")
    }

    fn claim(dir: &Path) -> Claim {
        IdFile::claim(dir, "channel", &id(), false).expect("a writable directory")
    }

    fn ours(claim: Claim) -> IdFile {
        match claim {
            Claim::Acquired(file) => file,
            Claim::Resting(_) | Claim::InUse => panic!("not free: {claim:?}"),
        }
    }

    #[test]
    fn id_in_use_is_not_taken_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let _held = ours(claim(dir.path()));
        assert!(matches!(claim(dir.path()), Claim::InUse));
    }

    #[test]
    fn id_that_was_given_back_rests() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = ours(claim(dir.path()));
        held.offered().expect("written");
        held.give_back(Duration::ZERO).expect("written");
        assert!(matches!(claim(dir.path()), Claim::Resting(_)));
        let forced = IdFile::claim(dir.path(), "channel", &id(), true).expect("writable");
        assert!(matches!(forced, Claim::Acquired(_)));
    }

    #[test]
    fn id_of_a_killed_process_rests_from_its_discovery() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = ours(claim(dir.path()));
        held.offered().expect("written");
        // A kill has this effect: the lock ends, and nothing is written.
        drop(held);
        assert!(matches!(claim(dir.path()), Claim::Resting(Duration::ZERO)));
        assert!(matches!(claim(dir.path()), Claim::Resting(_)));
    }

    #[test]
    fn id_without_offer_is_free_immediately() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(ours(claim(dir.path())));
        assert!(matches!(claim(dir.path()), Claim::Acquired(_)));
    }

    #[cfg(unix)]
    #[test]
    fn foreign_file_is_not_opened() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("a/state");
        drop(ours(claim(&state)));
        let file = path(&state, "channel", &id());
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));

        // An older version made files that every user may read, and so lock.
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

    #[test]
    fn malformed_id_file_is_ignored() {
        let dir = tempfile::tempdir().expect("a directory");
        for content in ["returned x", "leased", "", "returned 99999999999999", "\u{7f} \u{7f}"] {
            fs::write(path(dir.path(), "channel", &id()), content).expect("written");
            assert!(IdFile::claim(dir.path(), "channel", &id(), true).is_ok(), "{content:?}");
        }
    }
}
