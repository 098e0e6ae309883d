//! The connected clients of each channel, and queued messages. No IO: the sockets' tasks send the
//! frames from bounded queues.

mod channel_peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Unknowns;
use crate::fault::{Frame, Role};
use crate::presence::{Who, Why};
use crate::wire::{self, MessageType, Sender};
use channel_peers::ChannelPeers;

/// Most frames that wait for a slow socket before it is cut.
const QUEUE_MAX: usize = 512;
/// Most messages that a channel keeps for absent clients, in total.
const PENDING_MAX: usize = 256;
/// Most messages that faults hold at a time.
const HELD_MAX: usize = 1024;

/// Commands to a socket's task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A text frame.
    Text(String),
    /// Frames that no client sent.
    Injected(Vec<Frame>),
    /// GO_AWAY, then the close after the grace period.
    GoAway,
    /// A close frame with this code, then the end.
    Close(u16, Why),
    /// Stops reading and writing.
    Stall,
}

/// The relay's end of a socket.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) who: Arc<Who>,
    traffic: Arc<Traffic>,
    outgoing: mpsc::Sender<Outgoing>,
    kill: CancellationToken,
    peer: SocketAddr,
    since: Instant,
}

/// The message counts of a socket.
#[derive(Debug, Default)]
struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Link {
    /// Queues a command. Cuts a socket with a full queue, since a gap would be worse than an end.
    pub(crate) fn push(&self, outgoing: Outgoing) {
        if matches!(outgoing, Outgoing::Text(_) | Outgoing::GoAway) {
            self.traffic.received.fetch_add(1, Ordering::Relaxed);
        }
        if self.outgoing.try_send(outgoing).is_err() {
            self.kill.cancel();
        }
    }

    /// Ends TCP without a close frame.
    pub(crate) fn cut(&self) {
        self.kill.cancel();
    }

    fn report(&self, now: Instant) -> ClientReport {
        let connected = now.saturating_duration_since(self.since).as_millis();
        ClientReport {
            channel: self.who.channel.clone(),
            role: self.who.role,
            client_id: self.who.client_id.clone(),
            connection: self.id,
            peer: self.peer,
            connected_ms: u64::try_from(connected).unwrap_or(u64::MAX),
            sent: self.traffic.sent.load(Ordering::Relaxed),
            received: self.traffic.received.load(Ordering::Relaxed),
        }
    }

    /// Counts a message that its client sent.
    pub(crate) fn count_sent(&self) {
        self.traffic.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The socket task's end of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) kill: CancellationToken,
}

impl Connection {
    pub(crate) fn who(&self) -> &Who {
        &self.link.who
    }
}

/// A message between its sender and its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) arn: String,
    pub(crate) kind: MessageType,
    pub(crate) from: Role,
    /// The id of the viewer that sends or receives it.
    pub(crate) viewer: String,
    pub(crate) sender: Sender,
    pub(crate) payload: String,
    /// Whether only the first half of its frame is delivered.
    pub(crate) cut: bool,
    /// Until when it waits for an absent recipient.
    pub(crate) expires: Instant,
}

impl Envelope {
    /// The frame that the recipient gets.
    fn frame(&self) -> String {
        let frame = wire::message(self.kind, &self.sender, Some(&self.payload));
        match self.cut {
            true => frame.chars().take(frame.chars().count() / 2).collect(),
            false => frame,
        }
    }
}

/// A connected client, as the admin API lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClientReport {
    /// The channel's name.
    pub channel: String,
    /// Its side.
    pub role: Role,
    /// The viewer's id.
    pub client_id: Option<String>,
    /// The number of its connection, from 1.
    pub connection: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Milliseconds since it connected.
    pub connected_ms: u64,
    /// Messages it sent.
    pub sent: u64,
    /// Messages it received.
    pub received: u64,
}

/// The clients of all channels, by the channel's ARN.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    channels: BTreeMap<String, ChannelPeers>,
    held: Vec<(u64, Envelope)>,
    connections: u64,
}

/// A client that connects.
pub(crate) struct Joining<'a> {
    pub(crate) arn: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) peer: SocketAddr,
}

impl Relay {
    /// Adds a client, delivers the messages that waited for it, and displaces an older connection
    /// of the same client. `None` if that would exceed `viewers_max`.
    pub(crate) fn join(
        &mut self,
        joining: &Joining<'_>,
        viewers_max: Option<usize>,
        unknowns: &Unknowns,
        now: Instant,
    ) -> Option<Connection> {
        let peers = self.channels.entry(joining.arn.to_owned()).or_default();
        if let (Some(id), Some(max)) = (joining.client_id, viewers_max)
            && peers.viewers_beside(id) >= max
        {
            return None;
        }
        self.connections += 1;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let kill = CancellationToken::new();
        let who = Who {
            arn: joining.arn.to_owned(),
            channel: joining.channel.to_owned(),
            role: if joining.client_id.is_some() { Role::Viewer } else { Role::Master },
            client_id: joining.client_id.map(str::to_owned),
        };
        let link = Link {
            id: self.connections,
            who: Arc::new(who),
            traffic: Arc::default(),
            outgoing: sender,
            kill: kill.clone(),
            peer: joining.peer,
            since: now,
        };
        peers.add(link.clone(), unknowns.displaced_close_code, now);
        Some(Connection { link, outgoing: receiver, kill })
    }

