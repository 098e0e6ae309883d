//! Tests local devices that may be absent (contract, N24).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use negotiation_core::{FailureCode, PeerCommand};
use peer_webrtc::{Codec, LocalSource, LocalTrack, Media, Otherwise, PeerConfig, Unavailable};

use crate::common::within;
use crate::viewer::{PEER, Viewer, peer_config};

#[derive(Debug)]
enum Microphone {
    Here(Arc<LocalTrack>),
    Denied,
    /// The permission request was made and stays unanswered.
    Asked(AtomicBool),
}

#[async_trait]
impl LocalSource for Microphone {
    async fn track(&self) -> Result<Arc<LocalTrack>, Unavailable> {
        match self {
            Self::Here(track) => Ok(Arc::clone(track)),
            Self::Denied => Err(Unavailable("microphone: permission denied".to_owned())),
            Self::Asked(requested) => {
                requested.store(true, Ordering::Relaxed);
                std::future::pending().await
            }
        }
    }
}

fn viewer(microphone: &Arc<Microphone>, otherwise: Otherwise) -> Viewer {
    let source = Arc::clone(microphone) as Arc<dyn LocalSource>;
    let (audio, codecs) = (Media::SendFrom(source, otherwise), vec![Codec::H264, Codec::Opus]);
    Viewer::new(PeerConfig { audio, codecs, ..peer_config() })
}

/// Returns whether the viewer's offer sends audio.
async fn sends(viewer: &mut Viewer) -> bool {
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    let offer = viewer.offer().await;
    let mut sections = offer.sdp.as_str().split("\r\nm=");
    let sound = sections.find(|section| section.starts_with("audio")).expect("it is offered");
    viewer.close().await;
    sound.contains("a=sendrecv")
}

#[tokio::test]
async fn n24_track_is_sent_only_when_device_is_present() {
    let track = LocalTrack::new(Codec::Opus, "viewer", "microphone");
    let here = Arc::new(Microphone::Here(track));
    assert!(sends(&mut viewer(&here, Otherwise::End)).await);
    let denied = Arc::new(Microphone::Denied);
    assert!(!sends(&mut viewer(&denied, Otherwise::RecvOnly)).await);
    // A track that the connection cannot carry counts as absent.
    let track = LocalTrack::new(Codec::Pcmu, "viewer", "microphone");
    let other = Arc::new(Microphone::Here(track));
    assert!(!sends(&mut viewer(&other, Otherwise::RecvOnly)).await);
}

#[tokio::test]
async fn n24_absent_device_fails_create_when_configured() {
    let mut viewer = viewer(&Arc::new(Microphone::Denied), Otherwise::End);
    let failure = viewer.run(PeerCommand::Create { peer: PEER }).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::LocalMedia);
    assert_eq!(failure.detail, "microphone: permission denied");
    viewer.close().await;
}

#[tokio::test]
async fn close_does_not_wait_for_a_device() {
    let requested = Arc::new(Microphone::Asked(AtomicBool::new(false)));
    let mut viewer = viewer(&requested, Otherwise::End);
    let create = viewer.submit(PeerCommand::Create { peer: PEER });
    let Microphone::Asked(flag) = &*requested else { unreachable!() };
    within("the question", async {
        while !flag.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    viewer.close().await;
    let failure = viewer.outcome(create).await.expect_err("overtaken");
    assert_eq!(failure.code, FailureCode::Cancelled);
}
