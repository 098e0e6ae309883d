//! Why a recording cannot begin or go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::container::Container;
use encoded_frames::Codec;

/// Why a recording cannot begin or continue. Cloning keeps the cause, since a failed recorder
/// returns the same error from all later calls.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A file with that name exists; it is never overwritten.
    #[error("{} exists already; name another file or remove it", .0.display())]
    AlreadyExists(PathBuf),
    /// The directory for the file does not exist.
    #[error("the directory {} does not exist; create it or name another file", .0.display())]
    ParentMissing(PathBuf),
    /// The parent path of the file is not a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The file's name does not name a container.
    #[error("{} does not name a container; end the name in .mp4 or .m4v (H.264), .webm (VP8, VP9), .mkv (any), .ts (H.264) or .h264", .0.display())]
    UnknownExtension(PathBuf),
    /// The container cannot be written as media arrives.
    #[error("{0} cannot be written live: choose Matroska, WebM, MPEG-TS or H.264")]
    NotLive(Container),
    /// A recording needs a file, and this is a pipe, a device or standard output.
    #[error("{path} is not a file: write live media there, with --output {path}", path = .0.display())]
    NotAFile(PathBuf),
    /// Standard output is a terminal, which shows no media.
    #[error("standard output is a terminal: pipe it into a player, as in `... | mpv -`")]
    Terminal,
    /// No program opened the named pipe for reading, so nothing was written.
    #[error("{} had no reader", .0.display())]
    NoReader(PathBuf),
    /// The program that read the live stream closed its end, or has ended.
    #[error("the reader of {} closed it", .0.display())]
    ReaderClosed(PathBuf),
    /// The container cannot hold the codec.
    #[error("the camera sends {codec}: record to {fix}")]
    CodecNotSupported {
        /// The codec of the received media.
        codec: Codec,
        /// The container that the file's name requests.
        container: Container,
        /// The file extensions of containers that support the codec.
        fix: &'static str,
    },
    /// The recording already has a track of that kind with another codec.
    #[error("the camera sends {0} now, and the recording began with another codec")]
    CodecChanged(Codec),
    /// The header is already written and has no space for the track.
    #[error("the recording began without {0}, and its head has no room for it any more")]
    TrackTooLate(Codec),
    /// The track was never added.
    #[error("there is no such track in this recording")]
    UnknownTrack,
    /// The disk is full. The media recorded before remains playable.
    #[error("the disk is full; the recording in {} ends here, and plays up to here", .0.display())]
    DiskFull(PathBuf),
    /// The file cannot be created or written.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// The container cannot represent a frame; the text contains the reason.
    #[error("the recording cannot go on: {0}")]
    Container(String),
    /// No playable media arrived; there is no file.
    #[error("nothing was recorded: no whole keyframe and no sound came in")]
    NothingRecorded,
    /// Video was expected but only audio arrived; the file was removed.
    #[error("no picture came in; the file with the sound alone was removed")]
    NoPicture,
    /// The recorder's thread has ended.
    #[error("the recorder has ended")]
    Ended,
}

impl RecordError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let kind = source.kind();
        if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            Self::DiskFull(path.to_owned())
        } else if kind == ErrorKind::BrokenPipe {
            Self::ReaderClosed(path.to_owned())
        } else if kind == ErrorKind::AlreadyExists {
            Self::AlreadyExists(path.to_owned())
        } else {
            Self::Io { path: path.to_owned(), source: Arc::new(source) }
        }
    }
}
