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

/// Maximum number of messages queued on a connection; the core itself paces and queues candidates.
const OUTGOING_MAX: usize = 512;

/// Maximum number of events queued for the session; beyond it sockets are not read.
const EVENTS_MAX: usize = 256;

/// The time that a closing connection may take beyond the close handshake on its socket.
const CLOSE_SLACK: Duration = Duration::from_millis(50);

/// Signaling over AWS, or over a service with the same protocol.
#[derive(Debug)]
pub struct AwsSignaling {
    client: ChannelClient,
    runtime: Handle,
    /// The current or last attempt, which keeps its id over the gaps between its connections.
    attempt: Option<(u32, AttemptId)>,
    /// Whether ICE servers were requested before: a repeated request follows a failure, so it
    /// bypasses the cache.
    ice_servers_requested: bool,
    connections: BTreeMap<ConnectionId, Connection>,
    closing: JoinSet<()>,
    completed: mpsc::UnboundedReceiver<Completion>,
    completions: mpsc::UnboundedSender<Completion>,
    happened: mpsc::Receiver<(ConnectionId, SignalingEvent)>,
    events: mpsc::Sender<(ConnectionId, SignalingEvent)>,
}

impl AwsSignaling {
    /// Creates a port for one session. It opens no connection yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime: the port's connections are tasks of the current one.
    pub fn new(config: SignalingConfig) -> Self {
        // Each command has one completion, so the number of commands bounds this queue.
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
        // The session does not disconnect connections that ended by themselves.
        self.connections.retain(|_, connection| !connection.is_done());
        let id = match &self.attempt {
            Some((number, id)) if *number == attempt => id.clone(),
            // The previous attempt is over; its id is returned with its last connection.
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
                // Completions first: a connection's open must precede its events.
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
    /// Why the connection ended by itself after it was open; this is also its last event.
    ended: Arc<OnceLock<Failure>>,
    /// Whether that event was delivered.
    reported: bool,
    close: Option<oneshot::Sender<()>>,
    task: AbortOnDrop,
    calls: JoinSet<()>,
}

impl Connection {
    /// Whether the socket is closed, no call is under way for the connection, and all of its events
    /// were delivered: some from before its end may still be queued.
    fn is_done(&mut self) -> bool {
        while self.calls.try_join_next().is_some() {}
        // `task` is read before `ended`, because the task sets `ended` before it finishes. In the
        // other order, a task that ends in between would count as reported; no test can hit that.
        self.task.0.is_finished()
            && self.calls.is_empty()
            && (self.reported || self.ended.get().is_none())
    }

    /// Closes the connection and its calls; aborts them if the other end does not close in time.
    async fn close(mut self, patience: Duration) {
        if let Some(close) = self.close.take() {
            // The task may have ended already.
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

/// A call to the service for a connection, apart from its socket.
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
