//! The wire format of a signaling socket: pure, total, bounded.
//!
//! What we send is as the service documents it. What we take is as tolerant as the masters that
//! exist need it: both base64 alphabets, missing padding, any case of a field's name, and frames
//! that are not for this client (docs/kvs-protocol.md 2.2 and 2.3).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use negotiation_core::{Candidate, Description, Failure, FailureCode, Undecodable};
use serde::Serialize;
use serde_json::{Map, Value};
use viewer_session::facts::read_description;

use crate::error;

/// Longest frame taken, in bytes. The service's payloads are at most 10 kB.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Longest payload sent, in characters of base64 (quota: "payload 10k").
pub const PAYLOAD_MAX: usize = 10_000;

/// Longest candidate taken. The C SDK takes 255 characters.
const CANDIDATE_MAX: usize = 2_048;

/// Longest of the short texts taken: ids, mids, names.
const NAME_MAX: usize = 256;

/// The id by which the service's backend knows the master.
const MASTER: &str = "AWS_DEFAULT_SINGLE_MASTER";

/// A frame that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// `SDP_OFFER`, with the sender's id; `None` is the master.
    Offer(Option<String>, Result<Description, Undecodable>),
    /// `SDP_ANSWER`, with the sender's id; `None` is the master.
    Answer(Option<String>, Result<Description, Undecodable>),
    /// `ICE_CANDIDATE`, with the sender's id; `None` is the master.
    Candidate(Option<String>, Result<Candidate, Undecodable>),
    /// `STATUS_RESPONSE`: a message of this client could not be handled.
    Status {
        /// The correlation id of that message.
        correlation: Option<String>,
        /// What the service says of it.
        failure: Failure,
    },
    /// `GO_AWAY`.
    GoAway,
    /// `RECONNECT_ICE_SERVER`.
    ReconnectIceServer,
    /// None of these.
    Garbage,
}

/// Reads a text frame. Whatever the text is, there is an answer.
pub fn decode(frame: &str) -> Incoming {
    if frame.len() > FRAME_BYTES_MAX {
        return Incoming::Garbage;
    }
    // serde_json refuses more than 128 levels, so depth is bounded too.
    let Ok(Value::Object(envelope)) = serde_json::from_str(frame) else {
        return Incoming::Garbage;
    };
    let Some(kind) = text(&envelope, "messageType") else {
        return Incoming::Garbage;
    };
    match kind.to_ascii_uppercase().as_str() {
        "SDP_OFFER" => Incoming::Offer(sender(&envelope), description(&envelope, "offer")),
        "SDP_ANSWER" => Incoming::Answer(sender(&envelope), description(&envelope, "answer")),
        "ICE_CANDIDATE" => Incoming::Candidate(sender(&envelope), candidate(&envelope)),
        "STATUS_RESPONSE" => status(&envelope),
        "GO_AWAY" => Incoming::GoAway,
        "RECONNECT_ICE_SERVER" => Incoming::ReconnectIceServer,
        _ => Incoming::Garbage,
    }
}

/// What a message is, as the service names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `SDP_OFFER`
    Offer,
    /// `SDP_ANSWER`
    Answer,
}

/// Writes an offer or an answer. A viewer's recipient is always the master: `None`.
///
/// # Errors
/// Too big for the service even without its candidates, which trickle.
pub fn encode_description(
    action: Action,
    recipient: Option<&str>,
    sdp: &str,
    correlation: Option<&str>,
) -> Result<String, Failure> {
    let (action, kind) = match action {
        Action::Offer => ("SDP_OFFER", "offer"),
        Action::Answer => ("SDP_ANSWER", "answer"),
    };
    let payload = |sdp: &str| payload(&DescriptionBody { sdp, kind });
    let mut body = payload(sdp);
    if body.len() > PAYLOAD_MAX {
        body = payload(&without_candidates(sdp));
    }
    envelope(action, recipient, body, correlation)
}

