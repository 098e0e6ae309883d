//! Tests answers that differ from the offer and are fitted or refused.

use viewer_session::sdp::normalize;

use super::*;

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a d\r\n\
    a=fingerprint:sha-256 AA:BB\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102 97 96\r\na=mid:v\r\na=ice-ufrag:ours\r\na=recvonly\r\n\
    a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1\r\na=rtpmap:97 rtx/90000\r\n\
    a=fmtp:97 apt=102\r\na=rtpmap:96 VP8/90000\r\na=extmap:4 urn:a\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\n";

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
const TRANSPORT: &str = "a=ice-ufrag:uf\r\na=ice-pwd:secret\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff\r\n";
const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 102\r\na=mid:v\r\na=sendonly\r\n\
    a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;sprop-parameter-sets=Z0I=,aM4=\r\n";
const AUDIO: &str =
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=sendrecv\r\na=rtpmap:111 opus/48000/2\r\n";
const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n";

fn fitted(sections: &[&str]) -> Result<Fitted, Unfit> {
    whole(&format!("{HEAD}{TRANSPORT}{}", sections.concat()))
}

fn whole(answer: &str) -> Result<Fitted, Unfit> {
    fit(&normalize(answer).expect("an SDP"), OFFER)
}

/// Returns each section's kind, port, formats and direction in the fitted answer.
fn shape(fitted: &Fitted) -> Vec<String> {
    let lines = Description::split(&fitted.text);
    let direction = |section: &Section<'_>| lines.direction(section).as_str();
    lines.sections.iter().map(|s| format!("{} {}", s.line, direction(s))).collect()
}

const ALL: [&str; 3] = [
    "video 9 UDP/TLS/RTP/SAVPF 102 sendonly",
    "audio 9 UDP/TLS/RTP/SAVPF 111 sendrecv",
    "application 9 UDP/DTLS/SCTP webrtc-datachannel sendrecv",
];

#[test]
fn answer_sections_with_wrong_mids_are_paired_with_offer() {
    let bare = |section: &str| {
        section
            .lines()
            .filter(|l| !l.starts_with("a=mid"))
            .map(|l| format!("{l}\r\n"))
            .collect::<String>()
    };
    let renamed = |section: &str| section.replace("a=mid:", "a=mid:x");
    let (video, audio, data) = (bare(VIDEO), bare(AUDIO), bare(DATA));
    for sections in [
        [VIDEO, AUDIO, DATA],
        [VIDEO, &audio, DATA],
        [&video, &audio, &data],
        [&video, AUDIO, &data],
        [&renamed(VIDEO), &renamed(AUDIO), DATA],
        // In another order: paired by mid, or by kind without one.
        [AUDIO, DATA, VIDEO],
        [&audio, &data, &video],
        // The mids belong to sections of another kind.
        [&VIDEO.replace("mid:v", "mid:a"), &AUDIO.replace("mid:a", "mid:v"), DATA],
    ] {
        let fitted = fitted(&sections).expect("fits");
        assert_eq!(shape(&fitted), ALL, "{sections:?}");
        assert!(fitted.text.contains("a=group:BUNDLE v a d\r\n"), "{}", fitted.text);
        for mid in ["v", "a", "d"] {
            assert_eq!(fitted.text.matches(&format!("a=mid:{mid}\r\n")).count(), 1);
        }
    }
}

#[test]
fn rejected_or_missing_section_gets_offered_formats() {
    let refused = "audio 0 UDP/TLS/RTP/SAVPF 111 inactive";
    for audio in [
        "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\n",
        "m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n",
        "m=audio 0 RTP/AVP 0 8 200 x 999\r\na=inactive\r\n",
        "m=audio 0 UDP/TLS/RTP/SAVPF\r\n",
        "m=audio 0\r\n",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=inactive\r\na=rtpmap:111 opus/48000/2\r\n",
        "",
    ] {
        let fitted = fitted(&[VIDEO, audio, DATA]).expect("fits");
        assert_eq!(shape(&fitted), [ALL[0], refused, ALL[2]], "{audio:?}");
        assert!(fitted.text.contains("a=group:BUNDLE v d\r\n"), "{}", fitted.text);
        assert!(fitted.text.contains("a=rtpmap:111 opus/48000/2"), "{}", fitted.text);
        assert!(fitted.sections[1].formats.is_empty());
    }
    // The answer has more sections than the offer.
    let more = fitted(&[VIDEO, AUDIO, DATA, "m=video 9 X 96\r\na=mid:w\r\n", "m=text 9 X y\r\n"]);
    assert_eq!(shape(&more.expect("fits")), ALL);
    let bundle_only = VIDEO.replace("m=video 9", "m=video 0") + "a=bundle-only\r\n";
    assert_eq!(shape(&fitted(&[&bundle_only, AUDIO, DATA]).expect("fits")), ALL);
}

