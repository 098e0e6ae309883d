//! Runs each peer command on the stack.
//!
//! A command runs as a separate future that owns what it needs, so that media is handled
//! concurrently and a close can abandon the command. The future returns its changes as an
//! [`Effect`].

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use negotiation_core::{
    CandidateRelease, Description, Done, Failure, FailureCode, IceServer, MediaKind, PeerCommand,
    PeerTraits, SdpKind,
};
use rtc::peer_connection::configuration::RTCOfferOptions;
use viewer_session::facts::read_description;
use webrtc::data_channel::DataChannel;
use webrtc::error::Error;
use webrtc::peer_connection::RTCSessionDescription;

use crate::config::{Media, PeerConfig};
use crate::remote::RemoteAddresses;
use crate::remote_candidates::Refusal;
use crate::sdp::{self, SectionFormats, Unfit};
use crate::stack::{IcePolicy, RefusedAnswer, Stack, StackEvents, is_turn};

/// The name that every KVS SDK gives its data channel.
const CHANNEL: &str = "kvsDataChannel";
/// The longest wait for one step of closing; the session's own limit is 500 ms.
const CLOSE_STEP_MAX: Duration = Duration::from_millis(400);

/// The outcome of a command and what the command changed.
pub(crate) type Ended = (Result<Done, Failure>, Effect);

/// A running command.
pub(crate) type Work = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// A change that the peer's task applies after a command.
pub(crate) enum Effect {
    None,
    Created(Box<Created>),
    Made {
        sent: Description,
        original: Box<RTCSessionDescription>,
    },
    LocalSet,
    /// The audio and video sections of a remote description.
    RemoteSet {
        kind: SdpKind,
        sections: Vec<SectionFormats>,
    },
    RolledBack,
}

/// A new connection.
pub(crate) struct Created {
    pub(crate) stack: Arc<Stack>,
    pub(crate) queues: StackEvents,
    pub(crate) channel: Option<Arc<dyn DataChannel>>,
}

/// Creates the peer connection. `half_made` is true while dropping the future would leak an
/// unclosed connection.
pub(crate) async fn create(config: Arc<PeerConfig>, half_made: Arc<AtomicBool>) -> Ended {
    // The tracks come first: the application may take long, and a close need not wait for it
    // because nothing has been built yet.
    let mut tracks = Vec::new();
    for (kind, media) in [(MediaKind::Video, &config.video), (MediaKind::Audio, &config.audio)] {
        match media.clone().requested(kind, &config.codecs).await {
            Ok(media) => tracks.push((kind, media)),
            Err(failure) => return (Err(failure), Effect::None),
        }
    }
    half_made.store(true, Ordering::Relaxed);
    let built = Stack::build_resolving(&config.stack(), config.resolver.clone()).await;
    let (stack, queues) = match built {
        Ok(built) => built,
        Err(error) => return refused(FailureCode::Port, "cannot make a peer connection", &error),
    };
    stack.restrict(config.remote_addresses);
    if let Some(service) = config.service.clone()
        && config.remote_addresses == RemoteAddresses::Network
    {
        stack.admit_as_service(service, config.resolver.clone()).await;
    }
    match furnish(&stack, tracks, config.data_channel).await {
        Ok(channel) => {
            let traits =
                PeerTraits { candidates: CandidateRelease::AfterAnswer, restart_keeps_pair: false };
            let created = Created { stack: Arc::new(stack), queues, channel };
            (Ok(Done::Created(traits)), Effect::Created(Box::new(created)))
        }
        Err(failure) => {
            // An unclosed connection would stay alive.
            let _ = stack.close().await;
            (Err(failure), Effect::None)
        }
    }
}

async fn furnish(
    stack: &Stack,
    tracks: Vec<(MediaKind, Media)>,
    data_channel: bool,
) -> Result<Option<Arc<dyn DataChannel>>, Failure> {
    for (kind, media) in tracks {
        match media {
            Media::Off => {}
            Media::RecvOnly | Media::SendFrom(..) => stack
                .receive(kind)
                .await
                .map_err(|error| failure(FailureCode::Port, "cannot receive", &error))?,
            Media::SendRecv(track) => stack
                .add_track(&track)
                .await
                .map_err(|error| failure(FailureCode::LocalMedia, "cannot attach", &error))?,
        }
    }
    if !data_channel {
        return Ok(None);
    }
    let channel = stack.connection().create_data_channel(CHANNEL, None).await;
    channel.map(Some).map_err(|error| failure(FailureCode::Port, "no data channel", &error))
}

