//! Fragmented MP4 over the boxes of `shiguredo_mp4`.
//!
//! The fragment muxer of `shiguredo_mp4` counts decode times up from zero without gaps, but the
//! tracks of a recording begin at different times and have gaps, so this module builds the boxes of
//! a fragment itself.

use std::num::NonZeroU32;

use encoded_frames::{AudioCodec, Codec};
use shiguredo_mp4::bitstream::opus::{ChannelCount, OpusSampleEntryConfig, build_opus_box};
use shiguredo_mp4::boxes::{
    AudioSampleEntryFields, Brand, DinfBox, EdtsBox, ElstBox, ElstEntry, FtypBox, HdlrBox, MdhdBox,
    MdiaBox, MediaHeader, MehdBox, MfhdBox, MfraBox, MfroBox, MinfBox, MoofBox, MvhdBox,
    SampleEntry, SmhdBox, StblBox, StcoBox, StscBox, StsdBox, StszBox, SttsBox, TfdtBox, TfhdBox,
    TfraBox, TfraEntry, TkhdBox, TrafBox, TrakBox, TrexBox, TrunBox, TrunSample, UnknownBox,
    VmhdBox,
};
use shiguredo_mp4::{
    BoxSize, BoxType, Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime, SampleFlags,
};

use super::{FileInfo, Finished, Muxer, Patch, Sample, TrackSpec, avc1, unwritable};
use crate::error::RecordError;
use crate::picture_order::Colour;

/// The timescale of the movie, in which the total duration is given.
const MOVIE_TIMESCALE: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");

/// Opus as WebRTC sends it: at most two channels, and no pre-skip in the middle of a stream.
const OPUS: OpusSampleEntryConfig = OpusSampleEntryConfig {
    channel_count: ChannelCount::Stereo,
    pre_skip: 0,
    input_sample_rate: 48_000,
    output_gain: 0,
};

/// Space for the description of a track that is not known yet: some 500 bytes, and the parameter
/// sets.
const TRACK_ROOM: usize = 2048;
/// The size of a track's entry in the fragment defaults (`trex`).
const TREX_BYTES: usize = 32;
const BOX_HEADER: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Mp4Muxer {
    sequence: u32,
    began: Mp4FileTime,
    /// The number of ticks by which each track's decoding precedes its presentation.
    leads: Vec<u32>,
    /// The offset of the placeholder for the movie's duration.
    duration_at: u64,
    /// The offsets of the space for one more track's description, and for its defaults.
    room_at: Option<(u64, u64)>,
    /// The fragments that begin with a keyframe, for the index.
    keyframes: Vec<TfraEntry>,
    /// The number of the indexed track, and whether it is video.
    index_track: (usize, bool),
}

impl Muxer for Mp4Muxer {
    fn head(
        &mut self,
        info: &FileInfo,
        tracks: &[TrackSpec],
        room: bool,
    ) -> Result<Vec<u8>, RecordError> {
        self.began = info.began.map(Mp4FileTime::from_unix_time).unwrap_or_default();
        let ftyp = FtypBox {
            major_brand: Brand::ISO5,
            minor_version: 0,
            compatible_brands: vec![Brand::ISO5, Brand::ISO6, Brand::MP41],
        };
        let mut head = encode(&ftyp)?;
        let moov_at = head.len();
        head.extend_from_slice(&[0, 0, 0, 0]);
        head.extend_from_slice(b"moov");
        head.extend(encode(&MvhdBox {
            creation_time: self.began,
            modification_time: self.began,
            timescale: MOVIE_TIMESCALE,
            duration: 0,
            rate: MvhdBox::DEFAULT_RATE,
            volume: MvhdBox::DEFAULT_VOLUME,
            matrix: MvhdBox::DEFAULT_MATRIX,
            next_track_id: track_id(tracks.len() + usize::from(room))?,
        })?);
        let mut defaults = Vec::new();
        for (index, track) in tracks.iter().enumerate() {
            head.extend(encode(&self.describe(index, track)?)?);
            defaults.extend(encode(&trex(index)?)?);
        }
        let track_room_at = head.len();
        if room {
            head.extend(plain_box(*b"free", &[0; TRACK_ROOM - BOX_HEADER]));
        }
        // Until the duration is known, its box has the type `free`, so that a file of a killed
        // writer contains no duration rather than a wrong one.
        let mut placeholder = encode(&MehdBox { fragment_duration: DURATION_PLACEHOLDER })?;
        placeholder.splice(4..BOX_HEADER, *b"free");
        self.duration_at = position(head.len() + BOX_HEADER)?;
        let defaults_room_at = head.len() + BOX_HEADER + placeholder.len() + defaults.len();
        let mut extends = placeholder;
        extends.extend(defaults);
        if room {
            extends.extend(plain_box(*b"free", &[0; TREX_BYTES - BOX_HEADER]));
            self.room_at = Some((position(track_room_at)?, position(defaults_room_at)?));
        }
        head.extend(plain_box(*b"mvex", &extends));
        head.extend(user_data(info));
        let size = u32::try_from(head.len() - moov_at).map_err(too_large)?;
        head.splice(moov_at..moov_at + 4, size.to_be_bytes());
        Ok(head)
    }

