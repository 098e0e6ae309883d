//! The clients of each storage session: state only. The behaviour of a session is in
//! [`crate::storage`].
//!
//! This module must not import code that acts on sessions: the emulator's shared state owns it.

mod hub;
mod slots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::presence::{Who, Why};
use crate::sync::lock;
use crate::wire::MessageType;
pub(crate) use hub::{Hub, Media};
use slots::Slots;

/// Messages of one client that wait for its member.
const INBOX_MAX: usize = 128;

/// All sessions, by the channel's ARN.
#[derive(Debug, Default)]
pub(crate) struct StorageSessions {
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_arn: BTreeMap<String, Session>,
    members: u64,
}

#[derive(Debug)]
struct Session {
    slots: Slots,
    hub: Arc<Hub>,
    ends_at: Instant,
    /// By client id; the master has none.
    members: BTreeMap<Option<String>, Place>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    inbox: mpsc::Sender<Inbound>,
    /// Ends the stay; the first reason counts.
    end: mpsc::Sender<Why>,
    who: Who,
}

/// A message of a client to the service.
#[derive(Debug)]
pub(crate) enum Inbound {
    Answer(String),
    Candidate(String),
}

/// The session's data for a client that joined.
pub(crate) struct Joined {
    /// The stay's number, which is unique.
    pub(crate) number: u64,
    pub(crate) hub: Arc<Hub>,
    pub(crate) inbox: mpsc::Receiver<Inbound>,
    /// Receives the reason when the stay has to end.
    pub(crate) ended: mpsc::Receiver<Why>,
    /// When the whole session ends.
    pub(crate) ends_at: Instant,
}

/// The session has as many viewers as it may.
pub(crate) struct Full;

impl StorageSessions {
    /// Adds a client to its channel's session, in the place of an older connection of the same
    /// client. A session that begins lasts for `lifetime`; `viewers_max` of `None` is unlimited.
    pub(crate) fn join(
        &self,
        who: &Who,
        lifetime: Duration,
        viewers_max: Option<usize>,
        now: Instant,
    ) -> Result<Joined, Full> {
        let mut sessions = lock(&self.sessions);
        sessions.remove_finished(now);
        sessions.members += 1;
        let number = sessions.members;
        let ends_at = now + lifetime;
        let session = sessions.by_arn.entry(who.arn.clone()).or_insert_with(|| Session {
            slots: Slots::default(),
            hub: Arc::new(Hub::new()),
            ends_at,
            members: BTreeMap::new(),
        });
        if session.ends_at <= now {
            // The session ended and is kept only for its slots, which count in the next one, too.
            session.hub = Arc::new(Hub::new());
            session.ends_at = ends_at;
        }
        if let Some(id) = &who.client_id
            && !session.slots.take(id, viewers_max, now)
        {
            return Err(Full);
        }
        let (inbox, receiver) = mpsc::channel(INBOX_MAX);
        let (end, ended) = mpsc::channel(1);
        let place = Place { number, inbox, end, who: who.clone() };
        if let Some(old) = session.members.insert(who.client_id.clone(), place) {
            old.end(Why::Displaced);
        }
        let (hub, ends_at) = (session.hub.clone(), session.ends_at);
        Ok(Joined { number, hub, inbox: receiver, ended, ends_at })
    }

    /// Removes a client, unless a newer stay displaced it. A viewer's slot is kept for `slot_kept`.
    pub(crate) fn leave(&self, who: &Who, number: u64, slot_kept: Duration, now: Instant) {
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.by_arn.get_mut(&who.arn)
            && session.members.get(&who.client_id).is_some_and(|place| place.number == number)
        {
            session.members.remove(&who.client_id);
            if let Some(id) = &who.client_id {
                session.slots.leave(id, slot_kept, now);
            }
        }
    }

    /// Finds a client that is in a channel's session; the master has no id.
    pub(crate) fn member(&self, arn: &str, client_id: Option<&str>) -> Option<Who> {
        let sessions = lock(&self.sessions);
        let place = sessions.by_arn.get(arn)?.members.get(&client_id.map(str::to_owned))?;
        Some(place.who.clone())
    }

    /// Ends a channel's session, because the channel was deleted or its media storage disabled.
    pub(crate) fn end(&self, arn: &str, why: Why) {
        if let Some(session) = lock(&self.sessions).by_arn.get(arn) {
            session.members.values().for_each(|place| place.end(why));
        }
    }

    /// Passes a client's answer or candidate to its end of the session.
    pub(crate) fn receive(&self, who: &Who, kind: MessageType, payload: &str) {
        let Some(message) = parse(kind, payload) else {
            tracing::debug!(kind = kind.name(), "the storage service cannot read it");
            return;
        };
        let sessions = lock(&self.sessions);
        let place = sessions.by_arn.get(&who.arn).and_then(|s| s.members.get(&who.client_id));
        let refused = place.is_none_or(|place| place.inbox.try_send(message).is_err());
        if refused {
            tracing::debug!(kind = kind.name(), "the storage service does not wait for it");
        }
    }
}

impl Place {
    fn end(&self, why: Why) {
        // The send fails if the stay is over already, or has a reason already.
        let _ = self.end.try_send(why);
    }
}

impl Sessions {
    fn remove_finished(&mut self, now: Instant) {
        self.by_arn
            .retain(|_, session| !session.members.is_empty() || !session.slots.is_empty(now));
    }
}

/// Parses a payload: base64 in either alphabet, with or without padding (docs/kvs-protocol.md 2.2).
fn parse(kind: MessageType, payload: &str) -> Option<Inbound> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, config);
    let bytes = engine.decode(payload.replace('-', "+").replace('_', "/")).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match kind {
        MessageType::SdpAnswer => text("sdp").map(Inbound::Answer),
        MessageType::IceCandidate => text("candidate").map(Inbound::Candidate),
        MessageType::SdpOffer
        | MessageType::GoAway
        | MessageType::ReconnectIceServer
        | MessageType::StatusResponse => None,
    }
}
