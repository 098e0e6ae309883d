//! The normal form of a session: what decides its future, and nothing else.
//!
//! Two sessions that were in the same situation at another time, in another attempt, after another
//! number of commands, have the same normal form, so a checker meets the same state again as the
//! same. The normal form is itself a session that can go on: it behaves as the one it was made of,
//! but for names, times and what is only told.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::closing::Closing;
use super::setup::{Attempt, Refresh, Servers};
use super::state::{Exchange, Step};
use super::{Purpose, Session};
use crate::candidates::{InTransit, LocalCandidates, RemoteCandidates};
use crate::config::{Config, RetryDelay};
use crate::evidence::Evidence;
use crate::output::Message;
use crate::phase::Phase;
use crate::retry::Rng;
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};
use crate::types::{LinkId, PeerId};

/// Old names with their new ones.
type Names<T> = Vec<(T, T)>;

/// A session's normal form, and the new names of what its host holds.
#[derive(Clone, Debug)]
pub struct Normalised {
    session: Session,
    tickets: Names<Ticket>,
    links: Names<LinkId>,
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
            self.session.timers.disarm(Timer::SetUp);
        }
    }

    /// Leaves out when local candidates were sent, which counts for the quota alone.
    ///
    /// For checkers that gather fewer candidates than the quota allows, also when each is sent on
    /// several connections.
    pub fn without_candidate_pacing(&mut self) {
        if let Some(attempt) = &mut self.session.attempt {
            attempt.local.forget_sent();
        }
    }

    /// The session alone.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// The moment that every normal form of this configuration takes for now.
    pub fn now(&self) -> Timestamp {
        self.session.now
    }

    /// The new name of a command; `None` when its completion would change nothing any more.
    pub fn ticket(&self, ticket: Ticket) -> Option<Ticket> {
        renamed(&self.tickets, ticket)
    }

    /// The new name of a link; `None` when the session takes nothing from it any more.
    pub fn link(&self, link: LinkId) -> Option<LinkId> {
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
    /// The normal form of this session, for checkers: moments relative to now, commands, links,
    /// peer connections and attempts renamed, and all that is only told left out.
    ///
    /// What its outputs say of times, names, counts and evidence differs; what it does does not.
    /// Outputs that were not drained stay as they are.
    #[must_use]
    pub fn normalised(&self) -> Normalised {
        self.clone().into_normalised()
    }

    /// [`Session::normalised`] of a session that is not needed any more.
    #[must_use]
    pub fn into_normalised(mut self) -> Normalised {
        let clock = Clock { from: self.now, to: Timestamp::new(horizon(&self.config)) };
        let ends = self.closing.is_some();
        let sent = self.attempt.as_ref().and_then(|attempt| attempt.exchange.sent);
        self.now = clock.to;
        self.timers.map(|at| clock.at(at));
        self.opened = clock.to;
        let frozen = self.frozen;
        let moved = |at| if frozen { clock.at(at) } else { clock.to };
        self.offline_since = self.offline_since.map(moved);
        self.offline_until = moved(self.offline_until);
        self.frozen_for = self.frozen_for.min(self.config.offline_limit);
        // What is only told.
        self.ignored = BTreeMap::new();
        self.reports = VecDeque::new();
        self.was_live = false;
        // What is counted up to a limit.
        self.answers_refused = self.answers_refused.min(2);
        self.quick_ends = self.quick_ends.min(super::links::QUICK_MAX);
        let refill = self.config.refill_after;
        self.budget.forget_loss(|lost| {
            (clock.from.saturating_since(lost) < refill).then(|| clock.past(lost, refill))
        });
        // It matters only between two attempts.
        let waits = matches!(self.phase, Phase::Closing | Phase::BackingOff);
        let until = self.throttled_until;
        let counts = waits && until > clock.from;
        self.throttled_until = if counts { clock.at(until) } else { Timestamp::ZERO };
        (self.offered_as, self.master.answers_repeated_id) = (None, None);
        let window = self.config.retry_window;
        self.budget.forget_before(|first| {
            window.map(|window| clock.past(first, window + Duration::from_millis(1)))
        });
        self.attempts = self.attempts.min(1);
        let mut tickets = self.in_flight.renumber(self.attempts, |at| clock.at(at));
        let (links, peer) = match &mut self.attempt {
            Some(attempt) => attempt.normalise(clock, &self.config, ends, &tickets),
            None => (Vec::new(), None),
        };
        self.links = u32::try_from(links.len()).unwrap_or(u32::MAX);
        self.peers = u32::from(peer.is_some());
        self.in_flight.map_purposes(|purpose| {
            if let Purpose::Connect(link) = purpose {
                Purpose::Connect(name_of(&links, link))
            } else if let Purpose::Leave(link) = purpose {
                Purpose::Leave(name_of(&links, link))
            } else {
                purpose
            }
        });
        if let Some(closing) = &mut self.closing {
            closing.forget_told();
        }
        let is_last =
            self.phase == Phase::Ended || self.closing.as_ref().is_some_and(Closing::is_last);
        if is_last {
            self.forget_policy();
        }
        let sent_still_counts =
            self.attempt.as_ref().is_some_and(|attempt| attempt.exchange.sent == Some(SENT));
        if let Some(sent) = sent.filter(|_| sent_still_counts) {
            tickets.push((sent, SENT));
        }
        Normalised { session: self, tickets, links, peer, is_last }
    }

    /// Whether the deadlines of the stages end the set-up, without another offer of the master, no
    /// later than its own deadline. No stage is entered twice without such an offer.
    fn ends_set_up_by_its_stages(&self) -> bool {
        let (establish, media) = (self.config.establish_timeout, self.config.first_media_timeout);
        let (stage, later_stages) = match self.phase {
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
        let offered = self.attempt.as_ref().is_some_and(|a| a.exchange.held_offer.is_some());
        let (set_up, stage) = (self.timers.at(Timer::SetUp), self.timers.at(stage));
        !offered && stage.zip(set_up).is_some_and(|(stage, whole)| stage + later_stages <= whole)
    }

    /// No further attempt: what decides about them does not matter.
    fn forget_policy(&mut self) {
        self.budget = Default::default();
        (self.master, self.throttled_until) = (Default::default(), Timestamp::ZERO);
        self.rng = Rng::new(0);
        (self.answers_refused, self.quick_ends) = (0, 0);
    }
}

impl Attempt {
    fn normalise(
        &mut self,
        clock: Clock,
        config: &Config,
        ends: bool,
        tickets: &[(Ticket, Ticket)],
    ) -> (Names<LinkId>, Option<(PeerId, PeerId)>) {
        let peer = (self.peer, PeerId(1));
        self.number = 1;
        self.started = clock.to;
        self.peer = peer.1;
        // It only decides what is reported.
        self.repeats_id = false;
        let told = core::mem::take(&mut self.evidence);
        let (mut old, fixed) =
            (BTreeSet::new(), matches!(config.link_reopen, RetryDelay::Fixed(_)));
        if ends {
            // Only the steps of closing follow, and every link is being closed.
            self.forget_all();
        } else {
            self.evidence = Evidence {
                ice_connected: told.ice_connected,
                connected: told.connected,
                was_live: told.was_live,
                answer_suspect: told.answer_suspect,
                ..Evidence::default()
            };
            old = self.links.known();
            self.exchange.number = self.exchange.number.min(EXCHANGES);
            self.normalise_exchange(clock, config, tickets);
            self.local.rebase(clock.from, |at| clock.at(at));
        }
        let names: Vec<_> = old.into_iter().zip((1..).map(LinkId)).collect();
        self.links.normalise(clock, &names, fixed);
        self.exchange.unsent_on = self.exchange.unsent_on.and_then(|link| renamed(&names, link));
        // It counts while a description waits for its connection, and each new one resets it.
        let waits = matches!(self.exchange.step, Step::LocalSet(_) | Step::AnswerSet(_));
        let failed_on = self.exchange.failed_on.filter(|_| waits);
        self.exchange.failed_on = failed_on.and_then(|link| renamed(&names, link));
        if let Some((link, _)) = &mut self.exchange.outgoing {
            *link = name_of(&names, *link);
        }
        self.local.rename_links(|link| name_of(&names, link));
        self.transit.rename_links(|link| name_of(&names, link));
        (names, Some(peer))
    }

    /// What was sent counts while it is being sent, while its answer is awaited, and as long as a
    /// STATUS_RESPONSE for it changes something.
    fn normalise_exchange(&mut self, clock: Clock, config: &Config, tickets: &[(Ticket, Ticket)]) {
        let exchange = &mut self.exchange;
        // It is only reported.
        exchange.offer_sent_at = None;
        let awaits = exchange.step == Step::AwaitingAnswer;
        // Only the end of an ICE restart that is not answered depends on it.
        let since = exchange.awaited_since.filter(|_| awaits && exchange.is_restarting());
        exchange.awaited_since = since.map(|since| clock.past(since, config.restart_timeout));
        let is_sending = exchange.sent.is_some_and(|sent| renamed(tickets, sent).is_some());
        let is_answer = matches!(exchange.outgoing, Some((_, Message::Answer(_))));
        if !is_sending && !awaits && (!is_answer || self.evidence.connected) {
            (exchange.sent, exchange.outgoing) = (None, None);
        }
        exchange.sent = exchange.sent.map(|sent| renamed(tickets, sent).unwrap_or(SENT));
    }

    fn forget_all(&mut self) {
        self.client_id = None;
        self.traits = None;
        self.servers = Servers::Awaited;
        self.servers_set = false;
        self.exchange = Exchange::default();
        self.remote_next = None;
        self.local = LocalCandidates::default();
        self.transit = InTransit::default();
        (self.refresh, self.address_gone) = (Refresh::default(), false);
        self.repeats_id = false;
        self.remote = RemoteCandidates::default();
        self.connectivity = crate::input::Connectivity::Checking;
        (self.video, self.audio, self.keyframe) = (false, false, false);
        (self.audio_flows, self.paused, self.master_here) = (false, false, false);
        self.links = super::links::Links::default();
    }
}

/// Moves moments so that "now" is always the same.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    from: Timestamp,
    pub(super) to: Timestamp,
}

