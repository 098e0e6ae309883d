//! The samples of the fact sheet, and whatever else a service or a master may send.

use super::*;
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
fn the_codec_samples_encode_to_the_same_bytes() {
    let sdp = "offer= true\nvideo= true";
    assert_eq!(
        encode_description(Action::Offer, None, sdp, None),
        Ok(r#"{"action":"SDP_OFFER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoib2ZmZXIifQ=="}"#.to_owned())
    );
    assert_eq!(
        encode_description(Action::Answer, None, sdp, None),
        Ok(r#"{"action":"SDP_ANSWER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoiYW5zd2VyIn0="}"#.to_owned())
    );
    assert_eq!(
        encode_candidate(None, &local("upd 10.111.34.88", Some("1"), Some(1)), &[], None),
        Ok(r#"{"action":"ICE_CANDIDATE","messagePayload":"eyJjYW5kaWRhdGUiOiJ1cGQgMTAuMTExLjM0Ljg4Iiwic2RwTWlkIjoiMSIsInNkcE1MaW5lSW5kZXgiOjF9"}"#.to_owned())
    );
}

#[test]
fn the_codec_samples_decode() {
    let candidate = r#"{"messageType":"ICE_CANDIDATE","senderClientId":"TestClientId","messagePayload":"eyJjYW5kaWRhdGUiOiJ1cGQgMTAuMTExLjM0Ljg4Iiwic2RwTWlkIjoiMSIsInNkcE1MaW5lSW5kZXgiOjF9"}"#;
    assert_eq!(
        decode(candidate),
        Incoming::Candidate(
            Some("TestClientId".into()),
            Ok(local("upd 10.111.34.88", Some("1"), Some(1)))
        )
    );
    // The sample's "SDP" is none, and its envelope is whole.
    let answer = r#"{"messageType":"SDP_ANSWER","messagePayload":"eyJzZHAiOiJvZmZlcj0gdHJ1ZVxudmlkZW89IHRydWUiLCJ0eXBlIjoiYW5zd2VyIn0="}"#;
    assert_eq!(decode(answer), Incoming::Answer(None, Err(Undecodable)));
    let status = r#"{"messageType": "STATUS_RESPONSE","statusResponse":{"correlationId": "1697058567743","errorType": "InvalidArgumentException","statusCode": "400","success": false}}"#;
    let Incoming::Status { correlation, failure } = decode(status) else {
        panic!("a status");
    };
    assert_eq!(correlation.as_deref(), Some("1697058567743"));
    assert_eq!(failure.code, FailureCode::InvalidArgument);
    assert_eq!(failure.api_name.as_deref(), Some("InvalidArgumentException"));
    let gateway = r#"{"message": "Endpoint request timed out", "connectionId":"Jzo5lcQFtjvCJcq=", "requestId":"Jzo5vMzgNjZFb9Q="}"#;
    assert_eq!(decode(gateway), Incoming::Garbage);
}

// Shows: N6, 7.
#[test]
fn a_broken_envelope_is_garbage_and_a_broken_payload_undecodable() {
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
    for payload in ["", "{", "7", "{}", r#"{"sdp":""}"#, r#"{"sdp":7}"#, r#"{"sdp":"hello"}"#] {
        let frame = frame("SDP_ANSWER", payload);
        assert_eq!(decode(&frame), Incoming::Answer(None, Err(Undecodable)), "{payload}");
    }
    for whole in [
        r#"{"messageType":"SDP_ANSWER"}"#,
        r#"{"messageType":"SDP_ANSWER","messagePayload":"*&^"}"#,
    ] {
        assert_eq!(decode(whole), Incoming::Answer(None, Err(Undecodable)), "{whole}");
    }
}

#[test]
fn both_alphabets_any_padding_and_any_field_case_are_taken() {
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
                assert!(matches!(decode(&frame), Incoming::Answer(None, Ok(_))), "{frame}");
            }
        }
    }
}

