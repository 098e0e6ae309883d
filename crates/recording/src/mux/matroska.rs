//! WebM and Matroska over the elements of `webm-iterable`.
//!
//! The segment and its duration have placeholders until the end: the segment's size is "unknown",
//! which players interpret as "until the end of the file", and the duration and the index are
//! `Void`.

use std::collections::BTreeMap;
use std::time::Duration;

use encoded_frames::{AudioCodec, Codec, VideoCodec};
use shiguredo_mp4::Encode;

use webm_iterable::matroska_spec::{Master, MatroskaSpec};
use webm_iterable::{WebmWriter, WriteOptions};

use super::{FileInfo, Finished, Muxer, Patch, Sample, TrackSpec, avc1, unwritable};
use crate::error::RecordError;
use crate::picture_order::Colour;

/// Timestamps are in milliseconds, as WebM requires.
const NANOS_PER_TICK: u64 = 1_000_000;

/// The media that an Opus decoder must process before a seek target, in nanoseconds (RFC 7845,
/// section 4.6).
const OPUS_PRE_ROLL_NANOS: u64 = 80_000_000;

#[derive(Debug)]
pub(super) struct MatroskaMuxer {
    doc_type: &'static str,
    codecs: Vec<Codec>,
    /// The number of the track that the index references.
    index_track: usize,
    /// The offset and the size of the space for one more track.
    room: Option<(u64, usize)>,
    /// The offset of the segment's content, to which positions are relative.
    content_at: u64,
    seek_head_at: u64,
    info_at: u64,
    duration_at: u64,
    tracks_at: u64,
    /// The keyframes: time in milliseconds, and position of the cluster.
    cues: BTreeMap<u64, u64>,
}

impl MatroskaMuxer {
    pub(super) fn new(doc_type: &'static str) -> Self {
        Self {
            doc_type,
            codecs: Vec::new(),
            index_track: 0,
            room: None,
            content_at: 0,
            seek_head_at: 0,
            info_at: 0,
            duration_at: 0,
            tracks_at: 0,
            cues: BTreeMap::new(),
        }
    }

    fn millis(&self, track: usize, ticks: i64) -> i64 {
        let rate = i64::from(self.codecs.get(track).map_or(1000, |codec| codec.clock_rate()));
        (ticks * 1000 + rate / 2).div_euclid(rate)
    }

    /// Describes the next track.
    fn describe(&mut self, track: &TrackSpec) -> Result<MatroskaSpec, RecordError> {
        let index = self.codecs.len();
        // Players seek by the video track, even if it is added second.
        let indexed = self.codecs.get(self.index_track);
        if track.is_video() && !matches!(indexed, Some(Codec::Video(_))) {
            self.index_track = index;
            self.cues.clear();
        }
        self.codecs.push(track.codec);
        track_entry(index, track)
    }
}

/// Space for the description of a track that is not known yet: some 150 bytes, and the parameter
/// sets.
const TRACK_ROOM: usize = 1024;

/// The segment information, the tracks and the index.
const SEEK_ENTRIES: usize = 3;
/// The placeholders have the length of their replacements: a header of five bytes and entries of
/// 21; and an identifier, a size and a number of eight bytes.
const SEEK_HEAD_BYTES: usize = 5 + 21 * SEEK_ENTRIES;
const DURATION_BYTES: usize = 11;

