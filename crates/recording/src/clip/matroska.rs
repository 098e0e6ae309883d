//! WebM and Matroska, over `matroska-demuxer`.

use std::io::Cursor;

use bytes::Bytes;
use matroska_demuxer::{Frame, MatroskaFile, TrackEntry, TrackType};
use shiguredo_mp4::Decode;
use shiguredo_mp4::boxes::AvccBox;

use super::mp4::annex_b;
use super::{
    AudioTrack, Clip, ClipError, ClipProblem, ClipSample, Found, SAMPLES_MAX, VideoTrack,
    codec_name, set_durations, set_opus_durations,
};
use encoded_frames::h264::{NAL_IDR, length_prefixed_nals, nal_type};
use encoded_frames::{AudioCodec, VideoCodec};

pub(super) fn read(data: &Bytes, with_audio: bool) -> Result<Found, ClipError> {
    let mut file = MatroskaFile::open(Cursor::new(data.clone())).map_err(damaged)?;
    let nanos_per_tick = file.info().timestamp_scale().get();
    let mut problems = Vec::new();
    let mut video = match first(file.tracks(), TrackType::Video).map(Video::begin) {
        Some(Ok(begun)) => begun.map_err(|problem| problems.push(problem)).ok(),
        Some(Err(error)) => return Err(error),
        None => None,
    };
    let mut audio = match first(file.tracks(), TrackType::Audio).filter(|_| with_audio) {
        Some(track) => Audio::begin(track).map_err(|problem| problems.push(problem)).ok(),
        None => None,
    };
    let ticks = |timestamp: u64, rate: u32| {
        let nanos = u128::from(timestamp) * u128::from(nanos_per_tick) * u128::from(rate);
        u64::try_from((nanos + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
    };
    let mut truncated = false;
    let mut count = 0;
    let mut frame = Frame::default();
    loop {
        match file.next_frame(&mut frame) {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) if count > 0 => {
                truncated = true;
                break;
            }
            Err(error) => return Err(damaged(error)),
        }
        count += 1;
        if count > SAMPLES_MAX {
            return Err(ClipError::Damaged("it has too many samples".into()));
        }
        if let Some(video) = video.as_mut().filter(|video| video.number == frame.track) {
            let pts = ticks(frame.timestamp, VideoCodec::CLOCK_RATE);
            video.add(pts, std::mem::take(&mut frame.data))?;
        } else if let Some(audio) = audio.as_mut().filter(|audio| audio.number == frame.track) {
            audio.track.samples.push(ClipSample {
                pts: ticks(frame.timestamp, AudioCodec::Opus.clock_rate()),
                duration: 0,
                keyframe: true,
                data: Bytes::from(std::mem::take(&mut frame.data)),
            });
        }
    }
    let clip = Clip {
        video: video.map(|mut video| {
            set_durations(&mut video.track.samples, VideoCodec::CLOCK_RATE / 30);
            video.track
        }),
        audio: audio.map(|mut audio| {
            set_opus_durations(&mut audio.track.samples);
            audio.track
        }),
        truncated,
    };
    Ok(Found { clip, problems })
}

fn damaged(error: impl std::fmt::Display) -> ClipError {
    ClipError::Damaged(error.to_string())
}

fn first(tracks: &[TrackEntry], kind: TrackType) -> Option<&TrackEntry> {
    tracks.iter().find(|track| track.track_type() == kind)
}

struct Video {
    number: u64,
    /// For H.264, the number of bytes of a NAL unit length, and the parameter sets.
    h264: Option<(usize, Vec<Vec<u8>>)>,
    track: VideoTrack,
}

impl Video {
    fn begin(track: &TrackEntry) -> Result<Result<Self, ClipProblem>, ClipError> {
        let codec = match track.codec_id() {
            "V_VP8" => VideoCodec::Vp8,
            "V_VP9" => VideoCodec::Vp9,
            "V_MPEG4/ISO/AVC" => VideoCodec::H264,
            other => return Ok(Err(ClipProblem::VideoCodec(codec_name(other)))),
        };
        if track.content_encodings().is_some_and(|encodings| !encodings.is_empty()) {
            return Ok(Err(ClipProblem::VideoCodec("compressed or encrypted".into())));
        }
        let h264 = match codec {
            VideoCodec::H264 => Some(h264_config(track.codec_private().unwrap_or_default())?),
            VideoCodec::Vp8 | VideoCodec::Vp9 => None,
        };
        let size = |side: Option<u64>| side.and_then(|side| u16::try_from(side).ok()).unwrap_or(0);
        Ok(Ok(Self {
            number: track.track_number().get(),
            h264,
            track: VideoTrack {
                codec,
                width: size(track.video().map(|video| video.pixel_width().get())),
                height: size(track.video().map(|video| video.pixel_height().get())),
                samples: Vec::new(),
            },
        }))
    }

    /// Adds a frame. Detects keyframes from the frame itself, since blocks of a group do not mark
    /// them.
    fn add(&mut self, pts: u64, data: Vec<u8>) -> Result<(), ClipError> {
        use shiguredo_mp4::bitstream::{vp8, vp9};
        let (keyframe, data) = match (&self.h264, self.track.codec) {
            (Some((length_bytes, sets)), _) => {
                let keyframe = *length_bytes == 4
                    && length_prefixed_nals(&data).any(|nal| nal_type(nal) == NAL_IDR);
                (keyframe, annex_b(&data, *length_bytes, if keyframe { sets } else { &[] })?)
            }
            (None, VideoCodec::Vp9) => {
                let header = vp9::parse_frame_header(&data).map_err(damaged)?;
                let keyframe = header.show_existing_frame.is_none()
                    && header.frame_type == vp9::Vp9FrameType::Key;
                (keyframe, Bytes::from(data))
            }
            (None, VideoCodec::Vp8 | VideoCodec::H264) => {
                let header = vp8::parse_frame_header(&data).map_err(damaged)?;
                (header.keyframe.is_some(), Bytes::from(data))
            }
        };
        self.track.samples.push(ClipSample { pts, duration: 0, keyframe, data });
        Ok(())
    }
}

/// Parses the configuration record of ISO/IEC 14496-15, which Matroska stores without its box.
fn h264_config(private: &[u8]) -> Result<(usize, Vec<Vec<u8>>), ClipError> {
    let mut avcc = u32::try_from(private.len() + 8).map_err(damaged)?.to_be_bytes().to_vec();
    avcc.extend_from_slice(b"avcC");
    avcc.extend_from_slice(private);
    let (config, _) = AvccBox::decode(&avcc).map_err(damaged)?;
    let length_bytes = usize::from(config.length_size_minus_one.get()) + 1;
    Ok((length_bytes, config.sps_list.into_iter().chain(config.pps_list).collect()))
}

struct Audio {
    number: u64,
    track: AudioTrack,
}

impl Audio {
    fn begin(track: &TrackEntry) -> Result<Self, ClipProblem> {
        if track.codec_id() != "A_OPUS" {
            return Err(ClipProblem::AudioCodec(codec_name(track.codec_id())));
        }
        let channels = track.audio().map_or(2, |audio| audio.channels().get());
        Ok(Self {
            number: track.track_number().get(),
            track: AudioTrack {
                codec: AudioCodec::Opus,
                channels: u8::try_from(channels).unwrap_or(2),
                samples: Vec::new(),
            },
        })
    }
}
