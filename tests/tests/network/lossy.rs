//! Random packet loss, and the share of the video that is still decoded: this viewer beside AWS's
//! JavaScript SDK in Chromium, at the same time, on the same path, with a camera that resends by
//! RTX only.
//!
//! `cargo test` measures 3 % of loss. This command measures the whole table, in two minutes:
//!
//! ```text
//! LOSS=1,3,5 cargo test -p kvs-viewer-tests --test network -- --nocapture lossy
//! ```

use std::path::Path;
use std::thread;

use kvs_viewer_tests::Process;
use kvs_viewer_tests::stage::{CHANNEL, REGION};
use kvs_viewer_tests::tools;

use crate::PATIENCE;
use crate::lab::Family;
use crate::losses::{Poor, impair};
use crate::scene::{CAMERA, Scene, Seen, VIEWER, frames_go_on};

/// Frames that the camera sends while each viewer is observed: 16 s.
const FRAMES: u64 = 240;

/// The minimum share of decoded frames, in percent, for each packet loss in percent. Each lost
/// packet is requested and resent, and may be lost again.
const DECODED_MIN: [(u8, u64); 3] = [(1, 95), (3, 80), (5, 60)];

#[test]
fn lossy_path_beside_the_javascript_viewer() {
    let losses = std::env::var("LOSS").unwrap_or_else(|_| "3".into());
    for loss in losses.split(',') {
        let loss = loss.trim().parse().unwrap_or_else(|_| panic!("LOSS={losses}: no number"));
        beside_the_javascript_viewer(loss);
    }
}

fn beside_the_javascript_viewer(loss: u8) {
    let mut scene = Scene::set(Family::V4, &[]);
    let poor = Poor { lost: loss, repeated: 0, reordered: 0, delay: 20, jitter: 0 };
    let _impairer = impair(&mut scene, CAMERA, &poor);
    let _camera = scene.camera(["--rtx"]);
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| javascript(&scene));
        (ours(&scene), theirs.join().expect("the JavaScript viewer plays"))
    });
    eprintln!(
        "{loss} % loss, 20 ms each way: decoded {} of {FRAMES} frames, JavaScript SDK {} of {}",
        ours, theirs.0, theirs.1
    );
    let least = DECODED_MIN.iter().find(|(of, _)| *of == loss).map_or(0, |(_, least)| *least);
    assert!(ours * 100 >= least * FRAMES, "decoded {ours} of {FRAMES} frames at {loss} % loss");
}

/// Returns the number of complete frames among the next 240 that the camera sends.
fn ours(scene: &Scene) -> u64 {
    let mut watch = scene.watch([""; 0]);
    watch.event("live", PATIENCE);
    frames_go_on(&watch, 15);
    let before = Seen::last(&watch);
    watch.event_that("stats", PATIENCE, |stats| {
        let now = Seen::of(stats);
        now.t_ms >= before.t_ms && now.frames + now.lost_since(&before) >= before.frames + FRAMES
    });
    let after = Seen::last(&watch);
    let lost = after.lost_since(&before);
    watch.interrupt();
    assert_eq!(watch.ended(PATIENCE).code, Some(0), "{}", watch.transcript());
    FRAMES.saturating_sub(lost)
}

/// Returns the number of frames that Chromium decoded, and the number that the camera sent
/// meanwhile, by their frame counter.
fn javascript(scene: &Scene) -> (u64, u64) {
    let node = tools::node("browser.js");
    let mut command = scene.lab.command(VIEWER, Path::new(node.get_program()));
    command.args(node.get_args()).arg("viewer").current_dir(tools::interop());
    command.args(["--endpoint-url", scene.endpoint(), "--region", REGION, "--channel", CHANNEL]);
    command.args(["--advance", &FRAMES.to_string(), "--ca-file"]).arg(scene.trusted());
    scene.give_keys_to(&mut command);
    let mut browser = Process::start("browser viewer", &mut command, tools::NODE);
    let played = browser.event("played", PATIENCE);
    assert_eq!(browser.ended(PATIENCE).code, Some(0), "{}", browser.transcript());
    let number = |field: &str| played[field].as_u64().unwrap_or_default();
    (number("frames_decoded"), number("advanced") + 1)
}
