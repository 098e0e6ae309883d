//! One state: a session, and as much of ports, service, network and master as surrounds it.

use std::collections::VecDeque;

use negotiation_core::{
    CandidateRelease, Input, LinkId, Mode, PeerId, Phase, Session, Ticket, Timestamp,
};

use super::bounds::{Bounds, Trouble};

/// Where every exploration begins.
const BEGIN: Timestamp = Timestamp::from_millis(3_600_000);

/// A session and its surroundings.
#[derive(Clone, Debug, Hash)]
pub(super) struct State {
    pub(super) session: Session,
    pub(super) now: Timestamp,
    pub(super) world: World,
}

/// What surrounds a session.
#[derive(Clone, Debug, Hash)]
pub(super) struct World {
    pub(super) variant: Variant,
    pub(super) left: [u8; Trouble::ALL.len()],
    pub(super) troubles: u8,
    pub(super) ports: [VecDeque<PendingCommand>; 3],
    /// Sockets that were asked for and not told to close.
    pub(super) links: Vec<Link>,
    /// On its way to the viewer, in the order of sending.
    pub(super) mail: VecDeque<MasterMessage>,
    pub(super) peer: Option<Peer>,
    pub(super) master: Master,
    /// Offers made in this attempt.
    pub(super) offers: u8,
    /// The number of the one that is unanswered.
    pub(super) offer_out: Option<u8>,
    /// A valid answer to it came and is to be applied.
    pub(super) answer_due: bool,
    /// The message that carried our last description, once the service has it.
    pub(super) sent: Option<Ticket>,
    pub(super) close_asked: bool,
    pub(super) offline: bool,
    /// How far closing an attempt is: 0 not begun, then what it is at.
    pub(super) closing: u8,
    pub(super) ended: bool,
    /// Attempts since the session was live.
    pub(super) tries: u8,
}

/// What does not change in an exploration: each combination is a beginning of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    /// An ICE restart of our stack leaves the old pair alone.
    pub(super) keeps_pair: bool,
    pub(super) release: CandidateRelease,
}

/// The queues of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Port {
    Signaling,
    /// Control-plane calls beside a link.
    Beside,
    Peer,
}

impl Port {
    pub(super) const ALL: [Self; 3] = [Self::Signaling, Self::Beside, Self::Peer];
}

/// A command that a port has not completed.
#[derive(Clone, Debug, Hash)]
pub(super) struct PendingCommand {
    /// `None` once the session does not wait for it any more.
    pub(super) ticket: Option<Ticket>,
    pub(super) what: Operation,
    /// A close overtook it.
    pub(super) cancelled: bool,
    /// It had its effect; only the completion is to come.
    pub(super) executed: bool,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Connect(LinkId),
    Disconnect(LinkId),
    Fetch(LinkId),
    Join(LinkId),
    SendOffer(LinkId, Offer),
    SendAnswer(LinkId),
    SendCandidate(LinkId),
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

/// An offer of ours: its number in the attempt, and whether it restarts ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    pub(super) number: u8,
    pub(super) restart: bool,
}

/// An answer of a session of the master's (0: of an earlier attempt) to an offer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) session: u8,
    pub(super) generation: u8,
    pub(super) to: u8,
}

/// A message to the viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MasterMessage {
    Answer(Answer),
    Offer { session: u8, number: u8 },
    Candidate { session: u8, generation: u8 },
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) up: bool,
}

/// The master, as far as this viewer's attempt goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Master {
    /// Its session with us; 0 is none.
    pub(super) session: u8,
    pub(super) generation: u8,
    /// It started anew: the session is gone, and it does not know of any.
    pub(super) fresh: bool,
    pub(super) made: u8,
    pub(super) offers: u8,
}

