//! One viewer's session, from its offer to its end.

use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Candidate, Description, IceServer, MediaKind};
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents};
use peer_webrtc::{Codec, Control, IcePolicy, Mdns};
use recording::Clip;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{CameraConfig, Trickle, peer_codec};
use crate::encoder::Encoder;
use crate::event::{CameraEvent, LeaveReason};
use crate::frame_log::{FrameRecord, FrameSink};
use crate::link::Line;
use crate::outlet::Outlet;
use crate::playback::Unit;
use crate::roster::SessionNumber;
use crate::sdp;

/// The C SDK gives up gathering after 10 s (measured: an answer without trickle takes 10.03 s).
const GATHERING_MAX: Duration = Duration::from_secs(10);

/// While connecting, the stack's task is woken this often: see [`Stack::nudge`].
const NUDGE: Duration = Duration::from_millis(10);

/// While live, this often it is asked whether the viewer closed.
const LOOK: Duration = Duration::from_millis(100);

/// Messages to the viewer that wait for the link.
const POST_MAX: usize = 128;

/// What all sessions share.
pub(crate) struct Common {
    pub(crate) config: CameraConfig,
    /// Addresses that sessions bind.
    pub(crate) bind: Vec<String>,
    pub(crate) clip: Arc<Clip>,
    pub(crate) encoder: Encoder,
    pub(crate) line: Line,
    pub(crate) frames: FrameSink,
    pub(crate) events: broadcast::Sender<CameraEvent>,
    pub(crate) began: Instant,
}

/// A session about to run.
pub(crate) struct Session {
    pub(crate) common: Arc<Common>,
    pub(crate) number: SessionNumber,
    pub(crate) client: String,
    pub(crate) offer: Description,
    pub(crate) candidates: mpsc::Receiver<Candidate>,
    pub(crate) cancelled: CancellationToken,
}

/// How a session ended.
pub(crate) struct Outcome {
    /// `None`: it was cancelled.
    pub(crate) reason: Option<LeaveReason>,
    pub(crate) frames: u64,
}

enum Post {
    Answer(String),
    Candidate(Candidate),
}

enum Phase {
    /// The answer is out; dropped when this has passed.
    Connecting(Instant),
    Live(broadcast::Receiver<Unit>),
    /// Out of reach; vanished when this has passed.
    Lost(Instant),
}

impl Session {
    /// Runs to the end; whatever was opened is closed then.
    pub(crate) async fn run(mut self) -> Outcome {
        let early = tokio::select! {
            () = self.cancelled.cancelled() => None,
            servers = self.prepare() => Some(servers),
        };
        let Some(servers) = early else { return Outcome { reason: None, frames: 0 } };
        // Not to be cancelled: a half-built connection would be lost unclosed.
        let media = Agreed::of(&self.common.clip, self.offer.sdp.as_str());
        let stack = StackConfig {
            codecs: media.codecs.clone(),
            bind: self.common.bind.clone(),
            policy: IcePolicy::All,
            // A viewer that hides its addresses reaches ours, and is found by that.
            mdns: Mdns::Ignore,
            media_queue: 0,
        };
        let (stack, queues) = match Stack::build(&stack).await {
            Ok(built) => built,
            Err(error) => {
                tracing::warn!(client = self.client, %error, "no peer connection");
                return Outcome { reason: Some(LeaveReason::Failed), frames: 0 };
            }
        };
        let mut frames = 0;
        let cancelled = self.cancelled.clone();
        let reason = tokio::select! {
            () = cancelled.cancelled() => None,
            reason = self.serve(&stack, queues, &media, &servers, &mut frames) => Some(reason),
        };
        if let Err(error) = stack.close().await {
            tracing::debug!(client = self.client, %error, "not closed in order");
        }
        Outcome { reason, frames }
    }

    /// What a real master needs its time for before it looks at an offer.
    async fn prepare(&self) -> Vec<IceServer> {
        sleep(self.common.config.answer_delay).await;
        match self.common.line.ice_servers().await {
            Ok(servers) => servers,
            Err(failure) => {
                tracing::warn!(client = self.client, %failure, "answering without ICE servers");
                Vec::new()
            }
        }
    }

    async fn serve(
        &mut self,
        stack: &Stack,
        mut queues: StackEvents,
        media: &Agreed,
        servers: &[IceServer],
        frames: &mut u64,
    ) -> LeaveReason {
        let wants = |kind| self.offer.facts.media.iter().any(|m| m.kind == kind && m.accepted);
        let mut outlet = Outlet::new(
            &self.common.clip,
            media.video && wants(MediaKind::Video),
            media.audio && wants(MediaKind::Audio),
        );
        let answer = match self.answer(stack, &outlet, servers, &mut queues).await {
            Ok(answer) => answer,
            Err(problem) => {
                tracing::warn!(client = self.client, problem, "an offer cannot be answered");
                return LeaveReason::Failed;
            }
        };
        let (outbox, inbox) = mpsc::channel(POST_MAX);
        let ufrag = sdp::ice_ufrag(&answer).map(str::to_owned);
        // The queue is empty: it fits.
        let _ = outbox.try_send(Post::Answer(answer));
        let post = self.common.line.clone();
        tokio::select! {
            never = deliver(post, &self.common.events, &self.client, self.number, inbox) => {
                match never {}
            }
            reason = run(
                &self.common,
                Viewer { client: &self.client, number: self.number, offer: &self.offer, ufrag },
                &mut self.candidates,
                stack,
                &mut queues,
                &mut outlet,
                outbox,
                frames,
            ) => reason,
        }
    }

