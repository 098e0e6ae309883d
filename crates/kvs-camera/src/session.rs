//! One viewer's session, from its offer to its end.

mod live;

use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Candidate, Description, IceServer, MediaKind};
use peer_webrtc::stack::{Stack, StackConfig, StackEvent, StackEvents, bind_addresses};
use peer_webrtc::{Codec, Detour, IcePolicy, Mdns};
use recording::Clip;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{CameraConfig, Trickle, peer_codec};
use crate::encoder::Encoder;
use crate::event::{CameraEvent, LeaveReason};
use crate::frame_log::FrameSink;
use crate::link::Line;
use crate::outlet::Outlet;
use crate::roster::SessionNumber;
use crate::sdp;
use live::Live;

/// The C SDK gives up gathering after 10 s (measured: an answer without trickle takes 10.03 s).
const GATHERING_MAX: Duration = Duration::from_secs(10);

/// Messages to the viewer that wait for the link.
const POST_MAX: usize = 128;

/// What all sessions share.
pub(crate) struct Common {
    pub(crate) config: CameraConfig,
    /// Whether loopback addresses are candidates.
    pub(crate) loopback: bool,
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
    pub(crate) offers: mpsc::Receiver<Description>,
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
            // Asked for each time: interfaces come and go.
            bind: bind_addresses(self.common.loopback),
            policy: IcePolicy::All,
            // A viewer that hides its addresses reaches ours, and is found by that.
            mdns: Mdns::Ignore,
            authorities: self.common.config.authorities.clone(),
            detour: Some(Detour::by(self.common.config.signaling.detour())),
            media_queue: 0,
        };
        let (stack, queues) = match Stack::build(&stack).await {
            Ok(built) => built,
            Err(error) => {
                let problem = sdp::without_secrets(&error);
                tracing::warn!(client = self.client, problem, "no peer connection");
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
        let outlet = Outlet::new(
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
        let line = self.common.line.clone();
        let live = Live {
            common: &self.common,
            client: &self.client,
            number: self.number,
            // All media is bundled, so the first section stands for all.
            mid: self.offer.facts.media.first().and_then(|media| media.mid.clone()),
            ufrag,
            stack,
            outlet,
            outbox,
            frames,
        };
        tokio::select! {
            never = deliver(line, &self.common.events, &self.client, self.number, inbox) => {
                match never {}
            }
            reason = live.run(queues, &mut self.candidates, &mut self.offers) => reason,
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