/// Writes a candidate. Masters that exist want both `sdpMid` and `sdpMLineIndex`, so whichever is
/// missing comes from `mids`, the mids of the description it belongs to.
///
/// # Errors
/// Too big for the service.
pub fn encode_candidate(
    recipient: Option<&str>,
    candidate: &Candidate,
    mids: &[Option<String>],
    correlation: Option<&str>,
) -> Result<String, Failure> {
    let text = candidate.text.trim();
    let (mid, index) = section(candidate, mids);
    let body = payload(&CandidateBody {
        candidate: text.strip_prefix("a=").unwrap_or(text),
        mid: &mid,
        index,
        ufrag: candidate.ufrag.as_deref(),
    });
    envelope("ICE_CANDIDATE", recipient, body, correlation)
}

/// What the service says when it refuses a socket: the HTTP status, the error's name where a header
/// has it, and the body, which is JSON unless something on the way wrote it.
pub fn refusal(status: u16, name: Option<&str>, body: &[u8]) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = |names: [&str; 2]| names.iter().find_map(|name| body.get(*name)?.as_str());
    let name = name.or_else(|| said(["__type", "code"]));
    error::service(status, name, said(["message", "Message"]).unwrap_or_default())
}

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

// In the order of the JavaScript SDK, so that its own samples can be compared byte for byte.
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
    // Strings and numbers always serialise; an empty payload would only be refused by the service.
    STANDARD.encode(serde_json::to_vec(body).unwrap_or_default())
}

fn envelope(
    action: &str,
    recipient: Option<&str>,
    message_payload: String,
    correlation: Option<&str>,
) -> Result<String, Failure> {
    if message_payload.len() > PAYLOAD_MAX {
        return Err(Failure::new(
            FailureCode::TooBig,
            format!(
                "{action} has a payload of {} characters, and the service takes {PAYLOAD_MAX}",
                message_payload.len()
            ),
        ));
    }
    let envelope = Envelope {
        action,
        message_payload,
        recipient_client_id: recipient,
        correlation_id: correlation,
    };
    serde_json::to_string(&envelope)
        .map_err(|_| Failure::new(FailureCode::Port, "a message could not be written as JSON"))
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
        // Neither this client's id nor the master.
        Some(_) => Some("?".to_owned()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

fn payload_json(envelope: &Map<String, Value>) -> Result<Value, Undecodable> {
    let encoded = text(envelope, "messagePayload").ok_or(Undecodable)?;
    let bytes = decode_base64(encoded).ok_or(Undecodable)?;
    // A name in another character set, as within `s=`, costs no answer.
    let json = String::from_utf8_lossy(&bytes);
    serde_json::from_str(bare(&json)).map_err(|_| Undecodable)
}

/// JSON without what surrounds it: masters written in C send the NUL that ends their strings, and
/// others a byte order mark.
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

fn description(envelope: &Map<String, Value>, expected: &str) -> Result<Description, Undecodable> {
    let Value::Object(body) = payload_json(envelope)? else {
        return Err(Undecodable);
    };
    // Some masters leave the type out; one that contradicts the envelope is no description.
    if text(&body, "type").is_some_and(|kind| !bare(kind).eq_ignore_ascii_case(expected)) {
        return Err(Undecodable);
    }
    read_description(text(&body, "sdp").ok_or(Undecodable)?)
}

fn candidate(envelope: &Map<String, Value>) -> Result<Candidate, Undecodable> {
    let body = match payload_json(envelope)? {
        Value::Object(body) => body,
        // The end of candidates has many forms; `null` and `""` are two of them.
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

/// Browsers write the generation into the candidate itself: `... ufrag abcd ...`.
fn ufrag_attribute(candidate: &str) -> Option<&str> {
    let mut words = candidate.split_ascii_whitespace();
    words.find(|word| *word == "ufrag")?;
    words.next()
}

/// Numbers come as numbers and as strings.
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
    let code = field(body, "statusCode").and_then(number::<u16>).unwrap_or(500);
    let failure = error::service(
        code,
        text(body, "errorType"),
        text(body, "description").unwrap_or_default(),
    );
    Incoming::Status { correlation: text(body, "correlationId").map(short), failure }
}

#[cfg(test)]
mod tests;