/// JSEP's states, as far as they occur.
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
    /// A command took longer than the session waited: what is set is anybody's guess.
    pub(super) disturbed: bool,
    pub(super) has_remote: bool,
    /// Whose offer is set, or was answered.
    pub(super) offered_by: u8,
    /// The session of the master's that both sides agreed with.
    pub(super) linked: Option<u8>,
    /// The network between them does not carry any more, until ICE is restarted.
    pub(super) broken: bool,
    /// The session was told of a connection.
    pub(super) up: bool,
    /// And will be told once more, after a restart.
    pub(super) again: bool,
    pub(super) keyframe: bool,
    pub(super) stalled: bool,
    /// The steps of closing that were asked for.
    pub(super) closing: u8,
}

impl Peer {
    pub(super) fn new(id: PeerId) -> Self {
        Self {
            id,
            jsep: Jsep::Stable,
            disturbed: false,
            has_remote: false,
            offered_by: 0,
            linked: None,
            broken: false,
            up: false,
            again: false,
            keyframe: false,
            stalled: false,
            closing: 0,
        }
    }
}

impl State {
    /// Every kind of stack, each with a session that was just opened.
    pub(super) fn beginnings(bounds: &Bounds) -> Vec<Result<Self, String>> {
        let early = Variant { keeps_pair: true, release: CandidateRelease::AfterOffer };
        let late = Variant { keeps_pair: false, release: CandidateRelease::AfterAnswer };
        // In a storage session nothing is restarted, so that one kind says it all.
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
            mail: VecDeque::new(),
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
            tries: 0,
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
        situation.settle(&Bounds { normalised: true, ..bounds.clone() })?;
        Ok(situation)
    }

