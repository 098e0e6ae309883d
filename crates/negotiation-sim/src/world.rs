//! The world: an event queue ordered by time and number, a virtual clock, and the driver's loop
//! without `await`.

mod actions;
mod carry;
mod echo;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use negotiation_core::{
    Candidate, ClientId, Completion, ConnectionId, Connectivity, Description, Done, Event, Failure,
    FailureCode, Input, Outcome, Output, PeerCommand, PeerEvent, PeerId, Phase, Sdp, Session,
    SignalingEvent, Ticket, Timer, Timestamp,
};

use crate::faults::{Action, FaultTracker, Trigger};
use crate::journal::Journal;
use crate::kinds::InputKind;
use crate::master::{Master, MasterMessage};
use crate::oracle::Oracle;
use crate::path::DelayedPeerEvent;
use crate::peer::Peer;
use crate::plan::Plan;
use crate::service::{LinkKey, Service};
use crate::tally::{FaultCounts, FaultName, InputCounts};
use crate::traits::Media;

/// Virtual time does not begin at zero, so that a value of the real clock would stand out.
const BEGIN: Timestamp = Timestamp::from_millis(3_600_000);

/// More steps than any run needs; a run that takes more is in a loop.
const STEPS_MAX: u32 = 200_000;

/// An offer and its answer.
pub type Agreed = (Sdp, Sdp);

/// A session and its simulated surroundings.
#[derive(Clone, Debug)]
pub struct World {
    plan: Plan,
    session: Session,
    /// The session's next deadline.
    deadline: Option<(Timestamp, Timer)>,
    /// The session's last outputs; the vector is reused.
    outputs: Vec<Output>,
    /// The number of the current session; earlier ones are closed.
    number: u32,
    now: Timestamp,
    /// The values are boxed because the map moves its entries often.
    queue: BTreeMap<(Timestamp, u64), Box<ScheduledEvent>>,
    scheduled: u64,
    steps: u32,
    service: Service,
    network_up: bool,
    master: Master,
    peers: BTreeMap<PeerId, Peer>,
    /// The client id that the master knows a peer connection by.
    known_as: BTreeMap<PeerId, ClientId>,
    stale_turn: u32,
    running: BTreeMap<Ticket, Box<Running>>,
    faults: FaultTracker,
    input_counts: InputCounts,
    fault_counts: FaultCounts,
    entered: BTreeMap<Phase, u32>,
    oracle: Oracle,
    journal: Journal,
    outcome: Option<Outcome>,
    events: Vec<(Timestamp, Event)>,
    link: ConnectionId,
    peer: PeerId,
    newest_offer: Option<Ticket>,
    offers_made: BTreeMap<u32, Description>,
    answers: Vec<(u32, Description)>,
    known_to_master: BTreeSet<PeerId>,
    held_messages: Vec<Input>,
    violations_before: Vec<String>,
}

/// An event in the queue.
#[derive(Clone, Debug)]
enum ScheduledEvent {
    /// An input for the session with this number.
    Input(u32, Input),
    /// A command is done; its result is determined only then.
    Done(u32, Ticket),
    /// An offer reaches the master, if it is connected.
    OfferArrives(ClientId, Description),
    CandidateArrives(ClientId, Candidate),
    AnswerArrives(ClientId, Description),
    /// The service offers in the storage session of this client id.
    ServiceOffers(ClientId),
    /// A peer connection of this session reports an event; dropped if its path changed since this
    /// epoch.
    PeerEvent(u32, PeerId, Option<u32>, PeerEvent),
    /// The pings of this connection time out, if the network is still away.
    PingFails(LinkKey),
    /// This signaling connection ends, if it is still open.
    LinkEnds(LinkKey, FailureCode),
    /// A message of the master reaches the service.
    MasterMessageArrives(ClientId, MasterMessage),
    /// A held message has waited long enough.
    ReleaseHeld,
    Action(Action),
}

/// A command that a port is carrying out.
#[derive(Clone, Debug)]
struct Running {
    owner: Owner,
    work: Work,
    /// It opens a signaling connection.
    connects: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Link(ConnectionId),
    Peer(PeerId),
}

#[derive(Clone, Debug)]
enum Work {
    Fails(Failure),
    Brings(Done),
    Opens(LinkKey),
    Joins(LinkKey),
    Sends(LinkKey, negotiation_core::Message),
    Peer(PeerCommand),
}

