//! No type that holds a secret shows it in any output: not in a log, an error text or a panic
//! message.

use std::error::Error;
use std::fmt::Debug;

use kvs_emulator::{Credential, Emulator, EmulatorConfig, TurnAuth, TurnConfig};
use negotiation_core::{
    Candidate, Completion, ConnectionId, Description, Done, IceServer, Input, Message, Output,
    PeerCommand, PeerId, Sdp, SdpKind, Secret, Sender, SignalingCommand, SignalingEvent, Ticket,
};
use peer_webrtc::PeerConfig;
use signaling_aws::presign::Connect;
use signaling_aws::{AwsSignaling, SignalingConfig};
use viewer_session::facts::read_description;

use crate::alone;

const CANARY: &str = "canary7f3a";

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:uf\r\n\
    a=ice-pwd:canary7f3apassword00000\r\n";

fn kept(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains(CANARY), "{what} is shown in {text}");
        assert!(!text.is_empty());
    }
}

/// Checks the error and its sources, because a chain of causes is printed whole.
fn kept_by_error(what: &str, error: &(dyn Error + 'static)) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        assert!(!error.to_string().contains(CANARY), "{what}: {error}");
        kept(what, &error);
        cause = error.source();
    }
}

fn in_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

fn signaling() -> signaling_aws::SignalingConfigBuilder {
    SignalingConfig::builder("door").region("us-west-2").credentials(
        "AKID",
        CANARY,
        Some(CANARY.to_owned()),
    )
}

#[test]
fn types_with_credentials_print_none() {
    let _alone = alone();
    kept("the builder", &signaling());
    let config = signaling().build().expect("valid");
    kept("the configuration", &config);
    in_a_runtime(async { kept("a port", &AwsSignaling::new(config)) });
    let credentials = aws_credential_types::Credentials::new(
        "AKID",
        CANARY,
        Some(CANARY.to_owned()),
        None,
        "test",
    );
    let connect = Connect {
        endpoint: "wss://h.example",
        channel_arn: "arn:aws:kinesisvideo:us-west-2:123456789012:channel/door/1",
        client_id: Some("viewer"),
        region: "us-west-2",
        credentials: &credentials,
        time: std::time::SystemTime::UNIX_EPOCH,
    };
    kept("what is signed", &connect);
    let url = connect.sign().expect("signed");
    assert!(url.expose().contains(CANARY), "the token is in it");
    kept("a signed URL", &url);
    for endpoint in [
        format!("ws://{CANARY}.example"),
        format!("wss://h?{CANARY}"),
        format!("wss://user:{CANARY}@h:99999999"),
        CANARY.to_owned(),
    ] {
        let refused = Connect { endpoint: &endpoint, ..connect }.sign().expect_err("refused");
        kept_by_error("a refused endpoint", &refused);
    }
    // The URL contains a user name and a password.
    let refused = signaling().endpoint_url(format!("https://user:{CANARY}@h")).build();
    if let Err(refused) = refused {
        kept_by_error("a refused configuration", &refused);
    }
}

#[test]
fn inputs_and_outputs_of_a_session_print_no_secret() {
    let _alone = alone();
    let server = IceServer {
        uris: vec!["turn:192.0.2.1:3478".into()],
        username: Some(Secret::new(CANARY)),
        password: Some(Secret::new(CANARY)),
    };
    let description: Description = read_description(SDP).expect("SDP");
    let ticket = Ticket { attempt: 1, seq: 1 };
    let (link, peer) = (ConnectionId(1), PeerId(1));
    kept("a secret", &Secret::new(CANARY));
    kept("a text", &Sdp::new(SDP));
    for outcome in [Done::IceServers(vec![server.clone()]), Done::Description(description.clone())]
    {
        let completion = Completion { ticket, outcome: Ok(outcome) };
        kept("a completion", &Input::Completed(completion));
    }
    let answer = SignalingEvent::Answer { sender: Sender::Master, body: Ok(description.clone()) };
    kept("an answer", &Input::Signaling(link, answer));
    let offer = Message::Offer(description.clone());
    kept("an offer", &Output::Signaling(ticket, SignalingCommand::Send { link, message: offer }));
    for command in [
        PeerCommand::SetIceServers { peer, servers: vec![server] },
        PeerCommand::SetLocal { peer, kind: SdpKind::Offer, description: description.clone() },
        PeerCommand::SetRemote { peer, kind: SdpKind::Answer, description },
    ] {
        kept("a command", &Output::Peer(ticket, command));
    }
    // A real candidate is no secret of this side, but a text that is none must not be repeated.
    let candidate = Candidate { text: CANARY.into(), mid: None, mline_index: None, ufrag: None };
    kept("a candidate", &candidate);
    kept("a configuration of peers", &PeerConfig::new(true));
}

#[test]
fn emulator_types_print_no_secret() {
    let _alone = alone();
    let auths = [
        TurnAuth::Fixed { username: "user".to_owned(), password: CANARY.to_owned() },
        TurnAuth::SharedSecret(CANARY.to_owned()),
    ];
    for auth in auths {
        kept("a TURN login", &auth);
        let turn = TurnConfig { auth, ..TurnConfig::default() };
        let credential = Credential::new("AKID", CANARY, Some(CANARY.to_owned()));
        kept("a credential", &credential);
        let config =
            EmulatorConfig { credentials: vec![credential], turn, ..EmulatorConfig::default() };
        kept("a configuration", &config);
        in_a_runtime(async {
            let emulator = Emulator::start(config).await.expect("started");
            kept("an emulator", &emulator);
            emulator.shutdown().await;
        });
    }
}

#[test]
#[should_panic(expected = "is shown")]
fn search_finds_printed_secret() {
    let _alone = alone();
    kept("a text", &CANARY);
}
