//! The service's own end of a media connection: it offers H.264 and Opus, and its candidates
//! trickle.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MediaEngine,
};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error as StackError;
use tokio::sync::mpsc;
use webrtc::error::Result;
use webrtc::media_stream::Track as _;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceCandidateInit, RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSessionDescription,
    Registry, SettingEngineBuilder,
};

use crate::storage_sessions::Media;

/// The payload types of the service's offers; the answerer uses the same.
pub(super) const VIDEO: u8 = 102;
pub(super) const AUDIO: u8 = 111;

const EVENTS_MAX: usize = 512;
const MEDIA_MAX: usize = 2048;
/// The agent nominates on its tick, which is 200 ms by default.
const ICE_TICK: Duration = Duration::from_millis(20);
const ICE_REQUESTS_MAX: u16 = 500;
/// Packets that are resent after a NACK arrive late.
const SRTP_WINDOW: usize = 4096;

/// An event of the peer connection.
pub(super) enum Event {
    Candidate(String),
    State(RTCPeerConnectionState),
    Track(Arc<dyn TrackRemote>),
    /// The other side needs a keyframe.
    KeyframeWanted,
}

/// The queues of a peer connection.
pub(super) struct Events {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) media: mpsc::Receiver<Media>,
}

/// The tracks to a viewer.
pub(super) struct Tracks {
    pub(super) video: Arc<TrackLocalStaticRTP>,
    pub(super) audio: Arc<TrackLocalStaticRTP>,
}

/// The service's peer connection. It must be closed.
pub(super) struct Peer {
    connection: Arc<dyn PeerConnection>,
}

impl Peer {
    pub(super) async fn build(bind: Vec<String>) -> Result<(Self, Events)> {
        let (event_tx, events) = mpsc::channel(EVENTS_MAX);
        let (media_tx, media) = mpsc::channel(MEDIA_MAX);
        let mut engine = MediaEngine::default();
        engine.register_codec(video_codec(), RtpCodecKind::Video)?;
        engine.register_codec(audio_codec(), RtpCodecKind::Audio)?;
        let tap = Tap {
            events: event_tx.clone(),
            media: media_tx,
            read: VecDeque::new(),
            write: VecDeque::new(),
        };
        let registry = register_default_interceptors(Registry::new(), &mut engine)?
            .with(Slot::from(20_000), tap);
        let settings = SettingEngineBuilder::new()
            .with_srtp_replay_protection_window(SRTP_WINDOW)
            .with_ice_connection_attempts(Some(ICE_TICK), Some(ICE_REQUESTS_MAX))
            .with_host_acceptance_min_wait(Some(Duration::ZERO))
            .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_relay_acceptance_min_wait(Some(Duration::ZERO))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Handler { events: event_tx }))
            .with_udp_addrs(bind)
            .build()
            .await?;
        Ok((Self { connection: Arc::new(connection) }, Events { events, media }))
    }

    /// Receives the master's video and audio.
    pub(super) async fn receive(&self) -> Result<()> {
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let init = init(RTCRtpTransceiverDirection::Recvonly, Vec::new());
            self.connection.add_transceiver_from_kind(kind, Some(init)).await?;
        }
        Ok(())
    }

    /// Sends video and audio, and receives audio: a viewer may send it.
    pub(super) async fn send(&self, ssrcs: (u32, u32)) -> Result<Tracks> {
        let video = local_track(ssrcs.0, RtpCodecKind::Video, video_codec().rtp_codec);
        let audio = local_track(ssrcs.1, RtpCodecKind::Audio, audio_codec().rtp_codec);
        for (track, direction) in [
            (&video, RTCRtpTransceiverDirection::Sendonly),
            (&audio, RTCRtpTransceiverDirection::Sendrecv),
        ] {
            let encodings = track.codings().await;
            let track = Arc::clone(track) as Arc<dyn TrackLocal>;
            let init = init(direction, encodings);
            self.connection.add_transceiver_from_track(track, Some(init)).await?;
        }
        Ok(Tracks { video, audio })
    }

    /// Creates an offer and starts gathering. The offer has no candidates: they trickle.
    pub(super) async fn offer(&self) -> Result<String> {
        let offer = self.connection.create_offer(None).await?;
        let text = trickling(&offer.sdp);
        self.connection.set_local_description(offer).await?;
        Ok(text)
    }

    pub(super) async fn apply_answer(&self, sdp: String) -> Result<()> {
        self.connection.set_remote_description(RTCSessionDescription::answer(sdp)?).await
    }

    pub(super) async fn add_candidate(&self, candidate: String) -> Result<()> {
        let init = RTCIceCandidateInit { candidate, ..RTCIceCandidateInit::default() };
        self.connection.add_ice_candidate(init).await
    }

    /// Whether the other side closed (DTLS close_notify); no event reports it.
    pub(super) async fn is_closed(&self) -> bool {
        let is_closed = |state| matches!(state, Ok(RTCDtlsTransportState::Closed));
        for sender in self.connection.get_senders().await {
            if let Ok(Some(transport)) = sender.transport().await {
                return is_closed(transport.state().await);
            }
        }
        for receiver in self.connection.get_receivers().await {
            if let Ok(Some(transport)) = receiver.transport().await {
                return is_closed(transport.state().await);
            }
        }
        false
    }

    pub(super) async fn close(&self) {
        if self.connection.close().await.is_err() {
            tracing::debug!("a connection of the storage service was not closed in order");
        }
    }
}

