//! The route of the media: scenarios 41, 59 and 60.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use kvs_emulator::{EmulatorConfig, TurnConfig};
use negotiation_core::EndReason;
use peer_webrtc::{CandidateKind, IcePolicy};

use crate::stage::Stage;
use crate::viewer::{Plan, Watching};
use crate::{scenario, scenario_on, secs, shown};

/// Returns an emulator configuration with its own relay and credentials of this lifetime.
fn relay(ttl_secs: u32) -> EmulatorConfig {
    let turn = TurnConfig { ttl_secs, ..TurnConfig::default() };
    EmulatorConfig { relay: true, turn, ..EmulatorConfig::default() }
}

/// Returns a viewer that signals and uses relayed candidates only.
fn relayed(stage: &Stage) -> Plan {
    let mut plan = stage.plan();
    plan.settings.relay_only = true;
    plan.settings.establish_timeout = secs(10);
    plan.peer.policy = IcePolicy::Relay;
    plan.peer.bind = vec!["127.0.0.1:0".to_owned()];
    plan
}

/// Returns the kind of the viewer's candidate in the selected pair.
async fn path(viewer: &Watching) -> CandidateKind {
    let stats = viewer.monitor.stats().await;
    stats.into_iter().find_map(|stats| stats.path).expect("there is one").local
}

#[test]
fn w41_relay_only() {
    scenario_on(41, "relay", relay(300), async |stage| {
        stage.camera().await;
        let mut viewer = relayed(stage).watch();
        let live = viewer.live().await;
        viewer.more_pictures(30).await;
        assert_eq!(path(&viewer).await, CandidateKind::Relay);
        let pictures = stage.untouched(viewer).await;
        let what = format!("live over TURN, {pictures} pictures, none lost");
        shown(what, live.saturating_since(Default::default()))
    });
}

#[test]
fn w41_no_relay() {
    scenario(41, "no relay", async |stage| {
        stage.camera().await;
        let outcome = relayed(stage).watch().ended().await;
        assert_eq!(outcome.reason, EndReason::NoRoute);
        shown(outcome.sentence(), outcome.lasted)
    });
}

#[test]
fn w59_relay_outlives() {
    // A tenth of the lifetime of AWS's credentials; the stack refreshes an allocation with an
    // expired credential too.
    scenario_on(59, "", relay(30), async |stage| {
        stage.camera().await;
        let mut viewer = relayed(stage).watch();
        let live = viewer.live().await;
        tokio::time::sleep(secs(40)).await;
        viewer.more_pictures(30).await;
        assert_eq!(path(&viewer).await, CandidateKind::Relay);
        assert_eq!(viewer.offers(true), 0, "{}", viewer.log.story());
        let past = viewer.since(live) - secs(30);
        let pictures = stage.untouched(viewer).await;
        let what = format!("{past:.0?} past its end: {pictures} pictures, none lost");
        shown(what, past)
    });
}

#[test]
fn w60_ipv6_only() {
    let listen = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
    scenario_on(60, "", EmulatorConfig { listen, ..EmulatorConfig::default() }, async |stage| {
        assert!(stage.emulator.addr().is_ipv6());
        stage.camera().await;
        let mut plan = stage.plan();
        plan.peer.bind = vec!["[::1]:0".to_owned()];
        let mut viewer = plan.watch();
        let live = viewer.live().await;
        viewer.more_pictures(30).await;
        let pictures = stage.untouched(viewer).await;
        let what = format!("signaling and media over ::1, {pictures} pictures, none lost");
        shown(what, live.saturating_since(Default::default()))
    });
}