#[test]
fn fitted_answer_keeps_only_offered_formats() {
    let formats = |section: &str| {
        let fitted = fitted(&[section])?;
        let formats = &fitted.sections[0].formats;
        Ok::<_, Unfit>(formats.iter().map(|f| (f.payload_type, f.codec)).collect::<Vec<_>>())
    };
    for (video, expected) in [
        ("102\r\na=rtpmap:102 h264/90000", vec![(102, Codec::H264)]),
        // Without `a=rtpmap`, the number means what it means in the offer.
        ("102", vec![(102, Codec::H264)]),
        ("96 102\r\na=rtpmap:102 H264", vec![(96, Codec::Vp8), (102, Codec::H264)]),
        ("96 100\r\na=rtpmap:100 H265/90000", vec![(96, Codec::Vp8)]),
        (
            "102 97 98\r\na=fmtp:97 apt=102\r\na=rtpmap:98 rtx/90000\r\na=fmtp:98 apt=1",
            vec![(102, Codec::H264)],
        ),
        // The answer uses another number: packets may come with either.
        ("127\r\na=rtpmap:127 H264/90000", vec![(127, Codec::H264), (102, Codec::H264)]),
        // The answer uses a number of the offer for another format.
        ("96\r\na=rtpmap:96 H264/90000", vec![(96, Codec::H264), (102, Codec::H264)]),
        (
            "96 102\r\na=rtpmap:96 H264/90000\r\na=rtpmap:102 VP8/90000",
            vec![(96, Codec::H264), (102, Codec::Vp8)],
        ),
        ("102 102 +102 300 x\r\na=rtpmap:102 H264/90000", vec![(102, Codec::H264)]),
    ] {
        let section = format!("m=video 9 UDP/TLS/RTP/SAVPF {video}\r\n");
        assert_eq!(formats(&section), Ok(expected), "{video}");
    }
}

/// Contract 9.
#[test]
fn video_in_unoffered_format_fails_as_codec_with_quote() {
    let h265 = "m=video 9 X 127\r\na=mid:v\r\na=rtpmap:127 H265/90000\r\n";
    let g711 = "m=audio 9 X 0 8\r\na=mid:a\r\n";
    let Err(Unfit::Codec(reported)) = fitted(&[h265, AUDIO, DATA]) else { panic!("accepted") };
    assert_eq!(
        reported,
        "the format of the answer's pictures is H265; offered: H264, VP8 (\"a=rtpmap:127 H265/90000\")"
    );
    // Only the audio section is left out, unless no other media is left.
    let fitted_without = fitted(&[VIDEO, g711, DATA]).expect("fits");
    assert!(shape(&fitted_without)[1].starts_with("audio 0 "));
    let Err(Unfit::Codec(reported)) = fitted(&["m=video 0 X 0\r\n", g711, DATA]) else { panic!() };
    assert!(
        reported.contains("sound is PCMA, PCMU;") && reported.contains("m=audio 9 X 0 8"),
        "{reported}"
    );
    let Err(Unfit::Codec(reported)) = fitted(&["m=video 9 X 35\r\n"]) else { panic!("accepted") };
    assert!(reported.contains("pictures is unknown;"), "{reported}");
    let Err(Unfit::Description(reported)) = fitted(&["m=video 9 UDP/T\r\n"]) else { panic!() };
    assert!(reported.contains("\"m=video 9 UDP/T\""), "{reported}");
}

#[test]
fn video_transport_is_found_at_session_or_section_level() {
    let expected = |fitted: &Fitted| {
        let lines = Description::split(&fitted.text);
        let [ufrag, setup] = ["ice-ufrag", "setup"].map(|name| lines.transport(name));
        (ufrag.map(str::to_owned), setup.map(str::to_owned))
    };
    let at_session = |setup: &str| (Some("uf".to_owned()), Some(setup.to_owned()));
    let all = [VIDEO, AUDIO, DATA].concat();
    for (extra, setup) in [
        ("", "active"),
        ("a=setup:active\r\n", "active"),
        ("a=setup:actpass\r\n", "active"),
        ("a=setup:holdconn\r\n", "active"),
        ("a=SETUP:Passive\r\n", "passive"),
    ] {
        let session = whole(&format!("{HEAD}{TRANSPORT}{extra}{all}")).expect("fits");
        assert_eq!(expected(&session), at_session(setup), "{extra}");
        let media = whole(&format!("{HEAD}{VIDEO}{TRANSPORT}{extra}{AUDIO}{DATA}")).expect("fits");
        assert_eq!(expected(&media), at_session(setup), "{extra}");
    }
    // The sections are not bundled: the video section's transport is used, and the others are left
    // out.
    let other = TRANSPORT.replace(":uf", ":other");
    let apart = whole(&format!("{HEAD}{AUDIO}{other}{VIDEO}{TRANSPORT}{DATA}")).expect("fits");
    assert_eq!(shape(&apart)[0], ALL[0]);
    assert!(shape(&apart)[1].starts_with("audio 0 "), "{:?}", shape(&apart));
    assert_eq!(expected(&apart).0.as_deref(), Some("uf"));
}

