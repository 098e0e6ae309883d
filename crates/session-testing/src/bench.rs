//! A port under test: its commands, its events, and the promises that hold all the time.
//!
//! Every read gives up and begins again every few milliseconds, as the driver's `select!` does, so
//! a port whose `next` loses something when it is dropped fails everywhere.

use core::fmt::Debug;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use negotiation_core::{
    Completion, Done, Failure, FailureCode, PeerCommand, PeerEvent, SignalingCommand,
    SignalingEvent, Ticket,
};
use viewer_session::{Clock, PeerInput, PeerPort, SignalingInput, SignalingPort};

use crate::report::{Found, Trouble, require};

/// How long a suite waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What has to come comes within this time.
    pub patience: Duration,
    /// What has not come after this time does not come.
    pub quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { patience: Duration::from_secs(20), quiet: Duration::from_millis(150) }
    }
}

/// A read is dropped after this time, and another begins.
const READ: Duration = Duration::from_millis(3);

/// What every port does, whatever it is for.
pub(crate) trait Asked {
    type Command: Debug;
    type Event: Debug;

    fn ask(&mut self, ticket: Ticket, command: Self::Command);
    async fn hear(&mut self) -> Said<Self::Event>;
}

/// An output of a port: an event of a connection or peer of this number, or a completion.
#[derive(Debug)]
pub(crate) enum Said<E> {
    Event(u32, E),
    Completed(Completion),
}

/// A signaling port, seen as any port.
pub(crate) struct Links<P>(pub(crate) P);

impl<P: SignalingPort> Asked for Links<P> {
    type Command = SignalingCommand;
    type Event = SignalingEvent;

    fn ask(&mut self, ticket: Ticket, command: SignalingCommand) {
        self.0.submit(ticket, command);
    }

    async fn hear(&mut self) -> Said<SignalingEvent> {
        match self.0.next().await {
            SignalingInput::Event(link, event) => Said::Event(link.0, event),
            SignalingInput::Completed(completion) => Said::Completed(completion),
        }
    }
}

/// A peer port, seen as any port.
pub(crate) struct Peers<P>(pub(crate) P);

impl<P: PeerPort> Asked for Peers<P> {
    type Command = PeerCommand;
    type Event = PeerEvent;

    fn ask(&mut self, ticket: Ticket, command: PeerCommand) {
        self.0.submit(ticket, command);
    }

    async fn hear(&mut self) -> Said<PeerEvent> {
        match self.0.next().await {
            PeerInput::Event(peer, event) => Said::Event(peer.0, event),
            PeerInput::Completed(completion) => Said::Completed(completion),
        }
    }
}

/// How a command ended.
pub(crate) type Outcome = Result<Done, Failure>;

pub(crate) struct Bench<P: Asked> {
    port: P,
    clock: Arc<dyn Clock>,
    pace: Pace,
    secrets: Vec<String>,
    open: BTreeMap<Ticket, String>,
    done: BTreeMap<Ticket, Outcome>,
    /// In the order they came.
    pub(crate) completed: Vec<Ticket>,
    pub(crate) events: Vec<(u32, P::Event)>,
    seq: u32,
}

impl<P: Asked> Bench<P> {
    pub(crate) fn new(port: P, clock: Arc<dyn Clock>, pace: Pace, secrets: Vec<String>) -> Self {
        let (open, done) = (BTreeMap::new(), BTreeMap::new());
        let (completed, events) = (Vec::new(), Vec::new());
        Self { port, clock, pace, secrets, open, done, completed, events, seq: 0 }
    }

    pub(crate) fn submit(&mut self, command: P::Command) -> Ticket {
        self.seq += 1;
        let ticket = Ticket { attempt: 1, seq: self.seq };
        self.open.insert(ticket, format!("{command:?}"));
        self.port.ask(ticket, command);
        ticket
    }

    /// Reads one thing; false when nothing came in `limit`.
    pub(crate) async fn read(&mut self, limit: Duration) -> Found<bool> {
        let until = self.clock.now() + limit;
        loop {
            let slice = (self.clock.now() + READ).min(until);
            let printed = tokio::select! {
                biased;
                printed = self.port.hear() => printed,
                () = self.clock.sleep_until(slice) => {
                    if self.clock.now() >= until {
                        return Ok(false);
                    }
                    continue;
                }
            };
            self.note(printed)?;
            return Ok(true);
        }
    }

