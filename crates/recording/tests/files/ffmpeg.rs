//! ffmpeg reads the files: it finds the codecs, and decodes without a warning.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use recording::{AudioCodec, Clip, ClipError, ClipKind, ClipProblem, Recorder, RecorderConfig};

use crate::network::{Chance, Sender, push, record, recorder, shuffle, video_codec};

fn run(program: &str, arguments: &[&str], path: &Path) -> Output {
    let output = Command::new(program).args(arguments).arg(path).output();
    match output {
        Ok(output) => output,
        Err(error) => panic!(
            "{program} is needed for this test and cannot be run ({error}); \
             install it (Debian: apt-get install ffmpeg)"
        ),
    }
}

/// Decodes the whole file and returns the errors that ffmpeg prints.
pub(crate) fn complaints(path: &Path) -> String {
    let name = path.to_str().unwrap();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i", name, "-f", "null", "-"])
        .output()
        .expect("ffmpeg is needed for this test; install it (Debian: apt-get install ffmpeg)");
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn codecs(path: &Path) -> String {
    let output = run(
        "ffprobe",
        &["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"],
        path,
    );
    String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads the burned-in counters of the file's frames, with a script that shares no code with this
/// crate.
pub(crate) fn counters(path: &Path) -> Vec<usize> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop/read_counter.py");
    let output = run("python3", &[script.to_str().unwrap()], path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().expect("a readable counter")).collect()
}

fn file(directory: &tempfile::TempDir, kind: ClipKind) -> (PathBuf, &'static str) {
    let path = directory.path().join("r").with_extension(video_codec(kind).1);
    let expected = match kind {
        ClipKind::H264Opus => "h264 opus",
        ClipKind::Vp8Opus => "vp8 opus",
    };
    (path, expected)
}

#[test]
fn complete_recording_decodes_without_errors() {
    for kind in [ClipKind::H264Opus, ClipKind::Vp8Opus] {
        let directory = tempfile::tempdir().unwrap();
        let (path, expected) = file(&directory, kind);
        let mut sent = Sender::wrapping(20).send(&Clip::bundled(kind).unwrap());
        shuffle(&mut sent, &mut Chance(1));
        record(&path, kind, &sent);
        assert_eq!(codecs(&path), expected);
        assert_eq!(complaints(&path), "");
        assert_eq!(counters(&path), (0..300).collect::<Vec<_>>());
    }
}

#[test]
fn recording_with_losses_decodes_without_errors() {
    for kind in [ClipKind::H264Opus, ClipKind::Vp8Opus] {
        let directory = tempfile::tempdir().unwrap();
        let (path, expected) = file(&directory, kind);
        let mut sent = Sender::wrapping(60).send(&Clip::bundled(kind).unwrap());
        let mut chance = Chance(5);
        sent.retain(|_| chance.below(100) >= 2);
        let summary = record(&path, kind, &sent);
        assert!(summary.video.unwrap().lost > 10);
        assert_eq!(codecs(&path), expected);
        assert_eq!(complaints(&path), "");
        let counters = counters(&path);
        assert_eq!(u64::try_from(counters.len()).unwrap(), summary.video_frames);
        assert!(counters.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

#[test]
fn unfinished_recording_decodes_without_errors() {
    for kind in [ClipKind::H264Opus, ClipKind::Vp8Opus] {
        let directory = tempfile::tempdir().unwrap();
        let (path, expected) = file(&directory, kind);
        let sent = Sender::wrapping(10).send(&Clip::bundled(kind).unwrap());
        let (mut recorder, video, audio) = recorder(&path, kind);
        push(&mut recorder, (video, audio), &sent);
        assert_eq!(codecs(&path), expected);
        assert_eq!(complaints(&path), "");
        let counters = counters(&path);
        assert!(counters.len() >= 130, "{} frames", counters.len());
        assert_eq!(counters, (0..counters.len()).collect::<Vec<_>>());
        drop(recorder);
    }
}

// Shows: 67.
#[test]
fn resolution_change_decodes_without_errors() {
    for (kind, encoder) in [(ClipKind::H264Opus, "libx264"), (ClipKind::Vp8Opus, "libvpx")] {
        let directory = tempfile::tempdir().unwrap();
        let (path, _) = file(&directory, kind);
        let small = directory.path().join("small").with_extension(video_codec(kind).1);
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("clips/counter")
            .with_extension(video_codec(kind).1);
        let encoded = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-t", "4", "-i", bundled.to_str().unwrap()])
            .args(["-vf", "scale=640:480", "-bf", "0", "-b:v", "600k", "-c:v", encoder])
            .args(["-c:a", "copy", "-auto-alt-ref", "0"].iter().take(if encoder == "libvpx" {
                4
            } else {
                2
            }))
            .arg(&small)
            .output()
            .expect("ffmpeg is needed for this test; install it (Debian: apt-get install ffmpeg)");
        assert!(encoded.status.success(), "{}", String::from_utf8_lossy(&encoded.stderr));
        let first = Sender::wrapping(4);
        let mut sent = first.send(&Clip::bundled(kind).unwrap());
        // The encoder changes within the same source, so sequence numbers and timestamps continue.
        let last = sent.iter().rfind(|sent| sent.video).unwrap().packet.header.clone();
        let second = Sender {
            sequence: last.sequence_number.wrapping_add(1),
            timestamp: last.timestamp.wrapping_add(6000),
            begin: first.begin + Duration::from_secs(4),
            ..first
        };
        let more = second.send(&Clip::open(&small).unwrap());
        sent.extend(more.into_iter().filter(|sent| sent.video));
        let summary = record(&path, kind, &sent);
        assert_eq!(summary.video_frames, 120);
        assert_eq!(complaints(&path), "");
        // The second half repeats the same four seconds.
        let expected: Vec<usize> = (0..60).chain(0..60).collect();
        assert_eq!(counters(&path), expected);
    }
}

/// The environment variable for the child process of the test below: the file to record until it is
/// killed.
const KILLED: &str = "RECORD_UNTIL_KILLED";

// Shows: 54.
#[test]
fn killed_process_loses_at_most_its_last_fragment() {
    if let Some(path) = std::env::var_os(KILLED) {
        let sent = Sender::wrapping(30).send(&Clip::bundled(ClipKind::H264Opus).unwrap());
        let (mut recorder, video, audio) = recorder(Path::new(&path), ClipKind::H264Opus);
        push(&mut recorder, (video, audio), &sent);
        loop {
            std::thread::park();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (path, expected) = file(&directory, ClipKind::H264Opus);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ffmpeg::killed_process_loses_at_most_its_last_fragment"])
        .env(KILLED, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // 29 fragments of the bundled clip are more than this many bytes.
    let mut waited = 0;
    while std::fs::metadata(&path).map_or(0, |file| file.len()) < 100_000 {
        std::thread::sleep(Duration::from_millis(20));
        waited += 1;
        assert!(waited < 1500, "the child has not recorded in 30 s");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(codecs(&path), expected);
    assert_eq!(complaints(&path), "");
    let counters = counters(&path);
    assert_eq!(counters, (0..counters.len()).collect::<Vec<_>>());
    assert!(counters.len() > 150, "{} frames", counters.len());
}

/// Encodes the bundled video and audio again with these options of ffmpeg.
pub(crate) fn encode(target: &Path, options: &[&str]) {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("clips/counter.mp4");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-t", "4", "-i", clip.to_str().unwrap()])
        .args(options)
        .arg(target)
        .output()
        .expect("ffmpeg is needed for this test; install it (Debian: apt-get install ffmpeg)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn vp9_goes_into_webm_and_h264_into_matroska() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source.webm");
    encode(
        &source,
        &["-c:v", "libvpx-vp9", "-cpu-used", "8", "-lag-in-frames", "0", "-b:v", "300k"],
    );
    let vp9 = Clip::open(&source).unwrap();
    let h264 = Clip::bundled(ClipKind::H264Opus).unwrap();
    for (clip, name, expected) in [(&vp9, "r.webm", "vp9 opus"), (&h264, "r.mkv", "h264 opus")] {
        let path = directory.path().join(name);
        let mut recorder = Recorder::create(&path, RecorderConfig::default()).unwrap();
        let video = recorder.add_video(clip.video().unwrap().codec).unwrap();
        let audio = recorder.add_audio(AudioCodec::Opus).unwrap();
        push(&mut recorder, (video, audio), &Sender::wrapping(4).send(clip));
        assert_eq!(recorder.finish().unwrap().video_frames, 60);
        assert_eq!(codecs(&path), expected);
        assert_eq!(complaints(&path), "");
        assert_eq!(counters(&path), (0..60).collect::<Vec<_>>());
        assert_eq!(Clip::open(&path).unwrap().video().unwrap().samples.len(), 60);
    }
}

#[test]
fn unsuitable_clip_is_refused_with_conversion_command() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = |name: &str, options: &[&str]| {
        let path = directory.path().join(name);
        encode(&path, options);
        Clip::open(&path).unwrap_err().to_string()
    };
    let b_frames = refusal("b.mp4", &["-c:v", "libx264", "-bf", "2", "-c:a", "copy"]);
    assert!(b_frames.contains("B-frames"), "{b_frames}");
    let b_frames = refusal("b.mkv", &["-c:v", "libx264", "-bf", "2", "-c:a", "copy"]);
    assert!(b_frames.contains("B-frames"), "{b_frames}");
    let aac = refusal("a.mp4", &["-c:v", "copy", "-c:a", "aac"]);
    assert!(aac.contains("Opus"), "{aac}");
    let mpeg4 = refusal("m.mp4", &["-c:v", "mpeg4", "-c:a", "copy"]);
    assert!(mpeg4.contains("H.264"), "{mpeg4}");
    // Unsupported audio is no reason to reject the video alone.
    let silent = Clip::open_video(directory.path().join("a.mp4")).unwrap();
    assert!(silent.video().is_some() && silent.audio().is_none());
}

#[test]
fn clip_error_lists_all_problems_and_command_fixes_them() {
    let directory = tempfile::tempdir().unwrap();
    for container in ["mp4", "mkv"] {
        let path = directory.path().join(format!("my film.{container}"));
        encode(&path, &["-c:v", "libx264", "-bf", "2", "-c:a", "aac"]);
        let refused = Clip::open(&path).unwrap_err();
        let ClipError::Unsuitable { problems, command } = &refused else { panic!("{refused}") };
        let expected = [ClipProblem::AudioCodec("AAC".into()), ClipProblem::BFrames];
        assert_eq!(problems, &expected, "{container}");
        let text = refused.to_string();
        assert!(
            text.contains("B-frames") && text.contains("AAC") && text.contains(command),
            "{text}"
        );
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &format!("{command} -y -loglevel error")]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let clip = Clip::open(directory.path().join("my film-webrtc.mkv")).unwrap();
        assert!(clip.video().is_some() && clip.audio().is_some(), "{container}");
    }
}