    async fn answer(
        &self,
        stack: &Stack,
        outlet: &Outlet,
        servers: &[IceServer],
        queues: &mut StackEvents,
    ) -> Result<String, String> {
        let told = |error: &dyn std::fmt::Display| sdp::without_secrets(error);
        for track in outlet.tracks() {
            stack.add_track(track).await.map_err(|error| told(&error))?;
        }
        stack.use_servers(servers).await.map_err(|error| told(&error))?;
        let answer = stack.answer(self.offer.sdp.as_str()).await.map_err(|error| told(&error))?;
        let trickle = match self.common.config.trickle {
            Trickle::Always => true,
            Trickle::WhenOffered => sdp::trickles(self.offer.sdp.as_str()),
            Trickle::Never => false,
        };
        if trickle {
            return Ok(answer);
        }
        let mut found = Vec::new();
        let gathered = timeout(GATHERING_MAX, async {
            while let Some(event) = queues.events.recv().await {
                match event {
                    StackEvent::Candidate(candidate) => found.push(candidate),
                    StackEvent::GatheringDone => break,
                    StackEvent::Ice(_)
                    | StackEvent::Connection(_)
                    | StackEvent::Track(_)
                    | StackEvent::DataChannel(_) => {}
                }
            }
        });
        if gathered.await.is_err() {
            tracing::debug!(client = self.client, "answering before all candidates are found");
        }
        Ok(sdp::with_candidates(&answer, &found))
    }
}

/// What of a clip an offer has room for.
struct Agreed {
    video: bool,
    audio: bool,
    /// What the answer is made of: the clip's codecs, or where the offer has none of them, the
    /// others, so that it can be answered all the same (the C SDK: connected, no media).
    codecs: Vec<Codec>,
}

impl Agreed {
    fn of(clip: &Clip, offer: &str) -> Self {
        let lists = |codec: Codec| sdp::lists_codec(offer, codec.name());
        let video = clip.video().map(|track| peer_codec(track.codec)).filter(|c| lists(*c));
        let audio = clip.audio().map(|_| Codec::Opus).filter(|c| lists(*c));
        let others = |kind| Codec::ALL.into_iter().filter(move |codec| codec.kind() == kind);
        let mut codecs = Vec::new();
        match video {
            Some(codec) => codecs.push(codec),
            None => codecs.extend(others(MediaKind::Video)),
        }
        match audio {
            Some(codec) => codecs.push(codec),
            None => codecs.extend(others(MediaKind::Audio)),
        }
        Self { video: video.is_some(), audio: audio.is_some(), codecs }
    }
}

struct Viewer<'a> {
    client: &'a str,
    number: SessionNumber,
    offer: &'a Description,
    ufrag: Option<String>,
}

/// Sends what is in the outbox, for ever. Apart from the media, which must not wait for it.
async fn deliver(
    line: Line,
    events: &broadcast::Sender<CameraEvent>,
    client: &str,
    number: SessionNumber,
    mut inbox: mpsc::Receiver<Post>,
) -> std::convert::Infallible {
    while let Some(post) = inbox.recv().await {
        match post {
            Post::Answer(text) => match line.answer(client, &text).await {
                Ok(()) => {
                    let (client_id, session) = (client.to_owned(), number.0);
                    let _ = events.send(CameraEvent::Answer { client_id, session });
                }
                Err(failure) => tracing::warn!(client, %failure, "an answer was not sent"),
            },
            Post::Candidate(candidate) => {
                if let Err(failure) = line.candidate(client, &candidate).await {
                    tracing::debug!(client, %failure, "a candidate was not sent");
                }
            }
        }
    }
    std::future::pending().await
}

