//! Both ends of a channel through the emulator, over real sockets on loopback.

use std::time::Duration;

use futures_util::FutureExt as _;
use kvs_emulator::{
    Action as Do, Credential, DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, Emulator,
    EmulatorConfig, Fault, Match, MessageType, Point, TurnConfig,
};
use negotiation_core::{
    Candidate, Completion, ConnectionId, Done, Failure, FailureCode, Message, Sender,
    SignalingCommand, SignalingEvent, Ticket,
};
use signaling_aws::{
    AwsSignaling, MasterConnection, MasterEvent, SignalingConfig, SignalingConfigBuilder, Stun,
};
use tokio::time::timeout;
use viewer_session::facts::read_description;
use viewer_session::{SignalingInput, SignalingPort as _};

const SDP: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:v0\r\na=ice-ufrag:uf\r\n\
    a=ice-pwd:pw\r\na=recvonly\r\n";

const LINK: ConnectionId = ConnectionId(1);

async fn emulator() -> Emulator {
    start(EmulatorConfig::default()).await
}

async fn start(config: EmulatorConfig) -> Emulator {
    let config = EmulatorConfig { channels: vec!["door".to_owned()], ..config };
    Emulator::start(config).await.expect("started")
}

fn reach(emulator: &Emulator) -> SignalingConfigBuilder {
    SignalingConfig::builder("door")
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None)
        .client_id("viewer")
}

fn viewer(config: SignalingConfigBuilder) -> AwsSignaling {
    AwsSignaling::new(config.build().expect("valid"))
}

fn ticket(seq: u32) -> Ticket {
    Ticket { attempt: 1, seq }
}

async fn next(port: &mut AwsSignaling) -> SignalingInput {
    timeout(Duration::from_secs(20), port.next()).await.expect("the port has something to say")
}

async fn outcome(port: &mut AwsSignaling, expected: Ticket) -> Result<Done, Failure> {
    loop {
        if let SignalingInput::Completed(Completion { ticket, outcome }) = next(port).await {
            assert_eq!(ticket, expected);
            return outcome;
        }
    }
}

async fn event(port: &mut AwsSignaling) -> SignalingEvent {
    loop {
        if let SignalingInput::Event(LINK, event) = next(port).await {
            return event;
        }
    }
}

async fn connect(port: &mut AwsSignaling) -> Result<Done, Failure> {
    port.submit(ticket(1), SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None });
    outcome(port, ticket(1)).await
}

async fn refused(config: SignalingConfigBuilder) -> Failure {
    connect(&mut viewer(config)).await.expect_err("refused")
}

async fn disconnect(port: &mut AwsSignaling) {
    port.submit(ticket(99), SignalingCommand::Disconnect { link: LINK });
    assert_eq!(outcome(port, ticket(99)).await, Ok(Done::Ok));
}

fn offer() -> SignalingCommand {
    let message = Message::Offer(read_description(SDP).expect("valid"));
    SignalingCommand::Send { link: LINK, message }
}

async fn master(config: SignalingConfigBuilder) -> MasterConnection {
    MasterConnection::connect(config.build().expect("valid")).await.expect("connected")
}

async fn received(master: &mut MasterConnection) -> MasterEvent {
    timeout(Duration::from_secs(20), master.recv()).await.expect("the master receives something")
}

#[tokio::test]
async fn offer_is_answered_and_candidates_go_both_ways() {
    let emulator = emulator().await;
    let mut master = master(reach(&emulator)).await;
    let mut port = viewer(reach(&emulator));
    let connected = connect(&mut port).await;
    let Ok(Done::Connected(id)) = connected else { panic!("{connected:?}") };
    assert_eq!(id.as_str(), "viewer");

    port.submit(ticket(2), offer());
    assert_eq!(outcome(&mut port, ticket(2)).await, Ok(Done::Ok));
    let MasterEvent::Offer { from, body: Ok(description) } = received(&mut master).await else {
        panic!("an offer");
    };
    assert_eq!((from.as_str(), description.sdp.as_str()), ("viewer", SDP));

    let candidate = Candidate {
        text: "candidate:1 1 udp 1 127.0.0.1 9 typ host".into(),
        mid: None,
        mline_index: Some(0),
        ufrag: None,
    };
    let message = Message::Candidate(candidate.clone());
    port.submit(ticket(3), SignalingCommand::Send { link: LINK, message });
    assert_eq!(outcome(&mut port, ticket(3)).await, Ok(Done::Ok));
    let MasterEvent::Candidate { body: Ok(got), .. } = received(&mut master).await else {
        panic!("a candidate");
    };
    assert_eq!((got.mid.as_deref(), got.mline_index), (Some("v0"), Some(0)));

    let answers = master.sender();
    answers.send_answer("viewer", SDP).await.expect("sent");
    answers.send_candidate("viewer", &candidate).await.expect("sent");
    assert!(matches!(
        event(&mut port).await,
        SignalingEvent::Answer { sender: Sender::Master, body: Ok(d) } if d.sdp.as_str() == SDP
    ));
    assert!(matches!(
        event(&mut port).await,
        SignalingEvent::Candidate { sender: Sender::Master, body: Ok(_) }
    ));

    disconnect(&mut port).await;
    master.close().await;
    emulator.shutdown().await;
}

