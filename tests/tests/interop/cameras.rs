//! Cameras with one peculiarity each, on aiortc (`tests/interop/odd_master.py`): each session is
//! live in its first attempt with a recording that plays, or ends with the true cause.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{fs, panic, thread};

use kvs_viewer_tests::stage::{Stage, named};
use kvs_viewer_tests::tools::{finished, install, interop, probe_uneven};
use kvs_viewer_tests::{Keys, Process};

use super::{PATIENCE, PROGRAM};

/// The frame rate of every clip.
const RATE: f64 = 15.0;

/// How long each camera is watched, in seconds.
const WATCHED: f64 = 4.0;

/// The number of cameras that run at the same time: each is three processes, which mostly wait.
const AT_ONCE: usize = 4;

struct Case {
    name: &'static str,
    clip: &'static str,
    master: &'static [&'static str],
    file: &'static str,
    expected: Expected,
}

enum Expected {
    /// Live in the first attempt; the file holds H.264 and this audio codec.
    Plays { sound: &'static str },
    /// As `Plays`, but the first pictures of the file only serve to decode later ones.
    Recovers,
    /// Ends with this exit code; standard error contains each of these words.
    Ends { code: i32, says: &'static [&'static str], attempts: u64 },
}

const OPUS: Expected = Expected::Plays { sound: "opus" };

