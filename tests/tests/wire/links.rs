//! Signaling connections that follow one another: scenarios 18, 30 to 34.

use kvs_emulator::{
    Action, EmulatorConfig, Match, Point, PresenceChange, Role, ServiceMessage, Then, Why,
};
use negotiation_core::{EndReason, Event, Ignored};
use serde_json::json;
use signaling_aws::Limits;

use crate::frame;
use crate::stage::Stage;
use crate::{ms, scenario, scenario_on, secs, shown};

fn is_lost(event: &Event) -> bool {
    matches!(event, Event::LinkLost(_))
}

fn is_reopened(event: &Event) -> bool {
    *event == Event::LinkReopened
}

#[test]
fn w30_signaling_drop_live() {
    scenario(30, "once", async |stage| {
        let mut viewer = stage.live().await;
        let cut = viewer.now();
        assert_eq!(stage.cut_viewers(None), 1);
        viewer.until("the loss", is_lost).await;
        let back = viewer.until("the link", |event| *event == Event::LinkReopened).await;
        assert_eq!(stage.viewers(), ["hall"], "the same id");
        viewer.more_pictures(30).await;
        let pictures = stage.untouched(viewer).await;
        shown(format!("reopened, {pictures} pictures, none lost"), back.saturating_since(cut))
    });
}

/// Must show 3: the service is unreachable for a minute, and media is not affected.
// Shows: N20.
#[test]
fn w30_signaling_down_for_sixty_seconds() {
    scenario(30, "down for 60 s", async |stage| {
        let mut viewer = stage.live().await;
        let down = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
        let down = stage.fault(down, Action::Reset);
        let cut = viewer.now();
        stage.cut_viewers(None);
        viewer.until("the loss", is_lost).await;
        tokio::time::sleep(secs(60)).await;
        let tries = stage.hits(down);
        assert!((6..=240).contains(&tries), "it tries with backoff: {tries}");
        assert_eq!(viewer.count(|event| *event == Event::LinkReopened), 0);
        let up = viewer.now();
        assert!(stage.emulator.faults().remove(down));
        let back = viewer.until("the link", |event| *event == Event::LinkReopened).await;
        viewer.more_pictures(30).await;
        let since = viewer.since(cut);
        let pictures = stage.untouched(viewer).await;
        // The clip has 15 pictures a second.
        assert!(pictures as u64 >= since.as_secs() * 15 * 9 / 10, "{pictures} in {since:?}");
        let what = format!("{pictures} pictures in {since:.0?}, none lost; {tries} tries");
        shown(what, back.saturating_since(up))
    });
}

/// Tests the service's time limits of a connection on a faster clock: a minute takes a second for
/// the ten minutes without traffic, and half a second for the hour: [`hour`].
fn lived_out(
    case: &'static str,
    service: impl FnOnce(&mut EmulatorConfig),
    why: Why,
    is_told: fn(&Event) -> bool,
    rounds: usize,
) {
    let mut emulator = EmulatorConfig { time_scale: 60.0, ..EmulatorConfig::default() };
    service(&mut emulator);
    scenario_on(30, case, emulator, async |stage| {
        stage.camera().await;
        let mut plan = stage.plan();
        // The viewer's own times must be shorter too: pings, and the spread after GO_AWAY.
        plan.settings.go_away_spread = ms(300);
        plan.signaling = plan.signaling.limits(Limits { ping: secs(1), ..Limits::default() });
        let mut viewer = plan.watch();
        viewer.live().await;
        viewer.more_pictures(5).await;
        let mut longest = ms(0);
        for _ in 0..rounds {
            let reported = viewer.until("the end of the link's time", is_told).await;
            let back = viewer.until("the link", is_reopened).await;
            longest = longest.max(back.saturating_since(reported));
            viewer.more_pictures(30).await;
        }
        assert_eq!(viewer_links(stage, why), rounds, "{:?}", stage.emulator.events(0));
        // If the new connection opened first, the end of the old one was expected.
        let lost = if why == Why::Displaced { 0 } else { rounds };
        assert_eq!(viewer.count(is_lost), lost, "{}", viewer.log.story());
        assert_eq!(stage.viewers(), ["hall"], "the same id, once");
        assert_eq!((viewer.links(), viewer.count(is_reopened)), (rounds + 1, rounds));
        let pictures = stage.untouched(viewer).await;
        let what = format!("{rounds} links lived out, {pictures} pictures, none lost");
        shown(what, longest)
    });
}

/// Returns the number of the viewer's connections that ended for this reason.
fn viewer_links(stage: &Stage, why: Why) -> usize {
    let events = stage.emulator.events(0);
    let of_viewer = |event: &&kvs_emulator::Event| event.client_id.as_deref() == Some("hall");
    let ended = PresenceChange::Left { why };
    events.iter().filter(of_viewer).filter(|event| event.what == ended).count()
}

#[test]
fn w30_idle_for_ten_minutes() {
    // It is unknown whether AWS counts a ping as traffic; here it does not.
    let deaf = |service: &mut EmulatorConfig| service.unknowns.pings_reset_idle = false;
    lived_out("idle for 10 min", deaf, Why::Idle, is_lost, 3);
}

/// An hour takes half a minute, and the connection closes five seconds after GO_AWAY.
fn hour(service: &mut EmulatorConfig) {
    service.time_scale = 120.0;
    service.lifetimes.go_away_grace = secs(600);
}

