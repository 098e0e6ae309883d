//! WebM and Matroska over the elements of `webm-iterable`.
//!
//! The segment and its duration have placeholders until the end: the segment's size is "unknown", which players take as
//! "until the file ends", and the duration and the index are `Void`.

use std::collections::BTreeMap;
use std::time::Duration;

use shiguredo_mp4::Encode;
use shiguredo_mp4::bitstream::h264::{H264SampleEntryConfig, LengthSize, build_avc1_box};

use webm_iterable::matroska_spec::{Master, MatroskaSpec};
use webm_iterable::{WebmWriter, WriteOptions};

use super::{Finished, Muxer, Patch, Sample, TrackSpec, unwritable};
use crate::error::RecordError;
use encoded_frames::{Codec, VideoCodec};

/// Times are given in milliseconds, as WebM asks.
const NANOS_PER_TICK: u64 = 1_000_000;

/// An Opus decoder needs so much before a point that it is to play from (RFC 7845, section 4.6).
const OPUS_PRE_ROLL_NANOS: u64 = 80_000_000;

#[derive(Debug)]
pub(super) struct MatroskaMuxer {
    doc_type: &'static str,
    rates: Vec<u32>,
    /// The track that the index points into.
    index_track: usize,
    /// Where the segment's content begins, from which positions count.
    content_at: u64,
    seek_head_at: u64,
    info_at: u64,
    duration_at: u64,
    tracks_at: u64,
    /// Milliseconds and cluster position of the keyframes.
    cues: BTreeMap<u64, u64>,
}

impl MatroskaMuxer {
    pub(super) fn new(doc_type: &'static str) -> Self {
        Self {
            doc_type,
            rates: Vec::new(),
            index_track: 0,
            content_at: 0,
            seek_head_at: 0,
            info_at: 0,
            duration_at: 0,
            tracks_at: 0,
            cues: BTreeMap::new(),
        }
    }

    fn millis(&self, track: usize, ticks: u64) -> u64 {
        let rate = u64::from(self.rates.get(track).copied().unwrap_or(1000));
        (ticks * 1000 + rate / 2) / rate
    }
}

/// The information, the tracks and the index.
const SEEK_ENTRIES: usize = 3;
/// The placeholders are as long as what takes their place: a head of five bytes and entries of 21, and an
/// identifier, a size and a number of eight bytes.
const SEEK_HEAD_BYTES: usize = 5 + 21 * SEEK_ENTRIES;
const DURATION_BYTES: usize = 11;

