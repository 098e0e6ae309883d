//! TURN credentials, as GetIceServerConfig returns them (docs/kvs-protocol.md 1.5).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::clock::UnixTime;
use crate::config::{TurnAuth, TurnConfig};

/// A TURN user and its password.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
    #[cfg_attr(
        not(feature = "turn"),
        expect(dead_code, reason = "the emulator's own relay alone asks for it")
    )]
    pub(crate) ends: UnixTime,
}

/// `IceServerList` for a channel.
pub(crate) fn ice_servers(turn: &TurnConfig, user: &User) -> Value {
    let entry = |uris: &Vec<String>| json!({ "Uris": uris, "Username": user.name, "Password": user.password, "Ttl": turn.ttl_secs });
    turn.servers.iter().map(entry).collect()
}

/// A channel's user, made at this time.
pub(crate) fn user(turn: &TurnConfig, arn: &str, now: UnixTime) -> User {
    let ends = UnixTime(now.0.saturating_add(i64::from(turn.ttl_secs)));
    let (name, password) = credentials(turn, arn, ends);
    User { name, password, ends }
}

fn credentials(turn: &TurnConfig, arn: &str, UnixTime(expiry): UnixTime) -> (String, String) {
    match &turn.auth {
        TurnAuth::Fixed { username, password } => (username.clone(), password.clone()),
        TurnAuth::SharedSecret(secret) => {
            let username = format!("{expiry}:{}", STANDARD.encode(format!("v1:{arn}")));
            // The TURN REST scheme, and so coturn, uses SHA-1.
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
            let password = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
            (username, password)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_username_matches_public_logs() {
        let turn = TurnConfig {
            servers: vec![vec!["turn:a".into()], vec!["turn:b".into(), "turns:b".into()]],
            ..Default::default()
        };
        let arn = "arn:aws:kinesisvideo:us-west-2:635303472902:channel/channel201/1605557568493";
        let list = ice_servers(&turn, &user(&turn, arn, UnixTime(1_605_557_586)));
        assert_eq!(list[1]["Uris"], json!(["turn:b", "turns:b"]));
        assert_eq!(list[0]["Ttl"], 300);
        let username = list[0]["Username"].as_str().unwrap();
        assert!(username.starts_with("1605557886:djE6YXJu"), "{username}");
    }

    #[test]
    fn turn_password_is_the_hmac_of_the_username() {
        let auth = TurnAuth::SharedSecret("key".into());
        let turn = TurnConfig { auth, ..Default::default() };
        let (username, password) = credentials(&turn, "arn", UnixTime(300));
        assert_eq!(username, "300:djE6YXJu");
        // printf %s 300:djE6YXJu | openssl dgst -sha1 -hmac key -binary | base64
        assert_eq!(password, "BuQ/+uwhYQue+fuqiXz+xejoq/8=");
    }
}
