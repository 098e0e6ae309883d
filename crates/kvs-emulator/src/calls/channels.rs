//! The control plane: channels, their endpoints and their media storage.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Body, Caller, serialization};
use crate::channel::{Channel, Storage, is_name};
use crate::error::ApiError;
use crate::presence::Why;
use crate::sync::lock;

/// The service's default, in seconds (CreateSignalingChannel).
pub(crate) const MESSAGE_TTL_SECS: u32 = 60;

pub(super) fn create(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let name = body
        .name("ChannelName")?
        .ok_or_else(|| ApiError::invalid_argument("ChannelName must not be null."))?;
    match body.text("ChannelType")? {
        None | Some("SINGLE_MASTER") => {}
        Some(_) => return Err(ApiError::invalid_argument("ChannelType must be SINGLE_MASTER.")),
    }
    let ttl = message_ttl(body)?.unwrap_or(MESSAGE_TTL_SECS);
    if let Some(tags) = body.array("Tags")? {
        check_tags(tags)?;
    }
    let arn = caller.shared.create_channel(name, ttl)?;
    tracing::info!(arn, "channel created");
    Ok(json!({ "ChannelARN": arn }))
}

pub(super) fn describe(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    with_channel(caller, body, |channel, now| Ok(json!({ "ChannelInfo": channel.info(now) })))
}

pub(super) fn list(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let max = body.number("MaxResults", 1, 10_000)?.unwrap_or(500);
    let after = match body.text("NextToken")? {
        None => None,
        Some(token) => Some(
            URL_SAFE_NO_PAD
                .decode(token)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .filter(|name| is_name(name))
                .ok_or_else(|| ApiError::invalid_argument("NextToken is not valid."))?,
        ),
    };
    let condition = body.object("ChannelNameCondition")?;
    let prefix = match &condition {
        None => "",
        Some(condition) => {
            if !matches!(condition.text("ComparisonOperator")?, None | Some("BEGINS_WITH")) {
                return Err(ApiError::invalid_argument("ComparisonOperator must be BEGINS_WITH."));
            }
            condition.name("ComparisonValue")?.unwrap_or("")
        }
    };
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut channels = lock(&caller.shared.channels);
    let (infos, last) = channels.list(prefix, after.as_deref(), max, Instant::now());
    let mut response = Map::new();
    response.insert("ChannelInfoList".to_owned(), infos.into());
    if let Some(last) = last {
        response.insert("NextToken".to_owned(), URL_SAFE_NO_PAD.encode(last).into());
    }
    Ok(response.into())
}

pub(super) fn delete(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let version = version(body)?;
    let arn = with_arn(caller, body, |channel, now| {
        channel.need_active(now)?;
        channel.need_version(version)?;
        Ok(channel.arn.clone())
    })?;
    let deleting = caller.shared.lifetimes.deleting;
    lock(&caller.shared.channels).delete(&arn, deleting, Instant::now())?;
    lock(&caller.shared.relay).clear(&arn);
    end_storage_session(caller, &arn, Why::Deleted);
    tracing::info!(arn, "channel deleted");
    Ok(json!({}))
}

pub(super) fn update(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let version = version(body)?
        .ok_or_else(|| ApiError::invalid_argument("CurrentVersion must not be null."))?;
    let ttl = message_ttl(body)?;
    let next_version = caller.shared.new_version();
    with_arn(caller, body, |channel, now| {
        channel.need_active(now)?;
        channel.need_version(Some(version))?;
        channel.message_ttl_secs = ttl.unwrap_or(channel.message_ttl_secs);
        channel.version = next_version;
        Ok(json!({}))
    })
}

/// The socket's role follows from `X-Amz-ClientId`, so both roles' endpoints lead to this one port:
/// a path of its own for each would break clients that put the query right behind the host.
pub(super) fn endpoint(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let settings = body.object("SingleMasterChannelEndpointConfiguration")?;
    let mut protocols = Vec::new();
    if let Some(settings) = &settings {
        match settings.text("Role")? {
            None | Some("MASTER" | "VIEWER") => {}
            Some(_) => return Err(ApiError::invalid_argument("Role must be MASTER or VIEWER.")),
        }
        for protocol in settings.array("Protocols")?.unwrap_or_default() {
            match protocol.as_str() {
                Some(known @ ("WSS" | "HTTPS" | "WEBRTC")) if !protocols.contains(&known) => {
                    protocols.push(known);
                }
                Some("WSS" | "HTTPS" | "WEBRTC") => {}
                Some(_) => {
                    return Err(ApiError::invalid_argument(
                        "Protocols must be of WSS, HTTPS and WEBRTC.",
                    ));
                }
                None => return Err(serialization("Protocols must be strings.")),
            }
        }
    }
    if protocols.is_empty() {
        return Err(ApiError::invalid_argument("Protocols must have 1 to 5 entries."));
    }
    let storage = with_arn(caller, body, |channel, now| {
        channel.need_active(now)?;
        Ok(channel.storage.enabled)
    })?;
    if protocols.contains(&"WEBRTC") && !storage {
        return Err(ApiError::invalid_argument(
            "The channel is not configured for media storage: it has no WEBRTC endpoint.",
        ));
    }
    let secure = if caller.shared.config.tls.is_some() { "s" } else { "" };
    let list = protocols.into_iter().map(|protocol| {
        let scheme = if protocol == "WSS" { "ws" } else { "http" };
        json!({
            "Protocol": protocol,
            "ResourceEndpoint": format!("{scheme}{secure}://{}", caller.authority),
        })
    });
    Ok(json!({ "ResourceEndpointList": list.collect::<Vec<_>>() }))
}