impl World {
    /// Creates a world at rest; [`World::open`] starts the session.
    pub fn new(plan: Plan) -> Self {
        let session = Session::new(plan.config.clone(), plan.seed, BEGIN);
        let mut world = Self {
            session,
            deadline: None,
            outputs: Vec::new(),
            number: 1,
            now: BEGIN,
            network_up: true,
            queue: BTreeMap::new(),
            scheduled: 0,
            steps: 0,
            service: Service::new(plan.service.clone(), plan.ids),
            master: Master::new(plan.master.clone()),
            peers: BTreeMap::new(),
            known_as: BTreeMap::new(),
            stale_turn: 0,
            running: BTreeMap::new(),
            faults: FaultTracker::new(&plan.faults),
            input_counts: InputCounts::new(),
            fault_counts: FaultCounts::new(),
            entered: BTreeMap::new(),
            oracle: Oracle::new(plan.config.clone()),
            journal: Journal::new(plan.config.clone(), plan.seed, BEGIN),
            outcome: None,
            events: Vec::new(),
            link: ConnectionId(0),
            peer: PeerId(0),
            newest_offer: None,
            offers_made: BTreeMap::new(),
            answers: Vec::new(),
            known_to_master: BTreeSet::new(),
            held_messages: Vec::new(),
            violations_before: Vec::new(),
            plan,
        };
        if let Some(after) = world.plan.master.arrives_after {
            world.schedule(after, ScheduledEvent::Action(Action::MasterArrives));
        }
        world
    }