impl Muxer for MatroskaMuxer {
    fn head(
        &mut self,
        info: &FileInfo,
        tracks: &[TrackSpec],
        room: bool,
    ) -> Result<Vec<u8>, RecordError> {
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
            .map_err(invalid)?;
        head.extend_from_slice(&SEGMENT_ID);
        head.extend_from_slice(&SIZE_UNKNOWN);
        self.content_at = length(&head)?;
        self.seek_head_at = self.content_at;
        head.extend(element(&void(SEEK_HEAD_BYTES))?);
        let mut parts = vec![void(DURATION_BYTES), MatroskaSpec::TimestampScale(NANOS_PER_TICK)];
        parts.extend(info.title.clone().map(MatroskaSpec::Title));
        parts.extend(info.began.and_then(date).map(MatroskaSpec::DateUTC));
        parts.push(MatroskaSpec::MuxingApp(info.encoder.clone()));
        parts.push(MatroskaSpec::WritingApp(info.encoder.clone()));
        let info = element(&MatroskaSpec::Info(Master::Full(parts)))?;
        self.info_at = length(&head)?;
        // The placeholder follows the identifier (four bytes) and the size.
        self.duration_at = length(&head)? + 4 + size_bytes(&info, 4)?;
        head.extend(info);
        let mut entries = Vec::new();
        for track in tracks {
            entries.push(self.describe(track)?);
        }
        if room {
            entries.push(MatroskaSpec::Void(vec![0; TRACK_ROOM - VOID_HEADER]));
        }
        self.tracks_at = length(&head)?;
        head.extend(element(&MatroskaSpec::Tracks(Master::Full(entries)))?);
        let room_at = head.len().saturating_sub(TRACK_ROOM);
        if room && head.get(room_at..).is_some_and(|room| room.starts_with(&VOID_ID)) {
            self.room = Some((length(&head)? - length(&[0; TRACK_ROOM])?, TRACK_ROOM));
        }
        Ok(head)
    }

    fn add_track(&mut self, track: &TrackSpec) -> Result<Vec<Patch>, RecordError> {
        let Some((offset, room)) = self.room.take() else {
            return Err(RecordError::TrackTooLate(track.codec));
        };
        let entry = self.describe(track)?;
        let tracks = element(&MatroskaSpec::Tracks(Master::Full(vec![entry])))?;
        let head = 4 + usize::try_from(size_bytes(&tracks, 4)?).map_err(too_large)?;
        let mut bytes = tracks.get(head..).unwrap_or_default().to_vec();
        let rest = room.checked_sub(bytes.len()).filter(|rest| *rest >= VOID_HEADER);
        let Some(rest) = rest else {
            return Err(RecordError::TrackTooLate(track.codec));
        };
        let size = u16::try_from(rest - VOID_HEADER).map_err(too_large)?;
        bytes.extend_from_slice(&VOID_ID);
        bytes.extend_from_slice(&(0x4000 | size).to_be_bytes());
        bytes.resize(room, 0);
        Ok(vec![Patch { offset, bytes }])
    }

    fn fragment(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        for (track, samples) in tracks.iter().enumerate() {
            for sample in samples {
                let shown = i64::try_from(sample.shown).map_err(too_large)?;
                blocks.push(Block {
                    decoded: self.millis(track, sample.decoded),
                    shown: u64::try_from(self.millis(track, shown)).map_err(too_large)?,
                    track,
                    sample,
                });
            }
        }
        // Matroska requires blocks in decoding order.
        blocks.sort_by_key(|block| (block.decoded, block.track));
        let begin = blocks.iter().map(|block| block.shown).min().unwrap_or(0);
        let mut children = vec![MatroskaSpec::Timestamp(begin)];
        for block in blocks {
            let is_indexed = block.track == self.index_track && block.sample.keyframe;
            if is_indexed && self.cue_is_due(block.shown) {
                self.cues.insert(block.shown, offset - self.content_at);
            }
            children.push(MatroskaSpec::SimpleBlock(self.simple_block(begin, &block)?));
        }
        element(&MatroskaSpec::Cluster(Master::Full(children)))
    }

    fn index(&mut self, offset: u64) -> Result<Vec<u8>, RecordError> {
        let track = u64::try_from(self.index_track + 1).map_err(too_large)?;
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

/// Every audio packet is a keyframe; one cue a second is enough for seeking.
const CUE_INTERVAL_MS: u64 = 900;

/// The identifier of a `Void` element, used with a size of two bytes.
const VOID_ID: [u8; 1] = [0xec];
const VOID_HEADER: usize = 3;

/// The position of a sample in its cluster, in milliseconds.
struct Block<'a> {
    decoded: i64,
    shown: u64,
    track: usize,
    sample: &'a Sample,
}

impl MatroskaMuxer {
    fn cue_is_due(&self, at: u64) -> bool {
        self.cues.last_key_value().is_none_or(|(&last, _)| at >= last + CUE_INTERVAL_MS)
    }

