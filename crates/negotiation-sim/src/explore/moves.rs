//! The steps that the surroundings can take, and the effect of each.

use negotiation_core::{
    Candidate, ClientId, ConnectionId, Connectivity, Description, Failure, FailureCode, Input,
    MediaKind, MediaSection, Mode, PeerEvent, Phase, Sdp, SdpSummary, Sender, SignalingEvent,
    Timestamp, Undecodable,
};

use super::bounds::{Bounds, Trouble};
use super::state::{Answer, MasterMessage, Operation, Port, State};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// The first step.
    Open,
    /// The oldest command of a port completes successfully.
    Complete(Port),
    /// The oldest command of a port takes effect; its completion is still to come.
    Execute(Port),
    /// The same, and the master answers from a new peer connection.
    StartOver(Port),
    /// The oldest command of a port fails.
    Fail(Port),
    /// The oldest command of a port fails permanently.
    Refuse(Port),
    /// The oldest message to the viewer arrives.
    Deliver,
    /// The oldest message arrives, and will arrive again.
    DeliverTwice,
    /// The second oldest message arrives first.
    DeliverSecond,
    /// The oldest message arrives and cannot be decoded.
    DeliverBroken,
    Lose,
    /// An answer to another process is added to the messages.
    AnotherAnswer,
    /// The earliest deadline passes.
    Deadline,
    /// Time passes until just before the earliest deadline.
    Wait,
    DropLink(u8),
    GoAway,
    Refresh,
    Status,
    MasterRestarts,
    MasterOffers,
    Connect,
    Disconnect,
    IceFails,
    DtlsFails,
    PeerCloses,
    Keyframe,
    Stall,
    Report,
    Flow,
    NetworkChanges,
    Offline,
    Online,
    Sleep,
    Restart,
    Renegotiate,
    Close,
}

impl Move {
    /// The kind of trouble that the step uses up.
    fn trouble(self) -> Option<Trouble> {
        Some(match self {
            Self::Fail(_) => Trouble::Failure,
            Self::Refuse(_) => Trouble::Refusal,
            Self::DeliverTwice => Trouble::Duplicate,
            Self::DeliverSecond => Trouble::Reorder,
            Self::DeliverBroken => Trouble::Undecodable,
            Self::Lose => Trouble::Loss,
            Self::AnotherAnswer => Trouble::SecondAnswer,
            Self::Wait => Trouble::Slow,
            Self::DropLink(_) => Trouble::Drop,
            Self::GoAway => Trouble::GoAway,
            Self::Refresh => Trouble::Refresh,
            Self::Status => Trouble::Status,
            Self::MasterRestarts => Trouble::MasterRestart,
            Self::MasterOffers => Trouble::MasterOffers,
            Self::IceFails | Self::DtlsFails | Self::PeerCloses | Self::Stall => Trouble::Path,
            Self::NetworkChanges | Self::Offline => Trouble::Network,
            Self::Sleep => Trouble::Sleep,
            Self::Restart | Self::Renegotiate => Trouble::Request,
            Self::Open
            | Self::Complete(_)
            | Self::Execute(_)
            | Self::StartOver(_)
            | Self::Deliver
            | Self::Deadline
            | Self::Connect
            | Self::Disconnect
            | Self::Keyframe
            | Self::Report
            | Self::Flow
            | Self::Online
            | Self::Close => return None,
        })
    }
}

