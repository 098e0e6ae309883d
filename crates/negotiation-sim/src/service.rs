//! A model of KVS signaling as a viewer's adapter sees it: connections, client ids, and offers that
//! are stored for an absent master.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use negotiation_core::{
    Candidate, ClientId, ClientIdPolicy, ClientIdPool, ConnectionId, Description, Digest,
    IceServer, Secret, Timestamp,
};

use crate::traits::ServiceTraits;

/// Identifies a connection across the sessions of one world.
pub(crate) type LinkKey = (u32, ConnectionId);

/// The service and the adapter in front of it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    traits: ServiceTraits,
    pool: ClientIdPool,
    ids: ClientIdPolicy,
    links: BTreeMap<LinkKey, Link>,
    stored: BTreeMap<ClientId, StoredMessages>,
    connects: VecDeque<Timestamp>,
    master_here: bool,
    opened_total: u32,
    /// How often another viewer will still take over the client id.
    pub(crate) takeovers: u32,
    /// Refuses a second connection of a client id.
    pub(crate) refuses_second: bool,
    turn_issue: u32,
}

#[derive(Clone, Debug)]
struct Link {
    id: ClientId,
    open: bool,
    offered: bool,
    /// Its socket belongs to a network that is gone: nothing gets through, and no error is
    /// reported.
    stranded: bool,
}

/// The messages that are stored for an absent master.
#[derive(Clone, Debug)]
struct StoredMessages {
    until: Timestamp,
    offer: Description,
    candidates: Vec<Candidate>,
}

/// The most candidates that are stored for an absent master.
const STORED_CANDIDATES_MAX: usize = 100;

impl Service {
    pub(crate) fn new(traits: ServiceTraits, ids: ClientIdPolicy) -> Self {
        Self {
            traits,
            pool: ClientIdPool::default(),
            ids,
            links: BTreeMap::new(),
            stored: BTreeMap::new(),
            connects: VecDeque::new(),
            master_here: false,
            opened_total: 0,
            takeovers: 0,
            refuses_second: false,
            turn_issue: 1,
        }
    }

    /// Begins to open a connection under a leased id. Returns when it will be open, or `None` if no
    /// id is free.
    ///
    /// A connection that follows another has the same id.
    pub(crate) fn connect(
        &mut self,
        now: Timestamp,
        key: LinkKey,
        follows: Option<ClientId>,
    ) -> Option<Timestamp> {
        let base = ClientId::new("viewer").ok()?;
        let id = match (follows, self.ids) {
            (Some(id), _) => id,
            (None, ClientIdPolicy::Pooled) => self.pool.lease(&base, now)?,
            (None, ClientIdPolicy::Fixed) => base,
        };
        self.links.insert(key, Link { id, open: false, offered: false, stranded: false });
        let start = self.delay_for_quota(now);
        Some(start + self.traits.connect_after)
    }

    /// Delays a connect to keep the channel's quota.
    fn delay_for_quota(&mut self, now: Timestamp) -> Timestamp {
        let quota = self.traits.connects_per_second;
        let start = match self.connects.front() {
            Some(oldest) if self.connects.len() >= quota => {
                now.max(*oldest + Duration::from_millis(1001))
            }
            Some(_) | None => now,
        };
        self.connects.push_back(start);
        if self.connects.len() > quota {
            self.connects.pop_front();
        }
        start
    }

    /// Opens the connection, unless it was closed meanwhile.
    pub(crate) fn open(&mut self, key: LinkKey) -> Option<ClientId> {
        let link = self.links.get_mut(&key)?;
        link.open = true;
        self.opened_total += 1;
        Some(link.id.clone())
    }

    /// Closes the connection and returns its id.
    pub(crate) fn close(&mut self, now: Timestamp, key: LinkKey) -> Option<ClientId> {
        let link = self.links.remove(&key)?;
        let mut others = self.links.values_mut().filter(|other| other.id == link.id);
        if let Some(other) = others.next() {
            other.offered |= link.offered;
        } else if self.ids == ClientIdPolicy::Pooled {
            self.pool.give_back(&link.id, link.offered, now);
        }
        Some(link.id)
    }

    /// The socket is lost. Returns `false` when it was not open.
    pub(crate) fn lose(&mut self, now: Timestamp, key: LinkKey) -> bool {
        let open = self.is_open(key);
        if open {
            self.close(now, key);
        }
        open
    }

