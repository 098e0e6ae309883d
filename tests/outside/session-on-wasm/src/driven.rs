//! Runs the driver and its ports in one thread, where ports need not be `Send`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::pending;
use std::rc::Rc;

use async_trait::async_trait;
use viewer_session::core::{
    Completion, EndReason, PeerCommand, Settings, SignalingCommand, Ticket, Timestamp,
};
use viewer_session::{Clock, PeerInput, PeerPort, SignalingInput, SignalingPort, session};

use crate::by_hand;

/// Runs the session of [`by_hand::run`] through the driver.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let config = Settings::one_retry().check().expect("a preset is valid");
    let clock = LeapingClock::default();
    let (driver, handle) = session(config, 7, Service::default(), Peer::default(), clock);
    let outcome = runtime.block_on(driver.run());
    assert_eq!(outcome.reason, EndReason::NoAnswer);
    assert_eq!(outcome.attempts_total, 2);
    drop(handle);
}

/// A clock that jumps to a deadline when a task waits for it. It is not `Send`.
#[derive(Clone, Default)]
struct LeapingClock(Rc<Cell<Timestamp>>);

#[async_trait(?Send)]
impl Clock for LeapingClock {
    fn now(&self) -> Timestamp {
        self.0.get()
    }

    async fn sleep_until(&self, deadline: Timestamp) {
        // The driver polls the ports before the time changes.
        tokio::task::yield_now().await;
        self.0.set(deadline);
    }
}

#[derive(Default)]
struct Service(VecDeque<SignalingInput>);

#[async_trait(?Send)]
impl SignalingPort for Service {
    fn submit(&mut self, ticket: Ticket, command: SignalingCommand) {
        let outcome = by_hand::signaling(&command);
        self.0.push_back(SignalingInput::Completed(Completion { ticket, outcome }));
    }

    async fn next(&mut self) -> SignalingInput {
        match self.0.pop_front() {
            Some(input) => input,
            None => pending().await,
        }
    }
}

#[derive(Default)]
struct Peer(VecDeque<PeerInput>);

#[async_trait(?Send)]
impl PeerPort for Peer {
    fn submit(&mut self, ticket: Ticket, command: PeerCommand) {
        let outcome = by_hand::peer(&command);
        self.0.push_back(PeerInput::Completed(Completion { ticket, outcome }));
    }

    async fn next(&mut self) -> PeerInput {
        match self.0.pop_front() {
            Some(input) => input,
            None => pending().await,
        }
    }
}
