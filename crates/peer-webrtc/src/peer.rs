//! One peer connection: a task that runs commands and turns stack events into session events.

mod shared;

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use negotiation_core::{
    Candidate, Completion, Connectivity, Digest, Done, Failure, FailureCode, MediaKind,
    PeerCommand, PeerEvent, PeerId, SdpKind, Ticket,
};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use viewer_session::PeerInput;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::RTCSessionDescription;

use crate::channel::{HelperEvent, follow_channel};
use crate::commands::{self, Created, Effect, Ended, Work};
use crate::config::PeerConfig;
use crate::connectivity::Tracker;
use crate::keyframe;
use crate::mailbox::Mailbox;
use crate::media::MediaEvent;
use crate::received::{MediaClock, News, Received};
use crate::sdp;
use crate::stack::{Stack, StackEvent, StackEvents};
use crate::tap::{Control, RtpArrival};
use crate::timers::{TICK, Timers, WAKE_INTERVAL};
pub(crate) use shared::Shared;

/// The most descriptions remembered until they are set.
const MADE_MAX: usize = 4;
/// The most remote tracks to follow.
const TRACKS_MAX: usize = 16;
/// The most packets handled before other work runs.
const BATCH: usize = 64;
/// The time limit of a request to the stack.
const STACK_MAX: Duration = Duration::from_millis(200);
/// The most queued events of the helper tasks.
const ASIDE_MAX: usize = 64;

/// A running command.
struct Running {
    ticket: Ticket,
    is_close: bool,
    /// Whether dropping the future would leak an unclosed connection.
    half_made: Arc<AtomicBool>,
    future: Work,
}

pub(crate) struct Peer {
    id: PeerId,
    config: Arc<PeerConfig>,
    shared: Arc<Shared>,
    outbox: Arc<Mailbox<PeerInput>>,
    stack: Option<Arc<Stack>>,
    queues: Option<StackEvents>,
    helpers: JoinSet<()>,
    helper: (mpsc::Sender<HelperEvent>, mpsc::Receiver<HelperEvent>),
    made: VecDeque<(Digest, Box<RTCSessionDescription>)>,
    mid: Option<String>,
    ufrag: Option<String>,
    remote_set: bool,
    /// Whether a restart was offered and not set: the next local description to be set would start
    /// it.
    staged: bool,
    relay: bool,
    connectivity: Tracker,
    timers: Timers,
    tracks: Vec<(Arc<dyn TrackRemote>, MediaKind)>,
    told_tracks: BTreeSet<MediaKind>,
    received: Received,
    /// When media ended, as of the previous tick.
    media_ended: Option<Instant>,
    fir: u8,
}

impl Peer {
    pub(crate) fn new(
        id: PeerId,
        config: Arc<PeerConfig>,
        shared: Arc<Shared>,
        outbox: Arc<Mailbox<PeerInput>>,
        media: Arc<Mailbox<MediaEvent>>,
        clock: MediaClock,
    ) -> Self {
        let received = Received::new(id, &config.codecs, media, clock, config.rtp_events);
        Self {
            id,
            config,
            shared,
            outbox,
            stack: None,
            queues: None,
            helpers: JoinSet::new(),
            helper: mpsc::channel(ASIDE_MAX),
            made: VecDeque::new(),
            mid: None,
            ufrag: None,
            remote_set: false,
            staged: false,
            relay: false,
            connectivity: Tracker::default(),
            timers: Timers::default(),
            tracks: Vec::new(),
            told_tracks: BTreeSet::new(),
            received,
            media_ended: None,
            fir: 0,
        }
    }

