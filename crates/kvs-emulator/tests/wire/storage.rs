//! Storage sessions: who is in one, and how a stay ends. Nobody answers here; media is shown by the
//! workspace's own tests.

use std::time::Duration;

use kvs_emulator::{Emulator, Event, Happening, Lifetimes, Why};
use serde_json::json;

use crate::support::{call, start, within};

/// An emulator whose one channel stores.
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

/// The next stay that ended after this event: how, and when it had begun and ended.
async fn stay(emulator: &Emulator, mut after: u64) -> (Why, Event, Event) {
    let mut joined = None;
    loop {
        for event in within(emulator.next_events(after)).await {
            after = event.seq;
            match event.what {
                Happening::StorageJoined => joined = Some(event),
                Happening::StorageLeft { why } => return (why, joined.take().unwrap(), event),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_session_that_is_over_is_followed_by_a_whole_one() {
    let session = Duration::from_millis(400);
    let emulator = storing(Lifetimes { storage_session: session, ..Lifetimes::default() }).await;
    let mut after = 0;
    for time in ["first", "second"] {
        // The slot that is kept for the viewer keeps the old session known.
        join(&emulator, "v").await;
        let (why, joined, left) = stay(&emulator, after).await;
        assert_eq!(why, Why::Age, "{time}");
        let stayed = u128::from(left.at_ms - joined.at_ms);
        assert!(stayed + 10 >= session.as_millis(), "the {time}: {stayed} ms");
        after = left.seq;
    }
}
