//! A tuned peer connection with queues in place of callbacks, for either role.
//!
//! The viewer's port is built on it; a master answers with it directly: [`Stack::build`],
//! [`Stack::add_track`] for each track, [`Stack::answer`] with the offer's text, then
//! [`Stack::add_candidate`] for what comes, while the candidates among [`StackEvents::events`]
//! trickle to the viewer. [`crate::LocalTrack::send`] sends; [`crate::Control::KeyframeRequest`] in
//! [`StackEvents::control`] requests a keyframe; [`Stack::close`] ends it.

mod addresses;
pub(crate) mod config;
pub(crate) mod events;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use negotiation_core::{IceServer, MediaKind};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::ice::url::{ProtoType, SchemeType, Url};
use rtc::interceptor::{NackResponderBuilder, Slot};
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_rtcp_reports, configure_simulcast_extension_headers, configure_twcc_receiver_only,
};
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::{Mutex, mpsc};
use viewer_session::sdp::normalize;
use webrtc::error::Result;
use webrtc::peer_connection::{
    PeerConnectionBuilder, RTCConfigurationBuilder, RTCIceServer, Registry, SettingEngineBuilder,
};
use webrtc::rtp_transceiver::RtpSender;

// What the events and the connection itself are made of.
pub use webrtc::data_channel::{DataChannel, DataChannelEvent};
pub use webrtc::error::Error;
pub use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
pub use webrtc::peer_connection::{
    PeerConnection, RTCIceConnectionState, RTCPeerConnectionState, RTCSdpType,
    RTCSessionDescription,
};

use crate::codec::{add_retransmission, choose_payload_type, media_engine, rtp_kind};
use crate::ice_servers::IceServers;
use crate::ingress::Ingress;
use crate::local::LocalTrack;
use crate::remote::RemoteAddresses;
use crate::remote_candidates::{Refusal, RemoteCandidateLimiter, RemoteCandidateSender};
use crate::resolver::{Hosts, Resolver};
use crate::retransmission::{Formats, Retransmissions};
use crate::sdp::{self, Fitted, SectionFormats, Unfit};
use crate::socket::{FilteredRuntime, Wake, lock};
use crate::tap::{Tap, TapLosses};
use crate::turn_stream::{TurnStreams, is_turn_stream};

pub use addresses::bind_addresses;
pub use config::{IcePolicy, Mdns, StackConfig};
use events::Queue;
pub use events::{StackEvent, StackEvents};

/// A succeeded pair is nominated only on the agent's next tick, which is 200 ms by default.
const ICE_TICK: Duration = Duration::from_millis(20);
/// Requests on one pair before it counts as failed: 10 s of them at [`ICE_TICK`].
const ICE_REQUESTS_MAX: u16 = 500;
/// The contract's part 4: the stack reports a silent peer after 2 s.
const ICE_DISCONNECTED: Duration = Duration::from_secs(2);
/// Later than any deadline of a session: giving up is the session's decision.
const ICE_FAILED: Duration = Duration::from_secs(30);
/// Several chances within [`ICE_DISCONNECTED`] when no media flows.
const ICE_KEEPALIVE: Duration = Duration::from_millis(500);
/// A pair with a relay is nominated only after this time, so that a direct one can be found first:
/// the stack checks no other pairs once one is nominated. Addresses that trickle need a moment.
const RELAY_WAIT: Duration = Duration::from_millis(500);
/// With the default of 64, packets resent after a NACK are refused as replayed. A second of a
/// stream of 10 Mbit/s; each SSRC costs a bit for each.
const SRTP_WINDOW: usize = 1024;
/// Lifecycle events waiting to be taken.
const EVENTS_MAX: usize = 512;
/// RTCP signals waiting to be taken.
const CONTROL_MAX: usize = 256;

/// A track of the application's and what sends it.
type Sending = (Arc<LocalTrack>, Arc<dyn RtpSender>);