pub(crate) async fn create_offer(stack: Arc<Stack>, restart: bool) -> Ended {
    let options = restart.then_some(RTCOfferOptions { ice_restart: true });
    match stack.connection().create_offer(options).await {
        Ok(offer) => made(offer),
        Err(error) => refused(FailureCode::Port, "cannot make an offer", &error),
    }
}

pub(crate) async fn create_answer(stack: Arc<Stack>) -> Ended {
    match stack.connection().create_answer(None).await {
        Ok(answer) => made(answer),
        Err(error) => refused(FailureCode::BadDescription, "the offer has no answer", &error),
    }
}

/// Splits a description into the text to send and the stack's own text to set. The sent text has
/// no candidates: those in a restart offer would be the old ones.
fn made(original: RTCSessionDescription) -> Ended {
    match read_description(&sdp::to_send(&original.sdp)) {
        Ok(sent) => (
            Ok(Done::Description(sent.clone())),
            Effect::Made { sent, original: Box::new(original) },
        ),
        Err(_) => fail(FailureCode::Port, "the stack made a description that cannot be read"),
    }
}

pub(crate) async fn use_servers(stack: Arc<Stack>, servers: Vec<IceServer>) -> Ended {
    match stack.use_servers(&servers).await {
        Ok(used) => {
            let given: usize = servers.iter().map(|server| server.uris.len()).sum();
            if used < given {
                tracing::debug!(given, used, "some ICE servers cannot be used");
            }
            (Ok(Done::Ok), Effect::None)
        }
        Err(error) => refused(FailureCode::Port, "cannot use the ICE servers", &error),
    }
}

/// Returns whether one of these servers is a TURN server.
pub(crate) fn has_relay(servers: &[IceServer]) -> bool {
    servers.iter().any(|s| s.password.is_some() && s.uris.iter().any(|uri| is_turn(uri)))
}

pub(crate) async fn set_local(
    stack: Arc<Stack>,
    policy: IcePolicy,
    relay: bool,
    original: Option<RTCSessionDescription>,
) -> Ended {
    // Gathering without a relay would use this machine's own addresses or find nothing.
    if policy == IcePolicy::Relay && !relay {
        return fail(FailureCode::Port, "relay only, but no TURN server was given");
    }
    let Some(original) = original else {
        return fail(FailureCode::BadDescription, "not a description that this peer made");
    };
    match stack.set_local(original).await {
        Ok(()) => (Ok(Done::Ok), Effect::LocalSet),
        Err(error) => {
            refused(FailureCode::BadDescription, "the local description is refused", &error)
        }
    }
}

pub(crate) async fn set_remote(
    stack: Arc<Stack>,
    kind: SdpKind,
    description: Description,
) -> Ended {
    let text = description.sdp.as_str();
    let apply = async {
        match kind {
            SdpKind::Offer => {
                stack.apply_offer(text).await.map_err(RefusedAnswer::Stack)?;
                Ok(sdp::offered_sections(text))
            }
            SdpKind::Answer => stack.fit_and_apply(text).await,
        }
    };
    let name = match kind {
        SdpKind::Offer => "offer",
        SdpKind::Answer => "answer",
    };
    match AssertUnwindSafe(apply).catch_unwind().await {
        Ok(Ok(sections)) => (Ok(Done::Ok), Effect::RemoteSet { kind, sections }),
        Ok(Err(RefusedAnswer::Stack(error))) => {
            refused(FailureCode::BadDescription, &format!("the {name} is refused"), &error)
        }
        Ok(Err(RefusedAnswer::Unfit(unfit))) => {
            let code = match &unfit {
                Unfit::Codec(_) => FailureCode::Codec,
                Unfit::Description(_) => FailureCode::BadDescription,
            };
            fail(code, &unfit.to_string())
        }
        Err(_) => {
            let broken = format!("the {name} breaks the peer stack");
            fail(FailureCode::BadDescription, &broken)
        }
    }
}

