//! The events that a path between viewer and master causes at a peer connection, and their times.

use core::time::Duration;

use negotiation_core::{Connectivity, Facts, MediaKind, PeerEvent};

use crate::traits::{Dtls, Ice, Media, PathTraits};

/// An event of a peer connection, with the delay until it is reported.
pub(crate) type DelayedPeerEvent = (Duration, PeerEvent);

/// Time without packets until a stack reports ICE as disconnected.
const DETECTION: Duration = Duration::from_secs(2);

/// Time after that until ICE fails.
const GIVES_UP: Duration = Duration::from_secs(25);

/// The events of ICE on a path; `again` when DTLS has its keys already.
pub(crate) fn notices(path: PathTraits, facts: &Facts, again: bool) -> Vec<DelayedPeerEvent> {
    let ms = Duration::from_millis;
    let state = PeerEvent::ConnectivityChanged;
    let mut notices = vec![(ms(1), state(Connectivity::Checking))];
    match path.ice {
        Ice::Works => notices.push((ms(60), state(Connectivity::IceConnected))),
        Ice::Fails => {
            notices.push((ms(15_000), state(Connectivity::IceFailed)));
            return notices;
        }
        Ice::Silent => return notices,
    }
    match path.dtls {
        Dtls::Works => notices.push((ms(110), state(Connectivity::Connected))),
        Dtls::Fails => {
            notices.push((ms(90), state(Connectivity::DtlsFailed)));
            return notices;
        }
        Dtls::Silent => return notices,
    }
    for kind in [MediaKind::Audio, MediaKind::Video] {
        if facts.sends(kind) {
            if !again {
                notices.push((ms(112), PeerEvent::TrackAdded(kind)));
            }
            if path.media != Media::Nothing {
                notices.push((ms(130), PeerEvent::MediaFlowing(kind)));
            }
        }
    }
    if path.media == Media::Flows && facts.sends(MediaKind::Video) {
        notices.push((ms(180), PeerEvent::KeyframeReceived));
    }
    notices
}

/// The events when all packets are lost.
pub(crate) fn lost(was_connected: bool) -> Vec<DelayedPeerEvent> {
    let state = PeerEvent::ConnectivityChanged;
    let mut notices = Vec::new();
    if was_connected {
        notices.push((DETECTION, state(Connectivity::Disconnected)));
        notices.push((DETECTION, PeerEvent::MediaStalled));
    }
    notices.push((DETECTION + GIVES_UP, state(Connectivity::IceFailed)));
    notices
}