/// A peer connection.
///
/// It must be closed: dropped unclosed, its task and sockets live on.
pub struct Stack {
    connection: Arc<dyn PeerConnection>,
    wake: Wake,
    senders: Mutex<Vec<Sending>>,
    candidates: RemoteCandidateSender,
    streams: TurnStreams,
    formats: Formats,
    ingress: Arc<StdMutex<Ingress>>,
    servers: IceServers,
}

/// Why an answer was not applied.
pub(crate) enum RefusedAnswer {
    /// It cannot be made to fit the offer.
    Unfit(Unfit),
    /// The stack refuses it.
    Stack(Error),
}

impl Stack {
    /// Builds a connection; sockets are bound and its task runs.
    ///
    /// Do not drop the future before it is done: the connection would be lost unclosed.
    ///
    /// # Errors
    /// No address could be bound.
    pub async fn build(config: &StackConfig) -> Result<(Self, StackEvents)> {
        Self::build_resolving(config, Resolver::system()).await
    }

    /// [`Self::build`], with names of STUN and TURN servers looked up in this way.
    ///
    /// # Errors
    /// No address could be bound.
    pub async fn build_resolving(
        config: &StackConfig,
        resolver: Resolver,
    ) -> Result<(Self, StackEvents)> {
        let (event_tx, events) = mpsc::channel(EVENTS_MAX);
        let (control_tx, control) = mpsc::channel(CONTROL_MAX);
        let (media_tx, media) = match config.media_queue {
            0 => (None, None),
            most => {
                let (tx, rx) = mpsc::channel(most);
                (Some(tx), Some(rx))
            }
        };
        let losses = Arc::new(TapLosses::default());
        let mut engine = media_engine(&config.codecs)?;
        let tap = Tap::new(media_tx, control_tx, Arc::clone(&losses));
        let formats = Formats::offered(&config.codecs);
        let registry = interceptors(&mut engine, formats.clone(), tap)?;
        if config.rtx {
            add_retransmission(&mut engine, &config.codecs)?;
        }
        let ingress = Arc::new(StdMutex::new(Ingress::new()));
        let relay_wait = match config.policy {
            IcePolicy::All => RELAY_WAIT,
            IcePolicy::Relay => Duration::ZERO,
        };
        let mdns = match config.mdns {
            Mdns::Ignore => MulticastDnsMode::Disabled,
            Mdns::Resolve => MulticastDnsMode::QueryOnly,
        };
        let settings = SettingEngineBuilder::new()
            .with_srtp_replay_protection_window(SRTP_WINDOW)
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
            .with_ice_connection_attempts(Some(ICE_TICK), Some(ICE_REQUESTS_MAX))
            .with_host_acceptance_min_wait(Some(Duration::ZERO))
            .with_srflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
            .with_relay_acceptance_min_wait(Some(relay_wait))
            .with_multicast_dns_mode(mdns)
            // A restart binds anew: the addresses of another network are other ones.
            .with_discard_local_candidates_during_ice_restart(true)
            .build();
        // Relay without a server is refused here; `use_servers` sets the policy.
        let configuration = RTCConfigurationBuilder::new().build();
        let streams =
            TurnStreams::new(config.authorities.clone(), config.detour.clone(), &config.bind)
                .resolving(resolver.clone());
        let hosts = Arc::new(Hosts::new(resolver));
        let (lost, gate) = (AtomicU64::new(0), streams.gate());
        let limiter = Arc::new(StdMutex::new(RemoteCandidateLimiter::new(config.mdns)));
        let connected = Arc::<AtomicBool>::default();
        let wake = Wake::default();
        let runtime = FilteredRuntime::new(Arc::clone(&ingress), Arc::clone(&hosts), wake.clone());
        let handler = Queue {
            events: event_tx.clone(),
            lost,
            policy: config.policy,
            gate,
            limiter: Arc::clone(&limiter),
            connected: Arc::clone(&connected),
            wake: wake.clone(),
            channels: AtomicUsize::new(0),
        };
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(config.bind.clone())
            .with_runtime(Arc::new(runtime))
            .build()
            .await?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let stack = Self {
            connection: Arc::clone(&connection),
            wake: wake.clone(),
            senders: Mutex::new(Vec::new()),
            candidates: RemoteCandidateSender::new(Arc::clone(&connection), wake, limiter),
            streams,
            formats,
            ingress,
            servers: IceServers::new(connection, config.policy, hosts, event_tx, connected),
        };
        Ok((stack, StackEvents { events, control, media, losses }))
    }

