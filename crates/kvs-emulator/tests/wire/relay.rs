//! Sockets: which clients may connect, and which messages reach which client.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kvs_emulator::{Lifetimes, Role, ServiceMessage};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Signer, answer, call, candidate, candidate_to, connect, connect_url, ended, hear, offer, open,
    received, say, start, until, within,
};

#[tokio::test]
async fn offer_answer_and_candidates_are_relayed() {
    let emulator = start(|_| {}).await;
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v-1")).await;
    say(&mut viewer, offer("b2ZmZXI=")).await;
    let got = hear(&mut master).await;
    assert_eq!(
        got,
        json!({ "messageType": "SDP_OFFER", "senderClientId": "v-1", "messagePayload": "b2ZmZXI=" })
    );
    // The C SDK's capital letters, and Android's URL-safe alphabet.
    let capitals =
        json!({ "action": "SDP_ANSWER", "RecipientClientId": "v-1", "MessagePayload": "a-_w" });
    say(&mut master, capitals).await;
    let got = hear(&mut viewer).await;
    assert_eq!(got, json!({ "messageType": "SDP_ANSWER", "messagePayload": "a-_w" }));
    say(&mut viewer, candidate("Yw==")).await;
    assert_eq!(hear(&mut master).await["messageType"], "ICE_CANDIDATE");
    say(&mut master, candidate_to("v-1", "ZA==")).await;
    assert_eq!(hear(&mut viewer).await["messagePayload"], "ZA==");
    let clients = emulator.clients();
    assert_eq!((clients.len(), clients[0].role), (2, Role::Master));
    assert_eq!(clients[1].client_id.as_deref(), Some("v-1"));
    viewer.close(None).await.unwrap();
    until(|| emulator.clients().len() == 1).await;
}

#[tokio::test]
async fn late_master_gets_the_newest_offer() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, offer("first")).await;
    say(&mut viewer, offer("second")).await;
    say(&mut viewer, candidate("candidate")).await;
    assert!(received(&mut viewer).await.is_empty());
    let mut master = open(&emulator, None).await;
    assert_eq!(received(&mut master).await, ["second", "candidate"]);
    // An answer for an absent viewer waits as well.
    viewer.close(None).await.unwrap();
    until(|| emulator.clients().len() == 1).await;
    say(&mut master, answer("v", "late")).await;
    assert!(received(&mut master).await.is_empty());
    let mut viewer = open(&emulator, Some("v")).await;
    assert_eq!(received(&mut viewer).await, ["late"]);
}

#[tokio::test]
async fn refused_upgrade_has_a_reason() {
    let emulator = start(|config| config.quotas.connects_per_second = 1000).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let right = Signer::default();
    let wrong_secret = Signer { secret: "x".into(), ..right.clone() };
    let wrong_token = Signer { token: Some("x".into()), ..right.clone() };
    let late = Signer { skew_secs: -400, ..right.clone() };
    let early = Signer { skew_secs: 400, ..right.clone() };
    let long = Signer { expires: Duration::from_secs(604_801), ..right.clone() };
    let longest = Signer { expires: Duration::from_secs(604_800), ..right.clone() };
    assert!(connect(&emulator, &longest, &arn, Some("v")).await.is_ok());
    for (signer, kind) in [
        (&wrong_secret, "InvalidSignatureException"),
        (&wrong_token, "UnrecognizedClientException"),
        (&late, "InvalidSignatureException"),
        (&early, "InvalidSignatureException"),
        (&long, "InvalidSignatureException"),
    ] {
        let refused = connect(&emulator, signer, &arn, Some("v")).await.unwrap_err();
        let error = refused.error();
        assert_eq!((error.0, error.1), (403, kind), "{error:?}");
    }
    for id in ["AWS_x", "aws_y", "a@b", &"x".repeat(257), ""] {
        let refused = connect(&emulator, &right, &arn, Some(id)).await.unwrap_err();
        assert_eq!((refused.error().0, refused.error().1), (400, "InvalidArgumentException"));
    }
    let other = arn.replace("/demo/", "/none/");
    let refused = connect(&emulator, &right, &other, None).await.unwrap_err();
    assert_eq!((refused.error().0, refused.error().1), (404, "ResourceNotFoundException"));
    let unsigned = emulator.endpoint().replace("http", "ws") + "/?X-Amz-ClientId=v";
    assert_eq!(connect_url(&emulator, &unsigned).await.unwrap_err().status, 403);
}