    fn simple_block(&self, begin: u64, block: &Block<'_>) -> Result<Vec<u8>, RecordError> {
        let sample = block.sample;
        let after = i16::try_from(block.shown - begin).map_err(|_| {
            let codec = self.codecs.get(block.track).map_or_else(String::new, ToString::to_string);
            let what = format!("a frame of {codec} at {} ms", block.shown);
            unwritable(what, format!("it is too far from what else came with it, at {begin} ms"))
        })?;
        let mut bytes = Vec::with_capacity(sample.data.len() + 4);
        bytes.push(0x80 | u8::try_from(block.track + 1).map_err(too_large)?);
        bytes.extend_from_slice(&after.to_be_bytes());
        bytes.push(if sample.keyframe { 0x80 } else { 0 });
        bytes.extend_from_slice(&sample.data);
        Ok(bytes)
    }
}

fn too_large(error: impl std::fmt::Display) -> RecordError {
    unwritable("the recording is too large for Matroska", error)
}

fn invalid(error: impl std::fmt::Display) -> RecordError {
    unwritable("an element of the Matroska file", error)
}

/// Converts a time since the Unix epoch to nanoseconds since the beginning of 2001.
fn date(began: Duration) -> Option<i64> {
    const FROM_UNIX_EPOCH: Duration = Duration::from_secs(978_307_200);
    i64::try_from(began.checked_sub(FROM_UNIX_EPOCH)?.as_nanos()).ok()
}

fn length(bytes: &[u8]) -> Result<u64, RecordError> {
    u64::try_from(bytes.len()).map_err(too_large)
}

/// Encodes an element of the segment, without the segment.
fn element(tag: &MatroskaSpec) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    let mut writer = WebmWriter::new(&mut bytes);
    writer
        .write_advanced(
            &MatroskaSpec::Segment(Master::Start),
            WriteOptions::is_unknown_sized_element(),
        )
        .map_err(invalid)?;
    writer.write(tag).map_err(invalid)?;
    let segment_head = 4 + usize::try_from(size_bytes(&bytes, 4)?).map_err(invalid)?;
    Ok(bytes.split_off(segment_head))
}

/// Returns the length of the size field at `at`, which its leading zero bits encode (RFC 8794,
/// section 4).
fn size_bytes(bytes: &[u8], at: usize) -> Result<u64, RecordError> {
    let first = bytes.get(at).ok_or_else(|| invalid("it has no size"))?;
    Ok(u64::from(first.leading_zeros()) + 1)
}

/// Returns a `Void` element of `total` bytes.
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

/// Encodes the positions of the segment's parts: `SeekHead { Seek { SeekID, SeekPosition }, .. }`.
fn seek_head(parts: [([u8; 4], u64); SEEK_ENTRIES]) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::with_capacity(SEEK_HEAD_BYTES);
    bytes.extend_from_slice(&[0x11, 0x4d, 0x9b, 0x74]);
    bytes.push(0x80 | u8::try_from(SEEK_HEAD_BYTES - 5).map_err(invalid)?);
    for (id, position) in parts {
        bytes.extend_from_slice(&[0x4d, 0xbb, 0x80 | 18, 0x53, 0xab, 0x84]);
        bytes.extend_from_slice(&id);
        // A fixed eight bytes, so that the length does not depend on the position.
        bytes.extend_from_slice(&[0x53, 0xac, 0x88]);
        bytes.extend_from_slice(&position.to_be_bytes());
    }
    Ok(bytes)
}

