//! The normal form of a session: what decides its future, and nothing else.
//!
//! Two sessions that were in the same situation at another time, in another attempt, after another
//! number of commands, have the same normal form, so a checker meets the same state again as the
//! same. The normal form is itself a session that can go on: it behaves as the one it was made of,
//! but for names, times and what is only reported.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use crate::attempt::Attempt;
use crate::attempt::connections::Connections;
use crate::attempt::exchange::state::{self, OurOffer, OurStep, TheirOffer};
use crate::attempt::exchange::{Exchange, ExchangeState};
use crate::closing::Closing;
use crate::config::{Config, RetryDelay};
use crate::context::Context;
use crate::evidence::{AttemptEnd, Evidence};
use crate::phase::Phase;
use crate::policy::{QUICK, QUICK_MAX};
use crate::purpose::Purpose;
use crate::rng::Rng;
use crate::session::{Session, State};
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};
use crate::types::{ConnectionId, PeerId, SdpKind};

/// Old names with their new ones.
type Names<T> = Vec<(T, T)>;

/// A session's normal form, and the new names of what its host holds.
#[derive(Clone, Debug)]
pub struct Normalised {
    session: Session,
    tickets: Names<Ticket>,
    links: Names<ConnectionId>,
    peer: Option<(PeerId, PeerId)>,
    is_last: bool,
}

impl Normalised {
    /// Whether no further attempt follows: the session has ended, or closes its last attempt.
    pub fn is_last_attempt(&self) -> bool {
        self.is_last
    }

    /// The session: equal, with an equal hash, to every other with the same future.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Leaves out the deadline of the whole set-up where it cannot fire unless the master makes
    /// another offer: the deadlines of the stages that are still to come all end before it.
    ///
    /// For checkers that know that no offer comes any more in this attempt.
    pub fn without_further_offers(&mut self) {
        if self.session.ends_set_up_by_its_stages() {
            self.session.cx.disarm(Timer::SetUp);
        }
    }

    /// Leaves out when local candidates were sent, which counts for the quota alone.
    ///
    /// For checkers that gather fewer candidates than the quota allows, also when each is sent on
    /// several connections.
    pub fn without_candidate_pacing(&mut self) {
        if let State::Attempt(attempt) = &mut self.session.state {
            attempt.candidates.local.forget_sent();
        }
    }

    /// The session alone.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// The moment that every normal form of this configuration takes for now.
    pub fn now(&self) -> Timestamp {
        self.session.cx.now
    }

    /// The new name of a command; `None` when its completion would change nothing any more.
    pub fn ticket(&self, ticket: Ticket) -> Option<Ticket> {
        renamed(&self.tickets, ticket)
    }

    /// The new name of a connection; `None` when the session takes nothing from it any more.
    pub fn link(&self, link: ConnectionId) -> Option<ConnectionId> {
        renamed(&self.links, link)
    }

    /// The new name of a peer connection; `None` when the session takes nothing from it any more.
    pub fn peer(&self, peer: PeerId) -> Option<PeerId> {
        self.peer.filter(|(old, _)| *old == peer).map(|(_, new)| new)
    }
}

fn renamed<T: Copy + PartialEq>(names: &[(T, T)], name: T) -> Option<T> {
    names.iter().find(|(old, _)| *old == name).map(|(_, new)| *new)
}

/// Before the first exchange, the first, and any later one.
const EXCHANGES: u32 = 2;

/// The message that carried an offer is sent, and its command is done.
const SENT: Ticket = Ticket { attempt: 1, seq: 0 };

impl Session {
    /// The normal form of this session, for checkers: moments relative to now, commands,
    /// connections, peer connections and attempts renamed, and all that is only reported left out.
    ///
    /// Times, names, counts and evidence in its outputs differ; its commands do not.
    /// Outputs that were not drained stay as they are.
    #[must_use]
    pub fn normalised(&self) -> Normalised {
        self.clone().into_normalised()
    }