#[tokio::test]
async fn viewer_and_connect_quotas_are_enforced() {
    let emulator = start(|config| config.quotas.connects_per_second = 1000).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let mut viewers = Vec::new();
    for n in 0..10 {
        viewers.push(open(&emulator, Some(&format!("v{n}"))).await);
    }
    let signer = Signer::default();
    let refused = connect(&emulator, &signer, &arn, Some("v10")).await.unwrap_err();
    let (status, kind, text) = refused.error();
    assert_eq!((status, kind), (400, "ClientLimitExceededException"));
    assert!(text.contains("viewers"), "{text}");
    // A second connection of the same id displaces the first and does not count as one more viewer.
    let mut again = open(&emulator, Some("v3")).await;
    assert_eq!(ended(&mut viewers[3]).await, Some(1001));
    assert!(received(&mut again).await.is_empty());

    let emulator = start(|config| config.quotas.connects_per_second = 1).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let _first = open(&emulator, Some("a")).await;
    let refused = connect(&emulator, &signer, &arn, Some("b")).await.unwrap_err();
    assert_eq!(refused.error().1, "ClientLimitExceededException");
    let _master = open(&emulator, None).await;
}

#[tokio::test]
async fn refused_message_gets_status_only_with_correlation_id() {
    let emulator = start(|config| config.quotas.candidates_per_second = 2).await;
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, candidate(&"x".repeat(10 * 1024 + 1))).await;
    for odd in ["", "{", "[]", "no json", r#"{"message":"x"}"#] {
        viewer.send(Message::text(odd)).await.unwrap();
    }
    viewer.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert!(received(&mut viewer).await.is_empty(), "without an id there is silence");
    let mut large = offer(&"x".repeat(10 * 1024 + 1));
    say(&mut viewer, large.clone()).await;
    let status = &hear(&mut viewer).await["statusResponse"];
    assert_eq!(status["correlationId"], "o-1");
    assert_eq!(status["errorType"], "InvalidArgumentException");
    assert_eq!((&status["statusCode"], &status["success"]), (&json!("400"), &json!(false)));
    large["messagePayload"] = "x".repeat(10 * 1024).into();
    say(&mut viewer, large).await;
    assert_eq!(hear(&mut master).await["messageType"], "SDP_OFFER");
    for _ in 0..2 {
        say(&mut viewer, candidate("Yw==")).await;
    }
    let mut third = candidate("Yw==");
    third["correlationId"] = "c-3".into();
    say(&mut viewer, third).await;
    let status = hear(&mut viewer).await;
    assert_eq!(status["statusResponse"]["errorType"], "ClientLimitExceededException");
    assert_eq!(received(&mut master).await.len(), 2);
    say(
        &mut master,
        json!({ "action": "SDP_ANSWER", "messagePayload": "x", "correlationId": "a" }),
    )
    .await;
    let status = hear(&mut master).await;
    assert_eq!(status["statusResponse"]["errorType"], "InvalidArgumentException");
}

#[tokio::test]
async fn storage_channel_does_not_relay_offers() {
    let emulator = start(|_| {}).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    let on = json!({ "Status": "ENABLED", "StreamARN": arn.replace(":channel/", ":stream/") });
    let body = json!({ "ChannelARN": arn, "MediaStorageConfiguration": on });
    assert_eq!(call(&emulator, "/updateMediaStorageConfiguration", body).await.status, 200);
    say(&mut viewer, offer("b2ZmZXI=")).await;
    assert!(received(&mut viewer).await.is_empty());
    assert!(received(&mut master).await.is_empty());
}

#[tokio::test]
async fn socket_is_closed_when_idle_old_or_channel_deleted() {
    let idle = |ms| {
        start(move |config| {
            config.lifetimes =
                Lifetimes { idle: Duration::from_millis(ms), ..Lifetimes::default() };
        })
    };
    let emulator = idle(50).await;
    assert_eq!(ended(&mut open(&emulator, Some("v")).await).await, Some(1001));
    assert!(emulator.clients().is_empty());

    let emulator = start(|config| {
        config.lifetimes.age = Duration::from_millis(20);
        config.lifetimes.go_away_grace = Duration::from_millis(20);
    })
    .await;
    let mut viewer = open(&emulator, Some("v")).await;
    assert_eq!(hear(&mut viewer).await, json!({ "messageType": "GO_AWAY" }));
    assert_eq!(ended(&mut viewer).await, Some(1001));

    let emulator = start(|_| {}).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let mut viewer = open(&emulator, Some("v")).await;
    call(&emulator, "/deleteSignalingChannel", json!({ "ChannelARN": arn })).await;
    assert_eq!(ended(&mut viewer).await, Some(1001));
}

