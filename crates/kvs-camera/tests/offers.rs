//! Tests offers as real viewers write them, and their answers.

mod common;

use common::{Viewer, config, emulator, event, start};
use kvs_camera::{CameraConfig, CameraEvent, IgnoredOffer, LeaveReason, Source, Trickle};
use peer_webrtc::Codec;
use recording::ClipKind;

const HEAD: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
    a=group:BUNDLE audio video\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n";

const ICE: &str = "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlZ7\r\n\
    a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:\
    86:F2:30:AA:65:FB:04:24\r\na=setup:actpass\r\na=rtcp-mux\r\na=rtcp-rsize\r\n";

/// Returns an offer as Chromium writes it, with its payload types.
fn chromium(options: &str) -> String {
    let h264 = [
        (103, "packetization-mode=1;profile-level-id=42001f"),
        (107, "packetization-mode=0;profile-level-id=42001f"),
        (109, "packetization-mode=1;profile-level-id=42e01f"),
        (115, "packetization-mode=0;profile-level-id=42e01f"),
        (117, "packetization-mode=1;profile-level-id=4d001f"),
    ];
    let mut video = String::new();
    for (payload_type, parameters) in h264 {
        let rtx = payload_type + 1;
        video += &format!(
            "a=rtpmap:{payload_type} H264/90000\r\na=rtcp-fb:{payload_type} goog-remb\r\n\
             a=rtcp-fb:{payload_type} transport-cc\r\na=rtcp-fb:{payload_type} ccm fir\r\n\
             a=rtcp-fb:{payload_type} nack\r\na=rtcp-fb:{payload_type} nack pli\r\n\
             a=fmtp:{payload_type} level-asymmetry-allowed=1;{parameters}\r\n\
             a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n"
        );
    }
    format!(
        "{HEAD}m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110\r\n{ICE}{options}a=mid:audio\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=recvonly\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n\
         a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n\
         a=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 110 115 116 117 118\r\n\
         {ICE}{options}a=mid:video\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
         {video}"
    )
}

