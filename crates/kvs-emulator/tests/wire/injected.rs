//! Frames that no client sent, and actions on sockets: from faults, the library and the admin API.

use std::time::Duration;

use kvs_emulator::{
    Action, Emulator, Fault, Garbage, Injection, Match, MessageType, Place, Point, Role, Sender,
    ServiceMessage, Target, Then,
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Signer, Socket, answer, call, connect, ended, hear, hear_message, offer, open, plain, received,
    say, start, until,
};

fn inject(emulator: &Emulator, what: Injection) {
    let sent = emulator.send("demo", Some(Role::Viewer), None, ServiceMessage::Injected(what));
    assert_eq!(sent, 1);
}

fn message(sender: Sender) -> Injection {
    let payload = Some("cGF5bG9hZA==".to_owned());
    Injection::Message { message_type: MessageType::SdpAnswer, sender, payload, json: None }
}

/// Scenarios 6 and 10.
#[tokio::test]
async fn injected_answer_has_the_given_sender() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    inject(&emulator, message(Sender::Absent));
    assert!(hear(&mut viewer).await.get("senderClientId").is_none());
    inject(&emulator, message(Sender::Null));
    assert_eq!(hear(&mut viewer).await.get("senderClientId"), Some(&Value::Null));
    for id in ["", "AWS_DEFAULT_SINGLE_MASTER", "another"] {
        inject(&emulator, message(Sender::Id(id.into())));
        assert_eq!(hear(&mut viewer).await["senderClientId"], id);
    }
}

#[tokio::test]
async fn fault_changes_sender_or_adds_frames_to_a_message() {
    let emulator = start(|_| {}).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    let first = |action| Fault::new(Match::first(MessageType::SdpAnswer, 1), action);
    let sender = Sender::Id("another".into());
    let id = emulator.faults().add(first(Action::Sender { sender })).unwrap();
    say(&mut master, answer("v", "1")).await;
    let first_received = hear(&mut viewer).await;
    assert_eq!(first_received["senderClientId"], "another");
    assert_eq!((&first_received["messagePayload"], emulator.faults().hits(id)), (&json!("1"), 1));
    let places = [
        (Place::Before, ["cGF5bG9hZA==", "2"].as_slice()),
        (Place::After, ["2", "cGF5bG9hZA=="].as_slice()),
        (Place::Instead, ["cGF5bG9hZA=="].as_slice()),
    ];
    for (place, expected) in places {
        let what = message(Sender::Absent);
        emulator.faults().add(first(Action::Inject { what, place })).unwrap();
        say(&mut master, answer("v", "2")).await;
        assert!(received(&mut master).await.is_empty());
        assert_eq!(received(&mut viewer).await, expected);
    }
}

/// Scenario 34: the frames arrive, and the socket stays open.
#[tokio::test]
async fn every_kind_of_garbage_arrives_unchanged() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    for how in Garbage::ALL {
        inject(&emulator, Injection::Garbage { how });
        match (how, hear_message(&mut viewer).await) {
            (Garbage::Binary, Message::Binary(bytes)) => assert!(!bytes.is_empty()),
            (Garbage::Empty, Message::Text(text)) => assert!(text.is_empty()),
            (Garbage::Truncated | Garbage::Deep, Message::Text(text)) => {
                assert!(serde_json::from_str::<Value>(text.as_str()).is_err());
            }
            (_, Message::Text(text)) => {
                assert!(serde_json::from_str::<Value>(text.as_str()).unwrap().is_object());
            }
            (how, other) => panic!("{how:?}: {other:?}"),
        }
    }
    assert!(received(&mut viewer).await.is_empty());
}

/// Scenario 12's flood: more frames than a socket's queue holds.
#[tokio::test]
async fn ten_thousand_injected_candidates_arrive_in_order() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    inject(&emulator, Injection::Candidates { count: 10_000, sender: Sender::Absent });
    inject(&emulator, Injection::Text { text: "{}".into(), count: 1 });
    for _ in 0..10_000 {
        assert_eq!(hear(&mut viewer).await["messageType"], "ICE_CANDIDATE");
    }
    assert_eq!(hear(&mut viewer).await, json!({}));
}

#[tokio::test]
async fn huge_and_slow_frames_arrive_complete() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    inject(&emulator, Injection::Huge { bytes: 1 << 20 });
    assert!(hear_message(&mut viewer).await.into_text().unwrap().len() > 1 << 20);
    inject(&emulator, Injection::Slow { fragments: 5, every_ms: 1 });
    assert_eq!(hear_message(&mut viewer).await.into_text().unwrap().as_str(), "{    ");
}

