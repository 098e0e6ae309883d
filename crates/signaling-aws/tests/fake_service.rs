//! Behaviour that the emulator lacks: a service that refuses a socket, sends garbage or is silent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{SharedCredentialsProvider, future};
use aws_smithy_types::date_time::Format;
use futures_util::{SinkExt as _, StreamExt as _};
use negotiation_core::{
    Candidate, Completion, ConnectionId, Done, Failure, FailureCode, SignalingCommand,
    SignalingEvent, Ticket,
};
use signaling_aws::{
    AwsSignaling, Limits, MasterConnection, MasterEvent, SignalingConfig, SignalingConfigBuilder,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use viewer_session::{SignalingInput, SignalingPort as _};

const LINK: ConnectionId = ConnectionId(1);

/// A channel in storage mode; the service reports the mode only after the test sets `late`.
const LATE: &str = "LATE";

/// The reaction of the service to one upgrade request.
enum Upgrade {
    /// Refused, with a date that differs from this machine's clock by `clock` seconds.
    Refuse { status: u16, error: &'static str, text: &'static str, clock: i64 },
    /// Refused in pieces, with a pause before each but the first; then left open, or closed.
    InPieces { pieces: Vec<String>, closes: bool },
    /// Accepted; the service sends these messages and answers pings.
    Accept(Vec<Message>),
    /// Accepted, and then the service neither reads nor sends.
    Deaf,
    /// Never answered.
    Hang,
}

struct Service {
    url: String,
    arn: String,
    upgrades: Arc<Mutex<Vec<String>>>,
    /// Releases the response of [`LATE`].
    late: Arc<SetOnce<()>>,
    goodbyes: Arc<AtomicUsize>,
    /// Number of open sockets that the client has closed.
    gone: Arc<AtomicUsize>,
}

impl Service {
    async fn start(name: &str, script: Vec<Upgrade>, storage: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let upgrades = Arc::<Mutex<Vec<String>>>::default();
        let (seen, script) = (upgrades.clone(), Arc::new(Mutex::new(VecDeque::from(script))));
        let (goodbyes, gone) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = [goodbyes.clone(), gone.clone()];
        let late = Arc::<SetOnce<()>>::default();
        let held = late.clone();
        let authority = url.trim_start_matches("http://").to_owned();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script, counts) = (seen.clone(), script.clone(), counts.clone());
                let (authority, held) = (authority.clone(), held.clone());
                tokio::spawn(serve(stream, authority, seen, script, storage, held, counts));
            }
        });
        let arn = format!("arn:aws:kinesisvideo:us-west-2:123456789012:channel/{name}/1");
        Self { url, arn, upgrades, late, goodbyes, gone }
    }

    fn reach(&self) -> SignalingConfigBuilder {
        SignalingConfig::builder(&self.arn)
            .endpoint_url(&self.url)
            .credentials("AKID", "secret", None)
            .client_id("viewer")
    }

    fn upgrades(&self) -> Vec<String> {
        self.upgrades.lock().expect("whole").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    authority: String,
    seen: Arc<Mutex<Vec<String>>>,
    script: Arc<Mutex<VecDeque<Upgrade>>>,
    storage: &'static str,
    late: Arc<SetOnce<()>>,
    counts: [Arc<AtomicUsize>; 2],
) {
    while let Some((head, _body)) = read_request(&mut stream).await {
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            let body = if head.contains("/describeMediaStorageConfiguration") {
                let storage = if storage == LATE {
                    late.wait().await;
                    "ENABLED"
                } else {
                    storage
                };
                format!(r#"{{"MediaStorageConfiguration":{{"Status":"{storage}"}}}}"#)
            } else {
                format!(
                    r#"{{"ResourceEndpointList":[{{"Protocol":"HTTPS","ResourceEndpoint":"http://{authority}"}},{{"Protocol":"wss","ResourceEndpoint":"ws://{authority}"}}]}}"#
                )
            };
            let response = response("200 OK", "", &body);
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        seen.lock().expect("whole").push(head.clone());
        let next = script.lock().expect("whole").pop_front();
        let next = next.expect("the script is long enough");
        return play(stream, &head, next, &counts).await;
    }
}

async fn play(
    mut stream: TcpStream,
    head: &str,
    upgrade: Upgrade,
    [goodbyes, gone]: &[Arc<AtomicUsize>; 2],
) {
    let frames = match upgrade {
        Upgrade::Refuse { status, error, text, clock } => {
            let now = aws_smithy_types::DateTime::from(SystemTime::now());
            let date = aws_smithy_types::DateTime::from_secs(now.secs() + clock)
                .fmt(Format::HttpDate)
                .expect("a date");
            let headers = format!("date: {date}\r\nx-amzn-errortype: {error}\r\n");
            let body = format!(r#"{{"message":"{text}"}}"#);
            let response = response(&format!("{status} No"), &headers, &body);
            stream.write_all(response.as_bytes()).await.expect("sent");
            return;
        }
        Upgrade::InPieces { pieces, closes } => {
            for (n, piece) in pieces.iter().enumerate() {
                if n > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // The client may have closed the connection after reading enough.
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    return;
                }
            }
            if !closes {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            return;
        }
        Upgrade::Hang => {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            return;
        }
        Upgrade::Deaf => None,
        Upgrade::Accept(frames) => Some(frames),
    };
    let key = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key:"))
        .and_then(|line| line.split_once(':'))
        .map(|(_, key)| derive_accept_key(key.trim().as_bytes()))
        .expect("a key");
    let accept = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {key}\r\n\r\n"
    );
    let Some(frames) = frames else {
        stream.write_all(accept.as_bytes()).await.expect("sent");
        return std::future::pending().await;
    };
    // The first messages may arrive in one packet with the response.
    let ping = if frames.is_empty() { &[][..] } else { &[0x89, 0][..] };
    stream.write_all(&[accept.as_bytes(), ping].concat()).await.expect("sent");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    for frame in frames {
        socket.send(frame).await.expect("sent");
    }
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            goodbyes.fetch_add(1, Ordering::SeqCst);
        }
    }
    let mut stream = socket.into_inner();
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    gone.fetch_add(1, Ordering::SeqCst);
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-type: application/json\r\ncontent-length: {}\r\n\r\n\
         {body}",
        body.len()
    )
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