    /// Removes the connection, unless a newer connection has it.
    pub(crate) fn leave(&mut self, arn: &str, connection: u64, now: Instant) {
        if let Some(peers) = self.channels.get_mut(arn) {
            peers.remove(connection);
            if peers.is_idle(now) {
                self.channels.remove(arn);
            }
        }
    }

    /// Delivers a message, or keeps it for an absent recipient.
    pub(crate) fn deliver(&mut self, envelope: Envelope, unknowns: &Unknowns, now: Instant) {
        if let Some(peers) = self.channels.get_mut(&envelope.arn) {
            peers.deliver(envelope, unknowns, now);
        }
    }

    /// Keeps a message as for an absent recipient, also if the recipient is connected.
    pub(crate) fn keep(&mut self, envelope: Envelope, unknowns: &Unknowns, now: Instant) {
        if let Some(peers) = self.channels.get_mut(&envelope.arn) {
            peers.keep(envelope, unknowns, now);
        }
    }

    /// Lets the next `behind` messages to the same recipient overtake this one. The returned number
    /// is for [`Self::overtake_no_more`].
    pub(crate) fn overtake(&mut self, envelope: Envelope, behind: u32) -> Option<u64> {
        self.channels.get_mut(&envelope.arn)?.overtake(envelope, behind)
    }

    /// Delivers an overtaken message that still waits.
    pub(crate) fn overtake_no_more(
        &mut self,
        arn: &str,
        id: u64,
        unknowns: &Unknowns,
        now: Instant,
    ) {
        if let Some(peers) = self.channels.get_mut(arn) {
            peers.overtake_no_more(id, unknowns, now);
        }
    }

    /// Holds a message for a fault; `false` when too many are held.
    pub(crate) fn hold(&mut self, fault: u64, envelope: Envelope) -> bool {
        let has_room = self.held.len() < HELD_MAX;
        if has_room {
            self.held.push((fault, envelope));
        }
        has_room
    }

    /// Delivers the messages that a fault held, and returns their number.
    pub(crate) fn release(&mut self, fault: u64, unknowns: &Unknowns, now: Instant) -> usize {
        let (released, kept) =
            std::mem::take(&mut self.held).into_iter().partition(|(id, _)| *id == fault);
        self.held = kept;
        let released: Vec<(u64, Envelope)> = released;
        let count = released.len();
        for (_, envelope) in released {
            self.deliver(envelope, unknowns, now);
        }
        count
    }

    /// Stores a message's payload for replays, and returns the earlier one that a replay delivers.
    pub(crate) fn remember(&mut self, envelope: &Envelope) -> Option<String> {
        self.channels.get_mut(&envelope.arn)?.remember(envelope)
    }

    /// The payload of the last message of a type from one side.
    pub(crate) fn last(&self, arn: &str, kind: MessageType, from: Role) -> Option<String> {
        self.channels.get(arn)?.last(kind, from)
    }

    /// The recipient's link, if it is connected.
    pub(crate) fn recipient(&self, arn: &str, to: Role, viewer: &str) -> Option<&Link> {
        self.channels.get(arn)?.recipient(to, viewer)
    }

    /// The links of a channel that match; `None` matches all.
    pub(crate) fn links(
        &self,
        arn: &str,
        role: Option<Role>,
        client_id: Option<&str>,
    ) -> Vec<Link> {
        let fits = |link: &&Link| {
            role.is_none_or(|role| role == link.who.role)
                && client_id.is_none_or(|wanted| link.who.client_id.as_deref() == Some(wanted))
        };
        self.channels
            .get(arn)
            .into_iter()
            .flat_map(ChannelPeers::links)
            .filter(fits)
            .cloned()
            .collect()
    }

    /// Reports every connected client, by channel.
    pub(crate) fn clients(&self, now: Instant) -> Vec<ClientReport> {
        self.channels.values().flat_map(ChannelPeers::links).map(|link| link.report(now)).collect()
    }

    /// Closes everything on a channel that is deleted.
    pub(crate) fn clear(&mut self, arn: &str) {
        if let Some(peers) = self.channels.remove(arn) {
            peers.close_all();
        }
        self.held.retain(|(_, envelope)| envelope.arn != arn);
    }
}

#[cfg(test)]
mod tests;
