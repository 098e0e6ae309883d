//! [`Connections`]: the signaling connections of one attempt: the first, those that follow a lost
//! one, and the overlap of two when the service sends GO_AWAY (contract, N20 and N21).

use alloc::collections::BTreeSet;
use core::ops::ControlFlow;
use core::time::Duration;

use crate::context::{Context, Flow, ON, over};
use crate::error::{Failure, FailureCode, FailureKind, Ignored};
use crate::evidence::AttemptEnd;
use crate::output::{Event, SignalingCommand};
use crate::policy::{QUICK, QUICK_MAX};
use crate::purpose::Purpose;
use crate::time::{Timer, Timestamp};
use crate::types::{ClientId, ConnectionId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Connections {
    /// The attempt's id, once the first connection is open.
    pub(crate) client_id: Option<ClientId>,
    /// Messages are sent here.
    pub(crate) open: Option<ConnectionId>,
    /// Being opened, beside or in place of the open one.
    pub(crate) opening: Option<ConnectionId>,
    /// Another one is open in its place; it is closed once what is being sent on it is sent.
    pub(crate) replaced: Option<ConnectionId>,
    /// Being closed for a newer one: messages on them still count, and their end is expected.
    pub(crate) leaving: BTreeSet<ConnectionId>,
    pub(crate) opened_at: Timestamp,
    /// Openings in a row that failed, or gave a connection that ended within seconds.
    pub(crate) failures: u32,
    /// None is opened any more.
    pub(crate) given_up: bool,
    /// The ICE servers are to be fetched again, on the next connection.
    pub(crate) refresh_wanted: bool,
    /// A GO_AWAY is followed by another connection in a while.
    pub(crate) go_away: bool,
}

/// What an opened connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Not the one that is awaited.
    Stale,
    /// The attempt's first.
    First,
    /// A later one; the ICE servers may have to be fetched on it.
    Later { refresh: bool },
}

impl Connections {
    /// Opens the attempt's first connection.
    pub(crate) fn open_first(cx: &mut Context) -> (Self, ConnectionId) {
        let link = cx.next_connection();
        let first = Self { opening: Some(link), ..Self::default() };
        (first, link)
    }

    /// Requests that the port opens this connection.
    pub(crate) fn connect(&self, cx: &mut Context, link: ConnectionId) {
        let (attempt, client_id) = (cx.attempt, self.client_id.clone());
        let command = SignalingCommand::Connect { link, attempt, client_id };
        cx.ask_signaling(Purpose::Connect(link), command);
    }

    /// Whether messages on this connection are meant for the attempt.
    pub(crate) fn speaks(&self, link: ConnectionId) -> bool {
        [self.open, self.replaced].contains(&Some(link)) || self.leaving.contains(&link)
    }

    /// Every connection that is not being closed yet.
    pub(crate) fn all(&self) -> impl Iterator<Item = ConnectionId> {
        [self.open, self.opening, self.replaced].into_iter().flatten()
    }

    /// Whether another connection is open or being opened.
    pub(crate) fn has_other_than(&self, link: ConnectionId) -> bool {
        self.open.is_some_and(|open| open != link) || self.opening.is_some()
    }

    /// No connection that an offer could be sent on, and none will be opened.
    pub(crate) fn is_mute(&self) -> bool {
        self.given_up && self.open.is_none()
    }

    pub(crate) fn on_connected(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        client_id: ClientId,
    ) -> Opened {
        if self.opening != Some(link) {
            return Opened::Stale;
        }
        let old = self.open.replace(link);
        self.opening = None;
        self.opened_at = cx.now;
        if self.client_id.is_some() {
            cx.evidence.link_down = None;
            // One that was replaced before and is not closed yet goes first (contract, N23).
            let earlier = old.and_then(|old| self.replaced.replace(old));
            let refresh = core::mem::take(&mut self.refresh_wanted);
            self.leave(cx, earlier);
            cx.tell(Event::LinkReopened);
            return Opened::Later { refresh };
        }
        self.client_id = Some(client_id.clone());
        cx.evidence.link_opened = true;
        self.shorten_fetch(cx, cx.config.settings().ice_servers_timeout);
        cx.tell(Event::LinkOpened { client_id });
        Opened::First
    }

