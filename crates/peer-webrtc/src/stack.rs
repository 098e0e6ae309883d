//! A tuned peer connection with queues in place of callbacks, for either role.
//!
//! The viewer's port is built on it. A master uses it directly: it calls [`Stack::build`],
//! [`Stack::add_track`] for each track, [`Stack::answer`] with the offer's text, then
//! [`Stack::add_candidate`] for each arriving candidate, and sends the candidates among
//! [`StackEvents::events`] to the viewer. [`crate::LocalTrack::send`] sends media,
//! [`crate::Control::KeyframeRequest`] in [`StackEvents::control`] requests a keyframe, and
//! [`Stack::close`] ends the connection.

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

// The types of the events and of the connection.
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
/// The most requests on one pair before it counts as failed: 10 s at [`ICE_TICK`].
const ICE_REQUESTS_MAX: u16 = 500;
/// Part 4 of the contract requires a silent peer to be reported after 2 s.
const ICE_DISCONNECTED: Duration = Duration::from_secs(2);
/// Later than any deadline of a session: the session decides when to give up.
const ICE_FAILED: Duration = Duration::from_secs(30);
/// Allows several keepalives within [`ICE_DISCONNECTED`] when no media flows.
const ICE_KEEPALIVE: Duration = Duration::from_millis(500);
/// The wait before a relayed pair may be nominated, so that a direct one can be found first: the
/// stack checks no other pairs once one is nominated. Trickled addresses need a moment.
const RELAY_WAIT: Duration = Duration::from_millis(500);
/// With the default of 64, packets resent after a NACK are refused as replayed. This is a second
/// of a stream of 10 Mbit/s, at one bit for each packet and SSRC.
const SRTP_WINDOW: usize = 1024;
/// The most lifecycle events that wait for the reader.
const EVENTS_MAX: usize = 512;
/// The most RTCP signals that wait for the reader.
const CONTROL_MAX: usize = 256;

/// A local track and its sender.
type Sending = (Arc<LocalTrack>, Arc<dyn RtpSender>);

/// A peer connection.
///
/// It must be closed: if it is dropped unclosed, its task and sockets stay alive.
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

/// The reason why an answer was not applied.
pub(crate) enum RefusedAnswer {
    /// It cannot be fitted to the offer.
    Unfit(Unfit),
    /// The stack refuses it.
    Stack(Error),
}

impl Stack {
    /// Builds a connection, binds its sockets and starts its task.
    ///
    /// Do not drop the future before it is done: that would leak an unclosed connection.
    ///
    /// # Errors
    /// No address could be bound.
    pub async fn build(config: &StackConfig) -> Result<(Self, StackEvents)> {
        Self::build_resolving(config, Resolver::system()).await
    }

    /// Works as [`Self::build`], with this resolver for names of STUN and TURN servers.
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
            // A restart binds new sockets, because another network has other addresses.
            .with_discard_local_candidates_during_ice_restart(true)
            .build();
        // The stack refuses a relay policy without a server here, so `use_servers` sets it later.
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

    /// Returns the underlying connection, for operations that this type does not wrap.
    pub fn connection(&self) -> &Arc<dyn PeerConnection> {
        &self.connection
    }

    /// Permits only these addresses of the other side. By default every address is permitted.
    pub fn restrict(&self, addresses: RemoteAddresses) {
        self.candidates.restrict(addresses);
    }

    /// Permits every address of the other side if the service's host name resolves to this
    /// machine. Candidates wait for that lookup.
    pub(crate) async fn admit_as_service(&self, service: (String, u16), resolver: Resolver) {
        self.candidates.admit_as_service(service, resolver).await;
    }

    /// Attaches a local track for sending.
    ///
    /// # Errors
    /// The connection does not have the track's codec, or is closed.
    pub async fn add_track(&self, track: &Arc<LocalTrack>) -> Result<()> {
        let sender = self.connection.add_track(track.track()).await?;
        self.senders.lock().await.push((Arc::clone(track), sender));
        Ok(())
    }

    /// Adds a transceiver that receives one stream of this kind and sends none.
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

    /// Uses these servers from the next gathering on, except kinds that the stack does not
    /// support. Returns the number of URIs.
    ///
    /// Their names are resolved concurrently, and this waits only briefly for that: see
    /// [`StackEvent::IceServersUnresolved`].
    ///
    /// # Errors
    /// The connection is closed, or its policy is relay only and no TURN server's name is
    /// resolved.
    pub async fn use_servers(&self, servers: &[IceServer]) -> Result<usize> {
        let servers = self.usable_servers(servers).await;
        self.servers.use_servers(servers).await
    }

    /// Sets a local description and starts gathering. An answer gives local tracks their payload
    /// types.
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

