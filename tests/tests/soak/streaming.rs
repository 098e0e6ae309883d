//! One session that streams while a fault occurs every ten seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use kvs_camera::Camera;
use kvs_emulator::{Action, Emulator, Fault, Match, Point, Role, ServiceMessage};
use kvs_viewer_tests::nat::{Kind, Network};
use negotiation_core::{EndReason, Event, Settings};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::resources::{Held, live_bytes, resident_kb, slope};
use crate::stage::{Watching, camera, emulator, ms, secs};
use crate::{run, setting};

const CHANNEL: &str = "soak-stream";

/// The interval between faults.
const EVERY: Duration = secs(10);

/// The interval at which the test checks for new pictures.
const LOOK: Duration = ms(50);

/// Media does not flow if no picture arrives for this time; the clip has 15 pictures per second.
const STILL: Duration = ms(500);

/// The time for which packets are lost.
const LOST: Duration = ms(2_500);

/// On a bad path, one packet of this many is lost.
const LOST_ONE_OF: u64 = 5;

/// The maximum time after a fault until pictures arrive again.
const RECOVERY_MAX: Duration = secs(30);

/// The idle time after which an address is forgotten: only those of earlier attempts are idle,
/// because ICE sends checks from the others every few seconds.
const FORGOTTEN: Duration = secs(20);

/// The maximum number of bytes that a fault may leave behind, from the second round of faults on.
const SLOPE_MAX: f64 = 1_000.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// The signaling connection is cut.
    LinkCut,
    /// All UDP packets are lost for a while, ICE checks included.
    UdpLost,
    /// The platform reports a network change.
    NetworkChanged,
    /// The camera closes in order, and another starts.
    CameraRestarts,
    /// The service sends GO_AWAY.
    GoAway,
    /// One media packet of five is lost for a while.
    PacketsLost,
    /// The service requests a refresh of the ICE servers.
    IceServers,
    /// The service's clock jumps by ten minutes, and the signaling connection is cut.
    ClockJumps,
    /// The next two calls and upgrades are refused, and the signaling connection is cut.
    ServiceFails,
    /// The service sends a text that is no valid message.
    Garbage,
    /// The application requests an ICE restart.
    Restart,
    /// The platform reports that the device slept.
    Slept,
}

/// All troubles in their order; a run of one minute reaches the first five.
const TROUBLES: [Trouble; 12] = [
    Trouble::LinkCut,
    Trouble::UdpLost,
    Trouble::NetworkChanged,
    Trouble::CameraRestarts,
    Trouble::GoAway,
    Trouble::PacketsLost,
    Trouble::IceServers,
    Trouble::ClockJumps,
    Trouble::ServiceFails,
    Trouble::Garbage,
    Trouble::Restart,
    Trouble::Slept,
];

// Shows: N23.
#[test]
fn streaming_survives_a_fault_every_ten_seconds() {
    let minutes: f64 = setting("SOAK_MINUTES", 1.0);
    run(soak(Duration::from_secs_f64(minutes * 60.0)));
}

/// The arrival of pictures since a fault.
#[derive(Debug)]
struct Flow {
    pictures: u64,
    came_at: Instant,
    /// The longest time without a picture.
    gap: Duration,
}

impl Flow {
    fn begin(pictures: u64) -> Self {
        Self { pictures, came_at: Instant::now(), gap: Duration::ZERO }
    }

    fn look(&mut self, pictures: u64) {
        let still = self.came_at.elapsed();
        self.gap = self.gap.max(still);
        if pictures > self.pictures {
            (self.pictures, self.came_at) = (pictures, Instant::now());
        }
    }
}

/// The numbers of events that the session reported.
#[derive(Default)]
struct Tally {
    attempts: u64,
    live: u64,
    links: u64,
    restarts: u64,
    stalls: u64,
}

impl Tally {
    fn count(&mut self, event: &Event) {
        self.attempts += u64::from(matches!(event, Event::AttemptStarted { .. }));
        self.live += u64::from(*event == Event::Live);
        self.links += u64::from(*event == Event::LinkReopened);
        self.restarts += u64::from(*event == Event::Recovered);
        self.stalls += u64::from(*event == Event::MediaStalled);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, live, links, restarts, stalls } = self;
        write!(
            f,
            "{attempts} attempts, {live} times live, {links} links reopened, {restarts} recovered \
             in the attempt, {stalls} stalls"
        )
    }
}

