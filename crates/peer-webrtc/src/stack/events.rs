//! The stack's callbacks as bounded queues.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionIceEvent,
};

use super::{DataChannel, IcePolicy, RTCIceConnectionState, RTCPeerConnectionState, TrackRemote};
use crate::remote_candidates::{self, RemoteCandidateLimiter};
use crate::socket::Wake;
use crate::tap::{Control, RtpArrival, TapLosses};
use crate::turn_stream::Gate;

/// The most data channels that the other side may open. A master opens none, or one.
const CHANNELS_MAX: usize = 8;
/// The number of data channels at which the connection is treated as closed: the stack keeps a
/// state for each, even a closed one, and limits their number to 65,535.
const CHANNELS_HOSTILE: usize = 256;

/// An event of a connection.
pub enum StackEvent {
    /// A local candidate, as `candidate:...`.
    Candidate(String),
    /// No more local candidates follow.
    GatheringDone,
    /// The ICE state changed.
    Ice(RTCIceConnectionState),
    /// The state of ICE and DTLS together changed.
    Connection(RTCPeerConnectionState),
    /// A remote track is open.
    Track(Arc<dyn TrackRemote>),
    /// The other side opened a data channel. Channels beyond the first few are closed instead, and
    /// hundreds of them count as the connection's end.
    DataChannel(Arc<dyn DataChannel>),
    /// This many names of STUN and TURN servers are unresolved, so those servers are not used.
    IceServersUnresolved(u32),
}

/// The outputs of a connection. They are bounded: a full queue drops new items and counts them.
pub struct StackEvents {
    /// Lifecycle events.
    pub events: mpsc::Receiver<StackEvent>,
    /// Sender reports and keyframe requests.
    pub control: mpsc::Receiver<Control>,
    /// RTP packets, if [`super::StackConfig::media_queue`] is not 0.
    pub media: Option<mpsc::Receiver<RtpArrival>>,
    /// The items that the queues of RTP and RTCP dropped.
    pub losses: Arc<TapLosses>,
}

/// The stack awaits its callbacks on its own task, so these only push.
pub(super) struct Queue {
    pub(super) events: mpsc::Sender<StackEvent>,
    pub(super) lost: AtomicU64,
    pub(super) policy: IcePolicy,
    pub(super) gate: Arc<Gate>,
    pub(super) limiter: Arc<Mutex<RemoteCandidateLimiter>>,
    pub(super) connected: Arc<AtomicBool>,
    pub(super) wake: Wake,
    /// The number of data channels that the other side opened.
    pub(super) channels: AtomicUsize,
}

impl Queue {
    fn push(&self, event: StackEvent) {
        if self.events.try_send(event).is_err() && self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::debug!("an event of a peer connection was not taken");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Queue {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // A wildcard socket on a machine without an interface has no address to report.
        let unspecified = event.candidate.address.parse::<IpAddr>();
        if unspecified.is_ok_and(|ip| ip.is_unspecified()) {
            return;
        }
        if let Ok(init) = event.candidate.to_json() {
            if init.candidate.contains(" typ relay") {
                self.gate.relay_found(&event.url);
            }
            if self.policy == IcePolicy::Relay && !init.candidate.contains(" typ relay") {
                return;
            }
            self.push(StackEvent::Candidate(init.candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.push(StackEvent::GatheringDone);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            // The DTLS client's first flight waits for a timer.
            self.wake.wake();
        }
        self.push(StackEvent::Ice(state));
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            remote_candidates::lock(&self.limiter).connected();
            self.connected.store(true, Ordering::Release);
        }
        self.push(StackEvent::Connection(state));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let before = self.channels.fetch_add(1, Ordering::Relaxed);
        if before >= CHANNELS_MAX {
            if before == CHANNELS_MAX {
                tracing::warn!(CHANNELS_MAX, "further data channels of the other side are closed");
            }
            if before == CHANNELS_HOSTILE {
                tracing::warn!("the other side opens data channels without end: it is left");
                self.push(StackEvent::Connection(RTCPeerConnectionState::Closed));
            }
            // A channel that is already closed may fail to close.
            let _ = channel.close().await;
            return;
        }
        self.push(StackEvent::DataChannel(channel));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.push(StackEvent::Track(track));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Mdns;

    #[tokio::test]
    async fn connected_ice_wakes_the_connection_for_the_dtls_client() {
        let (events, mut queue) = mpsc::channel(4);
        let wake = Wake::default();
        let handler = Queue {
            events,
            lost: AtomicU64::new(0),
            policy: IcePolicy::All,
            gate: Arc::default(),
            limiter: Arc::new(Mutex::new(RemoteCandidateLimiter::new(Mdns::Ignore))),
            connected: Arc::default(),
            wake: wake.clone(),
            channels: AtomicUsize::new(0),
        };
        handler.on_ice_connection_state_change(RTCIceConnectionState::Checking).await;
        assert!(!wake.is_pending());
        handler.on_ice_connection_state_change(RTCIceConnectionState::Connected).await;
        assert!(wake.is_pending());
        assert!(matches!(queue.recv().await, Some(StackEvent::Ice(_))));
    }
}
