//! The viewer's [`SignalingPort`]: commands become connections and calls, results come back through
//! `next`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use negotiation_core::{
    ClientId, Completion, ConnectionId, Done, Failure, FailureCode, SignalingCommand,
    SignalingEvent, Ticket,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use viewer_session::{SignalingInput, SignalingPort};

use crate::attempt_id::AttemptId;
use crate::channel_client::{ChannelClient, Resolved};
use crate::config::SignalingConfig;
use crate::connection::{self, ConnectionContext, Outgoing, Reply, not_open};
use crate::endpoint::Role;

/// Messages waiting to be sent on a connection; the core paces candidates and keeps them itself.
const OUTGOING_MAX: usize = 512;

/// Events waiting for the session; beyond it sockets are not read.
const EVENTS_MAX: usize = 256;

/// What a closing connection may take beyond the close handshake on its socket.
const CLOSE_SLACK: Duration = Duration::from_millis(50);

/// Signaling over AWS, or over anything that speaks like it.
#[derive(Debug)]
pub struct AwsSignaling {
    client: ChannelClient,
    runtime: Handle,
    /// The attempt under way, or the last one: its id is kept over the gaps between its connections.
    attempt: Option<(u32, AttemptId)>,
    /// A repeated request follows a failure, so it goes to the service.
    ice_servers_requested: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    closing: JoinSet<()>,
    completed: mpsc::UnboundedReceiver<Completion>,
    completions: mpsc::UnboundedSender<Completion>,
    happened: mpsc::Receiver<(ConnectionId, SignalingEvent)>,
    events: mpsc::Sender<(ConnectionId, SignalingEvent)>,
}

impl AwsSignaling {
    /// A port for one session. Nothing is opened yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime: connections are tasks of the one it is made in.
    pub fn new(config: SignalingConfig) -> Self {
        // One completion a command, so the queue is bounded by the commands.
        let (completions, completed) = mpsc::unbounded_channel();
        let (events, happened) = mpsc::channel(EVENTS_MAX);
        Self {
            client: ChannelClient::new(config),
            runtime: Handle::current(),
            attempt: None,
            ice_servers_requested: false,
            connections: BTreeMap::new(),
            closing: JoinSet::new(),
            completed,
            completions,
            happened,
            events,
        }
    }

    fn connect(
        &mut self,
        link: ConnectionId,
        attempt: u32,
        known_id: Option<ClientId>,
        connect: Reply,
    ) {
        if self.connections.contains_key(&link) {
            let twice =
                Failure::new(FailureCode::Port, "the signaling connection was opened before");
            return connect.complete(Err(twice));
        }
        // Connections that ended by themselves get no close command.
        self.connections.retain(|_, connection| !connection.is_done());
        let id = match &self.attempt {
            Some((number, id)) if *number == attempt => id.clone(),
            // The attempt before is over; its id is given back with its last connection.
            Some(_) | None => self.attempt.insert((attempt, AttemptId::default())).1.clone(),
        };
        let (outgoing_in, outgoing) = mpsc::channel(OUTGOING_MAX);
        let (resolved_in, resolved) = watch::channel(None);
        let (close_in, close) = oneshot::channel();
        let ended = Arc::new(OnceLock::new());
        let ends = ConnectionContext {
            id,
            known_id,
            retries: attempt > 1,
            connect,
            outgoing,
            events: self.events.clone(),
            resolved: resolved_in,
            close,
            ended: ended.clone(),
        };
        let task = self.runtime.spawn(connection::run(link, self.client.clone(), ends));
        let connection = Connection {
            outgoing: outgoing_in,
            resolved,
            ended,
            reported: false,
            close: Some(close_in),
            task: AbortOnDrop(task),
            calls: JoinSet::new(),
        };
        self.connections.insert(link, connection);
    }

    fn call(&mut self, link: ConnectionId, reply: Reply, call: Call) {
        let Some(connection) = self.connections.get_mut(&link) else {
            return reply.complete(Err(not_open()));
        };
        while connection.calls.try_join_next().is_some() {}
        let made = make(call, self.client.clone(), connection.resolved.clone(), reply);
        connection.calls.spawn_on(made, &self.runtime);
    }

