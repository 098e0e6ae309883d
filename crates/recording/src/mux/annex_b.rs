//! An H.264 byte stream (ITU-T H.264, Annex B): the video alone, without times.

use encoded_frames::h264::annex_b;

use super::{FileInfo, Finished, Muxer, Patch, Sample, TrackSpec};
use crate::error::RecordError;

/// Writes each picture with its start codes. A keyframe begins with its parameter sets.
#[derive(Debug, Default)]
pub(super) struct AnnexBMuxer;

impl Muxer for AnnexBMuxer {
    fn head(
        &mut self,
        _info: &FileInfo,
        _tracks: &[TrackSpec],
        _room: bool,
    ) -> Result<Vec<u8>, RecordError> {
        Ok(Vec::new())
    }

    fn add_track(&mut self, track: &TrackSpec) -> Result<Vec<Patch>, RecordError> {
        Err(RecordError::TrackTooLate(track.codec))
    }

    fn fragment(&mut self, _offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        Ok(tracks.iter().flatten().flat_map(|sample| annex_b(&sample.data)).collect())
    }

    fn index(&mut self, _offset: u64) -> Result<Vec<u8>, RecordError> {
        Ok(Vec::new())
    }

    fn patches(&self, _finished: &Finished) -> Result<Vec<Patch>, RecordError> {
        Ok(Vec::new())
    }
}
