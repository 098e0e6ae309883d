//! Media that does not arrive, or stops: scenarios 47, 48, 57 and 61.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{
    AttemptEnd, Deadline, EndReason, Event, Message, Output, PeerCommand, RecoveryCause,
    RetryDelay, SignalingCommand, Timer,
};
use peer_webrtc::{Codec, LocalSource, LocalTrack, Media, Otherwise, Unavailable};

use crate::frame;
use crate::viewer::{Entry, Log, Watching};
use crate::{scenario, secs, shown};

fn keyframe_requests(log: &Log) -> usize {
    log.count(|entry| {
        matches!(entry, Entry::Output(Output::Peer(_, PeerCommand::RequestKeyframe { .. })))
    })
}

#[test]
fn w47_no_rtp() {
    scenario(47, "no RTP", async |stage| {
        stage.camera().await;
        let network = Network::default();
        network.block(&[Kind::Rtp]);
        let viewer = stage.plan_over(&network).watch();
        let log = viewer.log.clone();
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::NoMedia, 2));
        let no_media = AttemptEnd::Deadline(Deadline::FirstMedia);
        assert!(outcome.attempts.iter().all(|attempt| attempt.end == no_media));
        assert!(outcome.attempts.iter().all(|attempt| attempt.evidence.connected));
        // The viewer requests one at once, and then one per second until the deadline of 5 s.
        let requested = keyframe_requests(&log);
        assert!(requested >= 8, "{requested}");
        let what = format!("keyframe asked for {requested} times, 2 attempts, ended as no-media");
        shown(what, outcome.lasted)
    });
}

#[test]
fn w47_no_keyframe() {
    scenario(47, "no keyframe", async |stage| {
        stage.camera().await;
        let network = Network::default();
        // The clip's keyframes have more than a kilobyte, its other pictures less than 200 bytes.
        network.lose_longer_than(600);
        let mut plan = stage.plan_over(&network);
        plan.settings.retries = 0;
        let viewer = plan.watch();
        let log = viewer.log.clone();
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::NoMedia, 1));
        assert!(outcome.attempts[0].evidence.video_packets, "packets came");
        assert!(outcome.likely_cause().contains("keyframe"), "{}", outcome.likely_cause());
        let requested = keyframe_requests(&log);
        assert!(requested >= 4, "{requested}");
        let what = format!("keyframe asked for {requested} times, ended as no-media");
        shown(what, outcome.lasted)
    });
}

// Shows: N27.
#[test]
fn w48_paused_camera() {
    scenario(48, "with sender reports", async |stage| {
        let network = Network::default();
        let mut viewer = stage.live_over(&network).await;
        network.block(&[Kind::Rtp]);
        let stopped = viewer.now();
        viewer.until("the stall", |event| *event == Event::MediaStalled).await;
        viewer.until("the pause", |event| *event == Event::MediaPaused).await;
        // Longer than the time after which a camera without any packets is given up.
        tokio::time::sleep(secs(6)).await;
        assert!(keyframe_requests(&viewer.log) >= 3, "{}", viewer.log.story());
        network.unblock();
        let again = viewer.now();
        let resumed = viewer.until("media", |event| *event == Event::MediaResumed).await;
        viewer.more_pictures(15).await;
        assert_eq!((viewer.offers(true), viewer.offers(false)), (0, 1), "no restart");
        assert_eq!(viewer.close().await.attempts_total, 1);
        let what = format!("told, paused for {:.0?}, live again", again.saturating_since(stopped));
        shown(what, resumed.saturating_since(again))
    });
}

// Shows: N27.
#[test]
fn w48_silent_camera() {
    scenario(48, "without a packet", async |stage| {
        let network = Network::default();
        let mut viewer = stage.live_over(&network).await;
        network.block(&[Kind::Rtp, Kind::Rtcp]);
        let stopped = viewer.now();
        viewer.until("the stall", |event| *event == Event::MediaStalled).await;
        viewer.until("the loss", |e| *e == Event::MasterGone(RecoveryCause::Silent)).await;
        viewer.until("attempt 2", |e| *e == Event::AttemptStarted { attempt: 2 }).await;
        network.unblock();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let fired = Event::DeadlineFired(Timer::MediaGiveUp);
        assert_eq!(viewer.count(|event| *event == fired), 1, "{}", viewer.log.story());
        assert_eq!(viewer.offers(true), 0, "a restart is no cure");
        assert_eq!(viewer.close().await.attempts_total, 2);
        shown("told, given up after 4 s, attempt 2 live", live.saturating_since(stopped))
    });
}

#[test]
fn w57_dtls_silent() {
    scenario(57, "silent", async |stage| {
        stage.camera().await;
        let network = Network::default();
        network.block(&[Kind::Dtls]);
        let outcome = stage.plan_over(&network).watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Dtls, 2));
        assert!(outcome.attempts.iter().all(|attempt| attempt.evidence.ice_connected));
        shown("ICE up, 2 attempts, ended as dtls", outcome.lasted)
    });
}

