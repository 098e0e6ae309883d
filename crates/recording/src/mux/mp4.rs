//! Fragmented MP4 over the boxes of `shiguredo_mp4`.
//!
//! Its own fragment muxer counts decode times up from zero with no gaps, and a recording's tracks begin at different
//! moments and have holes, so the few boxes of a fragment are put together here.

use std::num::NonZeroU32;

use shiguredo_mp4::bitstream::h264::{H264SampleEntryConfig, LengthSize, build_avc1_box};

use shiguredo_mp4::bitstream::opus::{ChannelCount, OpusSampleEntryConfig, build_opus_box};
use shiguredo_mp4::boxes::{
    Brand, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader, MehdBox, MfhdBox, MfraBox,
    MfroBox, MinfBox, MoofBox, MoovBox, MvexBox, MvhdBox, SampleEntry, SmhdBox, StblBox, StcoBox,
    StscBox, StsdBox, StszBox, SttsBox, TfdtBox, TfhdBox, TfraBox, TfraEntry, TkhdBox, TrafBox,
    TrakBox, TrexBox, TrunBox, TrunSample, VmhdBox,
};
use shiguredo_mp4::{Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime, SampleFlags};

use super::{Finished, Muxer, Patch, Sample, TrackSpec, unwritable};
use crate::error::RecordError;
use encoded_frames::Codec;

/// The movie's own clock, in which the whole duration is given.
const MOVIE_TIMESCALE: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");

/// Opus as WebRTC sends it: two channels at most, and nothing to skip in the middle of a stream.
const OPUS: OpusSampleEntryConfig = OpusSampleEntryConfig {
    channel_count: ChannelCount::Stereo,
    pre_skip: 0,
    input_sample_rate: 48_000,
    output_gain: 0,
};

#[derive(Debug, Default)]
pub(super) struct Mp4Muxer {
    sequence: u32,
    /// Where the placeholder of the movie's duration is.
    duration_at: Option<u64>,
    /// The fragments that begin with a keyframe, for the index.
    keyframes: Vec<TfraEntry>,
    index_track: u32,
}

impl Muxer for Mp4Muxer {
    fn head(&mut self, tracks: &[TrackSpec]) -> Result<Vec<u8>, RecordError> {
        let is_video = |track: &TrackSpec| matches!(track.codec, Codec::Video(_));
        self.index_track = track_id(tracks.iter().position(is_video).unwrap_or(0))?;
        let mut moov = MoovBox {
            mvhd_box: MvhdBox {
                creation_time: Mp4FileTime::default(),
                modification_time: Mp4FileTime::default(),
                timescale: MOVIE_TIMESCALE,
                duration: 0,
                rate: MvhdBox::DEFAULT_RATE,
                volume: MvhdBox::DEFAULT_VOLUME,
                matrix: MvhdBox::DEFAULT_MATRIX,
                next_track_id: track_id(tracks.len())?,
            },
            trak_boxes: Vec::new(),
            mvex_box: None,
            unknown_boxes: Vec::new(),
        };
        let mut extends = MvexBox {
            mehd_box: Some(MehdBox { fragment_duration: DURATION_PLACEHOLDER }),
            trex_boxes: Vec::new(),
            unknown_boxes: Vec::new(),
        };
        for (index, track) in tracks.iter().enumerate() {
            moov.trak_boxes.push(trak(track_id(index)?, track)?);
            extends.trex_boxes.push(TrexBox {
                track_id: track_id(index)?,
                default_sample_description_index: 1,
                default_sample_duration: 0,
                default_sample_size: 0,
                default_sample_flags: SampleFlags::new(0),
            });
        }
        moov.mvex_box = Some(extends);
        let ftyp = FtypBox {
            major_brand: Brand::ISO5,
            minor_version: 0,
            compatible_brands: vec![Brand::ISO5, Brand::ISO6, Brand::MP41],
        };
        let mut head = ftyp.encode_to_vec().map_err(unwritable)?;
        head.extend(moov.encode_to_vec().map_err(unwritable)?);
        self.hide_duration(&mut head);
        Ok(head)
    }

