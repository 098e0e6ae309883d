//! The path of a client's frame from its socket to the relay: checks, quotas, and the first fault
//! that matches.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;

use crate::config::Quotas;
use crate::fault::{Action, Corruption, MessageFacts, Place, Role, Target, Then};
use crate::presence::Who;
use crate::quota::Bucket;
use crate::relay::{Connection, Envelope, Link, Outgoing};
use crate::shared::Shared;
use crate::socket_actions;
use crate::sync::lock;
use crate::wire::{self, ClientFrame, MessageType, Sender};

/// The send quotas of one socket.
#[derive(Debug)]
pub(crate) struct SendQuota {
    offers: Bucket,
    answers: Bucket,
    candidates: Bucket,
}

impl SendQuota {
    pub(crate) fn new(quotas: &Quotas, now: Instant) -> Self {
        Self {
            offers: Bucket::new(quotas.offers_per_second, now),
            answers: Bucket::new(quotas.answers_per_second, now),
            candidates: Bucket::new(quotas.candidates_per_second, now),
        }
    }

    fn take(&mut self, kind: MessageType, now: Instant) -> bool {
        match kind {
            MessageType::SdpOffer => self.offers.take(now),
            MessageType::SdpAnswer => self.answers.take(now),
            MessageType::IceCandidate => self.candidates.take(now),
            MessageType::GoAway | MessageType::ReconnectIceServer | MessageType::StatusResponse => {
                false
            }
        }
    }
}

/// Why a frame is not relayed: the content of a STATUS_RESPONSE.
struct Refusal {
    error: String,
    status: u16,
    text: String,
}

/// Handles a text frame from a client. A frame that is no message is ignored, as the service does;
/// a refused message is answered if it has a correlation id, and dropped silently otherwise.
pub(crate) fn handle_text(
    shared: &Arc<Shared>,
    connection: &Connection,
    quota: &mut SendQuota,
    text: &str,
) {
    let Some(frame) = wire::parse(text) else {
        tracing::debug!(connection = connection.link.id, bytes = text.len(), "not a message");
        return;
    };
    connection.link.count_sent();
    if let Err(refusal) = accept(shared, connection, quota, &frame) {
        tracing::info!(
            connection = connection.link.id,
            error = refusal.error,
            reason = refusal.text,
            "message refused"
        );
        answer_status(connection, &frame, &refusal);
    }
}

fn accept(
    shared: &Arc<Shared>,
    connection: &Connection,
    quota: &mut SendQuota,
    frame: &ClientFrame,
) -> Result<(), Refusal> {
    let kind = frame.kind.ok_or_else(|| invalid("Unknown action."))?;
    let payload = frame
        .payload
        .as_deref()
        .filter(|payload| !payload.is_empty())
        .ok_or_else(|| invalid("MessagePayload must not be empty."))?;
    let quotas = &shared.config.quotas;
    let unknowns = &shared.config.unknowns;
    if quotas.enabled && payload.len() > quotas.payload_bytes_max {
        return Err(Refusal {
            error: unknowns.oversize_error_type.clone(),
            status: 400,
            text: format!("MessagePayload is longer than {} bytes.", quotas.payload_bytes_max),
        });
    }
    if frame.correlation_id.as_deref().is_some_and(|id| !wire::is_plain_id(id)) {
        return Err(invalid("CorrelationId must match [a-zA-Z0-9_.-]{1,256}."));
    }
    if quotas.enabled && !quota.take(kind, Instant::now()) {
        return Err(Refusal {
            error: unknowns.throttle_error_type.clone(),
            status: 400,
            text: format!("Rate exceeded for {}.", kind.name()),
        });
    }
    let offers = kind == MessageType::SdpOffer;
    if offers && connection.who().role == Role::Master && !unknowns.master_offers_relayed {
        return Ok(());
    }
    let now = Instant::now();
    let (ttl_secs, storage) = match lock(&shared.channels).by_arn(&connection.who().arn, now) {
        Ok(channel) => (channel.message_ttl_secs, channel.storage.enabled),
        Err(_) => return Ok(()),
    };
    if storage {
        // "Direct peer-to-peer connections no longer occur" (UpdateMediaStorageConfiguration): the
        // messages of clients are for the service, which accepts no offers.
        tracing::info!(channel = connection.who().channel, kind = kind.name(), "storage channel");
        #[cfg(feature = "storage")]
        shared.storage.receive(connection.who(), kind, payload);
        return Ok(());
    }
    let viewer = match (&connection.who().client_id, frame.recipient.as_deref()) {
        // "Ignored": a viewer sends to the master only (SendSdpOffer).
        (Some(id), _) => id.as_str(),
        (None, Some(recipient)) if wire::is_client_id(recipient) => recipient,
        (None, Some(_)) => return Err(invalid("RecipientClientId is not valid.")),
        (None, None) => return Err(invalid("RecipientClientId must not be empty.")),
    };
    let envelope = Envelope {
        arn: connection.who().arn.clone(),
        kind,
        from: connection.who().role,
        viewer: viewer.to_owned(),
        payload: payload.to_owned(),
        sender: sender(connection),
        cut: false,
        expires: now + shared.scaled(Duration::from_secs(u64::from(ttl_secs))),
    };
    tracing::debug!(
        channel = connection.who().channel,
        kind = kind.name(),
        viewer,
        from = ?connection.who().role,
        bytes = payload.len(),
        "message"
    );
    dispatch(shared, connection.who(), Some(&connection.link), envelope)
}