const CASES: &[Case] = &[
    Case { name: "usual", clip: "usual", master: &[], file: "a.mkv", expected: OPUS },
    Case { name: "usual, in MP4", clip: "usual", master: &[], file: "a.mp4", expected: OPUS },
    Case {
        name: "SEI before the parameter sets, one keyframe in 40 s",
        clip: "sei-first",
        master: &[],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "one section without a mid",
        clip: "usual",
        master: &["--answer", "without-audio-mid"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "no section with a mid, no BUNDLE group",
        clip: "usual",
        master: &["--answer", "without-any-mid"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "refused section without rtpmap",
        clip: "usual",
        master: &["--answer", "audio-refused"],
        file: "a.mkv",
        expected: Expected::Plays { sound: "" },
    },
    Case {
        name: "marker on each NAL unit, four slices a picture",
        clip: "slices",
        master: &["--media", "marker-on-each-unit"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "parameter sets in the SDP alone",
        clip: "usual",
        master: &["--media", "sets-never", "--answer", "sets-in-sdp"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "parameter sets nowhere",
        clip: "usual",
        master: &["--media", "sets-never"],
        file: "a.mkv",
        expected: Expected::Ends { code: 4, says: &["SPS"], attempts: 2 },
    },
    Case {
        name: "marker never",
        clip: "usual",
        master: &["--media", "marker-never"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "B-frames, in Matroska",
        clip: "b-frames",
        master: &[],
        file: "a.mkv",
        expected: OPUS,
    },
    Case { name: "B-frames, in MP4", clip: "b-frames", master: &[], file: "a.mp4", expected: OPUS },
    Case {
        name: "H.265 that was never offered",
        clip: "usual",
        master: &["--answer", "h265-never-offered", "--payload-type", "127"],
        file: "a.mkv",
        expected: Expected::Ends { code: 10, says: &["H265"], attempts: 1 },
    },
    Case {
        name: "PCMU, in Matroska",
        clip: "usual",
        master: &["--answer", "pcmu"],
        file: "a.mkv",
        expected: Expected::Plays { sound: "pcm_mulaw" },
    },
    Case {
        name: "PCMU, in MP4",
        clip: "usual",
        master: &["--answer", "pcmu"],
        file: "a.mp4",
        expected: Expected::Plays { sound: "pcm_mulaw" },
    },
    Case {
        name: "timestamps stand still",
        clip: "usual",
        master: &["--clock", "still"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "clock at half speed",
        clip: "usual",
        master: &["--clock", "half"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "timestamps jump ahead",
        clip: "usual",
        master: &["--clock", "jumps"],
        file: "a.mp4",
        expected: OPUS,
    },
    Case {
        name: "timestamps step back",
        clip: "usual",
        master: &["--clock", "back"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "DTLS in fragments, one lost",
        clip: "usual",
        master: &["--answer", "passive", "--dtls-mtu", "512", "--dtls-drop", "3"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "an answer without a section",
        clip: "usual",
        master: &["--answer", "no-section"],
        file: "a.mkv",
        expected: Expected::Ends { code: 10, says: &["answer"], attempts: 1 },
    },
    Case {
        name: "start codes left in packets",
        clip: "usual",
        master: &["--media", "start-codes"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "parameter sets as Annex B in one packet",
        clip: "usual",
        master: &["--media", "annex-b-in-one-packet"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "parameter sets aggregated",
        clip: "usual",
        master: &["--media", "aggregated"],
        file: "a.mp4",
        expected: OPUS,
    },
    Case {
        name: "parameter sets in an access unit of their own",
        clip: "usual",
        master: &["--media", "sets-apart"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "access unit delimiters",
        clip: "slices",
        master: &["--media", "delimiter-first"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "intra refresh, no IDR picture",
        clip: "refresh",
        master: &["--first", "20", "--loop-last", "60"],
        file: "a.mkv",
        expected: Expected::Recovers,
    },
    Case {
        name: "the answer's JSON ends with NUL",
        clip: "usual",
        master: &["--nul"],
        file: "a.mkv",
        expected: OPUS,
    },
    Case {
        name: "blanks and CR CR LF at line ends",
        clip: "usual",
        master: &["--answer", "odd-line-ends"],
        file: "a.mkv",
        expected: OPUS,
    },
];

/// Contract, scenarios 7 to 9 and 47, with the behaviour of real cameras.
#[test]
fn unusual_cameras_are_live_or_end_with_true_cause() {
    install();
    let clips = clips();
    let only = std::env::var("ODD_CAMERA").unwrap_or_default();
    let waiting = Mutex::new(CASES.iter().filter(|case| case.name.contains(&only)));
    let rows = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(case) = next else { return };
                    match panic::catch_unwind(|| case.run(&clips)) {
                        Ok(row) => rows.lock().unwrap_or_else(PoisonError::into_inner).push(row),
                        Err(_) => {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(case.name)
                        }
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort();
    let mut table = String::from("| camera | outcome |\n|---|---|\n");
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{row}");
    }
    eprintln!("{table}");
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

impl Case {
    /// Watches the camera, and returns a row of the table.
    fn run(&self, clips: &Path) -> String {
        let stage = Stage::start(PROGRAM, Keys::session(), &[]);
        let clip = clips.join(self.clip).with_extension("h264");
        let clip = clip.to_string_lossy();
        let master =
            stage.python("odd_master.py", &[&["--clip", clip.as_ref()], self.master].concat());
        master.event("ready", PATIENCE);
        let file = stage.path(self.file);
        let duration = WATCHED.to_string();
        let mut watch = stage.watch([
            "--duration".as_ref(),
            duration.as_ref(),
            "--retry-delay".as_ref(),
            "1".as_ref(),
            "--record".as_ref(),
            file.as_os_str(),
        ]);
        let ended = watch.ended(PATIENCE);
        let result = match &self.expected {
            Expected::Plays { sound } => {
                assert_eq!(ended.code, Some(0), "{}: {}", self.name, watch.transcript());
                let live = watch.event("live", PATIENCE);
                assert_eq!(live["attempt"], 1, "{}: {}", self.name, watch.transcript());
                format!("{}; {}", live_after(&watch), self.check(&file, sound))
            }
            Expected::Recovers => {
                assert_eq!(ended.code, Some(0), "{}: {}", self.name, watch.transcript());
                let live = watch.event("live", PATIENCE);
                assert_eq!(live["attempt"], 1, "{}: {}", self.name, watch.transcript());
                let (seen, times) = (probe_uneven(&file), picture_times(&file));
                assert!(seen.pictures as f64 > (WATCHED - 1.5) * RATE, "{}: {seen:?}", self.name);
                format!(
                    "{}; {} samples, the last {} of which are pictures",
                    live_after(&watch),
                    times.len(),
                    seen.pictures
                )
            }
            Expected::Ends { code, says, attempts } => {
                assert_eq!(ended.code, Some(*code), "{}: {}", self.name, watch.transcript());
                let text = ended.stderr.join("\n");
                for word in *says {
                    assert!(text.contains(word), "{}: no `{word}` in {text}", self.name);
                }
                let events = watch.events();
                let begun = named(&events, "attempt_started").len() as u64;
                assert_eq!(begun, *attempts, "{}: {}", self.name, watch.transcript());
                assert!(!file.exists(), "{}: a file without a picture is left", self.name);
                format!("exit code {code}: {}", text.replace('\n', " "))
            }
        };
        format!("| {} | {result} |", self.name)
    }

    /// Checks that the file plays: it decodes without an error, each picture has its own time, and
    /// none is missing.
    fn check(&self, file: &Path, sound: &str) -> String {
        let seen = probe_uneven(file);
        let codecs: Vec<&str> =
            ["h264", sound].into_iter().filter(|codec| !codec.is_empty()).collect();
        let mut found: Vec<&str> = seen.codecs.iter().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, codecs, "{}: {seen:?}", self.name);
        let times = picture_times(file);
        let name = self.name;
        assert_eq!(times.len() as u64, seen.pictures, "{name}: one sample a picture");
        assert!(
            times.windows(2).all(|pair| pair[0] < pair[1]),
            "{name}: two pictures share a time: {times:?}"
        );
        // The camera keeps its frame rate, so the number of pictures gives the playing time.
        let played = seen.pictures as f64 / RATE;
        let shown = times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0) + 1.0 / RATE;
        assert!((played - shown).abs() < 0.35, "{name}: {played} s became {shown} s: {times:?}");
        assert!(played > WATCHED - 1.5, "{name}: {played} s of pictures: {seen:?}");
        format!(
            "{} pictures, {played:.2} s played, {shown:.2} s in the file, {}",
            seen.pictures,
            found.join(" and ")
        )
    }
}

fn live_after(watch: &Process) -> String {
    let live = watch.event("live", PATIENCE);
    format!("attempt {}, live after {} ms", live["attempt"], live["t_ms"])
}

/// The presentation times of a file's pictures, in seconds, sorted.
fn picture_times(file: &Path) -> Vec<f64> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v", "-of", "csv=p=0"]);
    ffprobe.args(["-show_entries", "packet=pts_time"]).arg(file);
    let seen = finished("ffprobe", &mut ffprobe, "", PATIENCE);
    let number = |line: &String| {
        line.trim_end_matches(',').parse::<f64>().unwrap_or_else(|_| panic!("no time: {line}"))
    };
    let mut times: Vec<f64> = seen.stdout.iter().filter(|l| !l.is_empty()).map(number).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// Returns the folder of the clips, which are made once under `target/`.
fn clips() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("odd-clips");
    fs::create_dir_all(&folder).expect("a folder for the clips");
    let mut make = Command::new("sh");
    make.arg(interop().join("odd_clips.sh")).arg(&folder);
    let made = finished("odd_clips.sh", &mut make, "", 3 * PATIENCE);
    assert_eq!(
        made.code,
        Some(0),
        "{:?}. Install ffmpeg (Debian: apt-get install ffmpeg).",
        made.stderr
    );
    folder
}
