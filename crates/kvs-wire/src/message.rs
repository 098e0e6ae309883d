//! The messages of a signaling connection.
//!
//! Encoding follows the documentation of the service. Decoding accepts what existing masters send:
//! both base64 alphabets, missing padding, any case of a field's name, and messages that are for
//! another client (docs/kvs-protocol.md 2.2 and 2.3).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use negotiation_core::{Candidate, Failure, FailureCode, Sdp, Undecodable};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::service_error::ServiceError;

/// Longest frame that is decoded, in bytes. Payloads of the service have at most 10 kB.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Longest payload that is encoded, in characters of base64 (KVS quota: "payload 10k").
pub const PAYLOAD_CHARS_MAX: usize = 10_000;

/// Longest candidate that is decoded, in bytes. The C SDK accepts 255 characters.
const CANDIDATE_MAX: usize = 2_048;

/// Longest id, mid or name that is decoded, in characters; the rest is cut off.
const NAME_MAX: usize = 256;

/// The id that the service's backend uses for the master.
const MASTER: &str = "AWS_DEFAULT_SINGLE_MASTER";

/// A received frame. A `sender` of `None` is the master, or the storage service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// `SDP_OFFER`.
    Offer {
        /// The client id of the sender.
        sender: Option<String>,
        /// The text of the offer, not parsed.
        sdp: Result<Sdp, Undecodable>,
    },
    /// `SDP_ANSWER`.
    Answer {
        /// The client id of the sender.
        sender: Option<String>,
        /// The text of the answer, not parsed.
        sdp: Result<Sdp, Undecodable>,
    },
    /// `ICE_CANDIDATE`.
    Candidate {
        /// The client id of the sender.
        sender: Option<String>,
        /// The candidate, or the end of candidates in any of its forms.
        candidate: Result<Candidate, Undecodable>,
    },
    /// `STATUS_RESPONSE`: the service could not handle a message of this client.
    Status {
        /// The correlation id of that message.
        correlation_id: Option<String>,
        /// Why.
        error: ServiceError,
    },
    /// `GO_AWAY`: the service closes this connection within a minute.
    GoAway,
    /// `RECONNECT_ICE_SERVER`: the ICE servers should be fetched again.
    ReconnectIceServer,
    /// No message of the protocol.
    Garbage,
}

/// Decodes a text frame. Accepts any text.
pub fn decode(frame: &str) -> Incoming {
    if frame.len() > FRAME_BYTES_MAX {
        return Incoming::Garbage;
    }
    // serde_json refuses more than 128 levels, so the depth is bounded too.
    let Ok(Value::Object(envelope)) = serde_json::from_str(frame) else {
        return Incoming::Garbage;
    };
    let Some(kind) = text(&envelope, "messageType") else {
        return Incoming::Garbage;
    };
    let sender = || sender(&envelope);
    match kind.to_ascii_uppercase().as_str() {
        "SDP_OFFER" => Incoming::Offer { sender: sender(), sdp: sdp(&envelope, "offer") },
        "SDP_ANSWER" => Incoming::Answer { sender: sender(), sdp: sdp(&envelope, "answer") },
        "ICE_CANDIDATE" => {
            Incoming::Candidate { sender: sender(), candidate: candidate(&envelope) }
        }
        "STATUS_RESPONSE" => status(&envelope),
        "GO_AWAY" => Incoming::GoAway,
        "RECONNECT_ICE_SERVER" => Incoming::ReconnectIceServer,
        _ => Incoming::Garbage,
    }
}

/// The type of a session description (W3C `RTCSdpType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpType {
    /// `SDP_OFFER`.
    Offer,
    /// `SDP_ANSWER`.
    Answer,
}

