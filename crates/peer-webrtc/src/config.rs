//! The configuration of a viewer's peer connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use negotiation_core::{Failure, FailureCode, MediaKind};

use crate::codec::Codec;
use crate::local::{LocalSource, LocalTrack, Otherwise, Unavailable};
use crate::remote::RemoteAddresses;
use crate::resolver::Resolver;
use crate::stack::{IcePolicy, Mdns, StackConfig, bind_addresses};
use crate::turn_stream::{Authorities, Detour};

/// How one kind of media is negotiated.
#[derive(Clone, Debug, Default)]
pub enum Media {
    /// Does not offer this kind.
    Off,
    /// Receives only.
    #[default]
    RecvOnly,
    /// Receives, and sends this track, which the application keeps.
    SendRecv(Arc<LocalTrack>),
    /// Receives, and sends the track of this source: a device that may be absent.
    SendFrom(Arc<dyn LocalSource>, Otherwise),
}

impl Media {
    /// Returns the setting after requesting the track from its source.
    pub(crate) async fn requested(
        self,
        kind: MediaKind,
        codecs: &[Codec],
    ) -> Result<Self, Failure> {
        let Self::SendFrom(source, otherwise) = self else { return Ok(self) };
        let Unavailable(reason) = match source.track().await {
            Ok(track) if track.kind() == kind && codecs.contains(&track.codec()) => {
                return Ok(Self::SendRecv(track));
            }
            Ok(track) => {
                Unavailable(format!("{:?} is none of its codecs of {kind:?}", track.codec()))
            }
            Err(unavailable) => unavailable,
        };
        match otherwise {
            Otherwise::RecvOnly => {
                tracing::warn!(?kind, reason, "there is no local track: nothing is sent");
                Ok(Self::RecvOnly)
            }
            Otherwise::End => Err(Failure::new(FailureCode::LocalMedia, reason)),
        }
    }
}

/// The configuration of a [`crate::WebRtcPeer`].
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Video.
    pub video: Media,
    /// Audio.
    pub audio: Media,
    /// Whether to open a data channel named `kvsDataChannel`, as the KVS SDKs do. Its end is the
    /// earliest sign that the master has left, so it is on by default.
    pub data_channel: bool,
    /// The codecs of both kinds, in order of preference.
    pub codecs: Vec<Codec>,
    /// The ICE candidates to use: all, or relayed ones only.
    pub policy: IcePolicy,
    /// The master's addresses that are checked.
    pub remote_addresses: RemoteAddresses,
    /// The host name and port of the signaling service. If the name resolves to loopback addresses
    /// only, [`RemoteAddresses::Network`] becomes [`RemoteAddresses::Any`]: the camera may then
    /// run on this machine too.
    pub service: Option<(String, u16)>,
    /// How host names of STUN and TURN servers are resolved.
    pub resolver: Resolver,
    /// How mDNS names in candidates are handled.
    pub mdns: Mdns,
    /// The addresses to bind, as `IP:PORT`; see [`bind_addresses`].
    pub bind: Vec<String>,
    /// The certificate authorities to trust for TURN over TLS.
    pub authorities: Authorities,
    /// The route to TURN servers over TCP and TLS, such as an HTTP proxy; `None` connects
    /// directly.
    pub detour: Option<Detour>,
    /// Media counts as stalled after this long without a packet.
    pub stall_after: Duration,
    /// The longest DTLS handshake after ICE has connected.
    pub handshake_limit: Duration,
    /// The most RTP packets that wait for the peer connection's task, and the most frames that
    /// wait for the application.
    pub media_queue: usize,
    /// The most bytes of frames that wait for the application.
    pub media_bytes_max: usize,
    /// Whether the application gets each packet ([`MediaEvent::Rtp`](crate::MediaEvent::Rtp)) in
    /// addition to the frames.
    pub rtp_events: bool,
}

