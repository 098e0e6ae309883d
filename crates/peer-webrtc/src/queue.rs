//! The commands of one peer connection: first in, first out, except that a close overtakes the
//! others.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use negotiation_core::{PeerCommand, Ticket};
use tokio::sync::Notify;

/// The most waiting commands. A session has a handful; most of them are candidates.
const COMMANDS_MAX: usize = 512;

/// The queue that the port fills and the peer's task works through.
#[derive(Default)]
pub(crate) struct CommandQueue {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<(Ticket, PeerCommand)>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Open,
    /// A close was submitted.
    Closing,
    /// The port is gone: close without a report.
    Abandoned,
    /// Everything is closed.
    Closed,
}

/// The result of submitting a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Submitted {
    /// The command waits in the queue.
    Queued,
    /// The command is a close, which cancelled these commands.
    Overtook(Vec<Ticket>),
    /// The peer connection is closing or closed.
    TooLate,
    /// Too many commands are waiting.
    Full,
}

impl CommandQueue {
    pub(crate) fn submit(&self, ticket: Ticket, command: PeerCommand) -> Submitted {
        let mut inner = self.lock();
        let submitted = if command.is_close() {
            if inner.stage >= Stage::Abandoned {
                return Submitted::TooLate;
            }
            inner.stage = Stage::Closing;
            let (stay, overtaken): (VecDeque<_>, VecDeque<_>) =
                inner.waiting.drain(..).partition(|(_, command)| command.is_close());
            inner.waiting = stay;
            inner.waiting.push_back((ticket, command));
            Submitted::Overtook(overtaken.into_iter().map(|(ticket, _)| ticket).collect())
        } else if inner.stage > Stage::Open {
            return Submitted::TooLate;
        } else if inner.waiting.len() >= COMMANDS_MAX {
            return Submitted::Full;
        } else {
            inner.waiting.push_back((ticket, command));
            Submitted::Queued
        };
        drop(inner);
        self.changed.notify_one();
        submitted
    }

    pub(crate) fn pop(&self) -> Option<(Ticket, PeerCommand)> {
        self.lock().waiting.pop_front()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.lock().stage >= Stage::Closing
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.lock().stage == Stage::Abandoned
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().stage == Stage::Closed
    }

    /// Drops all waiting commands, because the port is gone.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        if inner.stage < Stage::Abandoned {
            inner.stage = Stage::Abandoned;
            inner.waiting.clear();
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Marks the connection as closed. Returns the closes that were submitted meanwhile.
    pub(crate) fn finish(&self) -> Vec<Ticket> {
        let mut inner = self.lock();
        inner.stage = Stage::Closed;
        inner.waiting.drain(..).map(|(ticket, _)| ticket).collect()
    }

    /// Returns when the queue may have changed. For one waiting task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use negotiation_core::PeerId;

    fn ticket(seq: u32) -> Ticket {
        Ticket { attempt: 1, seq }
    }

    #[test]
    fn close_cancels_waiting_commands() {
        let queue = CommandQueue::default();
        let peer = PeerId(1);
        assert_eq!(queue.submit(ticket(1), PeerCommand::Create { peer }), Submitted::Queued);
        assert_eq!(
            queue.submit(ticket(2), PeerCommand::CreateOffer { peer, restart: false }),
            Submitted::Queued
        );
        assert_eq!(
            queue.submit(ticket(3), PeerCommand::StopTransceivers { peer }),
            Submitted::Overtook(vec![ticket(1), ticket(2)])
        );
        assert_eq!(
            queue.submit(ticket(4), PeerCommand::Close { peer }),
            Submitted::Overtook(Vec::new())
        );
        assert_eq!(
            queue.submit(ticket(5), PeerCommand::CreateOffer { peer, restart: false }),
            Submitted::TooLate
        );
        assert_eq!(queue.pop().map(|(ticket, _)| ticket.seq), Some(3));
        assert_eq!(queue.finish(), [ticket(4)]);
        assert!(queue.is_closed());
        assert_eq!(queue.submit(ticket(6), PeerCommand::Close { peer }), Submitted::TooLate);
    }

    #[test]
    fn command_queue_refuses_commands_when_full() {
        let queue = CommandQueue::default();
        let peer = PeerId(1);
        for seq in 0..u32::try_from(COMMANDS_MAX).expect("small") {
            assert_eq!(
                queue.submit(ticket(seq), PeerCommand::CreateOffer { peer, restart: false }),
                Submitted::Queued
            );
        }
        assert_eq!(
            queue.submit(ticket(9999), PeerCommand::CreateOffer { peer, restart: false }),
            Submitted::Full
        );
    }
}
