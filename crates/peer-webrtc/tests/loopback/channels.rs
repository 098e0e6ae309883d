//! Tests a master that opens data channels without limit.

use negotiation_core::MediaKind;
use peer_webrtc::Codec;
use peer_webrtc::stack::{DataChannelEvent, RTCPeerConnectionState, Stack, StackEvent};

use crate::common::{Master, config, within};

/// More channels than a viewer closes before it ends the connection.
const MANY: usize = 300;

#[tokio::test]
async fn excess_data_channels_are_closed_and_end_connection() {
    let (viewer, mut events) = Stack::build(&config(&[Codec::H264], 0)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.connection().create_data_channel("own", None).await.expect("a channel");
    let offer = viewer.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    viewer.set_local(offer).await.expect("sets");
    let mut master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(&text).await.expect("answers");
    viewer.apply_answer(&answer).await.expect("applies");
    for candidate in master.candidates().await {
        viewer.add_candidate(&candidate).await.expect("adds");
    }
    within("a connection", async {
        while let Some(event) = events.events.recv().await {
            if matches!(event, StackEvent::Connection(RTCPeerConnectionState::Connected)) {
                break;
            }
        }
    })
    .await;
    let create = async |n: usize| {
        let label = format!("x{n}");
        master.stack.connection().create_data_channel(&label, None).await.expect("opens")
    };
    let first = create(0).await;
    within("an open channel", async {
        while !matches!(first.poll().await, Some(DataChannelEvent::OnOpen)) {}
    })
    .await;
    let mut others = Vec::new();
    for n in 1..MANY {
        others.push(create(n).await);
    }
    let mut taken = Vec::new();
    within("the connection's end", async {
        loop {
            match events.events.recv().await {
                Some(StackEvent::DataChannel(channel)) => taken.push(channel),
                Some(StackEvent::Connection(RTCPeerConnectionState::Closed)) => return,
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(taken.len(), 8, "so many are open");
    viewer.close().await.expect("closes");
    master.stack.close().await.expect("closes");
}