impl State {
    /// Every step that is possible in this state.
    pub(super) fn moves(&self, bounds: &Bounds) -> Vec<Move> {
        let mut moves = Vec::with_capacity(24);
        if self.has_ended() {
            return moves;
        }
        let world = &self.world;
        for port in Port::ALL {
            let Some(command) = world.ports[port as usize].front() else { continue };
            moves.push(Move::Complete(port));
            if command.cancelled {
                continue;
            }
            if !command.executed
                && matches!(command.what, Operation::SendOffer(..) | Operation::SendAnswer(_))
            {
                moves.push(Move::Execute(port));
                let repeated = world.master.session > 0 && !world.master.fresh;
                if repeated && matches!(command.what, Operation::SendOffer(..)) {
                    moves.push(Move::StartOver(port));
                }
            }
            if command.ticket.is_some() {
                moves.push(Move::Fail(port));
                if matches!(command.what, Operation::Connect(_) | Operation::Join(_)) {
                    moves.push(Move::Refuse(port));
                }
            }
        }
        if let Some(message) = world.messages.front()
            && world.links.iter().any(|link| link.up)
        {
            moves.extend([Move::Deliver, Move::DeliverTwice, Move::Lose]);
            if !matches!(message, MasterMessage::Candidate { .. }) {
                moves.push(Move::DeliverBroken);
            }
            if world.messages.get(1).is_some_and(|second| second != message) {
                moves.push(Move::DeliverSecond);
            }
        }
        let up = world.links.iter().any(|link| link.up);
        if up && world.master.session > 0 && world.offers > 0 {
            moves.push(Move::AnotherAnswer);
        }
        if self.session.poll_timeout().is_some() {
            moves.extend([Move::Deadline, Move::Wait]);
        }
        for (number, link) in (0..).zip(&world.links) {
            if link.up {
                moves.push(Move::DropLink(number));
            }
        }
        if up {
            moves.extend([Move::GoAway, Move::Refresh]);
            if world.sent.is_some() {
                moves.push(Move::Status);
            }
            if bounds.mode == Mode::Offerer {
                moves.push(Move::MasterOffers);
            }
        }
        if world.master.session > 0 && !world.master.fresh {
            moves.push(Move::MasterRestarts);
        }
        self.peer_moves(&mut moves);
        if world.offline {
            moves.push(Move::Online);
        } else {
            moves.extend([Move::NetworkChanges, Move::Offline, Move::Sleep]);
        }
        moves.extend([Move::Restart, Move::Renegotiate]);
        if !world.close_asked {
            moves.push(Move::Close);
        }
        let left = |kind: Trouble| world.troubles > 0 && world.left[kind as usize] > 0;
        moves.retain(|step| step.trouble().is_none_or(left));
        moves
    }

    fn peer_moves(&self, moves: &mut Vec<Move>) {
        let (can, has_working_path) = (self.world.can_connect(), self.world.has_working_path());
        let Some(peer) = self.world.peer.filter(|peer| peer.closing == 0) else { return };
        if can && (!peer.up || peer.reconnects) {
            moves.push(Move::Connect);
        }
        if has_working_path && peer.up && !peer.keyframe {
            moves.push(Move::Keyframe);
        }
        if peer.stalled {
            moves.push(Move::Report);
            if has_working_path {
                moves.push(Move::Flow);
            }
        }
        let blip = self.world.troubles > 0 && self.world.left[Trouble::Path as usize] > 0;
        if peer.up && (!has_working_path || blip) {
            moves.push(Move::Disconnect);
        }
        if peer.agreed_session.is_some() {
            moves.extend([Move::IceFails, Move::PeerCloses]);
            if !peer.up {
                moves.push(Move::DtlsFails);
            }
        }
        if peer.up && peer.keyframe && !peer.stalled {
            moves.push(Move::Stall);
        }
    }

    /// The next step when nothing goes wrong; `None` when the session rests.
    pub(super) fn fair_move(&self) -> Option<Move> {
        if self.has_ended() {
            return None;
        }
        let world = &self.world;
        if world.offline {
            return Some(Move::Online);
        }
        if let Some(port) = Port::ALL.into_iter().find(|p| !world.ports[*p as usize].is_empty()) {
            return Some(Move::Complete(port));
        }
        if !world.messages.is_empty() && world.links.iter().any(|link| link.up) {
            return Some(Move::Deliver);
        }
        let (can, has_working_path) = (world.can_connect(), world.has_working_path());
        if let Some(peer) = world.peer.filter(|peer| peer.closing == 0) {
            if can && (!peer.up || peer.reconnects) {
                return Some(Move::Connect);
            }
            if has_working_path && peer.up && !peer.keyframe {
                return Some(Move::Keyframe);
            }
            if has_working_path && peer.stalled {
                return Some(Move::Flow);
            }
            if !has_working_path && peer.up {
                return Some(Move::Disconnect);
            }
        }
        match self.session.poll_timeout() {
            Some(_) => Some(Move::Deadline),
            // Nothing is pending, so the session must be live over a path that works.
            None if self.session.phase() == Phase::Live && has_working_path => None,
            None => Some(Move::Deadline),
        }
    }

