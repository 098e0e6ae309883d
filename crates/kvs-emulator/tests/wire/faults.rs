//! Each fault on the wire, with its hit counter.

use std::time::Duration;

use kvs_emulator::{
    Action, Corruption, Emulator, Fault, Match, MessageType, Point, Role, Target, Then,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{
    Signer, Socket, answer, call, candidate_to, connect, ended, hear, hear_message, offer, open,
    plain, received, say, send, start, until, within,
};

async fn pair(action: Action, times: u64) -> (Emulator, Socket, Socket, u64) {
    let emulator = start(|_| {}).await;
    let fault = Fault::new(Match::first(MessageType::SdpAnswer, times), action);
    let id = emulator.faults().add(fault).unwrap();
    let master = open(&emulator, None).await;
    let viewer = open(&emulator, Some("v")).await;
    (emulator, master, viewer, id)
}

/// Sends these answers from the master, and waits until the emulator has handled them.
async fn answers(master: &mut Socket, payloads: &[&str]) {
    for payload in payloads {
        say(master, answer("v", payload)).await;
    }
    assert!(received(master).await.is_empty());
}

#[tokio::test]
async fn first_answers_are_dropped() {
    let (emulator, mut master, mut viewer, id) = pair(Action::Drop, 2).await;
    answers(&mut master, &["1", "2", "3"]).await;
    assert_eq!(received(&mut viewer).await, ["3"]);
    assert_eq!(emulator.faults().hits(id), 2);
}

#[tokio::test]
async fn answers_are_duplicated_delayed_or_reordered() {
    let twice = Action::Duplicate { copies: 1, every_ms: 0 };
    let (_emulator, mut master, mut viewer, _) = pair(twice, 1).await;
    answers(&mut master, &["1", "2"]).await;
    assert_eq!(received(&mut viewer).await, ["1", "1", "2"]);

    let (_emulator, mut master, mut viewer, _) = pair(Action::Delay { ms: 300 }, 1).await;
    answers(&mut master, &["1", "2"]).await;
    assert_eq!(hear(&mut viewer).await["messagePayload"], "2");
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");

    let behind = Action::Reorder { behind: 1, within_ms: 60_000 };
    let (_emulator, mut master, mut viewer, _) = pair(behind, 1).await;
    answers(&mut master, &["1"]).await;
    say(&mut master, candidate_to("v", "c")).await;
    answers(&mut master, &["2"]).await;
    assert_eq!(received(&mut viewer).await, ["c", "1", "2"]);

    let alone = Action::Reorder { behind: 5, within_ms: 10 };
    let (_emulator, mut master, mut viewer, _) = pair(alone, 1).await;
    answers(&mut master, &["1"]).await;
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");
}

#[tokio::test]
async fn answers_are_held_corrupted_replayed_or_refused() {
    let (emulator, mut master, mut viewer, id) = pair(Action::Hold, 1).await;
    answers(&mut master, &["1", "2"]).await;
    assert_eq!(received(&mut viewer).await, ["2"]);
    assert_eq!(emulator.release(id), 1);
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");

    let damaged = Action::Corrupt { how: Corruption::Base64 };
    let (_emulator, mut master, mut viewer, _) = pair(damaged, 1).await;
    answers(&mut master, &["1"]).await;
    assert!(received(&mut viewer).await[0].contains('%'));

    let cut = Action::Corrupt { how: Corruption::Envelope };
    let (_emulator, mut master, mut viewer, _) = pair(cut, 1).await;
    answers(&mut master, &["1"]).await;
    let text = hear_message(&mut viewer).await.into_text().unwrap();
    assert!(serde_json::from_str::<Value>(text.as_str()).is_err());

    let emulator = start(|_| {}).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    answers(&mut master, &["old"]).await;
    let replay = Action::Replay { instead: false };
    emulator.faults().add(Fault::new(Match::first(MessageType::SdpAnswer, 1), replay)).unwrap();
    answers(&mut master, &["new"]).await;
    assert_eq!(received(&mut viewer).await, ["old", "old", "new"]);

    let emulator = start(|_| {}).await;
    let status = Action::Status { error: "InternalFailure".into(), status: 500 };
    emulator.faults().add(Fault::new(Match::first(MessageType::SdpOffer, 1), status)).unwrap();
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, offer("x")).await;
    assert_eq!(hear(&mut viewer).await["statusResponse"]["statusCode"], "500");
}

#[tokio::test]
async fn socket_is_closed_by_a_message_or_a_timer() {
    let close = Action::CloseSocket { whose: Target::Recipient, code: Some(1011) };
    let (_emulator, mut master, mut viewer, _) = pair(close, 1).await;
    answers(&mut master, &["1"]).await;
    assert_eq!(ended(&mut viewer).await, Some(1011));

    let cut = Action::CloseSocket { whose: Target::Both, code: None };
    let (_emulator, mut master, mut viewer, _) = pair(cut, 1).await;
    say(&mut master, answer("v", "1")).await;
    assert_eq!((ended(&mut viewer).await, ended(&mut master).await), (None, None));

    let emulator = start(|_| {}).await;
    let viewers = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
    for (then, code) in [(Then::Close, Some(1001)), (Then::Cut, None)] {
        let after = Action::After { ms: 5, then };
        let id = emulator.faults().add(Fault::new(viewers.clone(), after)).unwrap();
        assert_eq!(ended(&mut open(&emulator, Some("v")).await).await, code);
        assert_eq!(emulator.faults().hits(id), 1);
        emulator.faults().clear();
    }
}