/// Sends a message of the storage service, through the same faults and queues as any other.
#[cfg(feature = "storage")]
pub(crate) fn send_from_service(
    shared: &Arc<Shared>,
    to: &Who,
    kind: MessageType,
    payload: &serde_json::Value,
) {
    let now = Instant::now();
    let Ok(ttl_secs) = lock(&shared.channels).by_arn(&to.arn, now).map(|c| c.message_ttl_secs)
    else {
        return;
    };
    let envelope = Envelope {
        arn: to.arn.clone(),
        kind,
        from: match to.role {
            Role::Master => Role::Viewer,
            Role::Viewer => Role::Master,
        },
        viewer: to.client_id.clone().unwrap_or_default(),
        sender: Sender::Absent,
        cut: false,
        payload: STANDARD.encode(payload.to_string()),
        expires: now + shared.scaled(Duration::from_secs(u64::from(ttl_secs))),
    };
    if let Err(refusal) = dispatch(shared, to, None, envelope) {
        tracing::info!(reason = refusal.text, "a message of the service is lost");
    }
}

/// Applies the fault of a message, if any, and delivers the message.
fn dispatch(
    shared: &Arc<Shared>,
    who: &Who,
    sender: Option<&Link>,
    envelope: Envelope,
) -> Result<(), Refusal> {
    let (kind, from) = (envelope.kind, envelope.from);
    let earlier = lock(&shared.relay).remember(&envelope);
    let channel = &who.channel;
    let facts = MessageFacts { kind, from, client_id: &envelope.viewer, channel };
    let Some((fault, action)) = shared.faults.for_message(&facts) else {
        deliver(shared, envelope);
        return Ok(());
    };
    match action {
        Action::Drop => {}
        Action::Delay { ms } => {
            shared.spawn_after(Duration::from_millis(ms), |shared| deliver(shared, envelope));
        }
        Action::Duplicate { copies, every_ms } => {
            deliver(shared, envelope.clone());
            for copy in 1..=u64::from(copies) {
                let copied = envelope.clone();
                match every_ms.saturating_mul(copy) {
                    0 => deliver(shared, copied),
                    ms => shared
                        .spawn_after(Duration::from_millis(ms), |shared| deliver(shared, copied)),
                }
            }
        }
        Action::Reorder { behind, within_ms } => {
            let arn = envelope.arn.clone();
            if let Some(id) = lock(&shared.relay).overtake(envelope, behind) {
                shared.spawn_after(Duration::from_millis(within_ms), move |shared| {
                    let mut relay = lock(&shared.relay);
                    relay.overtake_no_more(&arn, id, &shared.config.unknowns, Instant::now());
                });
            }
        }
        Action::Hold => {
            if !lock(&shared.relay).hold(fault, envelope) {
                tracing::warn!(fault, "too many messages are held back: one is lost");
            }
        }
        Action::Away => {
            let mut relay = lock(&shared.relay);
            relay.keep(envelope, &shared.config.unknowns, Instant::now());
        }
        Action::Corrupt { how } => deliver(shared, corrupted(envelope, how)),
        Action::Replay { instead } => {
            if let Some(earlier) = earlier {
                deliver(shared, Envelope { payload: earlier, ..envelope.clone() });
            }
            if !instead {
                deliver(shared, envelope);
            }
        }
        Action::Sender { sender } => deliver(shared, Envelope { sender, ..envelope }),
        Action::Inject { what, place } => {
            if place == Place::After {
                deliver(shared, envelope.clone());
            }
            happens(shared, sender, &envelope, Target::Recipient, &Then::Inject(what));
            if place == Place::Before {
                deliver(shared, envelope);
            }
        }
        Action::Status { error, status } => {
            return Err(Refusal { error, status, text: "An injected fault.".to_owned() });
        }
        Action::CloseSocket { whose, code } => {
            let then = code.map_or(Then::Cut, Then::CloseWith);
            happens(shared, sender, &envelope, whose, &then);
        }
        Action::Socket { whose, then, lost } => {
            if !lost {
                deliver(shared, envelope.clone());
            }
            happens(shared, sender, &envelope, whose, &then);
        }
        // These are faults of calls and upgrades, which the menu does not allow here.
        Action::Refuse { .. }
        | Action::Page { .. }
        | Action::Throttle
        | Action::ViewerLimit
        | Action::ExpiredToken
        | Action::Hang { .. }
        | Action::Reset
        | Action::Garbage
        | Action::TurnAge { .. }
        | Action::After { .. } => deliver(shared, envelope),
    }
    Ok(())
}

