//! The application's end of a session: its requests and its events.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use negotiation_core::{Event, Input, Outcome, Timestamp};
use tokio::sync::{Notify, mpsc, watch};

/// Most events that wait for a slow application; further ones are counted and dropped.
pub const EVENTS_MAX: usize = 1024;

/// The application's end of a session: its events. Dropping it closes the session.
///
/// Requests to the session go by its [`Control`], which any number of tasks may hold.
#[derive(Debug)]
pub struct Handle {
    control: Control,
    updates: mpsc::Receiver<SessionUpdate>,
    outcome: watch::Receiver<Option<(Timestamp, Outcome)>>,
    end_told: bool,
}

/// Requests to a session, from any task. Clones control the same session; dropping them changes
/// nothing. Requests after the session's end change nothing.
#[derive(Clone, Debug)]
pub struct Control {
    close: Arc<watch::Sender<bool>>,
    requests: Arc<PendingRequests>,
    /// The latest counts.
    online: Arc<watch::Sender<Option<bool>>>,
}

/// An event of a session, or the number of those that were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionUpdate {
    /// An event of the session.
    Event {
        /// The time on the session's clock.
        at: Timestamp,
        /// The event.
        event: Event,
    },
    /// The number of events that were dropped here because they were not read in time.
    Lagged(u64),
}

impl Control {
    /// Closes the session, in any phase. Closing twice is the same as once.
    pub fn close(&self) {
        self.close.send_replace(true);
    }

    /// The application changed its media: run another exchange. Many requests become one.
    pub fn renegotiate(&self) {
        self.requests.ask(Input::Renegotiate);
    }

    /// The device slept: what was connected is gone, begin again. Not for a clock that reports it
    /// ([`crate::Clock::woke`]): reported twice, it would also end the attempt that began.
    pub fn resumed(&self) {
        self.requests.ask(Input::Resumed);
    }

    /// The platform's network changed: sockets may be dead. Many changes become one recovery.
    pub fn network_changed(&self) {
        self.requests.ask(Input::NetworkChanged);
    }

    /// The platform's network changed, and the local address of the connection is gone: nothing
    /// gets through on it any more.
    pub fn local_address_gone(&self) {
        self.requests.ask(Input::LocalAddressGone);
    }

    /// Reports whether the platform has a network: without one, deadlines stand still for a while.
    pub fn online(&self, online: bool) {
        self.online.send_replace(Some(online));
    }

    /// Requests an ICE restart.
    pub fn restart(&self) {
        self.requests.ask(Input::Restart);
    }
}

impl Handle {
    /// Returns the control half: requests to the session from any task.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// As [`Control::close`].
    pub fn close(&self) {
        self.control.close();
    }

    /// Waits for the next event; `None` after [`Event::Ended`]. Cancel-safe.
    ///
    /// The end is reported even when earlier events were lost.
    pub async fn next_event(&mut self) -> Option<SessionUpdate> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// As [`Handle::next_event`], for a hand-written future or stream.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionUpdate>> {
        if self.end_told {
            return Poll::Ready(None);
        }
        if let Some(update) = ready!(self.updates.poll_recv(cx)) {
            return Poll::Ready(Some(update));
        }
        self.end_told = true;
        let ended = self.outcome.borrow().clone();
        Poll::Ready(ended.map(|(at, outcome)| {
            let event = Event::Ended(Box::new(outcome));
            SessionUpdate::Event { at, event }
        }))
    }

    /// Waits for the end. `None` when the driver was dropped before it.
    pub async fn outcome(&mut self) -> Option<Outcome> {
        let ended = self.outcome.wait_for(Option::is_some).await.ok()?;
        ended.as_ref().map(|(_, outcome)| outcome.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.control.close();
    }
}

/// Requests that were not taken yet: each kind once, so that none is lost for want of room.
#[derive(Debug, Default)]
struct PendingRequests {
    waiting: Mutex<VecDeque<Input>>,
    changed: Notify,
}