    fn add_track(&mut self, track: &TrackSpec) -> Result<Vec<Patch>, RecordError> {
        let Some((track_at, defaults_at)) = self.room_at.take() else {
            return Err(RecordError::TrackTooLate(track.codec));
        };
        let index = self.leads.len();
        let mut bytes = encode(&self.describe(index, track)?)?;
        let rest = TRACK_ROOM.checked_sub(bytes.len()).filter(|rest| *rest >= BOX_HEADER);
        let Some(rest) = rest else {
            return Err(RecordError::TrackTooLate(track.codec));
        };
        bytes.extend(plain_box(*b"free", &vec![0; rest - BOX_HEADER]));
        // The description comes first, because a player that finds no defaults for it assumes
        // zeros.
        Ok(vec![
            Patch { offset: track_at, bytes },
            Patch { offset: defaults_at, bytes: encode(&trex(index)?)? },
        ])
    }

    fn fragment(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<Vec<u8>, RecordError> {
        self.sequence = self.sequence.wrapping_add(1);
        let head_length = self.moof(tracks, 0)?.len() + BOX_HEADER;
        let mut bytes = self.moof(tracks, head_length)?;
        let payload: usize = tracks.iter().flatten().map(|sample| sample.data.len()).sum();
        let size = u32::try_from(payload + BOX_HEADER).map_err(too_large)?;
        bytes.reserve(payload + BOX_HEADER);
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
                track_id: track_id(self.index_track.0)?,
                length_size_of_traf_num: 0,
                length_size_of_trun_num: 0,
                length_size_of_sample_num: 3,
                entries: std::mem::take(&mut self.keyframes),
            }],
            mfro_box: MfroBox { size: 0 },
        };
        let length = encode(&index)?.len();
        index.mfro_box.size = u32::try_from(length).map_err(too_large)?;
        encode(&index)
    }

    fn patches(&self, finished: &Finished) -> Result<Vec<Patch>, RecordError> {
        let duration = u64::try_from(finished.duration.as_millis()).map_err(too_large)?;
        let mehd = MehdBox { fragment_duration: duration.max(DURATION_PLACEHOLDER) };
        // The placeholder is larger than any 32-bit duration, so the box version is the same.
        let mut bytes = encode(&mehd)?;
        let at = bytes.len() - 8;
        bytes.splice(at.., duration.to_be_bytes());
        Ok(vec![Patch { offset: self.duration_at, bytes }])
    }
}

/// Forces an eight-byte duration field, whatever the final duration is.
const DURATION_PLACEHOLDER: u64 = 1 << 32;

impl Mp4Muxer {
    /// Describes the next track.
    fn describe(&mut self, index: usize, track: &TrackSpec) -> Result<TrakBox, RecordError> {
        // Players seek by the video track, even if it is added second.
        if index == 0 || (track.is_video() && !self.index_track.1) {
            self.index_track = (index, track.is_video());
            self.keyframes.clear();
        }
        self.leads.push(track.lead);
        trak(track_id(index)?, track, self.began)
    }

    fn note_keyframe(&mut self, offset: u64, tracks: &[Vec<Sample>]) -> Result<(), RecordError> {
        let (index, _) = self.index_track;
        let Some((samples, before)) = tracks.get(index).zip(tracks.get(..index)) else {
            return Ok(());
        };
        let Some((first, sample)) = samples.iter().enumerate().find(|(_, s)| s.keyframe) else {
            return Ok(());
        };
        let before = before.iter().filter(|samples| !samples.is_empty()).count();
        let lead = self.leads.get(index).copied().unwrap_or(0);
        self.keyframes.push(TfraEntry {
            time: sample.shown + u64::from(lead),
            moof_offset: offset,
            traf_number: track_id(before)?,
            trun_number: 1,
            sample_number: u32::try_from(first + 1).map_err(too_large)?,
        });
        Ok(())
    }

