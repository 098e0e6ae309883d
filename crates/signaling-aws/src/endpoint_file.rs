//! Endpoints that earlier processes of this machine learned, in one small file for each channel.
//!
//! A process that starts requests the channel's ARN and endpoints from the service before it can
//! open the signaling connection: two to three round trips for each call. The file of an earlier
//! process saves them. It holds no credential and no ICE server.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use kvs_wire::ChannelArn;
use negotiation_core::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::endpoint::Role;
use crate::endpoint::{PlainHttp, is_socket_endpoint, parse_endpoint};
use crate::service_cache::{ENDPOINTS_FOR, Endpoints, Key};
use crate::state_dir::{ENDPOINTS, Missing, make_private, open, unix_ms, write};

/// The format that this version writes; it ignores every other.
const VERSION: u32 = 1;

/// Maximum length of a file that is read, in bytes.
const CONTENT_MAX: u64 = 8 * 1024;

/// Number of files that this process wrote; it gives concurrent stores different temporary files.
static STORED: AtomicU64 = AtomicU64::new(0);

/// The content of a file. The access key id is part of the file name's digest only.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    place: String,
    channel: String,
    role: String,
    learned_at_ms: u64,
    arn: String,
    wss: String,
    https: String,
}

/// Reads the channel's endpoints and when a process learned them. `None` where there is no file for
/// the channel, or one that is expired, damaged, of another version, or not usable here.
///
/// # Errors
/// A file cannot be read, or another user made it.
pub(crate) fn load(
    dir: &Path,
    key: &Key,
    plain: PlainHttp,
) -> io::Result<Option<(Endpoints, SystemTime)>> {
    let file = match open(&path(dir, key), Missing::Refused) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(CONTENT_MAX).read_to_end(&mut bytes)?;
    let Ok(content) = serde_json::from_slice::<Content>(&bytes) else {
        tracing::debug!("a file of endpoints is damaged and is ignored");
        return Ok(None);
    };
    Ok(content.endpoints(key, plain))
}

/// Writes the channel's endpoints for later processes.
pub(crate) fn store(dir: &Path, key: &Key, endpoints: &Endpoints) -> io::Result<()> {
    make_private(dir)?;
    let content = Content {
        version: VERSION,
        place: key.place.clone(),
        channel: key.channel.clone(),
        role: role(key.role).to_owned(),
        learned_at_ms: unix_ms(),
        arn: endpoints.arn.as_str().to_owned(),
        wss: endpoints.wss.clone(),
        https: endpoints.https.clone(),
    };
    let text = serde_json::to_string(&content)?;
    // The rename replaces the whole file, so a reader never sees a partial one.
    let path = path(dir, key);
    let number = STORED.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("{}-{number}.{ENDPOINTS}", std::process::id()));
    write(&open(&new, Missing::Made)?, &text)?;
    fs::rename(&new, &path)
}