    fn send(&self, link: ConnectionId, outgoing: Outgoing) {
        let Some(connection) = self.connections.get(&link) else {
            return outgoing.reply.complete(Err(not_open()));
        };
        match connection.outgoing.try_send(outgoing) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(outgoing)) => {
                let full = Failure::new(
                    FailureCode::Port,
                    "too many messages wait on the signaling connection",
                );
                outgoing.reply.complete(Err(full));
            }
            Err(mpsc::error::TrySendError::Closed(outgoing)) => {
                let why = connection.ended.get().cloned().unwrap_or_else(not_open);
                outgoing.reply.complete(Err(why));
            }
        }
    }

    fn disconnect(&mut self, link: ConnectionId, reply: Reply) {
        while self.closing.try_join_next().is_some() {}
        let Some(connection) = self.connections.remove(&link) else {
            return reply.complete(Ok(Done::Ok));
        };
        let patience = self.client.config.limits.close + CLOSE_SLACK;
        self.closing.spawn_on(
            async move {
                connection.close(patience).await;
                reply.complete(Ok(Done::Ok));
            },
            &self.runtime,
        );
    }
}

#[async_trait]
impl SignalingPort for AwsSignaling {
    fn submit(&mut self, ticket: Ticket, command: SignalingCommand) {
        let reply = Reply::new(ticket, self.completions.clone());
        match command {
            SignalingCommand::Connect { link, attempt, client_id } => {
                self.connect(link, attempt, client_id, reply);
            }
            SignalingCommand::Join { link } => self.call(link, reply, Call::Join),
            SignalingCommand::FetchIceServers { link } => {
                let fresh = std::mem::replace(&mut self.ice_servers_requested, true);
                self.call(link, reply, Call::IceServers { fresh });
            }
            SignalingCommand::Send { link, message } => {
                self.send(link, Outgoing { reply, message });
            }
            SignalingCommand::Disconnect { link } => self.disconnect(link, reply),
        }
    }

    async fn next(&mut self) -> SignalingInput {
        loop {
            tokio::select! {
                // Completions first: a connection is open before anything arrives on it.
                biased;
                Some(completion) = self.completed.recv() => {
                    return SignalingInput::Completed(completion);
                }
                Some((link, event)) = self.happened.recv() => {
                    // Events of a connection that is being closed are dropped.
                    if let Some(known) = self.connections.get_mut(&link) {
                        known.reported |= matches!(event, SignalingEvent::Disconnected(_));
                        return SignalingInput::Event(link, event);
                    }
                }
            }
        }
    }
}

/// The port's end of a connection.
#[derive(Debug)]
struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    resolved: watch::Receiver<Option<Result<Resolved, Failure>>>,
    /// Set when it ended by itself after it was open; that is reported as its last event.
    ended: Arc<OnceLock<Failure>>,
    /// Whether it has been.
    reported: bool,
    close: Option<oneshot::Sender<()>>,
    task: AbortOnDrop,
    calls: JoinSet<()>,
}

impl Connection {
    /// Whether its socket is closed, no call is under way for it, and all of its events were
    /// delivered: some from before its end may still be queued.
    fn is_done(&mut self) -> bool {
        while self.calls.try_join_next().is_some() {}
        // The task first: it reports its end before it finishes. In the other order, one
        // that ends in between is taken for reported; no test can stop it just there.
        self.task.0.is_finished()
            && self.calls.is_empty()
            && (self.reported || self.ended.get().is_none())
    }

    /// Ends the connection and all that belongs to it, with or without the other end's consent.
    async fn close(mut self, patience: Duration) {
        if let Some(close) = self.close.take() {
            // A task that has ended already needs no word.
            let _ = close.send(());
        }
        self.calls.shutdown().await;
        if timeout(patience, &mut self.task.0).await.is_err() {
            self.task.0.abort();
            let _ = (&mut self.task.0).await;
        }
        // Sockets of calls that were cut short belong to tasks of the HTTP client, which end with
        // their next turn.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request to the service beside a connection's socket.
#[derive(Clone, Copy, Debug)]
enum Call {
    IceServers { fresh: bool },
    Join,
}

async fn make(
    call: Call,
    client: ChannelClient,
    mut resolved: watch::Receiver<Option<Result<Resolved, Failure>>>,
    reply: Reply,
) {
    let known = resolved.wait_for(Option::is_some).await.map(|known| known.clone());
    let outcome = match (call, known) {
        (Call::IceServers { fresh }, Ok(Some(Ok(resolved)))) => {
            client.ice_servers(&resolved, fresh).await.map(Done::IceServers)
        }
        (Call::Join, Ok(Some(Ok(resolved)))) => {
            client.join(&resolved, Role::Viewer).await.map(|()| Done::Ok)
        }
        (_, Ok(Some(Err(failure)))) => Err(failure),
        (_, Ok(None) | Err(_)) => Err(not_open()),
    };
    reply.complete(outcome);
}