fn port(config: SignalingConfigBuilder) -> AwsSignaling {
    AwsSignaling::new(config.build().expect("valid"))
}

async fn next(port: &mut AwsSignaling) -> SignalingInput {
    timeout(Duration::from_secs(20), port.next()).await.expect("the port has something to say")
}

async fn completed(port: &mut AwsSignaling) -> Result<Done, Failure> {
    loop {
        if let SignalingInput::Completed(Completion { outcome, .. }) = next(port).await {
            return outcome;
        }
    }
}

async fn connect(port: &mut AwsSignaling) -> Result<Done, Failure> {
    let ticket = Ticket { attempt: 1, seq: 1 };
    port.submit(ticket, SignalingCommand::Connect { link: LINK, attempt: 1, client_id: None });
    completed(port).await
}

async fn event(port: &mut AwsSignaling) -> SignalingEvent {
    loop {
        if let SignalingInput::Event(LINK, event) = next(port).await {
            return event;
        }
    }
}

const FORBIDDEN: Upgrade =
    Upgrade::Refuse { status: 403, error: "AccessDeniedException", text: "no", clock: 0 };

fn signed_at(head: &str) -> i64 {
    let at = head.find("X-Amz-Date=").expect("signed") + "X-Amz-Date=".len();
    let d = &head[at..at + 16];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &d[..4],
        &d[4..6],
        &d[6..8],
        &d[9..11],
        &d[11..13],
        &d[13..15]
    );
    aws_smithy_types::DateTime::from_str(&text, Format::DateTime).expect("a date").secs()
}

// Shows: N16, 37.
#[tokio::test]
async fn signature_refusal_with_skewed_date_is_retried_once() {
    let late = || Upgrade::Refuse {
        status: 403,
        error: "InvalidSignatureException",
        text: "Signature expired",
        clock: 1_000,
    };
    let script = vec![late(), Upgrade::Accept(Vec::new()), Upgrade::Accept(Vec::new())];
    let service = Service::start("skew", script, "DISABLED").await;
    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    let second = SignalingCommand::Connect { link: ConnectionId(2), attempt: 2, client_id: None };
    viewer.submit(Ticket { attempt: 2, seq: 2 }, second);
    assert!(completed(&mut viewer).await.is_ok());
    let dates: Vec<i64> = service.upgrades().iter().map(|head| signed_at(head)).collect();
    assert_eq!(dates.len(), 3);
    assert!((995..1_010).contains(&(dates[1] - dates[0])), "{dates:?}");
    assert!((995..1_020).contains(&(dates[2] - dates[0])), "{dates:?}");
}

