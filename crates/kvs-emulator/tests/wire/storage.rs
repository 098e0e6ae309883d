//! Storage sessions: their clients, and the end of a stay. No client answers here; the workspace's
//! own tests cover media.

use std::time::Duration;

use kvs_emulator::{Emulator, Event, Lifetimes, PresenceChange, Why};
use serde_json::{Value, json};

use crate::support::{call, start, within};

/// Starts an emulator with one channel, which has media storage.
async fn storing(lifetimes: Lifetimes) -> Emulator {
    start(|config| {
        config.storage_channels = vec!["demo".to_owned()];
        config.lifetimes = lifetimes;
    })
    .await
}

async fn join(emulator: &Emulator, id: &str) {
    let body = json!({ "channelArn": emulator.channel_arn("demo").unwrap(), "clientId": id });
    let joined = call(emulator, "/joinStorageSessionAsViewer", body).await;
    assert_eq!(joined.status, 200, "{joined:?}");
}

/// Waits for the first event after `after` that `like` accepts; returns its result and the event.
async fn next<T>(
    emulator: &Emulator,
    mut after: u64,
    like: impl Fn(PresenceChange) -> Option<T>,
) -> (T, Event) {
    loop {
        for event in within(emulator.next_events(after)).await {
            after = event.seq;
            if let Some(found) = like(event.what) {
                return (found, event);
            }
        }
    }
}

async fn joined(emulator: &Emulator, after: u64) -> Event {
    next(emulator, after, |what| (what == PresenceChange::StorageJoined).then_some(())).await.1
}

/// Returns how the next stay ended.
async fn left(emulator: &Emulator, after: u64) -> (Why, Event) {
    next(emulator, after, |what| match what {
        PresenceChange::StorageLeft { why } => Some(why),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn storage_session_after_an_ended_one_has_full_length() {
    let session = Duration::from_millis(400);
    let emulator = storing(Lifetimes { storage_session: session, ..Lifetimes::default() }).await;
    let mut after = 0;
    for time in ["first", "second"] {
        // The slot that is kept for the viewer also keeps the old session in memory.
        join(&emulator, "v").await;
        let joined = joined(&emulator, after).await;
        let (why, left) = left(&emulator, after).await;
        assert_eq!(why, Why::Age, "{time}");
        let stayed = u128::from(left.at_ms - joined.at_ms);
        assert!(stayed + 10 >= session.as_millis(), "the {time}: {stayed} ms");
        after = left.seq;
    }
}

#[tokio::test]
async fn storage_leave_event_has_its_reason() {
    let emulator = storing(Lifetimes::default()).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let store = async |what: Value| {
        let body = json!({ "ChannelARN": arn, "MediaStorageConfiguration": what });
        let answer = call(&emulator, "/updateMediaStorageConfiguration", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    join(&emulator, "v").await;
    join(&emulator, "v").await;
    let (why, last) = left(&emulator, 0).await;
    assert_eq!(why, Why::Displaced, "by its second call");
    store(json!({ "Status": "DISABLED" })).await;
    let (why, last) = left(&emulator, last.seq).await;
    assert_eq!(why, Why::Service, "the channel stores no more");
    let stream = arn.replace(":channel/", ":stream/");
    store(json!({ "Status": "ENABLED", "StreamARN": stream })).await;
    join(&emulator, "v").await;
    let deleted = call(&emulator, "/deleteSignalingChannel", json!({ "ChannelARN": arn })).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    assert_eq!(left(&emulator, last.seq).await.0, Why::Deleted);
}

/// The JavaScript sample calls again unless the error has this text (docs/kvs-protocol.md 1.3).
#[tokio::test]
async fn full_storage_session_error_has_the_text_clients_match() {
    let emulator = storing(Lifetimes::default()).await;
    for id in ["v1", "v2", "v3"] {
        join(&emulator, id).await;
    }
    let body = json!({ "channelArn": emulator.channel_arn("demo").unwrap(), "clientId": "v4" });
    let refused = call(&emulator, "/joinStorageSessionAsViewer", body).await;
    let (status, kind, text) = refused.error();
    assert_eq!((status, kind), (400, "ClientLimitExceededException"));
    assert!(text.contains("maximum number of viewers connected to the session"), "{text}");
}