    /// The connection itself, for what this type does not wrap.
    pub fn connection(&self) -> &Arc<dyn PeerConnection> {
        &self.connection
    }

    /// Tries these addresses of the other side alone; before, every one is.
    pub fn restrict(&self, addresses: RemoteAddresses) {
        self.candidates.restrict(addresses);
    }

    /// Tries every address of the other side if this name, the service's, turns out to be this
    /// machine's. Candidates wait for that.
    pub(crate) async fn admit_as_service(&self, service: (String, u16), resolver: Resolver) {
        self.candidates.admit_as_service(service, resolver).await;
    }

    /// Attaches a track of the application's, to be sent.
    ///
    /// # Errors
    /// The track's codec is none of the connection's, or the connection is closed.
    pub async fn add_track(&self, track: &Arc<LocalTrack>) -> Result<()> {
        let sender = self.connection.add_track(track.track()).await?;
        self.senders.lock().await.push((Arc::clone(track), sender));
        Ok(())
    }

    /// Asks to receive one stream of this kind, and to send none.
    ///
    /// # Errors
    /// No codec of this kind is configured, or the connection is closed.
    pub async fn receive(&self, kind: MediaKind) -> Result<()> {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        self.connection.add_transceiver_from_kind(rtp_kind(kind), Some(init)).await?;
        Ok(())
    }

    /// Uses these servers from the next gathering on; those of a kind that the stack does not
    /// speak are left out. Returns how many URIs are used.
    ///
    /// Their names are looked up meanwhile, and this waits only a moment for that: see
    /// [`StackEvent::IceServersUnresolved`].
    ///
    /// # Errors
    /// The connection is closed, or it is relayed alone and no TURN server's name is resolved.
    pub async fn use_servers(&self, servers: &[IceServer]) -> Result<usize> {
        let servers = self.usable_servers(servers).await;
        self.servers.use_servers(servers).await
    }

    /// Sets a local description and starts gathering; with an answer, local tracks know their
    /// payload types.
    ///
    /// # Errors
    /// The stack refuses it.
    pub async fn set_local(&self, description: RTCSessionDescription) -> Result<()> {
        self.streams.gate().gathering();
        let _describing = self.servers.describing().lock().await;
        self.servers.gathering(&description).await?;
        if description.sdp_type == RTCSdpType::Answer {
            self.connection.set_local_description(description).await?;
            return self.agree_on_payload_types().await;
        }
        let offer = description.sdp.clone();
        self.connection.set_local_description(description).await?;
        self.candidates.offered(&offer);
        Ok(())
    }

    /// Sets the other side's offer.
    ///
    /// # Errors
    /// The text is no offer, or a local one is open.
    pub async fn apply_offer(&self, sdp: &str) -> Result<()> {
        let normal = normalize(sdp).unwrap_or_default();
        self.described(&normal);
        self.formats.use_offer(&normal);
        let (text, candidates) = sdp::to_apply(&normal);
        let offer = RTCSessionDescription::offer(text)?;
        let _describing = self.servers.describing().lock().await;
        self.connection.set_remote_description(offer).await?;
        self.candidates.described(&normal, &candidates).await;
        Ok(())
    }

