//! What a peer connection notices of the way between viewer and master, and when.

use core::time::Duration;

use negotiation_core::{Connectivity, Facts, MediaKind, PeerEvent};

use crate::traits::{Dtls, Ice, Media, PathTraits};

/// What a peer connection will notice, and when.
pub(crate) type DelayedPeerEvent = (Duration, PeerEvent);

/// How long a stack hears nothing before it says so.
const DETECTION: Duration = Duration::from_secs(2);

/// How long after that it gives up.
const GIVES_UP: Duration = Duration::from_secs(25);

/// A pair is looked for: for the first time, or again with the keys that DTLS has already.
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

/// The way is dead.
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
