//! The signaling links of one attempt: the first, those that follow a lost one, and the overlap
//! of two when the service says GO_AWAY (contract, N20 and N21).

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::normal::Clock;
use super::state::Step;
use super::{Purpose, Session};
use crate::config::Mode;
use crate::error::{Failure, FailureCode, FailureKind, Ignored};
use crate::evidence::AttemptEnd;
use crate::output::{Event, Message, SignalingCommand};
use crate::phase::Phase;
use crate::ticket::Ticket;
use crate::time::{Timer, Timestamp};
use crate::types::{ClientId, LinkId};

/// A link that the service closes sooner than this was taken over by another viewer of its id.
const QUICK: Duration = Duration::from_secs(5);

/// So many quick ends in a row are a takeover (contract, 18).
pub(super) const QUICK_MAX: u32 = 3;

/// The links of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Links {
    /// Messages go out here.
    pub(super) open: Option<LinkId>,
    /// Being opened, beside or in place of the open one.
    pub(super) opening: Option<LinkId>,
    /// Another one is open in its place; it is left once what is on its way out is out.
    pub(super) replaced: Option<LinkId>,
    /// Left for a newer one: what they still say counts, and their end is expected.
    pub(super) leaving: BTreeSet<LinkId>,
    opened_at: Timestamp,
    /// Openings in a row that failed, or brought a link that ended within seconds.
    failures: u32,
    /// No link is opened any more.
    pub(super) given_up: bool,
    /// The ICE servers are to be fetched again, on the next link.
    refresh_wanted: bool,
}

impl Links {
    pub(super) fn opening(link: LinkId) -> Self {
        Self { opening: Some(link), ..Self::default() }
    }

    /// Every link that anything may still come from, in the order of their numbers.
    pub(super) fn known(&self) -> BTreeSet<LinkId> {
        self.all().chain(self.leaving.iter().copied()).collect()
    }

    /// Moments relative to now, links by their new names, failures as far as they count.
    pub(super) fn normalise(&mut self, clock: Clock, names: &[(LinkId, LinkId)], fixed: bool) {
        let name =
            |link: LinkId| names.iter().find(|(old, _)| *old == link).map_or(link, |(_, new)| *new);
        for link in [&mut self.open, &mut self.opening, &mut self.replaced] {
            *link = link.map(name);
        }
        self.leaving = core::mem::take(&mut self.leaving).into_iter().map(name).collect();
        self.opened_at = match self.open {
            Some(_) => clock.past(self.opened_at, QUICK),
            None => Timestamp::ZERO,
        };
        self.failures = if fixed { 0 } else { self.failures.min(20) };
    }

    /// Whether what comes in on this link is meant for the attempt.
    pub(super) fn speaks(&self, link: LinkId) -> bool {
        [self.open, self.replaced].contains(&Some(link)) || self.leaving.contains(&link)
    }

    /// Every link that is not being closed yet.
    pub(super) fn all(&self) -> impl Iterator<Item = LinkId> {
        [self.open, self.opening, self.replaced].into_iter().flatten()
    }
}

