//! The log of sent frames, for tests that compare it with the received ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::CameraError;

/// The destination of the records of sent frames.
#[derive(Clone, Debug, Default)]
pub enum FrameLog {
    /// Records nothing.
    #[default]
    Off,
    /// A file with one JSON object a line; an existing file is replaced.
    File(PathBuf),
    /// A channel. Records are lost while it is full.
    Channel(mpsc::Sender<FrameRecord>),
}

/// The most records that wait for the disk.
const WAITING_MAX: usize = 4096;

/// A video frame that was passed to a connected viewer's peer connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrameRecord {
    /// The viewer.
    pub client_id: String,
    /// Its session; a viewer that returns has another.
    pub session: u64,
    /// The frame's index in the clip; the bundled clips show it in the picture.
    pub frame: u64,
    /// Whether it is a keyframe.
    pub keyframe: bool,
    /// The time in milliseconds since the camera started.
    pub t_ms: u64,
    /// When, in milliseconds since the Unix epoch, to measure how long it takes to a reader.
    pub unix_ms: u64,
    /// Its RTP timestamp.
    pub rtp_ts: u32,
}

/// Accepts records, and drops what does not fit.
#[derive(Clone)]
pub(crate) struct FrameSink {
    to: Option<mpsc::Sender<FrameRecord>>,
}

impl FrameSink {
    pub(crate) fn record(&self, record: impl FnOnce() -> FrameRecord) {
        let Some(to) = &self.to else { return };
        if to.try_send(record()).is_err() {
            tracing::debug!("a frame's record was lost: its reader is gone");
        }
    }
}

/// Opens the log. The task, if there is one, ends when the last sink is dropped; the file then
/// contains all records.
pub(crate) fn open(log: &FrameLog) -> Result<(FrameSink, Option<JoinHandle<()>>), CameraError> {
    let path = match log {
        FrameLog::Off => return Ok((FrameSink { to: None }, None)),
        FrameLog::Channel(to) => return Ok((FrameSink { to: Some(to.clone()) }, None)),
        FrameLog::File(path) => path,
    };
    let file =
        File::create(path).map_err(|source| CameraError::File { path: path.clone(), source })?;
    let (to, records) = mpsc::channel(WAITING_MAX);
    let path = path.clone();
    let task = tokio::task::spawn_blocking(move || {
        if let Err(error) = write(file, records) {
            tracing::warn!("the frame log ends: {}", described(&path, &error));
        }
    });
    Ok((FrameSink { to: Some(to) }, Some(task)))
}

fn write(file: File, mut records: mpsc::Receiver<FrameRecord>) -> std::io::Result<()> {
    let mut file = BufWriter::new(file);
    while let Some(record) = records.blocking_recv() {
        serde_json::to_writer(&mut file, &record)?;
        file.write_all(b"\n")?;
        // A camera that is killed loses at most the current line.
        if records.is_empty() {
            file.flush()?;
        }
    }
    file.flush()
}

fn described(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_become_lines() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("frames.jsonl");
        let (sink, task) = open(&FrameLog::File(path.clone())).expect("opens");
        for frame in 0..3 {
            sink.record(|| FrameRecord {
                client_id: "v".to_owned(),
                session: 1,
                unix_ms: 0,
                frame,
                keyframe: frame == 0,
                t_ms: frame * 66,
                rtp_ts: 7,
            });
        }
        drop(sink);
        task.expect("writes").await.expect("ends");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            text.lines().next(),
            Some(
                r#"{"client_id":"v","session":1,"frame":0,"keyframe":true,"t_ms":0,"unix_ms":0,"rtp_ts":7}"#
            )
        );
    }

    #[test]
    fn log_that_cannot_be_written_is_refused() {
        let log = FrameLog::File("/nowhere/frames.jsonl".into());
        assert!(matches!(open(&log), Err(CameraError::File { .. })));
    }
}
