//! Masters that send offers, and media that changes during a session: scenarios 20 and 67.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kvs_camera::FrameRecord;
use kvs_viewer_tests::Process;
use kvs_viewer_tests::tools::{finished, probe, probe_uneven};
use negotiation_core::{AttemptEnd, Deadline, Event, Ignored, Output, PeerCommand};
use recording::{Clip, ClipKind, ClipSample};
use signaling_aws::MasterConnection;
use tokio::sync::mpsc;

use crate::film::{of_a_file, of_the_clip};
use crate::master::{Manners, Master, Reel};
use crate::stage::Stage;
use crate::viewer::{Entry, Watching};
use crate::{ms, scenario, secs, shown};

fn bundled() -> Vec<ClipSample> {
    let clip = Clip::bundled(ClipKind::H264Opus).expect("it is there");
    clip.video().expect("it has pictures").samples.clone()
}

async fn master(stage: &Stage, manners: Manners, reel: Reel) -> Master {
    let link = MasterConnection::connect(stage.signaling().build().expect("valid")).await;
    Master::start(link.expect("connects"), manners, reel, stage.records())
}

fn rollbacks(viewer: &Watching) -> usize {
    viewer.log.count(|entry| {
        matches!(entry, Entry::Output(Output::Peer(_, PeerCommand::Rollback { .. })))
    })
}

/// The unchanged bundled clip.
fn whole() -> Reel {
    Reel {
        samples: bundled(),
        lost: Vec::new(),
        first_sequence_number: 1,
        first_timestamp: 1,
        other_source_from: None,
    }
}

/// Runs a viewer until it is live with a master that also sends an offer, and returns both, with
/// the time from the viewer's offer until it is live.
async fn met(stage: &Stage, manners: Manners, polite: bool) -> (Master, Watching, Duration) {
    let master = master(stage, manners, whole()).await;
    let mut plan = stage.plan();
    plan.settings.polite = polite;
    let mut viewer = plan.watch();
    let sent = viewer.until("the offer", |e| matches!(e, Event::OfferSent { .. })).await;
    let live = viewer.live().await;
    viewer.more_pictures(30).await;
    assert_eq!(rollbacks(&viewer), usize::from(polite), "{}", viewer.log.story());
    (master, viewer, live.saturating_since(sent))
}

fn glare(case: &'static str, polite: bool, manners: Manners) {
    scenario(20, case, async |stage| {
        let (master, viewer, took) = met(stage, manners, polite).await;
        let offers = viewer.offers(false);
        let pictures = stage.untouched(viewer).await;
        master.gone().await;
        let what = format!("live in attempt 1, {offers} own offers, {pictures} pictures");
        shown(what, took)
    });
}

// Shows: N7.
#[test]
fn w20_polite_viewer_yields_in_glare() {
    glare("the viewer gives way", true, Manners::Insists);
}

// Shows: N7.
#[test]
fn w20_master_yields_to_impolite_viewer() {
    glare("the master gives way", false, Manners::GivesWay);
}

/// Glare costs one attempt, by the deadline of the side that is waiting, and nothing else.
fn glare_breaks(case: &'static str, polite: bool, cost: Deadline) {
    scenario(20, case, async |stage| {
        let (master, viewer, took) = met(stage, Manners::Breaks, polite).await;
        let ignored = viewer.count(|event| *event == Event::Ignored(Ignored::Glare));
        assert_eq!(ignored, usize::from(!polite), "{}", viewer.log.story());
        let film = viewer.film.clone();
        let outcome = viewer.close().await;
        assert_eq!(outcome.attempts_total, 2);
        assert_eq!(outcome.attempts[0].end, AttemptEnd::Deadline(cost));
        let pictures = stage.none_lost(&film.pictures());
        master.gone().await;
        let what =
            format!("attempt 1 ended by {}, attempt 2 live, {pictures} pictures", cost.as_str());
        shown(what, took)
    });
}

// Shows: N7.
#[test]
fn w20_polite_viewer_retries_after_master_fails() {
    glare_breaks("the master breaks, polite", true, Deadline::Establish);
}

// Shows: N7.
#[test]
fn w20_impolite_viewer_retries_after_master_fails() {
    glare_breaks("the master breaks, impolite", false, Deadline::Answer);
}

