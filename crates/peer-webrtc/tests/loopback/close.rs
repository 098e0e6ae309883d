//! Tests how a master leaves: with a close, or without (contract, N28).

use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Connectivity, PeerCommand, PeerEvent};
use peer_webrtc::stack::{DataChannel, StackEvent};
use peer_webrtc::{Codec, PeerConfig};

use crate::common::{Master, TICK, ticks, within};
use crate::port::{Playing, connected, pictures};
use crate::recovery::packets;
use crate::viewer::{PEER, Viewer, peer_config};

/// Returns the master's end of the viewer's data channel.
async fn channel(master: &mut Master) -> Arc<dyn DataChannel> {
    within("the data channel", async {
        loop {
            if let Some(StackEvent::DataChannel(channel)) = master.queues.events.recv().await {
                return channel;
            }
        }
    })
    .await
}

fn is_close(event: &PeerEvent) -> bool {
    *event == PeerEvent::ConnectivityChanged(Connectivity::ClosedByPeer)
}

/// Closes the master, and checks that the viewer notices before ICE fails after two seconds.
async fn goes(mut viewer: Viewer, master: Master) {
    viewer.events.clear();
    master.stack.close().await.expect("closes");
    let (mut ticks, mut elapsed) = (ticks(), Duration::ZERO);
    while !viewer.events.iter().any(is_close) {
        tokio::select! {
            () = viewer.event(is_close) => {}
            _ = ticks.tick() => elapsed += TICK,
        }
        assert!(elapsed < Duration::from_secs(1), "{:?}", viewer.events);
    }
    viewer.close().await;
}

// Shows: N28.
#[tokio::test]
async fn close_notify_of_the_master_is_reported() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::Vp8).await;
    viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    let _channel = channel(&mut master).await;
    goes(viewer, master).await;
}

/// The same holds if this process stalls at that moment.
// Shows: N28.
#[tokio::test]
async fn data_channel_close_alone_is_not_a_peer_close() {
    let mut viewer = Viewer::new(peer_config());
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    let _playing = Playing::start(&master.video, pictures);
    viewer.event(|event| *event == PeerEvent::KeyframeReceived).await;
    channel(&mut master).await.close().await.expect("closes the channel");
    viewer.events.clear();
    packets(&mut viewer, 20).await;
    // This stops the whole test, which has one thread, for longer than media may be silent.
    std::thread::sleep(Duration::from_millis(2500));
    packets(&mut viewer, 200).await;
    // Events reported meanwhile come before this completion.
    viewer.run(PeerCommand::RequestKeyframe { peer: PEER }).await.expect("it goes on");
    assert!(!viewer.events.iter().any(is_close), "{:?}", viewer.events);
    // A later close of the master is still noticed.
    goes(viewer, master).await;
}

/// Contract, N27: continued reports indicate a pause.
#[tokio::test]
async fn n27_data_channel_close_and_pause_is_not_a_peer_close() {
    // Reports come every second, so one or two fit into this time.
    let stall_after = Duration::from_secs(4);
    let mut viewer = Viewer::new(PeerConfig { stall_after, ..peer_config() });
    let mut master = Master::new(Codec::H264).await;
    viewer.exchanged(&mut master).await;
    viewer.event(connected).await;
    let playing = Playing::start(&master.video, pictures);
    viewer.event(|event| *event == PeerEvent::KeyframeReceived).await;
    channel(&mut master).await.close().await.expect("closes the channel");
    drop(playing);
    viewer.event(|event| *event == PeerEvent::MediaStalled).await;
    viewer.event(|event| *event == PeerEvent::SenderReport).await;
    assert!(!viewer.events.iter().any(is_close), "{:?}", viewer.events);
    goes(viewer, master).await;
}
