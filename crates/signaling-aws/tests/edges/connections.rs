//! The HTTP connections of calls: how many there are, and the effect of a service that closes one
//! that is in use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use kvs_emulator::{EmulatorConfig, TurnConfig};
use negotiation_core::FailureCode;
use signaling_aws::{Proxy, SignalingConfig, SignalingConfigBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::connect_proxy::{ConnectProxy, Manner};
use crate::support::{Port, calls, emulator, reach};

/// The reaction of the service to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Answers it.
    Answer,
    /// Refuses its signature, with the date of a clock that is far off.
    Refuse,
    /// Closes the connection without an answer.
    Close,
}

/// A service that follows a script, one entry for each request; after its end it answers.
struct Service {
    port: u16,
    /// The number of requests on each connection.
    requests: Arc<Mutex<Vec<usize>>>,
}

impl Service {
    async fn start(script: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::<Mutex<Vec<usize>>>::default();
        let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut seen = seen.lock().expect("whole");
                    seen.push(0);
                    seen.len() - 1
                };
                tokio::spawn(serve(stream, index, seen.clone(), script.clone()));
            }
        });
        Self { port, requests }
    }

    fn reach(&self, host: &str) -> SignalingConfigBuilder {
        let arn = "arn:aws:kinesisvideo:us-west-2:123456789012:channel/cut/1";
        SignalingConfig::builder(arn)
            .endpoint_url(format!("http://{host}:{}", self.port))
            .credentials("AKID", "secret", None)
            .client_id("viewer")
    }

    fn requests(&self) -> Vec<usize> {
        self.requests.lock().expect("whole").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    index: usize,
    seen: Arc<Mutex<Vec<usize>>>,
    script: Arc<Mutex<VecDeque<Does>>>,
) {
    while let Some(head) = read_request(&mut stream).await {
        seen.lock().expect("whole")[index] += 1;
        let header = |name: &str| {
            let line = head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            });
            line.unwrap_or_default()
        };
        if header("upgrade").eq_ignore_ascii_case("websocket") {
            let accept = derive_accept_key(header("sec-websocket-key").as_bytes());
            let accepted = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            );
            stream.write_all(accepted.as_bytes()).await.expect("sent");
            return std::future::pending().await;
        }
        let does = script.lock().expect("whole").pop_front().unwrap_or(Does::Answer);
        let answer = match does {
            Does::Close => return,
            Does::Refuse => {
                let late = DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + 1_000);
                let date = late.fmt(Format::HttpDate).expect("a date");
                let error = "x-amzn-errortype: InvalidSignatureException";
                response("403 Forbidden", &format!("date: {date}\r\n{error}\r\n"), "{}")
            }
            Does::Answer => {
                let host = header("host");
                let named = format!(
                    r#"{{"ResourceEndpointList":[{{"Protocol":"HTTPS","ResourceEndpoint":"http://{host}"}},{{"Protocol":"WSS","ResourceEndpoint":"ws://{host}"}}]}}"#
                );
                response("200 OK", "", &named)
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if does == Does::Refuse {
            // Some gateways do this: they close the connection at its next request.
            let _ = read_request(&mut stream).await;
            return;
        }
    }
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

// Shows: N16.
#[tokio::test]
async fn request_that_is_signed_again_goes_out_on_a_new_connection() {
    let service = Service::start(&[Does::Refuse]).await;
    Port::new(service.reach("127.0.0.1")).connect(1, None).await;
    let requests = service.requests();
    assert_eq!(requests[0], 1, "the connection of the refusal is not used again: {requests:?}");
}

#[tokio::test]
async fn call_cut_before_response_is_sent_again_once() {
    let service = Service::start(&[Does::Close]).await;
    Port::new(service.reach("localhost")).connect(1, None).await;
    let service = Service::start(&[Does::Close, Does::Close]).await;
    let failure = Port::new(service.reach("localhost")).open(1).await.expect_err("no more");
    assert_eq!(failure.code, FailureCode::Network, "{failure}");
}

/// 0.0.0.0 reaches this machine but is no loopback address.
#[tokio::test]
async fn plain_http_beyond_loopback_works_with_opt_in() {
    let service = Service::start(&[]).await;
    let refused = service.reach("0.0.0.0").build().expect_err("not asked for");
    assert!(refused.to_string().contains("allow_plain_http"), "{refused}");
    assert_eq!(service.requests(), Vec::<usize>::new());
    Port::new(service.reach("0.0.0.0").allow_plain_http(true)).connect(1, None).await;
    assert!(service.requests().len() >= 2, "{:?}", service.requests());
}

/// The control plane's calls, the ICE servers and the socket each use one connection.
#[tokio::test]
async fn first_session_by_name_makes_three_tls_connections() {
    let turn =
        TurnConfig { servers: vec![vec!["turn:127.0.0.1:9".into()]], ..TurnConfig::default() };
    let config = EmulatorConfig { tls: Some(Default::default()), turn, ..Default::default() };
    let emulator = emulator(config).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, emulator.ca_pem().expect("a CA")).expect("written");
    let proxy = ConnectProxy::start("127.0.0.1:0", Manner::Connect, &[]);
    let url = format!("http://{}", proxy.authority());
    let via = Proxy::Via { url, no_proxy: String::new() };
    let mut port = Port::new(reach(&emulator, "counted").ca_file(&ca).proxy(via));
    port.connect(1, None).await;
    port.ice_servers(1).await;
    while calls(&emulator, "DescribeMediaStorageConfiguration") == 0 {
        tokio::task::yield_now().await;
    }
    println!("TLS connections of a first session by name: {}", proxy.targets().len());
    assert_eq!(proxy.targets().len(), 3, "{:?}", proxy.targets());
    emulator.shutdown().await;
}
