//! Tests with invalid and hostile responses of the control plane.

use std::time::Duration;

use negotiation_core::{Done, Failure, FailureCode};

use crate::certificates::{Authority, GOOD, Says};
use crate::service::{Answer, ENDLESS, Script, Service, Viewer, endpoints, ok};
use crate::{LITTLE, costs};

/// Connects a viewer, and returns the result and the service, which counts the requests.
async fn connect(script: Script) -> (Result<Done, Failure>, Service) {
    let service = Service::start(script).await;
    let outcome = Viewer::new(service.reach()).connect().await;
    (outcome, service)
}

async fn refused(call: Answer) -> Failure {
    let (outcome, _) = connect(Script { call, ..Script::default() }).await;
    outcome.expect_err("it cannot connect")
}

#[test]
fn good_service_is_reached() {
    let (outcome, service) =
        costs(LITTLE, "a good service", async || connect(Script::default()).await);
    assert!(matches!(outcome, Ok(Done::Connected(_))), "{outcome:?}");
    assert!(service.requests() >= 2);
}

#[test]
fn endless_response_body_ends_as_service_failure() {
    let length = format!("content-length: {ENDLESS}");
    for framing in [length.as_str(), "transfer-encoding: chunked"] {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
        let again = format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096)).into_bytes();
        let call = Answer::Repeated { head: head.into_bytes(), again, bytes: ENDLESS };
        let failure = costs(LITTLE, "a body without end", async || refused(call).await);
        assert_eq!(failure.code, FailureCode::Service, "{failure}");
    }
}

#[test]
fn endless_response_head_ends_call() {
    let again = format!("x-more: {}\r\n", "y".repeat(200)).into_bytes();
    let call = Answer::Repeated { head: b"HTTP/1.1 200 OK\r\n".to_vec(), again, bytes: ENDLESS };
    let failure = costs(LITTLE, "a head without end", async || refused(call).await);
    assert!(matches!(failure.code, FailureCode::Service | FailureCode::Network), "{failure}");
}

#[test]
fn slow_response_body_times_out() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n";
    let call = Answer::Dripping { head: head.to_vec(), every: Duration::from_millis(100) };
    let failure = costs(LITTLE, "a body that drips", async || refused(call).await);
    assert_eq!(failure.code, FailureCode::TimedOut, "{failure}");
}

#[test]
fn deep_json_and_gigantic_numbers_are_refused() {
    let deep = "[".repeat(200_000);
    let objects = r#"{"a":"#.repeat(40_000);
    let digits = "9".repeat(100_000);
    for body in [
        deep.clone(),
        format!(r#"{{"ResourceEndpointList":{deep}"#),
        format!(r#"{{"Unknown":{deep}"#),
        format!(r#"{{"Unknown":{objects}"#),
        format!(r#"{{"Unknown":{digits},"ResourceEndpointList":1e999999}}"#),
        format!(r#"{{"ResourceEndpointList":[{{"Protocol":{digits}}}]}}"#),
        format!(r#"{{"ResourceEndpointList":[{}]}}"#, vec!["{}"; 60_000].join(",")),
    ] {
        let call = Answer::Bytes(ok(&body));
        let failure = costs(LITTLE, "awkward JSON", async || refused(call).await);
        assert_eq!(failure.code, FailureCode::Service, "{failure}: {body:.60}");
        assert!(failure.detail.len() < 1000, "{failure}");
    }
}

#[test]
fn error_with_deep_json_and_a_long_text_is_short() {
    let text = "\\u001b[31m".repeat(10_000);
    for body in [format!(r#"{{"message":"{text}"}}"#), format!(r#"{{"x":{}"#, "[".repeat(100_000))]
    {
        let length = body.len();
        let call = Answer::Bytes(
            format!(
                "HTTP/1.1 400 Bad Request\r\nx-amzn-errortype: {}\r\ncontent-length: {length}\r\n\
                 \r\n{body}",
                "E".repeat(5000)
            )
            .into_bytes(),
        );
        let failure = costs(LITTLE, "a long error", async || refused(call).await);
        let reported = format!("{failure} {failure:?}");
        assert!(reported.len() < 3000 && !reported.contains('\u{1b}'), "{reported}");
    }
}

/// Following a redirection would sign a request for an unknown host.
#[test]
fn redirect_is_not_followed() {
    let (outcome, elsewhere) = costs(LITTLE, "a redirection", async || {
        let elsewhere = Service::start(Script::default()).await;
        let found = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}/getSignalingChannelEndpoint\r\n\
             content-length: 0\r\n\r\n",
            elsewhere.url
        )
        .into_bytes();
        let call = Script { call: Answer::Bytes(found.clone()), ..Script::default() };
        let upgrade = Script { accepts: false, upgrade: Answer::Bytes(found), ..Script::default() };
        let outcomes = [connect(call).await.0, connect(upgrade).await.0];
        (outcomes, elsewhere)
    });
    for outcome in outcome {
        assert_eq!(outcome.expect_err("no way").code, FailureCode::Service);
    }
    assert_eq!(elsewhere.requests(), 0, "a redirection is followed");
}

/// A signed URL gives access to the channel to anyone who can read the connection.
#[test]
fn remote_endpoints_without_tls_are_refused() {
    // This is TEST-NET-1: it has no host, and the viewer must send nothing to it.
    let (there, near) = ("192.0.2.1", "wss://localhost");
    for (https, wss) in [
        (format!("http://{there}"), near.to_owned()),
        (format!("https://{there}"), format!("ws://{there}")),
        (format!("https://{there}"), format!("ws://127.0.0.1@{there}")),
        (format!("https://{there}"), format!("wss://{there}/?X-Amz-Signature=theirs")),
        (format!("https://{there}"), format!("file:///etc/passwd#{there}")),
        (format!("https://{there}"), "x".repeat(100_000)),
    ] {
        let call = Answer::Bytes(ok(&endpoints(&https, &wss)));
        let failure = costs(LITTLE, "an endpoint in the clear", async || refused(call).await);
        assert_eq!(failure.code, FailureCode::Service, "{https} {wss:.60}: {failure}");
    }
}

/// A remote service must not make this machine send plaintext to its own ports.
#[test]
fn remote_service_cannot_name_local_plain_endpoint() {
    for door_of in ["socket", "calls"] {
        let (failure, door) = costs(LITTLE, "a plain door of this machine", async || {
            let door = Service::start(Script::default()).await;
            // This address reaches this machine, but is not a loopback address.
            let authority = Authority::new("security test");
            let acceptor = authority.acceptor(&Says { host: "0.0.0.0", ..GOOD });
            let (https, wss) = match door_of {
                "socket" => ("https://0.0.0.0:9".to_owned(), door.url.replacen("http", "ws", 1)),
                _ => (door.url.clone(), "wss://0.0.0.0:9".to_owned()),
            };
            let call = Answer::Bytes(ok(&endpoints(&https, &wss)));
            let script = Script { call, ..Script::default() };
            let service = Service::start_tls(script, acceptor).await;
            let there = service.url.replacen("localhost", "0.0.0.0", 1);
            let failure = authority.connect_at(&service, &there).await.expect_err("refused");
            assert!(service.requests() > 0, "{failure}");
            (failure, door)
        });
        assert_eq!(failure.code, FailureCode::Service, "{door_of}: {failure}");
        assert_eq!(door.requests(), 0, "{door_of}");
    }
}