    fn note(&mut self, printed: Said<P::Event>) -> Found {
        let text = format!("{printed:?}");
        require(!self.secrets.iter().any(|secret| text.contains(secret)), || {
            "what the port reports holds a secret".into()
        })?;
        match printed {
            Said::Event(of, event) => self.events.push((of, event)),
            Said::Completed(Completion { ticket, outcome }) => {
                require(!self.done.contains_key(&ticket), || format!("{ticket} completed twice"))?;
                require(self.open.remove(&ticket).is_some(), || {
                    format!("{ticket} completed, and was never submitted")
                })?;
                self.completed.push(ticket);
                self.done.insert(ticket, outcome);
            }
        }
        Ok(())
    }

    /// Reads until the command is done.
    pub(crate) async fn outcome(&mut self, ticket: Ticket) -> Found<Outcome> {
        while !self.done.contains_key(&ticket) {
            if !self.read(self.pace.patience).await? {
                let what = self.open.get(&ticket).cloned().unwrap_or_default();
                return Err(Trouble::Broken(format!("{ticket} never completed: {what}")));
            }
        }
        Ok(self.done[&ticket].clone())
    }

    /// Submits and reads until it is done.
    pub(crate) async fn run(&mut self, command: P::Command) -> Found<Outcome> {
        let ticket = self.submit(command);
        self.outcome(ticket).await
    }

    /// The same for what must succeed.
    pub(crate) async fn well(&mut self, command: P::Command) -> Found<Done> {
        let what = format!("{command:?}");
        match self.run(command).await? {
            Ok(done) => Ok(done),
            Err(failure) => Err(Trouble::Broken(format!("{what} failed: {failure}"))),
        }
    }

    /// How a command ended that was read already.
    pub(crate) fn known(&self, ticket: Ticket) -> Option<&Outcome> {
        self.done.get(&ticket)
    }

    /// Every command was completed, and nothing more is reported.
    pub(crate) async fn settle(&mut self) -> Found {
        while !self.open.is_empty() {
            if !self.read(self.pace.patience).await? {
                let open = self.open.len();
                let first = self.open.first_key_value().map(|(t, what)| format!("{t}: {what}"));
                let first = first.unwrap_or_default();
                return Err(Trouble::Broken(format!("{open} commands never completed, {first}")));
            }
        }
        while self.read(self.pace.quiet).await? {}
        Ok(())
    }

    /// Reads until an output satisfies `wanted`.
    pub(crate) async fn event(
        &mut self,
        what: &str,
        wanted: impl Fn(&(u32, P::Event)) -> bool,
    ) -> Found {
        while !self.events.iter().any(&wanted) {
            if !self.read(self.pace.patience).await? {
                let received = self.events.len();
                return Err(Trouble::Broken(format!("{what} never came, of {received} events")));
            }
        }
        Ok(())
    }

    /// After a close completed: events of that connection or peer that still arrive.
    pub(crate) async fn silent_from_now(&mut self, of: u32) -> Found {
        let before = self.events.len();
        while self.read(self.pace.quiet).await? {}
        let late = self.events.iter().skip(before).find(|(number, _)| *number == of);
        require(late.is_none(), || format!("after the close came {late:?}"))
    }

    /// Drops the port.
    pub(crate) fn drop_port(self) {
        drop(self.port);
    }
}

/// Waits until `holds`; false when it never does.
pub(crate) async fn until(clock: &dyn Clock, limit: Duration, holds: impl Fn() -> bool) -> bool {
    let last = clock.now() + limit;
    while !holds() {
        if clock.now() >= last {
            return false;
        }
        clock.sleep_until(clock.now() + READ).await;
    }
    true
}

/// Waits for something that the stage brings.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Found<T> {
    tokio::select! {
        biased;
        value = future => Ok(value),
        () = clock.sleep_until(clock.now() + limit) => {
            Err(Trouble::Broken(format!("{what} did not happen")))
        }
    }
}

/// What a command that a close overtook ends with: cancelled, or what it had come to by then.
pub(crate) fn was_overtaken(outcome: &Outcome) -> bool {
    matches!(outcome, Err(failure) if failure.code == FailureCode::Cancelled)
}
