//! Why a camera does not start.

use std::path::PathBuf;

use negotiation_core::Failure;

/// Why a camera does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CameraError {
    /// A setting that cannot work.
    #[error("{field}: {problem}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The signaling configuration cannot work.
    #[error(transparent)]
    Signaling(#[from] signaling_aws::ConfigError),
    /// The clip cannot be sent.
    #[error(transparent)]
    Clip(#[from] recording::ClipError),
    /// The frame log, or the ready file, cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The channel could not be created or connected to.
    #[error("the camera cannot connect: {0}")]
    Connect(Failure),
}