#[tokio::test]
async fn earlier_message_or_status_is_injected() {
    let emulator = start(|_| {}).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut master, answer("v", "1")).await;
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");
    let message_type = MessageType::SdpAnswer;
    inject(&emulator, Injection::Earlier { message_type, sender: Sender::Absent });
    assert_eq!(hear(&mut viewer).await["messagePayload"], "1");
    let (correlation_id, error) = ("c-1".to_owned(), "InternalFailure".to_owned());
    inject(&emulator, Injection::Status { correlation_id, error, status: 500 });
    assert_eq!(hear(&mut viewer).await["statusResponse"]["correlationId"], "c-1");
}

#[tokio::test]
async fn away_fault_keeps_message_until_recipient_reconnects() {
    let emulator = start(|_| {}).await;
    emulator
        .faults()
        .add(Fault::new(Match::first(MessageType::SdpOffer, 1), Action::Away))
        .unwrap();
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut viewer, offer("1")).await;
    assert!(received(&mut viewer).await.is_empty());
    assert!(received(&mut master).await.is_empty());
    assert_eq!(hear(&mut open(&emulator, None).await).await["messagePayload"], "1");
}

/// Scenario 18: each time the viewer connects again, the takeover displaces it again.
#[tokio::test]
async fn takeover_fault_closes_the_socket_each_time() {
    let emulator = start(|config| config.quotas.enabled = false).await;
    let viewers = Match { from: Some(Role::Viewer), ..Match::on(Point::Upgrade) };
    let action = Action::After { ms: 5, then: Then::Takeover };
    let id = emulator.faults().add(Fault::new(viewers, action)).unwrap();
    for hits in 1..=3 {
        assert_eq!(ended(&mut open(&emulator, Some("v")).await).await, Some(1001));
        assert_eq!(emulator.faults().hits(id), hits);
    }
    until(|| emulator.clients().len() == 1).await;
    emulator.faults().clear();
    let mut viewer = open(&emulator, Some("v")).await;
    let mut master = open(&emulator, None).await;
    say(&mut master, answer("v", "mine")).await;
    assert_eq!(hear(&mut viewer).await["messagePayload"], "mine", "the place was won back");
}

#[tokio::test]
async fn message_fault_can_send_go_away() {
    let emulator = start(|config| {
        config.lifetimes.go_away_grace = Duration::from_secs(60);
        config.time_scale = 1000.0;
    })
    .await;
    let then = Then::GoAway;
    let go_away = Action::Socket { whose: Target::Sender, then, lost: false };
    emulator.faults().add(Fault::new(Match::first(MessageType::SdpOffer, 1), go_away)).unwrap();
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut viewer, offer("1")).await;
    assert_eq!(hear(&mut master).await["messagePayload"], "1");
    assert_eq!(hear(&mut viewer).await["messageType"], "GO_AWAY");
    assert_eq!(ended(&mut viewer).await, Some(1001), "a minute later by its own clock");
}

#[tokio::test]
async fn refusal_fault_has_aws_form_and_applies_to_one_client() {
    let emulator = start(|config| config.quotas.enabled = false).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let of = |client: &str, on| Match {
        client_id: Some(client.to_owned()),
        times: Some(1),
        ..Match::on(on)
    };
    let refusals = [
        (Action::ViewerLimit, 400, "ClientLimitExceededException", "viewers"),
        (Action::Throttle, 400, "ClientLimitExceededException", "Rate exceeded"),
        (Action::ExpiredToken, 403, "ExpiredTokenException", "expired"),
    ];
    for (action, status, name, text) in refusals {
        emulator.faults().add(Fault::new(of("w", Point::Upgrade), action.clone())).unwrap();
        connect(&emulator, &Signer::default(), &arn, Some("v")).await.unwrap();
        let refused = connect(&emulator, &Signer::default(), &arn, Some("w")).await.unwrap_err();
        let error = refused.error();
        assert_eq!((error.0, error.1), (status, name));
        assert!(error.2.contains(text), "{error:?}");
        emulator.faults().add(Fault::new(of("w", Point::Call), action)).unwrap();
        let path = "/v1/get-ice-server-config";
        let body = |id: &str| json!({ "ChannelARN": arn, "ClientId": id });
        assert_eq!(call(&emulator, path, body("v")).await.status, 200);
        assert_eq!(call(&emulator, path, body("w")).await.status, status);
    }
    let action = Action::Page {
        status: 502,
        body: "<html>Bad Gateway</html>".into(),
        content_type: "text/html".into(),
    };
    emulator.faults().add(Fault::new(of("v", Point::Upgrade), action)).unwrap();
    let refused = connect(&emulator, &Signer::default(), &arn, Some("v")).await.unwrap_err();
    assert_eq!((refused.status, refused.header("content-type")), (502, "text/html"));
}