fn deliver(shared: &Arc<Shared>, envelope: Envelope) {
    lock(&shared.relay).deliver(envelope, &shared.config.unknowns, Instant::now());
}

/// Applies an action to the sockets of a message's sender, recipient or both.
fn happens(
    shared: &Arc<Shared>,
    sender: Option<&Link>,
    envelope: &Envelope,
    whose: Target,
    then: &Then,
) {
    let to = match envelope.from {
        Role::Master => Role::Viewer,
        Role::Viewer => Role::Master,
    };
    let recipient = lock(&shared.relay).recipient(&envelope.arn, to, &envelope.viewer).cloned();
    let (sender, recipient) = match whose {
        Target::Sender => (sender.cloned(), None),
        Target::Recipient => (None, recipient),
        Target::Both => (sender.cloned(), recipient),
    };
    for link in [sender, recipient].into_iter().flatten() {
        socket_actions::apply(shared, &link, then);
    }
}

/// The sender of a client's messages: the master has no id.
fn sender(connection: &Connection) -> Sender {
    Sender::of(connection.who().client_id.as_deref())
}

fn corrupted(envelope: Envelope, how: Corruption) -> Envelope {
    let description = match envelope.kind {
        MessageType::SdpOffer => r#"{"type":"offer","sdp":""}"#,
        MessageType::SdpAnswer
        | MessageType::IceCandidate
        | MessageType::GoAway
        | MessageType::ReconnectIceServer
        | MessageType::StatusResponse => r#"{"type":"answer","sdp":""}"#,
    };
    let payload = match how {
        Corruption::Base64 => "%%% no base64 %%%".to_owned(),
        Corruption::Json => STANDARD.encode(r#"{"type":"answer","sdp":"v=0"#),
        Corruption::Sdp => STANDARD.encode(description),
        Corruption::Envelope => return Envelope { cut: true, ..envelope },
    };
    Envelope { payload, ..envelope }
}

/// "If the service encounters an error and if correlationId is specified in the request, the
/// error details are returned as a STATUS_RESPONSE" (SendSdpOffer).
fn answer_status(connection: &Connection, frame: &ClientFrame, refusal: &Refusal) {
    let Some(id) = frame.correlation_id.as_deref() else { return };
    let id: String = id.chars().take(256).collect();
    let text = wire::status(&id, &refusal.error, refusal.status, &refusal.text);
    connection.link.push(Outgoing::Text(text));
}

fn invalid(text: &str) -> Refusal {
    Refusal { error: "InvalidArgumentException".to_owned(), status: 400, text: text.to_owned() }
}