impl Muxer for MatroskaMuxer {
    fn head(&mut self, tracks: &[TrackSpec]) -> Result<Vec<u8>, RecordError> {
        self.rates = tracks.iter().map(|track| track.codec.clock_rate()).collect();
        self.index_track =
            tracks.iter().position(|track| matches!(track.codec, Codec::Video(_))).unwrap_or(0);
        let mut head = Vec::new();
        WebmWriter::new(&mut head)
            .write(&MatroskaSpec::Ebml(Master::Full(vec![
                MatroskaSpec::EbmlVersion(1),
                MatroskaSpec::EbmlReadVersion(1),
                MatroskaSpec::EbmlMaxIdLength(4),
                MatroskaSpec::EbmlMaxSizeLength(8),
                MatroskaSpec::DocType(self.doc_type.to_owned()),
                MatroskaSpec::DocTypeVersion(4),
                MatroskaSpec::DocTypeReadVersion(2),
            ])))
            .map_err(unwritable)?;
        head.extend_from_slice(&SEGMENT_ID);
        head.extend_from_slice(&SIZE_UNKNOWN);
        self.content_at = length(&head)?;
        self.seek_head_at = self.content_at;
        head.extend(element(&void(SEEK_HEAD_BYTES))?);
        let info = element(&MatroskaSpec::Info(Master::Full(vec![
            void(DURATION_BYTES),
            MatroskaSpec::TimestampScale(NANOS_PER_TICK),
            MatroskaSpec::MuxingApp("kvs-viewer".to_owned()),
            MatroskaSpec::WritingApp("kvs-viewer".to_owned()),
        ])))?;
        self.info_at = length(&head)?;
        // The placeholder is the first thing after the identifier (four bytes) and the size.
        self.duration_at = length(&head)? + 4 + size_bytes(&info, 4)?;
        head.extend(info);
        let mut entries = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            entries.push(track_entry(index, track)?);
        }
        self.tracks_at = length(&head)?;
        head.extend(element(&MatroskaSpec::Tracks(Master::Full(entries)))?);
        Ok(head)
    }

    fn fragment(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        let mut blocks: Vec<(u64, usize, &Sample)> = tracks
            .iter()
            .enumerate()
            .flat_map(|(track, samples)| samples.iter().map(move |sample| (track, sample)))
            .map(|(track, sample)| (self.millis(track, sample.at), track, sample))
            .collect();
        blocks.sort_by_key(|&(at, track, _)| (at, track));
        let begin = blocks.first().map_or(0, |&(at, _, _)| at);
        let mut children = vec![MatroskaSpec::Timestamp(begin)];
        for (at, track, sample) in blocks {
            if track == self.index_track && sample.keyframe && self.cue_is_due(at) {
                self.cues.insert(at, offset - self.content_at);
            }
            children.push(MatroskaSpec::SimpleBlock(simple_block(at - begin, track, sample)?));
        }
        element(&MatroskaSpec::Cluster(Master::Full(children)))
    }

    fn index(&mut self, offset: u64) -> Result<Vec<u8>, RecordError> {
        let track = u64::try_from(self.index_track + 1).map_err(unwritable)?;
        let points: Vec<MatroskaSpec> = std::mem::take(&mut self.cues)
            .into_iter()
            .filter(|(_, position)| self.content_at + position < offset)
            .map(|(at, position)| {
                let positions =
                    vec![MatroskaSpec::CueTrack(track), MatroskaSpec::CueClusterPosition(position)];
                MatroskaSpec::CuePoint(Master::Full(vec![
                    MatroskaSpec::CueTime(at),
                    MatroskaSpec::CueTrackPositions(Master::Full(positions)),
                ]))
            })
            .collect();
        if points.is_empty() {
            return Ok(Vec::new());
        }
        element(&MatroskaSpec::Cues(Master::Full(points)))
    }

    fn patches(&self, finished: &Finished) -> Result<Vec<Patch>, RecordError> {
        let size = finished.length - self.content_at;
        let mut patches = vec![
            Patch { offset: self.content_at - 8, bytes: known_size(size) },
            Patch { offset: self.duration_at, bytes: duration_element(finished.duration) },
        ];
        if let Some(index_at) = finished.index_at {
            let bytes = seek_head([
                (INFO_ID, self.info_at - self.content_at),
                (TRACKS_ID, self.tracks_at - self.content_at),
                (CUES_ID, index_at - self.content_at),
            ])?;
            patches.push(Patch { offset: self.seek_head_at, bytes });
        }
        Ok(patches)
    }
}

const SEGMENT_ID: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
const INFO_ID: [u8; 4] = [0x15, 0x49, 0xa9, 0x66];
const TRACKS_ID: [u8; 4] = [0x16, 0x54, 0xae, 0x6b];
const CUES_ID: [u8; 4] = [0x1c, 0x53, 0xbb, 0x6b];
const SIZE_UNKNOWN: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Sound is all keyframes; one point a second is enough to seek by.
const CUE_INTERVAL_MS: u64 = 900;

impl MatroskaMuxer {
    fn cue_is_due(&self, at: u64) -> bool {
        self.cues.last_key_value().is_none_or(|(&last, _)| at >= last + CUE_INTERVAL_MS)
    }
}

fn length(bytes: &[u8]) -> Result<u64, RecordError> {
    u64::try_from(bytes.len()).map_err(unwritable)
}

/// An element of the segment, without the segment.
fn element(tag: &MatroskaSpec) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    let mut writer = WebmWriter::new(&mut bytes);
    writer
        .write_advanced(
            &MatroskaSpec::Segment(Master::Start),
            WriteOptions::is_unknown_sized_element(),
        )
        .map_err(unwritable)?;
    writer.write(tag).map_err(unwritable)?;
    let segment_head = 4 + usize::try_from(size_bytes(&bytes, 4)?).map_err(unwritable)?;
    Ok(bytes.split_off(segment_head))
}

/// How many bytes the size at `at` has: its leading zero bits tell (RFC 8794, section 4).
fn size_bytes(bytes: &[u8], at: usize) -> Result<u64, RecordError> {
    let first = bytes.get(at).ok_or_else(|| unwritable("an element has no size"))?;
    Ok(u64::from(first.leading_zeros()) + 1)
}

/// An element of `total` bytes that says nothing.
fn void(total: usize) -> MatroskaSpec {
    MatroskaSpec::Void(vec![0; total.saturating_sub(2)])
}

fn known_size(size: u64) -> Vec<u8> {
    let mut bytes = size.to_be_bytes();
    bytes[0] = 0x01;
    bytes.to_vec()
}

