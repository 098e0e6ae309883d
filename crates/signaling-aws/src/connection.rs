//! One connection of a viewer, as one task: it opens, reads, writes, and closes all it opened.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use kvs_wire::{Incoming, SdpType, encode_candidate, encode_description};
use negotiation_core::{
    ClientId, Completion, ConnectionId, Description, Done, Failure, FailureCode, Message, Sdp,
    Sender, SignalingEvent, Ticket, Undecodable,
};
use tokio::sync::{mpsc, oneshot, watch};
use viewer_session::facts::read_description;
use viewer_session::redact;

use crate::attempt_id::{AttemptId, IdHold, LeaseRequest};
use crate::channel_client::{ChannelClient, Invalidate, Resolved};
use crate::endpoint::Role;
use crate::error;
use crate::pace::Coalesced;
use crate::socket::Socket;
use crate::state_dir;

/// Sends the one completion of a command. Dropped without an outcome, it reports a cancellation.
#[derive(Debug)]
pub(crate) struct Reply {
    ticket: Ticket,
    to: Option<mpsc::UnboundedSender<Completion>>,
}

impl Reply {
    pub(crate) fn new(ticket: Ticket, to: mpsc::UnboundedSender<Completion>) -> Self {
        Self { ticket, to: Some(to) }
    }

    pub(crate) fn complete(mut self, outcome: Result<Done, Failure>) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<Done, Failure>) {
        if let Some(to) = self.to.take() {
            // A port that is gone needs no completion.
            let _ = to.send(Completion { ticket: self.ticket, outcome });
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.finish(Err(Failure::cancelled()));
    }
}

/// A message to send, and the reply for its completion.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) reply: Reply,
    pub(crate) message: Message,
}

/// The inputs and outputs of a connection's task.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    pub(crate) id: AttemptId,
    /// The attempt's id, for a connection after its first.
    pub(crate) known_id: Option<ClientId>,
    /// Whether an attempt of the session came before.
    pub(crate) retries: bool,
    pub(crate) connect: Reply,
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) events: mpsc::Sender<(ConnectionId, SignalingEvent)>,
    pub(crate) resolved: watch::Sender<Option<Result<Resolved, Failure>>>,
    pub(crate) close: oneshot::Receiver<()>,
    /// What ended the connection, once it was open.
    pub(crate) ended: Arc<OnceLock<Failure>>,
}

/// Runs a connection from its first call to its end.
pub(crate) async fn run(link: ConnectionId, client: ChannelClient, ends: ConnectionContext) {
    let ConnectionContext {
        id,
        known_id,
        retries,
        connect,
        mut outgoing,
        events,
        resolved,
        mut close,
        ended,
    } = ends;
    let opened = tokio::select! {
        biased;
        // Dropping the reply completes the connect as cancelled.
        _ = &mut close => return,
        opened = open(&client, &id, known_id.as_ref(), retries, &resolved) => opened,
    };
    let mut open = match opened {
        Ok(open) => open,
        Err(failure) => {
            resolved.send_if_modified(|known| {
                let unknown = known.is_none();
                known.get_or_insert_with(|| Err(failure.clone()));
                unknown
            });
            connect.complete(Err(failure));
            refuse_rest(&mut outgoing, &not_open());
            return;
        }
    };
    connect.complete(Ok(Done::Connected(open.hold.id().clone())));
    let end = tokio::select! {
        biased;
        _ = &mut close => None,
        failure = open.serve(link, &mut outgoing, &events) => Some(failure),
    };
    open.socket.close().await;
    // The id rests from here, unless another connection uses it.
    drop(open.hold);
    if let Some(failure) = end {
        // Queued messages, and those submitted from now on, fail with the same reason.
        let why = ended.get_or_init(|| failure.clone());
        refuse_rest(&mut outgoing, why);
        tokio::select! {
            _ = &mut close => {}
            _ = events.send((link, SignalingEvent::Disconnected(failure))) => {}
        }
    }
}

/// The running request for the channel's storage mode.
type StorageCheck = Pin<Box<dyn Future<Output = bool> + Send>>;

struct Open {
    socket: Socket,
    hold: IdHold,
    resolved: Resolved,
    storage: Option<StorageCheck>,
    ice_servers: Coalesced,
    /// The mids of the last offer: candidates need them.
    mids: Vec<Option<String>>,
}