    /// [`Session::normalised`] of a session that is not needed any more.
    #[must_use]
    pub fn into_normalised(mut self) -> Normalised {
        let cx = &mut self.cx;
        let clock = Clock { from: cx.now, to: Timestamp::new(horizon(&cx.config)) };
        cx.rebase(clock, self.state.waits_for_next_attempt());
        self.opened = clock.to;
        // What is only reported.
        self.reports = VecDeque::new();
        self.was_live = false;
        let mut tickets = cx.in_flight.renumber(cx.attempt, |at| clock.at(at));
        let (mut links, mut peer, mut is_last) = (Vec::new(), None, false);
        match &mut self.state {
            State::Attempt(attempt) => {
                peer = Some((attempt.peer.id, PeerId(1)));
                let sent = attempt.exchange.sent.as_ref().map(|sent| sent.ticket);
                links = attempt.normalise(clock, &cx.config, &tickets);
                let sent_still_counts =
                    attempt.exchange.sent.as_ref().is_some_and(|sent| sent.ticket == SENT);
                tickets.extend(sent.filter(|_| sent_still_counts).map(|sent| (sent, SENT)));
            }
            State::Closing(closing) => {
                peer = Some((closing.peer, PeerId(1)));
                is_last = closing.is_last();
                closing.normalise(clock);
            }
            State::Idle | State::BackingOff => {}
            State::Ended => is_last = true,
        }
        cx.connections = u32::try_from(links.len()).unwrap_or(u32::MAX);
        cx.peers = u32::from(peer.is_some());
        cx.in_flight.map_purposes(|purpose| {
            if let Purpose::Connect(link) = purpose {
                Purpose::Connect(name_of(&links, link))
            } else if let Purpose::Leave(link) = purpose {
                Purpose::Leave(name_of(&links, link))
            } else {
                purpose
            }
        });
        if is_last {
            cx.forget_policy();
        }
        Normalised { session: self, tickets, links, peer, is_last }
    }

    /// Whether the deadlines of the stages end the set-up, without another offer of the master, no
    /// later than its own deadline. No stage is entered twice without such an offer.
    fn ends_set_up_by_its_stages(&self) -> bool {
        let config = &self.cx.config;
        let (establish, media) =
            (config.settings().establish_timeout, config.settings().first_media_timeout);
        let (stage, later_stages) = match self.phase() {
            Phase::AwaitingAnswer => (Timer::Answer, establish + media),
            Phase::Answering => (Timer::Establish, establish + media),
            Phase::Establishing => (Timer::Establish, media),
            Phase::AwaitingMedia => (Timer::FirstMedia, Duration::ZERO),
            Phase::Idle
            | Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingOffer
            | Phase::Live
            | Phase::Recovering
            | Phase::Closing
            | Phase::BackingOff
            | Phase::Ended => return false,
        };
        let State::Attempt(attempt) = &self.state else { return false };
        let offered = attempt.exchange.pending_remote_offer.is_some();
        let (set_up, stage) = (self.cx.timers.at(Timer::SetUp), self.cx.timers.at(stage));
        !offered && stage.zip(set_up).is_some_and(|(stage, whole)| stage + later_stages <= whole)
    }
}

impl State {
    /// Whether what decides about the next attempt matters now.
    fn waits_for_next_attempt(&self) -> bool {
        match self {
            Self::Closing(_) | Self::BackingOff => true,
            Self::Idle | Self::Attempt(_) | Self::Ended => false,
        }
    }
}

impl Context {
    fn rebase(&mut self, clock: Clock, waits_for_next_attempt: bool) {
        self.now = clock.to;
        self.timers.map(|at| clock.at(at));
        let frozen = self.offline.frozen;
        let moved = |at| if frozen { clock.at(at) } else { clock.to };
        self.offline.since = self.offline.since.map(moved);
        self.offline.until = moved(self.offline.until);
        self.offline.frozen_for = self.offline.frozen_for.min(self.config.settings().offline_limit);
        // What is only reported.
        (self.ignored, self.evidence) = (BTreeMap::new(), Evidence::default());
        // What is counted up to a limit.
        self.attempt = self.attempt.min(1);
        let policy = &mut self.policy;
        policy.answers_refused = policy.answers_refused.min(2);
        policy.quick_ends = policy.quick_ends.min(QUICK_MAX);
        let refill = self.config.settings().refill_after;
        policy.budget.forget_loss(|lost| {
            (clock.from.saturating_since(lost) < refill).then(|| clock.past(lost, refill))
        });
        let until = policy.throttled_until;
        let counts = waits_for_next_attempt && until > clock.from;
        policy.throttled_until = if counts { clock.at(until) } else { Timestamp::ZERO };
        (policy.offered_as, policy.master.answers_repeated_id) = (None, None);
        let window = self.config.settings().retry_window;
        policy.budget.forget_before(|first| {
            window.map(|window| clock.past(first, window + Duration::from_millis(1)))
        });
    }