    /// The state after a step.
    pub(super) fn after(&self, bounds: &Bounds, step: Move) -> Result<Self, String> {
        let mut next = self.clone();
        if let Some(kind) = step.trouble() {
            next.world.troubles -= 1;
            next.world.left[kind as usize] -= 1;
        }
        next.apply(step)?;
        next.settle(bounds)?;
        Ok(next)
    }

    fn apply(&mut self, step: Move) -> Result<(), String> {
        let now = self.now;
        let peer = self.world.peer.map(|peer| peer.id);
        let peer_input = |event| peer.map(|peer| Input::Peer(peer, event));
        let edge = |connectivity| peer_input(PeerEvent::ConnectivityChanged(connectivity));
        let at = self.session.poll_timeout().map(|(at, _)| at);
        let input = match step {
            Move::Open => None,
            Move::Complete(port) => return self.complete(port),
            Move::Execute(port) => {
                let what = self.world.port(port).front_mut().map(|command| {
                    command.executed = true;
                    command.what
                });
                if let Some(what) = what {
                    let _ = self.execute(what)?;
                }
                None
            }
            Move::StartOver(port) => {
                if let Some(command) = self.world.port(port).front_mut() {
                    command.executed = true;
                    if let Operation::SendOffer(_, offer) = command.what {
                        self.world.master_receives_offer(offer, true);
                    }
                }
                None
            }
            Move::Fail(port) => return self.fail(port, FailureCode::Service),
            Move::Refuse(port) => return self.fail(port, FailureCode::AccessDenied),
            Move::Deliver => {
                self.world.messages.pop_front().map(|message| self.input_of(message, false))
            }
            Move::DeliverTwice => {
                self.world.messages.front().copied().map(|message| self.input_of(message, false))
            }
            Move::DeliverSecond => {
                self.world.messages.remove(1).map(|message| self.input_of(message, false))
            }
            Move::DeliverBroken => {
                self.world.messages.pop_front().map(|message| self.input_of(message, true))
            }
            Move::Lose => {
                self.world.messages.pop_front();
                None
            }
            Move::AnotherAnswer => {
                let other = Answer { session: 0, generation: 0, to: 1 };
                self.world.messages.push_front(MasterMessage::Answer(other));
                None
            }
            Move::Deadline => {
                return match at {
                    Some(at) => self.feed(at, Input::Timeout),
                    None => Err("liveness: nothing is pending, but the session is not live".into()),
                };
            }
            Move::Wait => {
                let just_before = at.map(|at| at.since_origin().saturating_sub(MOMENT));
                let until = just_before.map_or(now, Timestamp::new);
                return self.feed(until, Input::Timeout);
            }
            Move::DropLink(number) => {
                let link = self.world.links.remove(usize::from(number)).id;
                let gone = Failure::new(FailureCode::Closed, "dropped");
                let before = self.session.phase();
                self.feed(now, Input::Signaling(link, SignalingEvent::Disconnected(gone)))?;
                let flows = matches!(before, Phase::Live | Phase::Recovering);
                if flows && self.session.phase() != before {
                    return Err("N20: a lost connection changed a live session".into());
                }
                return Ok(());
            }
            Move::GoAway => self.newest_link(SignalingEvent::GoAway),
            Move::Refresh => self.newest_link(SignalingEvent::ReconnectIceServer),
            Move::Status => {
                let failure = Failure::new(FailureCode::Service, "not handled");
                let ticket = self.world.sent;
                self.newest_link(SignalingEvent::Status { ticket, failure })
            }
            Move::MasterRestarts => {
                self.world.master.fresh = true;
                // The new instance of the service offers without another join.
                if self.session.config().settings().mode == Mode::Answerer {
                    self.world.master_offers();
                }
                None
            }
            Move::MasterOffers => {
                self.world.master_offers();
                None
            }
            Move::Connect => {
                self.change(|peer| (peer.up, peer.reconnects) = (true, false));
                edge(Connectivity::Connected)
            }
            Move::Disconnect => {
                self.change(|peer| peer.up = false);
                if self.world.has_working_path() {
                    self.world.left[Trouble::Path as usize] -= 1;
                    self.world.troubles = self.world.troubles.saturating_sub(1);
                }
                edge(Connectivity::Disconnected)
            }
            Move::IceFails => {
                self.change(|peer| (peer.up, peer.broken) = (false, true));
                edge(Connectivity::IceFailed)
            }
            Move::DtlsFails => edge(Connectivity::DtlsFailed),
            Move::PeerCloses => {
                self.change(|peer| (peer.up, peer.agreed_session) = (false, None));
                edge(Connectivity::ClosedByPeer)
            }
            Move::Keyframe => {
                self.change(|peer| peer.keyframe = true);
                peer_input(PeerEvent::KeyframeReceived)
            }
            Move::Stall => {
                self.change(|peer| peer.stalled = true);
                peer_input(PeerEvent::MediaStalled)
            }
            Move::Report => peer_input(PeerEvent::SenderReport),
            Move::Flow => {
                self.change(|peer| peer.stalled = false);
                peer_input(PeerEvent::MediaFlowing(MediaKind::Video))
            }
            Move::NetworkChanges => {
                self.change(|peer| peer.broken = true);
                Some(Input::NetworkChanged)
            }
            Move::Offline => {
                self.world.offline = true;
                Some(Input::Online(false))
            }
            Move::Online => {
                self.world.offline = false;
                Some(Input::Online(true))
            }
            Move::Sleep => Some(Input::Resumed),
            Move::Restart => Some(Input::Restart),
            Move::Renegotiate => Some(Input::Renegotiate),
            Move::Close => {
                self.world.close_asked = true;
                Some(Input::Close)
            }
        };
        match input {
            Some(input) => self.feed(now, input),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut super::state::Peer)) {
        if let Some(peer) = &mut self.world.peer {
            change(peer);
        }
    }