    /// Sets the other side's answer; local tracks then know their payload types. An answer that
    /// differs from the offer in its form alone is made to fit.
    ///
    /// # Errors
    /// The text is no answer to the offer that is set.
    pub async fn apply_answer(&self, sdp: &str) -> Result<()> {
        match self.fit_and_apply(sdp).await {
            Ok(_) => Ok(()),
            Err(RefusedAnswer::Stack(error)) => Err(error),
            Err(RefusedAnswer::Unfit(unfit)) => Err(Error::Other(unfit.to_string())),
        }
    }

    /// [`Self::apply_answer`], which returns the answer's audio and video sections.
    pub(crate) async fn fit_and_apply(
        &self,
        sdp: &str,
    ) -> std::result::Result<Vec<SectionFormats>, RefusedAnswer> {
        let normal = normalize(sdp).ok_or_else(|| {
            RefusedAnswer::Unfit(Unfit::Description("the answer is no SDP".to_owned()))
        })?;
        self.described(&normal);
        let _describing = self.servers.describing().lock().await;
        let offer = self.connection.local_description().await;
        let offer = offer.filter(|local| local.sdp_type == RTCSdpType::Offer);
        let (text, sections) = match offer.and_then(|offer| normalize(&offer.sdp)) {
            Some(offer) => {
                let Fitted { text, sections } =
                    sdp::fit(&normal, &offer).map_err(RefusedAnswer::Unfit)?;
                (text, sections)
            }
            // There is nothing to fit it to, and the stack reports that.
            None => (sdp::to_apply(&normal).0, Vec::new()),
        };
        let apply = async {
            let answer = RTCSessionDescription::answer(text)?;
            self.connection.set_remote_description(answer).await?;
            self.candidates.described(&normal, &sdp::candidates(&normal)).await;
            self.agree_on_payload_types().await
        };
        apply.await.map_err(RefusedAnswer::Stack)?;
        Ok(sections)
    }

    /// Before the stack knows of it: packets may follow at once.
    fn described(&self, sdp: &str) {
        lock(&self.ingress).described(sdp);
        self.formats.described(sdp);
    }

    /// Answers an offer and starts gathering. The returned text announces that candidates trickle and
    /// holds none.
    ///
    /// # Errors
    /// The text is no offer, or has nothing in common with this connection.
    pub async fn answer(&self, offer: &str) -> Result<String> {
        self.apply_offer(offer).await?;
        let answer = self.connection.create_answer(None).await?;
        let text = sdp::to_send(&answer.sdp);
        self.set_local(answer).await?;
        Ok(text)
    }

    /// Adds a candidate of the other side's; to be called after its description was set.
    ///
    /// The first 16 of a generation are tried at once, others one by one, no more than 40 in all and 6
    /// of one IP address, those in descriptions among them. One that is known, means "no more", is of TCP, has an address that
    /// is not tried (see [`RemoteAddresses`]), or still waits when there is a connection is accepted
    /// and not used.
    ///
    /// # Errors
    /// The text is no candidate, there are too many, or no remote description is set.
    pub async fn add_candidate(&self, candidate: &str) -> Result<()> {
        match self.try_candidate(candidate).await {
            Ok(()) | Err(Refusal::Address) => Ok(()),
            Err(Refusal::Stack(error)) => Err(error),
        }
    }

    /// [`Self::add_candidate`], which returns whether the address is refused.
    pub(crate) async fn try_candidate(&self, text: &str) -> std::result::Result<(), Refusal> {
        self.candidates.add(text).await
    }

    /// Wakes the connection's task.
    ///
    /// A datagram that comes over a relay is handed on inside the task's loop after its writes, so
    /// what answers it waits for the next timer or packet. While DTLS is not done over a relay,
    /// call this every few milliseconds.
    pub fn wake_stack(&self) {
        self.wake.wake();
    }

