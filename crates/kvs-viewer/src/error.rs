//! The error for an invalid option.

use std::fmt;

use negotiation_core::MediaKind;

/// An option that cannot work; no connection was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidOption {
    /// The option, as the name of its method on [`crate::ViewerBuilder`].
    pub option: &'static str,
    /// The reason, as a part of a sentence after the option's name.
    pub reason: String,
}

impl InvalidOption {
    pub(crate) fn new(option: &'static str, reason: impl Into<String>) -> Self {
        Self { option, reason: reason.into() }
    }
}

impl fmt::Display for InvalidOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.option, self.reason)
    }
}

impl std::error::Error for InvalidOption {}

impl From<signaling_aws::ConfigError> for InvalidOption {
    fn from(error: signaling_aws::ConfigError) -> Self {
        let (option, text) = (error.field.as_str(), error.to_string());
        let reason = text.strip_prefix(option).and_then(|rest| rest.strip_prefix(": "));
        Self::new(option, reason.unwrap_or(&text))
    }
}

impl From<peer_webrtc::InvalidPeerConfig> for InvalidOption {
    fn from(error: peer_webrtc::InvalidPeerConfig) -> Self {
        use peer_webrtc::InvalidPeerConfig as Invalid;
        let (option, reason) = match error {
            Invalid::NoCodec(kind) => ("codecs", format!("there is none for {kind:?}")),
            Invalid::TrackKind(MediaKind::Video) => ("video", "the track carries audio".into()),
            Invalid::TrackKind(MediaKind::Audio) => ("audio", "the track carries video".into()),
            Invalid::TrackKind(MediaKind::Data) => ("video", "the track carries no media".into()),
            Invalid::Nothing => ("video", "video, audio and data are all off".into()),
            Invalid::MediaQueue => ("queue_bytes", "must be at least 1".into()),
            Invalid::Bind => ("bind", "needs at least one address".into()),
        };
        Self::new(option, reason)
    }
}