impl Clock {
    pub(super) fn at(self, at: Timestamp) -> Timestamp {
        if at >= self.from {
            return self.to + at.saturating_since(self.from);
        }
        let ago = self.from.saturating_since(at);
        Timestamp::new(self.to.since_origin().saturating_sub(ago))
    }

    /// A moment that counts for this long only.
    pub(super) fn past(self, at: Timestamp, counts: Duration) -> Timestamp {
        let ago = self.from.saturating_since(at).min(counts);
        Timestamp::new(self.to.since_origin().saturating_sub(ago))
    }
}

/// How far back anything matters: "now" of a normal form, so that the past can be told.
fn horizon(config: &Config) -> Duration {
    let day = Duration::from_secs(86_400);
    config.retry_window.unwrap_or_default().saturating_add(config.offline_limit).saturating_add(day)
}

/// A link that was left long ago has no name; nothing tells two of those apart.
fn name_of(names: &[(LinkId, LinkId)], link: LinkId) -> LinkId {
    renamed(names, link).unwrap_or(LinkId(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::session::stage::{Stage, offer, one_retry};

    #[test]
    fn a_first_failure_is_forgotten_when_its_window_is_over_and_not_before() {
        let config = Settings::persistent().check().expect("valid");
        let window = config.retry_window.expect("it has one");
        let failed = |ago: Duration| {
            let then = Timestamp::from_millis(1000);
            let mut session = Session::new(config.clone(), 1, then);
            session.budget.spend(&config, then, false, &mut Rng::new(1)).expect("the first");
            session.now = then + ago;
            session.into_normalised().into_session()
        };
        let ms = Duration::from_millis(1);
        assert_ne!(failed(window - ms), failed(window));
        assert_ne!(failed(window), failed(window + ms), "no pause fits any more");
        assert_eq!(failed(window + ms), failed(window * 3));
    }

    /// What an attempt reached decides how it ends; the rest of the evidence is only told.
    #[test]
    fn what_was_reached_is_kept() {
        let config = Settings::one_retry().check().expect("valid");
        let mut session = Session::new(config, 1, Timestamp::ZERO);
        session.handle_input(Timestamp::ZERO, crate::Input::Open);
        let (ice_connected, connected, was_live, answer_suspect) = (true, true, true, true);
        let rest = Evidence::default();
        let reached = Evidence { ice_connected, connected, was_live, answer_suspect, ..rest };
        let told = Evidence { remote_candidates: 3, ..reached.clone() };
        session.attempt.as_mut().expect("open").evidence = told;
        let normal = session.into_normalised().into_session();
        assert_eq!(normal.attempt.expect("open").evidence, reached);
    }

    #[test]
    fn set_up_deadline_is_left_out_only_where_the_stages_end_before_it() {
        for (later, held_offer, is_left_out) in
            [(0, None, true), (1, None, false), (0, Some(offer(1)), false)]
        {
            let mut session = Stage::answered(one_retry()).session;
            let establish = session.timers.at(Timer::Establish).expect("armed");
            let stages_end = establish + session.config.first_media_timeout;
            session.timers.arm(Timer::SetUp, stages_end);
            session.timers.arm(Timer::Establish, establish + Duration::from_millis(later));
            session.attempt.as_mut().expect("open").exchange.held_offer = held_offer;
            let mut normal = session.into_normalised();
            normal.without_further_offers();
            let left_out = normal.into_session().timers.at(Timer::SetUp).is_none();
            assert_eq!(left_out, is_left_out, "{later} ms later");
        }
    }
}
