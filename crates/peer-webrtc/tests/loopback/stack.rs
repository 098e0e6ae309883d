//! Tests two bare connections of the low-level stack over loopback.

use crate::common::{Master, config, h264, within};
use negotiation_core::MediaKind;
use peer_webrtc::stack::{Stack, StackEvent};
use peer_webrtc::{Codec, Control};
use std::time::Duration;

#[tokio::test]
async fn master_answers_and_its_media_arrives() {
    let (viewer, mut events) =
        Stack::build(&config(&[Codec::H264, Codec::Vp8, Codec::Opus], 1024)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.receive(MediaKind::Audio).await.expect("receives");
    let offer = viewer.connection().create_offer(None).await.expect("offers");
    let text = offer.sdp.clone();
    viewer.set_local(offer).await.expect("sets");

    let mut master = Master::new(Codec::H264).await;
    let answer = master.stack.answer(&text).await.expect("answers");
    assert!(answer.contains("a=ice-options:trickle"), "{answer}");
    assert!(!answer.contains("a=candidate"), "{answer}");
    assert!(answer.contains("a=setup:active"), "{answer}");
    assert_eq!(master.video.payload_type(), Some(102));
    assert_eq!(master.audio.payload_type(), Some(111));
    viewer.apply_answer(&answer).await.expect("applies");
    for candidate in master.candidates().await {
        viewer.add_candidate(&candidate).await.expect("adds");
    }

    let (stack, video) = (master.stack.clone(), master.video.clone());
    let sender = tokio::spawn(async move {
        let mut seq = 0_u16;
        while video.send(h264(seq, u32::from(seq) * 3000, true)).await.is_ok() {
            seq = seq.wrapping_add(1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut media = events.media.take().expect("a receiver has media");
    let first = within("media", media.recv()).await.expect("media");
    assert_eq!(first.packet.header.payload_type, 102);

    // The viewer requests a keyframe; the master receives the request.
    let track = within("the track", async {
        loop {
            if let Some(StackEvent::Track(track)) = events.events.recv().await {
                return track;
            }
        }
    })
    .await;
    let pli = rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
        sender_ssrc: 0,
        media_ssrc: first.packet.header.ssrc,
    };
    track.write_rtcp(vec![Box::new(pli)]).await.expect("asks");
    let received = within("the request", master.queues.control.recv()).await.expect("control");
    assert!(
        matches!(received, Control::KeyframeRequest { ssrc, .. } if ssrc == master.video.ssrc()),
        "{received:?}"
    );
    // The viewer receives the master's sender report.
    let report = within("a sender report", events.control.recv()).await.expect("control");
    assert!(matches!(report, Control::SenderReport { .. }), "{report:?}");

    stack.close().await.expect("closes");
    viewer.close().await.expect("closes");
    sender.await.expect("the sender ends with its peer");
    assert!(master.video.payload_type().is_none(), "detached");
}

#[tokio::test]
async fn offer_with_missing_or_broken_line_does_not_panic() {
    let (viewer, _events) =
        Stack::build(&config(&[Codec::H264, Codec::Opus], 0)).await.expect("builds");
    viewer.receive(MediaKind::Video).await.expect("receives");
    viewer.receive(MediaKind::Audio).await.expect("receives");
    let offer = viewer.connection().create_offer(None).await.expect("offers").sdp;
    let lines: Vec<&str> = offer.lines().collect();
    let mut refused = 0;
    for index in 0..lines.len() {
        for keep_half in [false, true] {
            let mut lines = lines.clone();
            let broken = lines.remove(index);
            if keep_half {
                lines.insert(index, broken.get(..broken.len() / 2).unwrap_or_default());
            }
            let master = Master::new(Codec::H264).await;
            refused += usize::from(master.stack.answer(&lines.join("\r\n")).await.is_err());
            master.stack.close().await.expect("closes");
        }
    }
    assert!(refused > 0);
    viewer.close().await.expect("closes");
}
