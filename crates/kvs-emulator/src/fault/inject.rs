//! Frames that no client sent: unsolicited messages, wrong senders, floods and garbage.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::wire::{self, MessageType, Sender};

/// Most frames of one injection.
const COUNT_MAX: u32 = 20_000;
/// Most bytes of one injection, in total.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Payload bytes of a fragment; a socket's queue holds a few fragments.
const FRAGMENT_BYTES: usize = 64 * 1024;

/// Frames that are sent to a client. As JSON: `{"frame":"candidates","count":10000}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case", deny_unknown_fields)]
pub enum Injection {
    /// A message in the service's envelope.
    Message {
        /// The message's type.
        #[serde(rename = "type")]
        message_type: MessageType,
        /// Its `senderClientId`.
        #[serde(default, skip_serializing_if = "Sender::is_absent")]
        sender: Sender,
        /// The payload as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<String>,
        /// The payload as JSON, which is then written as base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        json: Option<Value>,
    },
    /// The last message of this type that the other side sent on the channel, once more.
    Earlier {
        /// The message's type.
        #[serde(rename = "type")]
        message_type: MessageType,
        /// The `senderClientId` of the repetition.
        #[serde(default, skip_serializing_if = "Sender::is_absent")]
        sender: Sender,
    },
    /// A STATUS_RESPONSE.
    Status {
        /// The correlation id of the message it answers.
        correlation_id: String,
        /// `errorType`.
        error: String,
        /// `statusCode`.
        status: u16,
    },
    /// Distinct host candidates.
    Candidates {
        /// The number.
        count: u32,
        /// Their `senderClientId`.
        #[serde(default, skip_serializing_if = "Sender::is_absent")]
        sender: Sender,
    },
    /// A malformed frame.
    Garbage {
        /// The kind of malformed frame.
        how: Garbage,
    },
    /// A text frame as it is.
    Text {
        /// The text.
        text: String,
        /// The number of copies.
        #[serde(default = "once")]
        count: u32,
    },
    /// A text message of at least this size, in fragments.
    Huge {
        /// The size in bytes.
        bytes: u32,
    },
    /// One text message of JSON in fragments with a pause before each.
    Slow {
        /// The number.
        fragments: u32,
        /// The pause, in milliseconds.
        every_ms: u64,
    },
}

fn once() -> u32 {
    1
}

/// Malformed frames, observed on real sockets or possible there (docs/kvs-protocol.md 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// An empty text frame.
    Empty,
    /// A binary frame.
    Binary,
    /// Truncated JSON.
    Truncated,
    /// A message of an unknown type.
    UnknownType,
    /// API Gateway's error message (`Internal server error`).
    ApiGateway,
    /// A JSON object that is not an envelope.
    Envelope,
    /// An envelope with a payload that is not base64.
    Base64,
    /// A description with an empty `sdp`.
    EmptySdp,
    /// JSON of 100,000 nested arrays.
    Deep,
}

impl Garbage {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::Binary,
        Self::Truncated,
        Self::UnknownType,
        Self::ApiGateway,
        Self::Envelope,
        Self::Base64,
        Self::EmptySdp,
        Self::Deep,
    ];

    fn frame(self) -> Frame {
        let answer = MessageType::SdpAnswer;
        Frame::Text(match self {
            Self::Binary => return Frame::Binary(Bytes::from_static(b"\x00\xff\xfe not text")),
            Self::Empty => String::new(),
            Self::Truncated => r#"{"messageType":"SDP_ANSWER","messagePay"#.to_owned(),
            Self::UnknownType => json!({ "messageType": "SDP_COUNTEROFFER" }).to_string(),
            Self::ApiGateway => json!({
                "message": "Endpoint request timed out",
                "connectionId": "Jzo5lcQFtjvCJcq=",
                "requestId": "Jzo5vMzgNjZFb9Q=",
            })
            .to_string(),
            Self::Envelope => json!({ "messageType": 7, "messagePayload": ["x"] }).to_string(),
            Self::Base64 => wire::message(answer, &Sender::Absent, Some("%%% no base64 %%%")),
            Self::EmptySdp => {
                let payload = STANDARD.encode(r#"{"type":"answer","sdp":""}"#);
                wire::message(answer, &Sender::Absent, Some(&payload))
            }
            Self::Deep => "[".repeat(100_000),
        })
    }
}

/// A WebSocket frame to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Binary(Bytes),
    /// A fragment of a text message.
    Part {
        text: String,
        first: bool,
        last: bool,
        after: Duration,
    },
}

