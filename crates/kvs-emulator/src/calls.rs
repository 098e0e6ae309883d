//! The REST calls by path, their quotas, and the reading of their bodies.

mod channels;
pub(crate) use channels::MESSAGE_TTL_SECS;
mod data_plane;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::channel::{Channel, is_arn, is_name};
use crate::error::{Api, ApiError};
use crate::shared::Shared;

/// One call of the three APIs.
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) path: &'static str,
    pub(crate) name: &'static str,
    /// Calls a second of the account and of one channel (docs/kvs-protocol.md 1.6).
    account_tps: u32,
    channel_tps: Option<u32>,
    handler: Handler,
}

/// The function that handles a call.
type Handler = fn(&Caller<'_>, &Body) -> Result<Value, ApiError>;

/// A call and its context beside the body.
pub(crate) struct Caller<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) call: &'static Call,
    /// The `host:port` of endpoints that point to this emulator.
    pub(crate) authority: &'a str,
    /// The age in seconds that a fault gives the returned TURN credentials.
    pub(crate) turn_age_secs: u32,
}

/// Finds the call of a path.
pub(crate) fn find(path: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.path == path)
}

/// Runs a call with a verified signature.
pub(crate) fn run(caller: &Caller<'_>, body: &[u8]) -> Result<Value, ApiError> {
    let call = caller.call;
    if !caller.shared.within_quota(call.name, "", call.account_tps) {
        return Err(ApiError::throttled());
    }
    (call.handler)(caller, &Body::parse(body)?)
}

/// Defines a call of the control plane.
const fn call(
    path: &'static str,
    name: &'static str,
    account_tps: u32,
    channel_tps: Option<u32>,
    handler: Handler,
) -> Call {
    Call { api: Api::ControlPlane, path, name, account_tps, channel_tps, handler }
}

/// Defines a call on a channel's own endpoints.
const fn data_call(
    api: Api,
    path: &'static str,
    name: &'static str,
    account_tps: u32,
    handler: Handler,
) -> Call {
    Call { api, path, name, account_tps, channel_tps: None, handler }
}

/// Every call.
pub(crate) static CALLS: [Call; 11] = [
    call("/createSignalingChannel", "CreateSignalingChannel", 50, None, channels::create),
    call("/describeSignalingChannel", "DescribeSignalingChannel", 300, Some(5), channels::describe),
    call("/listSignalingChannels", "ListSignalingChannels", 50, None, channels::list),
    call("/deleteSignalingChannel", "DeleteSignalingChannel", 50, Some(5), channels::delete),
    call("/updateSignalingChannel", "UpdateSignalingChannel", 50, Some(5), channels::update),
    call(
        "/getSignalingChannelEndpoint",
        "GetSignalingChannelEndpoint",
        300,
        None,
        channels::endpoint,
    ),
    call(
        "/describeMediaStorageConfiguration",
        "DescribeMediaStorageConfiguration",
        50,
        Some(5),
        channels::describe_storage,
    ),
    call(
        "/updateMediaStorageConfiguration",
        "UpdateMediaStorageConfiguration",
        10,
        Some(5),
        channels::update_storage,
    ),
    data_call(
        Api::Signaling,
        "/v1/get-ice-server-config",
        "GetIceServerConfig",
        10_000,
        data_plane::ice_servers,
    ),
    data_call(
        Api::Storage,
        "/joinStorageSession",
        "JoinStorageSession",
        50,
        data_plane::join_storage,
    ),
    data_call(
        Api::Storage,
        "/joinStorageSessionAsViewer",
        "JoinStorageSessionAsViewer",
        50,
        data_plane::join_storage,
    ),
];

impl Caller<'_> {
    /// Counts the call against its channel's quota.
    fn count(&self, channel: &Channel) -> Result<(), ApiError> {
        match self.call.channel_tps {
            Some(tps) if !self.shared.within_quota(self.call.name, &channel.arn, tps) => {
                Err(ApiError::throttled())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses an ARN of another account with AWS's error.
    fn need_own(&self, arn: &str) -> Result<(), ApiError> {
        let account = arn.split(':').nth(4).unwrap_or_default();
        if account == self.shared.config.account {
            return Ok(());
        }
        let call = self.call.name;
        let message = format!("The caller is not authorized to perform kinesisvideo:{call}.");
        Err(ApiError::denied(self.call.api, message))
    }
}

/// The JSON object in a request's body.
pub(crate) struct Body {
    object: Map<String, Value>,
}

impl Body {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Self { object: Map::new() });
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(Self { object }),
            Ok(_) | Err(_) => Err(serialization("The request body is not a JSON object.")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(serialization(format!("{name} must be a string.")))
            }
        }
    }

    fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
                Some(_) | None => Err(ApiError::invalid_argument(format!(
                    "{name} must be between {min} and {max}."
                ))),
            },
            Some(Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                Err(serialization(format!("{name} must be a number.")))
            }
        }
    }

    fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Self { object: object.clone() })),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::String(_)) => {
                Err(serialization(format!("{name} must be an object.")))
            }
        }
    }

    fn array(&self, name: &str) -> Result<Option<&[Value]>, ApiError> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::String(_)) => {
                Err(serialization(format!("{name} must be a list.")))
            }
        }
    }

    fn name(&self, field: &str) -> Result<Option<&str>, ApiError> {
        let name = self.text(field)?;
        if name.is_some_and(|name| !is_name(name)) {
            return Err(ApiError::invalid_argument(format!(
                "{field} must be 1 to 256 characters of [a-zA-Z0-9_.-]."
            )));
        }
        Ok(name)
    }

    fn arn(&self, field: &str) -> Result<Option<&str>, ApiError> {
        let arn = self.text(field)?;
        if arn.is_some_and(|arn| !is_arn(arn)) {
            return Err(ApiError::invalid_argument(format!("{field} is not a channel's ARN.")));
        }
        Ok(arn)
    }

    fn need_arn(&self, caller: &Caller<'_>, field: &str) -> Result<&str, ApiError> {
        let arn = self
            .arn(field)?
            .ok_or_else(|| ApiError::invalid_argument(format!("{field} must not be null.")))?;
        caller.need_own(arn)?;
        Ok(arn)
    }
}

fn serialization(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "SerializationException", message)
}