#[test]
fn what_surrounds_a_payload_is_removed() {
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
            assert!(matches!(decode(&frame), Incoming::Answer(None, Ok(_))), "{frame}");
        }
    }
    let candidate =
        [br#"{"candidate":"candidate:1 1 udp 1 10.0.0.1 9 typ host"}"#, &b"\0"[..]].concat();
    let encoded = STANDARD.encode(candidate);
    let frame = format!(r#"{{"messageType":"ICE_CANDIDATE","messagePayload":"{encoded}"}}"#);
    assert!(matches!(decode(&frame), Incoming::Candidate(None, Ok(_))), "{frame}");
}

// Shows: 10.
#[test]
fn the_master_has_many_names() {
    let sender = |json: &str| {
        let frame = format!(r#"{{"messageType":"ICE_CANDIDATE"{json}}}"#);
        let Incoming::Candidate(sender, Err(Undecodable)) = decode(&frame) else {
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
fn the_end_of_candidates_is_taken_in_every_form() {
    for payload in [
        "null",
        r#""""#,
        r#"{"candidate":""}"#,
        r#"{"candidate":null}"#,
        r#"{"candidate":"a=end-of-candidates","sdpMid":"0"}"#,
    ] {
        let Incoming::Candidate(None, Ok(candidate)) = decode(&frame("ICE_CANDIDATE", payload))
        else {
            panic!("{payload}");
        };
        assert!(candidate.is_end(), "{payload}");
    }
}

#[test]
fn a_candidate_tells_its_generation() {
    let ufrag = |payload: &str| {
        let Incoming::Candidate(None, Ok(candidate)) = decode(&frame("ICE_CANDIDATE", payload))
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
fn what_a_candidate_lacks_comes_from_the_description() {
    let mids = [Some("audio".to_owned()), Some("video".to_owned())];
    let sent = |candidate: &Candidate| {
        let frame = encode_candidate(None, candidate, &mids, Some("1-2")).expect("small");
        let frame = frame.replace(r#""action""#, r#""messageType""#);
        let Incoming::Candidate(_, Ok(candidate)) = decode(&frame) else {
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
fn a_description_too_big_loses_its_candidates_and_then_fails() {
    let candidates = "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n".repeat(300);
    let frame = encode_description(Action::Offer, None, &format!("{SDP}{candidates}"), Some("1-1"))
        .expect("fits without candidates");
    let frame = frame.replace(r#""action""#, r#""messageType""#);
    let Incoming::Offer(None, Ok(description)) = decode(&frame) else {
        panic!("an offer");
    };
    assert_eq!(description.sdp.as_str(), SDP);
    let padding = format!("a=x:{}\r\n", "y".repeat(PAYLOAD_MAX));
    let failure = encode_description(Action::Offer, None, &format!("{SDP}{padding}"), None)
        .expect_err("too big");
    assert_eq!(failure.code, FailureCode::TooBig);
}

#[test]
fn a_status_that_reports_success_is_nothing() {
    let frame = r#"{"messageType":"STATUS_RESPONSE","statusResponse":{"success":true}}"#;
    assert_eq!(decode(frame), Incoming::Garbage);
    assert_eq!(decode(r#"{"messageType":"STATUS_RESPONSE"}"#), Incoming::Garbage);
}

proptest! {
    // Shows: 34.
    #[test]
    fn any_text_has_an_answer(text in ".{0,200}") {
        decode(&text);
    }

    #[test]
    fn any_payload_has_an_answer(
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
    fn a_candidate_survives_the_way(
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
        let Incoming::Candidate(None, Ok(back)) =
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
    fn a_description_survives_the_way(tail in "[ -~]{0,400}") {
        let sdp = format!("{SDP}a=x:{tail}y\r\n");
        let normal = viewer_session::sdp::normalize(&sdp).expect("an SDP");
        prop_assert!(matches!(
            decode(&answer(&sdp)),
            Incoming::Answer(None, Ok(description)) if description.sdp.as_str() == normal
        ));
    }
}