impl PendingRequests {
    fn ask(&self, request: Input) {
        let mut waiting = self.lock();
        if !waiting.contains(&request) {
            waiting.push_back(request);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for the next request; for one waiter. Cancel-safe.
    async fn next(&self) -> Input {
        loop {
            let request = self.lock().pop_front();
            match request {
                Some(request) => return request,
                None => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Input>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's end of the application's requests.
pub(crate) struct Commands {
    close: watch::Receiver<bool>,
    requests: Arc<PendingRequests>,
    online: watch::Receiver<Option<bool>>,
    closed: bool,
}

impl Commands {
    /// Waits for the next request; a close comes first, and once. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Input {
        if self.closed {
            return pending().await;
        }
        let close = &mut self.close;
        let online = async {
            match self.online.changed().await {
                Ok(()) => *self.online.borrow_and_update(),
                // The handle is gone, and with it this request; the close covers that.
                Err(_) => None,
            }
        };
        tokio::select! {
            biased;
            // An error means that the handle was dropped, which closes too.
            _ = close.wait_for(|close| *close) => {
                self.closed = true;
                Input::Close
            }
            Some(online) = online => Input::Online(online),
            request = self.requests.next() => request,
        }
    }
}

/// The driver's end of the application's events.
pub(crate) struct EventSink {
    updates: mpsc::Sender<SessionUpdate>,
    outcome: watch::Sender<Option<(Timestamp, Outcome)>>,
    lost: u64,
}

impl EventSink {
    pub(crate) fn send(&mut self, at: Timestamp, event: Event) {
        if self.lost > 0 && self.updates.capacity() > 1 {
            let sent = self.updates.try_send(SessionUpdate::Lagged(self.lost));
            self.lost = if sent.is_ok() { 0 } else { self.lost };
        }
        // The last place is kept for saying how many were lost.
        let room = self.updates.capacity() > 1;
        if self.lost > 0
            || !room
            || self.updates.try_send(SessionUpdate::Event { at, event }).is_err()
        {
            self.lost += 1;
        }
    }

    pub(crate) fn end(&self, at: Timestamp, outcome: &Outcome) {
        if self.lost > 0 && self.updates.try_send(SessionUpdate::Lagged(self.lost)).is_err() {
            tracing::warn!(lost = self.lost, "events lost: the application is gone");
        }
        self.outcome.send_replace(Some((at, outcome.clone())));
    }
}

pub(crate) fn handle() -> (Commands, EventSink, Handle) {
    let (close, close_seen) = watch::channel(false);
    let requests = Arc::<PendingRequests>::default();
    let (set_online, online) = watch::channel(None);
    let (sender, updates) = mpsc::channel(EVENTS_MAX + 1);
    let (end, outcome) = watch::channel(None);
    (
        Commands { close: close_seen, requests: Arc::clone(&requests), online, closed: false },
        EventSink { updates: sender, outcome: end, lost: 0 },
        Handle {
            control: Control { close: Arc::new(close), requests, online: Arc::new(set_online) },
            updates,
            outcome,
            end_told: false,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    // Shows: N25.
    #[tokio::test]
    async fn repeated_requests_lose_no_kind_of_request() {
        let (mut commands, _teller, handle) = handle();
        for _ in 0..100 {
            handle.control().renegotiate();
        }
        handle.control().resumed();
        handle.control().network_changed();
        handle.control().restart();
        handle.control().online(false);
        handle.control().resumed();
        let mut requested = Vec::new();
        for _ in 0..5 {
            requested.push(commands.next().await);
        }
        let rest = [Input::Renegotiate, Input::Resumed, Input::NetworkChanged, Input::Restart];
        assert_eq!(requested[0], Input::Online(false));
        assert_eq!(requested[1..], rest, "each once, in the order of their first");
        // A request that was taken can be made again, also while a task waits.
        let (next, ()) = tokio::join!(commands.next(), async { handle.control().resumed() });
        assert_eq!(next, Input::Resumed);
        drop(handle);
        assert_eq!(commands.next().await, Input::Close);
    }
}