async fn soak(long: Duration) {
    let emulator = emulator(vec![CHANNEL.to_owned()]).await;
    let mut camera = Some(camera(&emulator, CHANNEL).await);
    let before = Held::now();
    let settings = Settings { go_away_spread: secs(2), ..Settings::persistent() };
    let network = Network::default();
    let mut watching = Watching::start(&emulator, CHANNEL, settings, Some(&network));
    let mut tally = Tally::default();
    let begun = Instant::now();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut worst: BTreeMap<Trouble, Duration> = BTreeMap::new();
    let mut held = Vec::new();
    let mut faults = 0_usize;
    let mut trouble: Option<Trouble> = None;
    let mut flow = Flow::begin(0);
    let mut since = begun;
    loop {
        tokio::select! {
            event = watching.event() => match event {
                Some(event) => tally.count(&event),
                None => panic!("it ended: {tally}"),
            },
            _ = look.tick() => {
                flow.look(watching.pictures());
                let flows = flow.pictures > 0 && flow.came_at.elapsed() < STILL;
                assert!(flows || since.elapsed() < RECOVERY_MAX, "{trouble:?}: {tally}");
                if !flows || since.elapsed() < EVERY {
                    continue;
                }
                if let Some(over) = trouble {
                    network.forget_idle(FORGOTTEN);
                    let struck = over != Trouble::UdpLost || flow.gap > LOST * 3 / 4;
                    assert!(struck, "nothing was lost: {:?}", flow.gap);
                    let gap = worst.entry(over).or_default();
                    *gap = flow.gap.max(*gap);
                    eprintln!(
                        "{:>5} s {over:?}: {} ms without a picture, {} kB live",
                        begun.elapsed().as_secs(),
                        flow.gap.as_millis(),
                        live_bytes() / 1000,
                    );
                    held.push(live_bytes());
                }
                if begun.elapsed() >= long {
                    break;
                }
                let next = TROUBLES[faults % TROUBLES.len()];
                faults += 1;
                (trouble, since) = (Some(next), Instant::now());
                flow = Flow::begin(watching.pictures());
                strike(next, faults, &emulator, &mut camera, &watching, &network).await;
            }
        }
    }
    let (pictures, lasted) = (watching.pictures(), begun.elapsed());
    let outcome = watching.close().await;
    drop(network);
    if let Some(camera) = camera {
        camera.shutdown().await;
    }
    eprintln!(
        "{faults} faults in {lasted:.0?}: {pictures} pictures of {}; {tally}; {} kB resident",
        lasted.as_secs() * 15,
        resident_kb()
    );
    for (trouble, gap) in worst {
        eprintln!("  {trouble:?}: at most {} ms without a picture", gap.as_millis());
    }
    // An attempt may hold more memory after some faults, which the next attempt frees. A permanent
    // leak also raises the minimum of each round.
    let rounds = held.chunks_exact(TROUBLES.len()).filter_map(|round| round.iter().min());
    let least = rounds.enumerate().map(|(n, least)| ((n * TROUBLES.len()) as f64, *least as f64));
    let points: Vec<(f64, f64)> = least.skip(1).collect();
    if points.len() > 2 {
        let slope = slope(&points);
        eprintln!("{slope:.0} bytes a fault from the second round on");
        assert!(slope < SLOPE_MAX, "{slope} bytes a fault stay behind: {points:?}");
    }
    let after = Held::settle(before).await;
    eprintln!("before: {before}; after: {after}");
    assert_eq!((outcome.reason, outcome.was_live), (EndReason::Closed, true));
    emulator.shutdown().await;
}

async fn strike(
    trouble: Trouble,
    n: usize,
    emulator: &Emulator,
    camera: &mut Option<Camera>,
    watching: &Watching,
    network: &Network,
) {
    let cut = || emulator.disconnect(CHANNEL, Some(Role::Viewer), None, None);
    let send = |message| emulator.send(CHANNEL, Some(Role::Viewer), None, message);
    let handle = watching.handle();
    match trouble {
        Trouble::LinkCut => assert_eq!(cut(), 1),
        Trouble::UdpLost => lose(network, |network| network.block(&Kind::ALL)),
        Trouble::PacketsLost => lose(network, |network| network.lose_one_of(LOST_ONE_OF)),
        Trouble::GoAway => assert_eq!(send(ServiceMessage::GoAway), 1),
        Trouble::IceServers => assert_eq!(send(ServiceMessage::ReconnectIceServer), 1),
        Trouble::NetworkChanged => handle.control().network_changed(),
        Trouble::CameraRestarts => {
            if let Some(camera) = camera.take() {
                camera.shutdown().await;
            }
            *camera = Some(crate::stage::camera(emulator, CHANNEL).await);
        }
        Trouble::ClockJumps => {
            let ahead = (n / TROUBLES.len()).is_multiple_of(2);
            emulator.set_clock_offset_secs(if ahead { 600 } else { -600 });
            assert_eq!(cut(), 1);
        }
        Trouble::ServiceFails => {
            let upgrades = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
            for matches in [upgrades, Match::on(Point::Call)] {
                let refuse = Action::Refuse {
                    status: 503,
                    error: "ServiceUnavailable".into(),
                    message: String::new(),
                };
                let matches = Match { times: Some(2), ..matches };
                emulator.faults().add(Fault::new(matches, refuse)).expect("a fault");
            }
            assert_eq!(cut(), 1);
        }
        Trouble::Garbage => assert_eq!(send(ServiceMessage::Raw("{\"a\":[[[".into())), 1),
        Trouble::Restart => handle.control().restart(),
        Trouble::Slept => handle.control().resumed(),
    }
}

/// Makes the network lose packets for a while.
fn lose(network: &Network, begin: impl FnOnce(&Network)) {
    begin(network);
    let network = network.clone();
    tokio::spawn(async move {
        sleep(LOST).await;
        network.unblock();
        network.lose_one_of(0);
    });
}
