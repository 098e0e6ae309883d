//! The frames of the signaling socket, as in docs/kvs-protocol.md 2.2 and 2.3, without IO.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// The type of a signaling message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageType {
    /// A session description of the type offer.
    SdpOffer,
    /// A session description of the type answer.
    SdpAnswer,
    /// One ICE candidate.
    IceCandidate,
    /// The service will close the socket soon.
    GoAway,
    /// The client has to fetch the ICE servers again.
    ReconnectIceServer,
    /// The service refused a message.
    StatusResponse,
}

impl MessageType {
    /// The type's name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SdpOffer => "SDP_OFFER",
            Self::SdpAnswer => "SDP_ANSWER",
            Self::IceCandidate => "ICE_CANDIDATE",
            Self::GoAway => "GO_AWAY",
            Self::ReconnectIceServer => "RECONNECT_ICE_SERVER",
            Self::StatusResponse => "STATUS_RESPONSE",
        }
    }

    /// Parses a type that clients may send.
    fn from_action(action: &str) -> Option<Self> {
        [Self::SdpOffer, Self::SdpAnswer, Self::IceCandidate]
            .into_iter()
            .find(|kind| kind.name() == action)
    }
}

/// A frame that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientFrame {
    /// `None`: an action the service does not know.
    pub(crate) kind: Option<MessageType>,
    pub(crate) recipient: Option<String>,
    pub(crate) payload: Option<String>,
    pub(crate) correlation_id: Option<String>,
}

/// Reads a frame; `None` when it is no JSON object with an action. Field names are read in any
/// case: the C SDK capitalises three of the four (docs/kvs-protocol.md 2.2).
pub(crate) fn parse(text: &str) -> Option<ClientFrame> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return None };
    let action = text_field(&object, "action")?;
    Some(ClientFrame {
        kind: MessageType::from_action(&action),
        recipient: text_field(&object, "recipientClientId").filter(|id| !id.is_empty()),
        payload: text_field(&object, "messagePayload"),
        correlation_id: text_field(&object, "correlationId").filter(|id| !id.is_empty()),
    })
}

/// A frame to a client. Messages from the master carry no sender.
pub(crate) fn message(kind: MessageType, sender: &Sender, payload: Option<&str>) -> String {
    let mut object = Map::new();
    object.insert("messageType".to_owned(), kind.name().into());
    if let Some(payload) = payload {
        object.insert("messagePayload".to_owned(), payload.into());
    }
    match sender {
        Sender::Absent => {}
        Sender::Null => {
            object.insert("senderClientId".to_owned(), Value::Null);
        }
        Sender::Id(id) => {
            object.insert("senderClientId".to_owned(), id.as_str().into());
        }
    }
    Value::Object(object).to_string()
}

/// A STATUS_RESPONSE to the message with this correlation id.
pub(crate) fn status(correlation_id: &str, error: &str, code: u16, description: &str) -> String {
    json!({
        "messageType": MessageType::StatusResponse.name(),
        "statusResponse": {
            "correlationId": correlation_id,
            "success": false,
            "errorType": error,
            "statusCode": code.to_string(),
            "description": description,
        },
    })
    .to_string()
}

/// 1..256 of `[a-zA-Z0-9_.-]` (docs/kvs-protocol.md 1.2): client and correlation ids.
pub(crate) fn is_plain_id(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// A viewer's id: plain, and not beginning with `AWS_` in any case.
pub(crate) fn is_client_id(text: &str) -> bool {
    let reserved = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("AWS_"));
    is_plain_id(text) && !reserved
}

fn text_field(object: &Map<String, Value>, name: &str) -> Option<String> {
    let value = object.get(name).or_else(|| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })?;
    value.as_str().map(str::to_owned)
}

/// The `senderClientId` of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sender {
    /// No such field, as AWS does for the master.
    #[default]
    Absent,
    /// The field is null.
    Null,
    /// Any text, the empty one included.
    Id(String),
}

impl Sender {
    /// Returns the sender that the relay writes: the master has no id.
    pub(crate) fn of(client_id: Option<&str>) -> Self {
        client_id.map_or(Self::Absent, |id| Self::Id(id.to_owned()))
    }

    pub(crate) fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

impl Serialize for Sender {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_none(),
            Self::Id(id) => serializer.serialize_str(id),
        }
    }
}

/// Parses a present field; a missing one is [`Sender::Absent`] by default.
impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map_or(Self::Null, Self::Id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_field_names_are_case_insensitive() {
        let lower = r#"{"action":"SDP_ANSWER","recipientClientId":"v","messagePayload":"eA==","correlationId":"1"}"#;
        let upper = r#"{"action":"SDP_ANSWER","RecipientClientId":"v","MessagePayload":"eA==","CorrelationId":"1"}"#;
        let frame = parse(lower).unwrap();
        assert_eq!(parse(upper), Some(frame.clone()));
        assert_eq!(frame.kind, Some(MessageType::SdpAnswer));
        assert_eq!(frame.recipient.as_deref(), Some("v"));
    }

    #[test]
    fn clients_may_send_only_three_actions() {
        for action in ["GO_AWAY", "RECONNECT_ICE_SERVER", "STATUS_RESPONSE", "BUSY", "sdp_offer"] {
            assert_eq!(parse(&format!(r#"{{"action":"{action}"}}"#)).unwrap().kind, None);
        }
        for broken in ["", "{", "[]", "7", "{}", r#"{"action":7}"#, "null"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn deeply_nested_json_is_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&format!(r#"{{"action":{deep}"#)), None);
    }

    #[test]
    fn message_from_master_has_no_sender_id() {
        assert_eq!(
            message(MessageType::SdpAnswer, &Sender::Absent, Some("eA==")),
            r#"{"messagePayload":"eA==","messageType":"SDP_ANSWER"}"#
        );
        let offer = message(MessageType::SdpOffer, &Sender::of(Some("v")), Some(""));
        assert!(offer.contains(r#""senderClientId":"v""#));
    }

    #[test]
    fn client_id_matches_the_developer_guide() {
        for good in ["a", "A_b.c-9", &"x".repeat(256), "awsome"] {
            assert!(is_client_id(good), "{good}");
        }
        for bad in ["", "a@b", "AWS_x", "aws_x", "aWs_", &"x".repeat(257), "\u{e9}\u{e9}\u{e9}"] {
            assert!(!is_client_id(bad), "{bad}");
        }
    }
}
