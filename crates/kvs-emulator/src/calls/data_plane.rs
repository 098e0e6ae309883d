//! The calls on a channel's own endpoints: ICE servers, and the joins of storage sessions.

use std::net::IpAddr;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Body, Caller};
use crate::error::ApiError;
use crate::fault::Role;
use crate::ice;
use crate::presence::Who;
use crate::sync::lock;
use crate::wire::{is_client_id, is_plain_id};

pub(super) fn ice_servers(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let shared = caller.shared;
    let arn = body.need_arn(caller, "ChannelARN")?;
    for field in ["ClientId", "Username"] {
        // Some clients send their role's name here, and some no text (docs/kvs-protocol.md 1.1).
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
    let made_at = shared.clock.now().before(caller.turn_age_secs);
    let mut turn = shared.turn();
    let user = ice::user(&turn, arn, made_at);
    if turn.servers.is_empty()
        && let Some(uri) = own_relay(caller)
    {
        turn.servers.push(vec![uri]);
        #[cfg(feature = "turn")]
        shared.turn_users.hand_out(&user.name, &user.password, arn, user.ends);
    }
    Ok(json!({ "IceServerList": ice::ice_servers(&turn, &user) }))
}

/// The emulator's own TURN server, at the address that the client called.
fn own_relay(caller: &Caller<'_>) -> Option<String> {
    let addr = *caller.shared.relay_addr.get()?;
    let host = caller.authority;
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    // Few TURN clients resolve host names.
    let host = match (is_address || addr.ip().is_unspecified(), addr.ip()) {
        (true, _) => host.to_owned(),
        (false, IpAddr::V4(ip)) => ip.to_string(),
        (false, IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    Some(format!("turn:{host}:{}?transport=udp", addr.port()))
}

/// A viewer sends its client id and the master none; the C SDK's viewer uses the master's call too
/// (docs/kvs-protocol.md 1.1).
pub(super) fn join_storage(caller: &Caller<'_>, body: &Body) -> Result<Value, ApiError> {
    let arn = body.need_arn(caller, "channelArn")?;
    let client_id = body.text("clientId")?;
    if client_id.is_some_and(|id| !is_client_id(id)) {
        return Err(ApiError::invalid_argument("clientId is not valid."));
    }
    if client_id.is_none() && caller.call.name == "JoinStorageSessionAsViewer" {
        return Err(ApiError::invalid_argument("clientId must not be null."));
    }
    let now = Instant::now();
    let (channel, storage) = {
        let mut channels = lock(&caller.shared.channels);
        let channel = channels.by_arn(arn, now)?;
        (channel.name.clone(), channel.storage.enabled)
    };
    if !storage {
        return Err(ApiError::invalid_argument("The channel is not configured for media storage."));
    }
    if !caller.shared.config.unknowns.join_storage_accepted {
        return Err(ApiError::invalid_argument("The storage session cannot be joined."));
    }
    let role = if client_id.is_some() { Role::Viewer } else { Role::Master };
    let client_id = client_id.map(str::to_owned);
    join(caller, Who { arn: arn.to_owned(), channel, role, client_id })
}

#[cfg(feature = "storage")]
fn join(caller: &Caller<'_>, who: Who) -> Result<Value, ApiError> {
    crate::storage::join(caller.shared, who)?;
    Ok(json!({}))
}

/// Accepts a join without any effect: the feature `storage` is off.
#[cfg(not(feature = "storage"))]
fn join(_caller: &Caller<'_>, _who: Who) -> Result<Value, ApiError> {
    Ok(json!({}))
}
