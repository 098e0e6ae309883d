//! Sessions that are opened, fail, retry and are closed, one after the other.

use kvs_emulator::{Action, Emulator, Fault, Match, MessageType, Point, Role};
use negotiation_core::{EndReason, Event, RetryDelay, Settings};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::resources::{Held, live_bytes, resident_kb, slope};
use crate::stage::{Watching, camera, emulator, fill_secrets, ms, secs};
use crate::{run, setting};

/// The number of sessions at a time, each on its own channel: a process opens at most three
/// connections per second and channel, and no quota setting can turn that off.
const LANES: usize = 10;

/// The number of cycles between two measurements, before which everything must be released.
const BETWEEN_MEASURES: usize = 50;

/// The cycle from which memory is compared, when all caches are filled.
const WARM: usize = 200;

/// The maximum number of bytes that a cycle may leave behind.
const SLOPE_MAX: f64 = 1_000.0;

/// The fault in a session.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The first answer is lost; the second attempt becomes live.
    AnswerLost,
    /// The first signaling connection is refused; the second attempt becomes live.
    SocketRefused,
    /// The signaling connection of the live session is cut; the session opens another.
    Cut,
    /// The session is closed once its offer was sent.
    ClosedEarly,
    /// No answer arrives, so both attempts fail.
    NeverAnswered,
}

const KINDS: [Kind; 5] =
    [Kind::AnswerLost, Kind::SocketRefused, Kind::Cut, Kind::ClosedEarly, Kind::NeverAnswered];

// Shows: N23.
#[test]
fn session_cycles_leak_no_resources() {
    let cycles: usize = setting("SOAK_CYCLES", 300);
    assert!(cycles > WARM + BETWEEN_MEASURES, "SOAK_CYCLES={cycles} is too few for a slope");
    run(soak(cycles));
}

async fn soak(cycles: usize) {
    fill_secrets();
    let channels: Vec<String> = (0..LANES).map(|lane| format!("soak-{lane}")).collect();
    let emulator = std::sync::Arc::new(emulator(channels.clone()).await);
    let mut cameras = Vec::new();
    for channel in &channels {
        cameras.push(camera(&emulator, channel).await);
    }
    tokio::time::sleep(secs(1)).await;
    let (before, begun) = (Held::now(), Instant::now());
    eprintln!("before: {before}, {} kB live, {} kB resident", live_bytes() / 1000, resident_kb());
    let mut points = Vec::new();
    for first in (0..cycles).step_by(BETWEEN_MEASURES) {
        let last = (first + BETWEEN_MEASURES).min(cycles);
        let mut lanes = JoinSet::new();
        for (lane, channel) in channels.iter().cloned().enumerate() {
            let emulator = emulator.clone();
            lanes.spawn(async move {
                for n in (first..last).filter(|n| n % LANES == lane) {
                    cycle(&emulator, &channel, KINDS[n % KINDS.len()]).await;
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.expect("every cycle ends as it should");
        }
        drop(lanes);
        let held = Held::settle(before).await;
        let (live, resident) = (live_bytes(), resident_kb());
        eprintln!("{last:>5} cycles: {held}, {} kB live, {resident} kB resident", live / 1000);
        if last >= WARM {
            points.push((last as f64, live as f64));
        }
    }
    let slope = slope(&points);
    eprintln!(
        "{cycles} cycles in {:.0?}: {slope:.0} bytes a cycle from cycle {WARM} on",
        begun.elapsed()
    );
    assert!(slope < SLOPE_MAX, "{slope} bytes a cycle stay behind: {points:?}");
    for camera in cameras {
        camera.shutdown().await;
    }
    if let Ok(emulator) = std::sync::Arc::try_unwrap(emulator) {
        emulator.shutdown().await;
    }
}

fn settings(kind: Kind) -> Settings {
    Settings {
        answer_timeouts: vec![ms(2_000)],
        // One retry is enough; on a busy machine another may be needed.
        retries: if matches!(kind, Kind::NeverAnswered) { 1 } else { 5 },
        retry_delay: RetryDelay::Fixed(ms(50)),
        link_reopen: RetryDelay::FullJitter { base: ms(50), cap: ms(100) },
        ..Settings::one_retry()
    }
}

async fn cycle(emulator: &Emulator, channel: &str, kind: Kind) {
    let on = |matches| Match { channel: Some(channel.to_owned()), ..matches };
    let answers = || on(Match::every(MessageType::SdpAnswer));
    let upgrades =
        Match { from: Some(Role::Viewer), times: Some(1), ..on(Match::on(Point::Upgrade)) };
    let refuse =
        Action::Refuse { status: 503, error: "ServiceUnavailable".into(), message: "".into() };
    let fault = match kind {
        Kind::AnswerLost => Some(Fault::new(Match { times: Some(1), ..answers() }, Action::Drop)),
        // All answers are dropped, because one for the previous cycle may still arrive.
        Kind::NeverAnswered => Some(Fault::new(answers(), Action::Drop)),
        Kind::SocketRefused => Some(Fault::new(upgrades, refuse)),
        Kind::Cut | Kind::ClosedEarly => None,
    };
    let fault = fault.map(|fault| emulator.faults().add(fault).expect("a fault"));
    let mut watching = Watching::start(emulator, channel, settings(kind), None);
    let outcome = match kind {
        Kind::AnswerLost | Kind::SocketRefused => {
            assert!(watching.until(|event| *event == Event::Live).await, "{kind:?}: live");
            watching.close().await
        }
        Kind::Cut => {
            assert!(watching.until(|event| *event == Event::Live).await, "{kind:?}: live");
            emulator.disconnect(channel, Some(Role::Viewer), None, None);
            assert!(watching.until(|event| *event == Event::LinkReopened).await, "{kind:?}");
            watching.more_pictures(3).await;
            watching.close().await
        }
        Kind::ClosedEarly => {
            assert!(watching.until(|event| matches!(event, Event::OfferSent { .. })).await);
            watching.close().await
        }
        Kind::NeverAnswered => watching.ended().await,
    };
    let expected = match kind {
        Kind::NeverAnswered => (EndReason::NoAnswer, 2),
        Kind::AnswerLost | Kind::SocketRefused => (EndReason::Closed, 2),
        Kind::Cut | Kind::ClosedEarly => (EndReason::Closed, 1),
    };
    let (reason, attempts) = expected;
    assert_eq!(outcome.reason, reason, "{kind:?}: {outcome:?}");
    assert!(outcome.attempts_total >= attempts, "{kind:?}: {outcome:?}");
    if let Some(fault) = fault {
        emulator.faults().remove(fault);
    }
}
