//! Tests how a description is parsed.

use super::*;

#[test]
fn formats_are_read_from_an_offer() {
    let offer = "m=video 9 UDP/TLS/RTP/SAVPF 120 121 122\r\na=rtpmap:120 vp8/90000\r\n\
        a=rtpmap:121 RTX/90000\r\na=fmtp:121 rtx-time=3000; apt=120\r\n\
        a=rtpmap:122 red/90000\r\na=fmtp:122 apt=1\r\na=rtpmap:300 rtx/90000\r\n\
        a=fmtp:111 minptime=10\r\na=ssrc-group:FID 7 8\r\na=ssrc-group:FID x 8\r\n\
        a=ssrc-group:SIM 1 2\r\na=ssrc-group:FID 9\r\n";
    assert_eq!((video_formats(offer), rtx_formats(offer)), (vec![120], vec![(121, 120)]));
    assert_eq!(pairs(offer).collect::<Vec<_>>(), [(8, 7)]);
}
