//! The events that a path between viewer and master causes at a peer connection, and their times.

use core::time::Duration;

use negotiation_core::{Connectivity, MediaKind, PeerEvent, SdpSummary};

use crate::traits::{Dtls, Ice, Media, PathTraits};

/// An event of a peer connection, with the delay until it is reported.
pub(crate) type DelayedPeerEvent = (Duration, PeerEvent);

/// Time without packets until a stack reports ICE as disconnected.
const DETECTION: Duration = Duration::from_secs(2);

/// Time after that until ICE fails.
const GIVES_UP: Duration = Duration::from_secs(25);

/// The events of ICE on a path; `again` when DTLS has its keys already.
pub(crate) fn ice_events(
    path: PathTraits,
    facts: &SdpSummary,
    again: bool,
) -> Vec<DelayedPeerEvent> {
    let ms = Duration::from_millis;
    let state = PeerEvent::ConnectivityChanged;
    let mut events = vec![(ms(1), state(Connectivity::Checking))];
    match path.ice {
        Ice::Works => events.push((ms(60), state(Connectivity::IceConnected))),
        Ice::Fails => {
            events.push((ms(15_000), state(Connectivity::IceFailed)));
            return events;
        }
        Ice::Silent => return events,
    }
    match path.dtls {
        Dtls::Works => events.push((ms(110), state(Connectivity::Connected))),
        Dtls::Fails => {
            events.push((ms(90), state(Connectivity::DtlsFailed)));
            return events;
        }
        Dtls::Silent => return events,
    }
    for kind in [MediaKind::Audio, MediaKind::Video] {
        if facts.sends(kind) {
            if !again {
                events.push((ms(112), PeerEvent::TrackAdded(kind)));
            }
            if path.media != Media::Nothing {
                events.push((ms(130), PeerEvent::MediaFlowing(kind)));
            }
        }
    }
    if path.media == Media::Flows && facts.sends(MediaKind::Video) {
        events.push((ms(180), PeerEvent::KeyframeReceived));
    }
    events
}

/// The events when all packets are lost.
pub(crate) fn loss_events(was_connected: bool) -> Vec<DelayedPeerEvent> {
    let state = PeerEvent::ConnectivityChanged;
    let mut events = Vec::new();
    if was_connected {
        events.push((DETECTION, state(Connectivity::Disconnected)));
        events.push((DETECTION, PeerEvent::MediaStalled));
    }
    events.push((DETECTION + GIVES_UP, state(Connectivity::IceFailed)));
    events
}
