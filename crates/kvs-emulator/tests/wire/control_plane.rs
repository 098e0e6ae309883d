//! REST calls and the errors that refuse them.

use std::time::Duration;

use kvs_emulator::{Action, Fault, Match, Point, Quotas, TurnAuth, TurnConfig};
use serde_json::{Value, json};

use crate::support::{Signer, call, call_as, connect_url, plain, send, signed, start};

const INVALID: (u16, &str) = (400, "InvalidArgumentException");

#[tokio::test]
async fn channel_life_cycle_over_the_api() {
    let emulator = start(|_| {}).await;
    let created = call(&emulator, "/createSignalingChannel", json!({ "ChannelName": "a" })).await;
    assert_eq!(created.status, 200, "{created:?}");
    let arn = created.body["ChannelARN"].clone();
    let described =
        call(&emulator, "/describeSignalingChannel", json!({ "ChannelName": "a" })).await;
    let info = &described.body["ChannelInfo"];
    assert_eq!(info["ChannelARN"], arn);
    assert_eq!(info["ChannelStatus"], "ACTIVE");
    assert_eq!(info["SingleMasterConfiguration"]["MessageTtlSeconds"], 60);
    let condition = json!({ "ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "a" });
    let listed =
        call(&emulator, "/listSignalingChannels", json!({ "ChannelNameCondition": condition }))
            .await;
    assert_eq!(listed.body["ChannelInfoList"].as_array().unwrap().len(), 1);
    let page = call(&emulator, "/listSignalingChannels", json!({ "MaxResults": 1 })).await;
    let next = json!({ "MaxResults": 1, "NextToken": page.body["NextToken"] });
    let page = call(&emulator, "/listSignalingChannels", next).await;
    assert_eq!(page.body["ChannelInfoList"][0]["ChannelName"], "demo");
    assert_eq!(page.body["NextToken"], Value::Null);
    let wrong = json!({ "ChannelARN": arn, "CurrentVersion": "nope" });
    let refused = call(&emulator, "/deleteSignalingChannel", wrong).await;
    assert_eq!(refused.error().1, "VersionMismatchException");
    let right = json!({ "ChannelARN": arn, "CurrentVersion": info["Version"] });
    assert_eq!(call(&emulator, "/deleteSignalingChannel", right).await.status, 200);
    let gone = call(&emulator, "/describeSignalingChannel", json!({ "ChannelARN": arn })).await;
    assert_eq!((gone.error().0, gone.error().1), (404, "ResourceNotFoundException"));
    assert!(gone.body["Message"].is_string());
}

#[tokio::test]
async fn endpoints_point_to_the_emulator_port() {
    let emulator = start(|_| {}).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let ask = |protocols: Value| {
        let settings = json!({ "Protocols": protocols, "Role": "VIEWER" });
        json!({ "ChannelARN": arn, "SingleMasterChannelEndpointConfiguration": settings })
    };
    let path = "/getSignalingChannelEndpoint";
    let answer = call(&emulator, path, ask(json!(["WSS", "HTTPS"]))).await;
    let list = answer.body["ResourceEndpointList"].as_array().unwrap();
    assert_eq!(list[0]["ResourceEndpoint"], format!("ws://{}", emulator.addr()));
    assert_eq!(list[1]["ResourceEndpoint"], emulator.endpoint());
    for odd in [json!([]), json!(["FTP"]), json!(["WEBRTC"])] {
        let refused = call(&emulator, path, ask(odd)).await;
        assert_eq!(refused.error().1, "InvalidArgumentException");
    }
    let refused = call(&emulator, path, ask(json!("WSS"))).await;
    assert_eq!(refused.error().1, "SerializationException");
}

#[tokio::test]
async fn media_storage_configuration_is_stored_and_described() {
    let emulator = start(|_| {}).await;
    let arn = emulator.channel_arn("demo").unwrap();
    let describe = "/describeMediaStorageConfiguration";
    let off = call(&emulator, describe, json!({ "ChannelName": "demo" })).await;
    assert_eq!(off.body["MediaStorageConfiguration"], json!({ "Status": "DISABLED" }));
    let stream = arn.replace(":channel/", ":stream/");
    let on = json!({ "Status": "ENABLED", "StreamARN": stream });
    let change = json!({ "ChannelARN": arn, "MediaStorageConfiguration": on });
    assert_eq!(call(&emulator, "/updateMediaStorageConfiguration", change).await.status, 200);
    let now = call(&emulator, describe, json!({ "ChannelARN": arn })).await;
    assert_eq!(now.body["MediaStorageConfiguration"], on);
}

#[tokio::test]
async fn ice_server_list_is_as_configured() {
    let emulator = start(|config| {
        config.turn = TurnConfig {
            servers: vec![vec!["turn:127.0.0.1:3478?transport=udp".into()]],
            auth: TurnAuth::SharedSecret("turn-secret".into()),
            ttl_secs: 300,
        };
    })
    .await;
    let arn = emulator.channel_arn("demo").unwrap();
    let path = "/v1/get-ice-server-config";
    let body = json!({ "ChannelARN": arn, "ClientId": "v", "Service": "TURN" });
    let answer = call(&emulator, path, body).await;
    let entry = &answer.body["IceServerList"][0];
    assert_eq!(entry["Ttl"], 300, "{answer:?}");
    assert!(entry["Username"].as_str().unwrap().contains(':'));
    let empty = start(|_| {}).await;
    let arn = empty.channel_arn("demo").unwrap();
    let answer = call(&empty, path, json!({ "ChannelARN": arn })).await;
    assert_eq!(answer.body, json!({ "IceServerList": [] }));
}

#[tokio::test]
async fn invalid_argument_is_named() {
    let emulator = start(|_| {}).await;
    for (path, body) in [
        ("/createSignalingChannel", json!({})),
        ("/createSignalingChannel", json!({ "ChannelName": "a b" })),
        ("/createSignalingChannel", json!({ "ChannelName": "x".repeat(257) })),
        ("/createSignalingChannel", json!({ "ChannelName": "x", "ChannelType": "FULL_MESH" })),
        (
            "/createSignalingChannel",
            json!({ "ChannelName": "x", "SingleMasterConfiguration": { "MessageTtlSeconds": 4 } }),
        ),
        ("/describeSignalingChannel", json!({})),
        ("/describeSignalingChannel", json!({ "ChannelARN": "arn:x" })),
        ("/listSignalingChannels", json!({ "MaxResults": 0 })),
        ("/listSignalingChannels", json!({ "NextToken": "%" })),
        ("/v1/get-ice-server-config", json!({})),
    ] {
        let refused = call(&emulator, path, body.clone()).await;
        let (status, kind, text) = refused.error();
        assert_eq!((status, kind), INVALID, "{path} {body}");
        assert!(!text.is_empty());
    }
    let taken = call(&emulator, "/createSignalingChannel", json!({ "ChannelName": "demo" })).await;
    assert_eq!(taken.error().1, "ResourceInUseException");
    assert_eq!(call(&emulator, "/createStream", json!({})).await.status, 404);
}

/// docs/kvs-protocol.md 1.3: status and name of "not allowed", and the member of the text, differ
/// by API.
#[tokio::test]
async fn error_has_the_form_of_its_api() {
    let emulator = start(|_| {}).await;
    let foreign = emulator.channel_arn("demo").unwrap().replace("123456789012", "210987654321");
    let storage = json!({ "channelArn": foreign, "clientId": "v" });
    for (path, body, expected, member) in [
        (
            "/describeSignalingChannel",
            json!({ "ChannelARN": foreign }),
            (401, "AccessDeniedException"),
            "Message",
        ),
        (
            "/v1/get-ice-server-config",
            json!({ "ChannelARN": foreign }),
            (401, "NotAuthorizedException"),
            "Message",
        ),
        ("/joinStorageSession", storage.clone(), (403, "AccessDeniedException"), "message"),
        ("/joinStorageSessionAsViewer", storage, (403, "AccessDeniedException"), "message"),
        ("/listSignalingChannels", json!({ "MaxResults": 0 }), INVALID, "Message"),
        ("/v1/get-ice-server-config", json!({}), INVALID, "Message"),
        ("/joinStorageSession", json!({}), INVALID, "message"),
    ] {
        let refused = call(&emulator, path, body).await;
        let (status, kind, _) = refused.error();
        assert_eq!((status, kind), expected, "{path}");
        assert!(refused.body[member].is_string(), "{path}: {:?}", refused.body);
    }
    let limit = Fault::new(Match::on(Point::Call), Action::Throttle);
    emulator.faults().add(limit).unwrap();
    let throttled = call(&emulator, "/joinStorageSession", json!({})).await;
    assert!(throttled.body["message"].is_string(), "by fault: {throttled:?}");
}

#[tokio::test]
async fn request_with_wrong_signature_is_refused() {
    let emulator = start(|_| {}).await;
    let right = Signer::default();
    let body = json!({ "ChannelName": "demo" });
    let path = "/describeSignalingChannel";
    assert_eq!(call_as(&right, &emulator, path, body.clone()).await.status, 200);
    let wrong = [
        (
            Signer { secret: "x".into(), ..right.clone() },
            "InvalidSignatureException",
            "does not match",
        ),
        (Signer { key: "x".into(), ..right.clone() }, "UnrecognizedClientException", "token"),
        (Signer { token: None, ..right.clone() }, "UnrecognizedClientException", "token"),
        (
            Signer { token: Some("x".into()), ..right.clone() },
            "UnrecognizedClientException",
            "token",
        ),
        (Signer { region: "us-east-1", ..right.clone() }, "InvalidSignatureException", "region"),
        (Signer { service: "s3", ..right.clone() }, "InvalidSignatureException", "service"),
        (
            Signer { skew_secs: -600, ..right.clone() },
            "InvalidSignatureException",
            "Signature expired",
        ),
        (
            Signer { skew_secs: 600, ..right.clone() },
            "InvalidSignatureException",
            "Signature not yet current",
        ),
    ];
    for (signer, kind, text) in wrong {
        let refused = call_as(&signer, &emulator, path, body.clone()).await;
        let error = refused.error();
        assert_eq!((error.0, error.1), (403, kind), "{error:?}");
        assert!(error.2.contains(text), "{error:?}");
        assert!(!error.2.contains(&signer.secret) || signer.secret == "x");
    }
    let unsigned = plain(&emulator, "POST", path, "{}").await;
    assert_eq!(unsigned.error().1, "MissingAuthenticationTokenException");
    assert_eq!(emulator.calls()["DescribeSignalingChannel"].refused, 9);
    emulator.set_clock_offset_secs(600);
    let late = call(&emulator, path, body.clone()).await;
    assert!(late.error().2.starts_with("Signature expired: "), "{late:?}");
    let shifted = Signer { skew_secs: 600, ..right };
    assert_eq!(call_as(&shifted, &emulator, path, body).await.status, 200);
}

#[tokio::test]
async fn quotas_throttle_and_can_be_disabled() {
    let ask = json!({ "ChannelName": "demo" });
    let path = "/describeSignalingChannel";
    let emulator = start(|_| {}).await;
    let mut throttled = 0;
    for _ in 0..20 {
        let answer = call(&emulator, path, ask.clone()).await;
        if answer.status != 200 {
            assert_eq!(answer.error().1, "ClientLimitExceededException");
            throttled += 1;
        }
    }
    assert!(throttled > 0);
    let off = |config: &mut kvs_emulator::EmulatorConfig| {
        config.quotas = Quotas { enabled: false, ..Quotas::default() };
    };
    let emulator = start(off).await;
    for _ in 0..20 {
        assert_eq!(call(&emulator, path, ask.clone()).await.status, 200);
    }
}

/// The C SDK signs for the lifetime of its credentials, static ones for a week.
#[tokio::test]
async fn presigned_url_may_be_valid_for_a_week_unless_configured() {
    let week = 604_800;
    let refusal = |signer: Signer, max: u32| async move {
        let emulator = start(|config| config.unknowns.presigned_url_max_secs = max).await;
        let arn = emulator.channel_arn("demo").unwrap();
        let url = signer.socket_url(&emulator, &arn, Some("v"));
        connect_url(&emulator, &url).await.err()
    };
    let signed_for = |secs| Signer { expires: Duration::from_secs(secs), ..Signer::default() };
    assert!(refusal(signed_for(1), 604_800).await.is_none());
    assert!(refusal(signed_for(week), 604_800).await.is_none());
    assert!(refusal(signed_for(300), 300).await.is_none());
    let late = Signer { skew_secs: -3600, ..signed_for(week) };
    assert!(refusal(late, 604_800).await.is_none(), "signed an hour ago, for a week");
    assert!(refusal(signed_for(301), 300).await.is_some());
    let old = Signer { skew_secs: -3600, ..signed_for(3599) };
    assert!(refusal(old, 604_800).await.is_some(), "its time is over");
}

/// Without this check any page could sign in with the public development key.
#[tokio::test]
async fn private_network_access_needs_an_allowed_origin() {
    const LEAVE: &str = "access-control-allow-private-network";
    let allowed = "https://console.example.com";
    let emulator = start(|config| config.allowed_origins = vec![allowed.to_owned()]).await;
    for (origin, leave) in
        [(Some(allowed), "true"), (Some("https://evil.example.com"), ""), (None, "")]
    {
        let mut request = http::Request::options(format!("{}/", emulator.endpoint()))
            .header("host", emulator.addr().to_string())
            .header("access-control-request-private-network", "true");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = send(&emulator, request.body(Vec::new()).unwrap()).await.unwrap();
        assert_eq!(answer.header(LEAVE), leave, "{origin:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{origin:?}");
    }
}

#[tokio::test]
async fn health_and_cors_requests_are_answered() {
    let emulator = start(|_| {}).await;
    assert_eq!(plain(&emulator, "GET", "/health", "").await.status, 200);
    let preflight = plain(&emulator, "OPTIONS", "/describeSignalingChannel", "").await;
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    let request = http::Request::get(format!("{}/admin/faults", emulator.endpoint()))
        .header("host", emulator.addr().to_string())
        .header("origin", "https://example.com")
        .body(Vec::new())
        .unwrap();
    assert_eq!(send(&emulator, request).await.unwrap().status, 403);
    let request = http::Request::get(format!("{}/admin/faults", emulator.endpoint()))
        .header("host", "rebound.example.com")
        .body(Vec::new())
        .unwrap();
    assert_eq!(send(&emulator, request).await.unwrap().status, 403);
    let large = "x".repeat(300 * 1024);
    assert_eq!(plain(&emulator, "POST", "/admin/faults", &large).await.status, 413);
}

#[tokio::test]
async fn signed_request_with_any_change_is_refused() {
    let emulator = start(|_| {}).await;
    let path = "/describeSignalingChannel";
    let request = || signed(&Signer::default(), &emulator, path, json!({ "ChannelName": "demo" }));
    assert_eq!(send(&emulator, request()).await.unwrap().status, 200);
    let mut body = request();
    *body.body_mut() = json!({ "ChannelName": "other" }).to_string().into_bytes();
    let mut target = request();
    *target.uri_mut() = format!("{}/listSignalingChannels", emulator.endpoint()).parse().unwrap();
    let mut query = request();
    *query.uri_mut() = format!("{}{path}?x=1", emulator.endpoint()).parse().unwrap();
    let mut hash = request();
    hash.headers_mut().insert("x-amz-content-sha256", "0".repeat(64).parse().unwrap());
    let mut host = request();
    host.headers_mut().insert("host", "localhost".parse().unwrap());
    for (what, changed) in
        [("body", body), ("path", target), ("query", query), ("hash", hash), ("host", host)]
    {
        let refused = send(&emulator, changed).await.unwrap();
        assert_eq!(
            (refused.error().0, refused.error().1),
            (403, "InvalidSignatureException"),
            "{what}"
        );
    }
}
