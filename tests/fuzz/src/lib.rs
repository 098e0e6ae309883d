//! One function for each fuzz target: it accepts any bytes, and panics when a guarantee is broken.
//!
//! The fuzzers in `fuzz_targets` call them, and `tests/tests/corpus.rs` calls them on the files in
//! `corpus`.

mod emulator;
mod inputs;
mod journal;
mod service;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvs_wire::{
    ChannelArn, Incoming, PAYLOAD_CHARS_MAX, SdpType, SignedWith, TEXT_CHARS_MAX, decode,
    encode_candidate, encode_description,
};
use negotiation_core::{Candidate, ClientId, Description, Undecodable};
use serde_json::json;
use viewer_session::facts::{SDP_BYTES_MAX, read_description};
use viewer_session::redact;
use viewer_session::sdp::normalize;

pub use emulator::emulator;
pub use inputs::inputs;
pub use journal::journal;
pub use service::service;

/// Checks that any frame of the signaling connection is decoded, and that the result is bounded.
pub fn envelope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let first = decode(text);
    assert_eq!(first, decode(text), "the same frame gives two readings");
    check(&first);
    // Most inputs are no valid envelope, so they are also decoded as the payload of a valid one.
    for kind in ["SDP_ANSWER", "SDP_OFFER", "ICE_CANDIDATE"] {
        let payload = STANDARD.encode(bytes);
        check(&decode(&json!({"messageType": kind, "messagePayload": payload}).to_string()));
    }
    let printed = json!({"messageType": "STATUS_RESPONSE", "statusResponse":
        {"correlationId": text, "errorType": text, "statusCode": text, "description": text}});
    check(&decode(&printed.to_string()));
}

fn check(incoming: &Incoming) {
    match incoming {
        Incoming::Offer { sdp: Ok(sdp), .. } | Incoming::Answer { sdp: Ok(sdp), .. } => {
            let Ok(description) = read_description(sdp.as_str()) else { return };
            assert!(description.sdp.as_str().len() <= SDP_BYTES_MAX, "a description too long");
            for sdp_type in [SdpType::Offer, SdpType::Answer] {
                let sent = encode_description(sdp_type, None, description.sdp.as_str(), None);
                let Ok(frame) = sent else { continue };
                assert!(frame.len() <= PAYLOAD_CHARS_MAX + 200, "a frame too big: {}", frame.len());
            }
        }
        Incoming::Candidate { candidate: Ok(candidate), .. } => returns(candidate),
        Incoming::Status { error, .. } => {
            let failure = error.failure(SignedWith::Unknown, redacted);
            assert!(!failure.detail.chars().any(char::is_control), "{:?}", failure.detail);
        }
        Incoming::Offer { sdp: Err(Undecodable), .. }
        | Incoming::Answer { sdp: Err(Undecodable), .. }
        | Incoming::Candidate { candidate: Err(Undecodable), .. }
        | Incoming::GoAway
        | Incoming::ReconnectIceServer
        | Incoming::Garbage => {}
    }
}

/// Redacts a text from the service in the same way as the adapter.
fn redacted(text: &str) -> String {
    redact::outside(text, TEXT_CHARS_MAX)
}

/// Checks that a candidate that is encoded again decodes to the same candidate.
fn returns(candidate: &Candidate) {
    let Ok(sent) = encode_candidate(None, candidate, &[], None) else { return };
    let sent: serde_json::Value = serde_json::from_str(&sent).expect("we write JSON");
    let frame = json!({"messageType": "ICE_CANDIDATE", "messagePayload": sent["messagePayload"]});
    let Incoming::Candidate { sender: None, candidate: Ok(again) } = decode(&frame.to_string())
    else {
        panic!("a candidate that we send cannot be read: {}", candidate.text);
    };
    // The candidate has a prefix as an SDP attribute, and none in a signaling message.
    let bare = |text: &str| text.replace("a=", "").split_whitespace().collect::<String>();
    assert_eq!(bare(&again.text), bare(&candidate.text));
    assert!(candidate.mid.is_none() || again.mid == candidate.mid);
}

/// Checks that any description is read, and that its summary contains no more than its text.
pub fn description(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = read_description(text) else { return };
    assert_eq!(normalize(text).as_deref(), Some(read.sdp.as_str()), "the text is normalized");
    assert_eq!(normalize(read.sdp.as_str()).as_deref(), Some(read.sdp.as_str()), "and stays so");
    assert_eq!(read_description(text).as_ref(), Ok(&read), "the same text gives two readings");
    let facts = &read.facts;
    let normal = read.sdp.as_str().to_ascii_lowercase();
    let lines = |prefix: &str| normal.lines().filter(|line| line.starts_with(prefix)).count();
    assert!(facts.media.len() <= lines("m="), "more sections than lines");
    assert!(facts.fingerprints.len() <= lines("a=fingerprint"), "more fingerprints than lines");
    for line in text.lines() {
        let Some(password) = line.strip_prefix("a=ice-pwd:").map(str::trim) else { continue };
        // The text may contain the password in other places too.
        if password.len() >= 8 && text.matches(password).count() == 1 {
            is_not_printed(password, text, &read);
        }
    }
}

/// Checks that the debug output does not contain the password. The output may contain the same
/// characters by chance: it then contains them for a text without the password too.
fn is_not_printed(password: &str, text: &str, read: &Description) {
    if format!("{read:?}").contains(password) {
        let without = text.replace(password, &"#".repeat(password.len()));
        let Ok(without) = read_description(&without) else { return };
        assert!(format!("{without:?}").contains(password), "a password is printed");
    }
}

/// Checks a candidate payload in every form that a master may send.
pub fn candidate(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let frame = |payload: String| {
        let payload = STANDARD.encode(payload);
        json!({"messageType": "ICE_CANDIDATE", "messagePayload": payload}).to_string()
    };
    check(&decode(&frame(text.clone().into_owned())));
    let (line, rest) = text.split_once('\0').unwrap_or((&text, "0"));
    for payload in [
        json!({"candidate": line, "sdpMid": rest, "sdpMLineIndex": rest.len()}),
        json!({"candidate": line, "sdpMid": rest, "usernameFragment": rest}),
        json!({"candidate": line, "sdpMLineIndex": rest}),
        json!({"candidate": line}),
    ] {
        let incoming = decode(&frame(payload.to_string()));
        assert!(matches!(incoming, Incoming::Candidate { sender: None, .. }), "{incoming:?}");
        check(&incoming);
    }
}

/// Checks names from users and services: accepted names must be valid for the service.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(arn) = ChannelArn::parse(text) {
        assert_eq!(arn.as_str(), text);
        assert_eq!(text.split(':').nth(3), Some(arn.region()));
        assert!(text.is_ascii() && text.len() <= 1024, "{text:?}");
        assert_eq!(text.matches('/').count(), 2, "{text:?}");
    }
    match ClientId::new(text) {
        Ok(id) => {
            assert_eq!(id.as_str(), text);
            assert!((1..=ClientId::CHARS_MAX).contains(&text.len()), "{text:?}");
            let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            assert!(text.chars().all(known), "{text:?}");
            assert!(!text.to_ascii_lowercase().starts_with("aws_"), "{text:?}");
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
