//! The exit codes, documented once: here, in `--help`, and in the README.

use kvs_camera::CameraError;
use kvs_emulator::EmulatorError;
use negotiation_core::{AttemptEnd, EndReason, Failure, FailureCode, Outcome};
use recording::RecordError;

/// The exit code of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The session was live, and the user or `--duration` closed it.
    Ok = 0,
    /// An internal error.
    Internal = 1,
    /// A wrong argument, or a file, an address or an output that cannot be used.
    Usage = 2,
    /// The offer was sent but no answer arrived, or the service never sent an offer.
    NoAnswer = 3,
    /// The peer connection was established, but no media arrived.
    NoMedia = 4,
    /// The credentials are missing, wrong, expired or not allowed to do this.
    Permission = 5,
    /// The channel does not exist.
    NoChannel = 6,
    /// No network path between viewer and camera works, or the DTLS handshake failed.
    NoRoute = 7,
    /// The signaling service cannot be reached or trusted.
    Signaling = 8,
    /// The service's limit is reached: viewers, requests, or a second viewer with the same id.
    Limit = 9,
    /// Viewer and camera are incompatible.
    Incompatible = 10,
    /// The recording failed after it began: the disk is full or hangs, or the file cannot hold a
    /// codec; the media recorded so far is playable.
    RecordingFailed = 11,
    /// The recording cannot begin: the file exists, or its directory does not.
    RecordingRefused = 12,
    /// A local device or the peer stack failed.
    Local = 13,
    /// The user closed the session before it was live.
    ClosedEarly = 14,
}

/// The table of exit codes, as a literal for `concat!`.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
  0   live, and closed by you, by --duration or by the reader of --output
  1   something that should not happen; please report it
  2   a wrong or missing argument, or a file, an address or an output that cannot be used
  3   no answer: the offer went out, the camera did not answer (or never offered)
  4   no media: connected, but no whole keyframe came
  5   permission: credentials missing, wrong, expired or not allowed
  6   no such channel in this region and account
  7   no route or no DTLS between viewer and camera
  8   the signaling service cannot be reached or trusted
  9   too many viewers or requests, or the client id is in use
  10  viewer and camera do not fit: codec, answer, storage mode; or an argument is refused
  11  the recording failed on the way (disk full, disk hangs, a codec that the file cannot hold);
      what was recorded plays
  12  the recording cannot begin: the file exists, or its folder does not
  13  a local device or the peer stack failed
  14  closed by you before it was live"
    };
}

/// Examples, and the table of exit codes, for `watch --help`.
pub(crate) const WATCH_HELP: &str = concat!(
    "\
Examples:
  kvs-viewer watch front-door --region us-west-2
  kvs-viewer watch front-door --record door.mp4 --duration 2m
  kvs-viewer watch front-door -o - | mpv --profile=low-latency -

",
    exit_codes!()
);

/// The table for `--help`.
pub const HELP: &str = exit_codes!();

impl Exit {
    /// Returns the exit code for the outcome of a session.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome.reason {
            EndReason::Closed if outcome.was_live => Self::Ok,
            EndReason::Closed => Self::ClosedEarly,
            EndReason::NoAnswer | EndReason::NoOffer => Self::NoAnswer,
            EndReason::NoMedia => Self::NoMedia,
            EndReason::AccessDenied | EndReason::ExpiredCredentials | EndReason::NoCredentials => {
                Self::Permission
            }
            EndReason::NoChannel => Self::NoChannel,
            EndReason::NoRoute | EndReason::Dtls => Self::NoRoute,
            EndReason::Signaling | EndReason::Tls => Self::Signaling,
            EndReason::ViewerLimit | EndReason::Throttled | EndReason::Replaced => Self::Limit,
            EndReason::BadAnswer
            | EndReason::IncompatibleSdp
            | EndReason::Codec
            | EndReason::StorageMode
            | EndReason::InvalidClientId => Self::Incompatible,
            EndReason::InvalidArgument if is_missing(outcome) => Self::Usage,
            EndReason::InvalidArgument => Self::Incompatible,
            EndReason::LocalMedia | EndReason::PeerFailed => Self::Local,
        }
    }

    /// Returns the exit code for a recording that could not begin.
    pub fn refused(error: &RecordError) -> Self {
        let is_wrong_argument = matches!(
            error,
            RecordError::UnknownExtension(_)
                | RecordError::NotLive(_)
                | RecordError::NotAFile(_)
                | RecordError::Terminal
        );
        if is_wrong_argument { Self::Usage } else { Self::RecordingRefused }
    }

    /// Returns the exit code for a failure of the service outside a session.
    fn of_failure(failure: &Failure) -> Self {
        match failure.code {
            FailureCode::AccessDenied
            | FailureCode::ExpiredCredentials
            | FailureCode::NoCredentials => Self::Permission,
            FailureCode::NoChannel => Self::NoChannel,
            FailureCode::ViewerLimit | FailureCode::Throttled | FailureCode::Replaced => {
                Self::Limit
            }
            FailureCode::InvalidArgument if failure.api_name.is_none() => Self::Usage,
            FailureCode::InvalidClientId
            | FailureCode::InvalidArgument
            | FailureCode::StorageMode
            | FailureCode::TooBig
            | FailureCode::BadDescription
            | FailureCode::Codec => Self::Incompatible,
            FailureCode::Dns
            | FailureCode::Network
            | FailureCode::Tls
            | FailureCode::Service
            | FailureCode::TimedOut
            | FailureCode::Closed
            | FailureCode::NotOpen => Self::Signaling,
            FailureCode::AddressPolicy => Self::NoRoute,
            FailureCode::LocalMedia | FailureCode::Port | FailureCode::Cancelled => Self::Local,
        }
    }

    /// Returns the exit code for the error that ended a camera.
    pub fn of_camera(error: &CameraError) -> Self {
        match error {
            CameraError::Setting { .. }
            | CameraError::Signaling(_)
            | CameraError::Clip(_)
            | CameraError::File { .. } => Self::Usage,
            CameraError::Connect(failure) => Self::of_failure(failure),
            CameraError::Displaced { .. } => Self::Limit,
            _ => Self::Local,
        }
    }

    /// Returns the exit code for the error that ended an emulator.
    pub fn of_emulator(error: &EmulatorError) -> Self {
        let argument = matches!(
            error,
            EmulatorError::Setting { .. }
                | EmulatorError::Listen { .. }
                | EmulatorError::Tls(_)
                | EmulatorError::File { .. }
        );
        if argument { Self::Usage } else { Self::Local }
    }

    /// Returns the exit code as a number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Whether an argument was found invalid before any request, for example a missing region. Errors
/// of the service have an API name instead.
fn is_missing(outcome: &Outcome) -> bool {
    outcome.attempts.last().is_some_and(|attempt| {
        matches!(&attempt.end, AttemptEnd::Connect(failure) if failure.api_name.is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        for code in 0..=14 {
            let line = format!("\n  {code:<3} ");
            assert!(HELP.contains(&line), "{code} is missing from the help");
        }
    }
}
