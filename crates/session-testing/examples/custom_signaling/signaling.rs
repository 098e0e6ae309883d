//! A signaling port of a few lines; `docs/ports.md` walks through it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc;
use viewer_session::core::{
    ClientId, Completion, ConnectionId, Done, Failure, FailureCode, SignalingCommand, Ticket,
};
use viewer_session::{SignalingInput, SignalingPort};

use crate::master::FromViewer;

/// Messages from the master that wait to be read.
const INBOX_MAX: usize = 64;

/// Reaches a master in this process.
pub(crate) struct InProcess {
    master: mpsc::Sender<FromViewer>,
    reply: mpsc::Sender<SignalingInput>,
    inbox: mpsc::Receiver<SignalingInput>,
    /// One completion for each command; the core has a bounded number of those in flight.
    completed: VecDeque<Completion>,
    /// One, or for a moment two: a new connection is there before the old one is left.
    open: BTreeSet<ConnectionId>,
    links: Links,
}

/// Counts the open connections, to show that none is left.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<AtomicUsize>);

impl Links {
    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl InProcess {
    /// A port to this master.
    pub(crate) fn new(master: mpsc::Sender<FromViewer>) -> Self {
        let (reply, inbox) = mpsc::channel(INBOX_MAX);
        let (completed, links) = (VecDeque::new(), Links::default());
        Self { master, reply, inbox, completed, open: BTreeSet::new(), links }
    }

    /// The count of open connections.
    pub(crate) fn links(&self) -> Links {
        self.links.clone()
    }

    /// What a command brings. Nothing here takes time, so commands never queue behind each other.
    fn carry_out(&mut self, command: SignalingCommand) -> Result<Done, Failure> {
        match command {
            SignalingCommand::Connect { link, attempt, client_id } => {
                // A further connection of an attempt has the id that the attempt has.
                let id = match client_id {
                    Some(id) => id,
                    None => ClientId::new(&format!("viewer-{attempt}")).map_err(|error| {
                        Failure::new(FailureCode::InvalidClientId, error.to_string())
                    })?,
                };
                self.open.insert(link);
                self.links.0.fetch_add(1, Ordering::Relaxed);
                Ok(Done::Connected(id))
            }
            SignalingCommand::Join { link } if self.open.contains(&link) => Ok(Done::Ok),
            SignalingCommand::Join { .. } => {
                Err(Failure::new(FailureCode::NotOpen, "no such link"))
            }
            // Nothing to relay through, which is no failure.
            SignalingCommand::FetchIceServers { .. } => Ok(Done::IceServers(Vec::new())),
            SignalingCommand::Send { link, message } => {
                if !self.open.contains(&link) {
                    return Err(Failure::new(FailureCode::NotOpen, "no such link"));
                }
                let message = FromViewer { link, message, reply: self.reply.clone() };
                self.master.try_send(message).map(|()| Done::Ok).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => {
                        Failure::new(FailureCode::Throttled, "the master does not keep up")
                    }
                    mpsc::error::TrySendError::Closed(_) => {
                        Failure::new(FailureCode::Closed, "the master is gone")
                    }
                })
            }
            // Closing what is not open completes well.
            SignalingCommand::Disconnect { link } => {
                if self.open.remove(&link) {
                    self.links.0.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(Done::Ok)
            }
        }
    }
}

impl Drop for InProcess {
    /// What is open is closed with the port.
    fn drop(&mut self) {
        self.links.0.fetch_sub(self.open.len(), Ordering::Relaxed);
    }
}

#[async_trait]
impl SignalingPort for InProcess {
    fn submit(&mut self, ticket: Ticket, command: SignalingCommand) {
        let outcome = self.carry_out(command);
        self.completed.push_back(Completion { ticket, outcome });
    }

    async fn next(&mut self) -> SignalingInput {
        if let Some(completion) = self.completed.pop_front() {
            return SignalingInput::Completed(completion);
        }
        loop {
            match self.inbox.recv().await {
                // After a connection's close completed, no event of it comes.
                Some(SignalingInput::Event(link, event)) if self.open.contains(&link) => {
                    return SignalingInput::Event(link, event);
                }
                Some(SignalingInput::Event(..) | SignalingInput::Completed(_)) => {}
                // Without an input it does not return: it stays pending.
                None => std::future::pending().await,
            }
        }
    }
}