/// Requests a keyframe from the other side.
pub(super) async fn ask_for_keyframe(track: &Arc<dyn TrackRemote>) {
    for media_ssrc in track.ssrcs().await {
        let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc };
        // A track that is over has no more frames.
        let _ = track.write_rtcp(vec![Box::new(pli)]).await;
    }
}

fn init(
    direction: RTCRtpTransceiverDirection,
    send_encodings: Vec<RTCRtpEncodingParameters>,
) -> RTCRtpTransceiverInit {
    RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings }
}

fn local_track(ssrc: u32, kind: RtpCodecKind, codec: RTCRtpCodec) -> Arc<TrackLocalStaticRTP> {
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        active: true,
        codec,
        ..RTCRtpEncodingParameters::default()
    };
    let label = if kind == RtpCodecKind::Video { "video" } else { "audio" };
    let track = MediaStreamTrack::new(
        "storage".to_owned(),
        label.to_owned(),
        label.to_owned(),
        kind,
        vec![coding],
    );
    Arc::new(TrackLocalStaticRTP::new(track))
}

fn video_codec() -> RTCRtpCodecParameters {
    let fir = RTCPFeedback { typ: "ccm".to_owned(), parameter: "fir".to_owned() };
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_H264.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
                .to_owned(),
            rtcp_feedback: vec![fir],
        },
        payload_type: VIDEO,
    }
}

fn audio_codec() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type: AUDIO,
    }
}

/// Adds the trickle option to a description and removes its candidates. The C SDK answers such an
/// offer at once (docs/kvs-protocol.md 3.1).
fn trickling(original: &str) -> String {
    let mut text = String::with_capacity(original.len() + 32);
    for line in original.lines().map(str::trim_end) {
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        text.push_str(line);
        text.push_str("\r\n");
        if line.starts_with("t=") {
            text.push_str("a=ice-options:trickle\r\n");
        }
    }
    text
}

/// The stack awaits its callbacks on its own task, so these only push.
struct Handler {
    events: mpsc::Sender<Event>,
}

impl Handler {
    fn push(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::debug!("an event of the storage service's connection was not taken");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        // A wildcard socket on a machine without an interface has no address to send.
        if event.candidate.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return;
        }
        if let Ok(init) = event.candidate.to_json() {
            self.push(Event::Candidate(init.candidate));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.push(Event::State(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.push(Event::Track(track));
    }
}

/// Reads arriving packets before the stack, which stops RTCP and drops packets that arrive before
/// its tracks open.
struct Tap {
    events: mpsc::Sender<Event>,
    media: mpsc::Sender<Media>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = StackError;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> std::result::Result<(), Self::Error> {
        match &msg.message.packet {
            Packet::Rtp(packet) => {
                let media = match packet.header.payload_type {
                    VIDEO => Some(Media::Video(packet.clone())),
                    AUDIO => Some(Media::Audio(packet.clone())),
                    _ => None,
                };
                if let Some(media) = media {
                    // A packet is lost if the queue is full, as on a network.
                    let _ = self.media.try_send(media);
                }
            }
            Packet::Rtcp(packets) => {
                let wanted = packets.iter().any(|packet| {
                    let packet = packet.as_any();
                    packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
                });
                if wanted {
                    let _ = self.events.try_send(Event::KeyframeWanted);
                }
            }
            _ => {}
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<Self::Rout> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> std::result::Result<(), Self::Error> {
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<Self::Wout> {
        self.write.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