impl PeerConfig {
    /// Creates a configuration that receives video and audio. `loopback` states that the service
    /// runs on this machine.
    pub fn new(loopback: bool) -> Self {
        Self {
            video: Media::RecvOnly,
            audio: Media::RecvOnly,
            data_channel: true,
            codecs: vec![
                Codec::H264,
                Codec::Vp8,
                Codec::Vp9,
                Codec::Opus,
                Codec::Pcmu,
                Codec::Pcma,
            ],
            policy: IcePolicy::All,
            remote_addresses: match loopback {
                true => RemoteAddresses::Any,
                false => RemoteAddresses::Network,
            },
            service: None,
            resolver: Resolver::system(),
            mdns: Mdns::Ignore,
            bind: bind_addresses(loopback),
            authorities: Authorities::system(),
            detour: None,
            stall_after: Duration::from_secs(2),
            // Allows several DTLS retransmissions, and is within a session's limit for the whole
            // connection.
            handshake_limit: Duration::from_secs(10),
            // Two seconds of a stream of 20 Mbit/s.
            media_queue: 4096,
            // Holds several of the largest frames, or six seconds of such a stream.
            media_bytes_max: 16 << 20,
            rtp_events: false,
        }
    }

    /// # Errors
    /// Names the field with an invalid value.
    pub(crate) fn check(&self) -> Result<(), InvalidPeerConfig> {
        for (kind, media) in [(MediaKind::Video, &self.video), (MediaKind::Audio, &self.audio)] {
            let usable = self.codecs.iter().any(|codec| codec.kind() == kind);
            match media {
                Media::Off => {}
                // The track of a source is checked when the source provides it.
                Media::RecvOnly | Media::SendFrom(..) if usable => {}
                Media::SendRecv(track) if track.kind() != kind => {
                    return Err(InvalidPeerConfig::TrackKind(kind));
                }
                Media::SendRecv(track) if self.codecs.contains(&track.codec()) => {}
                Media::RecvOnly | Media::SendRecv(_) | Media::SendFrom(..) => {
                    return Err(InvalidPeerConfig::NoCodec(kind));
                }
            }
        }
        if matches!((&self.video, &self.audio), (Media::Off, Media::Off)) && !self.data_channel {
            return Err(InvalidPeerConfig::Nothing);
        }
        if self.media_queue == 0 {
            return Err(InvalidPeerConfig::MediaQueue);
        }
        if self.bind.is_empty() {
            return Err(InvalidPeerConfig::Bind);
        }
        Ok(())
    }

    pub(crate) fn stack(&self) -> StackConfig {
        StackConfig {
            codecs: self.codecs.clone(),
            bind: self.bind.clone(),
            policy: self.policy,
            mdns: self.mdns,
            authorities: self.authorities.clone(),
            detour: self.detour.clone(),
            media_queue: self.media_queue,
            rtx: true,
        }
    }
}

/// An invalid configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPeerConfig {
    /// `codecs` has no codec of this kind, or lacks the codec of the track to send.
    NoCodec(MediaKind),
    /// The track to send is of another kind than this one.
    TrackKind(MediaKind),
    /// `video`, `audio` and `data_channel` are all off.
    Nothing,
    /// `media_queue` is 0.
    MediaQueue,
    /// `bind` is empty.
    Bind,
}

impl fmt::Display for InvalidPeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCodec(kind) => write!(f, "codecs: none for {kind:?}"),
            Self::TrackKind(kind) => write!(f, "{kind:?}: the track to send is of another kind"),
            Self::Nothing => f.write_str("video, audio and data_channel: all are off"),
            Self::MediaQueue => f.write_str("media_queue: must be at least 1"),
            Self::Bind => f.write_str("bind: needs at least one address"),
        }
    }
}

impl std::error::Error for InvalidPeerConfig {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_config_field_is_named_in_error() {
        let check = |change: fn(&mut PeerConfig)| {
            let mut config = PeerConfig::new(true);
            change(&mut config);
            config.check()
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(
            check(|c| c.codecs = vec![Codec::Vp8]),
            Err(InvalidPeerConfig::NoCodec(MediaKind::Audio))
        );
        assert_eq!(
            check(|c| c.audio = Media::SendRecv(LocalTrack::new(Codec::H264, "s", "t"))),
            Err(InvalidPeerConfig::TrackKind(MediaKind::Audio))
        );
        assert_eq!(check(|c| c.bind.clear()), Err(InvalidPeerConfig::Bind));
        let nothing = |c: &mut PeerConfig| {
            c.video = Media::Off;
            c.audio = Media::Off;
            c.data_channel = false;
        };
        assert_eq!(check(nothing), Err(InvalidPeerConfig::Nothing));
    }
}