    /// Turns the journal off, which makes a run faster.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.journal.leave_blank();
        self
    }

    /// Opens the session, after the actions that the plan has for an idle one.
    pub fn open(&mut self) {
        for (_, action) in self.faults.at(Trigger::Entered(Phase::Idle, 1)) {
            self.apply_action(action);
        }
        self.feed(Input::Open);
        self.run_trigger(Trigger::Opened);
    }

    /// Starts another session of the same process on the same channel, after this one ended or was
    /// abandoned. Service, master and client ids stay as they are.
    pub fn reopen(&mut self) {
        self.violations_before.extend(self.oracle.violations().iter().cloned());
        self.number += 1;
        self.session = Session::new(self.plan.config.clone(), self.plan.seed, self.now);
        self.oracle = Oracle::new(self.plan.config.clone());
        let blank = self.journal.is_blank();
        self.journal = Journal::new(self.plan.config.clone(), self.plan.seed, self.now);
        if blank {
            self.journal.leave_blank();
        }
        self.deadline = None;
        self.outcome = None;
        self.events.clear();
        self.peers.clear();
        self.known_as.clear();
        self.running.clear();
        self.known_to_master.clear();
        self.open();
    }

    /// Performs an action now.
    pub fn perform(&mut self, action: Action) {
        self.apply_action(action);
    }

    /// Gives the session an arbitrary input now.
    pub fn inject(&mut self, input: Input) {
        self.feed(input);
    }

    /// Performs an action later.
    pub fn perform_after(&mut self, after: Duration, action: Action) {
        self.schedule(after, ScheduledEvent::Action(action));
    }

    /// Handles the next event; returns `false` when there is none.
    ///
    /// Of an input and a deadline in the same instant the input comes first: the core must fire the
    /// deadline by itself (contract, N5).
    pub fn step(&mut self) -> bool {
        debug_assert_eq!(self.deadline, self.session.poll_timeout(), "only an input moves it");
        let late = self.plan.timer_late;
        let deadline = self.deadline.map(|(at, _)| at + late);
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        self.steps += 1;
        if self.steps > STEPS_MAX {
            self.oracle.report(format!("{}: more steps than any run needs", self.now));
            return false;
        }
        match (queued, deadline) {
            (None, None) => return false,
            (Some(at), deadline) if deadline.is_none_or(|deadline| at <= deadline) => {
                self.now = self.now.max(at);
                if let Some((_, event)) = self.queue.pop_first() {
                    self.handle_event(*event);
                }
            }
            (_, Some(at)) => {
                self.now = self.now.max(at);
                self.count_if(!late.is_zero(), FaultName::TimerLate);
                self.feed(Input::Timeout);
            }
            (Some(_), None) => {}
        }
        true
    }

    /// Runs until no event is left, for at most `limit`; returns whether none is left.
    ///
    /// A session that is then neither live nor ended is a violation.
    pub fn run_until_quiet(&mut self, limit: Duration) -> bool {
        let until = self.now + limit;
        let mut quiet = false;
        while !quiet && self.next_at().is_none_or(|at| at <= until) {
            quiet = !self.step();
        }
        let key = (self.number, self.link);
        self.oracle.at_rest(self.now, self.service.is_open(key));
        if self.outcome.is_some() {
            self.check_everything_is_closed();
        }
        quiet
    }

    /// Runs for this long.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.next_at().is_some_and(|at| at <= until) && self.step() {}
        self.now = self.now.max(until);
    }

    /// Runs until the session is in this phase, for at most `limit`; returns whether it is.
    pub fn run_until_phase(&mut self, phase: Phase, limit: Duration) -> bool {
        let until = self.now + limit;
        while self.phase() != phase && self.next_at().is_some_and(|at| at <= until) && self.step() {
        }
        self.phase() == phase
    }

    fn next_at(&self) -> Option<Timestamp> {
        let deadline = self.deadline.map(|(at, _)| at + self.plan.timer_late);
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        deadline.into_iter().chain(queued).min()
    }

    /// The session's phase.
    pub fn phase(&self) -> Phase {
        self.session.phase()
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How the session ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The events for the application, with their times.
    pub fn events(&self) -> &[(Timestamp, Event)] {
        &self.events
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_since(BEGIN)
    }

    /// The journal of the session's inputs and outputs.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The broken rules; empty when there are none.
    pub fn violations(&self) -> Vec<String> {
        let before = self.violations_before.iter();
        before.chain(self.oracle.violations()).cloned().collect()
    }

    /// The plan of the run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How often each fault of the plan was hit, in the plan's order.
    pub fn fault_hits(&self) -> Vec<u32> {
        self.faults.hits()
    }

    /// How often each kind of input was handled in each phase.
    pub(crate) fn input_counts(&self) -> &InputCounts {
        &self.input_counts
    }

    /// How often each fault happened, except those that are inputs.
    pub(crate) fn fault_counts(&self) -> &FaultCounts {
        &self.fault_counts
    }

    /// The number of steps so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The number of connections that are open or opening now, and of all that were opened.
    pub fn links(&self) -> (usize, u32) {
        (self.service.links(), self.service.opened_total())
    }

    /// How often gathering began with expired TURN credentials.
    pub fn stale_turn(&self) -> u32 {
        self.stale_turn
    }

    /// The last offer and answer of the newest peer connection, as it and the master have them;
    /// `None` for a side that is in an exchange or has had none.
    pub fn agreed(&self) -> (Option<Agreed>, Option<Agreed>) {
        let peer = self.peers.get(&self.peer).filter(|peer| peer.is_stable());
        let id = self.known_as.get(&self.peer);
        let master = id.and_then(|id| self.master.agreed(id));
        (peer.and_then(|peer| peer.agreed().cloned()), master.cloned())
    }

    /// The number of sessions that the master has.
    pub fn master_sessions(&self) -> usize {
        self.master.sessions()
    }

    fn schedule(&mut self, after: Duration, event: ScheduledEvent) {
        self.schedule_at(self.now + after, event);
    }

    fn schedule_at(&mut self, at: Timestamp, event: ScheduledEvent) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), Box::new(event));
    }

    fn count_if(&mut self, strikes: bool, fault: FaultName) {
        if strikes {
            self.fault_counts.hit(fault);
        }
    }

    /// Whether the session is open and has not ended.
    fn is_running(&self) -> bool {
        !matches!(self.phase(), Phase::Idle | Phase::Ended)
    }

    fn run_trigger(&mut self, trigger: Trigger) {
        for (after, action) in self.faults.at(trigger) {
            self.schedule(after, ScheduledEvent::Action(action));
        }
    }

    /// Gives the session one input and carries out its outputs.
    fn feed(&mut self, input: Input) {
        let mut input_kind = InputKind::of(&input);
        if let Input::Completed(done) = &input
            && !self.session.awaits(done.ticket)
        {
            input_kind = InputKind::Unawaited;
        }
        self.oracle.on_input(self.now, &input);
        self.feed_as(input_kind, input);
    }

    fn feed_as(&mut self, input_kind: InputKind, input: Input) {
        self.input_counts.hit(self.session.phase(), input_kind);
        self.journal.input(self.now, &input);
        self.session.handle_input(self.now, input);
        let mut outputs = core::mem::take(&mut self.outputs);
        while let Some(output) = self.session.poll_output() {
            self.journal.output(self.now, &output);
            self.oracle.on_output(self.now, &output);
            outputs.push(output);
        }
        self.deadline = self.session.poll_timeout();
        self.oracle.after_step(self.now, &self.session, self.deadline);
        for output in outputs.drain(..) {
            match output {
                Output::Signaling(ticket, command) => self.do_signaling(ticket, command),
                Output::Peer(ticket, command) => self.do_peer(ticket, command),
                Output::Event(event) => self.on_event(event),
            }
        }
        self.outputs = outputs;
    }

    fn on_event(&mut self, event: Event) {
        if let Event::PhaseChanged { to, .. } = &event {
            let times = self.entered.entry(*to).or_insert(0);
            *times += 1;
            let trigger = Trigger::Entered(*to, *times);
            self.run_trigger(trigger);
        }
        if let Event::Ended(outcome) = &event {
            self.outcome = Some((**outcome).clone());
        }
        self.events.push((self.now, event));
    }

    fn handle_event(&mut self, event: ScheduledEvent) {
        match event {
            ScheduledEvent::Input(number, input) if number == self.number => self.deliver(input),
            ScheduledEvent::Done(number, ticket) if number == self.number => self.done(ticket),
            ScheduledEvent::Input(..) | ScheduledEvent::Done(..) => {}
            ScheduledEvent::OfferArrives(from, offer) => self.offer_arrives(from, offer),
            ScheduledEvent::CandidateArrives(from, candidate) => {
                self.candidate_arrives(from, candidate);
            }
            ScheduledEvent::MasterMessageArrives(to, message) => {
                self.master_message_arrives(&to, message)
            }
            ScheduledEvent::AnswerArrives(from, answer) => self.answer_arrives(&from, &answer),
            ScheduledEvent::ServiceOffers(id) => {
                let messages = self.master.join(self.now, &id);
                self.count_if(messages.is_empty(), FaultName::MasterSilent);
                self.master_sends(&id, messages);
            }
            ScheduledEvent::PeerEvent(number, peer, epoch, event) => {
                if number == self.number {
                    self.on_peer_event(peer, epoch, event);
                }
            }
            ScheduledEvent::PingFails(link) => {
                if !self.network_up {
                    self.count_if(self.service.is_open(link), FaultName::HalfOpen);
                    self.handle_event(ScheduledEvent::LinkEnds(link, FailureCode::TimedOut));
                }
            }
            ScheduledEvent::LinkEnds((number, link), code) => {
                if number == self.number {
                    let failure = Failure::new(code, "the socket ended");
                    self.deliver(Input::Signaling(link, SignalingEvent::Disconnected(failure)));
                }
            }
            ScheduledEvent::ReleaseHeld => self.release_held(),
            ScheduledEvent::Action(action) => self.apply_action(action),
        }
    }

    /// Drops events of a closed connection or peer connection: a port must not report them.
    fn deliver(&mut self, input: Input) {
        let alive = match &input {
            Input::Signaling(link, SignalingEvent::Disconnected(_)) => {
                let cut = self.service.lose(self.now, (self.number, *link));
                if cut {
                    self.abandon_link(*link);
                }
                cut
            }
            Input::Signaling(link, _) => self.service.is_open((self.number, *link)),
            Input::Peer(peer, _) => self.peers.get(peer).is_some_and(|peer| !peer.is_closed()),
            Input::Open
            | Input::Close
            | Input::Timeout
            | Input::Resumed
            | Input::NetworkChanged
            | Input::LocalAddressGone
            | Input::MasterKnown(_)
            | Input::Online(_)
            | Input::Restart
            | Input::Renegotiate
            | Input::Completed(_) => true,
        };
        if alive {
            self.feed(input);
        }
    }

    fn complete(&mut self, ticket: Ticket, outcome: Result<Done, Failure>) {
        self.feed(Input::Completed(Completion { ticket, outcome }));
    }

    /// Schedules events of a peer connection, for its current path.
    fn schedule_peer_events(&mut self, peer: PeerId, events: Vec<DelayedPeerEvent>) {
        let Some(epoch) = self.peers.get(&peer).map(|peer| peer.epoch) else { return };
        for (after, event) in events {
            self.schedule(after, ScheduledEvent::PeerEvent(self.number, peer, Some(epoch), event));
        }
    }

    fn on_peer_event(&mut self, id: PeerId, epoch: Option<u32>, event: PeerEvent) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.is_closed() || epoch.is_some_and(|epoch| epoch != peer.epoch) {
            return;
        }
        peer.apply_event(&event);
        if event == PeerEvent::ConnectivityChanged(Connectivity::Connected) {
            self.count_if(self.path().media != Media::Flows, FaultName::NoMedia);
        }
        self.deliver(Input::Peer(id, event));
    }

    fn check_everything_is_closed(&mut self) {
        let hung = self.plan.faults.iter().any(closing_may_fail);
        let open = self.peers.values().filter(|peer| !peer.is_closed()).count();
        if !hung && (open > 0 || self.service.links() > 0) {
            self.oracle.report(format!("{}: N23: ended with something open", self.now));
        }
        if !hung && !self.running.is_empty() && self.queue.is_empty() {
            self.oracle.report(format!("{}: a command without a completion", self.now));
        }
    }
}

/// Whether a fault keeps a closing step from being carried out.
fn closing_may_fail(fault: &crate::Fault) -> bool {
    use crate::{CommandKind, Fault};
    match fault {
        Fault::Command { what, .. } => {
            matches!(
                what,
                CommandKind::Disconnect
                    | CommandKind::StopTransceivers
                    | CommandKind::RemoveTracks
                    | CommandKind::Close
            )
        }
        Fault::Message { .. } | Fault::At { .. } => false,
    }
}

#[cfg(test)]
mod tests;