#[tokio::test]
async fn ice_servers_arrive_during_socket_open_stun_first() {
    let turn = TurnConfig { servers: vec![vec!["turn:127.0.0.1:9".into()]], ..Default::default() };
    let emulator = start(EmulatorConfig { turn, ..Default::default() }).await;
    let stun = Stun::Custom(vec!["stun:127.0.0.1:9".into()]);
    let mut port = viewer(reach(&emulator).stun(stun));
    // The socket hangs; the ICE servers do not wait for it.
    let hang = Fault { matches: Match::on(Point::Upgrade), action: Do::Hang { ms: None } };
    emulator.faults().add(hang).expect("a fault");
    port.submit(ticket(1), SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None });
    port.submit(ticket(2), SignalingCommand::FetchIceServers { link: LINK });
    let Ok(Done::IceServers(servers)) = outcome(&mut port, ticket(2)).await else {
        panic!("servers");
    };
    assert_eq!(servers[0].uris, ["stun:127.0.0.1:9"]);
    assert_eq!(servers[1].uris, ["turn:127.0.0.1:9"]);
    assert!(servers[1].password.is_some());

    // A close during the opening: each command has one completion, the connect's first.
    port.submit(ticket(3), SignalingCommand::Disconnect { link: LINK });
    assert_eq!(outcome(&mut port, ticket(1)).await, Err(Failure::cancelled()));
    assert_eq!(outcome(&mut port, ticket(3)).await, Ok(Done::Ok));
}

// Shows: 42.
#[tokio::test]
async fn stun_is_used_when_turn_request_fails() {
    let emulator = emulator().await;
    let matches = Match { call: Some("GetIceServerConfig".into()), ..Match::on(Point::Call) };
    let refuse = Do::Refuse { status: 500, error: "InternalFailure".into(), message: "".into() };
    emulator.faults().add(Fault { matches, action: refuse }).expect("a fault");
    for (stun, expected) in [
        (Stun::Custom(vec!["stun:127.0.0.1:9".into()]), Ok(1)),
        (Stun::Auto, Err(FailureCode::Service)),
    ] {
        let mut port = viewer(reach(&emulator).stun(stun));
        assert!(connect(&mut port).await.is_ok());
        port.submit(ticket(2), SignalingCommand::FetchIceServers { link: LINK });
        let servers = match outcome(&mut port, ticket(2)).await {
            Ok(Done::IceServers(servers)) => Ok(servers.len()),
            Ok(other) => panic!("{other:?}"),
            Err(failure) => Err(failure.code),
        };
        assert_eq!(servers, expected);
    }
}

// Shows: 42.
#[tokio::test]
async fn refusals_have_their_own_codes() {
    let emulator = emulator().await;
    let unknown = SignalingConfig::builder("nowhere")
        .region(emulator.region())
        .endpoint_url(emulator.endpoint())
        .credentials(DEFAULT_ACCESS_KEY_ID, DEFAULT_SECRET_ACCESS_KEY, None);
    let failure = refused(unknown).await;
    assert_eq!(failure.code, FailureCode::NoChannel, "{failure}");
    assert_eq!(failure.api_name.as_deref(), Some("ResourceNotFoundException"));

    let wrong = reach(&emulator).credentials(DEFAULT_ACCESS_KEY_ID, "wrong-canary", None);
    let failure = refused(wrong).await;
    assert_eq!(failure.code, FailureCode::AccessDenied, "{failure}");
    assert!(!format!("{failure:?}").contains("canary"));

    let full = Do::Refuse {
        status: 400,
        error: "ClientLimitExceededException".into(),
        message: "too many viewers".into(),
    };
    emulator
        .faults()
        .add(Fault { matches: Match::on(Point::Upgrade), action: full })
        .expect("a fault");
    let failure = refused(reach(&emulator)).await;
    assert_eq!(failure.code, FailureCode::ViewerLimit, "{failure}");

    let endpoint = emulator.endpoint().to_owned();
    let config = reach(&emulator);
    emulator.shutdown().await;
    let failure = refused(config.endpoint_url(endpoint)).await;
    assert_eq!(failure.code, FailureCode::Network, "{failure}");
}

// Shows: 37.
#[tokio::test]
async fn wrong_clock_is_corrected_for_calls_and_socket() {
    for offset in [-1_200, 1_200] {
        let config = EmulatorConfig { clock_offset_secs: offset, ..Default::default() };
        let emulator = start(config).await;
        let mut port = viewer(reach(&emulator));
        assert!(connect(&mut port).await.is_ok(), "{offset}");
        // Now only the socket is refused: the ARN and the endpoints are cached.
        disconnect(&mut port).await;
        emulator.set_clock_offset_secs(-offset);
        port.submit(
            ticket(5),
            SignalingCommand::Connect { link: ConnectionId(2), attempt: 2, client_id: None },
        );
        assert!(outcome(&mut port, ticket(5)).await.is_ok(), "{offset}");
    }
}

