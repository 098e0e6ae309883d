//! One state of an exploration: a session and a model of its ports, service, network and master.

use std::collections::VecDeque;

use negotiation_core::{
    CandidateRelease, ConnectionId, Input, Mode, PeerId, Phase, Session, Ticket, Timestamp,
};

use super::bounds::{Bounds, Trouble};

/// The time at which every exploration begins.
const BEGIN: Timestamp = Timestamp::from_millis(3_600_000);

/// A session and its surroundings.
#[derive(Clone, Debug, Hash)]
pub(super) struct State {
    pub(super) session: Session,
    pub(super) now: Timestamp,
    pub(super) world: World,
}

/// The surroundings of a session.
#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    pub(super) variant: Variant,
    pub(super) left: [u8; Trouble::ALL.len()],
    pub(super) troubles: u8,
    pub(super) ports: [VecDeque<PendingCommand>; 3],
    /// Signaling connections that were requested and not closed.
    pub(super) links: Vec<Link>,
    /// Messages on their way to the viewer, in the order of sending.
    pub(super) messages: VecDeque<MasterMessage>,
    pub(super) peer: Option<Peer>,
    pub(super) master: Master,
    /// Offers created in this attempt.
    pub(super) offers: u8,
    /// The number of the unanswered offer.
    pub(super) offer_out: Option<u8>,
    /// A valid answer to it arrived and has to be applied.
    pub(super) answer_due: bool,
    /// The message that carried the last local description.
    pub(super) sent: Option<Ticket>,
    pub(super) close_asked: bool,
    pub(super) offline: bool,
    /// The part of an attempt that is being closed: 0 for none, [`SIGNALING`] or [`PEER`].
    pub(super) closing: u8,
    pub(super) ended: bool,
    /// Attempts since the session was live.
    pub(super) attempts_since_live: u8,
}

/// The properties that are fixed for an exploration: each combination is a start of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    /// An ICE restart of this peer stack keeps the old candidate pair.
    pub(super) keeps_pair: bool,
    pub(super) release: CandidateRelease,
}

/// The queues of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Port {
    Signaling,
    /// Control-plane calls, which run beside the connection.
    ControlPlane,
    Peer,
}

impl Port {
    pub(super) const ALL: [Self; 3] = [Self::Signaling, Self::ControlPlane, Self::Peer];
}

/// A command that a port has not completed.
#[derive(Clone, Debug, Hash)]
pub(super) struct PendingCommand {
    /// `None` once the session no longer waits for it.
    pub(super) ticket: Option<Ticket>,
    pub(super) what: Operation,
    /// A close overtook it.
    pub(super) cancelled: bool,
    /// It has taken effect; only the completion is to come.
    pub(super) executed: bool,
}

/// The operation of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Connect(ConnectionId),
    Disconnect(ConnectionId),
    Fetch(ConnectionId),
    Join(ConnectionId),
    SendOffer(ConnectionId, Offer),
    SendAnswer(ConnectionId),
    SendCandidate(ConnectionId),
    Create(PeerId),
    CreateOffer(PeerId, bool),
    CreateAnswer(PeerId),
    SetIceServers(PeerId),
    SetLocalOffer(PeerId, Offer),
    SetLocalAnswer(PeerId),
    SetRemoteAnswer(PeerId, Answer),
    SetRemoteOffer(PeerId, u8),
    Rollback(PeerId),
    AddCandidate(PeerId),
    RequestKeyframe(PeerId),
    StopTransceivers(PeerId),
    RemoveTracks(PeerId),
    Close(PeerId),
}

/// An offer of the viewer: its number in the attempt, and whether it restarts ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    pub(super) number: u8,
    pub(super) restart: bool,
}

/// An answer of one session of the master (0: of an earlier attempt) to an offer of the viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) session: u8,
    pub(super) generation: u8,
    pub(super) to: u8,
}

/// A message of the master to the viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MasterMessage {
    Answer(Answer),
    Offer { session: u8, number: u8 },
    Candidate { session: u8, generation: u8 },
}

/// A signaling connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) up: bool,
}

/// The master's state for this viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Master {
    /// The number of its session for this viewer; 0 for none.
    pub(super) session: u8,
    pub(super) generation: u8,
    /// The master restarted and has lost the session.
    pub(super) fresh: bool,
    pub(super) made: u8,
    pub(super) offers: u8,
}

/// The JSEP signaling states that occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Jsep {
    #[default]
    Stable,
    HaveLocalOffer,
    HaveRemoteOffer,
}