    /// Takes the normal form in the place of the session, and its names for what is around it.
    pub(super) fn settle(&mut self, bounds: &Bounds) -> Result<(), String> {
        let mut normal = self.session.clone().into_normalised();
        let keep = !bounds.normalised;
        let link = |id: LinkId| normal.link(id).map(|new| if keep { id } else { new });
        let peer = |id: PeerId| normal.peer(id).map(|new| if keep { id } else { new });
        let ticket = |id: Ticket| normal.ticket(id).map(|new| if keep { id } else { new });
        let world = &mut self.world;
        for known in &mut world.links {
            known.id = link(known.id).ok_or("N23: a link that nobody will close")?;
        }
        if let Some(known) = &mut world.peer {
            match peer(known.id) {
                Some(id) => known.id = id,
                None if known.closing == CLOSED => world.peer = None,
                None => return Err("N23: a peer connection that nobody will close".into()),
            }
        }
        // A message that was sent has a name for what the service says of it; it is not waited for.
        let awaited = |id: &Ticket| normal.ticket(*id).is_some_and(|new| new.seq > 0);
        let mut unsent = false;
        for port in &mut world.ports {
            for job in port.iter_mut() {
                let given_up = job.ticket.is_some() && !job.ticket.as_ref().is_some_and(awaited);
                if given_up && !job.cancelled {
                    let disturbs = job.what.is_description_operation();
                    world.peer.iter_mut().for_each(|peer| peer.disturbed |= disturbs);
                    unsent |= matches!(job.what, Operation::SendOffer(..));
                }
                job.ticket = job.ticket.filter(awaited).and_then(ticket);
                job.what = job.what.renamed(link, peer);
            }
            // What nobody waits for and what cannot have an effect any more.
            port.retain(|job| job.ticket.is_some() || !job.has_no_effect());
        }
        // Whether it went out nobody knows: it counts as not sent, unless it is sent once more.
        if unsent {
            world.count_unsent();
        }
        world.sent = world.sent.and_then(ticket);
        if !keep {
            self.world.normalise(self.session.phase(), normal.is_last_attempt());
            // One candidate is gathered for each peer connection.
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

/// The three steps of closing a peer connection were asked for.
pub(super) const CLOSED: u8 = 3;

/// What closing an attempt is at.
pub(super) const SIGNALING: u8 = 1;
pub(super) const PEER: u8 = 2;

/// The name of what nobody knows any more.
const UNNAMED_LINK: LinkId = LinkId(0);
const UNNAMED_PEER: PeerId = PeerId(0);

impl PendingCommand {
    /// Without effect, if nobody waits for it.
    fn has_no_effect(&self) -> bool {
        let gone = match self.what.owner() {
            Owner::Link(link) => link == UNNAMED_LINK,
            Owner::Peer(peer) => peer == UNNAMED_PEER,
        };
        // A port gives up on those by itself, and nothing comes of them.
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

/// Which part a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Link(LinkId),
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
        link: impl Fn(LinkId) -> Option<LinkId>,
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

    /// Whether it changes what descriptions a peer connection has.
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

    /// Closing, which overtakes everything else.
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

    /// An offer's sending came to nothing: none is out, but one that is being sent once more.
    pub(super) fn count_unsent(&mut self) {
        self.offer_out = self.ports.iter().flatten().find_map(|job| {
            let Operation::SendOffer(_, offer) = job.what else { return None };
            job.ticket.map(|_| offer.number)
        });
    }

    /// What both sides agreed on still holds: a connection that is up stays up.
    pub(super) fn has_working_path(&self) -> bool {
        self.peer.is_some_and(|peer| {
            peer.linked == Some(self.master.session)
                && !self.master.fresh
                && !peer.broken
                && peer.closing == 0
        })
    }

    /// A connection can come up.
    pub(super) fn can_connect(&self) -> bool {
        self.has_working_path() && self.peer.is_some_and(|peer| peer.jsep == Jsep::Stable)
    }

    /// A new attempt: what the master still sends for the one before comes too late.
    pub(super) fn begin_attempt(&mut self) {
        self.keep_late_answer();
        self.master = Master::default();
        (self.offers, self.offer_out, self.answer_due, self.sent) = (0, None, false, None);
        self.tries = self.tries.saturating_add(1);
    }

    /// Of what is on its way to an attempt that is over, one answer is left, as one of no session.
    pub(super) fn keep_late_answer(&mut self) {
        let late = self.mail.iter().rev().find_map(|mail| match mail {
            MasterMessage::Answer(_) => {
                Some(MasterMessage::Answer(Answer { session: 0, generation: 0, to: 0 }))
            }
            MasterMessage::Offer { .. } | MasterMessage::Candidate { .. } => None,
        });
        self.mail = late.into_iter().collect();
    }

    /// The master, or the service for it, gets our offer: it answers, a repeated one from a new
    /// peer connection if it `starts_over`.
    pub(super) fn master_receives_offer(&mut self, offer: Offer, starts_over: bool) {
        let master = &mut self.master;
        let new = master.session == 0 || master.fresh || starts_over;
        if new {
            master.begin_session(offer.number);
            let (session, generation) = (master.session, master.generation);
            self.mail.push_back(MasterMessage::Candidate { session, generation });
        } else if offer.restart {
            master.generation = offer.number;
        }
        let (session, generation) = (master.session, master.generation);
        self.mail.push_back(MasterMessage::Answer(Answer {
            session,
            generation,
            to: offer.number,
        }));
    }

    /// The master, or the service for it, offers.
    pub(super) fn master_offers(&mut self) {
        let master = &mut self.master;
        if master.session == 0 || master.fresh {
            master.begin_session(0);
        }
        // One that is on its way already is as good as another of the same session.
        let session = master.session;
        if self
            .mail
            .iter()
            .any(|mail| matches!(mail, MasterMessage::Offer { session: s, .. } if *s == session))
        {
            return;
        }
        master.offers = master.offers.saturating_add(1);
        self.mail
            .push_back(MasterMessage::Offer { session: master.session, number: master.offers });
    }

    /// Our answer reached the master.
    pub(super) fn master_receives_answer(&mut self) {
        let session = self.master.session;
        if let Some(peer) = &mut self.peer
            && peer.offered_by == session
        {
            peer.linked = Some(session);
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