/// Rolls back the pending description. With a restart staged (offered but not set), no local
/// description is set, and even a local rollback would start the restart.
pub(crate) async fn rollback(stack: Arc<Stack>, staged: bool) -> Ended {
    let rollback = match RTCSessionDescription::rollback(None) {
        Ok(rollback) => rollback,
        Err(error) => return refused(FailureCode::Port, "cannot roll back", &error),
    };
    // A local rollback undoes our description, a remote rollback undoes the other side's.
    let ours = match staged {
        true => None,
        false => Some(stack.connection().set_local_description(rollback.clone()).await),
    };
    let rolled_back = match ours {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) | None => stack.connection().set_remote_description(rollback).await,
    };
    match rolled_back {
        Ok(()) => (Ok(Done::Ok), Effect::RolledBack),
        Err(error) => refused(FailureCode::Port, "there is nothing to roll back", &error),
    }
}

pub(crate) async fn add_candidate(stack: Arc<Stack>, text: String) -> Ended {
    match AssertUnwindSafe(stack.try_candidate(&text)).catch_unwind().await {
        Ok(Ok(())) => (Ok(Done::Ok), Effect::None),
        Ok(Err(Refusal::Address)) => {
            fail(FailureCode::AddressPolicy, "the candidate's address is refused here")
        }
        Ok(Err(Refusal::Stack(error))) => {
            refused(FailureCode::BadDescription, "the candidate is refused", &error)
        }
        Err(_) => fail(FailureCode::BadDescription, "the candidate breaks the peer stack"),
    }
}

pub(crate) async fn stop_transceivers(stack: Arc<Stack>) -> Ended {
    let stop = async {
        let mut first = None;
        for transceiver in stack.connection().get_transceivers().await {
            if let Err(error) = transceiver.stop().await {
                first.get_or_insert(error);
            }
        }
        first
    };
    match tokio::time::timeout(CLOSE_STEP_MAX, stop).await {
        Ok(None | Some(Error::ErrConnectionClosed)) => (Ok(Done::Ok), Effect::None),
        Ok(Some(error)) => refused(FailureCode::Port, "a transceiver did not stop", &error),
        Err(_) => fail(FailureCode::TimedOut, "the transceivers did not stop in time"),
    }
}

pub(crate) async fn remove_tracks(stack: Arc<Stack>) -> Ended {
    match tokio::time::timeout(CLOSE_STEP_MAX, stack.detach_tracks()).await {
        Ok(()) => (Ok(Done::Ok), Effect::None),
        Err(_) => fail(FailureCode::TimedOut, "the tracks were not detached in time"),
    }
}

pub(crate) async fn close(stack: &Arc<Stack>) -> Result<Done, Failure> {
    // A separate task completes the close even if it exceeds the time limit.
    let stack = Arc::clone(stack);
    let closing = tokio::spawn(async move { stack.close().await });
    match tokio::time::timeout(CLOSE_STEP_MAX, closing).await {
        Ok(Ok(Ok(()))) => Ok(Done::Ok),
        Ok(Ok(Err(error))) => Err(failure(FailureCode::Port, "closing went wrong", &error)),
        Ok(Err(_)) => Err(Failure::new(FailureCode::Port, "closing broke the peer stack")),
        Err(_) => Err(Failure::new(FailureCode::TimedOut, "the peer did not close in time")),
    }
}

pub(crate) fn fail(code: FailureCode, detail: &str) -> Ended {
    (Err(Failure::new(code, detail)), Effect::None)
}

fn refused(code: FailureCode, what: &str, error: &Error) -> Ended {
    (Err(failure(code, what, error)), Effect::None)
}

fn failure(code: FailureCode, what: &str, error: &Error) -> Failure {
    Failure::new(code, format!("{what}: {}", sdp::complaint(error)))
}

/// Returns whether a command leads to a local description other than the staged restart's. The
/// stack cannot cancel the restart, and would leave a working pair for one that the master does
/// not know.
pub(crate) fn begins_an_exchange(command: &PeerCommand) -> bool {
    matches!(
        command,
        PeerCommand::CreateOffer { restart: false, .. }
            | PeerCommand::SetRemote { kind: SdpKind::Offer, .. }
    )
}