/// A peer connection.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) jsep: Jsep,
    /// A description operation outlived its deadline, so the session may be wrong about the state.
    pub(super) state_unknown: bool,
    pub(super) has_remote: bool,
    /// The master's session that offered last.
    pub(super) remote_offerer: u8,
    /// The master's session that the last exchange was with.
    pub(super) agreed_session: Option<u8>,
    /// The candidate pair does not work until ICE is restarted.
    pub(super) broken: bool,
    /// A connection was reported to the session.
    pub(super) up: bool,
    /// A connection will be reported again, after a restart.
    pub(super) reconnects: bool,
    pub(super) keyframe: bool,
    pub(super) stalled: bool,
    /// The number of closing steps that were requested.
    pub(super) closing: u8,
}

impl Peer {
    pub(super) fn new(id: PeerId) -> Self {
        Self {
            id,
            jsep: Jsep::Stable,
            state_unknown: false,
            has_remote: false,
            remote_offerer: 0,
            agreed_session: None,
            broken: false,
            up: false,
            reconnects: false,
            keyframe: false,
            stalled: false,
            closing: 0,
        }
    }
}

impl State {
    /// The starts: one for every kind of peer stack, each with a session that was just opened.
    pub(super) fn beginnings(bounds: &Bounds) -> Vec<Result<Self, String>> {
        let early = Variant { keeps_pair: true, release: CandidateRelease::AfterOffer };
        let late = Variant { keeps_pair: false, release: CandidateRelease::AfterAnswer };
        // The viewer restarts nothing in a storage session, so one variant covers both.
        let variants = match bounds.mode {
            Mode::Offerer => vec![late, early],
            Mode::Answerer => vec![late],
        };
        variants.into_iter().map(|variant| Self::beginning(bounds, variant)).collect()
    }

    fn beginning(bounds: &Bounds, variant: Variant) -> Result<Self, String> {
        let session = Session::new(bounds.config(), 1, BEGIN);
        let world = World {
            variant,
            left: bounds.each,
            troubles: bounds.troubles,
            ports: [const { VecDeque::new() }; 3],
            links: Vec::new(),
            messages: VecDeque::new(),
            peer: None,
            master: Master::default(),
            offers: 0,
            offer_out: None,
            answer_due: false,
            sent: None,
            close_asked: false,
            offline: false,
            closing: 0,
            ended: false,
            attempts_since_live: 0,
        };
        let mut state = Self { session, now: BEGIN, world };
        state.feed(BEGIN, Input::Open)?;
        state.settle(bounds)?;
        Ok(state)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.session.phase() == Phase::Ended
    }

    /// The normal form of this state, as if no trouble were left.
    pub(super) fn situation(&self, bounds: &Bounds) -> Result<Self, String> {
        let mut situation = self.clone();
        (situation.world.troubles, situation.world.left) = (0, [0; Trouble::ALL.len()]);
        situation.normal_form(&Bounds { normalised: true, ..bounds.clone() })
    }

    /// The normal form of this state, within bounds that have normal forms.
    pub(super) fn normal_form(&self, bounds: &Bounds) -> Result<Self, String> {
        let mut normal = self.clone();
        normal.settle(bounds)?;
        Ok(normal)
    }

