//! A minimal client: aws-sigv4 signs, hyper and tungstenite are the transport.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use kvs_emulator::{Credential, Emulator, EmulatorConfig};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

pub(crate) const KEY: &str = "AKIATESTTESTTESTTEST";
pub(crate) const SECRET: &str = "test/secret+key=of%20mine";
pub(crate) const TOKEN: &str = "to+ken/with=every%sign&and space==";

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Starts an emulator with a channel `demo` and a temporary credential; `change` adjusts settings.
pub(crate) async fn start(change: impl FnOnce(&mut EmulatorConfig)) -> Emulator {
    let mut config = EmulatorConfig {
        credentials: vec![Credential::new(KEY, SECRET, Some(TOKEN.to_owned()))],
        channels: vec!["demo".to_owned()],
        ..EmulatorConfig::default()
    };
    change(&mut config);
    Emulator::start(config).await.unwrap()
}

#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    pub(crate) region: &'static str,
    pub(crate) service: &'static str,
    pub(crate) skew_secs: i64,
    pub(crate) expires: Duration,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            key: KEY.to_owned(),
            secret: SECRET.to_owned(),
            token: Some(TOKEN.to_owned()),
            region: "us-west-2",
            service: "kinesisvideo",
            skew_secs: 0,
            expires: Duration::from_secs(299),
        }
    }
}

impl Signer {
    fn sign(&self, request: &mut http::Request<Vec<u8>>, in_query: bool) {
        let credentials =
            Credentials::new(&self.key, &self.secret, self.token.clone(), None, "test").into();
        let mut settings = SigningSettings::default();
        if in_query {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(self.expires);
        }
        let skew = Duration::from_secs(self.skew_secs.unsigned_abs());
        let time = match self.skew_secs {
            ..0 => SystemTime::now() - skew,
            0.. => SystemTime::now() + skew,
        };
        let params = v4::SigningParams::builder()
            .identity(&credentials)
            .region(self.region)
            .name(self.service)
            .time(time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let headers: Vec<(String, String)> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(request.body()),
        )
        .unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.apply_to_request_http1x(request);
    }

    pub(crate) fn socket_url(&self, emulator: &Emulator, arn: &str, id: Option<&str>) -> String {
        let encode = |text: &str| {
            text.bytes()
                .map(|b| match b {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                        char::from(b).to_string()
                    }
                    b => format!("%{b:02X}"),
                })
                .collect::<String>()
        };
        let client = id.map(|id| format!("&X-Amz-ClientId={}", encode(id))).unwrap_or_default();
        let base = emulator.endpoint().replace("http", "ws");
        let uri = format!("{base}/?X-Amz-ChannelARN={}{client}", encode(arn));
        let mut request = http::Request::get(uri).body(Vec::new()).unwrap();
        self.sign(&mut request, true);
        request.uri().to_string()
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Returns status, error name and text, and checks that the error response is complete.
    pub(crate) fn error(&self) -> (u16, &str, &str) {
        assert!(self.headers.contains_key("date"), "{self:?}");
        assert!(self.headers.contains_key("x-amzn-requestid"), "{self:?}");
        let text = self.body["Message"].as_str().or(self.body["message"].as_str());
        (self.status, self.header("x-amzn-errortype"), text.unwrap_or_default())
    }
}

pub(crate) async fn call(emulator: &Emulator, path: &str, body: Value) -> Answer {
    call_as(&Signer::default(), emulator, path, body).await
}

pub(crate) async fn call_as(
    signer: &Signer,
    emulator: &Emulator,
    path: &str,
    body: Value,
) -> Answer {
    send(emulator, signed(signer, emulator, path, body)).await.unwrap()
}

pub(crate) fn signed(
    signer: &Signer,
    emulator: &Emulator,
    path: &str,
    body: Value,
) -> http::Request<Vec<u8>> {
    let mut request = http::Request::post(format!("{}{path}", emulator.endpoint()))
        .header("host", emulator.addr().to_string())
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    signer.sign(&mut request, false);
    request
}

pub(crate) async fn plain(emulator: &Emulator, method: &str, path: &str, body: &str) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", emulator.endpoint()))
        .header("host", emulator.addr().to_string())
        .body(body.as_bytes().to_vec())
        .unwrap();
    send(emulator, request).await.unwrap()
}

pub(crate) async fn send(
    emulator: &Emulator,
    request: http::Request<Vec<u8>>,
) -> Result<Answer, hyper::Error> {
    let stream = TcpStream::connect(emulator.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = request.uri().path_and_query().unwrap().to_string();
    let (mut parts, body) = request.into_parts();
    parts.uri = path.parse().unwrap();
    let request = http::Request::from_parts(parts, Full::new(bytes::Bytes::from(body)));
    let response = within(sender.send_request(request)).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

pub(crate) async fn open(emulator: &Emulator, id: Option<&str>) -> Socket {
    let arn = emulator.channel_arn("demo").unwrap();
    connect(emulator, &Signer::default(), &arn, id).await.unwrap()
}

/// Opens a socket, or returns the response that refused it.
pub(crate) async fn connect(
    emulator: &Emulator,
    signer: &Signer,
    arn: &str,
    id: Option<&str>,
) -> Result<Socket, Answer> {
    connect_url(emulator, &signer.socket_url(emulator, arn, id)).await
}

pub(crate) async fn connect_url(emulator: &Emulator, url: &str) -> Result<Socket, Answer> {
    let stream = TcpStream::connect(emulator.addr()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = url.into_client_request().unwrap();
    match within(tokio_tungstenite::client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response
                .body()
                .as_deref()
                .and_then(|body| serde_json::from_slice(body).ok())
                .unwrap_or_default(),
        }),
        Err(other) => panic!("{other}"),
    }
}

pub(crate) async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

pub(crate) fn offer(payload: &str) -> Value {
    json!({ "action": "SDP_OFFER", "messagePayload": payload, "correlationId": "o-1" })
}

pub(crate) fn answer(to: &str, payload: &str) -> Value {
    json!({ "action": "SDP_ANSWER", "recipientClientId": to, "messagePayload": payload })
}

pub(crate) fn candidate(payload: &str) -> Value {
    json!({ "action": "ICE_CANDIDATE", "messagePayload": payload })
}

pub(crate) fn candidate_to(to: &str, payload: &str) -> Value {
    json!({ "action": "ICE_CANDIDATE", "recipientClientId": to, "messagePayload": payload })
}

/// The next frame that is not a ping or pong.
pub(crate) async fn hear_message(socket: &mut Socket) -> Message {
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(message)) => return message,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn hear(socket: &mut Socket) -> Value {
    match hear_message(socket).await {
        Message::Text(text) => serde_json::from_str(text.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Returns the payloads that reached this socket so far. The emulator answers a socket's messages
/// in order, so the response to an invalid message marks the end.
pub(crate) async fn received(socket: &mut Socket) -> Vec<String> {
    say(socket, json!({ "action": "FENCE", "correlationId": "fence" })).await;
    let mut payloads = Vec::new();
    loop {
        let message = hear(socket).await;
        if message["statusResponse"]["correlationId"] == "fence" {
            return payloads;
        }
        payloads.push(message["messagePayload"].as_str().unwrap_or("?").to_owned());
    }
}

/// Waits until the socket is over, and returns its close code if a close frame came.
pub(crate) async fn ended(socket: &mut Socket) -> Option<u16> {
    let mut code = None;
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Close(frame))) => code = frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return code,
        }
    }
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("took too long")
}

/// Polls until the condition is true.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
