//! Signaling messages as a viewer receives them (docs/kvs-protocol.md 2.3), for those that no
//! master of this project sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Returns a message of the master with this payload.
pub(crate) fn from_master(kind: &str, payload: &Value) -> String {
    message(kind, payload, None)
}

/// Returns a message with this payload and sender; without a sender it is the master's.
pub(crate) fn message(kind: &str, payload: &Value, sender: Option<&Value>) -> String {
    let mut frame =
        json!({ "messageType": kind, "messagePayload": STANDARD.encode(payload.to_string()) });
    if let Some(sender) = sender {
        frame["senderClientId"] = sender.clone();
    }
    frame.to_string()
}

/// Returns an answer message.
pub(crate) fn answer(sdp: &str) -> String {
    from_master("SDP_ANSWER", &json!({ "type": "answer", "sdp": sdp }))
}

/// Returns a candidate message.
pub(crate) fn candidate(text: &str) -> String {
    let payload = json!({ "candidate": text, "sdpMid": "0", "sdpMLineIndex": 0 });
    from_master("ICE_CANDIDATE", &payload)
}

/// Returns a description in which `change` has replaced some lines.
pub(crate) fn changed(sdp: &str, change: impl Fn(&str) -> Option<String>) -> String {
    let lines = sdp.lines().map(|line| change(line).unwrap_or_else(|| line.to_owned()));
    lines.map(|line| line + "\r\n").collect()
}

/// Returns a description without the lines that start with this text.
pub(crate) fn without(sdp: &str, start: &str) -> String {
    sdp.lines().filter(|line| !line.starts_with(start)).map(|line| format!("{line}\r\n")).collect()
}

/// Returns the description with unknown ICE credentials.
pub(crate) fn with_other_credentials(sdp: &str) -> String {
    changed(sdp, |line| {
        line.strip_prefix("a=ice-ufrag:")
            .map(|_| "a=ice-ufrag:unknown".to_owned())
            .or_else(|| line.strip_prefix("a=ice-pwd:").map(|_| format!("a=ice-pwd:{:0>24}", 7)))
    })
}
