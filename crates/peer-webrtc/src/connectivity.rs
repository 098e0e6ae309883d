//! Merges the stack's ICE state and connection state into one connectivity state.

use negotiation_core::Connectivity;
use webrtc::peer_connection::{RTCIceConnectionState, RTCPeerConnectionState};

/// The states that the stack has reported so far.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    reported: Option<Connectivity>,
    ice_up: bool,
    dtls_up: bool,
}

impl Tracker {
    /// Takes a new ICE state. Returns the connectivity if it changed.
    pub(crate) fn ice(&mut self, state: RTCIceConnectionState) -> Option<Connectivity> {
        self.ice_up =
            matches!(state, RTCIceConnectionState::Connected | RTCIceConnectionState::Completed);
        match state {
            RTCIceConnectionState::Checking => self.tell(Connectivity::Checking),
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => {
                let up =
                    if self.dtls_up { Connectivity::Connected } else { Connectivity::IceConnected };
                self.tell(up)
            }
            RTCIceConnectionState::Disconnected => self.tell(Connectivity::Disconnected),
            RTCIceConnectionState::Failed => self.tell(Connectivity::IceFailed),
            // The stack reports this when this side closes the connection.
            RTCIceConnectionState::Unspecified
            | RTCIceConnectionState::New
            | RTCIceConnectionState::Closed
            | _ => None,
        }
    }

    /// Takes a new state of ICE and DTLS together. Returns the connectivity if it changed.
    pub(crate) fn connection(&mut self, state: RTCPeerConnectionState) -> Option<Connectivity> {
        match state {
            RTCPeerConnectionState::Connected => {
                self.dtls_up = true;
                self.tell(Connectivity::Connected)
            }
            RTCPeerConnectionState::Failed if self.ice_up => self.tell(Connectivity::DtlsFailed),
            // The other side closed: this task stops reading states once it closes the connection
            // itself.
            RTCPeerConnectionState::Closed => self.tell(Connectivity::ClosedByPeer),
            // The ICE state covers these.
            RTCPeerConnectionState::Unspecified
            | RTCPeerConnectionState::New
            | RTCPeerConnectionState::Connecting
            | RTCPeerConnectionState::Disconnected
            | RTCPeerConnectionState::Failed
            | _ => None,
        }
    }

    /// Takes the start of an ICE restart, after which the connection has to connect again.
    pub(crate) fn restarted(&mut self) -> Option<Connectivity> {
        self.tell(Connectivity::Checking)
    }

    /// Takes the master's close, which the stack does not report.
    pub(crate) fn closed_by_peer(&mut self) -> Option<Connectivity> {
        self.tell(Connectivity::ClosedByPeer)
    }

    /// Takes a DTLS handshake timeout. The stack reports no DTLS failure, not even for a
    /// certificate that does not match the answer's fingerprint.
    pub(crate) fn handshake_overdue(&mut self) -> Option<Connectivity> {
        if self.dtls_up { None } else { self.tell(Connectivity::DtlsFailed) }
    }

    /// Takes the unexpected end of the stack's task, which ends when DTLS or SCTP breaks.
    pub(crate) fn stopped(&mut self) -> Option<Connectivity> {
        let how = if self.ice_up && !self.dtls_up {
            Connectivity::DtlsFailed
        } else {
            Connectivity::IceFailed
        };
        self.tell(how)
    }

    fn tell(&mut self, now: Connectivity) -> Option<Connectivity> {
        if self.reported == Some(now) {
            return None;
        }
        self.reported = Some(now);
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RTCIceConnectionState as Ice;
    use RTCPeerConnectionState as Pc;

    #[test]
    fn connectivity_follows_ice_and_dtls_states() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.ice(Ice::Checking), Some(Connectivity::Checking));
        assert_eq!(tracker.connection(Pc::Connecting), None);
        assert_eq!(tracker.ice(Ice::Connected), Some(Connectivity::IceConnected));
        assert_eq!(tracker.ice(Ice::Completed), None);
        assert_eq!(tracker.connection(Pc::Connected), Some(Connectivity::Connected));
        assert_eq!(tracker.ice(Ice::Disconnected), Some(Connectivity::Disconnected));
        assert_eq!(tracker.connection(Pc::Disconnected), None);
        assert_eq!(tracker.ice(Ice::Connected), Some(Connectivity::Connected));
        assert_eq!(tracker.connection(Pc::Connected), None);
    }

    #[test]
    fn dtls_and_ice_failures_are_distinguished() {
        let mut tracker = Tracker::default();
        tracker.ice(Ice::Connected);
        assert_eq!(tracker.connection(Pc::Failed), Some(Connectivity::DtlsFailed));
        let mut tracker = Tracker::default();
        assert_eq!(tracker.connection(Pc::Failed), None);
        assert_eq!(tracker.ice(Ice::Failed), Some(Connectivity::IceFailed));
        let mut tracker = Tracker::default();
        tracker.ice(Ice::Connected);
        assert_eq!(tracker.stopped(), Some(Connectivity::DtlsFailed));
        let mut tracker = Tracker::default();
        tracker.ice(Ice::Connected);
        assert_eq!(tracker.handshake_overdue(), Some(Connectivity::DtlsFailed));
        let mut tracker = Tracker::default();
        tracker.connection(Pc::Connected);
        assert_eq!(tracker.handshake_overdue(), None);
    }
}