#[tokio::test]
async fn turn_credential_can_be_aged_or_short_lived() {
    let emulator = start(|config| config.turn.servers = vec![vec!["turn:a".into()]]).await;
    let body = json!({ "ChannelARN": emulator.channel_arn("demo").unwrap() });
    let path = "/v1/get-ice-server-config";
    let expiry = |answer: crate::support::Answer| -> (i64, u64) {
        let server = &answer.body["IceServerList"][0];
        let username = server["Username"].as_str().unwrap();
        let expiry = username.split(':').next().unwrap().parse().unwrap();
        (expiry, server["Ttl"].as_u64().unwrap())
    };
    let (fresh, ttl) = expiry(call(&emulator, path, body.clone()).await);
    assert_eq!(ttl, 300);
    let calls = Match { times: Some(1), ..Match::on(Point::Call) };
    emulator.faults().add(Fault::new(calls, Action::TurnAge { secs: 3600 })).unwrap();
    let (old, ttl) = expiry(call(&emulator, path, body.clone()).await);
    assert!((3590..=3600).contains(&(fresh - old)), "{fresh} {old}");
    assert_eq!(ttl, 300, "the client believes them fresh");
    emulator.set_turn_ttl_secs(30);
    assert_eq!(expiry(call(&emulator, path, body).await).1, 30);
}

#[tokio::test]
async fn credential_can_expire_during_use() {
    let emulator = start(|_| {}).await;
    assert_eq!(call(&emulator, "/listSignalingChannels", json!({})).await.status, 200);
    let body = json!({ "access_key_id": crate::support::KEY }).to_string();
    assert_eq!(plain(&emulator, "POST", "/admin/credentials/expire", &body).await.status, 200);
    let refused = call(&emulator, "/listSignalingChannels", json!({})).await;
    assert_eq!(refused.error().1, "ExpiredTokenException");
    assert!(!emulator.expire_credential("unknown"));
}

#[tokio::test]
async fn admin_api_sends_service_messages_and_injects() {
    let emulator = start(|_| {}).await;
    let mut viewer: Socket = open(&emulator, Some("v")).await;
    let send = r#"{"inject":{"frame":"garbage","how":"api_gateway"}}"#;
    assert_eq!(plain(&emulator, "POST", "/admin/channels/demo/send", send).await.body["sent"], 1);
    assert!(hear(&mut viewer).await["connectionId"].is_string());
    let order = |body: &str| {
        let body = body.to_owned();
        let emulator = &emulator;
        async move { plain(emulator, "POST", "/admin/channels/demo/do", &body).await }
    };
    assert_eq!(order(r#"{"then":"reconnect_ice_server"}"#).await.body["done"], 1);
    assert_eq!(hear(&mut viewer).await["messageType"], "RECONNECT_ICE_SERVER");
    let text = r#"{"then":{"inject":{"frame":"text","text":"hi"}},"client_id":"v"}"#;
    assert_eq!(order(text).await.body["done"], 1);
    assert_eq!(hear_message(&mut viewer).await.into_text().unwrap().as_str(), "hi");
    assert_eq!(order(r#"{"then":{"inject":{"frame":"huge","bytes":99999999}}}"#).await.status, 400);
    assert_eq!(order(r#"{"then":{"close_with":1012}}"#).await.body["done"], 1);
    assert_eq!(ended(&mut viewer).await, Some(1012));
    let menu = plain(&emulator, "GET", "/admin/menu", "").await;
    assert!(menu.body["menu"].as_array().unwrap().len() > 20);
    assert_eq!(plain(&emulator, "POST", "/admin/turn", r#"{"ttl_secs":29}"#).await.status, 400);
    assert_eq!(plain(&emulator, "POST", "/admin/turn", r#"{"ttl_secs":30}"#).await.status, 200);
}
