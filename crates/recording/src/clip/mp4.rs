//! MP4 and MOV, plain or fragmented, over `shiguredo_mp4`.

use bytes::{BufMut, Bytes, BytesMut};
use shiguredo_mp4::TrackKind;
use shiguredo_mp4::boxes::{AvccBox, SampleEntry};
use shiguredo_mp4::demux::{
    Fmp4FileDemuxer, Input, Mp4FileDemuxer, Mp4FileKind, Mp4FileKindDetector, RequiredInput, Sample,
};

use super::{
    AudioTrack, Clip, ClipError, ClipProblem, ClipSample, Found, SAMPLES_MAX, VideoTrack,
    codec_name, rescale, set_durations, set_opus_durations,
};
use encoded_frames::h264::{NAL_PPS, NAL_SPS, nal_type};
use encoded_frames::{AudioCodec, VideoCodec};

pub(super) fn read(data: &Bytes, with_audio: bool) -> Result<Found, ClipError> {
    let mut tracks = Tracks { with_audio, ..Tracks::default() };
    let truncated = match kind(data)? {
        Mp4FileKind::Mp4 => {
            read_plain(data, &mut tracks)?;
            false
        }
        Mp4FileKind::FragmentedMp4 => read_fragmented(data, &mut tracks)?,
    };
    Ok(tracks.into_found(truncated))
}

fn damaged(error: impl std::fmt::Display) -> ClipError {
    ClipError::Damaged(error.to_string())
}

/// Returns the part of the file that the demuxer requires, up to the end of the file.
fn input(data: &[u8], required: RequiredInput) -> Input<'_> {
    let start = usize::try_from(required.position).unwrap_or(usize::MAX).min(data.len());
    let end = required.size.map_or(data.len(), |size| start.saturating_add(size).min(data.len()));
    Input { position: required.position, data: &data[start..end] }
}

fn kind(data: &[u8]) -> Result<Mp4FileKind, ClipError> {
    let mut detector = Mp4FileKindDetector::new();
    while let Some(required) = detector.required_input() {
        detector.handle_input(input(data, required));
    }
    detector.file_kind().map_err(damaged)?.ok_or_else(|| damaged("it has no moov box"))
}

fn read_plain(data: &Bytes, tracks: &mut Tracks) -> Result<(), ClipError> {
    let mut demuxer = Mp4FileDemuxer::new();
    while let Some(required) = demuxer.required_input() {
        demuxer.handle_input(input(data, required));
    }
    demuxer.tracks().map_err(damaged)?;
    while let Some(sample) = demuxer.next_sample().map_err(damaged)? {
        tracks.add(data, &sample)?;
    }
    Ok(())
}

/// Reads all samples, and returns whether the file ends in the middle of a fragment.
fn read_fragmented(data: &Bytes, tracks: &mut Tracks) -> Result<bool, ClipError> {
    let mut demuxer = Fmp4FileDemuxer::new();
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let mut samples = false;
    loop {
        while let Some(required) = demuxer.required_input() {
            if required.position > length {
                // The size of a box reaches beyond the end of the file.
                break;
            }
            demuxer.handle_input(input(data, required));
            if demuxer.required_input() == Some(required) {
                break;
            }
        }
        match demuxer.next_sample() {
            Ok(Some(sample)) => {
                samples = true;
                tracks.add(data, &sample)?;
            }
            Ok(None) => return Ok(false),
            // If the writer was killed, the file ends in the middle of its last fragment.
            Err(_) if samples => return Ok(true),
            Err(error) => return Err(damaged(error)),
        }
    }
}

#[derive(Default)]
struct Tracks {
    video: Option<Video>,
    audio: Option<Audio>,
    with_audio: bool,
    /// The problems of tracks that cannot be sent; the other tracks are still read.
    problems: Vec<ClipProblem>,
    video_refused: bool,
    audio_refused: bool,
    samples: usize,
}

struct Video {
    id: u32,
    timescale: u32,
    format: VideoFormat,
    track: VideoTrack,
}

enum VideoFormat {
    H264 { length_bytes: usize, parameter_sets: Vec<Vec<u8>> },
    AsItIs,
}

struct Audio {
    id: u32,
    timescale: u32,
    track: AudioTrack,
}

impl Tracks {
    fn add(&mut self, data: &Bytes, sample: &Sample<'_>) -> Result<(), ClipError> {
        self.samples += 1;
        if self.samples > SAMPLES_MAX {
            return Err(damaged("it has too many samples"));
        }
        let start = usize::try_from(sample.data_offset).map_err(damaged)?;
        let bytes = start
            .checked_add(sample.data_size)
            .filter(|&end| end <= data.len())
            .map(|end| data.slice(start..end))
            .ok_or_else(|| damaged("a sample lies outside the file"))?;
        let id = sample.track.track_id;
        match sample.track.kind {
            TrackKind::Video => {
                if self.video.is_none() && !self.video_refused {
                    match Video::begin(sample)? {
                        Ok(video) => self.video = Some(video),
                        Err(problem) => {
                            self.video_refused = true;
                            self.problems.push(problem);
                        }
                    }
                }
                if let Some(video) = self.video.as_mut().filter(|video| video.id == id) {
                    video.add(sample, bytes)?;
                }
            }
            TrackKind::Audio if !self.with_audio => {}
            TrackKind::Audio => {
                if self.audio.is_none() && !self.audio_refused {
                    match Audio::begin(sample)? {
                        Ok(audio) => self.audio = Some(audio),
                        Err(problem) => {
                            self.audio_refused = true;
                            self.problems.push(problem);
                        }
                    }
                }
                if let Some(audio) = self.audio.as_mut().filter(|audio| audio.id == id) {
                    audio.track.samples.push(ClipSample {
                        pts: rescale(
                            sample.timestamp,
                            audio.timescale,
                            AudioCodec::Opus.clock_rate(),
                        ),
                        duration: 0,
                        keyframe: true,
                        data: bytes,
                    });
                }
            }
            TrackKind::Subtitle => {}
        }
        Ok(())
    }

