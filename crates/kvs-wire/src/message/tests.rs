//! Samples of the protocol description, and messages of services and masters that deviate from it.

use super::*;
use crate::service_error::SignedWith;
use proptest::prelude::*;

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:v0\r\na=ice-ufrag:uf\r\n\
    a=ice-pwd:pw\r\na=recvonly\r\n";

fn local(text: &str, mid: Option<&str>, mline_index: Option<u16>) -> Candidate {
    Candidate { text: text.into(), mid: mid.map(str::to_owned), mline_index, ufrag: None }
}

fn frame(kind: &str, payload: &str) -> String {
    format!(r#"{{"messageType":"{kind}","messagePayload":"{}"}}"#, STANDARD.encode(payload))
}

fn answer(sdp: &str) -> String {
    frame("SDP_ANSWER", &serde_json::json!({"type": "answer", "sdp": sdp}).to_string())
}

/// docs/kvs-protocol.md 5.4, with the JavaScript SDK's own bytes.
#[test]
fn samples_encode_to_the_same_bytes() {
    let sdp = "offer= true\nvideo= true";
    assert_eq!(
        encode_description(SdpType::Offer, None, sdp, None),
        Ok(r#"{"action":"SDP_OFFER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoib2ZmZXIifQ=="}"#.to_owned())
    );
    assert_eq!(
        encode_description(SdpType::Answer, None, sdp, None),
        Ok(r#"{"action":"SDP_ANSWER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoiYW5zd2VyIn0="}"#.to_owned())
    );
    assert_eq!(
        encode_candidate(None, &local("upd 10.111.34.88", Some("1"), Some(1)), &[], None),
        Ok(r#"{"action":"ICE_CANDIDATE","messagePayload":"eyJjYW5kaWRhdGUiOiJ1cGQgMTAuMTExLjM0Ljg4Iiwic2RwTWlkIjoiMSIsInNkcE1MaW5lSW5kZXgiOjF9"}"#.to_owned())
    );
}

#[test]
fn samples_decode() {
    let candidate = r#"{"messageType":"ICE_CANDIDATE","senderClientId":"TestClientId","messagePayload":"eyJjYW5kaWRhdGUiOiJ1cGQgMTAuMTExLjM0Ljg4Iiwic2RwTWlkIjoiMSIsInNkcE1MaW5lSW5kZXgiOjF9"}"#;
    assert_eq!(
        decode(candidate),
        Incoming::Candidate {
            sender: Some("TestClientId".into()),
            candidate: Ok(local("upd 10.111.34.88", Some("1"), Some(1))),
        }
    );
    // The sample contains a text that is no SDP; the codec does not parse it.
    let answer = r#"{"messageType":"SDP_ANSWER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoiYW5zd2VyIn0="}"#;
    let text = "offer= true\nvideo= true";
    assert_eq!(decode(answer), Incoming::Answer { sender: None, sdp: Ok(Sdp::new(text)) });
    let status = r#"{"messageType": "STATUS_RESPONSE","statusResponse":{"correlationId": "1697058567743","errorType": "InvalidArgumentException","statusCode": "400","success": false}}"#;
    let Incoming::Status { correlation_id, error } = decode(status) else {
        panic!("a status");
    };
    assert_eq!(correlation_id.as_deref(), Some("1697058567743"));
    assert_eq!(error.code(), FailureCode::InvalidArgument);
    let failure = error.failure(SignedWith::Unknown, str::to_owned);
    assert_eq!(failure.api_name.as_deref(), Some("InvalidArgumentException"));
    let gateway = r#"{"message": "Endpoint request timed out", "connectionId":"Jzo5lcQFtjvCJcq=", "requestId":"Jzo5vMzgNjZFb9Q="}"#;
    assert_eq!(decode(gateway), Incoming::Garbage);
}

// Shows: N6, 7.
#[test]
fn broken_envelope_is_garbage_and_broken_payload_undecodable() {
    for garbage in [
        "",
        " ",
        "null",
        "[]",
        "not json",
        r#"{"messageType":"SDP_ANS"#,
        r#"{"messageType":"CHAT","messagePayload":"e30="}"#,
        r#"{"messageType":7}"#,
        &"[".repeat(5_000),
        &format!(r#"{{"messageType":"GO_AWAY","x":"{}"}}"#, "x".repeat(FRAME_BYTES_MAX)),
    ] {
        assert_eq!(decode(garbage), Incoming::Garbage, "{garbage:.40}");
    }
    for payload in ["", "{", "7", "{}", r#"{"sdp":""}"#, r#"{"sdp":7}"#, r#"{"sdp":null}"#] {
        let frame = frame("SDP_ANSWER", payload);
        assert_eq!(
            decode(&frame),
            Incoming::Answer { sender: None, sdp: Err(Undecodable) },
            "{payload}"
        );
    }
    for whole in [
        r#"{"messageType":"SDP_ANSWER"}"#,
        r#"{"messageType":"SDP_ANSWER","messagePayload":"*&^"}"#,
    ] {
        assert_eq!(
            decode(whole),
            Incoming::Answer { sender: None, sdp: Err(Undecodable) },
            "{whole}"
        );
    }
}

#[test]
fn any_base64_alphabet_padding_and_field_case_is_accepted() {
    let body = serde_json::json!({"type": "answer", "sdp": format!("{SDP}a=x:???>>>~~~\r\n")});
    let encoded = STANDARD.encode(body.to_string());
    let url_safe = encoded.replace('+', "-").replace('/', "_");
    assert_ne!(encoded, url_safe, "the sample must tell the alphabets apart");
    for payload in [&encoded, &url_safe, &format!("{}===", encoded.trim_end_matches('='))] {
        for payload in [payload.as_str(), payload.trim_end_matches('=')] {
            for frame in [
                format!(r#"{{"messageType":"SDP_ANSWER","messagePayload":"{payload}"}}"#),
                format!(r#"{{"MessageType":"SDP_ANSWER","MessagePayload":"{payload}"}}"#),
            ] {
                assert!(
                    matches!(decode(&frame), Incoming::Answer { sender: None, sdp: Ok(_) }),
                    "{frame}"
                );
            }
        }
    }
}

#[test]
fn bytes_around_a_payload_are_removed() {
    let body = serde_json::json!({"type": "answer", "sdp": SDP}).to_string();
    let latin = serde_json::json!({"type": "answer", "sdp": SDP.replace("s=-", "s=caf#")});
    let latin = latin.to_string();
    let (before, after) = latin.split_once('#').expect("a place for it");
    for payload in [
        [body.as_bytes(), b"\0"].concat(),
        [body.as_bytes(), b"\0\0\0\0"].concat(),
        [body.as_bytes(), b" \r\n\0\n"].concat(),
        [b"\xef\xbb\xbf", body.as_bytes()].concat(),
        [b"\xef\xbb\xbf \n", body.as_bytes(), b"\0"].concat(),
        [before.as_bytes(), b"\xe9", after.as_bytes()].concat(),
    ] {
        let encoded = STANDARD.encode(&payload);
        for encoded in [encoded.clone(), format!("{encoded}\\u0000"), format!("\\n{encoded}\\r\\n")]
        {
            let frame = format!(r#"{{"messageType":"SDP_ANSWER","messagePayload":"{encoded}"}}"#);
            assert!(
                matches!(decode(&frame), Incoming::Answer { sender: None, sdp: Ok(_) }),
                "{frame}"
            );
        }
    }
    let candidate =
        [br#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 9 typ host"}"#, &b"\0"[..]].concat();
    let encoded = STANDARD.encode(candidate);
    let frame = format!(r#"{{"messageType":"ICE_CANDIDATE","messagePayload":"{encoded}"}}"#);
    assert!(
        matches!(decode(&frame), Incoming::Candidate { sender: None, candidate: Ok(_) }),
        "{frame}"
    );
}

// Shows: 10.
#[test]
fn master_is_recognized_by_each_of_its_names() {
    let sender = |json: &str| {
        let frame = format!(r#"{{"messageType":"ICE_CANDIDATE"{json}}}"#);
        let Incoming::Candidate { sender, candidate: Err(Undecodable) } = decode(&frame) else {
            panic!("{json}");
        };
        sender
    };
    for master in [
        "",
        r#","senderClientId":null"#,
        r#","senderClientId":"""#,
        r#","SenderClientId":"AWS_DEFAULT_SINGLE_MASTER""#,
    ] {
        assert_eq!(sender(master), None, "{master}");
    }
    assert_eq!(sender(r#","senderClientId":"other""#).as_deref(), Some("other"));
    assert!(sender(r#","senderClientId":7"#).is_some());
}

// Shows: 14.
#[test]
fn end_of_candidates_is_accepted_in_every_form() {
    for payload in [
        "null",
        r#""""#,
        r#"{"candidate":""}"#,
        r#"{"candidate":null}"#,
        r#"{"candidate":"a=end-of-candidates","sdpMid":"0"}"#,
    ] {
        let Incoming::Candidate { sender: None, candidate: Ok(candidate) } =
            decode(&frame("ICE_CANDIDATE", payload))
        else {
            panic!("{payload}");
        };
        assert!(candidate.is_end(), "{payload}");
    }
}

#[test]
fn candidate_contains_its_ufrag() {
    let ufrag = |payload: &str| {
        let Incoming::Candidate { sender: None, candidate: Ok(candidate) } =
            decode(&frame("ICE_CANDIDATE", payload))
        else {
            panic!("{payload}");
        };
        candidate.ufrag
    };
    assert_eq!(ufrag(r#"{"candidate":"candidate:1","usernameFragment":"u1"}"#), Some("u1".into()));
    let inside = r#"{"candidate":"candidate:1 1 udp 1 1.2.3.4 9 typ host ufrag u2 network-id 1"}"#;
    assert_eq!(ufrag(inside), Some("u2".into()));
    assert_eq!(ufrag(r#"{"candidate":"candidate:1","usernameFragment":null}"#), None);
}

#[test]
fn missing_mid_or_index_comes_from_the_description() {
    let mids = [Some("audio".to_owned()), Some("video".to_owned())];
    let sent = |candidate: &Candidate| {
        let frame = encode_candidate(None, candidate, &mids, Some("1-2")).expect("small");
        let frame = frame.replace(r#""action""#, r#""messageType""#);
        let Incoming::Candidate { candidate: Ok(candidate), .. } = decode(&frame) else {
            panic!("{frame}");
        };
        (candidate.mid, candidate.mline_index)
    };
    let both = (Some("video".to_owned()), Some(1));
    assert_eq!(sent(&local("candidate:1", Some("video"), None)), both);
    assert_eq!(sent(&local("candidate:1", None, Some(1))), both);
    assert_eq!(sent(&local("a=candidate:1", None, None)), (Some("audio".into()), Some(0)));
    assert_eq!(sent(&local("candidate:1", Some("7"), None)), (Some("7".into()), Some(7)));
}

// Shows: N11.
#[test]
fn too_long_description_loses_its_candidates_or_fails() {
    let candidates = "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n".repeat(300);
    let frame =
        encode_description(SdpType::Offer, None, &format!("{SDP}{candidates}"), Some("1-1"))
            .expect("fits without candidates");
    let frame = frame.replace(r#""action""#, r#""messageType""#);
    let Incoming::Offer { sender: None, sdp: Ok(sdp) } = decode(&frame) else {
        panic!("an offer");
    };
    assert_eq!(sdp.as_str(), SDP);
    let padding = format!("a=x:{}\r\n", "y".repeat(PAYLOAD_CHARS_MAX));
    let failure = encode_description(SdpType::Offer, None, &format!("{SDP}{padding}"), None)
        .expect_err("too big");
    assert_eq!(failure.code, FailureCode::TooBig);
}

#[test]
fn status_of_a_success_is_garbage() {
    let frame = r#"{"messageType":"STATUS_RESPONSE","statusResponse":{"success":true}}"#;
    assert_eq!(decode(frame), Incoming::Garbage);
    assert_eq!(decode(r#"{"messageType":"STATUS_RESPONSE"}"#), Incoming::Garbage);
}

proptest! {
    // Shows: 34.
    #[test]
    fn any_text_is_decoded(text in ".{0,200}") {
        decode(&text);
    }

    #[test]
    fn any_payload_is_decoded(
        kind in prop::sample::select(vec![
            "SDP_OFFER", "SDP_ANSWER", "ICE_CANDIDATE", "STATUS_RESPONSE", "GO_AWAY", "x",
        ]),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..400,
    ) {
        let frame = format!(
            r#"{{"messageType":"{kind}","messagePayload":"{}"}}"#,
            STANDARD.encode(payload)
        );
        decode(&frame);
        decode(frame.get(..cut).unwrap_or(&frame));
    }

    #[test]
    fn candidate_survives_encoding_and_decoding(
        text in "candidate:[ -~]{0,200}[a-z]",
        mid in "[a-zA-Z0-9]{1,16}",
        index in any::<u16>(),
        ufrag in proptest::option::of("[a-zA-Z0-9+/]{4,32}"),
    ) {
        let candidate = Candidate {
            text: text.as_str().into(),
            mid: Some(mid),
            mline_index: Some(index),
            ufrag,
        };
        let frame = encode_candidate(Some("viewer"), &candidate, &[], Some("1-9")).expect("small");
        let Incoming::Candidate { sender: None, candidate: Ok(back) } =
            decode(&frame.replace(r#""action""#, r#""messageType""#))
        else {
            panic!("a candidate");
        };
        prop_assert_eq!(back.text, candidate.text);
        prop_assert_eq!(back.mid, candidate.mid);
        prop_assert_eq!(back.mline_index, candidate.mline_index);
        prop_assert!(candidate.ufrag.is_none() || back.ufrag == candidate.ufrag);
    }

    #[test]
    fn description_survives_encoding_and_decoding(tail in "[ -~]{0,400}") {
        let sdp = format!("{SDP}a=x:{tail}y\r\n");
        prop_assert_eq!(decode(&answer(&sdp)), Incoming::Answer { sender: None, sdp: Ok(Sdp::new(&sdp)) });
    }
}