    /// Sets the remote offer.
    ///
    /// # Errors
    /// The text is no offer, or a local offer is pending.
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

    /// Sets the remote answer, which gives local tracks their payload types. An answer that
    /// differs from the offer only in form is adjusted to fit.
    ///
    /// # Errors
    /// The text is no answer to the current offer.
    pub async fn apply_answer(&self, sdp: &str) -> Result<()> {
        match self.fit_and_apply(sdp).await {
            Ok(_) => Ok(()),
            Err(RefusedAnswer::Stack(error)) => Err(error),
            Err(RefusedAnswer::Unfit(unfit)) => Err(Error::Other(unfit.to_string())),
        }
    }

    /// Works as [`Self::apply_answer`], and returns the answer's audio and video sections.
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
            // Without a local offer there is nothing to fit it to; the stack reports that error.
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

    /// Passes a remote description to the filters. Runs before the stack sets it, because packets
    /// may follow at once.
    fn described(&self, sdp: &str) {
        lock(&self.ingress).described(sdp);
        self.formats.described(sdp);
    }

    /// Answers an offer and starts gathering. The returned text announces trickling and holds no
    /// candidates.
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

    /// Adds a remote candidate, after the remote description was set.
    ///
    /// The first 16 of a generation are added at once and others one by one, up to 40 in all and 6
    /// of one IP address, including those in descriptions. A candidate is accepted and not used if
    /// it is known, marks the end of candidates, is a TCP candidate, has an address that is not
    /// permitted (see [`RemoteAddresses`]), or still waits when there is a connection.
    ///
    /// # Errors
    /// The text is no candidate, there are too many, or no remote description is set.
    pub async fn add_candidate(&self, candidate: &str) -> Result<()> {
        match self.try_candidate(candidate).await {
            Ok(()) | Err(Refusal::Address) => Ok(()),
            Err(Refusal::Stack(error)) => Err(error),
        }
    }

    /// Works as [`Self::add_candidate`], and reports a refused address.
    pub(crate) async fn try_candidate(&self, text: &str) -> std::result::Result<(), Refusal> {
        self.candidates.add(text).await
    }

    /// Wakes the connection's task.
    ///
    /// The task handles a datagram from a relay after its writes, so that the response waits for
    /// the next timer or packet. Until DTLS is done over a relay, call this every few
    /// milliseconds.
    pub fn wake_stack(&self) {
        self.wake.wake();
    }

    /// Returns whether the other side closed (DTLS close_notify). No event reports it: the
    /// connection's state changes only when ICE times out.
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

    /// Detaches every local track; the tracks can be attached elsewhere.
    pub async fn detach_tracks(&self) {
        for (track, sender) in self.senders.lock().await.drain(..) {
            // A closed connection has nothing to remove.
            let _ = self.connection.remove_track(&sender).await;
            track.detach().await;
        }
    }

    /// Detaches the tracks and closes the connection: sockets and task are gone on return. May be
    /// called again.
    ///
    /// # Errors
    /// The stack could not close in order.
    pub async fn close(&self) -> Result<()> {
        self.servers.close().await;
        self.candidates.close().await;
        self.detach_tracks().await;
        let closed = self.connection.close().await;
        // This comes last because the stack releases a relay through its stream.
        self.streams.close().await;
        closed
    }

    /// Returns the servers with only the URIs that the stack can use: STUN, TURN over UDP, and a
    /// bridge for each TURN server over TCP or TLS.
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
                // The stack would refuse the whole configuration for one unreadable URI.
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

/// Returns the interceptors of a connection, from the wire to the application, and registers their
/// feedback messages and header extensions.
///
/// [`Retransmissions`] replaces the stack's NACK generator.
fn interceptors(engine: &mut MediaEngine, formats: Formats, tap: Tap) -> Result<Registry> {
    for parameter in ["", "pli"] {
        let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: parameter.to_owned() };
        engine.register_feedback(feedback, RtpCodecKind::Video);
    }
    configure_simulcast_extension_headers(engine)?;
    let registry = Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::NackGenerator, Retransmissions::new(formats))
        // The tap passes no RTP on, so it is the closest to the application.
        .with(Slot::from(20_000), tap);
    let registry = configure_twcc_receiver_only(registry, engine)?;
    Ok(configure_rtcp_reports(registry))
}

fn is_turn_udp(uri: &str) -> bool {
    Url::parse_url(uri)
        .is_ok_and(|url| url.scheme == SchemeType::Turn && url.proto == ProtoType::Udp)
}

/// Returns whether this URI is of a TURN server.
pub(crate) fn is_turn(uri: &str) -> bool {
    is_turn_udp(uri) || is_turn_stream(uri)
}

#[cfg(test)]
mod tests;