    fn into_found(self, truncated: bool) -> Found {
        let video = self.video.map(|mut video| {
            let fallback = rescale(1, 30, VideoCodec::CLOCK_RATE);
            set_durations(&mut video.track.samples, u32::try_from(fallback).unwrap_or(3000));
            video.track
        });
        let audio = self.audio.map(|mut audio| {
            set_opus_durations(&mut audio.track.samples);
            audio.track
        });
        Found { clip: Clip { video, audio, truncated }, problems: self.problems }
    }
}

impl Video {
    fn begin(sample: &Sample<'_>) -> Result<Result<Self, ClipProblem>, ClipError> {
        let entry = sample.sample_entry.ok_or_else(|| damaged("a track has no sample entry"))?;
        let (codec, visual, format) = if let SampleEntry::Avc1(entry) = entry {
            (VideoCodec::H264, &entry.visual, h264_format(&entry.avcc_box))
        } else if let SampleEntry::Vp08(entry) = entry {
            (VideoCodec::Vp8, &entry.visual, VideoFormat::AsItIs)
        } else if let SampleEntry::Vp09(entry) = entry {
            (VideoCodec::Vp9, &entry.visual, VideoFormat::AsItIs)
        } else {
            return Ok(Err(ClipProblem::VideoCodec(entry_name(entry))));
        };
        Ok(Ok(Self {
            id: sample.track.track_id,
            timescale: sample.track.timescale.get(),
            format,
            track: VideoTrack {
                codec,
                width: visual.width,
                height: visual.height,
                samples: Vec::new(),
            },
        }))
    }

    fn add(&mut self, sample: &Sample<'_>, bytes: Bytes) -> Result<(), ClipError> {
        if let Some(SampleEntry::Avc1(entry)) = sample.sample_entry {
            self.format = h264_format(&entry.avcc_box);
        }
        let shown = i64::try_from(sample.timestamp)
            .ok()
            .and_then(|at| at.checked_add(sample.composition_time_offset.unwrap_or(0)))
            .and_then(|at| u64::try_from(at).ok())
            .ok_or_else(|| damaged("a sample is shown before the beginning"))?;
        let data = match &self.format {
            VideoFormat::H264 { length_bytes, parameter_sets } => {
                annex_b(&bytes, *length_bytes, if sample.keyframe { parameter_sets } else { &[] })?
            }
            VideoFormat::AsItIs => bytes,
        };
        self.track.samples.push(ClipSample {
            pts: rescale(shown, self.timescale, VideoCodec::CLOCK_RATE),
            duration: 0,
            keyframe: sample.keyframe,
            data,
        });
        Ok(())
    }
}

impl Audio {
    fn begin(sample: &Sample<'_>) -> Result<Result<Self, ClipProblem>, ClipError> {
        let entry = sample.sample_entry.ok_or_else(|| damaged("a track has no sample entry"))?;
        let SampleEntry::Opus(opus) = entry else {
            return Ok(Err(ClipProblem::AudioCodec(entry_name(entry))));
        };
        Ok(Ok(Self {
            id: sample.track.track_id,
            timescale: sample.track.timescale.get(),
            track: AudioTrack {
                codec: AudioCodec::Opus,
                channels: opus.dops_box.output_channel_count,
                samples: Vec::new(),
            },
        }))
    }
}

fn h264_format(config: &AvccBox) -> VideoFormat {
    VideoFormat::H264 {
        length_bytes: usize::from(config.length_size_minus_one.get()) + 1,
        parameter_sets: config.sps_list.iter().chain(&config.pps_list).cloned().collect(),
    }
}

fn entry_name(entry: &SampleEntry) -> String {
    use shiguredo_mp4::BaseBox;
    codec_name(&entry.box_type().to_string())
}

/// Replaces the lengths with start codes, and puts the parameter sets first unless the sample
/// contains them.
pub(super) fn annex_b(
    sample: &[u8],
    length_bytes: usize,
    parameter_sets: &[Vec<u8>],
) -> Result<Bytes, ClipError> {
    let mut units = Vec::new();
    let mut rest = sample;
    while !rest.is_empty() {
        let (length, after) = rest
            .split_at_checked(length_bytes)
            .ok_or_else(|| damaged("a NAL unit's length is cut short"))?;
        let length = length.iter().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
        let (unit, after) = after
            .split_at_checked(length)
            .ok_or_else(|| damaged("a NAL unit is longer than its sample"))?;
        units.push(unit);
        rest = after;
    }
    let brings_own =
        [NAL_SPS, NAL_PPS].iter().all(|&kind| units.iter().any(|unit| nal_type(unit) == kind));
    let sets = if brings_own { &[] } else { parameter_sets };
    let mut out = BytesMut::with_capacity(sample.len() + 64);
    for unit in sets.iter().map(Vec::as_slice).chain(units) {
        out.put_u32(1);
        out.extend_from_slice(unit);
    }
    Ok(out.freeze())
}
