//! One channel's master and viewers, and the messages that wait.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Envelope, Link, Outgoing, PENDING_MAX};
use crate::config::Unknowns;
use crate::fault::Role;
use crate::presence::Why;
use crate::wire::MessageType;

#[derive(Debug, Default)]
pub(super) struct ChannelPeers {
    master: Option<Link>,
    viewers: BTreeMap<String, Link>,
    /// Displaced sockets that were left open.
    displaced: Vec<Link>,
    /// Messages for absent clients, in the order they were sent.
    pending: Vec<Envelope>,
    overtaken: Vec<Overtaken>,
    overtaken_ids: u64,
    remembered: BTreeMap<(MessageType, Role), Remembered>,
}

/// The payloads of one type from one side that a replay can bring back.
#[derive(Debug)]
struct Remembered {
    /// The viewer's connection that the last one belongs to; 0 when it was away.
    connection: u64,
    last: String,
    /// The last payload of the connection before.
    earlier: Option<String>,
}

#[derive(Debug)]
struct Overtaken {
    id: u64,
    envelope: Envelope,
    behind: u32,
}

impl ChannelPeers {
    pub(super) fn viewers_beside(&self, client_id: &str) -> usize {
        self.viewers.keys().filter(|id| *id != client_id).count()
    }

    /// "The new connection takes precedence" (ConnectAsViewer, ConnectAsMaster); a setting decides
    /// whether the old one is closed.
    pub(super) fn add(&mut self, link: Link, displaced_close_code: Option<u16>, now: Instant) {
        let client_id = link.who.client_id.as_deref();
        let old = match client_id {
            Some(id) => self.viewers.insert(id.to_owned(), link.clone()),
            None => self.master.replace(link.clone()),
        };
        if let Some(old) = old {
            match displaced_close_code {
                Some(code) => old.push(Outgoing::Close(code, Why::Displaced)),
                None => self.displaced.push(old),
            }
        }
        let to = link.who.role;
        let (mine, others) = std::mem::take(&mut self.pending)
            .into_iter()
            .filter(|envelope| envelope.expires > now)
            .partition(|envelope: &Envelope| {
                envelope.from != to && client_id.is_none_or(|id| id == envelope.viewer)
            });
        self.pending = others;
        let mine: Vec<Envelope> = mine;
        for envelope in mine {
            link.push(Outgoing::Text(envelope.frame()));
        }
    }

    pub(super) fn remove(&mut self, connection: u64) {
        self.master.take_if(|link| link.id == connection);
        self.viewers.retain(|_, link| link.id != connection);
        self.displaced.retain(|link| link.id != connection);
    }

    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.pending.retain(|envelope| envelope.expires > now);
        self.master.is_none()
            && self.viewers.is_empty()
            && self.displaced.is_empty()
            && self.pending.is_empty()
            && self.overtaken.is_empty()
    }

    pub(super) fn deliver(&mut self, envelope: Envelope, unknowns: &Unknowns, now: Instant) {
        let to = other(envelope.from);
        let viewer = envelope.viewer.clone();
        self.pass(envelope, unknowns, now);
        for waiting in &mut self.overtaken {
            let same = other(waiting.envelope.from) == to
                && (to == Role::Master || waiting.envelope.viewer == viewer);
            if same {
                waiting.behind = waiting.behind.saturating_sub(1);
            }
        }
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.overtaken).into_iter().partition(|w| w.behind == 0);
        self.overtaken = waiting;
        for ready in due {
            self.pass(ready.envelope, unknowns, now);
        }
    }

    pub(super) fn overtake(&mut self, envelope: Envelope, behind: u32) -> Option<u64> {
        if self.overtaken.len() >= PENDING_MAX {
            return None;
        }
        self.overtaken_ids += 1;
        let id = self.overtaken_ids;
        self.overtaken.push(Overtaken { id, envelope, behind: behind.max(1) });
        Some(id)
    }

    pub(super) fn overtake_no_more(&mut self, id: u64, unknowns: &Unknowns, now: Instant) {
        if let Some(at) = self.overtaken.iter().position(|waiting| waiting.id == id) {
            let waiting = self.overtaken.remove(at);
            self.pass(waiting.envelope, unknowns, now);
        }
    }

    pub(super) fn remember(&mut self, envelope: &Envelope) -> Option<String> {
        let connection = self.viewers.get(&envelope.viewer).map_or(0, |link| link.id);
        let key = (envelope.kind, envelope.from);
        let last = envelope.payload.clone();
        let Some(before) = self.remembered.remove(&key) else {
            self.remembered.insert(key, Remembered { connection, last, earlier: None });
            return None;
        };
        let same = before.connection == connection;
        let earlier = if same { before.earlier } else { Some(before.last.clone()) };
        let replayed = earlier.clone().unwrap_or(before.last);
        self.remembered.insert(key, Remembered { connection, last, earlier });
        Some(replayed)
    }

    pub(super) fn last(&self, kind: MessageType, from: Role) -> Option<String> {
        self.remembered.get(&(kind, from)).map(|remembered| remembered.last.clone())
    }

    pub(super) fn recipient(&self, to: Role, viewer: &str) -> Option<&Link> {
        match to {
            Role::Master => self.master.as_ref(),
            Role::Viewer => self.viewers.get(viewer),
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.master.iter().chain(self.viewers.values())
    }

    pub(super) fn close_all(&self) {
        for link in self.links().chain(&self.displaced) {
            link.push(Outgoing::Close(1001, Why::Deleted));
        }
    }

    fn pass(&mut self, envelope: Envelope, unknowns: &Unknowns, now: Instant) {
        match self.recipient(other(envelope.from), &envelope.viewer) {
            Some(link) => link.push(Outgoing::Text(envelope.frame())),
            None => self.keep(envelope, unknowns, now),
        }
    }

    /// "If there is an outstanding offer for the same client which is not yet delivered, it is
    /// overwritten" (SendSdpOffer; SendSdpAnswer alike). The candidates of an overwritten
    /// description are removed with it.
    pub(super) fn keep(&mut self, envelope: Envelope, unknowns: &Unknowns, now: Instant) {
        self.pending.retain(|old| old.expires > now);
        let kept = match envelope.kind {
            MessageType::IceCandidate => unknowns.candidates_kept,
            MessageType::SdpAnswer => unknowns.answers_kept,
            MessageType::SdpOffer => true,
            MessageType::GoAway | MessageType::ReconnectIceServer | MessageType::StatusResponse => {
                false
            }
        };
        if !kept {
            return;
        }
        let same_way = |old: &Envelope| old.viewer == envelope.viewer && old.from == envelope.from;
        let overwrites = envelope.kind != MessageType::IceCandidate
            && self.pending.iter().any(|old| same_way(old) && old.kind == envelope.kind);
        if overwrites {
            self.pending.retain(|old| !same_way(old));
        }
        if self.pending.len() >= PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(envelope);
    }
}

pub(super) fn other(role: Role) -> Role {
    match role {
        Role::Master => Role::Viewer,
        Role::Viewer => Role::Master,
    }
}