impl Session {
    pub(super) fn next_link(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    pub(super) fn connect(&mut self, link: LinkId, client_id: Option<ClientId>) {
        let attempt = self.attempts;
        let command = SignalingCommand::Connect { link, attempt, client_id };
        self.ask_signaling(Purpose::Connect(link), command);
    }

    pub(super) fn on_connected(&mut self, link: LinkId, client_id: ClientId) {
        let now = self.now;
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.links.opening != Some(link) {
            return;
        }
        let old = attempt.links.open.replace(link);
        attempt.links.opening = None;
        attempt.links.opened_at = now;
        if attempt.client_id.is_some() {
            attempt.evidence.link_down = None;
            // One that was replaced before and not left yet goes first (contract, N23).
            let earlier = old.and_then(|old| attempt.links.replaced.replace(old));
            let refresh = core::mem::take(&mut attempt.links.refresh_wanted);
            self.leave(earlier);
            self.tell(Event::LinkReopened);
            if refresh {
                self.on_reconnect_ice_server();
            }
            // The offer that was joined for may have gone to the link before.
            if self.phase == Phase::AwaitingOffer && self.timers.at(Timer::Join).is_none() {
                self.join();
            }
            return;
        }
        attempt.client_id = Some(client_id.clone());
        attempt.evidence.link_opened = true;
        let deadline = now + self.config.ice_servers_timeout;
        self.in_flight.hurry(deadline, |purpose| *purpose == Purpose::FetchIceServers);
        self.tell(Event::LinkOpened { client_id });
        match self.config.mode {
            Mode::Offerer => self.set_phase(Phase::Offering),
            Mode::Answerer => self.await_offer(),
        }
    }

    /// Opens another link at once in place of the open one, which is not used any more.
    pub(super) fn renew_link(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.links.given_up {
            return;
        }
        if let Some(old) = attempt.links.open.take() {
            let earlier = attempt.links.replaced.replace(old);
            self.leave(earlier);
        }
        self.reopen();
    }

    /// Leaves the link that was replaced, once nothing is being sent on it and the call for ICE
    /// servers, which a close would cancel, is done.
    pub(super) fn leave_replaced(&mut self) {
        // It is left when the other one is ready.
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.links.open.is_some())
        else {
            return;
        };
        let Some(old) = attempt.links.replaced else { return };
        let sends = |purpose: &Purpose| matches!(purpose, Purpose::SendOffer | Purpose::SendAnswer);
        let carries = attempt.exchange.outgoing.as_ref().is_some_and(|(link, _)| *link == old);
        let describes = carries && self.in_flight.purposes().any(sends);
        let fetches = self.in_flight.purposes().any(|p| *p == Purpose::FetchIceServers);
        if describes || fetches || attempt.transit.uses(old) {
            return;
        }
        attempt.links.replaced = None;
        self.leave(Some(old));
    }

    /// Leaves a link that another one has taken the place of.
    fn leave(&mut self, old: Option<LinkId>) {
        let (Some(attempt), Some(link)) = (&mut self.attempt, old) else { return };
        attempt.links.leaving.insert(link);
        self.ask_signaling(Purpose::Leave(link), SignalingCommand::Disconnect { link });
    }