#[tokio::test]
async fn signature_refusal_without_skew_is_final() {
    let service = Service::start("final", vec![FORBIDDEN], "DISABLED").await;
    let failure = connect(&mut port(service.reach())).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::AccessDenied);
    assert_eq!(failure.api_name.as_deref(), Some("AccessDeniedException"));
    assert_eq!(service.upgrades().len(), 1);
}

#[derive(Debug, Default)]
struct Temporary {
    requested: AtomicUsize,
}

impl aws_credential_types::provider::ProvideCredentials for Temporary {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let token = format!("token{}", self.requested.fetch_add(1, Ordering::SeqCst) + 1);
        let credentials = Credentials::new("AKID", "secret", Some(token), None, "test");
        future::ProvideCredentials::ready(Ok(credentials))
    }
}

// Shows: N16, 39.
#[tokio::test]
async fn temporary_credentials_are_requested_again_once() {
    let expired = || Upgrade::Refuse {
        status: 403,
        error: "ExpiredTokenException",
        text: "The security token included in the request is expired",
        clock: 0,
    };
    let script = vec![expired(), Upgrade::Accept(Vec::new()), expired(), expired()];
    let service = Service::start("token", script, "DISABLED").await;
    let reach = || {
        let provider = SharedCredentialsProvider::new(Temporary::default());
        service.reach().credentials_provider(provider)
    };
    assert!(connect(&mut port(reach())).await.is_ok());
    let failure = connect(&mut port(reach())).await.expect_err("refused");
    assert_eq!(failure.code, FailureCode::ExpiredCredentials);
    let heads = service.upgrades();
    assert_eq!(heads.len(), 4);
    for (head, token) in heads.iter().zip(["token1", "token2", "token1", "token2"]) {
        assert!(head.contains(&format!("X-Amz-Security-Token={token}&")), "{token}");
    }
}

#[tokio::test]
async fn upgrade_statuses_map_to_failure_codes() {
    let refuse = |status, error, text| Upgrade::Refuse { status, error, text, clock: 0 };
    let script = vec![
        refuse(404, "ResourceNotFoundException", ""),
        refuse(400, "ClientLimitExceededException", "Rate exceeded"),
        refuse(400, "InvalidArgumentException", "ClientId is invalid"),
        refuse(500, "InternalFailure", ""),
    ];
    let service = Service::start("statuses", script, "DISABLED").await;
    for code in [
        FailureCode::NoChannel,
        FailureCode::Throttled,
        FailureCode::InvalidClientId,
        FailureCode::Service,
    ] {
        let failure = connect(&mut port(service.reach())).await.expect_err("refused");
        assert_eq!(failure.code, code, "{failure}");
    }
}

