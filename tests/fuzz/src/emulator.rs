//! Fuzz target for the emulator, which any host on the network can reach.

use std::collections::BTreeMap;

use kvs_emulator::Fault;
use kvs_emulator::fuzzing::{Bench, Sent, VIEWER, signed_query};
use serde_json::Value;

/// The JavaScript SDK's own signed query (docs/kvs-protocol.md 5.1).
const SIGNED: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA4F7WJQR7FMMWMNXI%2F20191201%2Fus-west-2%2Fkinesisvideo%2Faws4_request&X-Amz-Date=20191201T000000Z&X-Amz-Expires=299&X-Amz-Security-Token=FakeSessionToken&X-Amz-Signature=fc268038be276315822b4f73eafd28ee3a5632a2a35fdb0a88db9a42b13d6c92&X-Amz-SignedHeaders=host&X-Amz-TestParam=test-param-value";

/// The maximum length of a relayed payload, in characters (the quota's "payload 10k" in its wider
/// reading).
const PAYLOAD_MAX: usize = 10 * 1024;

/// Checks that frames, calls, signatures and faults from a client are parsed without a panic, that
/// a request without a valid key is refused, and that a relayed message names its true sender.
pub fn emulator(bytes: &[u8]) {
    let mut bench = Bench::new().expect("a fresh emulator has room");
    assert!(bench.call(bytes).iter().all(|status| (200..=599).contains(status)));
    let _ = serde_json::from_slice::<Fault>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for of_viewer in [true, false] {
        for (to_viewer, sent) in [false, true].into_iter().zip(bench.frame(of_viewer, text)) {
            for sent in sent {
                let Sent::Text(frame) = sent else { panic!("a frame ends a socket") };
                relayed(&frame, of_viewer, to_viewer, text);
            }
        }
    }
    signatures(&bench, text);
}

fn relayed(frame: &str, of_viewer: bool, to_viewer: bool, text: &str) {
    let printed: Value = serde_json::from_str(frame).expect("what is sent is JSON");
    if printed["messageType"] == "STATUS_RESPONSE" {
        assert_eq!(of_viewer, to_viewer, "a refusal goes to the wrong side: {frame}");
        let id = printed["statusResponse"]["correlationId"].as_str().expect("an id");
        assert!((1..=256).contains(&id.chars().count()), "{id:?}");
        return;
    }
    assert_ne!(of_viewer, to_viewer, "a message comes back: {frame}");
    assert_eq!(printed["senderClientId"].as_str(), of_viewer.then_some(VIEWER), "a forged sender");
    let payload = printed["messagePayload"].as_str().expect("a payload");
    assert!((1..=PAYLOAD_MAX).contains(&payload.len()), "{} characters", payload.len());
    let came: Value = serde_json::from_str(text).expect("what is relayed was JSON");
    let fields = came.as_object().expect("an object");
    assert!(fields.values().any(|value| value == payload), "a payload that was never sent");
}

fn signatures(bench: &Bench, text: &str) {
    if let Some(params) = signed_query(text) {
        assert_eq!(Some(params), signed_query(SIGNED), "signed was something else");
    }
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    assert!(!bench.admits(head, &headers, body.as_bytes()), "in without a key");
}