    /// Runs until the connection is closed.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wake_stack = interval(WAKE_INTERVAL);
        wake_stack.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running: Option<Running> = None;
        loop {
            if self.shared.commands.is_closing()
                && let Some(overtaken) = running.take_if(|running| !running.is_close)
            {
                self.overtake(overtaken).await;
            }
            if self.shared.commands.is_abandoned() {
                break;
            }
            if running.is_none()
                && let Some((ticket, command)) = self.shared.commands.pop()
            {
                if matches!(command, PeerCommand::Close { .. }) {
                    let outcome = self.close().await;
                    // Finish before reporting the outcome: the peer id may be used again after it.
                    let late = self.shared.commands.finish();
                    self.complete(ticket, outcome);
                    for ticket in late {
                        self.complete(ticket, Ok(Done::Ok));
                    }
                    return;
                }
                running = Some(self.start(ticket, command));
            }
            tokio::select! {
                biased;
                () = self.shared.commands.changed() => {}
                (outcome, effect) = ended(&mut running) => {
                    if let Some(Running { ticket, .. }) = running.take() {
                        self.apply(effect);
                        self.complete(ticket, outcome);
                    }
                }
                Some(helper) = self.helper.1.recv() => self.on_helper_event(&helper).await,
                () = self.shared.keyframe.notified() => self.ask_for_keyframe().await,
                printed = next_output(&mut self.queues) => match printed {
                    StackOutput::Event(event) => self.on_event(event).await,
                    StackOutput::Control(control) => self.on_control(control),
                    StackOutput::Media(arrival) => self.on_media_batch(arrival),
                },
                _ = wake_stack.tick(), if self.timers.is_waking() => self.wake_stack(),
                _ = tick.tick(), if self.is_waiting() => self.check_waits().await,
            }
        }
        // The port is gone, so the outcome is not reported.
        let _ = self.close().await;
    }

    /// Ends the running command because a close was submitted.
    async fn overtake(&mut self, running: Running) {
        if running.half_made.load(Ordering::Relaxed) {
            // A connection that is being built cannot be closed yet. Building takes a millisecond.
            let (_, effect) = running.future.await;
            self.apply(effect);
        }
        self.complete(running.ticket, Err(Failure::cancelled()));
    }

    fn start(&mut self, ticket: Ticket, command: PeerCommand) -> Running {
        let is_close = command.is_close();
        let half_made = Arc::default();
        Running { ticket, is_close, future: self.future(command, &half_made), half_made }
    }

    fn future(&mut self, command: PeerCommand, half_made: &Arc<AtomicBool>) -> Work {
        let stack = self.stack.clone();
        let Some(stack) = stack else {
            return if matches!(command, PeerCommand::Create { .. }) {
                Box::pin(commands::create(Arc::clone(&self.config), Arc::clone(half_made)))
            } else if command.is_close() {
                Box::pin(async { (Ok(Done::Ok), Effect::None) })
            } else {
                Box::pin(async {
                    commands::fail(FailureCode::NotOpen, "there is no such peer connection")
                })
            };
        };
        if self.staged && commands::begins_an_exchange(&command) {
            return Box::pin(async {
                commands::fail(
                    FailureCode::Port,
                    "a restart that was never answered is still applied",
                )
            });
        }
        self.staged |= matches!(command, PeerCommand::CreateOffer { restart: true, .. });
        match command {
            PeerCommand::Create { .. } => Box::pin(async {
                commands::fail(FailureCode::Port, "the peer connection is there already")
            }),
            PeerCommand::CreateOffer { restart, .. } => {
                Box::pin(commands::create_offer(stack, restart))
            }
            PeerCommand::CreateAnswer { .. } => Box::pin(commands::create_answer(stack)),
            PeerCommand::SetIceServers { servers, .. } => {
                self.relay |= commands::has_relay(&servers);
                Box::pin(commands::use_servers(stack, servers))
            }
            PeerCommand::SetLocal { description, .. } => {
                let digest = description.sdp.digest();
                let original = self.made.iter().find(|(d, _)| *d == digest);
                let original = original.map(|(_, original)| (**original).clone());
                // Store these before the description is set: candidates may be gathered before the
                // command completes.
                let text = description.sdp.as_str();
                self.mid = sdp::first_value(text, "mid").map(str::to_owned);
                let ufrag = sdp::first_value(text, "ice-ufrag").map(str::to_owned);
                if self.ufrag.is_some() && self.ufrag != ufrag {
                    self.on_restart();
                }
                self.ufrag = ufrag;
                self.staged = false;
                let (policy, relay) = (self.config.policy, self.relay);
                Box::pin(commands::set_local(stack, policy, relay, original))
            }
            PeerCommand::SetRemote { kind, description, .. } => {
                Box::pin(commands::set_remote(stack, kind, description))
            }
            PeerCommand::Rollback { .. } => Box::pin(commands::rollback(stack, self.staged)),
            PeerCommand::AddCandidate { candidate, .. } => {
                if candidate.is_end() {
                    return Box::pin(async { (Ok(Done::Ok), Effect::None) });
                }
                // The core holds candidates back until then (contract, N9).
                if !self.remote_set {
                    return Box::pin(async {
                        commands::fail(FailureCode::NotOpen, "there is no remote description yet")
                    });
                }
                Box::pin(commands::add_candidate(stack, candidate.text.to_string()))
            }
            PeerCommand::RequestKeyframe { .. } => {
                self.shared.keyframe.notify_one();
                Box::pin(async { (Ok(Done::Ok), Effect::None) })
            }
            PeerCommand::StopTransceivers { .. } => Box::pin(commands::stop_transceivers(stack)),
            PeerCommand::RemoveTracks { .. } => Box::pin(commands::remove_tracks(stack)),
            // `run` handles a close itself.
            PeerCommand::Close { .. } => Box::pin(async { (Ok(Done::Ok), Effect::None) }),
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Created(created) => self.adopt(*created),
            Effect::Made { sent, original } => {
                if self.made.len() >= MADE_MAX {
                    self.made.pop_front();
                }
                self.made.push_back((sent.sdp.digest(), original));
            }
            Effect::LocalSet => self.start_nudging(),
            Effect::RemoteSet { kind, sections } => {
                let formats = sections.iter().flat_map(|section| &section.formats);
                let sets = formats.clone().flat_map(|format| &format.parameter_sets);
                self.received
                    .use_parameter_sets(sets.map(|set| Bytes::copy_from_slice(set)).collect());
                let types = formats.map(|format| (format.payload_type, format.codec)).collect();
                match kind {
                    SdpKind::Offer => self.received.use_payload_types(types),
                    SdpKind::Answer => self.received.add_payload_types(types),
                }
                self.remote_set = true;
                self.start_nudging();
            }
            Effect::RolledBack => {
                self.made.clear();
            }
        }
    }

    fn adopt(&mut self, created: Created) {
        let Created { stack, queues, channel } = created;
        *self.shared.stack.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&stack);
        // This is set once, because a peer has one connection.
        let _ = self.shared.losses.set(Arc::clone(&queues.losses));
        self.stack = Some(stack);
        self.queues = Some(queues);
        if let Some(channel) = channel {
            let helper = self.helper.0.clone();
            self.helpers.spawn(follow_channel(channel, helper));
        }
    }

    /// Closes the connection if there is one; descriptors and tasks are gone on return.
    async fn close(&mut self) -> Result<Done, Failure> {
        self.queues = None;
        let outcome = match &self.stack {
            Some(stack) => commands::close(stack).await,
            None => Ok(Done::Ok),
        };
        self.helpers.shutdown().await;
        self.tracks.clear();
        if self.stack.take().is_some() {
            self.received.end(now(), &mut self.shared.counters());
        }
        outcome
    }

    fn complete(&self, ticket: Ticket, outcome: Result<Done, Failure>) {
        self.outbox.push(PeerInput::Completed(Completion { ticket, outcome }));
    }

    fn tell(&self, event: PeerEvent) {
        self.outbox.offer(PeerInput::Event(self.id, event));
    }

    async fn on_event(&mut self, event: StackEvent) {
        match event {
            StackEvent::Candidate(text) => self.tell(PeerEvent::CandidateGathered(Candidate {
                text: text.into(),
                mid: self.mid.clone(),
                mline_index: Some(0),
                ufrag: self.ufrag.clone(),
            })),
            StackEvent::GatheringDone => {
                if !self.remote_set {
                    self.timers.stop_nudging();
                }
                self.tell(PeerEvent::GatheringDone);
            }
            StackEvent::Ice(state) => {
                let changed = self.connectivity.ice(state);
                self.tell_connectivity(changed);
            }
            StackEvent::Connection(state) => {
                let changed = self.connectivity.connection(state);
                self.tell_connectivity(changed);
            }
            StackEvent::Track(track) => self.on_track(track).await,
            // The master opened this channel itself; it is not used.
            StackEvent::DataChannel(_) => {}
            StackEvent::IceServersUnresolved(count) => {
                self.tell(PeerEvent::IceServersUnresolved(count));
            }
        }
    }

    async fn on_helper_event(&mut self, helper: &HelperEvent) {
        match helper {
            HelperEvent::ChannelClosed => {
                self.timers.channel_closed(now());
                self.listen_for_goodbye(None).await;
            }
            HelperEvent::Stopped => {
                let changed = self.connectivity.stopped();
                self.tell_connectivity(changed);
            }
        }
    }

    /// Checks whether the master closed. A close ends DTLS, and ends the data channel with it or a
    /// moment before. If the end of DTLS is lost in transit, media and reports still end with the
    /// channel.
    async fn listen_for_goodbye(&mut self, media_ended: Option<Instant>) {
        let Some(stack) = self.stack.as_ref().filter(|_| self.timers.is_channel_closed()) else {
            return;
        };
        let ended = timeout(STACK_MAX, stack.is_closed_by_peer()).await.unwrap_or(false);
        if ended || media_ended.is_some_and(|at| self.timers.ended_together(at)) {
            let changed = self.connectivity.closed_by_peer();
            self.tell_connectivity(changed);
        }
    }

    fn tell_connectivity(&mut self, changed: Option<Connectivity>) {
        if let Some(connectivity) = changed {
            self.timers.follow(connectivity, now());
            self.tell(PeerEvent::ConnectivityChanged(connectivity));
        }
    }

    async fn on_track(&mut self, track: Arc<dyn TrackRemote>) {
        let kind = match track.kind().await {
            RtpCodecKind::Audio => MediaKind::Audio,
            RtpCodecKind::Video => MediaKind::Video,
            RtpCodecKind::Application | RtpCodecKind::Unspecified | _ => return,
        };
        // The packets come through the tap; this queue only reports the end of the stack's task.
        let (drained, helper) = (Arc::clone(&track), self.helper.0.clone());
        self.helpers.spawn(async move {
            while drained.poll().await.is_some() {}
            let _ = helper.send(HelperEvent::Stopped).await;
        });
        if self.tracks.len() < TRACKS_MAX {
            self.tracks.push((track, kind));
        }
        if self.told_tracks.insert(kind) {
            self.tell(PeerEvent::TrackAdded(kind));
        }
        if kind == MediaKind::Video && !self.received.has_key() {
            self.ask_for_keyframe().await;
        }
    }

    fn on_control(&mut self, control: Control) {
        if matches!(control, Control::SenderReport { .. }) {
            self.timers.reported();
        }
        if self.received.control(control) {
            self.tell(PeerEvent::SenderReport);
        }
    }

    /// The stack leaves its pair as soon as a restart is set.
    fn on_restart(&mut self) {
        let changed = self.connectivity.restarted();
        self.tell_connectivity(changed);
    }

    fn on_media_batch(&mut self, first: RtpArrival) {
        self.on_media(first);
        for _ in 1..BATCH {
            let Some(media) = self.queues.as_mut().and_then(|q| q.media.as_mut()) else { return };
            let Ok(next) = media.try_recv() else { break };
            self.on_media(next);
        }
    }

    fn on_media(&mut self, arrival: RtpArrival) {
        let news = self.received.take(arrival, &mut self.shared.counters());
        self.timers.stop_nudging();
        self.on_news(news);
    }

    fn on_news(&self, news: News) {
        if let Some(kind) = news.flowing {
            self.tell(PeerEvent::MediaFlowing(kind));
        }
        if news.keyframe {
            self.tell(PeerEvent::KeyframeReceived);
        }
        if let Some(problem) = news.problem {
            self.tell(PeerEvent::MediaProblem(problem));
        }
        if news.request {
            self.shared.keyframe.notify_one();
        }
    }

    fn is_waiting(&self) -> bool {
        self.timers.is_any() || self.received.is_flowing()
    }

    async fn check_waits(&mut self) {
        if self.timers.is_handshake_overdue(now(), self.config.handshake_limit) {
            let changed = self.connectivity.handshake_overdue();
            self.tell_connectivity(changed);
        }
        // Waiting one more tick lets packets that arrived while this machine was suspended be read
        // first.
        let ended = self.media_ended.take().filter(|_| !self.received.is_flowing());
        self.listen_for_goodbye(ended).await;
        let news = self.received.advance(now(), &mut self.shared.counters());
        self.on_news(news);
        self.media_ended = self.received.stalled_since(now(), self.config.stall_after);
        if self.media_ended.is_some() {
            let news = self.received.flush(now(), &mut self.shared.counters());
            self.on_news(news);
            self.tell(PeerEvent::MediaStalled);
        }
    }

    /// Requests a keyframe with both PLI and FIR, because a master may support only one.
    async fn ask_for_keyframe(&mut self) {
        self.fir = self.fir.wrapping_add(1);
        // The current source may be one that no description declares.
        let source = self.received.source();
        for (track, kind) in &self.tracks {
            if *kind != MediaKind::Video {
                continue;
            }
            let sequence_number = self.fir;
            let ask = async {
                let mut ssrcs: BTreeSet<u32> = track.ssrcs().await.into_iter().collect();
                ssrcs.extend(source);
                for ssrc in ssrcs {
                    let request = keyframe::request(ssrc, sequence_number);
                    if track.write_rtcp(request).await.is_err() {
                        return;
                    }
                }
            };
            let _ = timeout(STACK_MAX, ask).await;
        }
    }

    fn start_nudging(&mut self) {
        if self.relay && !self.received.is_flowing() {
            self.timers.start_nudging(now());
        }
    }

    fn wake_stack(&mut self) {
        if let Some(stack) = self.stack.as_ref().filter(|_| self.timers.is_wake_due(now())) {
            stack.wake_stack();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for ticket in self.shared.commands.finish() {
            self.complete(ticket, Ok(Done::Ok));
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the outcome of the running command; waits forever if none runs.
async fn ended(running: &mut Option<Running>) -> Ended {
    match running {
        Some(running) => running.future.as_mut().await,
        None => pending().await,
    }
}

/// One item from the stack's queues.
enum StackOutput {
    Event(StackEvent),
    Control(Control),
    Media(RtpArrival),
}

/// Returns the next item from the stack's queues. Lifecycle events come first: they are few and
/// explain the others.
async fn next_output(queues: &mut Option<StackEvents>) -> StackOutput {
    let Some(StackEvents { events, control, media: Some(media), .. }) = queues else {
        return pending().await;
    };
    tokio::select! {
        biased;
        Some(event) = events.recv() => StackOutput::Event(event),
        Some(control) = control.recv() => StackOutput::Control(control),
        Some(arrival) = media.recv() => StackOutput::Media(arrival),
        else => pending().await,
    }
}
