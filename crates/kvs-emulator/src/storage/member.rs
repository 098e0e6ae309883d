//! One client's stay in a storage session: the service offers, the client answers, media flows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use webrtc::media_stream::track_local::TrackLocal as _;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::RTCPeerConnectionState;

use super::peer::{self, Event, Events, Peer, Tracks};
use super::splice::Splice;
use crate::fault::Role;
use crate::presence::{PresenceChange, Who, Why};
use crate::routing;
use crate::shared::Shared;
use crate::storage_sessions::{Hub, Inbound, Media};
use crate::sync::lock;
use crate::wire::MessageType;

/// How long an offer is open.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Candidates that wait for their answer.
const EARLY_MAX: usize = 64;
/// The interval between checks whether the client closed.
const LOOK: Duration = Duration::from_millis(200);

/// A client's stay in a session, before it begins.
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) who: Who,
    pub(super) number: u64,
    pub(super) hub: Arc<Hub>,
    pub(super) inbox: mpsc::Receiver<Inbound>,
    /// When the whole session ends.
    pub(super) ends_at: Instant,
}

impl Member {
    /// Runs until the stay is over by itself or is `ended`, and closes its connection then.
    pub(super) async fn run(mut self, mut ended: mpsc::Receiver<Why>) -> Why {
        // This must not be cancelled: a half-built connection would stay unclosed.
        let (peer, events) = match Peer::build(bind(&self.shared)).await {
            Ok(built) => built,
            Err(error) => {
                tracing::warn!(%error, "the storage service has no connection");
                return Why::Lost;
            }
        };
        let stop = self.shared.stop.clone();
        let why = tokio::select! {
            () = stop.cancelled() => Why::Stopped,
            Some(why) = ended.recv() => why,
            served = self.serve(&peer, events) => served.unwrap_or_else(|error| {
                tracing::warn!(%error, "the storage service's connection failed");
                Why::Lost
            }),
        };
        self.hub.master_left(self.number);
        peer.close().await;
        why
    }

    async fn serve(&mut self, peer: &Peer, mut events: Events) -> webrtc::error::Result<Why> {
        let mut outlet = match self.who.role {
            Role::Master => {
                peer.receive().await?;
                None
            }
            Role::Viewer => {
                let ssrc = || lock(&self.shared.random).next() as u32 | 1;
                let ssrcs = (ssrc(), ssrc());
                Some(Outlet::new(peer.send(ssrcs).await?, ssrcs))
            }
        };
        let offer = json!({ "type": "offer", "sdp": peer.offer().await? });
        self.send(MessageType::SdpOffer, &offer);
        let mut early = Some(Vec::new());
        let mut unanswered = Some(Instant::now() + ANSWER_MAX);
        let mut media = None;
        let mut video_track: Option<Arc<dyn TrackRemote>> = None;
        let mut master = self.hub.master();
        let alone_max = self.shared.lifetimes.storage_without_master;
        let alone_from_now = |there: bool| (!there).then(|| Instant::now() + alone_max);
        // A watch reports changes only, so a master that is present already must be read.
        let mut alone_until = alone_from_now(master.borrow_and_update().is_some());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(message) = self.inbox.recv() => match (message, &mut early) {
                    (Inbound::Answer(sdp), early @ Some(_)) => {
                        peer.apply_answer(sdp).await?;
                        unanswered = None;
                        for candidate in early.take().unwrap_or_default() {
                            add(peer, candidate).await;
                        }
                    }
                    (Inbound::Answer(_), None) => tracing::debug!("a second answer"),
                    (Inbound::Candidate(text), Some(early)) if early.len() < EARLY_MAX => {
                        early.push(text);
                    }
                    (Inbound::Candidate(_), Some(_)) => tracing::debug!("a candidate too many"),
                    (Inbound::Candidate(text), None) => add(peer, text).await,
                },
                Some(event) = events.events.recv() => match event {
                    Event::Candidate(text) => {
                        let payload =
                            json!({ "candidate": text, "sdpMid": "0", "sdpMLineIndex": 0 });
                        self.send(MessageType::IceCandidate, &payload);
                    }
                    Event::State(RTCPeerConnectionState::Connected) => {
                        self.tell(PresenceChange::StorageConnected);
                        match self.who.role {
                            Role::Master => self.hub.master_came(self.number),
                            Role::Viewer => media = Some(self.hub.watch()),
                        }
                        self.hub.ask_for_keyframe();
                    }
                    Event::State(
                        RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
                    ) => return Ok(Why::Lost),
                    Event::State(_) => {}
                    Event::Track(track) => {
                        if track.ssrcs().await.is_empty() {
                            continue;
                        }
                        let kind = track.kind().await;
                        drain(track.clone());
                        if kind == rtc::rtp_transceiver::rtp_sender::RtpCodecKind::Video {
                            peer::ask_for_keyframe(&track).await;
                            video_track = Some(track);
                        }
                    }
                    Event::KeyframeWanted => self.hub.ask_for_keyframe(),
                },
                Some(packet) = events.media.recv() => {
                    if self.who.role == Role::Master {
                        self.hub.forward(packet);
                    }
                }
                packet = next(media.as_mut()) => match (packet, &mut outlet) {
                    (Ok(packet), Some(outlet)) => outlet.send(packet).await,
                    (Err(broadcast::error::RecvError::Lagged(_)), _) => {
                        self.hub.ask_for_keyframe();
                    }
                    (Ok(_) | Err(broadcast::error::RecvError::Closed), _) => {}
                },
                () = self.hub.keyframe_asked_for(), if video_track.is_some() => {
                    if let Some(track) = &video_track {
                        peer::ask_for_keyframe(track).await;
                    }
                }
                changed = master.changed(), if self.who.role == Role::Viewer => {
                    let there = changed.is_ok() && master.borrow_and_update().is_some();
                    alone_until = alone_from_now(there);
                }
                _ = look.tick() => {
                    if peer.is_closed().await {
                        return Ok(Why::Closed);
                    }
                }
                () = at(unanswered) => return Ok(Why::Lost),
                () = at(alone_until), if self.who.role == Role::Viewer => return Ok(Why::Idle),
                () = at(Some(self.ends_at)) => return Ok(Why::Age),
            }
        }
    }

    fn send(&self, kind: MessageType, payload: &Value) {
        routing::send_from_service(&self.shared, &self.who, kind, payload);
    }

    fn tell(&self, what: PresenceChange) {
        self.shared.events.record(&self.who, None, what, Instant::now());
    }
}