#[test]
fn answer_error_names_missing_line_without_secrets() {
    let without = |name: &str| {
        let kept = |line: &&str| !line.starts_with(name);
        let transport: String =
            TRANSPORT.lines().filter(kept).map(|l| format!("{l}\r\n")).collect();
        match whole(&format!("{HEAD}{transport}{VIDEO}")) {
            Err(Unfit::Description(reported)) => reported,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(without("a=ice-ufrag"), "the answer has no a=ice-ufrag line");
    assert_eq!(without("a=ice-pwd"), "the answer has no a=ice-pwd line");
    assert_eq!(without("a=fingerprint"), "the answer has no a=fingerprint line");
    for (line, quoted) in
        [("sha-512 AA:BB", "sha-512 AA:BB"), ("sha-256 AA", "sha-256 AA"), ("x", "x")]
    {
        let text =
            format!("{HEAD}a=ice-ufrag:u\r\na=ice-pwd:secret\r\na=fingerprint:{line}\r\n{VIDEO}");
        let Err(Unfit::Description(reported)) = whole(&text) else { panic!("{line}") };
        assert!(reported.contains(&format!("\"a=fingerprint:{quoted}\"")), "{reported}");
        assert!(!reported.contains("secret"), "{reported}");
    }
}

#[test]
fn sha_256_fingerprint_is_used_in_any_letter_case() {
    for extra in ["a=fingerprint:sha-512 CC\r\n", "a=fingerprint:SHA-1 AA\r\n"] {
        let text = TRANSPORT.replace("sha-256", "SHA-256");
        let fitted = whole(&format!("{HEAD}{extra}{text}{extra}{VIDEO}")).expect("fits");
        assert_eq!(fitted.text.matches("a=fingerprint").count(), 1);
        assert!(fitted.text.contains("a=fingerprint:sha-256 00:11:22"), "{}", fitted.text);
    }
}

#[test]
fn answer_direction_is_limited_by_offer() {
    for (answer, expected) in [
        ("a=sendrecv\r\n", "sendonly"),
        ("a=SendOnly\r\n", "sendonly"),
        ("", "sendonly"),
        ("a=recvonly\r\n", "inactive"),
    ] {
        let video = VIDEO.replace("a=sendonly\r\n", answer);
        let shape = shape(&fitted(&[&video, AUDIO, DATA]).expect("fits"));
        assert!(shape[0].ends_with(expected), "{answer}: {}", shape[0]);
    }
    let session = format!("{HEAD}{TRANSPORT}a=sendonly\r\n{}", VIDEO.replace("a=sendonly\r\n", ""));
    assert!(shape(&whole(&session).expect("fits"))[0].ends_with("sendonly"));
}

#[test]
fn readable_sources_extensions_and_data_channels_are_kept() {
    let video = format!(
        "{VIDEO}a=ssrc:7 cname:x\r\na=ssrc:x\r\na=ssrc:8\r\na=ssrc-group:FID 7 8\r\n\
         a=ssrc-group:FID 7\r\na=msid:s t\r\na=extmap:4 urn:a\r\na=extmap:0 urn:a\r\n\
         a=extmap:9 urn:other\r\na=rid:1 send\r\na=simulcast:send 1\r\na=rtcp-fb:* nack\r\n\
         a=rtcp-fb:102 nack pli\r\na=nonsense\r\na=x:y\r\n"
    );
    let data = "m=application 9 DTLS/SCTP 6000\r\na=sctpmap:6000 webrtc-datachannel 256\r\n";
    let text = fitted(&[&video, AUDIO, data]).expect("fits").text;
    for line in [
        "ssrc:7 cname:x",
        "ssrc:8 cname:-",
        "ssrc-group:FID 7 8",
        "msid:s t",
        "extmap:4 urn:a",
        "rtcp-fb:102 nack",
        "rtcp-fb:102 nack pli",
        "sctp-port:6000",
    ] {
        assert_eq!(text.matches(&format!("a={line}\r\n")).count(), 1, "{line}: {text}");
    }
    for gone in ["rid", "simulcast", "other", "nonsense", "a=x", "extmap:0"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    // The stack refuses an msid without a source.
    let text = fitted(&[&format!("{VIDEO}a=msid:s t\r\n"), AUDIO]).expect("fits").text;
    assert!(!text.contains("msid"), "{text}");
}

#[test]
fn parameter_sets_are_those_of_the_format() {
    let fitted = fitted(&[VIDEO, AUDIO, DATA]).expect("fits");
    let [video, audio] = &fitted.sections[..] else { panic!("{fitted:?}") };
    assert_eq!((video.mid.as_str(), video.kind), ("v", MediaKind::Video));
    assert_eq!(video.formats[0].parameter_sets, [vec![0x67, 0x42], vec![0x68, 0xce]]);
    assert!(audio.formats[0].parameter_sets.is_empty());
}