    /// A connection could not be opened: the attempt's first ends it, and so does one that an
    /// offer waits for, which has no deadline of its own (N12); a later one is tried again. Returns
    /// whether it was awaited.
    pub(crate) fn on_connect_failed(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        failure: Failure,
        offer_waits: bool,
    ) -> Flow<bool> {
        if self.client_id.is_none() {
            return over(AttemptEnd::Connect(failure));
        }
        if self.opening != Some(link) {
            return ControlFlow::Continue(false);
        }
        if offer_waits && self.open.is_none() {
            return over(AttemptEnd::Connect(failure));
        }
        self.opening = None;
        self.failures = self.failures.saturating_add(1);
        cx.evidence.link_down = self.open.is_none().then(|| failure.clone());
        // The port may not know that its deadline passed.
        if failure.code == FailureCode::TimedOut {
            self.leave(cx, Some(link));
        }
        cx.tell(Event::LinkNotReopened(failure.clone()));
        if failure.kind() == FailureKind::Permanent {
            if self.open.is_none() {
                // The old connection serves as long as it lasts.
                self.open = self.replaced.take();
            }
            self.give_up(cx, failure);
            return ControlFlow::Continue(true);
        }
        // A service that refuses a second connection gets the first one back before the next
        // request. Any other failure leaves the first one in use (contract, N21).
        if is_refusal(failure.code) {
            let (open, replaced) = (self.open.take(), self.replaced.take());
            self.leave(cx, open);
            self.leave(cx, replaced);
        }
        self.reopen_later(cx);
        ControlFlow::Continue(true)
    }

    /// A connection ended by itself. Where `unanswered` nothing can come of the attempt without it;
    /// otherwise media is independent of signaling: it goes on, and another connection is opened.
    pub(crate) fn on_lost(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        failure: Failure,
        unanswered: bool,
    ) -> Flow {
        if self.leaving.remove(&link) {
            return ON;
        }
        if self.replaced == Some(link) {
            self.replaced = None;
            return ON;
        }
        self.open = None;
        cx.evidence.link_down = Some(failure.clone());
        self.stop_going_away(cx);
        // The service ends the older of two connections of one id, before it is closed or after.
        let following = self.opening.is_some();
        let brief = cx.now.saturating_since(self.opened_at) < QUICK;
        let quick = !following && failure.code == FailureCode::Closed && brief;
        // One that ends as soon as it is open is opened again with a growing pause.
        self.failures = if brief { self.failures.saturating_add(1) } else { 0 };
        cx.policy.quick_ends = if quick { cx.policy.quick_ends + 1 } else { 0 };
        let taken_over = cx.policy.quick_ends >= QUICK_MAX || failure.code == FailureCode::Replaced;
        if following {
            return ON;
        }
        if unanswered {
            return over(AttemptEnd::LinkLost(if taken_over { replaced() } else { failure }));
        }
        cx.tell(Event::LinkLost(failure.clone()));
        if taken_over {
            self.give_up(cx, replaced());
        } else if failure.kind() == FailureKind::Permanent {
            self.give_up(cx, failure);
        } else {
            self.reopen_later(cx);
        }
        ON
    }

    /// The service ends this connection within a minute: another is opened before it is closed; a
    /// little later where nothing is disturbed by that, so that a thousand viewers do not come back
    /// in the same second.
    pub(crate) fn on_go_away(&mut self, cx: &mut Context, link: ConnectionId, may_wait: bool) {
        if self.open != Some(link) || self.opening.is_some() || self.go_away {
            return cx.ignore(Ignored::Duplicate);
        }
        cx.tell(Event::GoAway);
        let spread = if may_wait {
            cx.policy.rng.up_to(cx.config.settings().go_away_spread)
        } else {
            Duration::ZERO
        };
        if spread.is_zero() {
            self.reopen(cx);
        } else {
            self.go_away = true;
            cx.wake_after(Timer::GoAway, spread);
        }
    }

    /// A pause before another connection is over.
    pub(crate) fn on_pause_over(&mut self, cx: &mut Context, timer: Timer) {
        self.go_away &= timer != Timer::GoAway;
        self.reopen(cx);
    }

