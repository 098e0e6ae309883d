//! Tests with invalid and hostile data on the signaling connection.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use negotiation_core::{FailureCode, SignalingEvent};
use tokio::time::sleep;

use crate::service::{Answer, ENDLESS, Script, Service, Viewer};
use crate::{LITTLE, costs};

/// Returns a frame as a server sends it: unmasked (RFC 6455, 5.2).
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, length as u8],
        126..=0xffff => [vec![first, 126], (length as u16).to_be_bytes().to_vec()].concat(),
        _ => [vec![first, 127], (length as u64).to_be_bytes().to_vec()].concat(),
    }
}

pub(crate) const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const TEXT_BEGINS: u8 = 0x01;
const TEXT_GOES_ON: u8 = 0x00;

async fn opened(upgrade: Answer) -> (Viewer, Service) {
    let service = Service::start(Script { upgrade, ..Script::default() }).await;
    let mut viewer = Viewer::new(service.reach());
    viewer.connect().await.expect("connected");
    (viewer, service)
}

/// Waits until the connection ends, and returns the reason.
async fn ends(upgrade: Answer) -> FailureCode {
    let (mut viewer, _service) = opened(upgrade).await;
    viewer.end().await.code
}

#[test]
fn frame_of_ten_megabytes_ends_the_connection() {
    let long = 10 << 20;
    let upgrade = Answer::Repeated { head: head(TEXT, long), again: vec![b'x'; 4096], bytes: long };
    let code = costs(LITTLE, "a frame of 10 MB", async || ends(upgrade).await);
    assert_eq!(code, FailureCode::Service);
}

#[test]
fn frame_of_gigantic_length_ends_the_connection() {
    for length in [usize::MAX, usize::MAX / 2, 1 << 40] {
        let upgrade = Answer::Bytes(head(TEXT, length));
        let code = costs(LITTLE, "a gigantic frame", async || ends(upgrade).await);
        assert_eq!(code, FailureCode::Service, "{length}");
    }
}

#[test]
fn message_in_fragments_without_end_ends_the_connection() {
    let (head, again) = (frame(TEXT_BEGINS, &[b'x'; 1000]), frame(TEXT_GOES_ON, &[b'x'; 1000]));
    let upgrade = Answer::Repeated { head, again, bytes: ENDLESS };
    let code = costs(LITTLE, "fragments without end", async || ends(upgrade).await);
    assert_eq!(code, FailureCode::Service);
}

/// Bytes of an incomplete frame do not count as received traffic.
#[test]
fn slow_frame_times_out() {
    let upgrade = Answer::Dripping { head: head(TEXT, 5000), every: Duration::from_millis(20) };
    let cost = crate::Cost { time: Duration::from_secs(4), ..LITTLE };
    let code = costs(cost, "a frame that drips", async || ends(upgrade).await);
    assert_eq!(code, FailureCode::TimedOut);
}

#[test]
fn slow_or_endless_upgrade_is_refused() {
    let head = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    let again = format!("x-more: {}\r\n", "y".repeat(200)).into_bytes();
    let endless = Answer::Repeated { head: head.clone(), again, bytes: ENDLESS };
    let dripping = Answer::Dripping { head, every: Duration::from_millis(20) };
    for upgrade in [endless, dripping] {
        let script = Script { accepts: false, upgrade, ..Script::default() };
        let failure = costs(LITTLE, "an upgrade without end", async || {
            let service = Service::start(script).await;
            Viewer::new(service.reach()).connect().await.expect_err("it does not open")
        });
        let known = matches!(
            failure.code,
            FailureCode::Service | FailureCode::TimedOut | FailureCode::Network
        );
        assert!(known, "{failure}");
    }
}

#[test]
fn deep_json_and_gigantic_numbers_are_garbage() {
    let payload = |text: &str| STANDARD.encode(text);
    let deep = "[".repeat(30_000);
    let digits = "9".repeat(20_000);
    let frames = [
        deep.clone(),
        format!(r#"{{"messageType":{deep}"#),
        format!(r#"{{"messageType":"SDP_ANSWER","messagePayload":{deep}"#),
        format!(r#"{{"messageType":"SDP_ANSWER","messagePayload":"{}"}}"#, payload(&deep)),
        format!(
            r#"{{"messageType":"ICE_CANDIDATE","messagePayload":"{}"}}"#,
            payload(&format!(r#"{{"candidate":"x","sdpMLineIndex":{digits}}}"#))
        ),
        format!(
            r#"{{"messageType":"STATUS_RESPONSE","statusResponse":{{"statusCode":"{digits}","description":"{digits}"}}}}"#
        ),
        format!(r#"{{"messageType":{digits}}}"#),
    ];
    let wanted = frames.len();
    let upgrade = Answer::Bytes(frames.map(|text| frame(TEXT, text.as_bytes())).concat());
    let events = costs(LITTLE, "awkward frames", async || {
        let (mut viewer, _service) = opened(upgrade).await;
        let mut events = Vec::new();
        while events.len() < wanted {
            events.push(viewer.event().await);
        }
        events
    });
    for event in events {
        let harmless = match &event {
            SignalingEvent::Garbage => true,
            SignalingEvent::Answer { body, .. } => body.is_err(),
            SignalingEvent::Candidate { body, .. } => {
                body.as_ref().is_ok_and(|candidate| candidate.mline_index.is_none())
                    || body.is_err()
            }
            SignalingEvent::Status { failure, .. } => failure.detail.len() < 1000,
            SignalingEvent::Offer { .. }
            | SignalingEvent::GoAway
            | SignalingEvent::ReconnectIceServer
            | SignalingEvent::Disconnected(_) => false,
        };
        assert!(harmless, "{event:?}");
    }
}

/// While the session reads no events, the viewer stops reading from the socket, so no messages
/// collect in its memory.
#[test]
fn candidate_flood_is_not_read_ahead() {
    let candidate = r#"{"candidate":"candidate:1 1 udp 9 10.0.0.1 4242 typ host","sdpMid":"0"}"#;
    let text = format!(
        r#"{{"messageType":"ICE_CANDIDATE","messagePayload":"{}"}}"#,
        STANDARD.encode(candidate)
    );
    let again = frame(TEXT, text.as_bytes());
    let upgrade = Answer::Repeated { head: Vec::new(), again, bytes: ENDLESS };
    let written = costs(LITTLE, "a flood of candidates", async || {
        let (mut viewer, service) = opened(upgrade).await;
        // The test reads no event meanwhile.
        settled(&service).await;
        for _ in 0..10_000 {
            let event = viewer.event().await;
            assert!(matches!(event, SignalingEvent::Candidate { body: Ok(_), .. }), "{event:?}");
        }
        service.written()
    });
    assert!(written < ENDLESS / 4, "{written} bytes were taken");
}

/// Each ping requires a pong, and the attacker reads none of them.
#[test]
fn ping_flood_does_not_grow_send_queue() {
    let again = frame(PING, &[b'x'; 125]);
    let upgrade = Answer::Repeated { head: Vec::new(), again, bytes: ENDLESS / 4 };
    costs(LITTLE, "a flood of pings", async || {
        let (mut viewer, service) = opened(upgrade).await;
        let reading = tokio::spawn(async move { viewer.end().await });
        settled(&service).await;
        reading.abort();
    });
}

/// Waits until the service cannot write any more, for at most 3 s.
async fn settled(service: &Service) {
    let mut before = usize::MAX;
    for _ in 0..20 {
        sleep(Duration::from_millis(150)).await;
        let now = service.written();
        if now == before {
            return;
        }
        before = now;
    }
}
