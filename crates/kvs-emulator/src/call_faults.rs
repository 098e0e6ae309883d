//! The effects of faults on calls and upgrades.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Api, ApiError};
use crate::fault::Action;
use crate::reply::{Reply, Reset, error_reply, page};
use crate::shared::Shared;

/// How a call or an upgrade continues after a fault.
pub(crate) enum Reaction {
    /// It is handled as usual.
    GoOn,
    /// It is handled with TURN credentials of this age, in seconds.
    TurnAge(u32),
    /// It gets this response.
    Answer(Reply),
}

/// Applies the fault of a call or an upgrade.
pub(crate) async fn apply(
    shared: &Arc<Shared>,
    api: Api,
    action: Action,
) -> Result<Reaction, Reset> {
    let refused = |error: &ApiError| Ok(Reaction::Answer(error_reply(shared, api, error)));
    match action {
        Action::Refuse { status, error, message } => {
            refused(&ApiError::new(status, error, message))
        }
        Action::Throttle => refused(&ApiError::throttled()),
        Action::ViewerLimit => refused(&ApiError::viewer_limit()),
        Action::ExpiredToken => refused(&ApiError::expired_token()),
        Action::Page { status, body, content_type } => {
            Ok(Reaction::Answer(page(shared, status, &content_type, Bytes::from(body))))
        }
        Action::Garbage => {
            let body = Bytes::from_static(b"<html>\x00 not what you asked for");
            Ok(Reaction::Answer(page(shared, 200, "application/json", body)))
        }
        Action::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(Reaction::GoOn)
        }
        Action::Hang { ms: Some(ms) } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Err(Reset)
        }
        Action::Hang { ms: None } => std::future::pending().await,
        Action::Reset => Err(Reset),
        Action::TurnAge { secs } => Ok(Reaction::TurnAge(secs)),
        // These are faults of messages and of open sockets.
        Action::Drop
        | Action::Duplicate { .. }
        | Action::Reorder { .. }
        | Action::Hold
        | Action::Away
        | Action::Corrupt { .. }
        | Action::Replay { .. }
        | Action::Sender { .. }
        | Action::Inject { .. }
        | Action::Status { .. }
        | Action::CloseSocket { .. }
        | Action::Socket { .. }
        | Action::After { .. } => Ok(Reaction::GoOn),
    }
}