    /// Builds the `moof` box; the data of the first track begins `data_offset` bytes after the
    /// beginning of the fragment.
    fn moof(&self, tracks: &[Vec<Sample>], data_offset: usize) -> Result<Vec<u8>, RecordError> {
        let mut offset = data_offset;
        let mut trafs = Vec::new();
        for (index, samples) in tracks.iter().enumerate() {
            let Some(first) = samples.first() else { continue };
            let lead = self.leads.get(index).copied().unwrap_or(0);
            let decoded = u64::try_from(first.decoded + i64::from(lead)).map_err(|_| {
                let what = format!("a frame that is shown at {} ticks", first.shown);
                unwritable(what, "it is decoded before the track begins")
            })?;
            // Composition offsets are omitted if every sample is presented when it is decoded.
            let reordered =
                samples.iter().any(|sample| i64::try_from(sample.shown) != Ok(sample.decoded));
            let samples_of_run = samples
                .iter()
                .map(|sample| trun_sample(sample, reordered))
                .collect::<Result<_, _>>();
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
                tfdt_box: Some(TfdtBox { version: 1, base_media_decode_time: decoded }),
                trun_boxes: vec![TrunBox {
                    data_offset: Some(i32::try_from(offset).map_err(too_large)?),
                    first_sample_flags: None,
                    samples: samples_of_run?,
                }],
                unknown_boxes: Vec::new(),
            });
            offset += samples.iter().map(|sample| sample.data.len()).sum::<usize>();
        }
        encode(&MoofBox {
            mfhd_box: MfhdBox { sequence_number: self.sequence },
            traf_boxes: trafs,
            unknown_boxes: Vec::new(),
        })
    }
}

fn encode(of: &impl Encode) -> Result<Vec<u8>, RecordError> {
    of.encode_to_vec().map_err(|error| unwritable("a box of the MP4 file", error))
}

fn too_large(error: impl std::fmt::Display) -> RecordError {
    unwritable("the recording is too large for MP4", error)
}

fn position(at: usize) -> Result<u64, RecordError> {
    u64::try_from(at).map_err(too_large)
}

/// Track identifiers start at one.
fn track_id(index: usize) -> Result<u32, RecordError> {
    u32::try_from(index + 1).map_err(too_large)
}

/// Builds a box of a few kilobytes at most.
fn plain_box(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + BOX_HEADER).unwrap_or(u32::MAX);
    let mut bytes = size.to_be_bytes().to_vec();
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(content);
    bytes
}

/// Encodes title and encoder in the form that iTunes and most players read.
fn user_data(info: &FileInfo) -> Vec<u8> {
    // "data" of type 1 is UTF-8 text without a locale.
    let item = |kind: [u8; 4], text: &str| {
        let mut content = vec![0, 0, 0, 1, 0, 0, 0, 0];
        content.extend_from_slice(text.as_bytes());
        plain_box(kind, &plain_box(*b"data", &content))
    };
    let mut items = info.title.as_ref().map_or_else(Vec::new, |title| item(*b"\xa9nam", title));
    items.extend(item(*b"\xa9too", &info.encoder));
    let mut handler = vec![0; 8];
    handler.extend_from_slice(b"mdirappl");
    handler.extend_from_slice(&[0; 9]);
    let mut meta = vec![0; 4];
    meta.extend(plain_box(*b"hdlr", &handler));
    meta.extend(plain_box(*b"ilst", &items));
    plain_box(*b"udta", &plain_box(*b"meta", &meta))
}

fn trex(index: usize) -> Result<TrexBox, RecordError> {
    Ok(TrexBox {
        track_id: track_id(index)?,
        default_sample_description_index: 1,
        default_sample_duration: 0,
        default_sample_size: 0,
        default_sample_flags: SampleFlags::new(0),
    })
}

