//! Sends a clip as RTP through a network into a file, reads the file again and compares.

use std::time::Duration;

use crate::network::{Chance, Sender, Sent, push, record, recorder, shuffle, spawn, video_codec};
use recording::{
    AudioCodec, Clip, ClipKind, ClipSample, RecordError, Recorder, RecorderConfig, VideoCodec,
};

const KINDS: [ClipKind; 2] = [ClipKind::H264Opus, ClipKind::Vp8Opus];

fn path(directory: &tempfile::TempDir, kind: ClipKind) -> std::path::PathBuf {
    directory.path().join("r").with_extension(video_codec(kind).1)
}

fn video(clip: &Clip) -> &[ClipSample] {
    &clip.video().unwrap().samples
}

fn audio(clip: &Clip) -> &[ClipSample] {
    &clip.audio().unwrap().samples
}

/// Asserts that the frames are equal, with the same presentation times up to the resolution of the
/// container.
fn assert_same(recorded: &[ClipSample], original: &[ClipSample], tolerance: u64) {
    assert_eq!(recorded.len(), original.len());
    let first = original[0].pts;
    for (index, (recorded, original)) in recorded.iter().zip(original).enumerate() {
        // The sender puts SPS and PPS before each keyframe, and omits access unit delimiters.
        assert_eq!(recorded.data, original.data, "sample {index}");
        assert_eq!(recorded.keyframe, original.keyframe, "sample {index}");
        let expected = original.pts - first;
        assert!(
            recorded.pts.abs_diff(expected) <= tolerance,
            "sample {index}: {} for {expected}",
            recorded.pts
        );
    }
}

#[test]
fn clip_round_trips_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let original = Clip::bundled(kind).unwrap();
        let mut sent = Sender::wrapping(60).send(&original);
        let count = sent.len();
        shuffle(&mut sent, &mut Chance(7));
        assert!(sent.len() > count + 100);
        let path = path(&directory, kind);
        let summary = record(&path, kind, &sent);
        let recorded = Clip::open(&path).unwrap();
        assert_same(video(&recorded), video(&original), 90);
        // The first audio packets may have arrived before the first video frame.
        let sound = audio(&recorded);
        let begin = audio(&original).len() - sound.len();
        assert!(begin <= 15, "{begin} packets of sound are missing");
        for (recorded, original) in sound.iter().zip(&audio(&original)[begin..]) {
            assert_eq!(recorded.data, original.data);
        }
        assert_eq!((summary.video_frames, recorded.is_truncated()), (900, false));
        let stats = summary.video.unwrap();
        assert_eq!((stats.lost, stats.frames_dropped), (0, 0));
        assert!(stats.duplicate + stats.late > 0);
        assert!(summary.duration.abs_diff(Duration::from_secs(60)) < Duration::from_millis(300));
        assert!((58..=66).contains(&summary.fragments), "{} fragments", summary.fragments);
    }
}

// Shows: 67.
#[test]
fn losses_drop_only_frames_until_next_keyframe() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let original = Clip::bundled(kind).unwrap();
        let mut chance = Chance(3);
        let mut sent = Sender::wrapping(60).send(&original);
        // A lost picture counts once, so remember which pictures lost a packet.
        let first = sent.iter().find(|sent| sent.video).unwrap().packet.header.timestamp;
        let mut hit = Vec::new();
        sent.retain(|Sent { video, packet, .. }| {
            let lost = *video && chance.below(100) < 2;
            if lost {
                hit.push(packet.header.timestamp.wrapping_sub(first));
            }
            !lost
        });
        assert!(hit.len() > 10);
        let path = path(&directory, kind);
        let summary = record(&path, kind, &sent);
        let recorded = Clip::open(&path).unwrap();
        // Computes the expected pictures: none after a damaged one until the next whole keyframe.
        let begin = video(&original)[0].pts;
        let mut good = false;
        let expected: Vec<&ClipSample> = video(&original)
            .iter()
            .filter(|sample| {
                let whole = !hit.contains(&u32::try_from(sample.pts - begin).unwrap());
                good = whole && (good || sample.keyframe);
                good
            })
            .collect();
        assert_eq!(video(&recorded).len(), expected.len());
        for (recorded, expected) in video(&recorded).iter().zip(&expected) {
            assert_eq!(recorded.data, expected.data);
        }
        let stats = summary.video.unwrap();
        assert_eq!(stats.lost, u64::try_from(hit.len()).unwrap());
        // The file and its audio begin with the first whole keyframe; the reader omits audio beyond
        // the last picture.
        let last = expected.last().unwrap();
        let shown = last.pts + u64::from(last.duration) - expected[0].pts;
        let packets = usize::try_from(shown / 1800).unwrap();
        let recorded = audio(&recorded).len();
        assert!(recorded.abs_diff(packets) <= 3, "{recorded} packets of sound of {packets}");
    }
}

