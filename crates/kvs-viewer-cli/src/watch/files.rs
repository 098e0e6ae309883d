//! What is reported of the files that media is written to.

use negotiation_core::{MediaKind, Timestamp};
use peer_webrtc::Codec;
use recording::RecordError;
use serde_json::{Value, json};

use super::super::media::{Destination, LiveEnd, Stalled};
use super::super::report::{kind_name, recording_fields};
use super::super::spans::span;
use super::super::view::byte_size;
use super::{Show, counted};

impl Show {
    /// Media arrives that a file cannot hold.
    pub(super) fn not_written(
        &mut self,
        now: Timestamp,
        to: Destination,
        kind: MediaKind,
        codec: Codec,
        why: &RecordError,
    ) {
        let (kind, file) = (kind_name(kind), name(to));
        self.status.say(&format!("The {file} has no {kind}: {why}."));
        let reason = why.to_string();
        let fields = json!({ "kind": kind, "codec": codec.name(), "reason": reason, "file": file });
        self.reporter.line(now, "media_not_recorded", fields);
    }

    /// Says what became of the live stream, and returns it for the last event.
    pub(super) fn live_fields(&self, ended: Option<LiveEnd>) -> Value {
        match ended {
            None => Value::Null,
            Some(Err(Stalled)) => {
                self.status.say("The reader of the output did not take the rest of it.");
                json!({ "reader": "stalled" })
            }
            Some(Ok(Err(RecordError::ReaderClosed(_)))) => {
                self.status.say("The reader of the output closed it.");
                json!({ "reader": "closed" })
            }
            Some(Ok(Ok(summary))) => {
                self.status.say(&format!(
                    "Wrote {}, {}, {}: {}",
                    span(summary.duration),
                    counted(summary.video_frames, "frame"),
                    byte_size(summary.bytes),
                    summary.path.display()
                ));
                recording_fields(&summary)
            }
            Some(Ok(Err(
                error @ (RecordError::NothingRecorded
                | RecordError::NoPicture
                | RecordError::NoReader(_)),
            ))) => {
                self.status.say(&format!("Nothing was written: {error}."));
                json!({ "error": error.to_string() })
            }
            // The failure was reported when it happened.
            Some(Ok(Err(error))) => json!({ "error": error.to_string() }),
        }
    }
}

pub(super) fn name(file: Destination) -> &'static str {
    match file {
        Destination::Recording => "recording",
        Destination::Live => "output",
    }
}
