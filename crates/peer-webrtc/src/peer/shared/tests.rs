//! Tests what the port reads from a peer.

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;

use super::*;
use crate::peer::now;
use crate::tap::Tap;

/// Contract, N25.
#[test]
fn n25_lost_packets_of_both_kinds_are_reported() {
    let shared = Shared::default();
    assert_eq!(shared.dropped(), 0);
    let losses = Arc::<TapLosses>::default();
    let ((media, _media), (control, _control)) = (mpsc::channel(1), mpsc::channel(1));
    let tap = Tap::new(Some(media), control, Arc::clone(&losses));
    shared.losses.set(losses).expect("set once");
    for _ in 0..3 {
        tap.rtp(now(), rtc::rtp::Packet::default());
        tap.rtcp(now(), &PictureLossIndication::default());
    }
    assert_eq!(shared.dropped(), 4);
}
