//! The reasons why a camera does not start.

use std::path::PathBuf;

use negotiation_core::{Failure, FailureCode};
use recording::{ClipError, ClipProblem};

/// The reason why a camera does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// A setting is invalid.
    #[error("{field}: {problem}")]
    Setting {
        /// The setting's name.
        field: &'static str,
        /// What is wrong with it, and a valid value.
        problem: String,
    },
    /// The signaling configuration is invalid.
    #[error(transparent)]
    Signaling(#[from] signaling_aws::ConfigError),
    /// The clip cannot be sent.
    #[error("{clip}{hint}", clip = .0, hint = silence_hint(.0))]
    Clip(#[from] ClipError),
    /// The frame log, or the ready file, cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The channel could not be created or connected to.
    #[error("the camera cannot connect: {failure}{hint}", failure = .0, hint = create_hint(.0))]
    Connect(Failure),
    /// Another master connected to the channel repeatedly: two cameras have the same channel.
    #[error(
        "another master took this channel {times} times within seconds: stop the other camera, or \
         give this one a channel of its own"
    )]
    Displaced {
        /// The number of displacements in a row.
        times: u32,
    },
}

fn create_hint(failure: &Failure) -> &'static str {
    if failure.code == FailureCode::NoChannel { "; --create-channel creates it" } else { "" }
}

fn silence_hint(error: &ClipError) -> &'static str {
    let is_sound = |problem: &ClipProblem| matches!(problem, ClipProblem::AudioCodec(_));
    if let ClipError::Unsuitable { problems, .. } = error
        && problems.iter().all(is_sound)
    {
        return "\nor send it without sound: --no-audio";
    }
    ""
}