fn duration_element(duration: Duration) -> Vec<u8> {
    let mut bytes = vec![0x44, 0x89, 0x88];
    bytes.extend_from_slice(&(duration.as_secs_f64() * 1000.0).to_be_bytes());
    bytes
}

/// Says where the parts of the segment are: `SeekHead { Seek { SeekID, SeekPosition }, .. }`.
fn seek_head(parts: [([u8; 4], u64); SEEK_ENTRIES]) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::with_capacity(SEEK_HEAD_BYTES);
    bytes.extend_from_slice(&[0x11, 0x4d, 0x9b, 0x74]);
    bytes.push(0x80 | u8::try_from(SEEK_HEAD_BYTES - 5).map_err(unwritable)?);
    for (id, position) in parts {
        bytes.extend_from_slice(&[0x4d, 0xbb, 0x80 | 18, 0x53, 0xab, 0x84]);
        bytes.extend_from_slice(&id);
        // Eight bytes whatever the position, so that the length is known before it.
        bytes.extend_from_slice(&[0x53, 0xac, 0x88]);
        bytes.extend_from_slice(&position.to_be_bytes());
    }
    Ok(bytes)
}

fn track_entry(index: usize, track: &TrackSpec) -> Result<MatroskaSpec, RecordError> {
    let number = u64::try_from(index + 1).map_err(unwritable)?;
    let mut parts = vec![
        MatroskaSpec::TrackNumber(number),
        MatroskaSpec::TrackUID(number),
        MatroskaSpec::FlagLacing(0),
    ];
    match track.codec {
        Codec::Video(codec) => {
            let (width, height) = track.size.unwrap_or((0, 0));
            parts.push(MatroskaSpec::TrackType(1));
            parts.push(MatroskaSpec::CodecID(
                match codec {
                    VideoCodec::H264 => "V_MPEG4/ISO/AVC",
                    VideoCodec::Vp8 => "V_VP8",
                    VideoCodec::Vp9 => "V_VP9",
                }
                .to_owned(),
            ));
            if codec == VideoCodec::H264 {
                parts.push(MatroskaSpec::CodecPrivate(h264_private(track)?));
            }
            parts.push(MatroskaSpec::Video(Master::Full(vec![
                MatroskaSpec::PixelWidth(u64::from(width)),
                MatroskaSpec::PixelHeight(u64::from(height)),
            ])));
        }
        Codec::Audio(_) => {
            parts.push(MatroskaSpec::TrackType(2));
            parts.push(MatroskaSpec::CodecID("A_OPUS".to_owned()));
            // RFC 7845, section 5.1: version, channels, pre-skip, rate, gain, mapping; little-endian.
            let mut private = b"OpusHead\x01\x02\0\0".to_vec();
            private.extend_from_slice(&48_000u32.to_le_bytes());
            private.extend_from_slice(&[0, 0, 0]);
            parts.push(MatroskaSpec::CodecPrivate(private));
            parts.push(MatroskaSpec::CodecDelay(0));
            parts.push(MatroskaSpec::SeekPreRoll(OPUS_PRE_ROLL_NANOS));
            parts.push(MatroskaSpec::Audio(Master::Full(vec![
                MatroskaSpec::SamplingFrequency(48_000.0),
                MatroskaSpec::Channels(2),
            ])));
        }
    }
    Ok(MatroskaSpec::TrackEntry(Master::Full(parts)))
}

/// The configuration record of ISO/IEC 14496-15: the `avcC` box without its header.
fn h264_private(track: &TrackSpec) -> Result<Vec<u8>, RecordError> {
    let sets = track.parameter_sets.as_ref().ok_or_else(|| unwritable("no SPS and PPS"))?;
    let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
    let entry =
        build_avc1_box(&[sets.sps.to_vec()], &[sets.pps.to_vec()], &config).map_err(unwritable)?;
    let mut bytes = entry.avcc_box.encode_to_vec().map_err(unwritable)?;
    Ok(bytes.split_off(8))
}

fn simple_block(after: u64, track: usize, sample: &Sample) -> Result<Vec<u8>, RecordError> {
    let mut block = Vec::with_capacity(sample.data.len() + 4);
    block.push(0x80 | u8::try_from(track + 1).map_err(unwritable)?);
    block.extend_from_slice(&i16::try_from(after).map_err(unwritable)?.to_be_bytes());
    block.push(if sample.keyframe { 0x80 } else { 0 });
    block.extend_from_slice(&sample.data);
    Ok(block)
}
