//! Services, gateways and proxies that repeat a request: no form of a secret gets into a failure
//! that is reported to a session (contract, N26 and scenario 55).

use kvs_emulator::{
    Action, Credential, DEFAULT_SECRET_ACCESS_KEY, Emulator, EmulatorConfig, Fault, Match, Point,
    ServiceMessage, TurnAuth, TurnConfig,
};
use negotiation_core::{ConnectionId, Done, Failure, FailureCode, Message, SignalingCommand};
use negotiation_core::{SignalingEvent, Ticket};
use signaling_aws::{Limits, SignalingConfigBuilder};
use std::time::Duration;
use viewer_session::facts::read_description;

use crate::support::{Port, emulator, reach};

const SECRET: &str = "keycanary/A+b0123456789";
const TOKEN: &str = "tokencanary/C+d=%2B0123456789==";
const TURN: &str = "turncanary/E+f0123456789";
const ICE: &str = "icecanary0123456789abcdef";

async fn guarded() -> Emulator {
    let servers = vec![vec!["turn:127.0.0.1:9".into()]];
    let auth = TurnAuth::Fixed { username: "usercanary".into(), password: TURN.into() };
    emulator(EmulatorConfig {
        credentials: vec![Credential::new("AKID", SECRET, Some(TOKEN.into()))],
        turn: TurnConfig { servers, auth, ..TurnConfig::default() },
        ..EmulatorConfig::default()
    })
    .await
}

fn with_token(emulator: &Emulator, id: &str) -> SignalingConfigBuilder {
    reach(emulator, id).credentials("AKID", SECRET, Some(TOKEN.into()))
}

fn percent(text: &str) -> String {
    let escaped = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    };
    text.bytes().map(escaped).collect()
}

/// The forms in which a service may repeat a secret.
fn echoes(secret: &str) -> Vec<String> {
    vec![
        format!("it was {secret} that you sent"),
        format!("it was {} that you sent", percent(secret)),
        format!("it was {} that you sent", secret.replace('/', "\\/")),
        format!("x-amz-security-token:{secret}"),
        format!("{}{secret}", "x".repeat(215)),
    ]
}

fn keeps(failure: &Failure) {
    let printed = format!("{failure} {failure:?}");
    assert!(!printed.contains("canary"), "{printed}");
}

fn refusing(emulator: &Emulator, matches: Match, message: String) -> u64 {
    let refuse = Action::Refuse { status: 403, error: "AccessDeniedException".into(), message };
    emulator.faults().add(Fault::new(matches, refuse)).expect("a fault")
}

// Shows: N26, 55.
#[tokio::test]
async fn secret_in_refusal_text_is_redacted() {
    let emulator = guarded().await;
    let call = |name: &str| Match { call: Some(name.to_owned()), ..Match::on(Point::Call) };
    let cases = [
        ("DescribeSignalingChannel", call("DescribeSignalingChannel")),
        ("GetSignalingChannelEndpoint", call("GetSignalingChannelEndpoint")),
        ("the upgrade", Match::on(Point::Upgrade)),
    ];
    for (what, matches) in cases {
        for secret in [SECRET, TOKEN] {
            for text in echoes(secret) {
                let fault = refusing(&emulator, matches.clone(), text);
                let limits = Limits { call: Duration::from_secs(20), ..Limits::default() };
                let config = with_token(&emulator, "echo").limits(limits);
                let failure = Port::new(config).open(1).await.expect_err("refused");
                emulator.faults().remove(fault);
                assert_eq!(failure.code, FailureCode::AccessDenied, "{what}: {failure}");
                keeps(&failure);
            }
        }
    }
    emulator.shutdown().await;
}

// Shows: N26.
#[tokio::test]
async fn password_in_status_response_is_redacted() {
    let emulator = guarded().await;
    let mut port = Port::new(with_token(&emulator, "status"));
    port.connect(1, None).await;
    assert_eq!(port.ice_servers(1).await.len(), 1);
    let sdp = format!(
        "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 102\r\n\
         c=IN IP4 0.0.0.0\r\na=mid:v0\r\na=ice-ufrag:uf\r\na=ice-pwd:{ICE}\r\na=recvonly\r\n"
    );
    let message = Message::Offer(read_description(&sdp).expect("valid"));
    let sent = port.run(SignalingCommand::Send { link: ConnectionId(1), message }).await;
    assert_eq!(sent, Ok(Done::Ok));
    for secret in [SECRET, TOKEN, TURN, ICE, "usercanary"] {
        for text in echoes(secret) {
            let text = text.replace('\\', "\\\\");
            let ticket = Ticket { attempt: 1, seq: 3 };
            let frame = format!(
                r#"{{"messageType":"STATUS_RESPONSE","statusResponse":{{"correlationId":"{ticket}",
                "statusCode":"400","errorType":"{secret}","description":"{text}"}}}}"#
            );
            emulator.send("door", None, Some("status"), ServiceMessage::Raw(frame));
            let SignalingEvent::Status { failure, .. } = port.event().await else {
                panic!("a status");
            };
            keeps(&failure);
        }
    }
    emulator.shutdown().await;
}

#[tokio::test]
async fn wrong_token_a_wrong_key_and_a_wrong_region_are_distinguished() {
    let emulator = guarded().await;
    let refused = async |config: SignalingConfigBuilder| {
        let failure = Port::new(config).open(1).await.expect_err("refused");
        assert_eq!(failure.code, FailureCode::AccessDenied, "{failure}");
        failure.detail
    };
    let stale = with_token(&emulator, "a").credentials("AKID", SECRET, Some("stale-one".into()));
    let printed = refused(stale).await;
    assert!(printed.starts_with("the session token is not valid"), "{printed}");
    let key = with_token(&emulator, "a").credentials("AKIDNONE", SECRET, None);
    let printed = refused(key).await;
    assert!(printed.starts_with("the access key id does not exist"), "{printed}");
    let token = Some(TOKEN.to_owned());
    let secret = with_token(&emulator, "a").credentials("AKID", DEFAULT_SECRET_ACCESS_KEY, token);
    let printed = refused(secret).await;
    assert!(printed.starts_with("the secret access key is not the one"), "{printed}");
    let printed = refused(with_token(&emulator, "a").region("eu-west-1")).await;
    assert!(printed.contains("check the region"), "{printed}");
    emulator.shutdown().await;
}