#[test]
fn file_cut_anywhere_plays_up_to_its_last_whole_fragment() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = path(&directory, kind);
        let sent = Sender::wrapping(10).send(&Clip::bundled(kind).unwrap());
        let (mut recorder, v, a) = recorder(&path, kind);
        let mut ends = Vec::new();
        for sent in &sent {
            push(&mut recorder, (v, a), std::slice::from_ref(sent));
            // The file is created with its first byte.
            let length = std::fs::metadata(&path).map_or(0, |file| file.len());
            if ends.last() != Some(&length) && length > 0 {
                ends.push(length);
            }
        }
        // The recording is not finished, as if the process had been killed here.
        let whole = std::fs::read(&path).unwrap();
        assert!(ends.len() >= 9, "{} fragments", ends.len());
        let frames = |bytes: &[u8]| {
            Clip::from_bytes(bytes::Bytes::copy_from_slice(bytes))
                .map_or(0, |clip| video(&clip).len())
        };
        // The first length may be that of the header alone.
        let mut before = 0;
        for &end in &ends[1..] {
            let end = usize::try_from(end).unwrap();
            let at_boundary = frames(&whole[..end]);
            assert!(at_boundary >= before + 14, "{before} then {at_boundary}");
            assert!(frames(&whole[..end - 1]) >= before);
            before = at_boundary;
        }
        assert!(before >= 130, "{before} of 150 frames were on the disk");
        drop(recorder);
    }
}

// Shows: 67.
#[test]
fn new_source_continues_at_its_first_keyframe() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let clip = Clip::bundled(kind).unwrap();
        let mut sent = Sender::wrapping(4).send(&clip);
        let second = Sender {
            seconds: 4,
            ssrc: 0x2000,
            sequence: 77,
            timestamp: 123_456_789,
            begin: Duration::from_secs(8),
        };
        sent.extend(second.send(&clip));
        let path = path(&directory, kind);
        let summary = record(&path, kind, &sent);
        assert_eq!(summary.video.unwrap().source_changes, 1);
        let recorded = Clip::open(&path).unwrap();
        assert_eq!(video(&recorded).len(), 120);
        // The file contains 3 s to 7 s, the pause, and the rest from 8 s on.
        let (last, next) = (&video(&recorded)[59], &video(&recorded)[60]);
        assert!(next.keyframe);
        let pause = Duration::from_micros((next.pts - last.pts) * 100 / 9);
        assert!(
            pause.abs_diff(Duration::from_millis(1067)) < Duration::from_millis(10),
            "{pause:?}"
        );
    }
}

