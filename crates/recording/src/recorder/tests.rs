//! Tests recordings on a full disk, and tracks that pause.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex};

use shiguredo_mp4::Decode;
use shiguredo_mp4::boxes::MfraBox;
use webm_iterable::WebmIterator;
use webm_iterable::matroska_spec::MatroskaSpec;

use super::track::time;
use super::*;
use crate::clip::{Clip, ClipKind};
use crate::mux::{Sample, TrackSpec};
use crate::packetizer::{Packetizer, PacketizerConfig};

/// A disk that is full after `room` bytes.
#[derive(Debug, Clone)]
struct SmallDisk {
    room: usize,
    /// Whether every write fails once the disk is full, even a small one.
    stays_full: bool,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Target for SmallDisk {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut disk = self.bytes.lock().unwrap();
        if disk.len() + bytes.len() > self.room {
            self.room = if self.stays_full { 0 } else { self.room };
            return Err(Error::from(ErrorKind::StorageFull));
        }
        disk.extend_from_slice(bytes);
        Ok(())
    }

    fn patch(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn length(&self) -> u64 {
        u64::try_from(self.bytes.lock().unwrap().len()).unwrap()
    }

    fn discard(&mut self) {
        self.bytes.lock().unwrap().clear();
    }
}

fn small_disk(room: usize, container: Container) -> (Recorder, Arc<Mutex<Vec<u8>>>) {
    disk(room, false, container)
}

fn disk(room: usize, stays_full: bool, container: Container) -> (Recorder, Arc<Mutex<Vec<u8>>>) {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let disk = SmallDisk { room, stays_full, bytes: Arc::clone(&bytes) };
    let path = Path::new("/nowhere/r");
    let config = RecorderConfig::default();
    (Recorder::with_target(path, container, config, Box::new(disk)), bytes)
}

fn packets(kind: ClipKind, seconds: u64) -> (Clip, Vec<(bool, Duration, Packet)>) {
    let clip = Clip::bundled(kind).unwrap();
    let video = clip.video().map(|track| (Codec::Video(track.codec), &track.samples)).unwrap();
    let audio = clip.audio().map(|track| (Codec::Audio(track.codec), &track.samples)).unwrap();
    let mut packets = Vec::new();
    for (ssrc, (codec, samples)) in [(1, video), (2, audio)] {
        let mut packetizer = Packetizer::new(codec, PacketizerConfig::new(ssrc, 96, 0));
        for sample in samples {
            let at = time(sample.pts, codec.clock_rate());
            if at < Duration::from_secs(seconds) {
                let timestamp = u32::try_from(sample.pts).unwrap();
                for packet in packetizer.packetize(&sample.data, timestamp).unwrap() {
                    packets.push((ssrc == 1, at, packet));
                }
            }
        }
    }
    packets.sort_by_key(|packet| packet.1);
    (clip, packets)
}

// Shows: 54.
#[test]
fn full_disk_is_reported_and_file_is_playable() {
    for (kind, codec, container) in [
        (ClipKind::H264Opus, VideoCodec::H264, Container::Mp4),
        (ClipKind::Vp8Opus, VideoCodec::Vp8, Container::WebM),
    ] {
        let (mut recorder, disk) = small_disk(60_000, container);
        let video = recorder.add_video(codec).unwrap();
        let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
        let (clip, packets) = packets(kind, 60);
        let mut failures = 0;
        for (is_video, at, packet) in packets {
            let track = if is_video { video } else { audio };
            if let Err(error) = recorder.push_rtp(track, at, packet) {
                assert!(matches!(error, RecordError::DiskFull(_)), "{error}");
                failures += 1;
            }
        }
        assert!(failures > 100, "each later packet is answered with the failure");
        assert!(matches!(recorder.finish(), Err(RecordError::DiskFull(_))));
        let bytes = bytes::Bytes::from(disk.lock().unwrap().clone());
        let recorded = Clip::from_bytes(bytes).unwrap();
        assert!(!recorded.is_truncated());
        let frames = &recorded.video().unwrap().samples;
        assert!(frames.len() > 100);
        for (recorded, original) in frames.iter().zip(&clip.video().unwrap().samples) {
            assert_eq!(recorded.data, original.data);
        }
    }
}

/// Returns the offsets of the fragments in the index, and the duration in the header.
fn mp4_index(file: &[u8]) -> (Vec<u64>, Duration) {
    let find = |name: &[u8]| file.windows(4).rposition(|window| window == name);
    let duration = find(b"mehd").map(|at| file[at + 8..at + 16].try_into().unwrap()).unwrap();
    let entries = find(b"mfra").map_or_else(Vec::new, |at| {
        let (index, length) = MfraBox::decode(&file[at - 4..]).unwrap();
        assert_eq!(at - 4 + length, file.len());
        index.tfra_boxes[0].entries.iter().map(|entry| entry.moof_offset).collect()
    });
    (entries, Duration::from_millis(u64::from_be_bytes(duration)))
}

/// The same for WebM; also checks the segment's size and the seek head.
fn webm_index(file: &[u8]) -> (Vec<u64>, Duration) {
    let segment = file.windows(4).position(|id| id == [0x18, 0x53, 0x80, 0x67]).unwrap();
    let content = segment + 12;
    let size = u64::from_be_bytes(file[segment + 4..content].try_into().unwrap());
    assert_eq!(size & !(0x01 << 56), u64::try_from(file.len() - content).unwrap());
    let (mut entries, mut duration) = (Vec::new(), None);
    for tag in WebmIterator::new(std::io::Cursor::new(file), &[]) {
        let tag = tag.unwrap();
        if let MatroskaSpec::SeekPosition(at) = tag {
            // The seek head references the segment information, the tracks and the index.
            let at = content + usize::try_from(at).unwrap();
            let id = &file[at..at + 4];
            assert!(
                [[0x15, 0x49, 0xa9, 0x66], [0x16, 0x54, 0xae, 0x6b], [0x1c, 0x53, 0xbb, 0x6b]]
                    .iter()
                    .any(|known| known == id)
            );
        }
        if let MatroskaSpec::CueClusterPosition(at) = tag {
            entries.push(u64::try_from(content).unwrap() + at);
        }
        if let MatroskaSpec::Duration(millis) = tag {
            duration = Some(Duration::from_secs_f64(millis / 1000.0));
        }
    }
    (entries, duration.unwrap())
}

/// Returns when the last audio packet begins; a [`Clip`] omits audio after the last video frame.
fn last_sound(file: &[u8], is_mp4: bool) -> Duration {
    if is_mp4 {
        let clip = Clip::from_bytes(file.to_vec().into()).unwrap();
        return time(clip.audio().unwrap().samples.last().unwrap().pts, 48_000);
    }
    let mut demuxer = matroska_demuxer::MatroskaFile::open(std::io::Cursor::new(file)).unwrap();
    let sound = |track: &&matroska_demuxer::TrackEntry| {
        track.track_type() == matroska_demuxer::TrackType::Audio
    };
    let sound = demuxer.tracks().iter().find(sound).unwrap().track_number().get();
    let (mut frame, mut last) = (matroska_demuxer::Frame::default(), 0);
    while demuxer.next_frame(&mut frame).unwrap() {
        last = if frame.track == sound { frame.timestamp } else { last };
    }
    Duration::from_millis(last)
}

// Shows: 54.
#[test]
fn index_omits_fragment_lost_to_full_disk() {
    for (kind, codec, container) in [
        (ClipKind::H264Opus, VideoCodec::H264, Container::Mp4),
        (ClipKind::Vp8Opus, VideoCodec::Vp8, Container::WebM),
    ] {
        for stays_full in [false, true] {
            let (mut recorder, disk) = disk(61_000, stays_full, container);
            let video = recorder.add_video(codec).unwrap();
            let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
            for (is_video, at, packet) in packets(kind, 60).1 {
                let _ = recorder.push_rtp(if is_video { video } else { audio }, at, packet);
            }
            assert!(matches!(recorder.finish(), Err(RecordError::DiskFull(_))));
            let file = disk.lock().unwrap().clone();
            let is_mp4 = container == Container::Mp4;
            let start = if is_mp4 { &b"moof"[..] } else { &[0x1f, 0x43, 0xb6, 0x75][..] };
            let (entries, duration) = if is_mp4 { mp4_index(&file) } else { webm_index(&file) };
            assert_eq!(entries.is_empty(), stays_full, "an index that has room is there");
            for at in entries {
                let at = usize::try_from(at).unwrap() + if is_mp4 { 4 } else { 0 };
                assert_eq!(&file[at..at + 4], start, "a fragment is where the index says");
            }
            let sound = last_sound(&file, is_mp4);
            let clip = Clip::from_bytes(file.into()).unwrap();
            let end = clip.duration().max(sound + Duration::from_millis(20));
            assert!(duration.abs_diff(end) < Duration::from_millis(5), "{duration:?} {end:?}");
        }
    }
}

#[test]
fn disk_full_at_first_byte_is_reported() {
    let (mut recorder, _) = small_disk(10, Container::Mp4);
    let video = recorder.add_video(VideoCodec::H264).unwrap();
    let (_, packets) = packets(ClipKind::H264Opus, 3);
    let results: Vec<_> = packets
        .into_iter()
        .filter(|packet| packet.0)
        .map(|(_, at, packet)| recorder.push_rtp(video, at, packet))
        .collect();
    assert!(results.iter().any(|result| matches!(result, Err(RecordError::DiskFull(_)))));
    assert!(matches!(recorder.finish(), Err(RecordError::DiskFull(_))));
}

#[test]
fn track_paused_for_46_s_keeps_its_times() {
    for (kind, codec, container) in [
        (ClipKind::H264Opus, VideoCodec::H264, Container::Mp4),
        (ClipKind::Vp8Opus, VideoCodec::Vp8, Container::WebM),
    ] {
        let (mut recorder, disk) = small_disk(10_000_000, container);
        let video = recorder.add_video(codec).unwrap();
        let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
        let (_, packets) = packets(kind, 60);
        let (from, to) = (Duration::from_secs(4), Duration::from_secs(50));
        let mut sequence = 0u16;
        for (is_video, at, mut packet) in packets {
            if is_video {
                if (from..to).contains(&at) {
                    continue;
                }
                // The camera sent no packets in between, so no sequence number is missing.
                packet.header.sequence_number = sequence;
                sequence = sequence.wrapping_add(1);
            }
            recorder.push_rtp(if is_video { video } else { audio }, at, packet).unwrap();
        }
        // The video frame before the pause is written long before the one after it.
        recorder.finish().unwrap();
        let bytes = bytes::Bytes::from(disk.lock().unwrap().clone());
        let recorded = Clip::from_bytes(bytes).unwrap();
        let frames = &recorded.video().unwrap().samples;
        assert_eq!(frames.len(), 60 + 150);
        let pause = time(frames[60].pts - frames[59].pts, 90_000);
        let expected = Duration::from_millis(46_067);
        assert!(pause.abs_diff(expected) < Duration::from_millis(5), "{pause:?}");
        assert_eq!(recorded.audio().unwrap().samples.len(), 3000);
    }
}

#[test]
fn audio_alone_is_discarded_if_video_was_expected() {
    for accepted in [false, true] {
        let (mut recorder, disk) = small_disk(10_000_000, Container::Mp4);
        let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
        for (_, at, packet) in packets(ClipKind::H264Opus, 30).1.into_iter().filter(|p| !p.0) {
            recorder.push_rtp(audio, at, packet).unwrap();
        }
        assert!(!disk.lock().unwrap().is_empty());
        if accepted {
            recorder.accept_sound_alone();
            assert_eq!(recorder.finish().unwrap().audio_packets, 1500);
        } else {
            assert!(matches!(recorder.finish(), Err(RecordError::NoPicture)));
            assert!(disk.lock().unwrap().is_empty(), "the file is removed");
        }
    }
}

#[test]
fn matroska_block_times_fit_cluster_after_track_pauses() {
    let (mut recorder, disk) = small_disk(10_000_000, Container::Matroska);
    let video = recorder.add_video(VideoCodec::Vp8).unwrap();
    let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
    let mut shift = [Duration::ZERO; 2];
    let mut pushed = 0;
    for (index, (is_video, at, packet)) in packets(ClipKind::Vp8Opus, 20).1.into_iter().enumerate()
    {
        // Each track in turn pauses for longer than a cluster can span.
        if index % 200 == 100 {
            shift[index / 200 % 2] = *shift.iter().max().unwrap() + Duration::from_secs(40);
        }
        let track = if is_video { video } else { audio };
        recorder.push_rtp(track, at + shift[usize::from(is_video)], packet).unwrap();
        pushed += u64::from(!is_video);
    }
    let summary = recorder.finish().unwrap();
    assert!(summary.audio_packets + 20 > pushed, "{} of {pushed}", summary.audio_packets);
    assert!(Clip::from_bytes(disk.lock().unwrap().clone().into()).is_ok());
}

#[test]
fn container_error_describes_invalid_media() {
    let mut muxer = Container::Matroska.muxer();
    let codec = Codec::Audio(AudioCodec::Opus);
    let spec = TrackSpec { codec, size: None, parameter_sets: None, colour: None, lead: 0 };
    let info = FileInfo { title: None, encoder: String::new(), began: None };
    muxer.head(&info, &[spec], false).unwrap();
    let sample = |shown: u64| Sample {
        shown,
        decoded: i64::try_from(shown).unwrap(),
        duration: 960,
        keyframe: true,
        data: bytes::Bytes::new(),
    };
    let error = muxer.fragment(100, &[vec![sample(0), sample(40 * 48_000)]]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the recording cannot go on: a frame of Opus at 40000 ms: it is too far from what else came \
         with it, at 0 ms"
    );
}