    /// The open connections, oldest first.
    pub(crate) fn open_links(&self) -> Vec<LinkKey> {
        self.links.iter().filter(|(_, link)| link.open).map(|(key, _)| *key).collect()
    }

    /// Strands every connection: the network changed.
    pub(crate) fn strand(&mut self) {
        self.links.values_mut().for_each(|link| link.stranded = true);
    }

    pub(crate) fn is_stranded(&self, key: LinkKey) -> bool {
        self.links.get(&key).is_some_and(|link| link.stranded)
    }

    /// Another open connection of the same id, which the service closes now.
    pub(crate) fn older_of(&self, key: LinkKey) -> Option<LinkKey> {
        let id = &self.links.get(&key)?.id;
        let other =
            |(other, link): &(&LinkKey, &Link)| **other != key && link.open && link.id == *id;
        self.links.iter().find(other).map(|(key, _)| *key)
    }

    /// The id of a connection.
    pub(crate) fn id_of(&self, key: LinkKey) -> Option<ClientId> {
        self.links.get(&key).map(|link| link.id.clone())
    }

    /// Expires the TURN credentials that were given out.
    pub(crate) fn expire_turn(&mut self) {
        self.turn_issue += 1;
    }

    /// Whether these TURN credentials have expired.
    pub(crate) fn is_expired(&self, servers: Digest) -> bool {
        servers != Digest::of(self.turn_user().as_bytes())
    }

    fn turn_user(&self) -> String {
        format!("canary-user-{}", self.turn_issue)
    }

    pub(crate) fn master_leaves(&mut self) {
        self.master_here = false;
    }

    /// The sender's id, if the connection can carry a message.
    pub(crate) fn sender(&mut self, key: LinkKey, is_offer: bool) -> Option<ClientId> {
        let link = self.links.get_mut(&key)?;
        link.offered |= is_offer;
        link.open.then(|| link.id.clone())
    }

    /// The connection that a message to this id goes to.
    pub(crate) fn link_of(&self, id: &ClientId) -> Option<LinkKey> {
        self.links.iter().rev().find(|(_, link)| link.open && link.id == *id).map(|(key, _)| *key)
    }

    pub(crate) fn is_open(&self, key: LinkKey) -> bool {
        self.links.get(&key).is_some_and(|link| link.open)
    }

    /// Whether the connection is open or opening.
    pub(crate) fn is_open_or_opening(&self, key: LinkKey) -> bool {
        self.links.contains_key(&key)
    }

    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn opened_total(&self) -> u32 {
        self.opened_total
    }

    pub(crate) fn master_here(&self) -> bool {
        self.master_here
    }

    /// Stores an offer for an absent master; it overwrites an earlier one of the same id (AWS
    /// developer guide, SendSdpOffer).
    pub(crate) fn store_offer(&mut self, now: Timestamp, id: ClientId, offer: Description) {
        let until = now + self.traits.message_ttl;
        self.stored.insert(id, StoredMessages { until, offer, candidates: Vec::new() });
    }

    pub(crate) fn store_candidate(&mut self, id: &ClientId, candidate: Candidate) {
        if let Some(stored) = self.stored.get_mut(id)
            && stored.candidates.len() < STORED_CANDIDATES_MAX
        {
            stored.candidates.push(candidate);
        }
    }

    /// The master connects: returns the stored messages that have not expired.
    pub(crate) fn master_arrives(
        &mut self,
        now: Timestamp,
    ) -> Vec<(ClientId, Description, Vec<Candidate>)> {
        self.master_here = true;
        core::mem::take(&mut self.stored)
            .into_iter()
            .filter(|(_, stored)| stored.until > now)
            .map(|(id, stored)| (id, stored.offer, stored.candidates))
            .collect()
    }

    /// The STUN server, and a TURN server where the service has one.
    pub(crate) fn ice_servers(&self) -> Vec<IceServer> {
        let stun = IceServer { uris: vec!["stun:sim:443".into()], username: None, password: None };
        let turn = IceServer {
            uris: vec!["turn:sim:443?transport=udp".into()],
            username: Some(Secret::new(&self.turn_user())),
            password: Some(Secret::new("canary-password")),
        };
        if self.traits.turn { vec![stun, turn] } else { vec![stun] }
    }
}
