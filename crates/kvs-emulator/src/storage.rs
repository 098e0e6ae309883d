//! The storage service: sessions in which the service itself is everybody's peer.
//!
//! A client joins by a call; the service then offers to it over its socket, one offer a call, and
//! the client answers (docs/kvs-protocol.md 1.6 and 2.5). What the master sends goes to every
//! viewer. Nothing is stored.

mod hub;
mod member;
mod peer;
mod rules;
mod splice;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::presence::{Happening, Who, Why};
use crate::shared::Shared;
use crate::sync::lock;
use crate::wire::MessageType;
use hub::Hub;
use member::{Inbound, Member};
use rules::Slots;

/// Messages of one client that wait for its member.
const INBOX_MAX: usize = 128;

/// All sessions, by the channel's ARN.
#[derive(Debug, Default)]
pub(crate) struct Storage {
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
    members: BTreeMap<Option<String>, Seat>,
}

#[derive(Debug)]
struct Seat {
    number: u64,
    inbox: mpsc::Sender<Inbound>,
    /// Ends the stay; the first reason counts.
    end: mpsc::Sender<Why>,
    who: Who,
}

/// Takes a client in, or once more: each call brings one offer of a connection of its own.
pub(crate) fn join(shared: &Arc<Shared>, who: Who) -> Result<(), ApiError> {
    let now = Instant::now();
    let (member, ended) = {
        let mut sessions = lock(&shared.storage.sessions);
        sessions.forget(now);
        sessions.members += 1;
        let number = sessions.members;
        let ends_at = now + shared.lifetimes.storage_session;
        let session = sessions.by_arn.entry(who.arn.clone()).or_insert_with(|| Session {
            slots: Slots::default(),
            hub: Arc::new(Hub::new()),
            ends_at,
            members: BTreeMap::new(),
        });
        if session.ends_at <= now {
            // It is over, and known for its slots alone: those count in the next one, too.
            session.hub = Arc::new(Hub::new());
            session.ends_at = ends_at;
        }
        let quotas = &shared.config.quotas;
        let max = quotas.enabled.then_some(quotas.storage_viewers_max);
        if let Some(id) = &who.client_id
            && !session.slots.take(id, max, now)
        {
            // The words by which clients tell it from a throttle (docs/kvs-protocol.md 1.3).
            return Err(ApiError::limit(
                "The maximum number of viewers connected to the session is reached.",
            ));
        }
        let (inbox, receiver) = mpsc::channel(INBOX_MAX);
        let (end, ended) = mpsc::channel(1);
        let seat = Seat { number, inbox, end, who: who.clone() };
        if let Some(old) = session.members.insert(who.client_id.clone(), seat) {
            old.end(Why::Displaced);
        }
        let member = Member {
            shared: shared.clone(),
            who: who.clone(),
            number,
            hub: session.hub.clone(),
            inbox: receiver,
            ends_at: session.ends_at,
        };
        (member, ended)
    };
    shared.events.tell(&who, None, Happening::StorageJoined, now);
    let (shared, number) = (shared.clone(), member.number);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let why = member.run(ended).await;
        left(&shared, &who, number, why);
    });
    Ok(())
}

/// Offers anew to a client that is in the session, from a new connection. `false`: there is no such client.
pub(crate) fn offer_again(shared: &Arc<Shared>, arn: &str, client_id: Option<&str>) -> bool {
    let who = {
        let sessions = lock(&shared.storage.sessions);
        let session = sessions.by_arn.get(arn);
        session
            .and_then(|session| session.members.get(&client_id.map(str::to_owned)))
            .map(|seat| seat.who.clone())
    };
    who.is_some_and(|who| join(shared, who).is_ok())
}

/// Ends a channel's session: the channel is deleted, or stores no more.
pub(crate) fn end(shared: &Shared, arn: &str, why: Why) {
    if let Some(session) = lock(&shared.storage.sessions).by_arn.get(arn) {
        session.members.values().for_each(|seat| seat.end(why));
    }
}

/// Hands an answer or a candidate of a client's to its end of the session.
pub(crate) fn hear(shared: &Shared, who: &Who, kind: MessageType, payload: &str) {
    let Some(said) = read(kind, payload) else {
        tracing::debug!(kind = kind.name(), "the storage service cannot read it");
        return;
    };
    let sessions = lock(&shared.storage.sessions);
    let seat = sessions.by_arn.get(&who.arn).and_then(|s| s.members.get(&who.client_id));
    let taken = seat.is_some_and(|seat| seat.inbox.try_send(said).is_ok());
    if !taken {
        tracing::debug!(kind = kind.name(), "the storage service does not wait for it");
    }
}

fn left(shared: &Shared, who: &Who, number: u64, why: Why) {
    let now = Instant::now();
    {
        let mut sessions = lock(&shared.storage.sessions);
        if let Some(session) = sessions.by_arn.get_mut(&who.arn)
            && session.members.get(&who.client_id).is_some_and(|seat| seat.number == number)
        {
            session.members.remove(&who.client_id);
            if let Some(id) = &who.client_id {
                session.slots.leave(id, shared.lifetimes.storage_slot_kept, now);
            }
        }
    }
    shared.events.tell(who, None, Happening::StorageLeft { why }, now);
}

impl Seat {
    fn end(&self, why: Why) {
        // It fails when the stay is over already, or has its reason.
        let _ = self.end.try_send(why);
    }
}

impl Sessions {
    fn forget(&mut self, now: Instant) {
        self.by_arn
            .retain(|_, session| !session.members.is_empty() || !session.slots.is_empty(now));
    }
}

/// Either alphabet, with padding or without (docs/kvs-protocol.md 2.2).
fn read(kind: MessageType, payload: &str) -> Option<Inbound> {
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
