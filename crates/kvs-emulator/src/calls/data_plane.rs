//! The calls on a channel's own endpoints: ICE servers, and the storage sessions' joins.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Body, Caller};
use crate::error::ApiError;
use crate::ice;
use crate::sync::lock;
use crate::wire::is_plain_id;

pub(super) fn ice_servers(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let shared = caller.shared;
    let arn = body.need_arn(caller, "ChannelARN")?;
    for field in ["ClientId", "Username"] {
        // Some clients send their role's name here, some nothing (kvs.md 1.1).
        if body.text(field)?.is_some_and(|text| !is_plain_id(text)) {
            return Err(ApiError::invalid_argument(format!(
                "{field} must be 1 to 256 characters of [a-zA-Z0-9_.-]."
            )));
        }
    }
    if !matches!(body.text("Service")?, None | Some("TURN")) {
        return Err(ApiError::invalid_argument("Service must be TURN."));
    }
    let now = Instant::now();
    lock(&shared.channels).by_arn(arn, now)?.need_active(now)?;
    let rate = shared.config.quotas.ice_configs_per_second;
    if !shared.within_quota("GetIceServerConfig of a channel", arn, rate) {
        return Err(ApiError::throttled());
    }
    let made_at = shared.clock.now().before(caller.setting.turn_age_secs);
    let list = ice::ice_servers(&shared.turn(), arn, made_at);
    Ok(json!({ "IceServerList": list }))
}

/// The storage service is not played: what a join answers is a setting.
pub(super) fn join_storage(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let arn = body.need_arn(caller, "channelArn")?;
    if body.text("clientId")?.is_some_and(|id| !is_plain_id(id)) {
        return Err(ApiError::invalid_argument("clientId is not valid."));
    }
    let now = Instant::now();
    let storage = lock(&caller.shared.channels).by_arn(arn, now)?.storage.enabled;
    if !storage {
        return Err(ApiError::invalid_argument("The channel is not configured for media storage."));
    }
    if !caller.shared.config.unknowns.join_storage_accepted {
        return Err(ApiError::invalid_argument("This emulator plays no storage sessions."));
    }
    Ok(json!({}))
}
