//! One line of connectivity out of the stack's two.

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
    /// ICE changed. Returns what is new.
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
            // Closed by this side, when it is closed.
            RTCIceConnectionState::Unspecified
            | RTCIceConnectionState::New
            | RTCIceConnectionState::Closed
            | _ => None,
        }
    }

    /// ICE and DTLS together changed.
    pub(crate) fn connection(&mut self, state: RTCPeerConnectionState) -> Option<Connectivity> {
        match state {
            RTCPeerConnectionState::Connected => {
                self.dtls_up = true;
                self.tell(Connectivity::Connected)
            }
            RTCPeerConnectionState::Failed if self.ice_up => self.tell(Connectivity::DtlsFailed),
            // It was not closed here: the caller stops once it closes it.
            RTCPeerConnectionState::Closed => self.tell(Connectivity::ClosedByPeer),
            // ICE reports the rest.
            RTCPeerConnectionState::Unspecified
            | RTCPeerConnectionState::New
            | RTCPeerConnectionState::Connecting
            | RTCPeerConnectionState::Disconnected
            | RTCPeerConnectionState::Failed
            | _ => None,
        }
    }

    /// A restart was set: what was up has to come up again.
    pub(crate) fn restarted(&mut self) -> Option<Connectivity> {
        self.tell(Connectivity::Checking)
    }

    /// The master closed, which the stack does not report.
    pub(crate) fn closed_by_peer(&mut self) -> Option<Connectivity> {
        self.tell(Connectivity::ClosedByPeer)
    }

    /// The handshake took too long: the stack reports no failure of DTLS, not even of a
    /// certificate that does not have the fingerprint of the answer.
    pub(crate) fn handshake_overdue(&mut self) -> Option<Connectivity> {
        if self.dtls_up { None } else { self.tell(Connectivity::DtlsFailed) }
    }

    /// The stack's task ended by itself, which it does when DTLS or SCTP breaks.
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
    fn dtls_and_ice_fail_apart() {
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