/// Encodes an offer or an answer. A viewer's recipient is always the master: `None`.
///
/// A description that is too long for the service is sent without its candidates, which trickle.
///
/// # Errors
/// [`FailureCode::TooBig`]: the payload exceeds [`PAYLOAD_CHARS_MAX`] even without candidates.
pub fn encode_description(
    sdp_type: SdpType,
    recipient: Option<&str>,
    sdp: &str,
    correlation_id: Option<&str>,
) -> Result<String, Failure> {
    let (action, kind) = match sdp_type {
        SdpType::Offer => ("SDP_OFFER", "offer"),
        SdpType::Answer => ("SDP_ANSWER", "answer"),
    };
    let payload = |sdp: &str| payload(&DescriptionBody { sdp, kind });
    let mut body = payload(sdp);
    if body.len() > PAYLOAD_CHARS_MAX {
        body = payload(&without_candidates(sdp));
    }
    envelope(action, recipient, body, correlation_id)
}

/// Encodes a candidate. Existing masters need both `sdpMid` and `sdpMLineIndex`, so a missing one
/// is taken from `mids`, the mids of the description that the candidate belongs to.
///
/// # Errors
/// [`FailureCode::TooBig`]: the payload exceeds [`PAYLOAD_CHARS_MAX`].
pub fn encode_candidate(
    recipient: Option<&str>,
    candidate: &Candidate,
    mids: &[Option<String>],
    correlation_id: Option<&str>,
) -> Result<String, Failure> {
    let text = candidate.text.trim();
    let (mid, index) = section(candidate, mids);
    let body = payload(&CandidateBody {
        candidate: text.strip_prefix("a=").unwrap_or(text),
        mid: &mid,
        index,
        ufrag: candidate.ufrag.as_deref(),
    });
    envelope("ICE_CANDIDATE", recipient, body, correlation_id)
}

/// The mid and the media section index of a candidate.
fn section(candidate: &Candidate, mids: &[Option<String>]) -> (String, u16) {
    let by_mid = |mid: &str| {
        let at = mids.iter().position(|m| m.as_deref() == Some(mid));
        at.and_then(|at| u16::try_from(at).ok()).or_else(|| mid.parse().ok()).unwrap_or(0)
    };
    match (candidate.mid.as_deref(), candidate.mline_index) {
        (Some(mid), Some(index)) => (mid.to_owned(), index),
        (Some(mid), None) => (mid.to_owned(), by_mid(mid)),
        (None, index) => {
            let index = index.unwrap_or(0);
            let mid = mids.get(usize::from(index)).cloned().flatten();
            (mid.unwrap_or_else(|| index.to_string()), index)
        }
    }
}

// Fields in the order of the JavaScript SDK, so that its samples compare byte for byte.
#[derive(Serialize)]
struct DescriptionBody<'a> {
    sdp: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Serialize)]
struct CandidateBody<'a> {
    candidate: &'a str,
    #[serde(rename = "sdpMid")]
    mid: &'a str,
    #[serde(rename = "sdpMLineIndex")]
    index: u16,
    #[serde(rename = "usernameFragment", skip_serializing_if = "Option::is_none")]
    ufrag: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    action: &'a str,
    message_payload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
}

fn payload(body: &impl Serialize) -> String {
    // Strings and numbers always serialize; the service would refuse an empty payload.
    STANDARD.encode(serde_json::to_vec(body).unwrap_or_default())
}

fn envelope(
    action: &str,
    recipient: Option<&str>,
    message_payload: String,
    correlation_id: Option<&str>,
) -> Result<String, Failure> {
    if message_payload.len() > PAYLOAD_CHARS_MAX {
        return Err(Failure::new(
            FailureCode::TooBig,
            format!(
                "{action} has a payload of {} characters; the service accepts {PAYLOAD_CHARS_MAX}",
                message_payload.len()
            ),
        ));
    }
    let envelope =
        Envelope { action, message_payload, recipient_client_id: recipient, correlation_id };
    serde_json::to_string(&envelope)
        .map_err(|_| Failure::new(FailureCode::Port, "a message could not be encoded as JSON"))
}

fn without_candidates(sdp: &str) -> String {
    sdp.split_inclusive('\n')
        .filter(|line| {
            !line.starts_with("a=candidate:") && !line.starts_with("a=end-of-candidates")
        })
        .collect()
}

fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(object, name)?.as_str()
}

