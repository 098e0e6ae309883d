//! The client's end of a TCP connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::connections::OnConnection;
use crate::shared::Shared;

/// The client of a TCP connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    /// Its permit among the connections at a time, held until the socket ends.
    pub(crate) slot: Arc<OwnedSemaphorePermit>,
    /// Its number among the connections; dropping the last copy notes its end.
    pub(crate) connection: Arc<OpenConnection>,
}

/// The number of a connection; dropping it notes the connection's end.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tcp: u64,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.connections.note(self.tcp, OnConnection::Closed);
    }
}