    fn newest_link(&self, event: SignalingEvent) -> Option<Input> {
        let link = self.world.links.iter().rev().find(|link| link.up)?;
        Some(Input::Signaling(link.id, event))
    }

    /// The input for a message of the master on the newest open connection.
    fn input_of(&self, message: MasterMessage, broken: bool) -> Input {
        let link = self.world.links.iter().rev().find(|link| link.up).map(|link| link.id);
        let link = link.unwrap_or(ConnectionId(0));
        let sender = Sender::Master;
        let event = match message {
            MasterMessage::Answer(_) if broken => {
                SignalingEvent::Answer { sender, body: Err(Undecodable) }
            }
            MasterMessage::Offer { .. } if broken => {
                SignalingEvent::Offer { sender, body: Err(Undecodable) }
            }
            MasterMessage::Candidate { .. } if broken => {
                SignalingEvent::Candidate { sender, body: Err(Undecodable) }
            }
            MasterMessage::Answer(given) => return answer(link, sender, given),
            MasterMessage::Offer { session, number } => {
                let text = format!("offer {session} {number}");
                let body = Ok(description(&text, session, 0));
                SignalingEvent::Offer { sender, body }
            }
            MasterMessage::Candidate { session, generation } => {
                let body = Ok(candidate("theirs", Some(ufrag(session, generation))));
                SignalingEvent::Candidate { sender, body }
            }
        };
        Input::Signaling(link, event)
    }
}

/// The distance of "just before" from a deadline.
const MOMENT: core::time::Duration = core::time::Duration::from_millis(1);

pub(super) fn client_id() -> Result<ClientId, String> {
    ClientId::new("viewer").map_err(|error| error.to_string())
}

fn ufrag(session: u8, generation: u8) -> String {
    format!("u{session}-{generation}")
}

pub(super) fn description(text: &str, session: u8, generation: u8) -> Description {
    let section = MediaSection { kind: MediaKind::Video, mid: None, accepted: true, sends: true };
    Description {
        sdp: Sdp::new(text),
        facts: SdpSummary {
            ice_ufrag: Some(ufrag(session, generation)),
            fingerprints: vec![format!("f{session}")],
            media: vec![section],
            ..SdpSummary::default()
        },
    }
}

pub(super) fn candidate(text: &str, ufrag: Option<String>) -> Candidate {
    Candidate { text: text.into(), mid: None, mline_index: Some(0), ufrag }
}

pub(super) fn answer(link: ConnectionId, sender: Sender, answer: Answer) -> Input {
    let Answer { session, generation, to } = answer;
    let text = format!("answer {session} {generation} {to}");
    let body = Ok(description(&text, session, generation));
    Input::Signaling(link, SignalingEvent::Answer { sender, body })
}
