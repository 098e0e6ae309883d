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

/// The time limit of gathering; the C SDK's limit (measured: an answer without trickle takes 10.03
/// s).
const GATHERING_MAX: Duration = Duration::from_secs(10);

/// The most messages to the viewer that wait for the signaling connection.
const POST_MAX: usize = 128;

/// The state that all sessions share.
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

/// A session that has not started.
pub(crate) struct Session {
    pub(crate) common: Arc<Common>,
    pub(crate) number: SessionNumber,
    pub(crate) client: String,
    pub(crate) offer: Description,
    pub(crate) candidates: mpsc::Receiver<Candidate>,
    pub(crate) offers: mpsc::Receiver<Description>,
    pub(crate) cancelled: CancellationToken,
}

/// The result of a session.
pub(crate) struct Outcome {
    /// `None` if it was cancelled.
    pub(crate) reason: Option<LeaveReason>,
    pub(crate) frames: u64,
}

enum Post {
    Answer(String),
    Candidate(Candidate),
}

impl Session {
    /// Runs the session to its end, then closes everything that it opened.
    pub(crate) async fn run(mut self) -> Outcome {
        let early = tokio::select! {
            () = self.cancelled.cancelled() => None,
            servers = self.prepare() => Some(servers),
        };
        let Some(servers) = early else { return Outcome { reason: None, frames: 0 } };
        // This part must not be cancelled: that would leak a half-built connection.
        let media = Agreed::of(&self.common.clip, &self.offer);
        let stack = StackConfig {
            codecs: media.codecs.clone(),
            // Read the addresses for each session, because interfaces come and go.
            bind: bind_addresses(self.common.loopback),
            policy: IcePolicy::All,
            // A viewer that hides its addresses can reach ours, and its checks reveal its address.
            mdns: Mdns::Ignore,
            authorities: self.common.config.authorities.clone(),
            detour: Some(Detour::by(self.common.config.signaling.detour())),
            media_queue: 0,
            rtx: self.common.config.rtx,
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

    /// Does what a real master does before it reads an offer: waits, and fetches the ICE servers.
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
        self.report_mismatches(media);
        let outlet = Outlet::new(
            &self.common.clip,
            media.sends_video(),
            media.sends_audio(),
            self.common.config.rtx,
        );
        let answer = match self.answer(stack, &outlet, media, servers, &mut queues).await {
            Ok(answer) => answer,
            Err(problem) => {
                tracing::warn!(client = self.client, problem, "an offer cannot be answered");
                return LeaveReason::Failed;
            }
        };
        if !media.sends_anything() {
            // The answer rejects every section, so there is nothing to connect for.
            let line = self.common.line.clone();
            post(&line, &self.common.events, &self.client, self.number, Post::Answer(answer)).await;
            return LeaveReason::NoCommonCodec;
        }
        let (outbox, inbox) = mpsc::channel(POST_MAX);
        let (mid, mline_index) = sdp::first_accepted(&answer);
        let ufrag = sdp::ice_ufrag(&answer).map(str::to_owned);
        // The queue is empty, so this fits.
        let _ = outbox.try_send(Post::Answer(answer));
        let line = self.common.line.clone();
        let live = Live {
            common: &self.common,
            client: &self.client,
            number: self.number,
            // All media is bundled, so the first accepted section represents all.
            mid,
            mline_index,
            media,
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
        media: &Agreed,
        servers: &[IceServer],
        queues: &mut StackEvents,
    ) -> Result<String, String> {
        let reported = |error: &dyn std::fmt::Display| sdp::without_secrets(error);
        for track in outlet.tracks() {
            stack.add_track(track).await.map_err(|error| reported(&error))?;
        }
        stack.use_servers(servers).await.map_err(|error| reported(&error))?;
        let answer =
            stack.answer(self.offer.sdp.as_str()).await.map_err(|error| reported(&error))?;
        let trickle = match self.common.config.trickle {
            Trickle::Always => true,
            Trickle::WhenOffered => sdp::trickles(self.offer.sdp.as_str()),
            Trickle::Never => false,
        };
        if trickle {
            return Ok(media.finish(&answer));
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
                    | StackEvent::DataChannel(_)
                    | StackEvent::IceServersUnresolved(_) => {}
                }
            }
        });
        if gathered.await.is_err() {
            tracing::debug!(client = self.client, "answering before all candidates are found");
        }
        Ok(media.finish(&sdp::with_candidates(&answer, &found)))
    }

    /// Reports the media of the viewer's offer that lack the clip's codec.
    fn report_mismatches(&self, media: &Agreed) {
        for (kind, track) in [("video", media.video), ("audio", media.audio)] {
            let Some(Found::OtherCodec(sends)) = track else { continue };
            let offered = sdp::offered_codecs(self.offer.sdp.as_str(), kind);
            tracing::info!(client = self.client, kind, sends, ?offered, "codec mismatch");
            // Sending fails only if the receiver was dropped.
            let _ = self.common.events.send(CameraEvent::CodecMismatch {
                client_id: self.client.clone(),
                session: self.number.0,
                kind,
                sends,
                offered,
            });
        }
    }
}