#[tokio::test]
async fn stalled_socket_stays_open_and_silent() {
    let emulator = start(|_| {}).await;
    let stall = Action::After { ms: 0, then: Then::Stall };
    let viewers = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
    emulator.faults().add(Fault::new(viewers, stall)).unwrap();
    let mut master = open(&emulator, None).await;
    // The first answer waits for the viewer, the second is sent when the viewer is connected.
    answers(&mut master, &["1"]).await;
    let mut viewer = open(&emulator, Some("v")).await;
    answers(&mut master, &["2"]).await;
    let quiet = tokio::time::timeout(Duration::from_millis(100), hear(&mut viewer)).await;
    assert!(quiet.is_err());
    assert_eq!(emulator.clients().len(), 2);
    emulator.disconnect("demo", Some(Role::Viewer), None, None);
    assert_eq!(ended(&mut viewer).await, None);
}

#[tokio::test]
async fn call_faults_refuse_reset_garble_or_hang() {
    let emulator = start(|_| {}).await;
    let body = json!({ "ChannelName": "demo" });
    let path = "/describeSignalingChannel";
    let refuse =
        Action::Refuse { status: 503, error: "ServiceUnavailable".into(), message: "no".into() };
    let describe = |times| Match {
        call: Some("DescribeSignalingChannel".into()),
        times: Some(times),
        ..Match::on(Point::Call)
    };
    emulator.faults().add(Fault::new(describe(2), refuse)).unwrap();
    for status in [503, 503, 200] {
        assert_eq!(call(&emulator, path, body.clone()).await.status, status);
    }
    emulator.faults().add(Fault::new(describe(1), Action::Garbage)).unwrap();
    let garbled = call(&emulator, path, body.clone()).await;
    assert_eq!((garbled.status, garbled.body), (200, Value::Null));
    for action in [Action::Reset, Action::Hang { ms: Some(10) }] {
        emulator.faults().add(Fault::new(describe(1), action)).unwrap();
        let request = http::Request::post(format!("{}{path}", emulator.endpoint()))
            .header("host", emulator.addr().to_string())
            .body(Vec::new())
            .unwrap();
        assert!(send(&emulator, request).await.is_err());
    }
    emulator.faults().add(Fault::new(describe(1), Action::Delay { ms: 10 })).unwrap();
    assert_eq!(call(&emulator, path, body).await.status, 200);
}

#[tokio::test]
async fn upgrade_faults_refuse_or_hang() {
    let emulator = start(|_| {}).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let once = Match { times: Some(1), ..Match::on(Point::Upgrade) };
    let refuse =
        Action::Refuse { status: 403, error: "AccessDeniedException".into(), message: "no".into() };
    emulator.faults().add(Fault::new(once.clone(), refuse)).unwrap();
    let refused = connect(&emulator, &Signer::default(), &arn, Some("v")).await.unwrap_err();
    assert_eq!((refused.error().0, refused.error().1), (403, "AccessDeniedException"));
    let id = emulator.faults().add(Fault::new(once, Action::Hang { ms: None })).unwrap();
    let url = Signer::default().socket_url(&emulator, &arn, Some("v"));
    let stream = TcpStream::connect(emulator.addr()).await.unwrap();
    let opening = tokio_tungstenite::client_async(url.into_client_request().unwrap(), stream);
    let hanging = tokio::spawn(opening);
    until(|| emulator.faults().hits(id) == 1).await;
    assert!(!hanging.is_finished());
    within(emulator.shutdown()).await;
    assert!(within(hanging).await.unwrap().is_err());
}

#[tokio::test]
async fn admin_api_adds_and_removes_faults() {
    let emulator = start(|_| {}).await;
    let fault = json!({
        "match": { "on": "message", "type": "SDP_ANSWER", "times": 1 },
        "action": { "do": "hold" },
    });
    let added = plain(&emulator, "POST", "/admin/faults", &fault.to_string()).await;
    assert_eq!(added.body, json!({ "id": 1 }));
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    answers(&mut master, &["1"]).await;
    let listed = plain(&emulator, "GET", "/admin/faults", "").await;
    assert_eq!(listed.body["faults"][0]["hits"], 1, "{listed:?}");
    assert_eq!(listed.body["faults"][0]["fault"]["action"]["do"], "hold");
    let released = plain(&emulator, "POST", "/admin/faults/1/release", "").await;
    assert_eq!(released.body["released"], 1);
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");
    let clients = plain(&emulator, "GET", "/admin/clients", "").await;
    assert_eq!(clients.body["clients"][1]["client_id"], "v");
    let go_away = r#"{"role":"viewer","type":"GO_AWAY"}"#;
    let sent = plain(&emulator, "POST", "/admin/channels/demo/send", go_away).await;
    assert_eq!(sent.body["sent"], 1);
    assert_eq!(hear(&mut viewer).await["messageType"], "GO_AWAY");
    let gone = plain(
        &emulator,
        "POST",
        "/admin/channels/demo/disconnect",
        r#"{"role":"viewer","code":1001}"#,
    )
    .await;
    assert_eq!(gone.body["disconnected"], 1);
    assert_eq!(ended(&mut viewer).await, Some(1001));
    assert_eq!(plain(&emulator, "DELETE", "/admin/faults/1", "").await.status, 200);
    assert_eq!(plain(&emulator, "DELETE", "/admin/faults/1", "").await.status, 404);
    assert_eq!(plain(&emulator, "POST", "/admin/faults", "{}").await.status, 400);
    assert_eq!(plain(&emulator, "POST", "/admin/channels/none/disconnect", "").await.status, 404);
    let clock = plain(&emulator, "POST", "/admin/clock", r#"{"offset_secs":86400}"#).await;
    assert_eq!(clock.status, 200);
    let late = call(&emulator, "/listSignalingChannels", json!({})).await;
    assert!(late.error().2.starts_with("Signature expired"));
}