    /// Replaces the session by its normal form, renames what refers to it, and resets what cannot
    /// matter.
    pub(super) fn settle(&mut self, bounds: &Bounds) -> Result<(), String> {
        let mut normal = self.session.clone().into_normalised();
        let keep = !bounds.normalised;
        let link = |id: ConnectionId| normal.link(id).map(|new| if keep { id } else { new });
        let peer = |id: PeerId| normal.peer(id).map(|new| if keep { id } else { new });
        let ticket = |id: Ticket| normal.ticket(id).map(|new| if keep { id } else { new });
        let world = &mut self.world;
        for known in &mut world.links {
            known.id = link(known.id).ok_or("N23: a connection that will not be closed")?;
        }
        if let Some(known) = &mut world.peer {
            match peer(known.id) {
                Some(id) => known.id = id,
                None if known.closing == CLOSED => world.peer = None,
                None => return Err("N23: a peer connection that will not be closed".into()),
            }
        }
        // A sent message keeps a name for its STATUS_RESPONSE, but no completion is awaited.
        let awaited = |id: &Ticket| normal.ticket(*id).is_some_and(|new| new.seq > 0);
        let mut unsent = false;
        for port in &mut world.ports {
            for command in port.iter_mut() {
                let given_up =
                    command.ticket.is_some() && !command.ticket.as_ref().is_some_and(awaited);
                if given_up && !command.cancelled {
                    let is_unknown = command.what.is_description_operation();
                    world.peer.iter_mut().for_each(|peer| peer.state_unknown |= is_unknown);
                    unsent |= matches!(command.what, Operation::SendOffer(..));
                }
                command.ticket = command.ticket.filter(awaited).and_then(ticket);
                command.what = command.what.renamed(link, peer);
            }
            // Commands that the session no longer waits for and that can have no effect any more.
            port.retain(|command| command.ticket.is_some() || !command.has_no_effect());
        }
        // Whether the offer went out is unknown: it counts as unsent unless it is being sent again.
        if unsent {
            world.count_unsent();
        }
        world.sent = world.sent.and_then(ticket);
        if !keep {
            self.world.normalise(self.session.phase(), normal.is_last_attempt());
            // Each peer connection gathers one candidate, far below the quota.
            normal.without_candidate_pacing();
            if !self.world.may_be_offered(bounds.mode) {
                normal.without_further_offers();
            }
            self.now = normal.now();
            self.session = normal.into_session();
        }
        Ok(())
    }
}

/// All three steps of closing a peer connection were requested.
pub(super) const CLOSED: u8 = 3;

/// The values of `World::closing`.
pub(super) const SIGNALING: u8 = 1;
pub(super) const PEER: u8 = 2;

/// The name of a connection or peer connection that the session no longer knows.
const UNNAMED_LINK: ConnectionId = ConnectionId(0);
const UNNAMED_PEER: PeerId = PeerId(0);

impl PendingCommand {
    /// Whether it can have no effect, provided that the session does not wait for it.
    fn has_no_effect(&self) -> bool {
        let gone = match self.what.owner() {
            Owner::Link(link) => link == UNNAMED_LINK,
            Owner::Peer(peer) => peer == UNNAMED_PEER,
        };
        // A port gives up on these by itself, and their results are not used.
        let vain = matches!(
            self.what,
            Operation::Fetch(_)
                | Operation::SendCandidate(_)
                | Operation::SetIceServers(_)
                | Operation::AddCandidate(_)
                | Operation::RequestKeyframe(_)
        );
        self.cancelled || gone || vain
    }
}

/// The connection or peer connection that a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Link(ConnectionId),
    Peer(PeerId),
}

impl Operation {
    pub(super) fn owner(self) -> Owner {
        match self {
            Self::Connect(link)
            | Self::Disconnect(link)
            | Self::Fetch(link)
            | Self::Join(link)
            | Self::SendOffer(link, _)
            | Self::SendAnswer(link)
            | Self::SendCandidate(link) => Owner::Link(link),
            Self::Create(peer)
            | Self::CreateOffer(peer, _)
            | Self::CreateAnswer(peer)
            | Self::SetIceServers(peer)
            | Self::SetLocalOffer(peer, _)
            | Self::SetLocalAnswer(peer)
            | Self::SetRemoteAnswer(peer, _)
            | Self::SetRemoteOffer(peer, _)
            | Self::Rollback(peer)
            | Self::AddCandidate(peer)
            | Self::RequestKeyframe(peer)
            | Self::StopTransceivers(peer)
            | Self::RemoveTracks(peer)
            | Self::Close(peer) => Owner::Peer(peer),
        }
    }

    fn renamed(
        mut self,
        link: impl Fn(ConnectionId) -> Option<ConnectionId>,
        peer: impl Fn(PeerId) -> Option<PeerId>,
    ) -> Self {
        match &mut self {
            Self::Connect(id)
            | Self::Disconnect(id)
            | Self::Fetch(id)
            | Self::Join(id)
            | Self::SendOffer(id, _)
            | Self::SendAnswer(id)
            | Self::SendCandidate(id) => *id = link(*id).unwrap_or(UNNAMED_LINK),
            Self::Create(id)
            | Self::CreateOffer(id, _)
            | Self::CreateAnswer(id)
            | Self::SetIceServers(id)
            | Self::SetLocalOffer(id, _)
            | Self::SetLocalAnswer(id)
            | Self::SetRemoteAnswer(id, _)
            | Self::SetRemoteOffer(id, _)
            | Self::Rollback(id)
            | Self::AddCandidate(id)
            | Self::RequestKeyframe(id)
            | Self::StopTransceivers(id)
            | Self::RemoveTracks(id)
            | Self::Close(id) => *id = peer(*id).unwrap_or(UNNAMED_PEER),
        }
        self
    }

