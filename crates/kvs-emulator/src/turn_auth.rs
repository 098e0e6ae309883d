//! The users of the relay: those that GetIceServerConfig returned, until they expire.
//!
//! As with AWS and coturn, an expired credential opens no new allocation, and an allocation that
//! was opened with it in time continues.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use crate::clock::UnixTime;
use crate::sync::lock;

/// Maximum number of users; the one that expires first is removed first.
const USERS_MAX: usize = 4096;
/// Maximum number of clients with a stored channel.
const CLIENTS_MAX: usize = 4096;

/// RFC 8489, 5: the header's length and the magic cookie.
const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 8656, 18.1: the request that opens an allocation.
const ALLOCATE: [u8; 2] = [0x00, 0x03];
/// RFC 8489, 18.3.
const USERNAME: u16 = 0x0006;

/// The credentials that GetIceServerConfig returned.
#[derive(Debug, Default)]
pub(crate) struct Users {
    by_name: Mutex<BTreeMap<String, User>>,
}

struct User {
    password: String,
    arn: String,
    ends: UnixTime,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Users {
    pub(crate) fn hand_out(&self, name: &str, password: &str, arn: &str, ends: UnixTime) {
        let mut users = lock(&self.by_name);
        if users.len() >= USERS_MAX && !users.contains_key(name) {
            let first =
                users.iter().min_by_key(|(_, user)| user.ends).map(|(name, _)| name.clone());
            first.and_then(|name| users.remove(&name));
        }
        let user = User { password: password.to_owned(), arn: arn.to_owned(), ends };
        users.insert(name.to_owned(), user);
    }
}

/// Which channel each client of the relay authenticated for.
#[derive(Debug, Default)]
pub(crate) struct Authenticator {
    arns: BTreeMap<SocketAddr, String>,
}

/// How a datagram is passed to the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The server receives it unchanged.
    AsItIs,
    /// The server receives it, after this user was added to the server.
    User { name: String, password: String },
    /// The server receives this: the same request without credentials, which it refuses with 401.
    Instead(Vec<u8>),
}

impl Authenticator {
    /// Decides how a datagram is passed to the server.
    pub(crate) fn admit(
        &mut self,
        users: &Users,
        from: SocketAddr,
        data: &[u8],
        now: UnixTime,
    ) -> Admission {
        let Some(name) = username(data) else { return Admission::AsItIs };
        if data.get(..2) != Some(&ALLOCATE) {
            return Admission::AsItIs;
        }
        let users = lock(&users.by_name);
        match users.get(name).filter(|user| now < user.ends) {
            Some(user) => {
                if self.arns.len() >= CLIENTS_MAX {
                    self.arns.clear();
                }
                self.arns.insert(from, user.arn.clone());
                Admission::User { name: name.to_owned(), password: user.password.clone() }
            }
            None => {
                tracing::info!(client = %from, "TURN: a credential that ended, or was none");
                Admission::Instead(bare(data))
            }
        }
    }

    /// The channel that a client's credential is for.
    pub(crate) fn arn_of(&self, client: SocketAddr) -> Option<&str> {
        self.arns.get(&client).map(String::as_str)
    }
}

/// Returns a request that consists of the header only.
fn bare(data: &[u8]) -> Vec<u8> {
    let mut header = data.get(..HEADER).unwrap_or_default().to_vec();
    if let Some(length) = header.get_mut(2..4) {
        length.fill(0);
    }
    header
}

/// The USERNAME of a STUN message.
fn username(data: &[u8]) -> Option<&str> {
    if data.first()? & 0xc0 != 0 || data.get(4..8)? != COOKIE {
        return None;
    }
    let mut rest = data.get(HEADER..)?;
    loop {
        let (kind, length) = (rest.get(..2)?, rest.get(2..4)?);
        let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
        let value = rest.get(4..4 + length)?;
        if u16::from_be_bytes(kind.try_into().ok()?) == USERNAME {
            return std::str::from_utf8(value).ok();
        }
        // Values are padded to four bytes.
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: [u8; 2], name: &str) -> Vec<u8> {
        let mut data = Vec::from(method);
        data.extend([0, 0]);
        data.extend(COOKIE);
        data.extend([7; 12]);
        // REQUESTED-TRANSPORT comes first, so that the parser has to skip an attribute.
        data.extend([0x00, 0x19, 0, 4, 17, 0, 0, 0]);
        data.extend(USERNAME.to_be_bytes());
        data.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        data.extend(name.as_bytes());
        data.resize(data.len().next_multiple_of(4), 0);
        let length = u16::try_from(data.len() - HEADER).unwrap();
        data[2..4].copy_from_slice(&length.to_be_bytes());
        data
    }

    fn from() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    #[test]
    fn expired_credential_opens_no_allocation() {
        let (users, mut authenticator) = (Users::default(), Authenticator::default());
        users.hand_out("100:abc", "p4ss", "arn", UnixTime(100));
        let allocate = request(ALLOCATE, "100:abc");
        let known = Admission::User { name: "100:abc".into(), password: "p4ss".into() };
        assert_eq!(authenticator.admit(&users, from(), &allocate, UnixTime(99)), known);
        assert_eq!(authenticator.arn_of(from()), Some("arn"));
        let Admission::Instead(bare) =
            authenticator.admit(&users, from(), &allocate, UnixTime(100))
        else {
            panic!("it ended");
        };
        assert_eq!((bare.len(), &bare[..4]), (HEADER, [0, 3, 0, 0].as_slice()));
        let refresh = request([0, 4], "100:abc");
        assert_eq!(authenticator.admit(&users, from(), &refresh, UnixTime(100)), Admission::AsItIs);
        let stranger = request(ALLOCATE, "200:abc");
        assert!(matches!(
            authenticator.admit(&users, from(), &stranger, UnixTime(0)),
            Admission::Instead(_)
        ));
        assert!(!format!("{users:?}").contains("p4ss"));
    }

    #[test]
    fn datagram_without_a_user_name_passes() {
        let whole = request(ALLOCATE, "u");
        for cut in 0..whole.len() - 4 {
            assert_eq!(username(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(username(&whole), Some("u"));
        assert_eq!(username(&[0x40; 64]), None, "channel data");
    }

    #[test]
    fn turn_users_are_bounded() {
        let users = Users::default();
        for n in 0..2 * i64::try_from(USERS_MAX).unwrap() {
            users.hand_out(&n.to_string(), "p", "arn", UnixTime(n));
        }
        let kept = lock(&users.by_name);
        assert_eq!(kept.len(), USERS_MAX);
        assert!(!kept.contains_key("0"), "the one that ended first went");
    }
}