fn track_entry(index: usize, track: &TrackSpec) -> Result<MatroskaSpec, RecordError> {
    let number = u64::try_from(index + 1).map_err(too_large)?;
    let mut parts = vec![
        MatroskaSpec::TrackNumber(number),
        MatroskaSpec::TrackUID(number),
        MatroskaSpec::FlagLacing(0),
        MatroskaSpec::Language("und".to_owned()),
    ];
    match track.codec {
        Codec::Video(codec) => {
            let (width, height) = track.size.unwrap_or((0, 0));
            parts.push(MatroskaSpec::TrackType(1));
            parts.push(MatroskaSpec::Name("Video".to_owned()));
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
            let mut video = vec![
                MatroskaSpec::PixelWidth(u64::from(width)),
                MatroskaSpec::PixelHeight(u64::from(height)),
            ];
            video.extend(track.colour.map(colour));
            parts.push(MatroskaSpec::Video(Master::Full(video)));
        }
        Codec::Audio(codec) => {
            let (name, private, channels) = match codec {
                AudioCodec::Opus => ("A_OPUS", opus_private(), 2),
                // The format tags of RFC 2361.
                AudioCodec::Pcmu => ("A_MS/ACM", wave_format(7), 1),
                AudioCodec::Pcma => ("A_MS/ACM", wave_format(6), 1),
            };
            parts.push(MatroskaSpec::TrackType(2));
            parts.push(MatroskaSpec::Name("Sound".to_owned()));
            parts.push(MatroskaSpec::CodecID(name.to_owned()));
            parts.push(MatroskaSpec::CodecPrivate(private));
            if codec == AudioCodec::Opus {
                parts.push(MatroskaSpec::CodecDelay(0));
                parts.push(MatroskaSpec::SeekPreRoll(OPUS_PRE_ROLL_NANOS));
            }
            parts.push(MatroskaSpec::Audio(Master::Full(vec![
                MatroskaSpec::SamplingFrequency(f64::from(codec.clock_rate())),
                MatroskaSpec::Channels(channels),
            ])));
        }
    }
    Ok(MatroskaSpec::TrackEntry(Master::Full(parts)))
}

fn colour(colour: Colour) -> MatroskaSpec {
    MatroskaSpec::Colour(Master::Full(vec![
        MatroskaSpec::MatrixCoefficients(u64::from(colour.matrix)),
        // 1 is "broadcast range", 2 "full range".
        MatroskaSpec::Range(1 + u64::from(colour.full_range)),
        MatroskaSpec::TransferCharacteristics(u64::from(colour.transfer)),
        MatroskaSpec::Primaries(u64::from(colour.primaries)),
    ]))
}

/// Builds the Opus identification header of RFC 7845, section 5.1: version, channels, pre-skip,
/// rate, gain, mapping; little-endian.
fn opus_private() -> Vec<u8> {
    let mut private = b"OpusHead\x01\x02\0\0".to_vec();
    private.extend_from_slice(&48_000u32.to_le_bytes());
    private.extend_from_slice(&[0, 0, 0]);
    private
}

/// Builds a `WAVEFORMATEX` of one channel with 8000 bytes a second: tag, channels, samples and
/// bytes a second, bytes and bits a sample, no extra bytes; little-endian.
fn wave_format(tag: u16) -> Vec<u8> {
    let mut private = tag.to_le_bytes().to_vec();
    private.extend_from_slice(&1u16.to_le_bytes());
    private.extend_from_slice(&8_000u32.to_le_bytes());
    private.extend_from_slice(&8_000u32.to_le_bytes());
    for field in [1u16, 8, 0] {
        private.extend_from_slice(&field.to_le_bytes());
    }
    private
}

/// Builds the configuration record of ISO/IEC 14496-15: the `avcC` box without its header.
fn h264_private(track: &TrackSpec) -> Result<Vec<u8>, RecordError> {
    let bytes = avc1(track)?.avcc_box.encode_to_vec().map_err(invalid)?;
    Ok(bytes.get(8..).unwrap_or_default().to_vec())
}