    /// No further attempt: what decides about them does not matter.
    fn forget_policy(&mut self) {
        self.policy.budget = Default::default();
        (self.policy.master, self.policy.throttled_until) = (Default::default(), Timestamp::ZERO);
        self.policy.rng = Rng::new(0);
        (self.policy.answers_refused, self.policy.quick_ends) = (0, 0);
    }
}

impl Closing {
    /// Leaves out what only the report contains.
    fn normalise(&mut self, clock: Clock) {
        (self.attempt, self.client_id, self.peer) = (1, None, PeerId(1));
        (self.started, self.end, self.ended) = (clock.to, AttemptEnd::Closed, Timestamp::ZERO);
    }
}

impl Attempt {
    fn normalise(
        &mut self,
        clock: Clock,
        config: &Config,
        tickets: &[(Ticket, Ticket)],
    ) -> Names<ConnectionId> {
        (self.number, self.started, self.peer.id) = (1, clock.to, PeerId(1));
        // It only decides what is reported.
        self.repeats_id = false;
        let known = self.connections.known();
        let names: Vec<_> = known.into_iter().zip((1..).map(ConnectionId)).collect();
        let fixed = matches!(config.settings().link_reopen, RetryDelay::Fixed(_));
        self.exchange.normalise(clock, config, tickets, &names, self.reached.connected);
        self.connections.normalise(clock, &names, fixed);
        self.candidates.local.rebase(clock.from, |at| clock.at(at));
        self.candidates.local.rename_links(|link| name_of(&names, link));
        self.candidates.transit.rename_links(|link| name_of(&names, link));
        names
    }
}

impl Connections {
    /// Every connection that anything may still come from, in the order of their numbers.
    fn known(&self) -> BTreeSet<ConnectionId> {
        self.all().chain(self.leaving.iter().copied()).collect()
    }

    /// Moments relative to now, connections by their new names, failures as far as they count.
    fn normalise(&mut self, clock: Clock, names: &[(ConnectionId, ConnectionId)], fixed: bool) {
        for link in [&mut self.open, &mut self.opening, &mut self.replaced] {
            *link = link.map(|link| name_of(names, link));
        }
        let leaving = core::mem::take(&mut self.leaving);
        self.leaving = leaving.into_iter().map(|link| name_of(names, link)).collect();
        self.opened_at = match self.open {
            Some(_) => clock.past(self.opened_at, QUICK),
            None => Timestamp::ZERO,
        };
        self.failures = if fixed { 0 } else { self.failures.min(20) };
    }
}

impl Exchange {
    /// What was sent counts while it is being sent, while its answer is awaited, and as long as a
    /// STATUS_RESPONSE for it changes something.
    fn normalise(
        &mut self,
        clock: Clock,
        config: &Config,
        tickets: &[(Ticket, Ticket)],
        names: &[(ConnectionId, ConnectionId)],
        connected: bool,
    ) {
        self.number = self.number.min(EXCHANGES);
        self.needed.unsent_on = self.needed.unsent_on.and_then(|link| renamed(names, link));
        let awaits = self.at() == ExchangeState::AwaitingAnswer;
        if let state::State::Ours(OurOffer { restart, step, .. }) = &mut self.state
            && let OurStep::AwaitingAnswer { sent_at, awaited_since, .. } = step
        {
            // It is only reported.
            *sent_at = clock.to;
            // Only the end of an ICE restart that is not answered depends on it.
            *awaited_since = match restart {
                Some(_) => clock.past(*awaited_since, config.settings().restart_timeout),
                None => clock.to,
            };
        }
        if let state::State::Ours(OurOffer { step: OurStep::Unsent { failed_on, .. }, .. })
        | state::State::Theirs(TheirOffer::Unsent { failed_on, .. }) = &mut self.state
        {
            *failed_on = failed_on.and_then(|link| renamed(names, link));
        }
        let Some(sent) = &mut self.sent else { return };
        let name = renamed(tickets, sent.ticket);
        let is_answer = matches!(sent.carried, Some((_, SdpKind::Answer)));
        if name.is_none() && !awaits && (!is_answer || connected) {
            self.sent = None;
            return;
        }
        sent.ticket = name.unwrap_or(SENT);
        if let Some((link, _)) = &mut sent.carried {
            *link = name_of(names, *link);
        }
    }
}