#[test]
fn sender_reports_synchronise_late_video() {
    let directory = tempfile::tempdir().unwrap();
    let kind = ClipKind::H264Opus;
    let sender = Sender::wrapping(6);
    let mut sent = sender.send(&Clip::bundled(kind).unwrap());
    for sent in sent.iter_mut().filter(|sent| sent.video) {
        sent.at += Duration::from_millis(300);
    }
    sent.sort_by_key(|sent| sent.at);
    let path = path(&directory, kind);
    let (mut recorder, v, a) = recorder(&path, kind);
    let half = sent.len() / 3;
    push(&mut recorder, (v, a), &sent[..half]);
    recorder.push_sender_report(v, sender.report(true)).unwrap();
    recorder.push_sender_report(a, sender.report(false)).unwrap();
    push(&mut recorder, (v, a), &sent[half..]);
    recorder.finish().unwrap();
    let original = Clip::bundled(kind).unwrap();
    let recorded = Clip::open(&path).unwrap();
    // The picture and the sound at 4 s are presented at the same time.
    let time_of = |samples: &[ClipSample], data: &[u8], rate: f64| {
        #[expect(clippy::cast_precision_loss, reason = "a few seconds of ticks")]
        let pts = samples.iter().find(|sample| sample.data == data).unwrap().pts as f64;
        pts / rate
    };
    let picture = time_of(video(&recorded), &video(&original)[60].data, 90_000.0);
    let sound = time_of(audio(&recorded), &audio(&original)[200].data, 48_000.0);
    assert!((picture - sound).abs() < 0.015, "picture at {picture}, sound at {sound}");
}

#[test]
fn video_or_audio_alone_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let sent = Sender::wrapping(3).send(&Clip::bundled(kind).unwrap());
        for (with_video, name) in [(true, "v"), (false, "a")] {
            let path = directory.path().join(name).with_extension(video_codec(kind).1);
            let config = RecorderConfig { video: with_video, ..RecorderConfig::default() };
            let mut recorder = Recorder::create(&path, config).unwrap();
            let track = if with_video {
                recorder.add_video(video_codec(kind).0).unwrap()
            } else {
                recorder.add_audio(AudioCodec::Opus).unwrap()
            };
            for sent in sent.iter().filter(|sent| sent.video == with_video) {
                recorder.push_rtp(track, sent.at, sent.packet.clone()).unwrap();
            }
            recorder.finish().unwrap();
            let clip = Clip::open(&path).unwrap();
            assert_eq!(
                clip.video().map_or(0, |track| track.samples.len()),
                usize::from(with_video) * 45
            );
            assert_eq!(
                clip.audio().map_or(0, |track| track.samples.len()),
                usize::from(!with_video) * 150
            );
        }
    }
}

#[test]
fn invalid_path_extension_or_codec_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().join("there.mp4");
    std::fs::write(&there, b"kept").unwrap();
    let create = |path: &std::path::Path| Recorder::create(path, RecorderConfig::default());
    assert!(matches!(create(&there), Err(RecordError::AlreadyExists(_))));
    assert_eq!(std::fs::read(&there).unwrap(), b"kept");
    let inside = there.join("x.mp4");
    assert!(matches!(create(&inside), Err(RecordError::NotADirectory(_))));
    let nowhere = directory.path().join("no/x.mp4");
    assert!(matches!(create(&nowhere), Err(RecordError::ParentMissing(_))));
    let unnamed = directory.path().join("x.avi");
    assert!(matches!(create(&unnamed), Err(RecordError::UnknownExtension(_))));

    let path = directory.path().join("new.mp4");
    let mut recorder = create(&path).unwrap();
    let refused = recorder.add_video(VideoCodec::Vp8).unwrap_err();
    assert_eq!(refused.to_string(), "the camera sends VP8: record to .webm or .mkv");
    let first = recorder.add_video(VideoCodec::H264).unwrap();
    // A track that replaces the first one has the same id.
    let again = recorder.add_video(VideoCodec::H264).unwrap();
    assert_eq!(again, first);
    assert!(matches!(recorder.finish(), Err(RecordError::NothingRecorded)));
    assert!(!path.exists());
}

#[test]
fn recorder_handle_writes_same_file_as_recorder() {
    let directory = tempfile::tempdir().unwrap();
    let kind = ClipKind::Vp8Opus;
    let sent = Sender::wrapping(5).send(&Clip::bundled(kind).unwrap());
    let path = path(&directory, kind);
    let (handle, v, a) = spawn(&path, kind);
    for Sent { at, video, packet } in &sent {
        handle.push_rtp(if *video { v } else { a }, *at, packet.clone());
    }
    assert_eq!(handle.overflow(), 0);
    assert!(handle.failure().is_none());
    let summary = handle.finish().unwrap();
    assert_eq!(summary.video_frames, 75);
    assert_eq!(video(&Clip::open(&path).unwrap()).len(), 75);
}
