//! The media of one viewer: converts the encoder's units to packets of its two tracks.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use peer_webrtc::{Codec, LocalTrack, NotAttached};
use recording::{Clip, Packetizer, PacketizerConfig};

use crate::config::peer_codec;
use crate::playback::{Unit, UnitKind};

/// The tracks of one viewer. A stream starts with a keyframe, also after a gap.
pub(crate) struct Outlet {
    video: Option<Stream>,
    audio: Option<Stream>,
    in_sync: bool,
}

struct Stream {
    track: Arc<LocalTrack>,
    codec: recording::Codec,
    /// Created when the payload type is negotiated.
    packetizer: Option<Packetizer>,
    /// The RTP timestamp of the stream's time zero (RFC 3550, 5.1: random).
    rtp_base: u32,
}

impl Outlet {
    /// Creates tracks for the media that both the clip and the viewer have; `rtx` resends video on
    /// a separate stream.
    pub(crate) fn new(clip: &Clip, wants_video: bool, wants_audio: bool, rtx: bool) -> Self {
        let video = clip.video().filter(|_| wants_video).map(|track| {
            let make = if rtx { LocalTrack::with_rtx } else { LocalTrack::new };
            let local = make(peer_codec(track.codec), "kvs-camera", "video");
            Stream::new(local, recording::Codec::Video(track.codec))
        });
        let audio = clip.audio().filter(|_| wants_audio).map(|track| {
            let local = LocalTrack::new(Codec::Opus, "kvs-camera", "audio");
            Stream::new(local, recording::Codec::Audio(track.codec))
        });
        Self { video, audio, in_sync: false }
    }

    /// Returns the tracks to attach to the peer connection.
    pub(crate) fn tracks(&self) -> impl Iterator<Item = &Arc<LocalTrack>> {
        self.video.iter().chain(&self.audio).map(|stream| &stream.track)
    }

    /// Records a gap: the next frame sent must be a keyframe.
    pub(crate) fn lost_sync(&mut self) {
        self.in_sync = false;
    }

    /// Sends a unit if it is decodable after the ones sent before. Returns the RTP timestamp of a
    /// sent video frame.
    pub(crate) async fn send(&mut self, unit: &Unit) -> Result<Option<u32>, NotAttached> {
        let sends_video =
            self.video.as_ref().is_some_and(|stream| stream.track.payload_type().is_some());
        let stream = match unit.kind {
            UnitKind::Video => {
                self.in_sync |= unit.keyframe;
                &mut self.video
            }
            UnitKind::Audio => &mut self.audio,
        };
        let Some(stream) = stream.as_mut().filter(|_| self.in_sync || !sends_video) else {
            return Ok(None);
        };
        let timestamp = stream.send(unit).await?;
        Ok(timestamp.filter(|_| unit.kind == UnitKind::Video))
    }
}

impl Stream {
    fn new(track: Arc<LocalTrack>, codec: recording::Codec) -> Self {
        Self { track, codec, packetizer: None, rtp_base: random() }
    }

    /// Sends a unit. Returns `None` if the viewer does not receive this kind of media.
    async fn send(&mut self, unit: &Unit) -> Result<Option<u32>, NotAttached> {
        let Some(payload_type) = self.track.payload_type() else { return Ok(None) };
        let packetizer = self.packetizer.get_or_insert_with(|| {
            let first = u16::try_from(random() >> 16).unwrap_or_default();
            let config = PacketizerConfig::new(self.track.ssrc(), payload_type, first);
            Packetizer::new(self.codec, config)
        });
        let timestamp = self.rtp_base.wrapping_add(unit.at.rtp_ticks(self.codec.clock_rate()));
        let packets = match packetizer.packetize(&unit.data, timestamp) {
            Ok(packets) => packets,
            Err(error) => {
                tracing::warn!(%error, "a frame is left out");
                return Ok(None);
            }
        };
        for packet in packets {
            self.track.send(packet).await?;
        }
        Ok(Some(timestamp))
    }
}

fn random() -> u32 {
    // The standard library seeds its hashers from the system's entropy.
    u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default()
}