impl Injection {
    /// Refuses an injection beyond the limits.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (count, bytes) = match self {
            Self::Candidates { count, .. } => (*count, 0),
            Self::Text { text, count } => {
                (*count, text.len().saturating_mul(usize::try_from(*count).unwrap_or(usize::MAX)))
            }
            Self::Huge { bytes } => (1, usize::try_from(*bytes).unwrap_or(usize::MAX)),
            Self::Slow { fragments, .. } => (*fragments, 0),
            Self::Message { payload: Some(_), json: Some(_), .. } => {
                return Err("give a payload or json, not both".to_owned());
            }
            Self::Message { .. }
            | Self::Earlier { .. }
            | Self::Status { .. }
            | Self::Garbage { .. } => (1, 0),
        };
        if count > COUNT_MAX {
            return Err(format!("at most {COUNT_MAX} frames"));
        }
        if bytes > BYTES_MAX {
            return Err(format!("at most {BYTES_MAX} bytes"));
        }
        Ok(())
    }

    /// The message type that [`Self::frames`] needs the last payload of.
    pub(crate) fn wants(&self) -> Option<MessageType> {
        match self {
            Self::Earlier { message_type, .. } => Some(*message_type),
            Self::Message { .. }
            | Self::Status { .. }
            | Self::Candidates { .. }
            | Self::Garbage { .. }
            | Self::Text { .. }
            | Self::Huge { .. }
            | Self::Slow { .. } => None,
        }
    }

    /// The frames to send.
    pub(crate) fn frames(&self, earlier: Option<&str>) -> Vec<Frame> {
        match self {
            Self::Message { message_type, sender, payload, json } => {
                let json = json.as_ref().map(|json| STANDARD.encode(json.to_string()));
                let payload = payload.as_ref().or(json.as_ref()).map(String::as_str);
                vec![Frame::Text(wire::message(*message_type, sender, payload))]
            }
            Self::Earlier { message_type, sender } => earlier
                .map(|payload| Frame::Text(wire::message(*message_type, sender, Some(payload))))
                .into_iter()
                .collect(),
            Self::Status { correlation_id, error, status } => {
                vec![Frame::Text(wire::status(correlation_id, error, *status, "Injected."))]
            }
            Self::Candidates { count, sender } => {
                (0..*count).map(|n| Frame::Text(candidate(n, sender))).collect()
            }
            Self::Garbage { how } => vec![how.frame()],
            Self::Text { text, count } => (0..*count).map(|_| Frame::Text(text.clone())).collect(),
            Self::Huge { bytes } => huge(*bytes),
            Self::Slow { fragments, every_ms } => {
                slow(*fragments, Duration::from_millis(*every_ms))
            }
        }
    }
}

/// A candidate with an unreachable address (198.18.0.0/15 is for benchmarks, RFC 2544).
fn candidate(n: u32, sender: &Sender) -> String {
    let (b, c, d) = (18 + (n >> 16 & 1), n >> 8 & 0xff, n & 0xff);
    let line =
        format!("candidate:{} 1 udp {} 198.{b}.{c}.{d} 9 typ host", n + 1, 2_122_260_223 - n);
    let payload = json!({ "candidate": line, "sdpMid": "0", "sdpMLineIndex": 0 });
    let payload = STANDARD.encode(payload.to_string());
    wire::message(MessageType::IceCandidate, sender, Some(&payload))
}

fn huge(bytes: u32) -> Vec<Frame> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(BYTES_MAX);
    let whole = wire::message(MessageType::SdpAnswer, &Sender::Absent, Some(&"A".repeat(bytes)));
    let parts: Vec<&[u8]> = whole.as_bytes().chunks(FRAGMENT_BYTES).collect();
    let last = parts.len().saturating_sub(1);
    let part = |(n, part): (usize, &[u8])| Frame::Part {
        text: String::from_utf8_lossy(part).into_owned(),
        first: n == 0,
        last: n == last,
        after: Duration::ZERO,
    };
    parts.into_iter().enumerate().map(part).collect()
}

fn slow(fragments: u32, every: Duration) -> Vec<Frame> {
    (0..fragments)
        .map(|n| Frame::Part {
            text: if n == 0 { "{".to_owned() } else { " ".to_owned() },
            first: n == 0,
            last: n + 1 == fragments,
            after: if n == 0 { Duration::ZERO } else { every },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(injection: &str) -> Value {
        let injection: Injection = serde_json::from_str(injection).unwrap();
        let frames = injection.frames(Some("ZWFybGllcg=="));
        let [Frame::Text(text)] = frames.as_slice() else { panic!("{frames:?}") };
        serde_json::from_str(text).unwrap()
    }

    /// Scenario 10: each form of the sender keeps its JSON form.
    #[test]
    fn injected_sender_may_be_absent_null_empty_or_any() {
        let message =
            |sender: &str| text(&format!(r#"{{"frame":"message","type":"SDP_ANSWER"{sender}}}"#));
        assert!(message("").get("senderClientId").is_none());
        assert_eq!(message(r#","sender":null"#)["senderClientId"], Value::Null);
        assert!(message(r#","sender":null"#).get("senderClientId").is_some());
        assert_eq!(message(r#","sender":"""#)["senderClientId"], "");
        let master = message(r#","sender":"AWS_DEFAULT_SINGLE_MASTER""#);
        assert_eq!(master["senderClientId"], "AWS_DEFAULT_SINGLE_MASTER");
    }

    #[test]
    fn injected_payload_may_be_raw_json_or_an_earlier_one() {
        let raw = text(r#"{"frame":"message","type":"SDP_ANSWER","payload":"%"}"#);
        assert_eq!(raw["messagePayload"], "%");
        let json = text(r#"{"frame":"message","type":"SDP_ANSWER","json":{"sdp":""}}"#);
        assert_eq!(json["messagePayload"], STANDARD.encode(r#"{"sdp":""}"#));
        let earlier = text(r#"{"frame":"earlier","type":"SDP_ANSWER"}"#);
        assert_eq!(earlier["messagePayload"], "ZWFybGllcg==");
    }

    #[test]
    fn flood_of_candidates_is_distinct_and_bounded() {
        let flood = Injection::Candidates { count: 10_000, sender: Sender::Absent };
        flood.check().unwrap();
        let mut frames: Vec<String> = flood
            .frames(None)
            .into_iter()
            .map(|frame| {
                let Frame::Text(text) = frame else { panic!("{frame:?}") };
                text
            })
            .collect();
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), 10_000);
        assert!(Injection::Candidates { count: 20_001, sender: Sender::Absent }.check().is_err());
        assert!(Injection::Huge { bytes: u32::MAX }.check().is_err());
        assert!(Injection::Text { text: "x".repeat(1_000_000), count: 100 }.check().is_err());
    }
}
