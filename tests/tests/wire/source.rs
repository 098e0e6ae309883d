//! A stream that changes its source without signaling: in the same section, with an SSRC that no
//! description contains, as from an encoder that was restarted.

use std::sync::Arc;

use peer_webrtc::rtp::Packet;
use peer_webrtc::stack::Stack;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use webrtc::media_stream::track_local::TrackLocal as _;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use crate::frame;

/// The SSRCs of the stream. The stack sends only the SSRCs of a track's encodings, and allows
/// several of them for simulcast only. So the track has two layers from the start: one of them
/// sends, and no description mentions either layer.
const SOURCES: [u32; 2] = [0x1111_0001, 0x2222_0002];

/// The H.264 format parameters that every KVS master sends.
const FORMAT: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

pub(crate) struct Stream {
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
    /// The present SSRC.
    pub(crate) ssrc: u32,
}

impl Stream {
    pub(crate) async fn attach(stack: &Stack) -> Self {
        let codec = RTCRtpCodec {
            mime_type: "video/H264".to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: FORMAT.to_owned(),
            rtcp_feedback: Vec::new(),
        };
        let coding = |ssrc| RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                rid: format!("layer{ssrc}"),
                ssrc: Some(ssrc),
                ..RTCRtpCodingParameters::default()
            },
            active: true,
            codec: codec.clone(),
            ..RTCRtpEncodingParameters::default()
        };
        let track = MediaStreamTrack::new(
            "master".to_owned(),
            "video".to_owned(),
            "video".to_owned(),
            RtpCodecKind::Video,
            SOURCES.map(coding).to_vec(),
        );
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let sender = stack.connection().add_track(Arc::clone(&track) as _).await;
        Self { track, sender: sender.expect("attaches"), ssrc: SOURCES[0] }
    }

    /// Returns the description with only the first source.
    pub(crate) fn described(text: &str) -> String {
        let text = ["a=rid:", "a=simulcast:"]
            .iter()
            .fold(text.to_owned(), |text, start| frame::without(&text, start));
        frame::changed(&text, |line| {
            let named = line.starts_with("a=msid:master ");
            named.then(|| format!("{line}\r\na=ssrc:{} cname:master", SOURCES[0]))
        })
    }

    /// Switches to the other source.
    pub(crate) fn changes(&mut self) {
        self.ssrc = SOURCES[1];
    }

    /// Returns the negotiated payload type, if there is one.
    pub(crate) async fn payload_type(&self) -> Option<u8> {
        let parameters = self.sender.get_parameters().await.ok()?;
        let codecs = &parameters.rtp_parameters.codecs;
        let mut agreed = codecs.iter().filter(|codec| codec.rtp_codec.mime_type == "video/H264");
        agreed.next().map(|codec| codec.payload_type)
    }

    /// Sends a packet; returns `None` if that failed.
    pub(crate) async fn send(&self, packet: Packet) -> Option<()> {
        self.track.write_rtp(packet).await.ok()
    }
}