#[tokio::test]
async fn browser_offer_is_answered_with_constrained_baseline_h264() {
    let emulator = emulator().await;
    let (camera, _events) = start(config(&emulator)).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    let answer = viewer.answer_to(&chromium("a=ice-options:trickle\r\n")).await;
    let video = section(&answer, "m=video");
    let first = video.lines().next().expect("a section");
    assert!(first.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 109"), "{answer}");
    assert!(video.contains("a=mid:video\r\n") && video.contains("a=sendonly\r\n"), "{answer}");
    assert!(video.contains("a=setup:active\r\n"), "{answer}");
    let audio = section(&answer, "m=audio");
    assert!(audio.starts_with("m=audio 9 UDP/TLS/RTP/SAVPF 111"), "{answer}");
    assert!(audio.contains("a=sendonly\r\n"), "{answer}");
    assert!(!answer.contains("rtx"), "{answer}");
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn offer_without_trickle_is_answered_with_candidates() {
    let emulator = emulator().await;
    let trickle = Trickle::WhenOffered;
    let (camera, _events) = start(CameraConfig { trickle, ..config(&emulator) }).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    let answer = viewer.answer_to(&chromium("")).await;
    assert!(answer.contains("a=candidate:"), "{answer}");
    let answer = viewer.answer_to(&chromium("a=ice-options:trickle\r\n")).await;
    assert!(!answer.contains("a=candidate:"), "{answer}");
    camera.shutdown().await;
    emulator.shutdown().await;
}

/// The rejected section is the first of the two, so the BUNDLE group's tag moves to the other one.
#[tokio::test]
async fn section_without_the_clips_codec_is_rejected_and_reported() {
    let emulator = emulator().await;
    let source = Source::Bundled(ClipKind::Vp8Opus);
    let (camera, mut events) = start(CameraConfig { source, ..config(&emulator) }).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    let offer = viewer.make_offer().await;
    let answer = viewer.answer_to(&offer).await;
    let video = section(&answer, "m=video");
    assert!(video.starts_with("m=video 0 "), "{answer}");
    assert!(video.contains("a=inactive") && !video.contains("a=sendonly"), "{answer}");
    let audio = section(&answer, "m=audio");
    assert!(audio.starts_with("m=audio 9 ") && audio.contains("a=sendonly\r\n"), "{answer}");
    assert!(audio.contains("a=ice-ufrag:") && answer.contains("a=fingerprint:"), "{answer}");
    let mid = |section: &str| {
        let line = section.lines().find_map(|line| line.strip_prefix("a=mid:"));
        line.expect("a mid").trim_end().to_owned()
    };
    let bundle = format!("a=group:BUNDLE {}\r\n", mid(audio));
    assert!(answer.contains(&bundle), "{answer}");
    let reported = event(&mut events, "the mismatch", |event| {
        matches!(event, CameraEvent::CodecMismatch { kind: "video", .. })
    });
    let CameraEvent::CodecMismatch { sends, offered, .. } = reported.await else { unreachable!() };
    assert_eq!((sends, offered.as_slice()), ("VP8", ["H264".to_owned()].as_slice()));
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn offer_without_common_codec_is_rejected_and_session_ends() {
    let emulator = emulator().await;
    let source = Source::Bundled(ClipKind::Vp8Opus);
    let config = CameraConfig { source, audio: false, ..config(&emulator) };
    let (camera, mut events) = start(config).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    let offer = viewer.make_offer().await;
    let answer = viewer.answer_to(&offer).await;
    let accepted = answer.lines().filter(|l| l.starts_with("m=") && !l.contains(" 0 UDP"));
    assert_eq!(accepted.count(), 0, "{answer}");
    event(&mut events, "the end", |event| {
        let why = LeaveReason::NoCommonCodec;
        matches!(event, CameraEvent::ViewerLeft { reason, .. } if *reason == why)
    })
    .await;
    camera.shutdown().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn audio_section_is_rejected_when_audio_is_off() {
    let emulator = emulator().await;
    let (camera, _events) = start(CameraConfig { audio: false, ..config(&emulator) }).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.go_live().await;
    let answer = &viewer.answers[0];
    assert!(section(answer, "m=audio").starts_with("m=audio 0 "), "{answer}");
    assert!(section(answer, "m=video").starts_with("m=video 9 "), "{answer}");
    camera.shutdown().await;
    emulator.shutdown().await;
}

/// Behaves as GStreamer's sink: without RTX in the offer, lost packets come on the media stream.
#[tokio::test]
async fn rtx_stream_is_used_when_both_sides_support_it() {
    let emulator = emulator().await;
    for (rtx, offer, expected) in [
        (true, chromium("a=ice-options:trickle\r\n"), true),
        (false, chromium("a=ice-options:trickle\r\n"), false),
        (true, without_rtx(&chromium("a=ice-options:trickle\r\n")), false),
    ] {
        let (camera, _events) = start(CameraConfig { rtx, ..config(&emulator) }).await;
        let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
        let answer = viewer.answer_to(&offer).await;
        let video = section(&answer, "m=video");
        assert_eq!(video.contains("a=rtpmap:110 rtx/90000"), expected, "{answer}");
        assert_eq!(video.contains("a=fmtp:110 apt=109"), expected, "{answer}");
        assert_eq!(video.contains("a=ssrc-group:FID "), expected, "{answer}");
        camera.shutdown().await;
    }
    emulator.shutdown().await;
}

fn without_rtx(offer: &str) -> String {
    let lines = offer.lines().filter(|line| !line.contains(" rtx/") && !line.contains(" apt="));
    let text: String = lines.map(|line| format!("{line}\r\n")).collect();
    text.replace(
        " 96 97 103 104 107 108 109 110 115 116 117 118\r\n",
        " 96 103 107 109 115 117\r\n",
    )
}

#[tokio::test]
async fn invalid_offers_do_not_affect_camera() {
    let emulator = emulator().await;
    let (camera, mut events) = start(config(&emulator)).await;
    let mut viewer = Viewer::open(&emulator, "viewer", Codec::H264).await;
    viewer.send_unchecked("hello");
    event(&mut events, "silence", |event| {
        let why = IgnoredOffer::Undecodable;
        matches!(event, CameraEvent::OfferIgnored { reason, .. } if *reason == why)
    })
    .await;
    // This offer is readable but useless: it has no ICE and no fingerprint.
    viewer.send_unchecked("v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 X 1\r\n");
    event(&mut events, "the end", |event| matches!(event, CameraEvent::ViewerLeft { .. })).await;
    viewer.go_live().await;
    camera.shutdown().await;
    emulator.shutdown().await;
}

fn section<'a>(sdp: &'a str, begins: &str) -> &'a str {
    let from = sdp.find(begins).expect("the section is there");
    let rest = &sdp[from..];
    &rest[..rest[2..].find("\r\nm=").map_or(rest.len(), |end| end + 4)]
}