    /// Whether it changes the descriptions of a peer connection.
    fn is_description_operation(self) -> bool {
        matches!(
            self,
            Self::SetLocalOffer(..)
                | Self::SetLocalAnswer(_)
                | Self::SetRemoteAnswer(..)
                | Self::SetRemoteOffer(..)
                | Self::Rollback(_)
        )
    }

    /// Whether it closes something, and so overtakes the other commands.
    pub(super) fn closes(self) -> bool {
        matches!(
            self,
            Self::Disconnect(_)
                | Self::StopTransceivers(_)
                | Self::RemoveTracks(_)
                | Self::Close(_)
        )
    }
}

impl World {
    pub(super) fn port(&mut self, port: Port) -> &mut VecDeque<PendingCommand> {
        &mut self.ports[port as usize]
    }

    /// Updates the unanswered offer after a sending failed: only an offer that is being sent again
    /// counts.
    pub(super) fn count_unsent(&mut self) {
        self.offer_out = self.ports.iter().flatten().find_map(|command| {
            let Operation::SendOffer(_, offer) = command.what else { return None };
            command.ticket.map(|_| offer.number)
        });
    }

    /// Whether the path that the last exchange set up still works, so that a connection stays up.
    pub(super) fn has_working_path(&self) -> bool {
        self.peer.is_some_and(|peer| {
            peer.agreed_session == Some(self.master.session)
                && !self.master.fresh
                && !peer.broken
                && peer.closing == 0
        })
    }

    /// Whether a connection can come up.
    pub(super) fn can_connect(&self) -> bool {
        self.has_working_path() && self.peer.is_some_and(|peer| peer.jsep == Jsep::Stable)
    }

    /// Begins an attempt. Messages of the master for the attempt before arrive too late.
    pub(super) fn begin_attempt(&mut self) {
        self.keep_late_answer();
        self.master = Master::default();
        (self.offers, self.offer_out, self.answer_due, self.sent) = (0, None, false, None);
        self.attempts_since_live = self.attempts_since_live.saturating_add(1);
    }

    /// Keeps one answer of the messages to an attempt that is over, as an answer of no session.
    pub(super) fn keep_late_answer(&mut self) {
        let late = self.messages.iter().rev().find_map(|message| match message {
            MasterMessage::Answer(_) => {
                Some(MasterMessage::Answer(Answer { session: 0, generation: 0, to: 0 }))
            }
            MasterMessage::Offer { .. } | MasterMessage::Candidate { .. } => None,
        });
        self.messages = late.into_iter().collect();
    }

    /// The master, or the service in its place, receives an offer and answers it; with
    /// `starts_over` a repeated offer is answered from a new peer connection.
    pub(super) fn master_receives_offer(&mut self, offer: Offer, starts_over: bool) {
        let master = &mut self.master;
        let new = master.session == 0 || master.fresh || starts_over;
        if new {
            master.begin_session(offer.number);
            let (session, generation) = (master.session, master.generation);
            self.messages.push_back(MasterMessage::Candidate { session, generation });
        } else if offer.restart {
            master.generation = offer.number;
        }
        let (session, generation) = (master.session, master.generation);
        self.messages.push_back(MasterMessage::Answer(Answer {
            session,
            generation,
            to: offer.number,
        }));
    }

    /// The master, or the service in its place, sends an offer.
    pub(super) fn master_offers(&mut self) {
        let master = &mut self.master;
        if master.session == 0 || master.fresh {
            master.begin_session(0);
        }
        // A second offer of the same session would add nothing to the one on its way.
        let session = master.session;
        if self.messages.iter().any(
            |message| matches!(message, MasterMessage::Offer { session: s, .. } if *s == session),
        ) {
            return;
        }
        master.offers = master.offers.saturating_add(1);
        self.messages
            .push_back(MasterMessage::Offer { session: master.session, number: master.offers });
    }

    /// The viewer's answer reaches the master.
    pub(super) fn master_receives_answer(&mut self) {
        let session = self.master.session;
        if let Some(peer) = &mut self.peer
            && peer.remote_offerer == session
        {
            peer.agreed_session = Some(session);
        }
    }
}

impl Master {
    fn begin_session(&mut self, generation: u8) {
        self.made = self.made.saturating_add(1);
        self.session = self.made;
        self.generation = generation;
        self.fresh = false;
    }
}