#[test]
fn w67_codec_changes() {
    scenario(67, "", async |stage| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (wide, file) = (folder.path().join("wide.mp4"), folder.path().join("kept.mp4"));
        make_wide_clip(&wide);
        let clip = Clip::open(&wide).expect("it can be sent");
        let wide = &clip.video().expect("it has pictures").samples;
        // Two alternating parts: four seconds of the bundled clip with a lost picture, and two
        // seconds with another picture size.
        let small = bundled();
        let samples: Vec<ClipSample> =
            small.iter().take(60).chain(wide.iter().take(30)).cloned().collect();
        // Sequence numbers wrap after a few packets, timestamps after a few pictures.
        let reel = Reel {
            samples,
            lost: vec![40],
            first_sequence_number: u16::MAX - 20,
            first_timestamp: u32::MAX - 10 * 6000,
            other_source_from: None,
        };
        let master = master(stage, Manners::Answers, reel).await;
        let begun = tokio::time::Instant::now();
        let mut watch = stage.program("watch");
        watch.args(["--json", "--duration", "9", "--record"]).arg(&file);
        let ended = tokio::task::spawn_blocking(move || {
            let mut watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
            let ended = watch.ended(secs(90));
            assert_eq!(ended.code, Some(0), "{}", watch.transcript());
            let summary = watch.event("ended", secs(1));
            (summary, probe_uneven(&file))
        });
        let (summary, probe) = ended.await.expect("it plays");
        let took = begun.elapsed();
        master.gone().await;
        // The lost picture also costs the rest of its group of pictures: at most two of the nine
        // seconds.
        assert!(probe.pictures >= 7 * 15 - 15, "{probe:?} {summary}");
        assert!(probe.duration >= 7.0, "{probe:?}");
        let what = format!(
            "{} pictures in {:.1} s, two sizes, a loss and both wraps: it decodes whole",
            probe.pictures, probe.duration
        );
        assert!(took > ms(0));
        shown(what, took)
    });
}

/// The new source starts just after a keyframe, so its next two seconds cannot be decoded unless
/// the viewer requests another keyframe, under an SSRC that no description contains.
// Shows: N27.
#[test]
fn w67_new_ssrc_is_decoded_after_keyframe_request() {
    scenario(67, "another source", async |stage| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("kept.mp4");
        let mut reel = whole();
        let keyframes = reel.samples.iter().map(|sample| sample.keyframe);
        let group = keyframes.skip(61).take_while(|keyframe| !keyframe).count();
        assert!(reel.samples[60].keyframe && group == 29, "the clip's groups are two seconds");
        reel.other_source_from = Some(61);
        let (records, mut sent) = mpsc::channel(1024);
        let link = MasterConnection::connect(stage.signaling().build().expect("valid")).await;
        let master = Master::start(link.expect("connects"), Manners::Answers, reel, records);
        let mut watch = stage.program("watch");
        watch.args(["--json", "--duration", "9", "--record"]).arg(&file);
        let ended = tokio::task::spawn_blocking(move || {
            let mut watch = Process::start("watch", &mut watch, "Build kvs-viewer.");
            let ended = watch.ended(secs(90));
            assert_eq!(ended.code, Some(0), "{}", watch.transcript());
            (watch.event("ended", secs(1)), probe(&file), Clip::open(&file).expect("it plays"))
        });
        let (summary, probe, clip) = ended.await.expect("it plays");
        master.gone().await;
        assert_eq!(summary["attempts_total"], 1, "{summary}");
        assert!(probe.duration >= 7.0, "{probe:?}");
        let pictures = &clip.video().expect("it has pictures").samples;
        assert_eq!(pictures.len() as u64, probe.pictures, "all of them decode");
        let pauses = pictures.windows(2).map(|two| (two[1].pts - two[0].pts, two[1].keyframe));
        let (pause, resumes) = pauses.max().expect("there are two");
        // The times in the file are those of RTP.
        let pause = Duration::from_micros(pause * 100 / 9);
        assert!(resumes && pause < secs(1), "{pause:?}, {probe:?}");
        let sent: Vec<FrameRecord> = std::iter::from_fn(|| sent.try_recv().ok()).collect();
        let drift = drift(pictures, &sent);
        assert!(drift < ms(500), "{drift:?} from when they were sent");
        let what = format!(
            "{} pictures in {:.1} s, the new source asked for a keyframe, decodes whole, shown \
             as sent within {drift:.1?}",
            probe.pictures, probe.duration
        );
        shown(what, pause)
    });
}

/// Returns the maximum difference between the time of a picture in the file and the time at which
/// it was sent, both relative to the first picture.
fn drift(pictures: &[ClipSample], sent: &[FrameRecord]) -> Duration {
    let mut sent = sent.iter();
    let times: Vec<(Duration, Duration)> = pictures
        .iter()
        .map(|picture| {
            let content = of_a_file(&picture.data);
            let is_it = |record: &&FrameRecord| of_the_clip(record.frame) == Some(content);
            let record = sent.find(is_it).expect("it was sent, and after the one before");
            (Duration::from_micros(picture.pts * 100 / 9), ms(record.t_ms))
        })
        .collect();
    let (shown_first, sent_first) = times[0];
    let drifts = times.iter().map(|(shown, sent)| {
        shown.saturating_sub(shown_first).abs_diff(sent.saturating_sub(sent_first))
    });
    drifts.max().unwrap_or_default()
}

/// Makes a clip of two seconds with a larger picture size than the bundled clip's.
fn make_wide_clip(path: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i"]);
    ffmpeg.arg("testsrc=size=640x360:rate=15:duration=2");
    ffmpeg.args(["-c:v", "libx264", "-profile:v", "baseline", "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-g", "30", "-bf", "0"]).arg(path);
    let made = finished("ffmpeg", &mut ffmpeg, "Install ffmpeg.", secs(60));
    assert_eq!(made.code, Some(0), "{:?}", made.stderr);
}
