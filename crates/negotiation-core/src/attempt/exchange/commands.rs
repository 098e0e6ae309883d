//! The commands that set a description.

use crate::context::Context;
use crate::output::PeerCommand;
use crate::purpose::Purpose;
use crate::types::{Description, PeerId, SdpKind};

pub(super) fn set_local(cx: &mut Context, peer: PeerId, kind: SdpKind, description: Description) {
    cx.ask_peer(Purpose::SetLocal, PeerCommand::SetLocal { peer, kind, description });
}

pub(super) fn set_remote(cx: &mut Context, peer: PeerId, kind: SdpKind, description: Description) {
    let named = &mut cx.evidence.remote_candidates;
    *named = named.saturating_add(u32::from(description.facts.candidates));
    cx.ask_peer(Purpose::SetRemote, PeerCommand::SetRemote { peer, kind, description });
}