/// Moves moments so that "now" is always the same.
#[derive(Clone, Copy)]
struct Clock {
    from: Timestamp,
    to: Timestamp,
}

impl Clock {
    fn at(self, at: Timestamp) -> Timestamp {
        if at >= self.from {
            return self.to + at.saturating_since(self.from);
        }
        let ago = self.from.saturating_since(at);
        Timestamp::new(self.to.since_origin().saturating_sub(ago))
    }

    /// A moment that counts for this long only.
    fn past(self, at: Timestamp, counts: Duration) -> Timestamp {
        let ago = self.from.saturating_since(at).min(counts);
        Timestamp::new(self.to.since_origin().saturating_sub(ago))
    }
}

/// How far back anything matters: "now" of a normal form, so that times in the past can be written.
fn horizon(config: &Config) -> Duration {
    let day = Duration::from_secs(86_400);
    config
        .settings()
        .retry_window
        .unwrap_or_default()
        .saturating_add(config.settings().offline_limit)
        .saturating_add(day)
}

/// A connection that was left long ago has no name; two of those cannot be distinguished.
fn name_of(names: &[(ConnectionId, ConnectionId)], link: ConnectionId) -> ConnectionId {
    renamed(names, link).unwrap_or(ConnectionId(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::attempt::Reached;
    use crate::session::harness::{Harness, offer, one_retry};

    fn attempt_of(session: &mut Session) -> &mut Attempt {
        let State::Attempt(attempt) = &mut session.state else { panic!("no attempt") };
        attempt
    }

    #[test]
    fn first_failure_is_forgotten_when_its_window_is_over_and_not_before() {
        let config = Settings::persistent().check().expect("valid");
        let window = config.settings().retry_window.expect("it has one");
        let failed = |ago: Duration| {
            let then = Timestamp::from_millis(1000);
            let mut session = Session::new(config.clone(), 1, then);
            session
                .cx
                .policy
                .budget
                .spend(&config, then, false, &mut Rng::new(1))
                .expect("the first");
            session.cx.now = then + ago;
            session.into_normalised().into_session()
        };
        let ms = Duration::from_millis(1);
        assert_ne!(failed(window - ms), failed(window));
        assert_ne!(failed(window), failed(window + ms), "no pause fits any more");
        assert_eq!(failed(window + ms), failed(window * 3));
    }

    /// What an attempt reached decides how it ends; the evidence is only reported.
    #[test]
    fn what_was_reached_is_kept_and_evidence_is_not() {
        let config = Settings::one_retry().check().expect("valid");
        let mut session = Session::new(config, 1, Timestamp::ZERO);
        session.handle_input(Timestamp::ZERO, crate::Input::Open);
        let reached = Reached { ice_connected: true, connected: true, live: true };
        attempt_of(&mut session).reached = reached;
        session.cx.evidence.remote_candidates = 3;
        let mut normal = session.into_normalised().into_session();
        assert_eq!(attempt_of(&mut normal).reached, reached);
        assert_eq!(normal.cx.evidence, Evidence::default());
    }

    #[test]
    fn set_up_deadline_is_left_out_only_where_the_stages_end_before_it() {
        for (later, held_offer, is_left_out) in
            [(0, None, true), (1, None, false), (0, Some(offer(1)), false)]
        {
            let mut session = Harness::answered(one_retry()).session;
            let establish = session.cx.timers.at(Timer::Establish).expect("armed");
            let stages_end = establish + session.cx.config.settings().first_media_timeout;
            session.cx.timers.arm(Timer::SetUp, stages_end);
            session.cx.timers.arm(Timer::Establish, establish + Duration::from_millis(later));
            attempt_of(&mut session).exchange.pending_remote_offer = held_offer;
            let mut normal = session.into_normalised();
            normal.without_further_offers();
            let left_out = normal.into_session().cx.timers.at(Timer::SetUp).is_none();
            assert_eq!(left_out, is_left_out, "{later} ms later");
        }
    }
}