#[test]
fn w30_hour_old_connection_is_replaced_after_go_away() {
    lived_out("an hour old", hour, Why::Displaced, |event| *event == Event::GoAway, 1);
}

#[test]
fn w30_hour_old_connection_without_go_away() {
    let silent = |service: &mut EmulatorConfig| {
        hour(service);
        service.unknowns.age_sends_go_away = false;
    };
    lived_out("an hour old, no GO_AWAY", silent, Why::Age, is_lost, 1);
}

// Shows: N21.
#[test]
fn w31_go_away() {
    scenario(31, "", async |stage| {
        let mut viewer = stage.live().await;
        let reported = viewer.now();
        let viewers = Some(Role::Viewer);
        stage.emulator.send(&stage.channel, viewers, None, ServiceMessage::GoAway);
        viewer.until("the word", |event| *event == Event::GoAway).await;
        let back = viewer.until("the link", |event| *event == Event::LinkReopened).await;
        assert_eq!(stage.viewers(), ["hall"], "the same id, once");
        viewer.more_pictures(30).await;
        assert_eq!(viewer.count(is_lost), 0, "the old link's end was expected");
        let pictures = stage.untouched(viewer).await;
        let what = format!("the new link first, {pictures} pictures, none lost");
        shown(what, back.saturating_since(reported))
    });
}

#[test]
fn w32_reconnect_ice_server() {
    scenario(32, "", async |stage| {
        let mut viewer = stage.live().await;
        let before = stage.calls("GetIceServerConfig").0;
        let reported = viewer.now();
        let viewers = Some(Role::Viewer);
        stage.emulator.send(&stage.channel, viewers, None, ServiceMessage::ReconnectIceServer);
        let fresh = viewer.until("servers", |event| *event == Event::IceServersRefreshed).await;
        assert_eq!(stage.calls("GetIceServerConfig").0, before + 1);
        viewer.more_pictures(30).await;
        assert_eq!(viewer.offers(true), 0, "used from the next exchange on");
        let pictures = stage.untouched(viewer).await;
        let what = format!("fetched anew, {pictures} pictures, none lost");
        shown(what, fresh.saturating_since(reported))
    });
}

#[test]
fn w33_half_open() {
    scenario(33, "", async |stage| {
        let stalls =
            Match { from: Some(Role::Viewer), times: Some(1), ..Match::on(Point::Upgrade) };
        stage.fault(stalls, Action::After { ms: 4_000, then: Then::Stall });
        let mut viewer = stage.live().await;
        let opened = viewer.now();
        let lost = viewer.until("the loss", is_lost).await;
        let took = lost.saturating_since(opened);
        assert!(took < secs(34), "{took:?} after it was live, of which 4 s were good");
        let back = viewer.until("the link", |event| *event == Event::LinkReopened).await;
        viewer.more_pictures(15).await;
        let pictures = stage.untouched(viewer).await;
        let what = format!("found by ping, reopened, {pictures} pictures, none lost");
        shown(what, back.saturating_since(opened))
    });
}

#[test]
fn w34_garbage() {
    scenario(34, "", async |stage| {
        let mut viewer = stage.live().await;
        let reported = viewer.now();
        let frames = [
            String::new(),
            "{".to_owned(),
            r#"{"messageType":"SDP_ANS"#.to_owned(),
            r#"{"messageType":"BUSY","messagePayload":"e30="}"#.to_owned(),
            r#"{"messageType":7}"#.to_owned(),
            r#"{"message":"Forbidden","connectionId":"a","requestId":"b"}"#.to_owned(),
            "[".repeat(10_000),
            frame::from_master("ICE_CANDIDATE", &json!(7)),
        ];
        for frame in &frames {
            assert_eq!(stage.tell_viewers(frame.as_str()), 1);
        }
        let ignored = viewer.ignored(Ignored::Unknown).await;
        viewer.more_pictures(30).await;
        assert_eq!((viewer.count(is_lost), viewer.links()), (0, 1), "it stays open");
        let pictures = stage.untouched(viewer).await;
        let what = format!("{} frames ignored, {pictures} pictures, none lost", frames.len());
        shown(what, ignored.saturating_since(reported))
    });
}

#[test]
fn w18_takeover_before_live() {
    scenario(18, "not live", async |stage| {
        // No answer arrives, and the service closes each connection a second after it opened.
        let ours = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
        stage.fault(ours, Action::After { ms: 1_000, then: Then::Close });
        let mut plan = stage.plan();
        plan.settings.retries = 10;
        plan.settings.answer_timeouts = vec![secs(20)];
        let outcome = plan.watch().ended().await;
        assert_eq!((outcome.reason, outcome.attempts_total), (EndReason::Replaced, 3));
        shown("ended as replaced after 3 links", outcome.lasted)
    });
}

#[test]
fn w18_takeover_while_live() {
    scenario(18, "live", async |stage| {
        let mut viewer = stage.live().await;
        let ours = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
        stage.fault(ours, Action::After { ms: 300, then: Then::Close });
        let cut = viewer.now();
        stage.cut_viewers(Some(1001));
        let given_up = viewer
            .until("the end of reopening", |event| matches!(event, Event::LinkGivenUp(_)))
            .await;
        viewer.more_pictures(30).await;
        let links = viewer.links();
        assert!(links <= 4, "no fight: {links} links");
        let pictures = stage.untouched(viewer).await;
        let what = format!("told after {links} links, no fight; {pictures} pictures, none lost");
        shown(what, given_up.saturating_since(cut))
    });
}