    pub(super) fn on_left(&mut self, link: LinkId, failure: Option<Failure>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.links.leaving.remove(&link);
        }
        if let Some(failure) = failure.filter(|failure| failure.code != FailureCode::Cancelled) {
            self.tell(Event::CloseStepFailed(failure));
        }
    }

    /// A link could not be opened: the attempt's first ends it, a later one is tried again.
    pub(super) fn on_connect_failed(&mut self, link: LinkId, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.client_id.is_none() {
            return self.end_attempt(AttemptEnd::Connect(failure));
        }
        if attempt.links.opening != Some(link) {
            return;
        }
        // An offer that is not out waits for a connection and for nothing else, so it has no deadline
        // of its own: with none left the attempt is over (N12), unless it is answered already.
        let held_answer = attempt.exchange.held_answer.is_some();
        if self.phase == Phase::Offering && attempt.links.open.is_none() && !held_answer {
            return self.end_attempt(AttemptEnd::Connect(failure));
        }
        attempt.links.opening = None;
        attempt.links.failures = attempt.links.failures.saturating_add(1);
        attempt.evidence.link_down = attempt.links.open.is_none().then(|| failure.clone());
        // The port may not know that its deadline passed.
        if failure.code == FailureCode::TimedOut {
            self.leave(Some(link));
        }
        self.tell(Event::LinkNotReopened(failure.clone()));
        if failure.kind() == FailureKind::Permanent {
            if let Some(attempt) = &mut self.attempt
                && attempt.links.open.is_none()
            {
                // The old link serves as long as it lasts.
                attempt.links.open = attempt.links.replaced.take();
            }
            self.give_up_links(failure.clone());
            return self.on_description_undeliverable(failure);
        }
        // A service that refuses a second link gets the first one back before it is asked again.
        // Any other failure leaves the first one in use (contract, N21).
        if is_refusal(failure.code)
            && let Some(attempt) = &mut self.attempt
        {
            let (open, replaced) = (attempt.links.open.take(), attempt.links.replaced.take());
            self.leave(open);
            self.leave(replaced);
        }
        self.reopen_later();
        self.on_description_undeliverable(failure);
    }

    /// Fails a description that waited for the connection which could not be opened, when the only
    /// open connection is the one that failed to send it: each connection gets a description once,
    /// or a stalled one would get it again after each failed reopening, without end.
    fn on_description_undeliverable(&mut self, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        let exchange = &mut attempt.exchange;
        if exchange.failed_on.is_none() || exchange.failed_on != attempt.links.open {
            return;
        }
        match &exchange.step {
            Step::AnswerSet(_) => self.on_answering_failed(Purpose::SendAnswer, failure),
            Step::LocalSet(_) if exchange.number > 1 => self.on_offer_unsent(),
            Step::LocalSet(_) => self.end_attempt(AttemptEnd::Offer(failure)),
            Step::Stable
            | Step::RefreshingServers
            | Step::CreatingOffer
            | Step::Created(_)
            | Step::SettingServers(_)
            | Step::SettingLocal(_)
            | Step::Sending
            | Step::AwaitingAnswer
            | Step::ApplyingLocal(_)
            | Step::SettingRemote
            | Step::RollingBack
            | Step::SettingOffer
            | Step::CreatingAnswer
            | Step::SettingAnswer(_)
            | Step::SendingAnswer
            | Step::Replacing => {}
        }
    }

    fn give_up_links(&mut self, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        if core::mem::replace(&mut attempt.links.given_up, true) {
            return;
        }
        self.timers.disarm(Timer::LinkReopen);
        self.timers.disarm(Timer::GoAway);
        self.tell(Event::LinkGivenUp(failure));
    }

    fn reopen_later(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        if attempt.links.given_up {
            return;
        }
        let pause = self.config.link_reopen.pause(attempt.links.failures, &mut self.rng);
        let pause = pause.max(Duration::from_millis(1));
        self.timers.arm(Timer::LinkReopen, self.now + pause);
    }

    /// Opens a link under the attempt's id.
    pub(super) fn reopen(&mut self) {
        let busy = |links: &Links| links.opening.is_some() || links.given_up;
        if self.attempt.as_ref().is_none_or(|attempt| busy(&attempt.links)) {
            return;
        }
        let link = self.next_link();
        let Some(attempt) = &mut self.attempt else { return };
        attempt.links.opening = Some(link);
        self.timers.disarm(Timer::LinkReopen);
        self.timers.disarm(Timer::GoAway);
        let client_id = attempt.client_id.clone();
        self.connect(link, client_id);
    }

    /// The link ended by itself.
    pub(super) fn on_link_lost(&mut self, link: LinkId, failure: Failure) {
        let now = self.now;
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.links.leaving.remove(&link) {
            return;
        }
        if attempt.links.replaced == Some(link) {
            attempt.links.replaced = None;
            return;
        }
        attempt.links.open = None;
        attempt.evidence.link_down = Some(failure.clone());
        self.timers.disarm(Timer::GoAway);
        // The service ends the older of two links of one id, before it is left or after.
        let following = attempt.links.opening.is_some();
        let brief = now.saturating_since(attempt.links.opened_at) < QUICK;
        let quick = !following && failure.code == FailureCode::Closed && brief;
        // A link that ends as soon as it is open is opened again with a growing pause.
        let failures = attempt.links.failures.saturating_add(1);
        attempt.links.failures = if brief { failures } else { 0 };
        let held_answer = attempt.exchange.held_answer.is_some();
        self.quick_ends = if quick { self.quick_ends + 1 } else { 0 };
        let taken_over = self.quick_ends >= QUICK_MAX || failure.code == FailureCode::Replaced;
        match self.phase {
            Phase::Connecting | Phase::Offering | Phase::AwaitingAnswer | Phase::AwaitingOffer
                if !following && !held_answer =>
            {
                let failure = if taken_over { replaced() } else { failure };
                self.end_attempt(AttemptEnd::LinkLost(failure));
            }
            // A link that follows a GO_AWAY is on its way, and the master answers the id.
            Phase::Connecting | Phase::AwaitingAnswer | Phase::AwaitingOffer => {}
            Phase::Offering if following => {}
            // Media is independent of signaling: it is left alone, and a new link opened. So is an
            // offer that is answered: it was sent, whatever its sending says in the end.
            Phase::Offering
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering => {
                if following {
                    return;
                }
                let permanent = failure.kind() == FailureKind::Permanent;
                self.tell(Event::LinkLost(failure.clone()));
                if taken_over {
                    self.give_up_links(replaced());
                } else if permanent {
                    self.give_up_links(failure);
                } else {
                    self.reopen_later();
                }
            }
            Phase::Idle | Phase::Closing | Phase::BackingOff | Phase::Ended => {}
        }
    }

    /// The service ends this link within a minute: another is opened before it is left.
    pub(super) fn on_go_away(&mut self, link: LinkId) {
        let Some(attempt) = &self.attempt else { return };
        if attempt.links.open != Some(link)
            || attempt.links.opening.is_some()
            || self.timers.at(Timer::GoAway).is_some()
        {
            return self.ignore(Ignored::Duplicate);
        }
        let stable = attempt.exchange.step == Step::Stable;
        self.tell(Event::GoAway);
        let spread = match self.phase {
            // So that a thousand viewers do not come back in the same second.
            Phase::Live | Phase::AwaitingMedia if stable => {
                self.rng.up_to(self.config.go_away_spread)
            }
            Phase::Idle
            | Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering
            | Phase::Closing
            | Phase::BackingOff
            | Phase::Ended => Duration::ZERO,
        };
        if spread.is_zero() {
            self.reopen()
        } else {
            self.timers.arm(Timer::GoAway, self.now + spread)
        }
    }

    /// Fresh ICE servers, for the next exchange.
    pub(super) fn on_reconnect_ice_server(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(link) = attempt.links.open else {
            attempt.links.refresh_wanted = true;
            return;
        };
        if self.in_flight.purposes().any(|p| matches!(p, Purpose::FetchIceServers)) {
            return self.ignore(Ignored::Duplicate);
        }
        self.ask_signaling(Purpose::FetchIceServers, SignalingCommand::FetchIceServers { link });
        let deadline = self.now + self.config.ice_servers_timeout;
        self.in_flight.hurry(deadline, |purpose| *purpose == Purpose::FetchIceServers);
    }

    /// The service could not handle a message of this viewer.
    pub(super) fn on_status(&mut self, ticket: Option<Ticket>, failure: Failure) {
        let Some(attempt) = &mut self.attempt else { return };
        attempt.evidence.service_error = Some(failure.clone());
        let unanswered = matches!(attempt.exchange.step, Step::Sending | Step::AwaitingAnswer)
            && attempt.exchange.held_answer.is_none();
        let is_offer = matches!(attempt.exchange.outgoing, Some((_, Message::Offer(_))));
        // Once it is answered, what the service says of an offer is history.
        if ticket.is_none() || ticket != attempt.exchange.sent || (is_offer && !unanswered) {
            return self.ignore(Ignored::Status);
        }
        match self.phase {
            Phase::Offering | Phase::AwaitingAnswer | Phase::Answering | Phase::Establishing
                if !attempt.evidence.connected =>
            {
                attempt.evidence.offer_sent = false;
                self.end_attempt(AttemptEnd::Offer(failure));
            }
            Phase::Live | Phase::Recovering if attempt.exchange.step == Step::AwaitingAnswer => {
                self.on_offer_unsent();
            }
            Phase::Idle
            | Phase::Connecting
            | Phase::Offering
            | Phase::AwaitingAnswer
            | Phase::AwaitingOffer
            | Phase::Answering
            | Phase::Establishing
            | Phase::AwaitingMedia
            | Phase::Live
            | Phase::Recovering
            | Phase::Closing
            | Phase::BackingOff
            | Phase::Ended => self.ignore(Ignored::Status),
        }
    }
}

/// Whether the service itself refuses the link, rather than that it could not be reached.
fn is_refusal(code: FailureCode) -> bool {
    use FailureCode as Code;
    matches!(code, Code::Service | Code::Throttled | Code::ViewerLimit)
}

fn replaced() -> Failure {
    Failure::new(FailureCode::Replaced, "another viewer keeps connecting with the same client id")
}

#[cfg(test)]
mod tests;
