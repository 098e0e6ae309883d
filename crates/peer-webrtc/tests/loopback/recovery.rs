//! Tests how recovery and glare use the stack while media flows (contract, N7 and N18).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use negotiation_core::{
    Connectivity, Description, Done, FailureCode, PeerCommand, PeerEvent, SdpKind,
};
use peer_webrtc::{Codec, MediaEvent, MediaReceiver};
use viewer_session::facts::read_description;

use crate::common::{Master, TICK, ticks, until, within};
use crate::port::{Playing, connected, pictures};
use crate::viewer::{PEER, Viewer, peer_config};

/// The packets of a stream, and its longest gap in ticks.
#[derive(Default)]
struct Flow {
    packets: AtomicU64,
    lost: AtomicU64,
    gap: AtomicU64,
}

impl Flow {
    /// Follows the media from now on.
    fn of(mut media: MediaReceiver) -> Arc<Self> {
        let flow = Arc::<Self>::default();
        let followed = Arc::clone(&flow);
        tokio::spawn(async move {
            let (mut ticks, mut silence) = (ticks(), 0);
            let mut last: Option<u16> = None;
            loop {
                let event = tokio::select! {
                    biased;
                    event = media.next() => event,
                    _ = ticks.tick() => {
                        silence += 1;
                        followed.gap.fetch_max(silence, Ordering::Relaxed);
                        continue;
                    }
                };
                let Some(event) = event else { return };
                let MediaEvent::Rtp { packet, .. } = event else { continue };
                let seq = packet.header.sequence_number;
                let lost = last.map_or(0, |last| seq.wrapping_sub(last).saturating_sub(1));
                followed.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
                followed.packets.fetch_add(1, Ordering::Relaxed);
                (last, silence) = (Some(seq), 0);
            }
        });
        flow
    }

    /// Waits for this many more packets.
    async fn goes_on(&self, packets: u64) {
        let seen = || self.packets.load(Ordering::Relaxed);
        let wanted = seen() + packets;
        until("media", || seen() >= wanted).await;
    }

    /// Returns the number of lost packets, and the longest gap in ticks.
    fn reported(&self) -> (u64, u64) {
        (self.lost.load(Ordering::Relaxed), self.gap.load(Ordering::Relaxed))
    }
}

async fn offered(viewer: &mut Viewer, restart: bool) -> Description {
    match viewer.run(PeerCommand::CreateOffer { peer: PEER, restart }).await.expect("offers") {
        Done::Description(description) => description,
        other => panic!("not a description: {other:?}"),
    }
}

async fn set_local(viewer: &mut Viewer, kind: SdpKind, description: Description) {
    let set = PeerCommand::SetLocal { peer: PEER, kind, description };
    viewer.run(set).await.expect("sets the local description");
}

async fn set_remote(viewer: &mut Viewer, kind: SdpKind, text: &str) {
    let description = read_description(text).expect("a description");
    let set = PeerCommand::SetRemote { peer: PEER, kind, description };
    viewer.run(set).await.expect("sets the remote description");
}

async fn answered(viewer: &mut Viewer) -> Description {
    match viewer.run(PeerCommand::CreateAnswer { peer: PEER }).await.expect("answers") {
        Done::Description(description) => description,
        other => panic!("not a description: {other:?}"),
    }
}

pub(crate) async fn packets(viewer: &mut Viewer, count: usize) {
    within("media", async {
        let mut seen = 0;
        while seen < count {
            if matches!(viewer.media.next().await, Some(MediaEvent::Rtp { .. })) {
                seen += 1;
            }
        }
    })
    .await;
}

/// Sends the viewer's candidates to the master, as a session would trickle them.
async fn trickle(viewer: &mut Viewer, master: &Master) {
    viewer.event(|event| *event == PeerEvent::GatheringDone).await;
    for event in viewer.events.drain(..) {
        if let PeerEvent::CandidateGathered(candidate) = event {
            master.stack.add_candidate(&candidate.text).await.expect("adds");
        }
    }
}

async fn live() -> (Viewer, Master, Playing, Description) {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    let offer = viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    let playing = Playing::start(&master.video, pictures);
    viewer.event(|event| *event == PeerEvent::KeyframeReceived).await;
    (viewer, master, playing, offer)
}

