//! The list of clients, and the events when clients join or leave.

use std::time::Duration;

use kvs_emulator::{PresenceChange, Role, Then, Why};
use serde_json::json;

use crate::support::{answer, ended, hear, open, plain, say, start, until, within};

#[tokio::test]
async fn client_list_has_message_counts() {
    let emulator = start(|_| {}).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut master, answer("v", "1")).await;
    hear(&mut viewer).await;
    let listed = plain(&emulator, "GET", "/admin/clients", "").await.body;
    let [master, viewer] = [&listed["clients"][0], &listed["clients"][1]];
    assert_eq!((&master["role"], &master["sent"]), (&json!("master"), &json!(1)));
    assert_eq!((&viewer["client_id"], &viewer["received"]), (&json!("v"), &json!(1)));
    assert!(viewer["connected_ms"].is_u64() && viewer["connection"] == 2);
}

#[tokio::test]
async fn join_and_leave_events_are_ordered_with_reasons() {
    let emulator = start(|_| {}).await;
    let mut seen = 0;
    let mut next = async || {
        let events = within(emulator.next_events(seen)).await;
        seen = events[0].seq;
        (events[0].role, events[0].connection, events[0].what)
    };
    let left = |why| PresenceChange::Left { why };
    let mut first = open(&emulator, Some("v")).await;
    assert_eq!(next().await, (Role::Viewer, Some(1), PresenceChange::Joined));
    let mut second = open(&emulator, Some("v")).await;
    assert_eq!(next().await, (Role::Viewer, Some(2), PresenceChange::Joined));
    assert_eq!(ended(&mut first).await, Some(1001));
    assert_eq!(next().await, (Role::Viewer, Some(1), left(Why::Displaced)));
    second.close(None).await.unwrap();
    ended(&mut second).await;
    assert_eq!(next().await.2, left(Why::Closed));
    drop(open(&emulator, Some("w")).await);
    assert_eq!(next().await.2, PresenceChange::Joined);
    assert_eq!(next().await.2, left(Why::Lost));
    let _third = open(&emulator, None).await;
    assert_eq!(next().await, (Role::Master, Some(4), PresenceChange::Joined));
    emulator.strike("demo", None, None, &Then::Cut);
    assert_eq!(next().await.2, left(Why::Service));
}

#[tokio::test]
async fn events_can_be_polled_or_awaited() {
    let emulator = start(|_| {}).await;
    let get = |query: &'static str| plain(&emulator, "GET", query, "");
    assert_eq!(get("/admin/events").await.body, json!({ "events": [] }));
    let (waited, _viewer) = tokio::join!(get("/admin/events?after=0&wait_ms=9000"), async {
        open(&emulator, Some("v")).await
    });
    let event = &waited.body["events"][0];
    assert_eq!((&event["seq"], &event["event"]), (&json!(1), &json!("joined")));
    assert_eq!((&event["channel"], &event["client_id"]), (&json!("demo"), &json!("v")));
    assert_eq!(get("/admin/events?after=1").await.body, json!({ "events": [] }));
    assert_eq!(get("/admin/events?after=x").await.status, 400);
}

/// The limits of ten minutes and an hour, on a clock that runs a thousand times faster.
#[tokio::test]
async fn scaled_clock_closes_idle_and_old_sockets() {
    let emulator = start(|config| config.time_scale = 1000.0).await;
    let mut idle = open(&emulator, Some("v")).await;
    assert_eq!(ended(&mut idle).await, Some(1001));
    until(|| emulator.events(0).len() == 2).await;
    assert_eq!(emulator.events(0)[1].what, PresenceChange::Left { why: Why::Idle });

    let emulator = start(|config| {
        config.time_scale = 1000.0;
        config.lifetimes.idle = Duration::from_secs(86_400);
    })
    .await;
    let mut old = open(&emulator, Some("v")).await;
    assert_eq!(hear(&mut old).await, json!({ "messageType": "GO_AWAY" }));
    assert_eq!(ended(&mut old).await, Some(1001), "a minute later");
    until(|| emulator.events(0).len() == 2).await;
    assert_eq!(emulator.events(0)[1].what, PresenceChange::Left { why: Why::Age });
}