    fn fragment(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        self.sequence = self.sequence.wrapping_add(1);
        let head_length = moof(self.sequence, tracks, 0)?.len() + MDAT_HEADER;
        let mut bytes = moof(self.sequence, tracks, head_length)?;
        let payload: usize = tracks.iter().flatten().map(|sample| sample.data.len()).sum();
        let size = u32::try_from(payload + MDAT_HEADER).map_err(unwritable)?;
        bytes.reserve(payload + MDAT_HEADER);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(b"mdat");
        for sample in tracks.iter().flatten() {
            bytes.extend_from_slice(&sample.data);
        }
        self.note_keyframe(offset, tracks)?;
        Ok(bytes)
    }

    fn index(&mut self, offset: u64) -> Result<Vec<u8>, RecordError> {
        self.keyframes.retain(|entry| entry.moof_offset < offset);
        if self.keyframes.is_empty() {
            return Ok(Vec::new());
        }
        let mut index = MfraBox {
            tfra_boxes: vec![TfraBox {
                version: 1,
                track_id: self.index_track,
                length_size_of_traf_num: 0,
                length_size_of_trun_num: 0,
                length_size_of_sample_num: 3,
                entries: std::mem::take(&mut self.keyframes),
            }],
            mfro_box: MfroBox { size: 0 },
        };
        let length = index.encode_to_vec().map_err(unwritable)?.len();
        index.mfro_box.size = u32::try_from(length).map_err(unwritable)?;
        index.encode_to_vec().map_err(unwritable)
    }

    fn patches(&self, finished: &Finished) -> Result<Vec<Patch>, RecordError> {
        let Some(offset) = self.duration_at else { return Ok(Vec::new()) };
        let duration = u64::try_from(finished.duration.as_millis()).map_err(unwritable)?;
        let mehd = MehdBox { fragment_duration: duration.max(DURATION_PLACEHOLDER) };
        // The placeholder is larger than any 32-bit duration, so the version of the box is the same.
        let mut bytes = mehd.encode_to_vec().map_err(unwritable)?;
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&duration.to_be_bytes());
        Ok(vec![Patch { offset, bytes }])
    }
}

const MDAT_HEADER: usize = 8;

/// Makes the duration's box eight bytes wide, whatever the duration will be.
const DURATION_PLACEHOLDER: u64 = 1 << 32;

impl Mp4Muxer {
    /// Until the duration is known, its box is named `free`: a file whose writer was killed says nothing of it
    /// rather than something false.
    fn hide_duration(&mut self, head: &mut [u8]) {
        if let Some(at) = head.windows(4).rposition(|name| name == b"mehd")
            && let Some(start) = at.checked_sub(4)
        {
            head[at..at + 4].copy_from_slice(b"free");
            self.duration_at = u64::try_from(start).ok();
        }
    }