async fn open(
    client: &ChannelClient,
    attempt: &AttemptId,
    known_id: Option<&ClientId>,
    retries: bool,
    resolved_out: &watch::Sender<Option<Result<Resolved, Failure>>>,
) -> Result<Open, Failure> {
    let plane = client.plane().await?;
    let http = client.http();
    // The first connection of an attempt checks this, but not for a storage session. The check
    // waits for the endpoints, so that one HTTP connection carries both requests in turn.
    let asks = !client.config.storage_session && known_id.is_none();
    let mut storage: Option<StorageCheck> = asks.then(|| -> StorageCheck {
        let (client, http, mut resolved) = (client.clone(), http.clone(), resolved_out.subscribe());
        Box::pin(async move {
            let known = resolved.wait_for(Option::is_some).await.map(|known| known.clone());
            match known {
                Ok(Some(Ok(resolved))) => client.is_storage_channel(&resolved, retries, http).await,
                Ok(Some(Err(_)) | None) | Err(_) => false,
            }
        })
    });
    let open = async {
        let mut resolved = client.resolve(&plane, Role::Viewer, &http).await?;
        let config = &client.config;
        loop {
            resolved_out.send_replace(Some(Ok(resolved.clone())));
            let request = LeaseRequest {
                leases: config.client.leases(),
                key: &resolved.pace(),
                base: &config.client_id,
                policy: config.client_id_policy,
                dir: config.shared_ids.as_deref(),
                known: known_id,
            };
            let hold = attempt.join(&request).await?;
            let failure = match client.open(&resolved, Some(hold.id())).await {
                Ok(socket) => {
                    if let Some(dir) = config.state_dir() {
                        state_dir::tidy_later(config.client.disk(), dir);
                    }
                    return Ok((socket, hold, resolved));
                }
                Err(failure) => failure,
            };
            // The channel may have been created again, or moved, since its endpoints were cached.
            resolved = client.renew(&resolved, &failure, &http).await?.ok_or(failure)?;
        }
    };
    tokio::pin!(open);
    loop {
        tokio::select! {
            biased;
            in_storage_mode = storage_mode_known(&mut storage) => {
                if in_storage_mode {
                    return Err(storage_mode());
                }
            }
            opened = &mut open => {
                let (socket, hold, resolved) = opened?;
                let (ice_servers, mids) = (Coalesced::default(), Vec::new());
                return Ok(Open { socket, hold, resolved, storage, ice_servers, mids });
            }
        }
    }
}

/// Waits until the storage mode is known, and returns it; after that it stays pending.
async fn storage_mode_known(check: &mut Option<StorageCheck>) -> bool {
    match check {
        Some(running) => {
            let answer = running.await;
            *check = None;
            answer
        }
        None => std::future::pending().await,
    }
}

fn storage_mode() -> Failure {
    Failure::new(
        FailureCode::StorageMode,
        "the channel is in storage mode, in which a peer-to-peer viewer gets no answer; \
         turn ingestion off for the channel, or watch the stream that it is stored in",
    )
}

impl Open {
    /// Reads and writes until the connection is over.
    async fn serve(
        &mut self,
        link: ConnectionId,
        outgoing: &mut mpsc::Receiver<Outgoing>,
        events: &mpsc::Sender<(ConnectionId, SignalingEvent)>,
    ) -> Failure {
        loop {
            tokio::select! {
                in_storage_mode = storage_mode_known(&mut self.storage) => {
                    if in_storage_mode {
                        return storage_mode();
                    }
                }
                Some(Outgoing { reply, message }) = outgoing.recv() => {
                    if let Err(failure) = self.send(reply, message).await {
                        return failure;
                    }
                }
                () = self.ice_servers.due() => {
                    let event = SignalingEvent::ReconnectIceServer;
                    if events.send((link, event)).await.is_err() {
                        return Failure::cancelled();
                    }
                }
                frame = self.socket.next() => match frame {
                    // A slow session stops the reading, so that no events accumulate here.
                    Ok(frame) => {
                        match frame {
                            Incoming::GoAway => self.resolved.invalidate(Invalidate::Everything),
                            Incoming::ReconnectIceServer => {
                                self.resolved.invalidate(Invalidate::IceServers);
                                self.ice_servers.note();
                                continue;
                            }
                            Incoming::Offer { .. }
                            | Incoming::Answer { .. }
                            | Incoming::Candidate { .. }
                            | Incoming::Status { .. }
                            | Incoming::Garbage => {}
                        }
                        if events.send((link, event(frame))).await.is_err() {
                            return Failure::cancelled();
                        }
                    }
                    Err(failure) => return failure,
                },
            }
        }
    }