fn trak(id: u32, track: &TrackSpec, began: Mp4FileTime) -> Result<TrakBox, RecordError> {
    let side = |side: u16| FixedPointNumber::new(i16::try_from(side).unwrap_or(i16::MAX), 0);
    let (width, height) = track.size.unwrap_or((0, 0));
    let (entry, volume, handler_type, name, media_header) = match track.codec {
        Codec::Video(_) => {
            let mut entry = avc1(track)?;
            entry.unknown_boxes.extend(track.colour.map(colr));
            (
                SampleEntry::Avc1(entry),
                TkhdBox::DEFAULT_VIDEO_VOLUME,
                HdlrBox::HANDLER_TYPE_VIDE,
                "Video",
                MediaHeader::Vmhd(VmhdBox::default()),
            )
        }
        Codec::Audio(codec) => (
            match codec {
                AudioCodec::Opus => SampleEntry::Opus(build_opus_box(&OPUS)),
                AudioCodec::Pcmu => g711(*b"ulaw")?,
                AudioCodec::Pcma => g711(*b"alaw")?,
            },
            TkhdBox::DEFAULT_AUDIO_VOLUME,
            HdlrBox::HANDLER_TYPE_SOUN,
            "Sound",
            MediaHeader::Smhd(SmhdBox::default()),
        ),
    };
    let timescale = NonZeroU32::new(track.codec.clock_rate())
        .ok_or_else(|| unwritable(track.codec, "it has no clock"))?;
    let mut name = name.as_bytes().to_vec();
    name.push(0);
    // Decoding begins before the first presented frame; the edit list marks where presentation
    // begins.
    let edit = (track.lead > 0).then(|| EdtsBox {
        elst_box: Some(ElstBox {
            entries: vec![ElstEntry {
                edit_duration: 0,
                media_time: i64::from(track.lead),
                media_rate: FixedPointNumber::new(1, 0),
            }],
        }),
        unknown_boxes: Vec::new(),
    });
    Ok(TrakBox {
        tkhd_box: TkhdBox {
            flag_track_enabled: true,
            flag_track_in_movie: true,
            flag_track_in_preview: false,
            flag_track_size_is_aspect_ratio: false,
            creation_time: began,
            modification_time: began,
            track_id: id,
            duration: 0,
            layer: TkhdBox::DEFAULT_LAYER,
            alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
            volume,
            matrix: TkhdBox::DEFAULT_MATRIX,
            width: side(width),
            height: side(height),
        },
        edts_box: edit,
        mdia_box: MdiaBox {
            mdhd_box: MdhdBox {
                creation_time: began,
                modification_time: began,
                timescale,
                duration: 0,
                language: LanguageCode::UNDEFINED,
            },
            hdlr_box: HdlrBox { handler_type, name },
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

/// Describes G.711 in the QuickTime form, which players also accept in MP4: 16 bits a sample after
/// decoding.
fn g711(kind: [u8; 4]) -> Result<SampleEntry, RecordError> {
    let fields = AudioSampleEntryFields {
        data_reference_index: AudioSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
        channelcount: 1,
        samplesize: AudioSampleEntryFields::DEFAULT_SAMPLESIZE,
        samplerate: FixedPointNumber::new(8_000, 0),
    };
    Ok(SampleEntry::Unknown(unknown_box(kind, encode(&fields)?)))
}

/// Builds the colour information box of ISO/IEC 14496-12, 12.1.5.
fn colr(colour: Colour) -> UnknownBox {
    let mut content = b"nclx".to_vec();
    for code in [colour.primaries, colour.transfer, colour.matrix] {
        content.extend_from_slice(&u16::from(code).to_be_bytes());
    }
    content.push(u8::from(colour.full_range) << 7);
    unknown_box(*b"colr", content)
}

fn unknown_box(kind: [u8; 4], payload: Vec<u8>) -> UnknownBox {
    let box_type = BoxType::Normal(kind);
    let size = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    UnknownBox { box_type, box_size: BoxSize::with_payload_size(box_type, size), payload }
}

fn trun_sample(sample: &Sample, reordered: bool) -> Result<TrunSample, RecordError> {
    // ISO/IEC 14496-12, 8.8.3.1: 2 is "depends on no other", 1 is "depends on others".
    let depends_on = if sample.keyframe { 2 } else { 1 };
    let shown = i64::try_from(sample.shown).map_err(too_large)?;
    Ok(TrunSample {
        duration: Some(sample.duration),
        size: Some(u32::try_from(sample.data.len()).map_err(too_large)?),
        flags: Some(SampleFlags::from_fields(0, depends_on, 0, 0, 0, !sample.keyframe, 0)),
        composition_time_offset: reordered.then_some(shown - sample.decoded),
    })
}