fn sender(envelope: &Map<String, Value>) -> Option<String> {
    match field(envelope, "senderClientId") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.is_empty() || id == MASTER => None,
        Some(Value::String(id)) => Some(short(id)),
        // Not the master, and no client has this id.
        Some(_) => Some("?".to_owned()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

fn payload_json(envelope: &Map<String, Value>) -> Result<Value, Undecodable> {
    let encoded = text(envelope, "messagePayload").ok_or(Undecodable)?;
    let bytes = decode_base64(encoded).ok_or(Undecodable)?;
    // Some masters put a name in another character set into `s=`; the answer is usable.
    let json = String::from_utf8_lossy(&bytes);
    serde_json::from_str(bare(&json)).map_err(|_| Undecodable)
}

/// Removes what surrounds the JSON: masters written in C send the NUL that ends their strings, and
/// others send a byte order mark.
fn bare(json: &str) -> &str {
    json.trim_matches(|c: char| c == '\0' || c == '\u{feff}' || c.is_whitespace())
}

fn decode_base64(encoded: &str) -> Option<Vec<u8>> {
    const TOLERANT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let standard: String = encoded
        .chars()
        .filter(|c| !c.is_ascii_whitespace() && *c != '\0')
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    TOLERANT.decode(standard.trim_end_matches('=')).ok()
}

fn sdp(envelope: &Map<String, Value>, expected: &str) -> Result<Sdp, Undecodable> {
    let Value::Object(body) = payload_json(envelope)? else {
        return Err(Undecodable);
    };
    // Some masters omit the type; one that contradicts the envelope is an error.
    if text(&body, "type").is_some_and(|kind| !bare(kind).eq_ignore_ascii_case(expected)) {
        return Err(Undecodable);
    }
    let sdp = text(&body, "sdp").filter(|sdp| !sdp.is_empty()).ok_or(Undecodable)?;
    Ok(Sdp::new(sdp))
}

fn candidate(envelope: &Map<String, Value>) -> Result<Candidate, Undecodable> {
    let body = match payload_json(envelope)? {
        Value::Object(body) => body,
        // `null` and `""` are two of the forms of end-of-candidates.
        Value::Null => return Ok(end_of_candidates()),
        Value::String(text) if text.is_empty() => return Ok(end_of_candidates()),
        Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(Undecodable);
        }
    };
    let candidate = match field(&body, "candidate").ok_or(Undecodable)? {
        Value::Null => "",
        Value::String(text) if text.len() <= CANDIDATE_MAX => text.as_str(),
        Value::String(_)
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_) => return Err(Undecodable),
    };
    let mid = match field(&body, "sdpMid") {
        Some(Value::String(mid)) => Some(short(mid)),
        Some(Value::Number(mid)) => Some(mid.to_string()),
        _ => None,
    };
    let mline_index = field(&body, "sdpMLineIndex").and_then(number);
    let ufrag = text(&body, "usernameFragment")
        .filter(|ufrag| !ufrag.is_empty())
        .or_else(|| ufrag_attribute(candidate))
        .map(short);
    Ok(Candidate { text: candidate.into(), mid, mline_index, ufrag })
}

fn end_of_candidates() -> Candidate {
    Candidate { text: "".into(), mid: None, mline_index: None, ufrag: None }
}

/// The generation that browsers write into the candidate itself: `... ufrag abcd ...`.
fn ufrag_attribute(candidate: &str) -> Option<&str> {
    let mut words = candidate.split_ascii_whitespace();
    words.find(|word| *word == "ufrag")?;
    words.next()
}

/// Reads a number that may be encoded as a string.
fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    T::try_from(number).ok()
}

fn status(envelope: &Map<String, Value>) -> Incoming {
    let Some(Value::Object(body)) = field(envelope, "statusResponse") else {
        return Incoming::Garbage;
    };
    if field(body, "success").and_then(Value::as_bool) == Some(true) {
        return Incoming::Garbage;
    }
    let status = field(body, "statusCode").and_then(number::<u16>).unwrap_or(500);
    let description = text(body, "description").unwrap_or_default();
    let error = ServiceError::new(status, text(body, "errorType"), description);
    Incoming::Status { correlation_id: text(body, "correlationId").map(short), error }
}

#[cfg(test)]
mod tests;