    /// Opens a connection with the attempt's id.
    fn reopen(&mut self, cx: &mut Context) {
        if self.opening.is_some() || self.given_up {
            return;
        }
        let link = cx.next_connection();
        self.opening = Some(link);
        self.stop_reopening(cx);
        self.connect(cx, link);
    }

    fn reopen_later(&self, cx: &mut Context) {
        if !self.given_up {
            let pause = cx.policy.reopen_pause(&cx.config, self.failures);
            cx.wake_after(Timer::LinkReopen, pause);
        }
    }

    fn stop_reopening(&mut self, cx: &mut Context) {
        cx.disarm(Timer::LinkReopen);
        self.stop_going_away(cx);
    }

    fn stop_going_away(&mut self, cx: &mut Context) {
        self.go_away = false;
        cx.disarm(Timer::GoAway);
    }

    fn give_up(&mut self, cx: &mut Context, failure: Failure) {
        if !core::mem::replace(&mut self.given_up, true) {
            self.stop_reopening(cx);
            cx.tell(Event::LinkGivenUp(failure));
        }
    }

    /// Opens another connection at once in place of the open one, which is not used any more.
    pub(crate) fn renew(&mut self, cx: &mut Context) {
        if self.given_up {
            return;
        }
        if let Some(old) = self.open.take() {
            let earlier = self.replaced.replace(old);
            self.leave(cx, earlier);
        }
        self.reopen(cx);
    }

    /// The connection that was replaced and can be closed when nothing is being sent on it: the
    /// other one is ready, and no call for ICE servers is under way, which a close would cancel.
    pub(crate) fn to_leave(&self, cx: &Context) -> Option<ConnectionId> {
        let fetches = cx.is_in_flight(Purpose::FetchIceServers);
        self.replaced.filter(|_| self.open.is_some() && !fetches)
    }

    pub(crate) fn leave_replaced(&mut self, cx: &mut Context) {
        let replaced = self.replaced.take();
        self.leave(cx, replaced);
    }

    fn leave(&mut self, cx: &mut Context, link: Option<ConnectionId>) {
        if let Some(link) = link {
            self.leaving.insert(link);
            cx.ask_signaling(Purpose::Leave(link), SignalingCommand::Disconnect { link });
        }
    }

    pub(crate) fn on_left(
        &mut self,
        cx: &mut Context,
        link: ConnectionId,
        failure: Option<Failure>,
    ) {
        self.leaving.remove(&link);
        if let Some(failure) = failure.filter(|failure| failure.code != FailureCode::Cancelled) {
            cx.tell(Event::CloseStepFailed(failure));
        }
    }

    /// Requests ICE servers on the open connection, once, within the deadline of the call.
    pub(crate) fn fetch_ice_servers(&self, cx: &mut Context) {
        let Some(link) = self.open else { return };
        if !cx.is_in_flight(Purpose::FetchIceServers) {
            cx.ask_signaling(Purpose::FetchIceServers, SignalingCommand::FetchIceServers { link });
        }
        self.shorten_fetch(cx, cx.config.settings().ice_servers_timeout);
    }

    pub(crate) fn shorten_fetch(&self, cx: &mut Context, within: Duration) {
        let deadline = cx.now + within;
        cx.in_flight.shorten(deadline, |purpose| *purpose == Purpose::FetchIceServers);
    }

    /// The service requests that the ICE servers are fetched again, for the next exchange.
    pub(crate) fn on_reconnect_ice_server(&mut self, cx: &mut Context) {
        if self.open.is_none() {
            self.refresh_wanted = true;
        } else if cx.is_in_flight(Purpose::FetchIceServers) {
            cx.ignore(Ignored::Duplicate);
        } else {
            self.fetch_ice_servers(cx);
        }
    }
}

/// Whether the service itself refuses the connection, rather than that it could not be reached.
fn is_refusal(code: FailureCode) -> bool {
    use FailureCode as Code;
    matches!(code, Code::Service | Code::Throttled | Code::ViewerLimit)
}

fn replaced() -> Failure {
    Failure::new(FailureCode::Replaced, "another viewer keeps connecting with the same client id")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unsent_tests;
