//! [`IceServers`]: STUN and TURN servers, fetched at the start and again where credentials may have
//! ended.

use alloc::vec::Vec;

use crate::context::Context;
use crate::output::PeerCommand;
use crate::purpose::Purpose;
use crate::types::{IceServer, PeerId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct IceServers {
    /// `None` until they are fetched; they may be none.
    pub(crate) known: Option<Vec<IceServer>>,
    /// The peer connection has them.
    pub(crate) set: bool,
    pub(crate) refresh: Refresh,
}

/// Fresh ICE servers for an offer of the master: TURN credentials end within minutes (contract,
/// N21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Refresh {
    /// They are here, or none can be had.
    #[default]
    Done,
    /// An offer came that may need them.
    Needed,
    /// They are being fetched.
    Requested,
}

impl IceServers {
    /// An offer came: TURN credentials that are fresh may be needed for it.
    pub(crate) fn on_offer(&mut self) {
        if self.refresh == Refresh::Done {
            self.refresh = Refresh::Needed;
        }
    }

    /// The master's offer needs TURN credentials that are fresh. Returns whether they are to be
    /// fetched now: those of the attempt's start may be on their way, or no connection be open.
    pub(crate) fn refresh_for_offer(&mut self, is_open: bool) -> bool {
        let possible = is_open && self.known.is_some();
        self.refresh = if possible { Refresh::Requested } else { Refresh::Done };
        possible
    }

    /// Gives the servers to the peer connection, if it has not got them. Returns whether it did.
    pub(crate) fn set_on(&mut self, cx: &mut Context, peer: PeerId) -> bool {
        let Some(servers) = self.known.as_ref().filter(|servers| !servers.is_empty()) else {
            return false;
        };
        if self.set {
            return false;
        }
        let servers = servers.clone();
        self.set = true;
        cx.ask_peer(Purpose::SetIceServers, PeerCommand::SetIceServers { peer, servers });
        true
    }
}