#[tokio::test]
async fn service_messages_are_sent_on_request() {
    let emulator = start(|_| {}).await;
    let mut viewer = open(&emulator, Some("v")).await;
    let mut master = open(&emulator, None).await;
    let viewers = Some(Role::Viewer);
    assert_eq!(emulator.send("demo", viewers, None, ServiceMessage::ReconnectIceServer), 1);
    assert_eq!(hear(&mut viewer).await, json!({ "messageType": "RECONNECT_ICE_SERVER" }));
    assert_eq!(emulator.send("demo", None, Some("v"), ServiceMessage::Raw("{}".into())), 1);
    assert_eq!(hear(&mut viewer).await, json!({}));
    assert_eq!(emulator.disconnect("demo", viewers, None, Some(1001)), 1);
    assert_eq!(ended(&mut viewer).await, Some(1001));
    assert_eq!(emulator.disconnect("demo", None, None, None), 1);
    assert_eq!(ended(&mut master).await, None);
}

#[tokio::test]
async fn ping_is_answered_and_resets_the_idle_timer() {
    let quick = |config: &mut kvs_emulator::EmulatorConfig| {
        config.lifetimes.idle = Duration::from_secs(3);
    };
    let emulator = start(quick).await;
    let mut viewer = open(&emulator, Some("v")).await;
    let mut silent = open(&emulator, Some("w")).await;
    let pinging = async {
        for n in 0.. {
            viewer.send(Message::Ping(vec![n].into())).await.unwrap();
            let pong = within(viewer.next()).await.unwrap().unwrap();
            assert_eq!(pong, Message::Pong(vec![n].into()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = pinging => unreachable!("there are more numbers than pings"),
        code = ended(&mut silent) => assert_eq!(code, Some(1001)),
    }
    let left = emulator.clients();
    assert_eq!(left.len(), 1, "the one that pinged outlived the younger: {left:?}");

    let uncounted = start(|config| {
        quick(config);
        config.unknowns.pings_reset_idle = false;
    })
    .await;
    let mut viewer = open(&uncounted, Some("v")).await;
    let pinging = async {
        loop {
            if viewer.send(Message::Ping(Vec::new().into())).await.is_err() {
                break;
            }
            match viewer.next().await {
                Some(Ok(Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(pinging).await;
}

#[tokio::test]
async fn second_master_displaces_the_first() {
    let emulator = start(|_| {}).await;
    let mut first = open(&emulator, None).await;
    let mut second = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    assert_eq!(ended(&mut first).await, Some(1001));
    say(&mut viewer, offer("x")).await;
    assert_eq!(hear(&mut second).await["messageType"], "SDP_OFFER");

    let emulator = start(|config| config.unknowns.displaced_close_code = None).await;
    let mut first = open(&emulator, None).await;
    let mut second = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, offer("x")).await;
    assert_eq!(hear(&mut second).await["messageType"], "SDP_OFFER");
    assert!(received(&mut first).await.is_empty(), "open, and deaf");
}

#[tokio::test]
async fn endless_frame_closes_only_its_socket() {
    let emulator = start(|_| {}).await;
    let mut master = open(&emulator, None).await;
    let mut viewer = open(&emulator, Some("v")).await;
    // The emulator may have closed the socket before the whole message is written.
    let _ = viewer.send(Message::text("x".repeat(4 * 1024 * 1024))).await;
    until(|| emulator.clients().len() == 1).await;
    assert!(received(&mut master).await.is_empty());
}

#[tokio::test]
async fn master_offer_is_relayed_unless_configured() {
    let to_viewer =
        json!({ "action": "SDP_OFFER", "recipientClientId": "v", "messagePayload": "m" });
    let back = json!({ "action": "SDP_ANSWER", "messagePayload": "a" });
    let emulator = start(|_| {}).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut master, to_viewer.clone()).await;
    let got = hear(&mut viewer).await;
    assert_eq!(got, json!({ "messageType": "SDP_OFFER", "messagePayload": "m" }));
    say(&mut viewer, back).await;
    assert_eq!(hear(&mut master).await["senderClientId"], "v");

    let emulator = start(|config| config.unknowns.master_offers_relayed = false).await;
    let (mut master, mut viewer) = (open(&emulator, None).await, open(&emulator, Some("v")).await);
    say(&mut master, to_viewer).await;
    assert!(received(&mut master).await.is_empty());
    assert!(received(&mut viewer).await.is_empty());
}

#[tokio::test]
async fn only_offers_are_kept_when_configured() {
    let emulator = start(|config| {
        config.unknowns.answers_kept = false;
        config.unknowns.candidates_kept = false;
    })
    .await;
    let mut viewer = open(&emulator, Some("v")).await;
    say(&mut viewer, offer("o")).await;
    say(&mut viewer, candidate("c")).await;
    assert!(received(&mut viewer).await.is_empty());
    let mut master = open(&emulator, None).await;
    assert_eq!(received(&mut master).await, ["o"]);
    say(&mut master, answer("later", "a")).await;
    assert!(received(&mut master).await.is_empty());
    let mut later = open(&emulator, Some("later")).await;
    assert!(received(&mut later).await.is_empty());
}