    /// Whether the other side closed (DTLS close_notify). No event reports it: the connection's
    /// state changes only when ICE times out.
    pub async fn is_closed_by_peer(&self) -> bool {
        let transport = match self.connection.sctp().await {
            Some(sctp) => Some(sctp.transport()),
            None => match self.connection.get_senders().await.first() {
                Some(sender) => sender.transport().await.ok().flatten(),
                None => None,
            },
        };
        let Some(transport) = transport else { return false };
        matches!(transport.state().await, Ok(RTCDtlsTransportState::Closed))
    }

    /// Detaches every track of the application's; they can be attached elsewhere.
    pub async fn detach_tracks(&self) {
        for (track, sender) in self.senders.lock().await.drain(..) {
            // A connection that is closed already has nothing to remove.
            let _ = self.connection.remove_track(&sender).await;
            track.detach().await;
        }
    }

    /// Detaches the tracks and closes: sockets and task are gone when it returns. May be called
    /// again.
    ///
    /// # Errors
    /// The stack could not close in order.
    pub async fn close(&self) -> Result<()> {
        self.servers.close().await;
        self.candidates.close().await;
        self.detach_tracks().await;
        let closed = self.connection.close().await;
        // After it: a relay is given back by the road that it came.
        self.streams.close().await;
        closed
    }

    /// Servers with only the URIs that the stack can use: STUN, TURN over UDP, and a bridge for
    /// each TURN server over TCP or TLS.
    async fn usable_servers(&self, servers: &[IceServer]) -> Vec<RTCIceServer> {
        let expose = |secret: &Option<negotiation_core::Secret>| {
            secret.as_ref().map(|s| s.expose().to_owned()).unwrap_or_default()
        };
        self.streams.keep(servers).await;
        let mut usable = Vec::new();
        let mut udp = false;
        for server in servers {
            let (username, credential) = (expose(&server.username), expose(&server.password));
            let has_login = !username.is_empty() && !credential.is_empty();
            let mut urls = Vec::new();
            for uri in &server.uris {
                // One URI that cannot be read would have the whole configuration refused.
                if has_login && is_turn_stream(uri) {
                    urls.extend(self.streams.bridge(uri).await);
                } else if uri.starts_with("stun:") && Url::parse_url(uri).is_ok() {
                    urls.push(uri.clone());
                } else if has_login && is_turn_udp(uri) {
                    udp = true;
                    urls.push(uri.clone());
                }
            }
            if !urls.is_empty() {
                usable.push(RTCIceServer { urls, username, credential });
            }
        }
        self.streams.expect_udp(udp);
        usable
    }

    async fn agree_on_payload_types(&self) -> Result<()> {
        for (track, sender) in self.senders.lock().await.iter() {
            let parameters = sender.get_parameters().await?;
            let codecs = &parameters.rtp_parameters.codecs;
            track.agree_on(choose_payload_type(track.codec(), codecs));
        }
        Ok(())
    }
}

/// The interceptors of a connection, from the wire to the application, with the feedback messages
/// and header extensions that they use.
///
/// [`Retransmissions`] takes the place of the stack's NACK generator.
fn interceptors(engine: &mut MediaEngine, formats: Formats, tap: Tap) -> Result<Registry> {
    for parameter in ["", "pli"] {
        let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: parameter.to_owned() };
        engine.register_feedback(feedback, RtpCodecKind::Video);
    }
    configure_simulcast_extension_headers(engine)?;
    let registry = Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::NackGenerator, Retransmissions::new(formats))
        // It passes no RTP on: closest to the application, behind the others.
        .with(Slot::from(20_000), tap);
    let registry = configure_twcc_receiver_only(registry, engine)?;
    Ok(configure_rtcp_reports(registry))
}

fn is_turn_udp(uri: &str) -> bool {
    Url::parse_url(uri)
        .is_ok_and(|url| url.scheme == SchemeType::Turn && url.proto == ProtoType::Udp)
}

/// Whether this server can relay.
pub(crate) fn is_turn(uri: &str) -> bool {
    is_turn_udp(uri) || is_turn_stream(uri)
}

#[cfg(test)]
mod tests;
