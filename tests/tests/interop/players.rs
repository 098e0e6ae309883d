//! Players and libraries that read a live stream from a pipe: each shows the camera's pictures, all
//! of them and in order. The counter that is burned into a picture is read out of what the player
//! decoded.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use kvs_viewer_tests::stage::{CHANNEL, Stage};
use kvs_viewer_tests::tools::{compare_counters_of, interop, python};
use kvs_viewer_tests::{Keys, Piped};

use super::{PATIENCE, PROGRAM};

/// How long each of them watches.
const WATCHED: &str = "10s";

/// A program that reads a live stream from standard input, and writes what it decoded to standard
/// output, as a file of this kind.
struct Player {
    name: &'static str,
    file: &'static str,
    hint: &'static str,
    command: fn(format: &str) -> Command,
}

const PLAYERS: [Player; 6] = [
    Player { name: "ffmpeg", file: "nut", hint: "ffmpeg", command: ffmpeg },
    Player { name: "mpv", file: "nut", hint: "mpv", command: mpv },
    Player { name: "vlc", file: "ts", hint: "vlc-bin vlc-plugin-base", command: vlc },
    Player {
        name: "gstreamer",
        file: "mkv",
        hint: "gstreamer1.0-tools gstreamer1.0-libav gstreamer1.0-plugins-good \
               gstreamer1.0-plugins-bad",
        command: gstreamer,
    },
    Player { name: "pyav", file: "jsonl", hint: "python3", command: |_| reader("pyav") },
    Player { name: "opencv", file: "jsonl", hint: "python3", command: |_| reader("opencv") },
];

fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split_whitespace());
    command
}

fn ffmpeg(_: &str) -> Command {
    program(
        "ffmpeg",
        "-v error -i - -an -fps_mode passthrough -c:v rawvideo -pix_fmt gray -f nut -",
    )
}

fn mpv(_: &str) -> Command {
    program("mpv", "--no-config --really-quiet --no-audio --ovc=rawvideo --of=nut --o=- -")
}

/// VLC refuses to run as root.
fn vlc(_: &str) -> Command {
    let arguments = "-I dummy --quiet --no-sout-audio \
        --sout #transcode{vcodec=mp2v,vb=4000}:std{access=file,mux=ts,dst=-} - vlc://quit";
    if rustix::process::geteuid().is_root() {
        let unprivileged = "--reuid=65534 --clear-groups env HOME=/nonexistent cvlc";
        return program("setpriv", &format!("{unprivileged} {arguments}"));
    }
    program("cvlc", arguments)
}

fn gstreamer(format: &str) -> Command {
    let demuxer = if format == "ts" { "tsdemux" } else { "matroskademux" };
    let decode = "h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=I420";
    let write = "matroskamux streamable=true ! fdsink fd=1";
    program("gst-launch-1.0", &format!("-q fdsrc fd=0 ! {demuxer} ! {decode} ! {write}"))
}

fn reader(library: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(interop().join("pipe_reader.py")).arg(library);
    command
}

#[test]
fn every_player_reads_matroska_from_a_pipe() {
    every_player_reads("mkv");
}

#[test]
fn every_player_reads_a_transport_stream_from_a_pipe() {
    every_player_reads("ts");
}

fn every_player_reads(format: &str) {
    // Made before the players start beside each other.
    let _ = python();
    let stage = Stage::start(PROGRAM, Keys::session(), &[]);
    let sent = stage.path("sent.jsonl");
    let camera = stage.camera(["--frame-log".as_ref(), sent.as_os_str()]);
    let played: Vec<_> = thread::scope(|scope| {
        let plays = PLAYERS.map(|player| {
            let (stage, player_file) = (&stage, stage.path(player.name));
            let file = player_file.with_extension(player.file);
            (player.name, file.clone(), scope.spawn(move || play(stage, &player, format, &file)))
        });
        let joined = plays.map(|(name, file, play)| (name, file, play.join()));
        joined.into_iter().map(|(name, file, played)| (name, file, played.is_ok())).collect()
    });
    drop(camera);
    for (name, file, is_played) in played {
        assert!(is_played, "{name} failed, as reported above");
        let compared = compare_counters_of(&file, &sent, name);
        eprintln!("{name}, {format}: {compared}");
        let count = compared["found_in_order"].as_u64().unwrap_or(0);
        assert!((140..=160).contains(&count), "{name}: {compared}");
    }
}

/// Watches into the player, until both have ended well.
fn play(stage: &Stage, player: &Player, format: &str, file: &Path) {
    let mut watch = stage.command("watch");
    watch.args([CHANNEL, "--quiet", "--output", "-", "--format", format, "--duration", WATCHED]);
    watch.args(["--client-id", player.name, "--fixed-client-id"]);
    watch.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut watch = Piped::start("watch", &mut watch, "Build kvs-viewer.");
    let mut command = (player.command)(format);
    command.stdin(watch.stdout()).stdout(File::create(file).expect("a file"));
    let hint = format!("Install it (Debian: apt-get install {}).", player.hint);
    let mut playing = Piped::start(player.name, &mut command, &hint);
    // The command would otherwise keep the reading end of the pipe open.
    drop(command);
    let (watched, played) = (watch.ended(PATIENCE), playing.ended(PATIENCE));
    assert!(watched.success(), "{}: kvs-viewer ended with {watched}", player.name);
    assert!(played.success(), "{}: it ended with {played}", player.name);
}