/// The head and the body of a refusal arrive apart, in each framing of HTTP.
// Shows: N16, 46.
#[tokio::test]
async fn refused_upgrade_is_read_to_the_end_of_its_body() {
    let bodies = [
        (r#"{"__type":"ClientLimitExceededException","message":"#, r#""too many viewers"}"#),
        (r#"{"__type":"InvalidArgumentException","#, r#""Message":"bad ARN"}"#),
    ];
    let codes = [FailureCode::ViewerLimit, FailureCode::InvalidArgument];
    for ((first, second), code) in bodies.into_iter().zip(codes) {
        let head = |framing: &str| format!("HTTP/1.1 400 Bad Request\r\n{framing}\r\n");
        let length = format!("content-length: {}\r\n", first.len() + second.len());
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let chunked = "transfer-encoding: chunked\r\n";
        let kinds = [
            (vec![head(&length), first.to_owned(), second.to_owned()], false),
            (vec![head(chunked), chunk(first), chunk(second), "0\r\n\r\n".to_owned()], false),
            (vec![head(""), first.to_owned(), second.to_owned()], true),
        ];
        for (pieces, closes) in kinds {
            let script = vec![Upgrade::InPieces { pieces: pieces.clone(), closes }];
            let service = Service::start("pieces", script, "DISABLED").await;
            let failure = connect(&mut port(service.reach())).await.expect_err("refused");
            assert_eq!(failure.code, code, "{pieces:?}: {failure}");
            assert!(failure.api_name.is_some(), "{pieces:?}: {failure}");
        }
    }
}

#[tokio::test]
async fn upgrade_refusal_with_endless_body_is_reported() {
    let head = "HTTP/1.1 403 Forbidden\r\nx-amzn-errortype: AccessDeniedException\r\n";
    let stuck = vec![format!("{head}content-length: 100\r\n\r\n"), "{".to_owned()];
    let endless = vec![format!("{head}\r\n"), "x".repeat(4_000_000)];
    for pieces in [stuck, endless] {
        let script = vec![Upgrade::InPieces { pieces, closes: false }];
        let service = Service::start("endless", script, "DISABLED").await;
        let start = Instant::now();
        let failure = connect(&mut port(service.reach())).await.expect_err("refused");
        assert_eq!(failure.code, FailureCode::AccessDenied, "{failure}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn upgrade_is_verified() {
    let answer = |accept: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
    };
    for wrong in [answer("AAAA"), "SSH-2.0-x\r\n".to_owned(), String::new()] {
        let script = vec![Upgrade::InPieces { pieces: vec![wrong.clone()], closes: true }];
        let service = Service::start("wrong", script, "DISABLED").await;
        let failure = connect(&mut port(service.reach())).await.expect_err(&wrong);
        assert_eq!(failure.code, FailureCode::Service, "{wrong:?}: {failure}");
    }
}

// Shows: 34.
#[tokio::test]
async fn garbage_is_reported_and_leaves_the_connection_open() {
    let frames = vec![
        Message::text(""),
        Message::binary(vec![1, 2, 3]),
        Message::text(r#"{"messageType":"SDP_ANS"#),
        Message::text("x".repeat(100_000)),
        Message::text(r#"{"message": "Endpoint request timed out"}"#),
        Message::text(r#"{"messageType":"GO_AWAY"}"#),
    ];
    let count = frames.len();
    let script = vec![Upgrade::Accept(frames)];
    let service = Service::start("garbage", script, "DISABLED").await;
    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    for _ in 1..count {
        assert_eq!(event(&mut viewer).await, SignalingEvent::Garbage);
    }
    assert_eq!(event(&mut viewer).await, SignalingEvent::GoAway);
}

/// The last messages and the end of a connection are reported while the next one opens.
// Shows: N4, N25.
#[tokio::test]
async fn ended_connection_is_drained_while_next_opens() {
    let answer = r#"{"messageType":"SDP_ANSWER","messagePayload":"e30="}"#;
    let burst = vec![
        Message::text(r#"{"messageType":"GO_AWAY"}"#),
        Message::text(answer),
        Message::Close(None),
    ];
    let script = vec![Upgrade::Accept(burst), Upgrade::Accept(Vec::new())];
    let service = Service::start("burst", script, "DISABLED").await;
    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    let gone = async {
        while service.gone.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("the first link is over");
    let second = SignalingCommand::Connect { link: ConnectionId(2), attempt: 1, client_id: None };
    viewer.submit(Ticket { attempt: 1, seq: 2 }, second);
    assert_eq!(event(&mut viewer).await, SignalingEvent::GoAway);
    assert!(matches!(event(&mut viewer).await, SignalingEvent::Answer { body: Err(_), .. }));
    assert!(matches!(event(&mut viewer).await, SignalingEvent::Disconnected(_)));
}

// Shows: 33.
#[tokio::test]
async fn silent_connection_times_out_and_closes_in_time() {
    let script = vec![Upgrade::Deaf, Upgrade::Deaf];
    let service = Service::start("deaf", script, "DISABLED").await;
    let limits = Limits {
        ping: Duration::from_millis(50),
        silence: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut viewer = port(service.reach().limits(limits));
    assert!(connect(&mut viewer).await.is_ok());
    let SignalingEvent::Disconnected(failure) = event(&mut viewer).await else {
        panic!("the end");
    };
    assert_eq!(failure.code, FailureCode::TimedOut);

    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    let start = Instant::now();
    let ticket = Ticket { attempt: 1, seq: 2 };
    viewer.submit(ticket, SignalingCommand::Disconnect { link: LINK });
    assert_eq!(completed(&mut viewer).await, Ok(Done::Ok));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

/// A service that gets no reply to its close frame treats the connection as broken (1006).
#[tokio::test]
async fn close_frame_of_the_service_is_answered() {
    let script = vec![Upgrade::Accept(vec![Message::Close(None)])];
    let service = Service::start("close", script, "DISABLED").await;
    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    let SignalingEvent::Disconnected(failure) = event(&mut viewer).await else {
        panic!("the end");
    };
    assert_eq!(failure.code, FailureCode::Closed);
    let answered = async {
        while service.goodbyes.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), answered).await.expect("an answer");
}

// Shows: 53.
#[tokio::test]
async fn socket_that_does_not_open_times_out() {
    let service = Service::start("hang", vec![Upgrade::Hang], "DISABLED").await;
    let limits = Limits { connection_open: Duration::from_millis(200), ..Limits::default() };
    let failure = connect(&mut port(service.reach().limits(limits))).await.expect_err("late");
    assert_eq!(failure.code, FailureCode::TimedOut);
}

// Shows: N17.
#[tokio::test]
async fn storage_channel_is_reported_before_or_after_open() {
    let service = Service::start("storage", vec![Upgrade::Hang], "ENABLED").await;
    let failure = connect(&mut port(service.reach())).await.expect_err("storage");
    assert_eq!(failure.code, FailureCode::StorageMode);

    let service = Service::start("late", vec![Upgrade::Accept(Vec::new())], LATE).await;
    let mut viewer = port(service.reach());
    assert!(connect(&mut viewer).await.is_ok());
    service.late.set(()).expect("once");
    let SignalingEvent::Disconnected(failure) = event(&mut viewer).await else {
        panic!("the end");
    };
    assert_eq!(failure.code, FailureCode::StorageMode);
    // A message to that connection fails for the same reason.
    let end = Candidate { text: "".into(), mid: None, mline_index: None, ufrag: None };
    let message = negotiation_core::Message::Candidate(end);
    viewer.submit(Ticket { attempt: 1, seq: 9 }, SignalingCommand::Send { link: LINK, message });
    assert_eq!(completed(&mut viewer).await.expect_err("over").code, FailureCode::StorageMode);
}

#[tokio::test]
async fn master_receives_messages_by_viewer_id() {
    let candidate = r#"{"messageType":"ICE_CANDIDATE","senderClientId":"v1","messagePayload":"eyJjYW5kaWRhdGUiOiJ4In0="}"#;
    let frames = vec![
        // An answer without a sender has no use; an offer without one is the storage service's.
        Message::text(r#"{"messageType":"SDP_ANSWER","messagePayload":"e30="}"#),
        Message::text(r#"{"messageType":"SDP_OFFER","messagePayload":"e30="}"#),
        Message::text(candidate),
        Message::Close(None),
    ];
    let service = Service::start("master", vec![Upgrade::Accept(frames)], "ENABLED").await;
    let config = service.reach().build().expect("valid");
    let mut master = MasterConnection::connect(config).await.expect("connected");
    let MasterEvent::Offer { from, body: Err(_) } = master.recv().await else {
        panic!("an offer");
    };
    assert_eq!(from, "");
    let MasterEvent::Candidate { from, body: Ok(_) } = master.recv().await else {
        panic!("a candidate");
    };
    assert_eq!(from, "v1");
    assert!(matches!(master.recv().await, MasterEvent::Disconnected(_)));
    let failure = master.sender().send_answer("v1", "v=0").await.expect_err("closed");
    assert_eq!(failure.code, FailureCode::NotOpen);
    assert!(!service.upgrades()[0].contains("X-Amz-ClientId"));
    master.close().await;
}

#[tokio::test]
async fn master_may_send_while_messages_wait() {
    let candidate = r#"{"messageType":"ICE_CANDIDATE","senderClientId":"v1","messagePayload":"eyJjYW5kaWRhdGUiOiJ4In0="}"#;
    let frames = vec![Message::text(candidate); 600];
    let service = Service::start("flood", vec![Upgrade::Accept(frames)], "DISABLED").await;
    let config = service.reach().build().expect("valid");
    let mut master = MasterConnection::connect(config).await.expect("connected");
    let answers = master.sender();
    // The quota admits five answers at once; the 600 frames exceed the event queue.
    for _ in 0..5 {
        let sent = timeout(Duration::from_secs(5), answers.send_answer("v1", "v=0"));
        assert_eq!(sent.await, Ok(Ok(())));
        for _ in 0..120 {
            assert!(matches!(master.recv().await, MasterEvent::Candidate { .. }));
        }
    }
    master.close().await;
}