    fn note_keyframe(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<(), RecordError> {
        let Ok(position) = usize::try_from(self.index_track - 1) else { return Ok(()) };
        let Some(samples) = tracks.get(position) else { return Ok(()) };
        let Some(first) = samples.iter().position(|sample| sample.keyframe) else { return Ok(()) };
        let before = tracks[..position].iter().filter(|samples| !samples.is_empty()).count();
        self.keyframes.push(TfraEntry {
            time: samples[first].at,
            moof_offset: offset,
            traf_number: track_id(before)?,
            trun_number: 1,
            sample_number: u32::try_from(first + 1).map_err(unwritable)?,
        });
        Ok(())
    }
}

/// Tracks count from one.
fn track_id(index: usize) -> Result<u32, RecordError> {
    u32::try_from(index + 1).map_err(unwritable)
}

fn trak(id: u32, track: &TrackSpec) -> Result<TrakBox, RecordError> {
    let side = |side: u16| FixedPointNumber::new(i16::try_from(side).unwrap_or(i16::MAX), 0);
    let (width, height) = track.size.unwrap_or((0, 0));
    let (entry, volume, handler_type, media_header) = match track.codec {
        Codec::Video(_) => {
            let sets = track.parameter_sets.as_ref().ok_or_else(|| unwritable("no SPS and PPS"))?;
            let config = H264SampleEntryConfig { length_size: LengthSize::FourBytes };
            let entry = build_avc1_box(&[sets.sps.to_vec()], &[sets.pps.to_vec()], &config)
                .map_err(unwritable)?;
            (
                SampleEntry::Avc1(entry),
                TkhdBox::DEFAULT_VIDEO_VOLUME,
                HdlrBox::HANDLER_TYPE_VIDE,
                MediaHeader::Vmhd(VmhdBox::default()),
            )
        }
        Codec::Audio(_) => (
            SampleEntry::Opus(build_opus_box(&OPUS)),
            TkhdBox::DEFAULT_AUDIO_VOLUME,
            HdlrBox::HANDLER_TYPE_SOUN,
            MediaHeader::Smhd(SmhdBox::default()),
        ),
    };
    let timescale = NonZeroU32::new(track.codec.clock_rate()).ok_or_else(|| unwritable("rate"))?;
    Ok(TrakBox {
        tkhd_box: TkhdBox {
            flag_track_enabled: true,
            flag_track_in_movie: true,
            flag_track_in_preview: false,
            flag_track_size_is_aspect_ratio: false,
            creation_time: Mp4FileTime::default(),
            modification_time: Mp4FileTime::default(),
            track_id: id,
            duration: 0,
            layer: TkhdBox::DEFAULT_LAYER,
            alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
            volume,
            matrix: TkhdBox::DEFAULT_MATRIX,
            width: side(width),
            height: side(height),
        },
        edts_box: None,
        mdia_box: MdiaBox {
            mdhd_box: MdhdBox {
                creation_time: Mp4FileTime::default(),
                modification_time: Mp4FileTime::default(),
                timescale,
                duration: 0,
                language: LanguageCode::UNDEFINED,
            },
            hdlr_box: HdlrBox { handler_type, name: vec![0] },
            minf_box: MinfBox {
                media_header: Some(media_header),
                dinf_box: DinfBox::LOCAL_FILE,
                stbl_box: StblBox {
                    stsd_box: StsdBox { entries: vec![entry] },
                    stts_box: SttsBox { entries: Vec::new() },
                    ctts_box: None,
                    cslg_box: None,
                    stsc_box: StscBox { entries: Vec::new() },
                    stsz_box: StszBox::Variable { entry_sizes: Vec::new() },
                    stco_or_co64_box: Either::A(StcoBox { chunk_offsets: Vec::new() }),
                    stss_box: None,
                    sdtp_box: None,
                    unknown_boxes: Vec::new(),
                },
                unknown_boxes: Vec::new(),
            },
            unknown_boxes: Vec::new(),
        },
        unknown_boxes: Vec::new(),
    })
}

/// The fragment's table; the first track's data begins `data_offset` bytes after the fragment's beginning.
fn moof(sequence: u32, tracks: &[Vec<Sample>], data_offset: usize) -> Result<Vec<u8>, RecordError> {
    let mut offset = data_offset;
    let mut trafs = Vec::new();
    for (index, samples) in tracks.iter().enumerate() {
        let Some(first) = samples.first() else { continue };
        trafs.push(TrafBox {
            tfhd_box: TfhdBox {
                track_id: track_id(index)?,
                base_data_offset: None,
                sample_description_index: None,
                default_sample_duration: None,
                default_sample_size: None,
                default_sample_flags: None,
                duration_is_empty: false,
                default_base_is_moof: true,
            },
            tfdt_box: Some(TfdtBox { version: 1, base_media_decode_time: first.at }),
            trun_boxes: vec![TrunBox {
                data_offset: Some(i32::try_from(offset).map_err(unwritable)?),
                first_sample_flags: None,
                samples: samples.iter().map(trun_sample).collect::<Result<_, _>>()?,
            }],
            unknown_boxes: Vec::new(),
        });
        offset += samples.iter().map(|sample| sample.data.len()).sum::<usize>();
    }
    MoofBox {
        mfhd_box: MfhdBox { sequence_number: sequence },
        traf_boxes: trafs,
        unknown_boxes: Vec::new(),
    }
    .encode_to_vec()
    .map_err(unwritable)
}

fn trun_sample(sample: &Sample) -> Result<TrunSample, RecordError> {
    // ISO/IEC 14496-12, 8.8.3.1: 2 is "depends on no other", 1 is "depends on others".
    let depends_on = if sample.keyframe { 2 } else { 1 };
    Ok(TrunSample {
        duration: Some(sample.duration),
        size: Some(u32::try_from(sample.data.len()).map_err(unwritable)?),
        flags: Some(SampleFlags::from_fields(0, depends_on, 0, 0, 0, !sample.keyframe, 0)),
        composition_time_offset: None,
    })
}
