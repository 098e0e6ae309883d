//! The settings of a camera, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use peer_webrtc::Authorities;
use recording::{Clip, ClipKind, VideoCodec};
use signaling_aws::SignalingConfig;

use crate::error::CameraError;
use crate::frame_log::FrameLog;

/// The configuration of a camera.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// The channel, and how to reach it. The client id is not used: a master has none.
    pub signaling: SignalingConfig,
    /// The media to send.
    pub source: Source,
    /// Whether the source's audio is sent. Without it the audio may have any codec.
    pub audio: bool,
    /// Whether lost video packets are resent on a retransmission stream (RTX, RFC 4588) if the
    /// viewer offers one, as GStreamer's sink does. Otherwise they are resent on the media stream,
    /// as the C SDK does.
    pub rtx: bool,
    /// Whether to send to the channel's storage session, where the service offers instead of a
    /// viewer, and serve no viewers. Experimental: not tested against AWS.
    pub storage_session: bool,
    /// The handling of an offer from a client id that has a session.
    pub behaviour: Behaviour,
    /// Whether candidates are sent after the answer or in it.
    pub trickle: Trickle,
    /// The delay before an offer is read.
    pub answer_delay: Duration,
    /// The time after its answer at which a session that is not connected is dropped.
    pub connect_timeout: Duration,
    /// How long a viewer may be out of reach, after ICE noticed, before it counts as vanished.
    pub disconnect_timeout: Duration,
    /// The most sessions at a time; further offers are not answered.
    pub sessions_max: usize,
    /// Whether loopback addresses are candidates. `None` means only if the endpoint is on
    /// loopback.
    pub loopback: Option<bool>,
    /// The certificate authorities to trust for TURN over TLS.
    pub authorities: Authorities,
    /// The destination of the records of sent frames.
    pub frame_log: FrameLog,
    /// Whether to create the channel if it does not exist.
    pub create_channel: bool,
}

/// The media that a camera sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A bundled clip: a minute with a frame counter and a clock.
    Bundled(ClipKind),
    /// An MP4, MOV, WebM or Matroska file with H.264, VP8 or VP9, and Opus.
    File(PathBuf),
}

/// The handling of an offer from a client id that has a session; each variant is the behaviour of
/// a real master.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Closes the session and answers the offer with a new one (the JavaScript SDK's sample).
    #[default]
    Replace,
    /// Ignores the offer while the id has a session, without a reply (the C SDK's sample).
    IgnoreRepeated,
    /// Answers on the existing connection, including ICE restarts, if the offer comes from the
    /// same peer connection (a browser page that keeps its connection); otherwise replaces the
    /// session.
    Renegotiate,
    /// Works as [`Behaviour::IgnoreRepeated`]; also, if the viewer vanished without closing, the
    /// id stays taken for this long (GStreamer's sink).
    Linger(Duration),
}

/// The time at which candidates are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trickle {
    /// Each when it is found, after the answer.
    #[default]
    Always,
    /// After the answer if the offer has `a=ice-options:trickle`, otherwise in the answer (the C
    /// SDK).
    WhenOffered,
    /// In the answer, which waits for them.
    Never,
}

impl CameraConfig {
    /// Creates a configuration with the bundled H.264 clip and the defaults of the C SDK's sample.
    pub fn new(signaling: SignalingConfig) -> Self {
        Self {
            signaling,
            source: Source::Bundled(ClipKind::H264Opus),
            audio: true,
            rtx: false,
            storage_session: false,
            behaviour: Behaviour::default(),
            trickle: Trickle::default(),
            answer_delay: Duration::ZERO,
            // Measured on the C SDK's master: a session that never connects is free after 13 s,
            // one with a vanished viewer after 30 s, of which ICE needs 2 s to notice here.
            connect_timeout: Duration::from_secs(13),
            disconnect_timeout: Duration::from_secs(28),
            sessions_max: 10,
            loopback: None,
            authorities: Authorities::system(),
            frame_log: FrameLog::Off,
            create_channel: false,
        }
    }

    /// Reads the source and checks the settings; names the invalid field. Blocks on the file.
    pub(crate) fn open_source(&self) -> Result<Clip, CameraError> {
        let longest = Duration::from_secs(3600);
        for (field, value, least) in [
            ("answer_delay", self.answer_delay, Duration::ZERO),
            ("connect_timeout", self.connect_timeout, Duration::from_millis(100)),
            ("disconnect_timeout", self.disconnect_timeout, Duration::ZERO),
        ] {
            if value < least || value > longest {
                return Err(CameraError::Setting {
                    field,
                    problem: format!("must be between {least:?} and {longest:?}, not {value:?}"),
                });
            }
        }
        if let Behaviour::Linger(rest) = self.behaviour
            && rest > longest
        {
            return Err(CameraError::Setting {
                field: "behaviour",
                problem: format!("an id lingers for at most {longest:?}, not {rest:?}"),
            });
        }
        if !(1..=1000).contains(&self.sessions_max) {
            return Err(CameraError::Setting {
                field: "sessions_max",
                problem: format!("must be between 1 and 1000, not {}", self.sessions_max),
            });
        }
        Ok(match &self.source {
            Source::Bundled(kind) if self.audio => Clip::bundled(*kind)?,
            Source::Bundled(kind) => Clip::bundled(*kind)?.without_audio(),
            Source::File(path) if self.audio => Clip::open(path)?,
            Source::File(path) => Clip::open_video(path)?,
        })
    }
}

/// Converts a clip's video codec to the peer connection's type.
pub(crate) fn peer_codec(codec: VideoCodec) -> peer_webrtc::Codec {
    match codec {
        VideoCodec::H264 => peer_webrtc::Codec::H264,
        VideoCodec::Vp8 => peer_webrtc::Codec::Vp8,
        VideoCodec::Vp9 => peer_webrtc::Codec::Vp9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CameraConfig {
        CameraConfig::new(SignalingConfig::builder("door").build().expect("valid"))
    }

    #[test]
    fn invalid_settings_are_named_in_error() {
        let field = |config: CameraConfig| match config.open_source() {
            Err(CameraError::Setting { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let hour = Duration::from_secs(3601);
        assert_eq!(field(CameraConfig { sessions_max: 0, ..config() }), "sessions_max");
        assert_eq!(field(CameraConfig { answer_delay: hour, ..config() }), "answer_delay");
        let never = Duration::ZERO;
        assert_eq!(field(CameraConfig { connect_timeout: never, ..config() }), "connect_timeout");
        let linger = Behaviour::Linger(hour);
        assert_eq!(field(CameraConfig { behaviour: linger, ..config() }), "behaviour");
        assert!(config().open_source().is_ok());
    }

    #[test]
    fn audio_is_omitted_when_disabled() {
        let clip = CameraConfig { audio: false, ..config() }.open_source().expect("reads");
        assert!(clip.video().is_some() && clip.audio().is_none());
    }

    #[test]
    fn file_that_cannot_be_sent_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("clip.mp4");
        let source = || Source::File(path.clone());
        let refused = |config: CameraConfig| match config.open_source() {
            Err(CameraError::Clip(error)) => error,
            other => panic!("{other:?}"),
        };
        let error = refused(CameraConfig { source: source(), ..config() });
        assert!(matches!(error, recording::ClipError::Io { .. }), "{error}");
        std::fs::write(&path, b"no container at all").expect("written");
        let error = refused(CameraConfig { source: source(), ..config() });
        assert!(matches!(error, recording::ClipError::UnknownContainer), "{error}");
    }
}