/// The parts of a clip that a viewer receives.
pub(crate) struct Agreed {
    /// `None`: the offer has no section for video, or none that receives.
    video: Option<Found>,
    audio: Option<Found>,
    /// The codecs of the stack's answer: the clip's, or all others if the offer lacks the clip's,
    /// so that the stack can answer at all. Such a section is rejected afterwards.
    codecs: Vec<Codec>,
}

/// The camera's media for a section of an offer.
#[derive(Clone, Copy)]
enum Found {
    Common,
    /// The clip has this codec, which is not offered.
    OtherCodec(&'static str),
    /// The clip has no such track.
    NoTrack,
}

impl Agreed {
    fn of(clip: &Clip, offer: &Description) -> Self {
        let text = offer.sdp.as_str();
        let find = |kind: MediaKind, codec: Option<Codec>| {
            let is_offered = offer.facts.media.iter().any(|m| m.kind == kind && m.accepted);
            is_offered.then(|| match codec {
                Some(codec) if sdp::lists_codec(text, codec.name()) => Found::Common,
                Some(codec) => Found::OtherCodec(codec.name()),
                None => Found::NoTrack,
            })
        };
        let clip_video = clip.video().map(|track| peer_codec(track.codec));
        let clip_audio = clip.audio().map(|_| Codec::Opus);
        let video = find(MediaKind::Video, clip_video);
        let audio = find(MediaKind::Audio, clip_audio);
        let mut codecs = Vec::new();
        for (kind, found, codec) in
            [(MediaKind::Video, video, clip_video), (MediaKind::Audio, audio, clip_audio)]
        {
            match (found, codec) {
                (Some(Found::Common), Some(codec)) => codecs.push(codec),
                (_, _) => codecs.extend(Codec::ALL.into_iter().filter(|c| c.kind() == kind)),
            }
        }
        Self { video, audio, codecs }
    }

    fn sends_video(&self) -> bool {
        matches!(self.video, Some(Found::Common))
    }

    fn sends_audio(&self) -> bool {
        matches!(self.audio, Some(Found::Common))
    }

    fn sends_anything(&self) -> bool {
        self.sends_video() || self.sends_audio()
    }

    /// Rejects the sections of the stack's answer for which nothing is sent.
    pub(crate) fn finish(&self, answer: &str) -> String {
        let mut rejected = Vec::new();
        for (kind, found) in [("video", self.video), ("audio", self.audio)] {
            match found {
                Some(Found::OtherCodec(_) | Found::NoTrack) => rejected.push(kind),
                Some(Found::Common) | None => {}
            }
        }
        sdp::reject(answer, &rejected)
    }
}

/// Sends the messages of the outbox, without end. It is separate from the media, which must not
/// wait for it.
async fn deliver(
    line: Line,
    events: &broadcast::Sender<CameraEvent>,
    client: &str,
    number: SessionNumber,
    mut inbox: mpsc::Receiver<Post>,
) -> std::convert::Infallible {
    while let Some(message) = inbox.recv().await {
        post(&line, events, client, number, message).await;
    }
    std::future::pending().await
}

async fn post(
    line: &Line,
    events: &broadcast::Sender<CameraEvent>,
    client: &str,
    number: SessionNumber,
    message: Post,
) {
    match message {
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
