//! The ports of a session: signaling, peer connection, clock, and the platform's network.
//!
//! A session needs the first three; the network is reported by a [`NetworkPort`], by the
//! application ([`crate::Control::network_changed`]), or not at all.
//!
//! # Contract of a port
//!
//! - `submit` returns at once and cannot fail: it queues. Everything, good or bad, comes back
//!   through `next`.
//! - Exactly one [`Completion`] per ticket, cancelled commands included.
//! - Commands are carried out in the order they came, except that
//!   - [`SignalingCommand::FetchIceServers`] runs beside an opening link,
//!   - a close ([`SignalingCommand::Disconnect`], [`PeerCommand::StopTransceivers`] and after)
//!     overtakes what is queued for that signaling or peer connection: queued commands complete with
//!     [`negotiation_core::FailureCode::Cancelled`], the running one is abandoned and completes
//!     so as well.
//! - Closing what is not there, or not any more, completes well.
//! - `next` is cancel-safe: dropping its future loses nothing. Without an input it stays
//!   pending.
//! - After the close of a signaling or peer connection completed, no event of it comes.
//! - Dropping the port closes what is open and frees everything.
//! - Queues are bounded, and what an adapter reports holds no secret.

use async_trait::async_trait;
use negotiation_core::{
    Completion, ConnectionId, MasterKnowledge, PeerCommand, PeerEvent, PeerId, SignalingCommand,
    SignalingEvent, Ticket, Timestamp,
};

/// Carries messages between this viewer and the master, and makes the requests to the service.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait SignalingPort: MaybeSend {
    /// Queues a command.
    fn submit(&mut self, ticket: Ticket, command: SignalingCommand);

    /// Waits for the next event or completion.
    async fn next(&mut self) -> SignalingInput;
}

/// Owns the peer connections.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait PeerPort: MaybeSend {
    /// Queues a command.
    fn submit(&mut self, ticket: Ticket, command: PeerCommand);

    /// Waits for the next event or completion.
    async fn next(&mut self) -> PeerInput;
}

/// Reads the time and waits.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait Clock: MaybeSend {
    /// Returns the current time. It never goes back, and should advance while the device sleeps.
    fn now(&self) -> Timestamp;

    /// Returns once `deadline` has passed. Cancel-safe.
    async fn sleep_until(&self, deadline: Timestamp);

    /// Returns when the device has slept, or the process was stopped, for so long that what was
    /// connected is gone; reported once for each sleep. A clock that cannot know stays pending, and
    /// the application reports it ([`crate::Control::resumed`]). Cancel-safe.
    async fn woke(&self) {
        std::future::pending().await
    }
}

/// Reports the platform's network.
///
/// It accepts no commands, so it has no `submit`; the rest of the contract holds for it as well.
#[cfg_attr(not(target_family = "wasm"), async_trait)]
#[cfg_attr(target_family = "wasm", async_trait(?Send))]
pub trait NetworkPort: MaybeSend {
    /// Waits for the next change. Changes that come together are reported as one.
    async fn next(&mut self) -> NetworkInput;
}

/// Stores what sessions learn about the master of one channel, for later sessions (contract, N19).
///
/// The memory is the process's: bounded, and for an hour at most.
pub trait MasterMemory: MaybeSend {
    /// Returns what is known.
    fn recall(&self) -> MasterKnowledge;

    /// Replaces what is known.
    fn remember(&mut self, known: MasterKnowledge);
}

/// A report of a network port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkInput {
    /// Another network is used: connections over the old one may be dead.
    Changed,
    /// Another network is used, and the local address of the selected candidate pair is gone.
    AddressGone,
    /// Whether there is a network.
    Online(bool),
}

/// An event or completion of a signaling port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalingInput {
    /// An event of a signaling connection.
    Event(ConnectionId, SignalingEvent),
    /// A command completed.
    Completed(Completion),
}

/// An event or completion of a peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerInput {
    /// An event of a peer connection.
    Event(PeerId, PeerEvent),
    /// A command completed.
    Completed(Completion),
}

/// `Send + Sync`, except on wasm where there is one thread.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send + Sync {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send + Sync + ?Sized> MaybeSend for T {}

/// `Send + Sync`, except on wasm where there is one thread.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T: ?Sized> MaybeSend for T {}