// Shows: 38.
#[tokio::test]
async fn session_token_with_special_characters_works() {
    let token = "a+b/c=d%2Be==";
    let credential = Credential::new("AKIDTEMPORARY", "secret/+=", Some(token.to_owned()));
    let config = EmulatorConfig { credentials: vec![credential], ..Default::default() };
    let emulator = start(config).await;
    let config =
        || reach(&emulator).credentials("AKIDTEMPORARY", "secret/+=", Some(token.to_owned()));
    let master = master(config()).await;
    let mut port = viewer(config());
    assert!(connect(&mut port).await.is_ok());
    disconnect(&mut port).await;
    master.close().await;
    let failure =
        refused(reach(&emulator).credentials("AKIDTEMPORARY", "secret/+=", Some("x".into()))).await;
    assert_eq!(failure.code, FailureCode::AccessDenied, "{failure}");
}

#[tokio::test]
async fn tls_is_verified_with_the_extra_authority() {
    let config = EmulatorConfig { tls: Some(Default::default()), ..Default::default() };
    let emulator = start(config).await;
    assert!(emulator.endpoint().starts_with("https://"));
    let failure = refused(reach(&emulator)).await;
    assert_eq!(failure.code, FailureCode::Tls, "{failure}");

    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, emulator.ca_pem().expect("a CA")).expect("written");
    let mut port = viewer(reach(&emulator).ca_file(&ca));
    let connected = connect(&mut port).await;
    assert!(connected.is_ok(), "{connected:?}");
    disconnect(&mut port).await;
}

// Shows: 36.
#[tokio::test]
async fn status_names_the_command_it_is_about() {
    let emulator = emulator().await;
    let status = Do::Status { error: "ClientLimitExceededException".into(), status: 400 };
    let matches = Match::first(MessageType::SdpOffer, 1);
    emulator.faults().add(Fault { matches, action: status }).expect("a fault");
    let mut port = viewer(reach(&emulator));
    assert!(connect(&mut port).await.is_ok());
    port.submit(ticket(7), offer());
    assert_eq!(outcome(&mut port, ticket(7)).await, Ok(Done::Ok));
    let SignalingEvent::Status { ticket: about, failure } = event(&mut port).await else {
        panic!("a status");
    };
    assert_eq!((about, failure.code), (Some(ticket(7)), FailureCode::Throttled));
}

// Shows: 29.
#[tokio::test]
async fn connection_cut_by_the_service_is_reported_and_refuses_messages() {
    let emulator = emulator().await;
    let mut port = viewer(reach(&emulator));
    assert!(connect(&mut port).await.is_ok());
    assert_eq!(emulator.disconnect("door", None, None, Some(1001)), 1);
    let SignalingEvent::Disconnected(failure) = event(&mut port).await else {
        panic!("the end");
    };
    assert_eq!(failure.code, FailureCode::Closed);
    port.submit(ticket(2), offer());
    let failure = outcome(&mut port, ticket(2)).await.expect_err("it has ended");
    assert_eq!(failure.code, FailureCode::Closed, "what ended it");
    disconnect(&mut port).await;
    port.submit(ticket(3), offer());
    let failure = outcome(&mut port, ticket(3)).await.expect_err("not open");
    assert_eq!(failure.code, FailureCode::NotOpen);
    // A closed connection may be closed again.
    disconnect(&mut port).await;
}

#[tokio::test]
async fn id_with_an_offer_rests_and_the_next_connection_gets_another() {
    let emulator = emulator().await;
    let mut port = viewer(reach(&emulator));
    assert!(connect(&mut port).await.is_ok());
    port.submit(ticket(2), offer());
    assert_eq!(outcome(&mut port, ticket(2)).await, Ok(Done::Ok));
    disconnect(&mut port).await;
    let mut again = viewer(reach(&emulator));
    let Ok(Done::Connected(id)) = connect(&mut again).await else { panic!("connected") };
    assert_eq!(id.as_str(), "viewer-2");
}

#[tokio::test]
async fn commands_without_connection_are_refused() {
    let emulator = emulator().await;
    let mut port = viewer(reach(&emulator));
    port.submit(ticket(1), offer());
    assert_eq!(outcome(&mut port, ticket(1)).await.expect_err("no").code, FailureCode::NotOpen);
    port.submit(ticket(2), SignalingCommand::FetchIceServers { link: LINK });
    assert_eq!(outcome(&mut port, ticket(2)).await.expect_err("no").code, FailureCode::NotOpen);
    // Without events, `next` stays pending.
    assert!(port.next().now_or_never().is_none());
}