#[expect(clippy::too_many_arguments, reason = "the parts of one session, borrowed one by one")]
async fn run(
    common: &Common,
    viewer: Viewer<'_>,
    candidates: &mut mpsc::Receiver<Candidate>,
    stack: &Stack,
    queues: &mut StackEvents,
    outlet: &mut Outlet,
    outbox: mpsc::Sender<Post>,
    frames: &mut u64,
) -> LeaveReason {
    let mut phase = Phase::Connecting(Instant::now() + common.config.connect_timeout);
    let mut joined = false;
    let mut tick = ticks(NUDGE);
    loop {
        let (deadline, units) = match &mut phase {
            Phase::Connecting(until) | Phase::Lost(until) => (Some(*until), None),
            Phase::Live(units) => (None, Some(units)),
        };
        tokio::select! {
            event = queues.events.recv() => match event {
                Some(StackEvent::Candidate(text)) => {
                    let candidate = own_candidate(&viewer, &text);
                    if outbox.try_send(Post::Candidate(candidate)).is_err() {
                        tracing::debug!(client = viewer.client, "a candidate is not told");
                    }
                }
                Some(StackEvent::Connection(state)) => match state {
                    RTCPeerConnectionState::Connected => {
                        if !joined {
                            joined = true;
                            let (client_id, session) = (viewer.client.to_owned(), viewer.number.0);
                            let event = CameraEvent::ViewerJoined { client_id, session };
                            let _ = common.events.send(event);
                        }
                        if !matches!(phase, Phase::Live(_)) {
                            outlet.lost_sync();
                            phase = Phase::Live(common.encoder.watch());
                            tick = ticks(LOOK);
                        }
                    }
                    RTCPeerConnectionState::Disconnected if joined => {
                        if let Phase::Live(_) = phase {
                            let until = Instant::now() + common.config.disconnect_timeout;
                            phase = Phase::Lost(until);
                        }
                    }
                    RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                        return if joined { LeaveReason::Vanished } else { LeaveReason::Failed };
                    }
                    RTCPeerConnectionState::Unspecified
                    | RTCPeerConnectionState::New
                    | RTCPeerConnectionState::Connecting
                    | RTCPeerConnectionState::Disconnected
                    | _ => {}
                },
                Some(StackEvent::Track(track)) => {
                    // A viewer may talk to its camera. Nobody listens here, but an unread queue
                    // would fill. It ends when the connection is closed.
                    tokio::spawn(async move { while track.poll().await.is_some() {} });
                }
                Some(
                    StackEvent::Ice(_) | StackEvent::GatheringDone | StackEvent::DataChannel(_),
                ) => {}
                None => return LeaveReason::Failed,
            },
            Some(control) = queues.control.recv() => {
                if let Control::KeyframeRequest { .. } = control {
                    common.encoder.request_keyframe();
                }
            }
            Some(candidate) = candidates.recv() => {
                if let Err(error) = stack.add_candidate(&candidate.text).await {
                    tracing::debug!(
                        client = viewer.client,
                        problem = sdp::without_secrets(&error),
                        "a candidate is not taken"
                    );
                }
            }
            unit = next(units) => match unit {
                Ok(unit) => {
                    if has_closed(stack).await {
                        return LeaveReason::ClosedByViewer;
                    }
                    match outlet.send(&unit).await {
                        Ok(Some(rtp_ts)) => {
                            *frames += 1;
                            common.frames.record(|| record(common, &viewer, &unit, rtp_ts));
                        }
                        Ok(None) => {}
                        Err(_) => return LeaveReason::Failed,
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::debug!(client = viewer.client, lost, "the viewer is behind");
                    outlet.lost_sync();
                    common.encoder.request_keyframe();
                }
                Err(broadcast::error::RecvError::Closed) => return LeaveReason::Shutdown,
            },
            _ = tick.tick() => {
                if has_closed(stack).await {
                    return if joined {
                        LeaveReason::ClosedByViewer
                    } else {
                        LeaveReason::NeverConnected
                    };
                }
                if let Phase::Connecting(_) = phase {
                    stack.nudge().await;
                }
            }
            () = passed(deadline) => {
                return if joined { LeaveReason::Vanished } else { LeaveReason::NeverConnected };
            }
        }
    }
}

/// The next unit; never, where there are none.
async fn next(
    units: Option<&mut broadcast::Receiver<Unit>>,
) -> Result<Unit, broadcast::error::RecvError> {
    match units {
        Some(units) => units.recv().await,
        None => std::future::pending().await,
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Whether the viewer has said goodbye (DTLS close_notify). The stack says so in no event: the
/// state of the connection changes only when ICE times out.
async fn has_closed(stack: &Stack) -> bool {
    for sender in stack.connection().get_senders().await {
        if let Ok(Some(transport)) = sender.transport().await {
            return matches!(transport.state().await, Ok(RTCDtlsTransportState::Closed));
        }
    }
    false
}

fn own_candidate(viewer: &Viewer<'_>, text: &str) -> Candidate {
    // All media is bundled, so the first section stands for all.
    let mid = viewer.offer.facts.media.first().and_then(|media| media.mid.clone());
    Candidate { text: text.into(), mid, mline_index: Some(0), ufrag: viewer.ufrag.clone() }
}

fn record(common: &Common, viewer: &Viewer<'_>, unit: &Unit, rtp_ts: u32) -> FrameRecord {
    FrameRecord {
        client_id: viewer.client.to_owned(),
        session: viewer.number.0,
        frame: u64::try_from(unit.index).unwrap_or(u64::MAX),
        keyframe: unit.keyframe,
        t_ms: u64::try_from(common.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        rtp_ts,
    }
}