// Shows: 23.
#[tokio::test]
async fn answered_restart_keeps_media_flowing() {
    let (mut viewer, mut master, _playing, first) = live().await;
    packets(&mut viewer, 20).await;
    let media = std::mem::replace(&mut viewer.media, Viewer::new(peer_config()).media);
    let flow = Flow::of(media);
    viewer.events.clear();
    let offer = offered(&mut viewer, true).await;
    assert_ne!(offer.facts.ice_ufrag, first.facts.ice_ufrag, "new credentials");
    assert_eq!(offer.facts.fingerprints, first.facts.fingerprints, "of the same connection");
    assert_eq!(offer.facts.candidates, 0, "those that it would name are the old ones");
    // The network delay: media must not be affected until the answer arrives.
    let answer = master.stack.answer(offer.sdp.as_str()).await.expect("answers");
    let theirs = read_description(&answer).expect("an answer");
    assert!(!theirs.facts.fingerprints.is_empty());
    set_local(&mut viewer, SdpKind::Offer, offer).await;
    set_remote(&mut viewer, SdpKind::Answer, &answer).await;
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(connected).await;
    let edges: Vec<_> = viewer
        .events
        .iter()
        .filter_map(|event| match event {
            PeerEvent::ConnectivityChanged(connectivity) => Some(*connectivity),
            _ => None,
        })
        .collect();
    assert!(edges.contains(&Connectivity::Checking), "{edges:?}");
    assert_eq!(edges.last(), Some(&Connectivity::Connected), "{edges:?}");
    trickle(&mut viewer, &master).await;
    flow.goes_on(60).await;
    let (lost, gap) = flow.reported();
    eprintln!("restart: {lost} lost, longest gap {gap} ticks");
    assert!(TICK * u32::try_from(gap).expect("few") < Duration::from_secs(2), "{gap}");
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: N18, 25.
#[tokio::test]
async fn refused_restart_does_not_affect_media() {
    let (mut viewer, master, _playing, _) = live().await;
    packets(&mut viewer, 20).await;
    let media = std::mem::replace(&mut viewer.media, Viewer::new(peer_config()).media);
    let flow = Flow::of(media);
    viewer.events.clear();
    for _ in 0..3 {
        // The restart is not set: the master ignores it, or answers with another fingerprint.
        offered(&mut viewer, true).await;
        flow.goes_on(40).await;
    }
    // The next description to be set would start the restart in the stack, so none is set.
    let offer = master_offers(&master).await;
    let description = read_description(&offer).expect("an offer");
    for command in [
        PeerCommand::SetRemote { peer: PEER, kind: SdpKind::Offer, description },
        PeerCommand::CreateOffer { peer: PEER, restart: false },
        PeerCommand::Rollback { peer: PEER },
    ] {
        let refused = viewer.run(command).await.expect_err("refused");
        assert_eq!(refused.code, FailureCode::Port, "{refused}");
    }
    flow.goes_on(40).await;
    assert_eq!(flow.reported().0, 0, "lost");
    let begun = PeerEvent::ConnectivityChanged(Connectivity::Checking);
    assert!(!viewer.events.contains(&begun), "{:?}", viewer.events);
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

/// Makes the master offer, as the storage service does or in glare.
async fn master_offers(master: &Master) -> String {
    let offer = master.stack.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    master.stack.set_local(offer).await.expect("sets");
    let keep = |line: &&str| !line.starts_with("a=candidate");
    text.lines().filter(keep).flat_map(|line| [line.trim_end(), "\r\n"]).collect()
}

async fn answer_the_master(viewer: &mut Viewer, master: &mut Master, offer: &str) {
    set_remote(viewer, SdpKind::Offer, offer).await;
    let answer = answered(viewer).await;
    assert!(answer.sdp.as_str().contains("a=ice-options:trickle"));
    set_local(viewer, SdpKind::Answer, answer.clone()).await;
    master.stack.apply_answer(answer.sdp.as_str()).await.expect("applies");
    for text in master.candidates().await {
        viewer.add(&text).await.expect("adds");
    }
    viewer.event(connected).await;
    let _playing = Playing::start(&master.video, pictures);
    viewer.event(|event| *event == PeerEvent::KeyframeReceived).await;
    packets(viewer, 20).await;
}

#[tokio::test]
async fn masters_offer_is_answered() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    let offer = master_offers(&master).await;
    answer_the_master(&mut viewer, &mut master, &offer).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: N7, 20.
#[tokio::test]
async fn first_offer_yields_to_master_offer() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    viewer.offered().await;
    let offer = master_offers(&master).await;
    viewer.run(PeerCommand::Rollback { peer: PEER }).await.expect("rolls back");
    answer_the_master(&mut viewer, &mut master, &offer).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

#[tokio::test]
async fn offer_of_the_master_can_be_rolled_back() {
    let mut viewer = Viewer::new(peer_config());
    let master = Master::new(Codec::H264).await;
    viewer.run(PeerCommand::Create { peer: PEER }).await.expect("creates");
    let offer = master_offers(&master).await;
    set_remote(&mut viewer, SdpKind::Offer, &offer).await;
    viewer.run(PeerCommand::Rollback { peer: PEER }).await.expect("rolls back");
    viewer.run(PeerCommand::Rollback { peer: PEER }).await.expect_err("nothing left");
    // The stack does not accept a first offer twice; it reports that, and closes in order.
    let description = read_description(&offer).expect("an offer");
    let again = PeerCommand::SetRemote { peer: PEER, kind: SdpKind::Offer, description };
    let refused = viewer.run(again).await.expect_err("refused");
    assert_eq!(refused.code, FailureCode::BadDescription, "{refused}");
    viewer.close().await;
    master.stack.close().await.expect("closes");
}

// Shows: N27, 48.
#[tokio::test]
async fn paused_camera_still_reports() {
    let config =
        peer_webrtc::PeerConfig { stall_after: Duration::from_millis(300), ..peer_config() };
    let mut viewer = Viewer::new(config);
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    let playing = Playing::start(&master.video, pictures);
    viewer.event(|event| *event == PeerEvent::KeyframeReceived).await;
    drop(playing);
    viewer.event(|event| *event == PeerEvent::MediaStalled).await;
    // The stack itself sends reports every second.
    viewer.event(|event| *event == PeerEvent::SenderReport).await;
    viewer.close().await;
    master.stack.close().await.expect("closes");
}