#[test]
fn w57_dtls_refused() {
    scenario(57, "refused", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        // The changed fingerprint has the effect of another certificate.
        plan.tamper = Some(|sdp| {
            frame::changed(sdp, |line| {
                let (start, digest) = line.split_once("sha-256 ")?;
                let other = if digest.starts_with("AA:") { "BB:" } else { "AA:" };
                Some(format!("{start}sha-256 {other}{}", digest.get(3..)?))
            })
        });
        let outcome = plan.watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Dtls, 2));
        shown("ICE up, 2 attempts, ended as dtls", outcome.lasted)
    });
}

/// A microphone that is available until it is unplugged.
#[derive(Debug)]
struct Microphone {
    track: Arc<LocalTrack>,
    is_there: AtomicBool,
}

impl Microphone {
    fn new(is_there: bool) -> Arc<Self> {
        let track = LocalTrack::new(Codec::Opus, "here", "microphone");
        Arc::new(Self { track, is_there: is_there.into() })
    }
}

#[async_trait]
impl LocalSource for Microphone {
    async fn track(&self) -> Result<Arc<LocalTrack>, Unavailable> {
        match self.is_there.load(Ordering::Relaxed) {
            true => Ok(Arc::clone(&self.track)),
            false => Err(Unavailable("microphone: permission denied".to_owned())),
        }
    }
}

/// Returns whether the first offer sends audio.
fn sound_offered(viewer: &Watching) -> bool {
    let mut sends = None;
    viewer.log.each(|entry| {
        if let Entry::Output(Output::Signaling(_, SignalingCommand::Send { message, .. })) = entry
            && let Message::Offer(offer) = message
        {
            let mut sections = offer.sdp.as_str().split("\r\nm=");
            let sound = sections.find(|section| section.starts_with("audio"));
            sends = sends.or(Some(sound.is_some_and(|sound| sound.contains("a=sendrecv"))));
        }
    });
    sends.expect("an offer was sent")
}

// Shows: N24.
#[test]
fn w61_missing_local_media_ends_session() {
    scenario(61, "or the end", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        plan.peer.audio = Media::SendFrom(Microphone::new(false), Otherwise::End);
        let viewer = plan.watch();
        let log = viewer.log.clone();
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::LocalMedia, 1));
        assert_eq!(
            log.count(|entry| {
                matches!(entry, Entry::Output(Output::Peer(_, PeerCommand::CreateOffer { .. })))
            }),
            0,
            "before any offer"
        );
        let AttemptEnd::Peer(failure) = &outcome.attempts[0].end else {
            panic!("{:?}", outcome.attempts[0].end)
        };
        assert_eq!(failure.detail, "microphone: permission denied");
        assert_eq!(stage.gone().await, 0, "its link is closed");
        let what = format!("ended as local-media before any offer: {}", outcome.likely_cause());
        shown(what, outcome.lasted)
    });
}

// Shows: N24.
#[test]
fn w61_missing_local_media_falls_back_to_receive_only() {
    scenario(61, "or receive only", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        plan.peer.audio = Media::SendFrom(Microphone::new(false), Otherwise::RecvOnly);
        let mut viewer = plan.watch();
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        assert!(!sound_offered(&viewer), "nothing is sent");
        let pictures = stage.untouched(viewer).await;
        let what = format!("live, receive only; {pictures} pictures, none lost");
        shown(what, live.saturating_since(Default::default()))
    });
}

#[test]
fn w61_lost_local_media_ends_next_attempt() {
    scenario(61, "goes away", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        let microphone = Microphone::new(true);
        let source = Arc::clone(&microphone) as Arc<dyn LocalSource>;
        plan.peer.audio = Media::SendFrom(source, Otherwise::End);
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(15).await;
        assert!(sound_offered(&viewer), "it is sent while it is there");
        microphone.is_there.store(false, Ordering::Relaxed);
        let pulled = viewer.now();
        viewer.more_pictures(15).await;
        viewer.handle.control().resumed();
        viewer.until("attempt 2", |e| *e == Event::AttemptStarted { attempt: 2 }).await;
        let log = viewer.log.clone();
        let outcome = viewer.ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::LocalMedia, 2));
        assert!(outcome.was_live);
        let ended = outcome.attempts[1].ended;
        assert!(ended > pulled, "{}", log.story());
        shown(
            "live with it; without it attempt 2 ended as local-media",
            ended.saturating_since(pulled),
        )
    });
}

#[test]
fn w56_suspend() {
    scenario(56, "", async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        plan.settings.retry_delay = RetryDelay::Fixed(secs(30));
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        let woken = viewer.now();
        viewer.handle.control().resumed();
        let begun = viewer.until("attempt 2", |e| *e == Event::AttemptStarted { attempt: 2 }).await;
        let live = viewer.live().await;
        viewer.more_pictures(15).await;
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        assert_eq!(outcome.attempts[0].end, AttemptEnd::Resumed);
        assert!(begun.saturating_since(woken) < secs(15), "at once, but for the close");
        shown("attempt 2 at once, live", live.saturating_since(woken))
    });
}