    /// Sends one message. An error ends the connection.
    async fn send(&mut self, reply: Reply, message: Message) -> Result<(), Failure> {
        let correlation = reply.ticket.to_string();
        let text = match &message {
            Message::Offer(offer) => self.description(SdpType::Offer, offer, &correlation),
            Message::Answer(answer) => self.description(SdpType::Answer, answer, &correlation),
            // Other masters fail on an end of candidates, and none needs it (contract, N11).
            Message::Candidate(candidate) if candidate.is_end() => {
                reply.complete(Ok(Done::Ok));
                return Ok(());
            }
            Message::Candidate(candidate) => {
                encode_candidate(None, candidate, &self.mids, Some(&correlation))
            }
        };
        let text = match text {
            Ok(text) => text,
            Err(failure) => {
                reply.complete(Err(failure));
                return Ok(());
            }
        };
        if matches!(message, Message::Offer(_) | Message::Answer(_)) {
            self.hold.offered().await;
        }
        let result = self.socket.send(text).await;
        reply.complete(result.clone().map(|()| Done::Ok));
        result
    }

    fn description(
        &mut self,
        sdp_type: SdpType,
        description: &Description,
        correlation: &str,
    ) -> Result<String, Failure> {
        let Description { sdp, facts } = description;
        redact::remember_description(sdp.as_str());
        self.mids = facts.media.iter().map(|media| media.mid.clone()).collect();
        encode_description(sdp_type, None, sdp.as_str(), Some(correlation))
    }
}

fn refuse_rest(outgoing: &mut mpsc::Receiver<Outgoing>, why: &Failure) {
    outgoing.close();
    while let Ok(Outgoing { reply, .. }) = outgoing.try_recv() {
        reply.complete(Err(why.clone()));
    }
}

pub(crate) fn not_open() -> Failure {
    Failure::new(FailureCode::NotOpen, "the signaling connection is not open")
}

fn event(frame: Incoming) -> SignalingEvent {
    let role = |sender: Option<String>| match sender {
        None => Sender::Master,
        Some(_) => Sender::Other,
    };
    match frame {
        Incoming::Offer { sender, sdp } => {
            SignalingEvent::Offer { sender: role(sender), body: received_description(sdp) }
        }
        Incoming::Answer { sender, sdp } => {
            SignalingEvent::Answer { sender: role(sender), body: received_description(sdp) }
        }
        Incoming::Candidate { sender, candidate } => {
            SignalingEvent::Candidate { sender: role(sender), body: candidate }
        }
        Incoming::Status { correlation_id, error } => SignalingEvent::Status {
            ticket: correlation_id.and_then(|text| text.parse().ok()),
            failure: error::service(&error),
        },
        Incoming::GoAway => SignalingEvent::GoAway,
        Incoming::ReconnectIceServer => SignalingEvent::ReconnectIceServer,
        Incoming::Garbage => SignalingEvent::Garbage,
    }
}

/// Parses a received description and registers its ICE passwords for redaction.
pub(crate) fn received_description(
    sdp: Result<Sdp, Undecodable>,
) -> Result<Description, Undecodable> {
    let description = read_description(sdp?.as_str())?;
    redact::remember_description(description.sdp.as_str());
    Ok(description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_that_is_no_sdp_is_undecodable() {
        for text in ["hello", "offer= true\nvideo= true"] {
            assert_eq!(received_description(Ok(Sdp::new(text))), Err(Undecodable), "{text}");
        }
        assert_eq!(received_description(Err(Undecodable)), Err(Undecodable));
        let sdp = "v=0\no=- 1 2 IN IP4 0.0.0.0\ns=-\nt=0 0\n";
        let description = received_description(Ok(Sdp::new(sdp))).expect("an SDP");
        assert_eq!(description.sdp.as_str(), sdp.replace('\n', "\r\n"), "normalized");
    }
}