/// Removes the channel's file.
pub(crate) fn remove(dir: &Path, key: &Key) -> io::Result<()> {
    match fs::remove_file(path(dir, key)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Content {
    /// Returns the endpoints after the same checks as for a response of the service.
    fn endpoints(self, key: &Key, plain: PlainHttp) -> Option<(Endpoints, SystemTime)> {
        let is_of_key = (self.version, &*self.place, &*self.channel, &*self.role)
            == (VERSION, &*key.place, &*key.channel, role(key.role));
        let learned = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.learned_at_ms));
        // A time in the future means that the clock was set back since: the age is unknown.
        let learned = learned.filter(|at| {
            SystemTime::now().duration_since(*at).is_ok_and(|age| age < ENDPOINTS_FOR)
        });
        let is_usable = parse_endpoint(&self.https, plain).is_ok()
            && Url::parse(&self.wss).is_ok_and(|url| is_socket_endpoint(&url, plain));
        let arn = ChannelArn::parse(&self.arn)
            .filter(|arn| !key.channel.starts_with("arn:") || arn.as_str() == key.channel);
        match (arn, learned) {
            (Some(arn), Some(learned)) if is_of_key && is_usable => {
                let (wss, https) = (self.wss, self.https);
                Some((Endpoints { arn, wss, https, storage: Arc::default() }, learned))
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Viewer => "viewer",
    }
}

fn path(dir: &Path, key: &Key) -> PathBuf {
    let Key { place, channel, role: of, access_key_id } = key;
    let text = format!("{place}\n{channel}\n{}\n{access_key_id}", role(*of));
    dir.join(format!("{:016x}.{ENDPOINTS}", Digest::of(text.as_bytes()).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1";

    fn key() -> Key {
        Key {
            place: "aws us-west-2".into(),
            channel: "door".into(),
            role: Role::Viewer,
            access_key_id: "AKIACANARY".into(),
        }
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            arn: ChannelArn::parse(ARN).expect("valid"),
            wss: "wss://v-1.kinesisvideo.us-west-2.amazonaws.com".into(),
            https: "https://r-1.kinesisvideo.us-west-2.amazonaws.com".into(),
            storage: Arc::default(),
        }
    }

    fn loaded(dir: &Path, key: &Key) -> Option<Endpoints> {
        load(dir, key, PlainHttp::Refused).expect("readable").map(|(endpoints, _)| endpoints)
    }

    /// The stored file with one text replaced.
    fn altered(dir: &Path, from: &str, to: &str) -> Option<Endpoints> {
        store(dir, &key(), &endpoints()).expect("stored");
        let file = path(dir, &key());
        let text = fs::read_to_string(&file).expect("readable");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("written");
        loaded(dir, &key())
    }

    #[test]
    fn stored_endpoints_are_loaded_for_the_same_key_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("state");
        assert_eq!(loaded(&dir, &key()), None);
        store(&dir, &key(), &endpoints()).expect("stored");
        store(&dir, &key(), &endpoints()).expect("stored again");
        assert_eq!(loaded(&dir, &key()), Some(endpoints()));
        let others = [
            Key { access_key_id: "AKIAOTHER".into(), ..key() },
            Key { role: Role::Master, ..key() },
            Key { place: "aws eu-west-1".into(), ..key() },
            Key { channel: "garden".into(), ..key() },
        ];
        for other in others {
            assert_eq!(loaded(&dir, &other), None, "{other:?}");
        }
        let names: Vec<_> = fs::read_dir(&dir).expect("there").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        remove(&dir, &key()).expect("removed");
        remove(&dir, &key()).expect("nothing to remove");
        assert_eq!(loaded(&dir, &key()), None);
    }

    #[test]
    fn damaged_expired_or_unusable_file_is_ignored() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        assert_eq!(altered(dir, "door/1", "door/1"), Some(endpoints()));
        assert_eq!(altered(dir, r#""version":1"#, r#""version":2"#), None);
        assert_eq!(altered(dir, "}", ""), None);
        assert_eq!(altered(dir, "wss://", "ws://"), None);
        assert_eq!(altered(dir, "https://", "http://"), None);
        assert_eq!(altered(dir, "arn:aws:kinesisvideo", "arn:aws:s3"), None);
        assert_eq!(altered(dir, r#""channel":"door""#, r#""channel":"garden""#), None);
        let age = |secs: u64| format!(r#""learned_at_ms":{}"#, unix_ms() - secs * 1000);
        let learned = |at: String| {
            store(dir, &key(), &endpoints()).expect("stored");
            let file = path(dir, &key());
            let mut content: serde_json::Value =
                serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON");
            let at: serde_json::Value = serde_json::from_str(&format!("{{{at}}}")).expect("JSON");
            content["learned_at_ms"] = at["learned_at_ms"].clone();
            fs::write(&file, content.to_string()).expect("written");
            loaded(dir, &key()).is_some()
        };
        assert!(learned(age(10 * 3600 - 60)));
        assert!(!learned(age(10 * 3600 + 1)));
        assert!(!learned(format!(r#""learned_at_ms":{}"#, unix_ms() + 3_600_000)), "future");
        assert!(!learned(format!(r#""learned_at_ms":{}"#, u64::MAX)), "overflow");
        let by_arn = Key { channel: ARN.into(), ..key() };
        store(dir, &by_arn, &endpoints()).expect("stored");
        assert_eq!(loaded(dir, &by_arn), Some(endpoints()));
    }

    #[test]
    fn file_holds_no_access_key_and_belongs_to_the_user() {
        let dir = tempfile::tempdir().expect("a directory");
        store(dir.path(), &key(), &endpoints()).expect("stored");
        let file = path(dir.path(), &key());
        assert!(!fs::read_to_string(&file).expect("readable").contains("CANARY"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, symlink};
            assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
            let elsewhere = dir.path().join("elsewhere");
            fs::rename(&file, &elsewhere).expect("renamed");
            symlink(&elsewhere, &file).expect("linked");
            assert!(load(dir.path(), &key(), PlainHttp::Refused).is_err(), "a symbolic link");
        }
    }
}