pub(super) fn describe_storage(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    with_channel(caller, body, |channel, _| {
        let mut storage = Map::new();
        let status = if channel.storage.enabled { "ENABLED" } else { "DISABLED" };
        storage.insert("Status".to_owned(), status.into());
        if let Some(arn) = &channel.storage.stream_arn {
            storage.insert("StreamARN".to_owned(), arn.as_str().into());
        }
        Ok(json!({ "MediaStorageConfiguration": storage }))
    })
}

pub(super) fn update_storage(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let wanted = body
        .object("MediaStorageConfiguration")?
        .ok_or_else(|| ApiError::invalid_argument("MediaStorageConfiguration must not be null."))?;
    let stream_arn = wanted.arn("StreamARN")?.map(str::to_owned);
    let enabled = match wanted.text("Status")? {
        Some("ENABLED") if stream_arn.is_none() => {
            return Err(ApiError::invalid_argument("StreamARN must not be null when ENABLED."));
        }
        Some("ENABLED") => true,
        Some("DISABLED") => false,
        Some(_) | None => {
            return Err(ApiError::invalid_argument("Status must be ENABLED or DISABLED."));
        }
    };
    let quotas = &caller.shared.config.quotas;
    let others = lock(&caller.shared.channels).storing_beside(body.text("ChannelARN")?);
    if enabled && quotas.enabled && others >= quotas.storage_channels_max {
        return Err(ApiError::limit(
            "The account has the maximum number of channels with media storage.",
        ));
    }
    let arn = with_arn(caller, body, |channel, now| {
        channel.need_active(now)?;
        channel.storage = Storage { enabled, stream_arn };
        Ok(channel.arn.clone())
    })?;
    if !enabled {
        end_storage_session(caller, &arn, Why::Service);
    }
    Ok(json!({}))
}

#[cfg(feature = "storage")]
fn end_storage_session(caller: &Caller<'_>, arn: &str, why: Why) {
    caller.shared.storage.end(arn, why);
}

#[cfg(not(feature = "storage"))]
fn end_storage_session(_caller: &Caller<'_>, _arn: &str, _why: Why) {}

/// Runs a function on the channel that `ChannelARN` or `ChannelName` names.
fn with_channel<T>(
    caller: &Caller<'_>,
    body: &Body,
    then: impl FnOnce(&mut Channel, Instant) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    if body.arn("ChannelARN")?.is_some() {
        return with_arn(caller, body, then);
    }
    let name = body.name("ChannelName")?.ok_or_else(|| {
        ApiError::invalid_argument("Either ChannelName or ChannelARN must be specified.")
    })?;
    let now = Instant::now();
    let mut channels = lock(&caller.shared.channels);
    let channel = channels.by_name(name, now)?;
    caller.count(channel)?;
    then(channel, now)
}

fn with_arn<T>(
    caller: &Caller<'_>,
    body: &Body,
    then: impl FnOnce(&mut Channel, Instant) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let arn = body.need_arn(caller, "ChannelARN")?;
    let now = Instant::now();
    let mut channels = lock(&caller.shared.channels);
    let channel = channels.by_arn(arn, now)?;
    caller.count(channel)?;
    then(channel, now)
}

fn message_ttl(body: &Body) -> Result<Option<u32>, ApiError> {
    let Some(settings) = body.object("SingleMasterConfiguration")? else { return Ok(None) };
    let ttl = settings.number("MessageTtlSeconds", 5, 120)?;
    Ok(ttl.and_then(|ttl| u32::try_from(ttl).ok()))
}

fn version(body: &Body) -> Result<Option<&str>, ApiError> {
    let version = body.text("CurrentVersion")?;
    let valid = |version: &str| {
        (1..=64).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if version.is_some_and(|version| !valid(version)) {
        return Err(ApiError::invalid_argument("CurrentVersion is not valid."));
    }
    Ok(version)
}

fn check_tags(tags: &[Value]) -> Result<(), ApiError> {
    if tags.len() > 50 {
        return Err(ApiError::new(
            400,
            "TagsPerResourceExceededLimitException",
            "You have exceeded the limit of tags that you can associate with the resource.",
        ));
    }
    let fits = |tag: &Value, field: &str, max: usize| {
        tag.get(field).and_then(Value::as_str).is_some_and(|text| text.chars().count() <= max)
    };
    let valid = |tag: &Value| fits(tag, "Key", 128) && fits(tag, "Value", 256);
    if tags.iter().all(valid) {
        Ok(())
    } else {
        Err(ApiError::invalid_argument("Tags must have a Key (to 128) and a Value (to 256)."))
    }
}
