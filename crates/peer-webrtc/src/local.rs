//! Tracks that the application sends.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use negotiation_core::MediaKind;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters,
};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::codec::{Codec, rtp_kind};

/// Marks that no payload type was negotiated.
const NONE: u16 = u16::MAX;

/// A track that the application sends. Peer connections attach and detach it, and none ends it.
///
/// It is attached to one peer connection at a time: a second one detaches it from the first.
pub struct LocalTrack {
    track: Arc<TrackLocalStaticRTP>,
    codec: Codec,
    ssrc: u32,
    payload_type: AtomicU16,
}

impl LocalTrack {
    /// Creates a track of one codec, named `label` in the description. The `stream` id groups
    /// tracks to be played in sync.
    pub fn new(codec: Codec, stream: &str, label: &str) -> Arc<Self> {
        Self::made(codec, stream, label, None)
    }

    /// Creates a track like [`Self::new`] that resends packets on a separate retransmission stream
    /// (RFC 4588) where that is negotiated, as GStreamer does. Other tracks resend on the media
    /// stream itself.
    pub fn with_rtx(codec: Codec, stream: &str, label: &str) -> Arc<Self> {
        Self::made(codec, stream, label, Some(RTCRtpRtxParameters { ssrc: random_ssrc() }))
    }

    fn made(
        codec: Codec,
        stream: &str,
        label: &str,
        rtx: Option<RTCRtpRtxParameters>,
    ) -> Arc<Self> {
        let ssrc = random_ssrc();
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx,
                ..RTCRtpCodingParameters::default()
            },
            active: true,
            codec: codec.rtp_codec(),
            ..RTCRtpEncodingParameters::default()
        };
        let track = MediaStreamTrack::new(
            stream.to_owned(),
            label.to_owned(),
            label.to_owned(),
            rtp_kind(codec.kind()),
            vec![coding],
        );
        Arc::new(Self {
            track: Arc::new(TrackLocalStaticRTP::new(track)),
            codec,
            ssrc,
            payload_type: AtomicU16::new(NONE),
        })
    }

    /// Returns the codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Returns whether the track is video or audio.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// Returns the SSRC of its packets.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Returns the negotiated payload type.
    pub fn payload_type(&self) -> Option<u8> {
        u8::try_from(self.payload_type.load(Ordering::Acquire)).ok()
    }

    /// Sends a packet, with SSRC and payload type filled in. Waits while the peer's queue is full.
    ///
    /// # Errors
    /// No peer connection that agreed to receive the track has it attached.
    pub async fn send(&self, mut packet: rtc::rtp::Packet) -> Result<(), NotAttached> {
        let payload_type = self.payload_type().ok_or(NotAttached)?;
        packet.header.ssrc = self.ssrc;
        packet.header.payload_type = payload_type;
        self.track.write_rtp(packet).await.map_err(|_| NotAttached)
    }

    pub(crate) fn track(&self) -> Arc<dyn TrackLocal> {
        Arc::clone(&self.track) as Arc<dyn TrackLocal>
    }

    pub(crate) fn agree_on(&self, payload_type: Option<u8>) {
        self.payload_type.store(payload_type.map_or(NONE, u16::from), Ordering::Release);
    }

    /// Detaches the track from its peer connection. The track itself remains usable.
    pub(crate) async fn detach(&self) {
        self.agree_on(None);
        self.track.unbind().await;
    }
}

impl std::fmt::Debug for LocalTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalTrack")
            .field("codec", &self.codec)
            .field("ssrc", &self.ssrc)
            .field("payload_type", &self.payload_type())
            .finish()
    }
}

/// A source of a local track that may be absent: a camera, a microphone.
#[async_trait]
pub trait LocalSource: std::fmt::Debug + Send + Sync {
    /// Returns the track for the new attempt, before its offer is made; the same one each time
    /// while the device is present. It must finish within the time of one port operation: a source
    /// that needs a person's permission must request it before the session.
    ///
    /// # Errors
    /// The device is not available.
    async fn track(&self) -> Result<Arc<LocalTrack>, Unavailable>;
}

/// What an attempt does when its [`LocalSource`] has no track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// Receives only.
    RecvOnly,
    /// Ends the session ([`negotiation_core::EndReason::LocalMedia`]) before an offer is made.
    End,
}

/// Why a device is not available: no such device, no permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// The track is not attached to a peer connection that accepts its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAttached;

impl std::fmt::Display for NotAttached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the track is not attached to a peer that takes its packets")
    }
}

impl std::error::Error for NotAttached {}

/// Returns a random SSRC. It is unique enough: a session has a handful of streams (RFC 3550, 8.1).
fn random_ssrc() -> u32 {
    // RandomState is seeded from the operating system once and counts up, so each value is
    // distinct.
    let bits = RandomState::new().build_hasher().finish();
    // Some code treats zero as "not specified".
    u32::try_from(bits >> 32).unwrap_or(1).max(1)
}
