//! Checks the times and descriptions in the files with ffprobe, for cameras with unusual clocks or
//! pictures.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use recording::{
    AudioCodec, Clip, ClipKind, Codec, Packetizer, PacketizerConfig, Recorder, RecorderConfig,
    TrackId, VideoCodec,
};

use crate::ffmpeg::{complaints, encode};

const INSTALL: &str = "is needed for this test; install it (Debian: apt-get install ffmpeg)";

/// The frame rate of all video in these tests, per second.
const RATE: u64 = 15;

fn ffprobe(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error"])
        .args(arguments)
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("ffprobe {INSTALL}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the times of a stream's (`v` or `a`) decoded frames, in milliseconds and in presentation
/// order.
fn shown(path: &Path, stream: &str) -> Vec<f64> {
    let arguments =
        ["-select_streams", stream, "-show_entries", "frame=pts_time", "-of", "csv=p=0"];
    let text = ffprobe(path, &arguments);
    text.lines()
        .filter_map(|line| line.trim_matches(',').parse::<f64>().ok())
        .map(|seconds| seconds * 1000.0)
        .collect()
}

/// Returns the times of a stream's samples: presentation and decoding, in milliseconds, in file
/// order.
fn samples(path: &Path, stream: &str) -> Vec<(f64, f64)> {
    let arguments =
        ["-select_streams", stream, "-show_entries", "packet=pts_time,dts_time", "-of", "csv=p=0"];
    let text = ffprobe(path, &arguments);
    text.lines()
        .map(|line| {
            let time = |field: &str| field.parse::<f64>().unwrap_or(f64::NAN) * 1000.0;
            let mut fields = line.split(',').map(time);
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect()
}

fn rises(times: &[f64]) -> bool {
    times.windows(2).all(|pair| pair[1] > pair[0])
}

/// A recorder, and the packets for it with their arrival times.
struct Recording {
    recorder: Recorder,
    arrivals: Vec<(Duration, TrackId, recording::rtp::Packet)>,
}

impl Recording {
    fn new(path: &Path, config: RecorderConfig) -> Self {
        Self { recorder: Recorder::create(path, config).unwrap(), arrivals: Vec::new() }
    }

    /// Adds frames; `when` returns the arrival and the timestamp of each.
    fn send(&mut self, codec: Codec, frames: &[Bytes], when: impl Fn(u64) -> (Duration, u64)) {
        let (track, ssrc) = match codec {
            Codec::Video(codec) => (self.recorder.add_video(codec).unwrap(), 1),
            Codec::Audio(codec) => (self.recorder.add_audio(codec).unwrap(), 2),
        };
        let mut packetizer = Packetizer::new(codec, PacketizerConfig::new(ssrc, 96, 0));
        for (index, frame) in (0..).zip(frames) {
            let (arrival, timestamp) = when(index);
            let timestamp = u32::try_from((timestamp + 0xffff_0000) & 0xffff_ffff).unwrap();
            for packet in packetizer.packetize(frame, timestamp).unwrap() {
                self.arrivals.push((arrival, track, packet));
            }
        }
    }

    fn finish(mut self) -> recording::Summary {
        self.arrivals.sort_by_key(|(arrival, ..)| *arrival);
        for (arrival, track, packet) in self.arrivals {
            self.recorder.push_rtp(track, arrival, packet).unwrap();
        }
        self.recorder.finish().unwrap()
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns when a picture is sent: at a steady pace from 5 s on.
fn paced(index: u64) -> Duration {
    ms(5_000) + Duration::from_nanos(index * 1_000_000_000 / RATE)
}

/// Returns the frames of the bundled video.
fn pictures(kind: ClipKind, seconds: u64) -> Vec<Bytes> {
    let clip = Clip::bundled(kind).unwrap();
    let count = usize::try_from(seconds * RATE).unwrap();
    clip.video().unwrap().samples[..count].iter().map(|sample| sample.data.clone()).collect()
}

fn sound(seconds: u64) -> Vec<Bytes> {
    let clip = Clip::bundled(ClipKind::H264Opus).unwrap();
    let count = usize::try_from(seconds * 50).unwrap();
    clip.audio().unwrap().samples[..count].iter().map(|sample| sample.data.clone()).collect()
}

/// Returns pictures with two B-frames between the others, in decoding order, and the presentation
/// position of each.
fn b_frames(directory: &Path, options: &[&str]) -> Vec<(Bytes, u64)> {
    let (file, stream) = (directory.join("b.mkv"), directory.join("b.h264"));
    let mut arguments =
        vec!["-c:v", "libx264", "-bf", "2", "-g", "30", "-sc_threshold", "0", "-an"];
    arguments.extend_from_slice(options);
    encode(&file, &arguments);
    let annex_b = ["-c", "copy", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert"];
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", file.to_str().unwrap()])
        .args(annex_b)
        .arg(&stream)
        .output()
        .unwrap_or_else(|error| panic!("ffmpeg {INSTALL}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = Bytes::from(std::fs::read(&stream).unwrap());
    // Each picture begins with an access unit delimiter.
    let begin = |at: &usize| bytes[*at..].starts_with(&[0, 0, 0, 1, 9]);
    let mut ends: Vec<usize> = (0..bytes.len()).filter(begin).collect();
    ends.push(bytes.len());
    let places = samples(&file, "v").into_iter().map(|(shown, _)| {
        let place = (shown * 15.0 / 1000.0).round();
        format!("{place}").parse::<u64>().unwrap()
    });
    ends.windows(2).map(|pair| bytes.slice(pair[0]..pair[1])).zip(places).collect()
}

const H264: Codec = Codec::Video(VideoCodec::H264);
const OPUS: Codec = Codec::Audio(AudioCodec::Opus);

// Shows: 67.
#[test]
fn b_frames_keep_their_presentation_times() {
    let directory = tempfile::tempdir().unwrap();
    // With the default and with the strict B-pyramid of x264.
    for options in [&["-x264-params", "b-adapt=0"][..], &["-x264-params", "b-adapt=0:b-pyramid=1"]]
    {
        let folder = directory.path().join(options[1].replace(':', "-"));
        std::fs::create_dir(&folder).unwrap();
        let pictures = b_frames(&folder, options);
        assert_eq!(pictures.len(), 60);
        let frames: Vec<Bytes> = pictures.iter().map(|(frame, _)| frame.clone()).collect();
        let place = |index: u64| pictures[usize::try_from(index).unwrap()].1;
        // With timestamps in presentation order, in sending order, and all equal.
        for stamps in ["showing", "sending", "none"] {
            for name in ["r.mp4", "r.mkv"] {
                let path = folder.join(name);
                let _ = std::fs::remove_file(&path);
                let mut recording = Recording::new(&path, RecorderConfig::default());
                recording.send(H264, &frames, |index| {
                    let stamp = match stamps {
                        "showing" => place(index),
                        "sending" => index,
                        _ => 0,
                    };
                    (paced(index), stamp * 90_000 / RATE)
                });
                recording.send(OPUS, &sound(4), |index| (ms(5_000 + index * 20), index * 960));
                assert_eq!(recording.finish().video_frames, 60);
                assert_eq!(complaints(&path), "", "{name} {stamps}");
                // Matroska stores no decoding times; ffprobe derives all but the first.
                let decoded = samples(&path, "v").into_iter().map(|(_, decoded)| decoded);
                let decoded: Vec<f64> = decoded.skip_while(|decoded| decoded.is_nan()).collect();
                assert!(rises(&decoded), "{name} {stamps}: {decoded:?}");
                let shown = shown(&path, "v");
                assert_eq!(shown.len(), 60);
                for (index, time) in (0u32..).zip(&shown) {
                    let expected = f64::from(index) * 1000.0 / 15.0;
                    assert!(
                        (time - expected).abs() < 15.0,
                        "{name} {stamps}: picture {index} at {time}"
                    );
                }
            }
        }
    }
}

// Shows: 67.
#[test]
fn wrong_clocks_keep_one_sample_per_frame_and_duration() {
    let directory = tempfile::tempdir().unwrap();
    let (frames, count) = (pictures(ClipKind::H264Opus, 12), 12 * RATE);
    let still: fn(u64) -> u64 = |_| 0;
    let half: fn(u64) -> u64 = |ticks| ticks / 2;
    let double: fn(u64) -> u64 = |ticks| ticks * 2;
    let slow: fn(u64) -> u64 = |ticks| ticks * 99 / 100;
    let back: fn(u64) -> u64 = |ticks| ticks + 900_000 - ticks / 360_000 * 180_000;
    let jumps: fn(u64) -> u64 = |ticks| ticks + ticks / 360_000 * 30_000_000;
    for (name, clock) in [
        ("still", still),
        ("half", half),
        ("double", double),
        ("slow", slow),
        ("back", back),
        ("jumps", jumps),
    ] {
        for extension in ["mp4", "mkv"] {
            let path = directory.path().join(name).with_extension(extension);
            let mut recording = Recording::new(&path, RecorderConfig::default());
            recording.send(H264, &frames, |index| (paced(index), clock(index * 90_000 / RATE)));
            recording.send(OPUS, &sound(12), |index| (ms(5_000 + index * 20), index * 960));
            let summary = recording.finish();
            assert_eq!(summary.video_frames, count, "{name}");
            assert!(summary.duration.abs_diff(ms(12_000)) < ms(100), "{name}: {summary:?}");
            assert_eq!(complaints(&path), "", "{name}");
            let shown = shown(&path, "v");
            assert_eq!(shown.len(), frames.len(), "{name}");
            assert!(rises(&shown), "{name}: {shown:?}");
            assert!(samples(&path, "v").windows(2).all(|pair| pair[1].1 > pair[0].1), "{name}");
        }
    }
}

/// The audio clock is 2 % slow, as in a sender that sleeps for 20 ms between packets.
#[test]
fn slow_audio_clock_stays_synchronised_for_ten_minutes() {
    let directory = tempfile::tempdir().unwrap();
    for (name, kind, codec) in [
        ("r.webm", ClipKind::Vp8Opus, VideoCodec::Vp8),
        ("r.mp4", ClipKind::H264Opus, VideoCodec::H264),
    ] {
        let path = directory.path().join(name);
        let mut recording = Recording::new(&path, RecorderConfig::default());
        let clip = pictures(kind, 60);
        let frames: Vec<Bytes> = clip.iter().cycle().take(9_000).cloned().collect();
        recording.send(Codec::Video(codec), &frames, |index| (paced(index), index * 90_000 / RATE));
        let packets: Vec<Bytes> = sound(60).iter().cycle().take(29_400).cloned().collect();
        let arrival = |index: u64| ms(5_000) + Duration::from_micros(index * 20_408);
        recording.send(OPUS, &packets, |index| (arrival(index), index * 960));
        let summary = recording.finish();
        assert!(summary.duration.abs_diff(ms(600_000)) < ms(100), "{summary:?}");
        let sound = samples(&path, "a");
        assert_eq!(sound.len(), packets.len());
        for (index, (shown, _)) in (0u64..).zip(&sound) {
            let arrived = (arrival(index) - ms(5_000)).as_secs_f64() * 1000.0;
            assert!((shown - arrived).abs() <= 40.0, "{name}: {index} at {shown} for {arrived}");
        }
    }
}

/// The audio clock runs at half speed, and no sender report shows it.
#[test]
fn audio_clock_at_half_speed_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.mkv");
    let mut recording = Recording::new(&path, RecorderConfig::default());
    let clip = pictures(ClipKind::Vp8Opus, 60);
    let frames: Vec<Bytes> = clip.iter().cycle().take(2_250).cloned().collect();
    recording.send(Codec::Video(VideoCodec::Vp8), &frames, |index| {
        (paced(index), index * 90_000 / RATE)
    });
    let packets: Vec<Bytes> = sound(60).iter().cycle().take(7_500).cloned().collect();
    recording.send(OPUS, &packets, |index| (ms(5_000 + index * 20), index * 480));
    let summary = recording.finish();
    assert!(summary.duration.abs_diff(ms(150_000)) < ms(100), "{summary:?}");
    assert_eq!(samples(&path, "a").len(), packets.len());
}

#[test]
fn g711_is_recorded_beside_h264() {
    let directory = tempfile::tempdir().unwrap();
    // A tone that is loud in both the A-law and the µ-law encoding.
    let tone: Vec<Bytes> = (0..200).map(|_| Bytes::from([0x2a, 0xaa].repeat(80))).collect();
    for (codec, name) in [(AudioCodec::Pcmu, "pcm_mulaw"), (AudioCodec::Pcma, "pcm_alaw")] {
        for extension in ["mp4", "mkv"] {
            let path = directory.path().join(name).with_extension(extension);
            let mut recording = Recording::new(&path, RecorderConfig::default());
            let frames = pictures(ClipKind::H264Opus, 4);
            recording.send(H264, &frames, |index| (paced(index), index * 90_000 / RATE));
            recording
                .send(Codec::Audio(codec), &tone, |index| (ms(5_000 + index * 20), index * 160));
            let summary = recording.finish();
            assert_eq!((summary.video_frames, summary.audio_packets), (60, 200));
            assert_eq!(complaints(&path), "");
            let entries = "stream=codec_name,sample_rate,channels";
            let sound = ["-select_streams", "a", "-show_entries", entries, "-of", "csv=p=0"];
            assert_eq!(ffprobe(&path, &sound).trim(), format!("{name},8000,1"));
            let samples = samples(&path, "a");
            assert_eq!(samples.len(), 200);
            assert!((samples[199].0 - 3980.0).abs() < 2.0, "{:?}", samples[199]);
        }
    }
}

#[test]
fn file_has_title_date_and_encoder() {
    let directory = tempfile::tempdir().unwrap();
    let colours = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"];
    let mut options = vec!["-c:v", "libx264", "-bf", "0", "-color_range", "pc", "-an"];
    options.extend(colours);
    let source = directory.path().join("source.mp4");
    encode(&source, &options);
    let frames: Vec<Bytes> = Clip::open(&source)
        .unwrap()
        .video()
        .unwrap()
        .samples
        .iter()
        .map(|s| s.data.clone())
        .collect();
    for name in ["r.mp4", "r.mkv"] {
        let path = directory.path().join(name);
        let config = RecorderConfig {
            title: Some("front door".to_owned()),
            // Arrivals count from 2026-03-01 12:00:00 UTC; the first picture arrives 5 s later.
            origin: Some(Duration::from_secs(1_772_366_400)),
            ..RecorderConfig::default()
        };
        let mut recording = Recording::new(&path, config);
        recording.send(H264, &frames, |index| (paced(index), index * 90_000 / RATE));
        recording.send(OPUS, &sound(4), |index| (ms(5_000 + index * 20), index * 960));
        recording.finish();
        let tags = ffprobe(&path, &["-show_entries", "format_tags", "-of", "default=nk=0:nw=1"]);
        let tags = tags.to_lowercase();
        assert!(tags.contains("tag:title=front door"), "{tags}");
        assert!(tags.contains("2026-03-01t12:00:05"), "{tags}");
        let encoder = concat!("tag:encoder=kvs-viewer ", env!("CARGO_PKG_VERSION"));
        assert!(tags.contains(encoder), "{tags}");
        let entries = "stream=color_range,color_space,color_transfer,color_primaries:stream_tags";
        let streams = ffprobe(&path, &["-show_entries", entries, "-of", "default=nk=0:nw=1"]);
        for part in
            ["color_range=pc", "color_space=bt709", "color_transfer=bt709", "color_primaries=bt709"]
        {
            assert!(streams.contains(part), "{name}: {streams}");
        }
        let named = if name == "r.mp4" { "TAG:handler_name=" } else { "TAG:title=" };
        for track in ["Video", "Sound"] {
            assert!(streams.contains(&format!("{named}{track}")), "{name}: {streams}");
        }
        assert!(!streams.contains("language=eng"), "{name}: {streams}");
    }
}

#[test]
fn empty_track_is_omitted_and_late_track_is_added() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, codec, extension) in [
        (ClipKind::H264Opus, VideoCodec::H264, "mp4"),
        (ClipKind::H264Opus, VideoCodec::H264, "mkv"),
        (ClipKind::Vp8Opus, VideoCodec::Vp8, "webm"),
    ] {
        let streams = |path: &Path| {
            let kinds = ["-show_entries", "stream=codec_type", "-of", "csv=p=0"];
            ffprobe(path, &kinds).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let path = directory.path().join("silent").with_extension(extension);
        let frames = pictures(kind, 6);
        let video = Codec::Video(codec);
        let mut recording = Recording::new(&path, RecorderConfig::default());
        recording.send(OPUS, &[], |_| (ms(0), 0));
        recording.send(video, &frames, |index| (paced(index), index * 90_000 / RATE));
        recording.finish();
        assert_eq!((streams(&path), complaints(&path)), ("video".to_owned(), String::new()));

        // The audio begins three seconds after the video.
        let path = directory.path().join("late").with_extension(extension);
        let mut recording = Recording::new(&path, RecorderConfig::default());
        recording.send(video, &frames, |index| (paced(index), index * 90_000 / RATE));
        recording.send(OPUS, &sound(3), |index| (ms(8_000 + index * 20), index * 960));
        recording.finish();
        assert_eq!((streams(&path), complaints(&path)), ("video audio".to_owned(), String::new()));
        assert!((samples(&path, "a")[0].0 - 3_000.0).abs() < 2.0, "{:?}", samples(&path, "a")[0]);

        // The video begins after the recorder has waited for it while audio arrived.
        let path = directory.path().join("blind").with_extension(extension);
        let config = RecorderConfig { video_wait: ms(2_000), ..RecorderConfig::default() };
        let mut recording = Recording::new(&path, config);
        recording.send(OPUS, &sound(10), |index| (ms(2_000 + index * 20), index * 960));
        recording.send(video, &frames, |index| (paced(index), index * 90_000 / RATE));
        recording.finish();
        assert_eq!((streams(&path), complaints(&path)), ("audio video".to_owned(), String::new()));
        assert!((samples(&path, "v")[0].0 - 3_000.0).abs() < 2.0, "{:?}", samples(&path, "v")[0]);
        assert_eq!(shown(&path, "v").len(), frames.len());
    }
}