/// The tracks of a viewer, and the splices that make their streams continuous.
struct Outlet {
    tracks: Tracks,
    video: Splice,
    audio: Splice,
}

impl Outlet {
    fn new(tracks: Tracks, (video, audio): (u32, u32)) -> Self {
        // The gap between two masters: 1/30 s of video and 1/50 s of audio.
        let video = Splice::new(video, peer::VIDEO, 90_000 / 30);
        let audio = Splice::new(audio, peer::AUDIO, 48_000 / 50);
        Self { tracks, video, audio }
    }

    async fn send(&mut self, media: Media) {
        let sent = match media {
            Media::Video(packet) => self.tracks.video.write_rtp(self.video.join(packet)).await,
            Media::Audio(packet) => self.tracks.audio.write_rtp(self.audio.join(packet)).await,
        };
        if sent.is_err() {
            tracing::debug!("a packet is not taken");
        }
    }
}

/// Reads and discards a track's events: an unread queue would fill. The task ends with the
/// connection.
fn drain(track: Arc<dyn TrackRemote>) {
    tokio::spawn(async move { while track.poll().await.is_some() {} });
}

async fn add(peer: &Peer, candidate: String) {
    if !candidate.is_empty() && peer.add_candidate(candidate).await.is_err() {
        tracing::debug!("a candidate is not taken");
    }
}

async fn next(
    media: Option<&mut broadcast::Receiver<Media>>,
) -> Result<Media, broadcast::error::RecvError> {
    match media {
        Some(media) => media.recv().await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Returns the addresses to bind: every interface, and loopback if the emulator listens there; of
/// the emulator's address family.
fn bind(shared: &Shared) -> Vec<String> {
    let ip = shared.config.listen.ip().to_canonical();
    let v4: &[&str] = &["127.0.0.1:0", "0.0.0.0:0"];
    let v6: &[&str] = &["[::1]:0", "[::]:0"];
    let all = match ip {
        IpAddr::V4(_) => v4.to_vec(),
        // The emulator's socket, bound to `::`, receives IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => [v4, v6].concat(),
        IpAddr::V6(_) => v6.to_vec(),
    };
    let local = ip.is_loopback() || ip.is_unspecified();
    let is_loopback = |addr: &str| addr.starts_with("127.") || addr.starts_with("[::1]");
    all.into_iter().filter(|addr| local || !is_loopback(addr)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EmulatorConfig, Lifetimes};

    /// Returns how a viewer's stay ends, on a clock on which three minutes are 0.3 s and an hour is
    /// 6 s.
    async fn stay(hub: Hub, lifetimes: Lifetimes) -> Why {
        let config = EmulatorConfig { time_scale: 600.0, lifetimes, ..EmulatorConfig::default() };
        let shared = Arc::new(Shared::new(config));
        let who = Who {
            arn: "a".into(),
            channel: "c".into(),
            role: Role::Viewer,
            client_id: Some("v".into()),
        };
        let ((_client, inbox), (_seat, ended)) = (mpsc::channel(1), mpsc::channel(1));
        let ends_at = Instant::now() + shared.lifetimes.storage_session;
        let member = Member { shared, who, number: 2, hub: Arc::new(hub), inbox, ends_at };
        tokio::time::timeout(Duration::from_secs(10), member.run(ended)).await.unwrap()
    }

    #[tokio::test]
    async fn storage_viewer_with_a_master_stays_until_session_end() {
        let hub = Hub::new();
        hub.master_came(1);
        let session = Duration::from_secs(600);
        let lifetimes = Lifetimes { storage_session: session, ..Lifetimes::default() };
        assert_eq!(stay(hub, lifetimes).await, Why::Age);
    }

    #[tokio::test]
    async fn storage_viewer_without_a_master_is_removed() {
        assert_eq!(stay(Hub::new(), Lifetimes::default()).await, Why::Idle);
    }

    #[test]
    fn media_binds_the_addresses_the_emulator_serves() {
        let of = |listen: &str| {
            let listen = listen.parse().unwrap();
            bind(&Shared::new(EmulatorConfig { listen, ..EmulatorConfig::default() }))
        };
        assert_eq!(of("127.0.0.1:0"), ["127.0.0.1:0", "0.0.0.0:0"]);
        assert_eq!(of("10.0.0.1:0"), ["0.0.0.0:0"]);
        assert_eq!(of("[::1]:0"), ["[::1]:0", "[::]:0"]);
        assert_eq!(of("[::]:0").len(), 4);
    }
}
